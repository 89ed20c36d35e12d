// SPDX-License-Identifier: Apache-2.0
/* A system that a process serves; the process is a child of this test. */
#include "error.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "check.h"
#include "messages.h"

static const struct io *io;
static void *context;
static pid_t server;
static struct bytes bytes;

/* ---- the process ------------------------------------------------------- */

static int open_peer(uint32_t *port)
{
	struct sockaddr_nl me = { .nl_family = AF_NETLINK };
	socklen_t len = sizeof(me);
	int peer = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC,
			  NETLINK_USERSOCK);

	CHECK(peer >= 0 && !bind(peer, (struct sockaddr *)&me, sizeof(me)));
	CHECK(!getsockname(peer, (struct sockaddr *)&me, &len));
	*port = me.nl_pid;
	return peer;
}

static struct sockaddr_nl asker;

/* What was made for who asked; nobody need be there to get it. */
static void reply(int peer)
{
	(void)!sendto(peer, bytes.at, bytes.len, 0,
		      (struct sockaddr *)&asker, sizeof(asker));
	bytes.len = 0;
}

static void receive(int peer, unsigned char *buf, size_t size,
		    struct message *request)
{
	socklen_t len = sizeof(asker);
	const unsigned char *p = buf;
	size_t left;
	ssize_t n = recvfrom(peer, buf, size, 0, (struct sockaddr *)&asker,
			     &len);

	CHECK(n > 0);
	left = (size_t)n;
	EQUAL(next_message(&p, &left, request), 1);
}

/* The path and the value of a write, as ibhostdev/simulate/ reads them. */
static void serve_write(int peer, const struct message *request)
{
	const unsigned char *p = request->data;
	size_t left = request->len;
	struct message noop;
	struct attr path, value;
	unsigned char buf[256];
	uint32_t port;
	int other;

	EQUAL(request->type, 0x7001);
	EQUAL(request->flags, NLM_F_REQUEST | NLM_F_ACK);
	EQUAL(next_attr(&p, &left, &path), 1);
	EQUAL(path.type, 1);
	EQUAL(next_attr(&p, &left, &value), 1);
	EQUAL(value.type, 2);
	EQUAL(left, 0);
	if (path.len == 3 && !memcmp(path.data, "die", 3))
		_exit(0);
	if (path.len == 4 && !memcmp(path.data, "slow", 4)) {
		/* asked whether it is there, it just goes on */
		receive(peer, buf, sizeof(buf), &noop);
		EQUAL(noop.type, NLMSG_NOOP);
		EQUAL(noop.flags, 0);
		EQUAL(noop.len, 0);
	}
	if (path.len == 7 && !memcmp(path.data, "foreign", 7)) {
		other = open_peer(&port);
		error_message(&bytes, request->seq, -EIO);
		reply(other);
		close(other);
	}
	if (path.len == 5 && !memcmp(path.data, "other", 5)) {
		message_end(&bytes, message(&bytes, RTM_NEWLINK, 0,
					    request->seq));
		reply(peer);
		return;
	}
	if (path.len == 7 && !memcmp(path.data, "garbage", 7)) {
		add(&bytes, "garbage", 7);
		reply(peer);
		return;
	}
	error_message(&bytes, request->seq,
		      value.len == 4 && !memcmp(value.data, "Down", 4) ?
			      0 :
			      -EINVAL);
	reply(peer);
}

static void serve_link(int peer, const struct message *request)
{
	const unsigned char *p = request->data + sizeof(struct ifinfomsg);
	size_t left = request->len - sizeof(struct ifinfomsg), start;
	struct ifinfomsg info;
	struct attr attr;

	EQUAL(request->type, RTM_GETLINK);
	memcpy(&info, request->data, sizeof(info));
	if (info.ifi_index == 99)
		_exit(0);
	EQUAL(next_attr(&p, &left, &attr), 1);
	EQUAL(attr.type, IFLA_IFNAME);
	if (attr.len != 4 || memcmp(attr.data, "ib0", 4)) {
		error_message(&bytes, request->seq, -ENODEV);
	} else {
		start = message(&bytes, RTM_NEWLINK, 0, request->seq);
		link_head(&bytes, 7, 0);
		attribute(&bytes, PARENT_DEV_NAME, "0000:3b:00.0", 13);
		message_end(&bytes, start);
	}
	reply(peer);
}

static void serve(int peer, void (*answer)(int, const struct message *))
{
	unsigned char buf[8192];
	struct message request;

	for (;;) {
		receive(peer, buf, sizeof(buf), &request);
		if (request.type != NLMSG_NOOP)
			answer(peer, &request);
	}
}

/* One socket for both is enough here. It was this process's, and so its number
 * is, when the other process is gone, what this one gets next. */
static void set_up(void (*answer)(int, const struct message *))
{
	struct ibh_options options = { .sysfs = "/", .run_dir = "/nowhere" };
	uint32_t port;
	int peer = open_peer(&port);

	server = fork();
	CHECK(server >= 0);
	if (!server)
		serve(peer, answer);
	close(peer);
	options.netlink_port = options.sysfs_port = port;
	CHECK(!simulated_open(&options, &io, &context));
}

static void tear_down(void)
{
	int status;

	kill(server, SIGKILL);
	EQUAL(waitpid(server, &status, 0), server);
	CHECK(WIFSIGNALED(status) || !status);
	io->done(context);
}

static int put(const char *path, const char *value)
{
	return io->write(context, path, value, strlen(value));
}

/* ---- writes ------------------------------------------------------------ */

