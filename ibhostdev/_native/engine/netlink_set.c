// SPDX-License-Identifier: Apache-2.0
/* RTM_SETLINK: changes the VFs behind a network device. Knows messages, not
 * what they are good for. */
#include "rtnetlink.h"

/* What goes out in one send: the kernel answers each message at once, and
 * the answers must fit into the receive queue of an ordinary socket. */
#define WINDOW_MESSAGES 64
#define WINDOW_BYTES (96 * 1024)
#define ACK_SIZE 64 /* its header, an errno and the request's header */
#define PENDING 1

struct window {
	uint32_t seq; /* of the first message */
	size_t count; /* of messages */
	size_t size, used;
	unsigned char *buf;
	int *answers;
	size_t pending;
};

static size_t start_of(const size_t *ends, size_t i)
{
	return i ? ends[i - 1] : 0;
}

/* How many messages go into one, beginning with message `first`. */
static void measure(struct window *window, const size_t *ends, size_t first,
		    size_t count)
{
	size_t i, size;

	window->count = window->size = 0;
	for (i = first; i < count && window->count < WINDOW_MESSAGES; i++) {
		size = ends[i] - start_of(ends, i);
		if (size > SET_MAX)
			size = 0; /* is not built */
		size = NLMSG_ALIGN(SET_HEAD + size * SET_SIZE);
		if (window->size + size > WINDOW_BYTES)
			break;
		window->size += size;
		window->count++;
	}
}

/* What no message can hold is answered here. */
static void fill(struct window *window, int ifindex,
		 const struct vf_set *sets, const size_t *ends, size_t first)
{
	size_t i, start;
	ssize_t len;

	window->used = window->pending = 0;
	for (i = 0; i < window->count; i++) {
		start = start_of(ends, first + i);
		len = build_setlink(window->buf + window->used,
				    window->size - window->used,
				    window->seq + (uint32_t)i, ifindex,
				    sets + start, ends[first + i] - start);
		window->answers[i] = len < 0 ? (int)len : PENDING;
		if (len < 0)
			continue;
		window->used += (size_t)len; /* a multiple of 4 */
		window->pending++;
	}
}

static void take_ack(struct window *window, const unsigned char *p,
		     size_t left)
{
	struct message message;
	uint32_t at;

	if (next_message(&p, &left, &message) <= 0)
		return;
	at = message.seq - window->seq;
	if (message.type != NLMSG_ERROR || at >= window->count ||
	    window->answers[at] != PENDING)
		return;
	window->answers[at] = message_error(&message);
	window->pending--;
}

static int receive_acks(struct ibh_host *host, int socket,
			struct window *window)
{
	unsigned char acks[WINDOW_MESSAGES][ACK_SIZE];
	size_t lengths[WINDOW_MESSAGES], datagrams = 0, len;
	int n, i;

	while (window->pending) {
		n = host->io->receive_many(host->context, socket, acks,
					   ACK_SIZE,
					   (unsigned int)window->pending,
					   lengths);
		if (n < 0)
			return n;
		for (i = 0; i < n; i++) {
			len = lengths[i];
			if (len && ++datagrams > MOST_DATAGRAMS)
				return -EBADMSG;
			take_ack(window, acks[i],
				 len < ACK_SIZE ? len : ACK_SIZE);
		}
	}
	return 0;
}

static int send_window(struct ibh_host *host, int socket,
		       struct window *window)
{
	size_t i;
	int err = 0;

	if (window->pending)
		err = host->io->send(host->context, socket, window->buf,
				     window->used);
	if (!err)
		err = receive_acks(host, socket, window);
	for (i = 0; i < window->count && err; i++)
		if (window->answers[i] == PENDING)
			window->answers[i] = err;
	return err;
}

static void answer_all(int *answers, size_t count, int answer)
{
	size_t i;

	for (i = 0; i < count; i++)
		answers[i] = answer;
}

void netlink_set(struct ibh_host *host, int ifindex,
		 const struct vf_set *sets, const size_t *ends, size_t count,
		 int *answers, bool (*stop)(void *context), void *context)
{
	struct window window;
	bool good = true;
	size_t at = 0;
	int socket;

	if (!count)
		return;
	socket = host_socket(host);
	if (socket < 0) {
		answer_all(answers, count, socket);
		return;
	}
	for (; at < count; at += window.count) {
		if (at && stop && stop(context)) {
			answer_all(answers + at, count - at, -ECANCELED);
			break;
		}
		measure(&window, ends, at, count);
		window.seq = atomic_fetch_add(&host->seq,
					      (unsigned int)window.count) + 1;
		window.answers = answers + at;
		window.buf = malloc(window.size);
		if (!window.buf) {
			answer_all(answers + at, count - at, -ENOMEM);
			break;
		}
		fill(&window, ifindex, sets, ends, at);
		if (send_window(host, socket, &window))
			good = false;
		free(window.buf);
	}
	host_socket_back(host, socket, good);
}
