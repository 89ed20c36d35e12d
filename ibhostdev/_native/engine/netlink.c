// SPDX-License-Identifier: Apache-2.0
/* rtnetlink requests about the VFs behind a network device. Knows messages,
 * not what they are good for. */
#include "rtnetlink.h"

/* An IFLA_VFINFO_LIST ends at 64 KiB, and little else is said of a device. */
#define ANSWER_SIZE (72 * 1024)
/* A part of a dump is as big as the largest device that is there, at least
 * (netlink_dump in net/netlink/af_netlink.c). */
#define DUMP_SIZE (256 * 1024)
#define MOST_SIZE (4 * 1024 * 1024)
#define TRIES 3
/* What comes of one request and is not what was asked for. */
#define MOST_DATAGRAMS 65536

/* What goes out in one send: the kernel answers each message at once, and
 * the answers must fit into the receive queue of an ordinary socket. */
#define WINDOW_MESSAGES 64
#define WINDOW_BYTES (96 * 1024)
#define ACK_SIZE 64 /* its header, an errno and the request's header */
#define PENDING 1

/* ---- RTM_GETLINK ------------------------------------------------------- */

/* A network device that is asked about, and the answer. */
struct device {
	int ifindex;
	bool found;
	int err; /* of what was found */
	struct vf_info *infos;
	size_t count;
};

struct question {
	struct ibh_host *host;
	bool dump;
	uint32_t seq;
	size_t size; /* of the buffer */
	size_t need; /* more than that; 0: it was enough */
	bool ended, interrupted;
	struct device *devices;
	size_t count;
};

static struct device *find(struct device *devices, size_t count, int ifindex)
{
	size_t i;

	for (i = 0; i < count; i++)
		if (devices[i].ifindex == ifindex)
			return &devices[i];
	return NULL;
}

static void empty(struct device *devices, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++) {
		free(devices[i].infos);
		devices[i] = (struct device){ .ifindex = devices[i].ifindex };
	}
}

static int take_vfs(struct device *device, struct attr vfs)
{
	ssize_t count = count_vfs(vfs);
	int err;

	if (count < 0)
		return (int)count;
	device->infos = malloc((size_t)(count ? count : 1) *
			       sizeof(*device->infos));
	if (!device->infos)
		return -ENOMEM;
	err = parse_vfs(vfs, device->infos);
	if (!err)
		device->count = (size_t)count;
	return err;
}

/* A dump brings every device of the namespace: only those that were asked
 * about are kept. */
static int take_link(struct question *question, const struct message *message)
{
	struct device *device;
	struct link link;
	int err = parse_link(message, &link);

	if (!link.ifindex)
		return -EBADMSG;
	device = find(question->devices, question->count, link.ifindex);
	if (!device)
		return 0;
	empty(device, 1);
	device->found = true;
	device->err = err ? err : take_vfs(device, link.vfs);
	/* One that makes no sense must not stop the others. */
	return question->dump ? 0 : device->err;
}

static int take_answer(struct question *question, const unsigned char *p,
		       size_t left)
{
	struct message message;
	int more, err;

	while ((more = next_message(&p, &left, &message)) > 0) {
		if (message.seq != question->seq)
			continue;
		if (message.flags & NLM_F_DUMP_INTR)
			question->interrupted = true;
		if (message.type == NLMSG_ERROR ||
		    message.type == NLMSG_DONE) {
			question->ended = true;
			return message_error(&message);
		}
		if (message.type != RTM_NEWLINK)
			continue;
		if (!(message.flags & NLM_F_MULTI))
			question->ended = true;
		err = take_link(question, &message);
		if (err)
			return err;
	}
	return more;
}

/* Whole, whatever else came or went. */
static bool all_found(const struct question *question)
{
	size_t i;

	for (i = 0; i < question->count; i++)
		if (!question->devices[i].found)
			return false;
	return true;
}

static int receive_answer(struct question *question, int socket,
			  unsigned char *buf)
{
	const struct io *io = question->host->io;
	unsigned int datagrams = 0;
	int err = 0;
	ssize_t n;

	while (!err && !question->ended) {
		n = io->receive(question->host->context, socket, buf,
				question->size, &question->need);
		if (n < 0)
			return (int)n;
		if (n && ++datagrams > MOST_DATAGRAMS)
			return -EBADMSG;
		err = take_answer(question, buf, (size_t)n);
	}
	if (err || all_found(question))
		return err;
	return question->interrupted ? -EAGAIN : -ENODEV;
}