TEST(nobody_else_plugs_on_it)
{
	set_up(serve_write);
	CHECK(!strstr(io->no_rights, "--privilege"));
	tear_down();
}

TEST(a_write_is_a_message)
{
	set_up(serve_write);
	EQUAL(put("bus/pci/devices/x/sriov/0/policy", "Down"), 0);
	EQUAL(put("bus/pci/devices/x/sriov/0/policy", "Sideways"), -EINVAL);
	tear_down();
}

TEST(what_is_no_answer_is_no_success)
{
	unsigned int before;

	set_up(serve_write);
	before = descriptors();
	EQUAL(put("other", "Down"), -EBADMSG);
	EQUAL(put("garbage", "Down"), -EBADMSG);
	EQUAL(put("path", "Down"), 0);
	EQUAL(descriptors(), before);
	tear_down();
}

TEST(a_value_of_a_page_goes_out_whole)
{
	char value[VALUE_SIZE + 1] = "", path[PATH_SIZE + 1] = "";

	set_up(serve_write);
	memset(value, 'x', VALUE_SIZE - 1);
	EQUAL(put("path", value), -EINVAL); /* the process's own */
	memset(path, 'x', PATH_SIZE - 1);
	EQUAL(put(path, "Down"), 0);
	path[PATH_SIZE - 1] = 'x';
	EQUAL(put(path, "Down"), -EINVAL);
	memset(value, 'x', VALUE_SIZE);
	kill(server, SIGKILL);
	EQUAL(put("path", value), -EINVAL);
	tear_down();
}

TEST(what_others_say_is_not_heard)
{
	set_up(serve_write);
	EQUAL(put("foreign", "Down"), 0);
	tear_down();
}

TEST(a_driver_may_take_long)
{
	set_up(serve_write);
	EQUAL(put("slow", "Down"), 0);
	tear_down();
}

TEST(nobody_is_waited_for_who_is_gone)
{
	set_up(serve_write);
	EQUAL(put("die", "Down"), -ECONNREFUSED);
	EQUAL(put("path", "Down"), -ECONNREFUSED);
	tear_down();
}

/* ---- rtnetlink --------------------------------------------------------- */

TEST(a_device_is_asked_for_by_its_name)
{
	char bus[32], name[IBH_NAME + 1];
	int ifindex = 0;

	set_up(serve_link);
	EQUAL(io->identify(context, "ib0", &ifindex, bus), 0);
	EQUAL(ifindex, 7);
	CHECK(!strcmp(bus, "0000:3b:00.0"));
	EQUAL(io->identify(context, "ib1", &ifindex, bus), -ENODEV);
	memset(name, 'x', IBH_NAME);
	name[IBH_NAME - 1] = '\0';
	EQUAL(io->identify(context, name, &ifindex, bus), -ENODEV);
	name[IBH_NAME - 1] = 'x';
	name[IBH_NAME] = '\0';
	EQUAL(io->identify(context, name, &ifindex, bus), -EINVAL);
	tear_down();
}

/* A question that is answered by a link. */
static int ask_by_name(void)
{
	unsigned char request[LINK_REQUEST], *p;
	int socket = io->open(context);

	CHECK(socket >= 0);
	p = put_link(put_header(request, RTM_GETLINK, NLM_F_REQUEST, 1), 0);
	p = put_attr(p, IFLA_IFNAME, "ib0", 4);
	EQUAL(io->send(context, socket, request, put_end(request, p)), 0);
	return socket;
}

TEST(an_answer_that_does_not_fit_says_how_long_it_is)
{
	unsigned char buf[256];
	size_t need = 0;
	ssize_t n;
	int socket;

	set_up(serve_link);
	socket = ask_by_name();
	n = io->receive(context, socket, buf, sizeof(buf), &need);
	CHECK(n > 0);
	io->close(context, socket);
	socket = ask_by_name();
	EQUAL(io->receive(context, socket, buf, (size_t)n, &need), n);
	EQUAL(need, 0);
	io->close(context, socket);
	socket = ask_by_name();
	EQUAL(io->receive(context, socket, buf, (size_t)n - 1, &need),
	      -EMSGSIZE);
	EQUAL(need, n);
	io->close(context, socket);
	tear_down();
}

TEST(many_answers_may_be_asked_for)
{
	static unsigned char buf[200][64];
	size_t lengths[200];
	int socket;

	set_up(serve_link);
	socket = ask_by_name();
	EQUAL(io->receive_many(context, socket, buf, 64, 200, lengths), 1);
	EQUAL(lengths[0], 64); /* cut */
	io->close(context, socket);
	tear_down();
}

static int ask_who_dies(void)
{
	unsigned char request[LINK_REQUEST];
	int socket = io->open(context);

	CHECK(socket >= 0);
	EQUAL(io->send(context, socket, request,
		       build_getlink(request, 1, 99, false, false)),
	      0);
	return socket;
}

TEST(who_dies_does_not_answer)
{
	unsigned char buf[64];
	size_t need;
	int socket;

	set_up(serve_link);
	socket = ask_who_dies();
	EQUAL(io->receive(context, socket, buf, sizeof(buf), &need),
	      -ECONNREFUSED);
	io->close(context, socket);
	tear_down();
}

TEST(nor_acknowledges)
{
	unsigned char buf[2][64];
	size_t lengths[2];
	int socket;

	set_up(serve_link);
	socket = ask_who_dies();
	EQUAL(io->receive_many(context, socket, buf, 64, 2, lengths),
	      -ECONNREFUSED);
	io->close(context, socket);
	tear_down();
}
