// SPDX-License-Identifier: Apache-2.0
/*
 * A struct io on a machine in memory; see scripted.h.
 */
#include <stdio.h>
#include <stdlib.h>

#include <linux/netlink.h>

#include "scripted.h"

#define ENOUGH 200000u /* operations; who makes more does not end */
#define PATIENCE 70000u /* ms, of who receives */
#define AS_IT_IS (-4096) /* no errno */

/* ---- operations -------------------------------------------------------- */

static void go_and_come(struct scripted *system)
{
	const struct fault *fault;

	if ((fault = scripted_at(system, GOES, system->operations)))
		system->machine.pfs[fault->number].away = true;
	if ((fault = scripted_at(system, COMES, system->operations)))
		system->machine.pfs[fault->number].away = false;
}

/* How an operation begins: 0, or the errno that it ends with. */
static int enter(struct caller *caller, const char *what, const char *path)
{
	struct scripted *system = caller->system;
	const struct fault *fault;

	if (system->threads) {
		system->threads(true);
		pthread_mutex_lock(&system->mutex);
		return 0;
	}
	if (caller->dead)
		return -EIO;
	if (system->two) {
		if (caller->budget == 0) {
			caller->budget = -1;
			scripted_yield(caller);
		}
		if (caller->budget > 0)
			caller->budget--;
	}
	if (++system->operations > ENOUGH) {
		fprintf(stderr, "it does not end: %s %s\n", what, path);
		abort();
	}
	if (system->trace)
		fprintf(stderr, "%u %4u %s %s\n", caller->number,
			system->operations, what, path);
	go_and_come(system);
	fault = scripted_at(system, OPERATION, system->operations);
	if (!fault)
		return 0;
	system->misread |= !strcmp(what, "read");
	return -fault->number;
}

static void leave(struct caller *caller)
{
	if (caller->system->threads) {
		pthread_mutex_unlock(&caller->system->mutex);
		caller->system->threads(false);
	}
}

/* Of an operation that has an effect: 0, or the errno it ends with. */
static int lost(struct scripted *system)
{
	const struct fault *fault =
		scripted_at(system, LOST, ++system->effects);

	return fault ? -fault->number : 0;
}

/* What is given in the place of an answer; AS_IT_IS if it is not replaced. */
static ssize_t garbled(const struct scripted *system, void *to, size_t size)
{
	const struct fault *fault =
		scripted_at(system, GARBLED, system->operations);

	if (!fault)
		return AS_IT_IS;
	if (fault->len >= size)
		return -EMSGSIZE;
	memcpy(to, fault->bytes, fault->len);
	return (ssize_t)fault->len;
}

/* The VFs may be gone when somebody looks how many there are. */
static void look_at_number(struct scripted *system, const char *path)
{
	unsigned int pf, vf;

	system->readings += strstr(path, "/sriov_totalvfs") != NULL;
	if (!strstr(path, "/sriov_numvfs") ||
	    !scripted_at(system, VANISH, ++system->looks) ||
	    !machine_find(&system->machine, path + sizeof(DEVICES),
			  ADDRESS - 1, &pf, &vf))
		return;
	system->machine.pfs[pf].numvfs = 0;
	system->vanished = true;
}

static ssize_t io_read(void *context, const char *path, char *value,
		       size_t size)
{
	struct caller *caller = context;
	struct scripted *system = caller->system;
	ssize_t n = enter(caller, "read", path);

	if (!n) {
		look_at_number(system, path);
		n = garbled(system, value, size);
	}
	if (n == AS_IT_IS)
		n = files_read(&system->machine, path, value, size);
	if (n >= 0)
		value[n] = '\0';
	leave(caller);
	return n;
}

static int io_enter(void *context, const char *path)
{
	struct caller *caller = context;
	struct scripted *system = caller->system;
	int folder = enter(caller, "enter", path);

	if (!folder)
		folder = scripted_enter(system, path);
	leave(caller);
	return folder;
}

static void io_leave(void *context, int folder)
{
	struct caller *caller = context;
	struct scripted *system = caller->system;

	enter(caller, "leave", "");
	scripted_leave(system, folder);
	leave(caller);
}

static ssize_t io_link(void *context, int folder, const char *name,
		       char *target, size_t size)
{
	struct caller *caller = context;
	struct scripted *system = caller->system;
	char path[2 * PATH_SIZE];
	ssize_t n;

	snprintf(path, sizeof(path), "%s%s",
		 folder == ROOT ? "" : system->folders[folder], name);
	n = enter(caller, "link", path);
	if (!n)
		n = garbled(system, target, size);
	if (n == AS_IT_IS)
		n = files_link(&system->machine, path, target, size);
	if (n >= 0)
		target[n] = '\0';
	leave(caller);
	return n;
}

