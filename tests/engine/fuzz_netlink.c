// SPDX-License-Identifier: Apache-2.0
/*
 * Answers to RTM_GETLINK and RTM_SETLINK: whatever comes, in any number of
 * datagrams.
 */
#include "fuzz.h"

#include "../../ibhostdev/_native/engine/rtnetlink.h"

#define IFINDEX 3
#define SETS 12u

struct peer {
	struct input input;
	unsigned int open;
};

static int peer_open(void *context)
{
	struct peer *peer = context;

	peer->open++;
	return 5;
}

static void peer_close(void *context, int socket)
{
	struct peer *peer = context;

	(void)socket;
	peer->open--;
}

static int peer_send(void *context, int socket, const void *data, size_t len)
{
	(void)context;
	(void)socket;
	(void)data;
	(void)len;
	return 0;
}

static ssize_t next(struct peer *peer, void *data, size_t size)
{
	struct input part;

	if (!peer->input.left)
		return -ETIMEDOUT;
	/* One byte to say that something is wrong with it. */
	switch (take_byte(&peer->input)) {
	case 1:
		return 0; /* another sender's */
	case 2:
		return -ENOBUFS;
	case 3:
		return (ssize_t)size + 40; /* it does not fit */
	}
	part = take_bytes(&peer->input);
	if (part.left)
		memcpy(data, part.data, part.left < size ? part.left : size);
	return (ssize_t)part.left;
}

static ssize_t peer_receive(void *context, int socket, void *data, size_t size,
			    size_t *need)
{
	ssize_t n = next(context, data, size);

	(void)socket;
	if (n <= (ssize_t)size)
		return n;
	*need = (size_t)n;
	return -EMSGSIZE;
}

static int peer_receive_many(void *context, int socket, void *data,
			     size_t size, unsigned int count, size_t *lengths)
{
	unsigned int i;

	(void)socket;
	for (i = 0; i < count; i++) {
		ssize_t n = next(context, (char *)data + i * size, size);

		if (n < 0)
			return i ? (int)i : (int)n;
		lengths[i] = (size_t)n;
	}
	return (int)count;
}

static void peer_done(void *context)
{
	(void)context;
}

static const struct io io = {
	.at_once = 1,
	.open = peer_open,
	.close = peer_close,
	.send = peer_send,
	.receive = peer_receive,
	.receive_many = peer_receive_many,
	.done = peer_done,
};

static void ask(struct ibh_host *host)
{
	struct vf_info *infos = NULL;
	size_t count = 0, i;
	uint64_t sum = 0;

	if (netlink_ask(host, IFINDEX, NULL, &infos, &count))
		return;
	for (i = 0; i < count; i++) /* all of it is there */
		sum += infos[i].vf + infos[i].have + infos[i].node +
		       infos[i].port + infos[i].link_state +
		       infos[i].traffic.rx_packets +
		       infos[i].traffic.tx_dropped;
	must(sum || !count || infos, "no VFs where there are some");
	free(infos);
}

static void set(struct ibh_host *host, unsigned int messages)
{
	struct vf_set sets[SETS];
	size_t ends[SETS];
	int answers[SETS];
	unsigned int i;

	for (i = 0; i < messages; i++) {
		sets[i] = (struct vf_set){ i, VF_PORT_GUID, i };
		ends[i] = i + 1;
		answers[i] = 77;
	}
	netlink_set(host, IFINDEX, sets, ends, messages, answers, NULL, NULL);
	for (i = 0; i < messages; i++)
		must(answers[i] <= 0 && answers[i] > -4096,
		     "an answer is no errno");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct peer peer = { .input = { data, size } };
	struct ibh_host *host;
	unsigned int kind = take_byte(&peer.input);

	must(!host_new(&(struct ibh_options){ 0 }, &io, &peer, &host),
	     "no host");
	if (kind & 1)
		set(host, 1 + (kind >> 1) % SETS);
	else
		ask(host);
	ibh_host_close(host);
	must(!peer.open, "a socket is left open");
	return 0;
}
