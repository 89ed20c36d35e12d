// SPDX-License-Identifier: Apache-2.0
/*
 * The locks of PFs, among all that plug on a host: a file for each.
 *
 * Who holds flock() on the file has the lock; that is all that a holder does
 * and all that other programs need to know. Who has to wait queues: by a
 * ticket, which is a lock of its own (F_OFD_SETLK) on a byte of the file, one
 * higher than all that are there. A waiter goes for the flock() when there is
 * no lower ticket, and a newcomer when there is none. What a process holds of
 * either goes with it when it dies: the kernel sees to that.
 *
 * The file has no content. Its time of modification is when its PF was last
 * changed: who wants to know watches the folder (IN_MODIFY), and asks nobody
 * while nothing happens. Both kinds of locks are an open file's
 * (open(2)), so threads of one process queue like anybody else.
 */
#include "host.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Bytes of the file: who holds the first takes a ticket just now. */
#define COUNTER 0
#define TICKETS 1
#define TO_THE_END 0 /* as struct flock counts */

#define SHORTEST_MS 1
/* A waiter looks this often at least, whatever inotify says … */
#define LONGEST_MS 50
#define LONGEST_DEAF_MS 20 /* … or without it */
/* If the lock is free for so long and the one whose turn it is does not take
 * it, that one was stopped (Ctrl-Z, a frozen container). */
#define STALLED_MS 3000

struct queue {
	int fd;
	off_t ticket; /* 0: none */
	int inotify; /* -1: not asked for yet, or not to be had */
	bool asked;
	uint64_t free_since; /* 0: it is not */
};

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000 +
	       (uint64_t)time.tv_nsec / 1000000;
}

static bool set(int fd, short type, off_t start, off_t len)
{
	struct flock lock = {
		.l_type = type,
		.l_whence = SEEK_SET,
		.l_start = start,
		.l_len = len,
	};

	return !fcntl(fd, F_OFD_SETLK, &lock);
}

/* Whether anybody else has a lock there. Where the file system knows no such
 * locks nobody has: then whoever comes at the right time is next. */
static bool taken(int fd, off_t start, off_t len, struct flock *lock)
{
	*lock = (struct flock){
		.l_type = F_WRLCK,
		.l_whence = SEEK_SET,
		.l_start = start,
		.l_len = len,
	};
	return !fcntl(fd, F_OFD_GETLK, lock) && lock->l_type != F_UNLCK;
}

static bool is_my_turn(const struct queue *queue)
{
	struct flock lock;

	if (queue->ticket == TICKETS)
		return true;
	return !taken(queue->fd, TICKETS,
		      queue->ticket ? queue->ticket - TICKETS : TO_THE_END,
		      &lock);
}

/* Not being able to is no error: then it is tried again. */
static void take_ticket(struct queue *queue)
{
	off_t ticket = TICKETS;
	struct flock lock;

	if (queue->ticket || !set(queue->fd, F_WRLCK, COUNTER, 1))
		return;
	while (taken(queue->fd, ticket, TO_THE_END, &lock)) {
		if (lock.l_len == TO_THE_END)
			goto out; /* somebody else's idea of locking */
		ticket = lock.l_start + lock.l_len;
	}
	if (set(queue->fd, F_WRLCK, ticket, 1))
		queue->ticket = ticket;
out:
	set(queue->fd, F_UNLCK, COUNTER, 1);
}

/* 0, -EAGAIN if it is somebody else's, or what is wrong with it. */
static int take(struct queue *queue)
{
	bool mine = is_my_turn(queue);
	uint64_t time;

	if (flock(queue->fd, LOCK_EX | LOCK_NB)) {
		queue->free_since = 0;
		return -errno;
	}
	if (mine)
		return 0;
	time = now();
	if (!queue->free_since)
		queue->free_since = time;
	if (time - queue->free_since >= STALLED_MS)
		return 0;
	flock(queue->fd, LOCK_UN);
	return -EAGAIN;
}

/* Whoever drops the lock closes the file, and so does who dies. */
static void listen_for_closing(struct queue *queue)
{
	char path[32];

	if (queue->asked)
		return;
	queue->asked = true;
	queue->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (queue->inotify < 0)
		return; /* fs.inotify.max_user_instances */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", queue->fd);
	if (inotify_add_watch(queue->inotify, path, IN_CLOSE_WRITE) < 0) {
		close(queue->inotify);
		queue->inotify = -1;
	}
}