static int io_list(void *context, const char *path, take_name take,
		   void *taker)
{
	struct caller *caller = context;
	struct scripted *system = caller->system;
	int err = enter(caller, "list", path);
	char name[64];
	ssize_t n = AS_IT_IS;

	if (!err)
		n = garbled(system, name, sizeof(name));
	if (n >= 0) {
		name[n] = '\0';
		err = take(name, taker);
	}
	if (!err)
		err = files_list(&system->machine, path, take, taker);
	leave(caller);
	return err;
}

static int io_write(void *context, const char *path, const char *value,
		    size_t len)
{
	struct caller *caller = context;
	struct scripted *system = caller->system;
	int err = enter(caller, "write", path);
	struct command what;

	if (!err) {
		err = files_write(&system->machine, path, value, len, &what);
		if (err == -EPROTO || (err && err != -ENOENT &&
				       err != -ENODEV && !system->hostile))
			scripted_wrong(system, "writes %.*s to %s", (int)len,
				       value, path);
		if (!err)
			err = scripted_command(caller, &what);
		/* A driver's own files say what they did. */
		if (!err && what.kind != BIND && what.kind != UNBIND)
			err = lost(system);
	}
	leave(caller);
	return err;
}

static int io_identify(void *context, const char *netdev, int *ifindex,
		       char bus[32])
{
	struct caller *caller = context;
	struct scripted *system = caller->system;
	int err = enter(caller, "identify", netdev);
	unsigned int pf, port;

	if (!err) {
		*ifindex = 3 + atoi(netdev + 2);
		err = strncmp(netdev, "ib", 2) ||
				      !machine_netdev(&system->machine,
						      *ifindex, &pf, &port) ?
			      -ENODEV :
			      0;
	}
	if (!err)
		memcpy(bus, machine_address(pf, VFS), ADDRESS);
	leave(caller);
	return err;
}

/* ---- netlink ----------------------------------------------------------- */

static int io_open(void *context)
{
	struct caller *caller = context;
	struct scripted *system = caller->system;
	int fd = enter(caller, "open", "");

	while (fd >= 0 && fd < (int)SOCKETS && system->open[fd])
		fd++;
	if (fd == (int)SOCKETS)
		fd = -EMFILE;
	if (fd >= 0) {
		system->open[fd] = true;
		system->queues[fd].first = system->queues[fd].count = 0;
	}
	leave(caller);
	return fd;
}

static int io_send(void *context, int socket, const void *data, size_t len)
{
	struct caller *caller = context;
	struct scripted *system = caller->system;
	int err = enter(caller, "send", "");

	if (!err && (socket < 0 || socket >= (int)SOCKETS ||
		     !system->open[socket]))
		scripted_wrong(system, "sends to no socket");
	else if (!err) {
		if (!wire_serve(&system->machine, data, len,
				&system->queues[socket], scripted_command,
				caller))
			scripted_wrong(system, "sends what is no request");
		err = lost(system);
	}
	if (caller->dead)
		err = -EIO;
	leave(caller);
	return err;
}

static struct queue *queue_of(struct scripted *system, int socket)
{
	if (socket >= 0 && socket < (int)SOCKETS && system->open[socket])
		return &system->queues[socket];
	scripted_wrong(system, "receives from no socket");
	return NULL;
}

/* The next datagram, cut to fit: its whole length, 0 if it is somebody
 * else's, or an errno. */
static ssize_t next_datagram(struct scripted *system, struct queue *queue,
			     void *data, size_t size)
{
	ssize_t n;

	if (scripted_at(system, STRANGER, ++system->datagrams))
		return 0;
	n = garbled(system, data, size);
	if (n != AS_IT_IS)
		return n;
	if (!queue->count) {
		system->machine.now += PATIENCE;
		return -ETIMEDOUT;
	}
	n = queue->items[queue->first].len;
	memcpy(data, queue->items[queue->first].data,
	       (size_t)n < size ? (size_t)n : size);
	queue->first = (queue->first + 1) % QUEUE;
	queue->count--;
	return n;
}

static ssize_t io_receive(void *context, int socket, void *data, size_t size,
			  size_t *need)
{
	struct caller *caller = context;
	struct scripted *system = caller->system;
	ssize_t n = enter(caller, "receive", "");
	struct queue *queue = queue_of(system, socket);

	if (!n && queue)
		n = next_datagram(system, queue, data, size);
	if (n > (ssize_t)size) {
		*need = (size_t)n;
		n = -EMSGSIZE;
	}
	leave(caller);
	return n;
}

