// SPDX-License-Identifier: Apache-2.0
/*
 * A system that a process serves (ibhostdev/simulate/): its sysfs is a folder
 * to be read, and what is written to it is a message to the process, which
 * knows how a driver would have ended the write(). rtnetlink goes to another
 * of its sockets.
 */
#include "system.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include "rtnetlink.h"

#define AT_ONCE 16
#define ANSWER_SECONDS 70

/* ibhostdev/simulate/netlink.py */
#define WRITE 0x7001
#define WRITE_PATH 1
#define WRITE_VALUE 2

/* Nobody tells when the other end is gone: find out. */
static int probe(int socket)
{
	unsigned char noop[NLMSG_HDRLEN];

	put_header(noop, NLMSG_NOOP, 0, 0);
	return socket_send(socket, noop, put_end(noop, noop + sizeof(noop)));
}

/* Whether to go on waiting for an answer that has not come in a second: 0,
 * or why not. `patience` counts down, if it is given. */
static int wait_on(int socket, unsigned int *patience)
{
	if (patience && !--*patience)
		return -ETIMEDOUT;
	return probe(socket);
}

static ssize_t receive(int socket, uint32_t peer, void *data, size_t size,
		       size_t *need, unsigned int *patience)
{
	ssize_t n;
	int err;

	for (;;) {
		n = socket_receive(socket, peer, data, size, need);
		if (n != -ETIMEDOUT)
			return n;
		err = wait_on(socket, patience);
		if (err)
			return err;
	}
}

/*
 * Port ids are given out like process ids, mostly the same: that of a process
 * which is gone may be the one that we get ourselves, and be answered by what
 * we asked.
 */
static int open_to(uint32_t peer)
{
	struct sockaddr_nl me = { 0 };
	socklen_t len = sizeof(me);
	int err = 0, socket = socket_open(NETLINK_USERSOCK, peer, 1);

	if (socket < 0)
		return socket;
	if (getsockname(socket, (struct sockaddr *)&me, &len))
		err = -errno;
	else if (me.nl_pid == peer)
		err = -ECONNREFUSED;
	if (!err)
		return socket;
	system_close(NULL, socket);
	return err;
}

static int simulated_socket(void *context)
{
	const struct system *system = context;

	return open_to(system->netlink_port);
}

static int simulated_send(void *context, int socket, const void *data,
			  size_t len)
{
	(void)context;
	return socket_send(socket, data, len);
}

static ssize_t simulated_receive(void *context, int socket, void *data,
				 size_t size, size_t *need)
{
	const struct system *system = context;
	unsigned int patience = ANSWER_SECONDS;

	return receive(socket, system->netlink_port, data, size, need,
		       &patience);
}

static int simulated_receive_many(void *context, int socket, void *data,
				  size_t size, unsigned int count,
				  size_t *lengths)
{
	const struct system *system = context;
	unsigned int patience = ANSWER_SECONDS;
	int n, err;

	for (;;) {
		n = socket_receive_many(socket, system->netlink_port, data,
					size, count, lengths);
		if (n != -ETIMEDOUT)
			return n;
		err = wait_on(socket, &patience);
		if (err)
			return err;
	}
}

/* One request and its answer, on a socket of their own. */
struct exchange {
	uint32_t peer;
	unsigned int *patience; /* in seconds; NULL: as long as it is there */
	unsigned char buf[4096]; /* of the answer */
	struct message answer; /* its first message */
};

/* An error that is the answer comes back as a negative errno. */
static int ask(struct exchange *exchange, const void *request, size_t len,
	       uint16_t type)
{
	/* cppcheck-suppress ctuuninitvar; it is to be filled */
	const unsigned char *p = exchange->buf;
	struct message *answer = &exchange->answer;
	int socket = open_to(exchange->peer), err;
	size_t left, need;
	ssize_t n = 0;

	if (socket < 0)
		return socket;
	err = socket_send(socket, request, len);
	while (!err && !n) {
		n = receive(socket, exchange->peer, exchange->buf,
			    sizeof(exchange->buf), &need, exchange->patience);
		if (n < 0)
			err = (int)n;
	}
	system_close(NULL, socket);
	if (err)
		return err;
	left = (size_t)n;
	if (next_message(&p, &left, answer) <= 0)
		return -EBADMSG;
	if (answer->type == NLMSG_ERROR)
		err = message_error(answer);
	return err || answer->type == type ? err : -EBADMSG;
}

/* However long a driver takes: so does write(). */
static int simulated_write(void *context, const char *path, const char *value,
			   size_t len)
{
	const struct system *system = context;
	struct exchange exchange;
	unsigned char request[PATH_SIZE + VALUE_SIZE + 64], *p;
	size_t path_len = strlen(path);

	if (path_len >= PATH_SIZE || len >= VALUE_SIZE)
		return -EINVAL;
	exchange.peer = system->sysfs_port;
	exchange.patience = NULL;
	p = put_header(request, WRITE, NLM_F_REQUEST | NLM_F_ACK, 1);
	p = put_attr(p, WRITE_PATH, path, path_len);
	p = put_attr(p, WRITE_VALUE, value, len);
	return ask(&exchange, request, put_end(request, p), NLMSG_ERROR);
}

/* What the ioctls would tell; the process is asked, for it may be in another
 * network namespace. */
static int simulated_identify(void *context, const char *netdev, int *ifindex,
			      char bus[32])
{
	const struct system *system = context;
	unsigned int patience = ANSWER_SECONDS;
	struct exchange exchange;
	unsigned char request[LINK_REQUEST + IBH_NAME], *p;
	size_t len = strlen(netdev) + 1;
	struct link link;
	int err;

	if (len > IBH_NAME)
		return -EINVAL;
	exchange.peer = system->netlink_port;
	exchange.patience = &patience;
	p = put_header(request, RTM_GETLINK, NLM_F_REQUEST, 1);
	p = put_link(p, 0);
	p = put_attr(p, IFLA_IFNAME, netdev, len);
	err = ask(&exchange, request, put_end(request, p), RTM_NEWLINK);
	if (!err)
		err = parse_link(&exchange.answer, &link);
	if (err)
		return err;
	*ifindex = link.ifindex;
	memcpy(bus, link.parent, sizeof(link.parent));
	return 0;
}

static const struct io simulated = {
	.no_rights = "run as who serves the simulated host",
	.at_once = AT_ONCE,
	.read = system_read,
	.enter = system_enter,
	.leave = system_close,
	.link = system_link,
	.list = system_list,
	.write = simulated_write,
	.identify = simulated_identify,
	.open = simulated_socket,
	.send = simulated_send,
	.receive = simulated_receive,
	.receive_many = simulated_receive_many,
	.close = system_close,
	.lock = system_lock,
	.unlock = system_unlock,
	.now = system_now,
	.sleep = system_sleep,
	.done = system_free,
};

struct ibh_error *simulated_open(const struct ibh_options *options,
				 const struct io **io, void **context)
{
	*io = &simulated;
	return system_new(options, context);
}