/* Waits, at most for *pause ms, and says how long next time. */
static void sleep_for(struct queue *queue, unsigned int *pause, uint64_t left)
{
	struct pollfd event = { .fd = queue->inotify, .events = POLLIN };
	unsigned int most = queue->inotify < 0 ? LONGEST_DEAF_MS : LONGEST_MS;
	char events[512];

	if (poll(&event, 1, (int)(*pause < left ? *pause : left)) > 0) {
		while (read(queue->inotify, events, sizeof(events)) > 0)
			;
		/* The kernel tells of it just before it drops the locks
		 * (__fput in fs/file_table.c): look again soon. */
		*pause = is_my_turn(queue) ? SHORTEST_MS : most;
		return;
	}
	*pause = 2 * *pause < most ? 2 * *pause : most;
}

/* 0 if there is time left, and how much. */
static int may_wait(const struct waiting *waiting, uint64_t *left)
{
	uint64_t time;

	if (waiting->stop && waiting->stop(waiting->context))
		return -EINTR;
	time = now();
	if (time >= waiting->deadline)
		return -ETIMEDOUT;
	*left = waiting->deadline - time;
	return 0;
}

static int wait_in(struct queue *queue, const struct waiting *waiting)
{
	unsigned int pause = SHORTEST_MS;
	uint64_t left;
	int err;

	do {
		err = may_wait(waiting, &left);
		if (err)
			return err;
		take_ticket(queue);
		listen_for_closing(queue);
		sleep_for(queue, &pause, left);
		err = take(queue);
	} while (err == -EAGAIN);
	return err;
}

/* The tickets go explicitly, not by close() alone: a child that the process
 * forked meanwhile has the same open file. */
static void leave(struct queue *queue)
{
	if (queue->ticket)
		set(queue->fd, F_UNLCK, TICKETS, TO_THE_END);
	if (queue->inotify >= 0)
		close(queue->inotify);
}

/* Whether the file that was opened is the one of that name. */
static bool is_current(int fd, int folder, const char *name)
{
	struct stat opened, there;

	return !fstat(fd, &opened) &&
	       !fstatat(folder, name, &there, AT_SYMLINK_NOFOLLOW) &&
	       opened.st_ino == there.st_ino && opened.st_dev == there.st_dev;
}

int lock_take(int folder, const char *name, struct waiting *waiting,
	      bool *waited)
{
	char file[PATH_MAX];
	struct queue queue;
	uint64_t left;
	int err;

	*waited = false;
	if (snprintf(file, sizeof(file), "%s.lock", name) >= PATH_MAX)
		return -ENAMETOOLONG;
	for (;;) {
		queue = (struct queue){ .inotify = -1 };
		queue.fd = openat(folder, file,
				  O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
				  0600);
		if (queue.fd < 0)
			return -errno;
		err = take(&queue);
		if (err == -EAGAIN) {
			*waited = true;
			err = wait_in(&queue, waiting);
		}
		leave(&queue);
		if (!err && is_current(queue.fd, folder, file))
			return queue.fd;
		lock_drop(queue.fd);
		/* It was removed meanwhile: who comes now locks another. */
		*waited = true;
		if (!err)
			err = may_wait(waiting, &left);
		if (err)
			return err;
	}
}

struct ibh_error *lock_error(const struct ibh_host *host, const char *name,
			     int err, unsigned int waited_ms)
{
	char path[PATH_SIZE], seconds[16];
	enum text what = T_LOCK_FOLDER;

	switch (err) {
	case -ETIMEDOUT:
		what = T_LOCK_HELD;
		break;
	case -EROFS:
		what = T_LOCK_READ_ONLY;
		break;
	case -EACCES:
	case -EPERM:
		what = T_LOCK_DENIED;
		break;
	case -EINTR: /* who waited was told to stop */
		what = T_NO_LOCK;
		break;
	}
	format(path, sizeof(path), "%s/%s.lock", host->run_dir, name);
	format(seconds, sizeof(seconds), "%g", waited_ms / 1e3);
	return fail(what, path, "lock", err,
		    what == T_LOCK_HELD ? seconds : host->run_dir,
		    host->io->no_rights, NULL);
}

/* The one time alone: both of them together are IN_ATTRIB
 * (include/linux/fsnotify.h, fsnotify_change). */
void lock_mark(int handle)
{
	const struct timespec times[2] = {
		{ .tv_nsec = UTIME_OMIT },
		{ .tv_nsec = UTIME_NOW },
	};

	futimens(handle, times);
}

void lock_drop(int handle)
{
	/* Before close(), for the sake of who listens for that; and a forked
	 * child may have the file open, too. */
	flock(handle, LOCK_UN);
	close(handle);
}