static int ask_once(struct question *question)
{
	struct ibh_host *host = question->host;
	unsigned char request[LINK_REQUEST];
	unsigned char *buf;
	int socket, err;
	size_t len;

	question->seq = atomic_fetch_add(&host->seq, 1) + 1;
	question->need = 0;
	question->ended = question->interrupted = false;
	empty(question->devices, question->count);
	buf = malloc(question->size);
	if (!buf)
		return -ENOMEM;
	socket = host_socket(host);
	if (socket < 0) {
		free(buf);
		return socket;
	}
	len = build_getlink(request, question->seq,
			    question->devices[0].ifindex, question->dump);
	err = host->io->send(host->context, socket, request, len);
	if (!err)
		err = receive_answer(question, socket, buf);
	host_socket_back(host, socket, question->ended);
	free(buf);
	return err;
}

/* Each device has an answer then: what is known of it, or `err`. */
static void ask(struct ibh_host *host, bool dump, struct device *devices,
		size_t count)
{
	struct question question = {
		.host = host,
		.dump = dump,
		.size = dump ? DUMP_SIZE : ANSWER_SIZE,
		.devices = devices,
		.count = count,
	};
	unsigned int try;
	int err = 0;
	size_t i;

	for (try = 0; try < TRIES; try++) {
		err = ask_once(&question);
		if (question.need > question.size) {
			/* Not the kernel's EMSGSIZE, which means something
			 * else. */
			err = -EBADMSG;
			if (question.need > MOST_SIZE)
				break;
			question.size = question.need;
		} else if (err != -ENOBUFS && err != -EAGAIN) {
			break;
		}
		/* Answers were lost, or links changed during the dump: the
		 * question is still good. */
	}
	/* That another device is not there says nothing of those that are. */
	if (err && err != -ENODEV && err != -EAGAIN)
		empty(devices, count);
	for (i = 0; i < count; i++)
		if (!devices[i].found)
			devices[i].err = err;
}

/* ---- a dump for several ------------------------------------------------ */

struct dump {
	pthread_mutex_t mutex;
	bool asked;
	size_t count;
	struct device devices[];
};

int dump_new(size_t most, struct dump **dump)
{
	struct dump *made = calloc(1, sizeof(*made) +
					      most * sizeof(*made->devices));

	if (!made)
		return -ENOMEM;
	pthread_mutex_init(&made->mutex, NULL);
	*dump = made;
	return 0;
}

void dump_free(struct dump *dump)
{
	if (!dump)
		return;
	empty(dump->devices, dump->count);
	pthread_mutex_destroy(&dump->mutex);
	free(dump);
}

void dump_add(struct dump *dump, int ifindex)
{
	dump->devices[dump->count++].ifindex = ifindex;
}

void dump_again(struct dump *dump)
{
	dump->asked = false;
}

/* A copy, for each asks for its own. */
static void ask_dump(struct ibh_host *host, struct dump *dump,
		     struct device *one)
{
	const struct device *found;

	pthread_mutex_lock(&dump->mutex);
	found = find(dump->devices, dump->count, one->ifindex);
	if (!dump->asked)
		ask(host, true, dump->devices, dump->count);
	dump->asked = true;
	one->found = found->found;
	one->err = found->err;
	one->count = found->count;
	one->infos = NULL;
	if (!one->err)
		one->infos = malloc((one->count + 1) * sizeof(*one->infos));
	if (!one->err && !one->infos)
		one->err = -ENOMEM;
	else if (!one->err)
		memcpy(one->infos, found->infos,
		       one->count * sizeof(*one->infos));
	pthread_mutex_unlock(&dump->mutex);
}

/*
 * Linux 5.5 to 6.14 underestimate the size of the answer and refuse with
 * EMSGSIZE, and a warning in their log; a dump of all devices is the way
 * round.
 */
int netlink_ask(struct ibh_host *host, int ifindex, struct dump *dump,
		struct vf_info **infos, size_t *count)
{
	struct device device = { .ifindex = ifindex };
	bool dumped, shown = false;
	struct habit habit;
	size_t i;

	host_habit(host, ifindex, &habit);
	dumped = habit.dumped;
	if (!dumped)
		ask(host, false, &device, 1);
	if (!dumped && device.err == -EMSGSIZE)
		dumped = true;
	if (dumped && dump && find(dump->devices, dump->count, ifindex))
		ask_dump(host, dump, &device);
	else if (dumped)
		ask(host, true, &device, 1);
	if (device.err) {
		free(device.infos);
		return device.err;
	}
	for (i = 0; i < device.count && !shown; i++)
		shown = device.infos[i].have & IBH_HAVE_PORT;
	if (dumped != habit.dumped || (shown && !habit.shown)) {
		habit.dumped = dumped;
		habit.shown |= shown;
		host_learn(host, &habit);
	}
	*infos = device.infos;
	*count = device.count;
	return 0;
}

/* ---- RTM_SETLINK ------------------------------------------------------- */

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