static int io_receive_many(void *context, int socket, void *data, size_t size,
			   unsigned int count, size_t *lengths)
{
	struct caller *caller = context;
	struct scripted *system = caller->system;
	int n = enter(caller, "receive many", "");
	struct queue *queue = queue_of(system, socket);

	/* It waits for the first alone. */
	while (n >= 0 && queue && (unsigned int)n < count &&
	       (!n || queue->count)) {
		ssize_t len = next_datagram(system, queue,
					    (char *)data + (size_t)n * size,
					    size);

		if (len < 0) {
			n = n ? n : (int)len;
			break;
		}
		lengths[n++] = (size_t)len;
	}
	leave(caller);
	return n;
}

static void io_close(void *context, int socket)
{
	struct caller *caller = context;
	struct scripted *system = caller->system;

	enter(caller, "close", "");
	if (socket < 0 || socket >= (int)SOCKETS || !system->open[socket])
		scripted_wrong(system, "closes no socket");
	else
		system->open[socket] = false;
	leave(caller);
}

/* ---- locks and time ---------------------------------------------------- */

static int io_lock(void *context, const char *name, struct waiting *waiting,
		   bool *waited)
{
	struct caller *caller = context;
	struct scripted *system = caller->system;
	int err = enter(caller, "lock", name);
	const struct fault *fault;
	unsigned int pf, vf;

	*waited = false;
	if (err)
		goto out;
	if (!machine_find(&system->machine, name, ADDRESS - 1, &pf, &vf) ||
	    vf != VFS) {
		scripted_wrong(system, "locks %s", name);
		err = -EINVAL;
		goto out;
	}
	if (system->patience)
		system->patience(system, caller, pf,
				 waiting->deadline - system->machine.now);
	while (system->lock_owner[pf]) {
		*waited = true;
		if (waiting->stop && waiting->stop(waiting->context)) {
			err = -EINTR;
			goto out;
		}
		if (system->threads) {
			pthread_mutex_unlock(&system->mutex);
			sched_yield();
			pthread_mutex_lock(&system->mutex);
			continue;
		}
		if (!system->two || system->lock_owner[pf] == caller) {
			scripted_wrong(system, "locks %s twice", name);
			err = -EDEADLK;
			goto out;
		}
		caller->wants = (int)pf;
		scripted_yield(caller);
		caller->wants = -1;
		if (caller->dead) {
			err = -EDEADLK;
			goto out;
		}
	}
	system->lock_owner[pf] = caller;
	system->changed[pf] = false;
	err = (int)pf;
	fault = scripted_at(system, OVERTAKEN, ++system->locks);
	if (fault && system->meanwhile) {
		*waited = true;
		system->meanwhile(system, caller, fault->number);
	}
out:
	leave(caller);
	return err;
}

static void io_unlock(void *context, int handle, bool changed)
{
	struct caller *caller = context;
	struct scripted *system = caller->system;
	const struct caller *other = &system->callers[!caller->number];

	enter(caller, "unlock", "");
	if (!caller->dead) {
		if (handle < 0 || handle >= (int)PFS ||
		    system->lock_owner[handle] != caller)
			scripted_wrong(system, "gives back no lock of its own");
		else
			system->lock_owner[handle] = NULL;
		/* What was refused, or lost, may be told as changed. */
		if (handle >= 0 && handle < (int)PFS &&
		    system->changed[handle] && !changed)
			scripted_wrong(system, "changes a PF without a word");
		if (system->two && system->handover && other->wants == handle)
			scripted_yield(caller);
	}
	leave(caller);
}

static uint64_t io_now(void *context)
{
	struct caller *caller = context;
	uint64_t now;

	if (caller->dead) /* waits for nothing any more */
		return caller->system->lifetime += 60000;
	if (caller->system->threads)
		enter(caller, "now", "");
	now = caller->system->machine.now;
	leave(caller);
	return now;
}

static void io_sleep(void *context, unsigned int ms)
{
	struct caller *caller = context;

	enter(caller, "sleep", "");
	if (!caller->dead)
		caller->system->machine.now += ms;
	leave(caller);
}

static void io_done(void *context)
{
	(void)context;
}

const struct io scripted_io = {
	.no_rights = "run as another",
	.at_once = 1,
	.read = io_read,
	.enter = io_enter,
	.leave = io_leave,
	.link = io_link,
	.list = io_list,
	.write = io_write,
	.identify = io_identify,
	.open = io_open,
	.send = io_send,
	.receive = io_receive,
	.receive_many = io_receive_many,
	.close = io_close,
	.lock = io_lock,
	.unlock = io_unlock,
	.now = io_now,
	.sleep = io_sleep,
	.done = io_done,
};
