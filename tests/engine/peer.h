/* SPDX-License-Identifier: Apache-2.0 */
/* A peer that answers rtnetlink requests as a test wants it: in place of the
 * system and its sockets, and of host.c. */
#ifndef IBHOSTDEV_TESTS_PEER_H
#define IBHOSTDEV_TESTS_PEER_H

#include "check.h"
#include "messages.h"

#define SOCKET 0 /* which is a descriptor, too */
#define MOST 512 /* datagrams that wait to be received */

static struct {
	/* answers a request: by reply() */
	void (*answer)(const struct message *request);
	unsigned int requests, dumps;
	size_t longest; /* send, in bytes */
	struct {
		unsigned char *at;
		size_t len;
		bool foreign;
	} queue[MOST];
	unsigned int first, last;
	int refuses; /* errno of send … */
	int has_no_socket; /* … and of opening one */
	int sockets, bad_sockets;
} peer;

static struct bytes bytes; /* an answer that is being made */

static inline void reply_as(bool foreign)
{
	CHECK(peer.last - peer.first < MOST);
	peer.queue[peer.last % MOST].at = malloc(bytes.len + 1);
	CHECK(peer.queue[peer.last % MOST].at);
	memcpy(peer.queue[peer.last % MOST].at, bytes.at, bytes.len);
	peer.queue[peer.last % MOST].len = bytes.len;
	peer.queue[peer.last++ % MOST].foreign = foreign;
	bytes.len = 0;
}

static inline void reply(void)
{
	reply_as(false);
}

static inline void acknowledge(uint32_t seq, int error)
{
	error_message(&bytes, seq, error);
	reply();
}

static inline int send_to_peer(void *context, int socket, const void *data,
			size_t len)
{
	const unsigned char *p = data;
	struct message request;
	size_t left = len;

	(void)context;
	EQUAL(socket, SOCKET);
	if (peer.refuses)
		return -peer.refuses;
	if (len > peer.longest)
		peer.longest = len;
	while (next_message(&p, &left, &request) > 0) {
		peer.requests++;
		peer.dumps += (request.flags & NLM_F_DUMP) == NLM_F_DUMP;
		peer.answer(&request);
	}
	EQUAL(left, 0);
	return 0;
}

/* One that fits is taken; a longer one is lost, as in the kernel. */
static inline ssize_t receive(void *context, int socket, void *data, size_t size,
		       size_t *need)
{
	ssize_t result;
	size_t len;

	(void)context;
	EQUAL(socket, SOCKET);
	if (peer.first == peer.last)
		return -ETIMEDOUT;
	len = peer.queue[peer.first % MOST].len;
	memcpy(data, peer.queue[peer.first % MOST].at,
	       len < size ? len : size);
	free(peer.queue[peer.first % MOST].at);
	result = (ssize_t)len;
	if (peer.queue[peer.first++ % MOST].foreign) {
		result = 0;
	} else if (len > size) {
		*need = len;
		result = -EMSGSIZE;
	}
	return result;
}

static inline int receive_many(void *context, int socket, void *data,
			       size_t size, unsigned int count,
			       size_t *lengths)
{
	unsigned int i;
	ssize_t n;

	for (i = 0; i < count; i++) {
		n = receive(context, socket, (char *)data + i * size, size,
			    &lengths[i]);
		if (n == -ETIMEDOUT)
			break;
		if (n >= 0)
			lengths[i] = (size_t)n;
	}
	return i ? (int)i : -ETIMEDOUT;
}

static inline int open_socket(void *context)
{
	(void)context;
	if (peer.has_no_socket)
		return -peer.has_no_socket;
	peer.sockets++;
	return SOCKET;
}

static inline void close_socket(void *context, int socket)
{
	(void)context;
	EQUAL(socket, SOCKET);
	peer.sockets--;
}

static const struct io io = {
	.open = open_socket,
	.close = close_socket,
	.send = send_to_peer,
	.receive = receive,
	.receive_many = receive_many,
};

static struct ibh_host host = { .io = &io };
static struct habit known;
static unsigned int learnt;

/* In place of host.c. */
void host_habit(struct ibh_host *of, int ifindex, struct habit *habit)
{
	(void)of;
	*habit = known;
	habit->ifindex = ifindex;
}

void host_learn(struct ibh_host *of, const struct habit *habit)
{
	(void)of;
	known = *habit;
	learnt++;
}

int host_socket(struct ibh_host *of)
{
	(void)of;
	if (peer.has_no_socket)
		return -peer.has_no_socket;
	peer.sockets++;
	return SOCKET;
}

void host_socket_back(struct ibh_host *of, int socket, bool good)
{
	(void)of;
	EQUAL(socket, SOCKET);
	peer.sockets--;
	peer.bad_sockets += !good;
}

static inline void set_up(void (*answer)(const struct message *request))
{
	memset(&peer, 0, sizeof(peer));
	memset(&known, 0, sizeof(known));
	learnt = 0;
	peer.answer = answer;
}

static inline void tear_down(void)
{
	size_t need;

	EQUAL(peer.sockets, 0);
	while (receive(NULL, SOCKET, bytes.at, sizeof(bytes.at), &need) !=
	       -ETIMEDOUT)
		;
}

#endif
