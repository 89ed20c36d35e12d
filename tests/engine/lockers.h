/* SPDX-License-Identifier: Apache-2.0 */
/* Processes that want one lock, and who watches them. */
#ifndef IBHOSTDEV_TESTS_LOCKERS_H
#define IBHOSTDEV_TESTS_LOCKERS_H

#include "host.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "check.h"

#define NAME "0000:3b:00.0"
#define FILE_NAME NAME ".lock"

static int folder; /* of the test */
static int said[2]; /* what the children say, a character each */

static inline void set_up(void)
{
	CHECK(!mkdir("locks", 0755));
	folder = open("locks", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(folder >= 0 && !pipe(said));
}

static inline void tear_down(void)
{
	unlinkat(folder, FILE_NAME, 0);
	CHECK(!rmdir("locks")); /* there is nothing else */
	close(folder);
	close(said[0]);
	close(said[1]);
}

static inline struct waiting until(unsigned int ms)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (struct waiting){ .deadline = (uint64_t)now.tv_sec * 1000 +
					     (uint64_t)now.tv_nsec / 1000000 +
					     ms };
}

static inline int take(bool *waited)
{
	struct waiting waiting = until(240000);

	return lock_take(folder, NAME, &waiting, waited);
}

static inline void say(char what)
{
	EQUAL(write(said[1], &what, 1), 1);
}

static inline char hear(void)
{
	char what = 0;

	EQUAL(read(said[0], &what, 1), 1);
	return what;
}

/* What a child has, too, the parent cannot drop by closing it. */
static int mine = -1;

static inline pid_t spawn(void)
{
	pid_t child = fork();

	CHECK(child >= 0);
	if (!child && mine >= 0)
		close(mine);
	return child;
}

static inline void drop_mine(void)
{
	close(mine);
	mine = -1;
}

/* A child that takes the lock, says so, and leaves. */
static inline pid_t start(char name)
{
	pid_t child = spawn();
	bool waited;
	int lock;

	if (child)
		return child;
	lock = take(&waited);
	CHECK(lock >= 0);
	say(name);
	lock_drop(lock);
	_exit(0);
}

/* … or keeps it, until it is told to go on by a byte of `go`. */
static inline pid_t start_holder(char name, int go)
{
	pid_t child = spawn();
	bool waited;
	char byte;
	int lock;

	if (child)
		return child;
	lock = take(&waited);
	CHECK(lock >= 0);
	say(name);
	EQUAL(read(go, &byte, 1), 1);
	say((char)(name + 'a' - 'A'));
	lock_drop(lock);
	_exit(0);
}

static inline void ended_well(pid_t child)
{
	int status;

	EQUAL(waitpid(child, &status, 0), child);
	EQUAL(status, 0);
}

static inline void kill_at_once(pid_t child)
{
	CHECK(!kill(child, SIGKILL));
	EQUAL(waitpid(child, NULL, 0), child);
}

/* A waiter has place `ticket` of the queue, from 1. */
static inline bool is_queued(off_t ticket)
{
	struct flock lock = {
		.l_type = F_WRLCK, .l_start = ticket, .l_len = 1
	};
	int file = openat(folder, FILE_NAME, O_RDWR | O_CLOEXEC);

	CHECK(file >= 0);
	CHECK(!fcntl(file, F_OFD_GETLK, &lock));
	close(file);
	return lock.l_type != F_UNLCK;
}

static inline void wait_for(off_t ticket)
{
	while (!is_queued(ticket))
		usleep(1000);
}

#endif
