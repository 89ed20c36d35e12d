// SPDX-License-Identifier: Apache-2.0
/* The system as it is: sysfs below a directory, rtnetlink of the kernel,
 * ioctls, lock files. */
#include "system.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "ioctl.h"

#ifndef NETLINK_CAP_ACK
#define NETLINK_CAP_ACK 10
#endif
#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

/* As many probes of VFs as are worth it: each is 0.3 s of waiting. */
#define AT_ONCE 32
/* The driver gives up on a firmware command after 60 s (mlx5 core/cmd.c). */
#define ANSWER_SECONDS 70
#define RECEIVE_QUEUE (1 << 20)
#define ENTRIES_SIZE 8192

/* ---- sysfs ------------------------------------------------------------- */

/* One read(): a show function that asks firmware is not to be called
 * twice. */
ssize_t system_read(void *context, const char *path, char *value, size_t size)
{
	const struct system *system = context;
	ssize_t n;
	int fd = openat(system->root, path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	do
		n = read(fd, value, size);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		n = -errno;
	close(fd);
	if (n < 0)
		return n;
	if ((size_t)n == size)
		return -EMSGSIZE;
	while (n > 0 && value[n - 1] == '\n')
		n--;
	value[n] = '\0';
	return n;
}

int system_enter(void *context, const char *path)
{
	const struct system *system = context;
	int fd = openat(system->root, path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

ssize_t system_link(void *context, int folder, const char *path,
		    char *target, size_t size)
{
	const struct system *system = context;
	ssize_t n = readlinkat(folder == ROOT ? system->root : folder, path,
			       target, size);

	if (n < 0)
		return -errno;
	if ((size_t)n == size)
		return -EMSGSIZE;
	target[n] = '\0';
	return n;
}

/* What getdents64() gives (fs/readdir.c). The system call itself: opendir()
 * costs a stat, an fcntl and an allocation. */
struct entry {
	uint64_t ino;
	int64_t off;
	unsigned short size;
	unsigned char type;
	char name[];
};

static int take_entries(const char *entries, size_t len, take_name take,
			void *taker)
{
	const struct entry *entry;
	size_t at;
	int result;

	for (at = 0; at < len; at += entry->size) {
		entry = (const void *)(entries + at);
		if (!strcmp(entry->name, ".") || !strcmp(entry->name, ".."))
			continue;
		result = take(entry->name, taker);
		if (result)
			return result;
	}
	return 0;
}

int system_list(void *context, const char *path, take_name take, void *taker)
{
	const struct system *system = context;
	char entries[ENTRIES_SIZE] __attribute__((aligned(8)));
	int result = 0;
	ssize_t n;
	int fd = openat(system->root, path,
			O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	while (!result) {
		n = syscall(SYS_getdents64, fd, entries, sizeof(entries));
		if (n < 0)
			result = -errno;
		if (n <= 0)
			break;
		result = take_entries(entries, (size_t)n, take, taker);
	}
	close(fd);
	return result;
}

/* A store function parses each write() on its own, so a value goes out whole
 * (Documentation/filesystems/sysfs.rst). EINTR may be tried again: every
 * value that is written is a state, not a step. */
static int system_write(void *context, const char *path, const char *value,
			size_t len)
{
	const struct system *system = context;
	int err = 0;
	ssize_t n;
	int fd = openat(system->root, path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	do
		n = write(fd, value, len);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		err = -errno;
	else if ((size_t)n != len)
		err = -EIO;
	close(fd);
	return err;
}

/* ---- netlink ----------------------------------------------------------- */

static int system_identify(void *context, const char *netdev, int *ifindex,
			   char bus[32])
{
	struct if_driver driver;
	int err = if_identify(netdev, ifindex, &driver);

	(void)context;
	if (err)
		return err;
	memcpy(bus, driver.bus_info, 31);
	bus[31] = '\0';
	return 0;
}

/*
 * Connected, so that the kernel refuses what anybody else sends to us
 * (netlink_getsockbyportid in net/netlink/af_netlink.c). Who did so between
 * the two steps of connect() is told by the sender's address.
 */
int socket_open(int protocol, uint32_t peer, unsigned int seconds)
{
	struct sockaddr_nl to = { .nl_family = AF_NETLINK, .nl_pid = peer };
	struct timeval wait = { .tv_sec = seconds };
	int queue = RECEIVE_QUEUE, on = 1, err;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) ||
	    connect(fd, (struct sockaddr *)&to, sizeof(to))) {
		err = -errno;
		close(fd);
		return err;
	}
	/* Helpful, not needed: an overrun is seen and answered. */
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &queue, sizeof(queue));
	/* Acknowledge without sending the request back (Linux 4.3). */
	(void)setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
	return fd;
}

int socket_send(int fd, const void *data, size_t len)
{
	ssize_t n;

	do
		n = send(fd, data, len, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

static int receive_error(void)
{
	return errno == EAGAIN ? -ETIMEDOUT : -errno;
}

/* Not peeked at first: what is asked for has a size that can be known. */
ssize_t socket_receive(int fd, uint32_t peer, void *data, size_t size,
		       size_t *need)
{
	struct sockaddr_nl from = { 0 };
	struct iovec part = { .iov_base = data, .iov_len = size };
	struct msghdr header = {
		.msg_name = &from,
		.msg_namelen = sizeof(from),
		.msg_iov = &part,
		.msg_iovlen = 1,
	};
	ssize_t n;

	do
		n = recvmsg(fd, &header, MSG_TRUNC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return receive_error();
	if (from.nl_pid != peer)
		return 0;
	if ((size_t)n > size) {
		*need = (size_t)n;
		return -EMSGSIZE;
	}
	return n;
}

#define MANY 64

int socket_receive_many(int fd, uint32_t peer, void *data, size_t size,
			unsigned int count, size_t *lengths)
{
	struct sockaddr_nl from[MANY];
	struct iovec parts[MANY];
	struct mmsghdr headers[MANY];
	unsigned int i;
	int n;

	if (count > MANY)
		count = MANY;
	for (i = 0; i < count; i++) {
		parts[i].iov_base = (char *)data + i * size;
		parts[i].iov_len = size;
		from[i].nl_pid = 0;
		headers[i].msg_hdr = (struct msghdr){
			.msg_name = &from[i],
			.msg_namelen = sizeof(from[i]),
			.msg_iov = &parts[i],
			.msg_iovlen = 1,
		};
	}
	do
		n = recvmmsg(fd, headers, count, MSG_WAITFORONE, NULL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return receive_error();
	for (i = 0; i < (unsigned int)n; i++)
		lengths[i] = from[i].nl_pid == peer ? headers[i].msg_len : 0;
	return n;
}

static int system_socket(void *context)
{
	(void)context;
	return socket_open(NETLINK_ROUTE, 0, ANSWER_SECONDS);
}

static int system_send(void *context, int socket, const void *data,
		       size_t len)
{
	(void)context;
	return socket_send(socket, data, len);
}

static ssize_t system_receive(void *context, int socket, void *data,
			      size_t size, size_t *need)
{
	(void)context;
	return socket_receive(socket, 0, data, size, need);
}

static int system_receive_many(void *context, int socket, void *data,
			       size_t size, unsigned int count,
			       size_t *lengths)
{
	(void)context;
	return socket_receive_many(socket, 0, data, size, count, lengths);
}

/* Of a socket or a folder. */
void system_close(void *context, int descriptor)
{
	(void)context;
	close(descriptor);
}

/* ---- locks and time ---------------------------------------------------- */

/* A folder and those above it. */
static int make_folder(char *path)
{
	char *at = path;
	int err = 0;

	while (!err && (at = strchr(at + 1, '/'))) {
		*at = '\0';
		if (mkdir(path, 0755) && errno != EEXIST)
			err = -errno;
		*at = '/';
	}
	if (!err && mkdir(path, 0755) && errno != EEXIST)
		err = -errno;
	return err;
}

/* By its path each time: a folder that was made anew is another one. */
int system_lock(void *context, const char *name, struct waiting *waiting,
		bool *waited)
{
	const struct system *system = context;
	size_t len = strlen(system->run_dir);
	char path[PATH_MAX];
	int handle, err;

	if (snprintf(path, sizeof(path), "%s/%s", system->run_dir, name) >=
	    PATH_MAX)
		return -ENAMETOOLONG;
	handle = lock_take(AT_FDCWD, path, waiting, waited);
	if (handle != -ENOENT)
		return handle;
	path[len] = '\0';
	err = make_folder(path);
	path[len] = '/';
	return err ? err : lock_take(AT_FDCWD, path, waiting, waited);
}

void system_unlock(void *context, int handle, bool changed)
{
	(void)context;
	if (changed)
		lock_mark(handle);
	lock_drop(handle);
}

uint64_t system_now(void *context)
{
	struct timespec time;

	(void)context;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000 +
	       (uint64_t)time.tv_nsec / 1000000;
}

/* Shorter if a signal comes: then somebody may want to stop. */
void system_sleep(void *context, unsigned int ms)
{
	const struct timespec time = {
		.tv_sec = ms / 1000,
		.tv_nsec = (long)(ms % 1000) * 1000000,
	};

	(void)context;
	nanosleep(&time, NULL);
}

/* ---- life -------------------------------------------------------------- */

void system_free(void *context)
{
	struct system *system = context;

	if (system->root >= 0)
		close(system->root);
	free(system->run_dir);
	free(system);
}

struct ibh_error *system_new(const struct ibh_options *options,
			     void **context)
{
	const char *sysfs = options->sysfs ? options->sysfs : "/sys";
	struct system *system = malloc(sizeof(*system));
	struct ibh_error *error;

	if (!system)
		return fail(T_MEMORY, NULL, NULL, 0, NULL, NULL, NULL);
	*system = (struct system){
		.root = -1,
		.run_dir = strdup(options->run_dir ? options->run_dir :
						     RUN_DIR),
		.netlink_port = options->netlink_port,
		.sysfs_port = options->sysfs_port,
	};
	if (!system->run_dir) {
		system_free(system);
		return fail(T_MEMORY, NULL, NULL, 0, NULL, NULL, NULL);
	}
	system->root = open(sysfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (system->root < 0) {
		error = fail(T_NO_HOST, sysfs, NULL, errno, NULL, NULL, NULL);
		system_free(system);
		return error;
	}
	*context = system;
	return NULL;
}

static const struct io real = {
	.no_rights = "run as root, or see '--privilege'",
	.at_once = AT_ONCE,
	.read = system_read,
	.enter = system_enter,
	.leave = system_close,
	.link = system_link,
	.list = system_list,
	.write = system_write,
	.identify = system_identify,
	.open = system_socket,
	.send = system_send,
	.receive = system_receive,
	.receive_many = system_receive_many,
	.close = system_close,
	.lock = system_lock,
	.unlock = system_unlock,
	.now = system_now,
	.sleep = system_sleep,
	.done = system_free,
};

struct ibh_error *system_open(const struct ibh_options *options,
			      const struct io **io, void **context)
{
	*io = &real;
	return system_new(options, context);
}
