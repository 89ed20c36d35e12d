// SPDX-License-Identifier: Apache-2.0
/* RTM_GETLINK: asks about the VFs behind a network device. Knows messages, not
 * what they are good for. */
#include "rtnetlink.h"

/* An IFLA_VFINFO_LIST ends at 64 KiB, and little else is said of a device. */
#define ANSWER_SIZE (72 * 1024)
/* A part of a dump is as big as the largest device that is there, at least
 * (netlink_dump in net/netlink/af_netlink.c). */
#define DUMP_SIZE (256 * 1024)
#define MOST_SIZE (4 * 1024 * 1024)
#define TRIES 3

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
	bool dump, traffic;
	uint32_t seq;
	size_t size; /* of the buffer */
	size_t need; /* more than that; 0: it was enough */
	bool ended, interrupted;
	struct link *by_name; /* one is asked for by name, and put here, */
	struct device *devices; /* or these are */
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
		/* All but the ifindex: a dump's are looked through by others
		 * meanwhile. */
		devices[i].found = false;
		devices[i].err = 0;
		devices[i].infos = NULL;
		devices[i].count = 0;
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
	if (question->by_name) {
		*question->by_name = link;
		return err;
	}
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
			    question->devices[0].ifindex, question->dump,
			    question->traffic);
	err = host->io->send(host->context, socket, request, len);
	if (!err)
		err = receive_answer(question, socket, buf);
	host_socket_back(host, socket, question->ended);
	free(buf);
	return err;
}

/* Each device has an answer then: what is known of it, or `err`. */
static void ask(struct ibh_host *host, bool dump, bool traffic,
		struct device *devices, size_t count)
{
	struct question question = {
		.host = host,
		.dump = dump,
		.traffic = traffic,
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
	/* Another device that is not there, or too long for a dump, which ends
	 * with it (netlink_dump), says nothing of those that were told of. */
	if (err && err != -ENODEV && err != -EAGAIN && err != -EMSGSIZE)
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
		ask(host, true, false, dump->devices, dump->count);
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
static int ask_one(struct ibh_host *host, int ifindex, struct dump *dump,
		   bool traffic, struct vf_info **infos, size_t *count)
{
	struct device device = { .ifindex = ifindex };
	bool dumped, shown = false;
	struct habit habit;
	size_t i;

	host_habit(host, ifindex, &habit);
	dumped = habit.dumped;
	if (!dumped)
		ask(host, false, traffic, &device, 1);
	if (!dumped && device.err == -EMSGSIZE)
		dumped = true;
	if (dumped && dump && find(dump->devices, dump->count, ifindex))
		ask_dump(host, dump, &device);
	else if (dumped)
		ask(host, true, traffic, &device, 1);
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

int netlink_ask(struct ibh_host *host, int ifindex, struct dump *dump,
		struct vf_info **infos, size_t *count)
{
	return ask_one(host, ifindex, dump, false, infos, count);
}

int netlink_traffic(struct ibh_host *host, int ifindex,
		    struct vf_info **infos, size_t *count)
{
	return ask_one(host, ifindex, NULL, true, infos, count);
}

/* On a socket of its own: those of the host are under its mutex. */
int netlink_named(struct ibh_host *host, const char *name, int *ifindex,
		  char netdev[IBH_NAME])
{
	struct link link = { 0 };
	struct question question = {
		.host = host, .by_name = &link, .size = ANSWER_SIZE,
	};
	unsigned char request[NAME_REQUEST], *buf;
	int socket, err;

	if (strlen(name) >= ALT_NAME)
		return -ENODEV;
	buf = malloc(question.size);
	if (!buf)
		return -ENOMEM;
	socket = host->io->open(host->context);
	if (socket < 0) {
		free(buf);
		return socket;
	}
	question.seq = atomic_fetch_add(&host->seq, 1) + 1;
	err = host->io->send(host->context, socket, request,
			     build_getname(request, question.seq, name));
	if (!err)
		err = receive_answer(&question, socket, buf);
	host->io->close(host->context, socket);
	free(buf);
	*ifindex = link.ifindex;
	strcpy(netdev, link.name);
	return err;
}
