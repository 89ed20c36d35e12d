// SPDX-License-Identifier: Apache-2.0
/* The locks of PFs, among processes and threads. */
#include "lockers.h"

#include <pthread.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/resource.h>

#define WAITERS 40

/* ---- the queue --------------------------------------------------------- */

TEST(forty_get_it_in_the_order_in_which_they_came)
{
	pid_t children[WAITERS];
	bool waited;
	int lock, i;

	set_up();
	lock = take(&waited);
	CHECK(lock >= 0 && !waited);
	for (i = 0; i < WAITERS; i++) {
		children[i] = start((char)i);
		wait_for(i + 1);
	}
	lock_drop(lock);
	for (i = 0; i < WAITERS; i++)
		EQUAL(hear(), i);
	for (i = 0; i < WAITERS; i++)
		ended_well(children[i]);
	tear_down();
}

TEST(who_holds_it_need_not_know_of_queues)
{
	pid_t children[2];

	set_up();
	mine = openat(folder, FILE_NAME, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(mine >= 0 && !flock(mine, LOCK_EX));
	children[0] = start('A');
	wait_for(1);
	children[1] = start('B');
	wait_for(2);
	drop_mine();
	EQUAL(hear(), 'A');
	EQUAL(hear(), 'B');
	ended_well(children[0]);
	ended_well(children[1]);
	tear_down();
}

static int first_wait(void *context)
{
	(void)context;
	say('w');
	return 0;
}

TEST(a_newcomer_does_not_take_a_lock_that_others_queue_for)
{
	struct flock ticket = {
		.l_type = F_WRLCK, .l_start = 1, .l_len = 1
	};
	struct waiting waiting = until(240000);
	bool waited;
	pid_t child;

	set_up();
	/* Somebody queues, whose turn it is and who has not noticed. */
	mine = openat(folder, FILE_NAME, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(mine >= 0 && !fcntl(mine, F_OFD_SETLK, &ticket));
	child = spawn();
	if (!child) {
		waiting.stop = first_wait;
		CHECK(lock_take(folder, NAME, &waiting, &waited) >= 0);
		CHECK(waited);
		say('T');
		_exit(0);
	}
	EQUAL(hear(), 'w');
	drop_mine();
	while (hear() != 'T')
		;
	ended_well(child);
	tear_down();
}

TEST(waiters_that_are_killed_are_forgotten)
{
	pid_t children[5];
	bool waited;
	int lock, i;

	set_up();
	lock = take(&waited);
	for (i = 0; i < 5; i++) {
		children[i] = start((char)('A' + i));
		wait_for(i + 1);
	}
	kill_at_once(children[0]);
	kill_at_once(children[2]);
	lock_drop(lock);
	EQUAL(hear(), 'B');
	EQUAL(hear(), 'D');
	EQUAL(hear(), 'E');
	ended_well(children[1]);
	ended_well(children[3]);
	ended_well(children[4]);
	tear_down();
}

TEST(a_holder_that_is_killed_holds_it_no_longer)
{
	pid_t holder, waiter;
	int go[2];

	set_up();
	CHECK(!pipe(go));
	holder = start_holder('H', go[0]);
	EQUAL(hear(), 'H');
	waiter = start('W');
	wait_for(1);
	kill_at_once(holder);
	EQUAL(hear(), 'W');
	ended_well(waiter);
	close(go[0]);
	close(go[1]);
	tear_down();
}

TEST(a_waiter_that_was_stopped_does_not_keep_the_others_waiting)
{
	pid_t stopped, other;
	bool waited;
	int lock;

	set_up();
	lock = take(&waited);
	stopped = start('S');
	wait_for(1);
	CHECK(!kill(stopped, SIGSTOP));
	EQUAL(waitpid(stopped, NULL, WUNTRACED), stopped);
	other = start('O');
	wait_for(2);
	lock_drop(lock);
	EQUAL(hear(), 'O');
	ended_well(other);
	CHECK(!kill(stopped, SIGCONT));
	EQUAL(hear(), 'S');
	ended_well(stopped);
	tear_down();
}

/* ---- a file that goes -------------------------------------------------- */

static void unlinked(void)
{
	CHECK(!unlinkat(folder, FILE_NAME, 0));
}

static void moved(void)
{
	CHECK(!renameat(folder, FILE_NAME, folder, "old"));
	CHECK(!unlinkat(folder, "old", 0));
}

static void replaced(void)
{
	int file = openat(folder, "new", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	CHECK(file >= 0);
	close(file);
	CHECK(!renameat(folder, "new", folder, FILE_NAME));
}

/* Who waited for the old file gets the one that all others lock. */
static void waits_for_the_new_file(void (*change)(void))
{
	pid_t waiter, holder;
	bool waited;
	int go[2], lock;

	set_up();
	CHECK(!pipe(go));
	lock = take(&waited);
	waiter = start('W');
	wait_for(1);
	change();
	holder = start_holder('H', go[0]);
	EQUAL(hear(), 'H');
	lock_drop(lock);
	wait_for(1);
	EQUAL(write(go[1], "", 1), 1);
	EQUAL(hear(), 'h');
	EQUAL(hear(), 'W');
	ended_well(holder);
	ended_well(waiter);
	close(go[0]);
	close(go[1]);
	tear_down();
}

TEST(a_lock_file_that_was_removed_meanwhile_is_noticed)
{
	waits_for_the_new_file(unlinked);
}

TEST(a_lock_file_that_was_moved_meanwhile_is_noticed)
{
	waits_for_the_new_file(moved);
}

TEST(a_lock_file_that_was_replaced_meanwhile_is_noticed)
{
	waits_for_the_new_file(replaced);
}

/* ---- an end to waiting ------------------------------------------------- */

TEST(it_is_not_waited_for_for_ever)
{
	struct waiting waiting;
	unsigned int before;
	bool waited;
	int lock;

	set_up();
	lock = take(&waited);
	before = descriptors();
	waiting = until(60);
	EQUAL(lock_take(folder, NAME, &waiting, &waited), -ETIMEDOUT);
	CHECK(waited);
	EQUAL(descriptors(), before);
	CHECK(!is_queued(1));
	lock_drop(lock);
	/* A lock that is free is had, however late. */
	waiting.deadline = 0;
	lock = lock_take(folder, NAME, &waiting, &waited);
	CHECK(lock >= 0 && !waited);
	lock_drop(lock);
	tear_down();
}

static int third_time(void *context)
{
	return ++*(int *)context == 3;
}

TEST(who_waits_is_asked_whether_to_stop)
{
	struct waiting waiting = until(240000);
	unsigned int before;
	bool waited;
	int lock, asked = 0;

	set_up();
	lock = take(&waited);
	before = descriptors();
	waiting.stop = third_time;
	waiting.context = &asked;
	EQUAL(lock_take(folder, NAME, &waiting, &waited), -EINTR);
	EQUAL(asked, 3);
	EQUAL(descriptors(), before);
	CHECK(!is_queued(1));
	lock_drop(lock);
	tear_down();
}

struct seen {
	int asked;
	bool told; /* the kernel is to tell of the file's being closed */
};

static int look_around(void *context)
{
	struct seen *seen = context;
	char path[64], link[64];
	ssize_t len;
	int fd;

	for (fd = 0; fd < 64; fd++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		len = readlink(path, link, sizeof(link) - 1);
		link[len < 0 ? 0 : len] = '\0';
		seen->told |= strstr(link, "inotify") != NULL;
	}
	return ++seen->asked == 20;
}

TEST(who_waits_sleeps_and_is_told_when_it_is_free)
{
	struct waiting waiting = until(240000);
	struct rusage before, after;
	struct seen seen = { 0 };
	bool waited;
	int lock, some = inotify_init1(IN_CLOEXEC);

	close(some);
	set_up();
	lock = take(&waited);
	waiting.stop = look_around;
	waiting.context = &seen;
	CHECK(!getrusage(RUSAGE_THREAD, &before));
	EQUAL(lock_take(folder, NAME, &waiting, &waited), -EINTR);
	CHECK(!getrusage(RUSAGE_THREAD, &after));
	/* The first look and the last are without a sleep. */
	CHECK(after.ru_nvcsw - before.ru_nvcsw >= seen.asked - 2);
	/* Where there is no inotify to be had it is looked at more often. */
	CHECK(seen.told || some < 0);
	lock_drop(lock);
	tear_down();
}

/* ---- what it does not depend on ---------------------------------------- */

TEST(without_inotify_it_is_looked_at_again_and_again)
{
	struct rlimit limit;
	pid_t child;
	bool waited;
	int lock, next;

	set_up();
	lock = take(&waited);
	child = spawn();
	if (!child) {
		/* The lock file is the last that can be opened. */
		next = dup(0);
		close(next);
		limit.rlim_cur = limit.rlim_max = (rlim_t)next + 1;
		CHECK(!setrlimit(RLIMIT_NOFILE, &limit));
		CHECK(take(&waited) >= 0 && waited);
		say('T');
		_exit(0);
	}
	wait_for(1);
	lock_drop(lock);
	EQUAL(hear(), 'T');
	ended_well(child);
	tear_down();
}

TEST(a_child_that_was_forked_meanwhile_does_not_hold_it)
{
	pid_t child;
	bool waited;
	int lock, again;

	set_up();
	lock = take(&waited);
	child = spawn();
	if (!child) {
		pause();
		_exit(0);
	}
	lock_drop(lock);
	again = take(&waited);
	CHECK(again >= 0 && !waited);
	lock_drop(again);
	kill_at_once(child);
	tear_down();
}

static pid_t forked;

static int fork_once(void *context)
{
	if (++*(int *)context != 2) /* by then there is a ticket */
		return 0;
	forked = spawn();
	if (!forked) {
		pause();
		_exit(0);
	}
	return 1;
}

TEST(nor_does_one_that_was_forked_while_it_was_waited_for)
{
	struct waiting waiting = until(240000);
	int lock, asked = 0;
	bool waited;

	set_up();
	lock = take(&waited);
	waiting.stop = fork_once;
	waiting.context = &asked;
	EQUAL(lock_take(folder, NAME, &waiting, &waited), -EINTR);
	CHECK(!is_queued(1));
	lock_drop(lock);
	kill_at_once(forked);
	tear_down();
}

static unsigned int inside, rounds;

static void *work(void *context)
{
	bool waited;
	int i, lock;

	(void)context;
	for (i = 0; i < 25; i++) {
		lock = take(&waited);
		CHECK(lock >= 0);
		EQUAL(__atomic_add_fetch(&inside, 1, __ATOMIC_SEQ_CST), 1);
		rounds++;
		__atomic_sub_fetch(&inside, 1, __ATOMIC_SEQ_CST);
		lock_drop(lock);
	}
	return NULL;
}

TEST(threads_keep_out_of_each_others_way)
{
	pthread_t threads[8];
	unsigned int before;
	size_t i;

	set_up();
	before = descriptors();
	rounds = 0;
	for (i = 0; i < 8; i++)
		CHECK(!pthread_create(&threads[i], NULL, work, NULL));
	for (i = 0; i < 8; i++)
		CHECK(!pthread_join(threads[i], NULL));
	EQUAL(rounds, 200);
	EQUAL(descriptors(), before);
	tear_down();
}

TEST(only_a_file_of_that_name_is_a_lock)
{
	struct stat about;
	bool waited;
	int lock;

	set_up();
	CHECK(!symlinkat("elsewhere", folder, FILE_NAME));
	EQUAL(take(&waited), -ELOOP);
	CHECK(!unlinkat(folder, FILE_NAME, 0));
	lock = take(&waited);
	CHECK(lock >= 0 && !fstat(lock, &about));
	EQUAL(about.st_mode & 07777, 0600);
	EQUAL(about.st_size, 0);
	EQUAL(fcntl(lock, F_GETFD), FD_CLOEXEC);
	lock_drop(lock);
	tear_down();
}

/* ---- what is said ------------------------------------------------------ */

static void says(int err, enum ibh_kind kind, const char *text,
		 const char *never)
{
	static const struct io io = { .no_rights = "run as root" };
	struct ibh_host host = { .run_dir = "/x/run", .io = &io };
	struct ibh_error *error = lock_error(&host, NAME, err, 1500);
	char told[1024];

	ibh_error_text(error, told, sizeof(told));
	EQUAL(error->kind, kind);
	EQUAL(error->number, -err);
	CHECK(!strcmp(error->device, "/x/run/" FILE_NAME));
	CHECK(error->cure && strstr(told, text) && !strstr(told, never));
	ibh_error_free(error);
}

/* Also in a build for a libc that does not know them. */
TEST(an_errno_has_its_name)
{
	char told[256];

	for (int number = 1; number <= EHWPOISON; number++) {
		const char *name = strerrorname_np(number);
		struct ibh_error *error = ibh_error_new(
			IBH_OTHER, "failed", NULL, NULL, number, NULL);

		ibh_error_text(error, told, sizeof(told));
		ibh_error_free(error);
		CHECK(!name || strstr(told, name));
	}
}

TEST(each_trouble_has_its_own_words)
{
	says(-ETIMEDOUT, IBH_TIMED_OUT,
	     "is held by another batch, and was not to be had within 1.5 s",
	     "kernel log");
	says(-EROFS, IBH_ACCESS_DENIED,
	     "/x/run is on a read-only file system", "/sys");
	says(-EACCES, IBH_ACCESS_DENIED,
	     "run as root, or have a folder in the place of /x/run", "/sys");
	says(-EPERM, IBH_ACCESS_DENIED, "run as root", "CAP_NET_ADMIN");
	says(-ENOTDIR, IBH_COMMAND_FAILED, "make /x/run a folder", "driver");
	says(-ENOENT, IBH_COMMAND_FAILED, "make /x/run a folder", "driver");
	says(-ENOSPC, IBH_COMMAND_FAILED, "make /x/run a folder", "driver");
	says(-ELOOP, IBH_COMMAND_FAILED, "make /x/run a folder", "driver");
}
