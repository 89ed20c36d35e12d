// SPDX-License-Identifier: Apache-2.0
/* The system as it is, over ordinary files and this machine's kernel. */
#include "error.h"
#include "rtnetlink.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "check.h"

static const struct io *io;
static void *context;

/* In place of host.c. */
void host_habit(struct ibh_host *host, int ifindex, struct habit *habit)
{
	(void)host;
	*habit = (struct habit){ .ifindex = ifindex };
}

void host_learn(struct ibh_host *host, const struct habit *habit)
{
	(void)host;
	(void)habit;
}

int host_socket(struct ibh_host *host)
{
	return host->io->open(host->context);
}

void host_socket_back(struct ibh_host *host, int socket, bool good)
{
	(void)good;
	host->io->close(host->context, socket);
}

static void make(const char *path, const char *value, size_t len)
{
	int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	CHECK(file >= 0);
	EQUAL(write(file, value, len), len);
	close(file);
}

static void set_up(void)
{
	struct ibh_options options = { .sysfs = "sys",
				       .run_dir = "run/a/b" };

	CHECK(!mkdir("sys", 0755));
	CHECK(!system_open(&options, &io, &context));
}

static int is_left(const char *name, void *taker)
{
	(void)taker;
	fprintf(stderr, "%s is left\n", name);
	return 1;
}

static void tear_down(void)
{
	io->done(context);
}

/* ---- sysfs ------------------------------------------------------------- */

TEST(a_value_loses_its_newline)
{
	char value[64];

	set_up();
	make("sys/a", "value\n", 6);
	make("sys/empty", "", 0);
	memset(value, 'x', sizeof(value));
	EQUAL(io->read(context, "a", value, sizeof(value)), 5);
	CHECK(!strcmp(value, "value"));
	EQUAL(io->read(context, "empty", value, sizeof(value)), 0);
	CHECK(!*value);
	EQUAL(io->read(context, "missing", value, sizeof(value)), -ENOENT);
	EQUAL(io->read(context, ".", value, sizeof(value)), -EISDIR);
	tear_down();
}

TEST(what_does_not_fit_is_no_value)
{
	char value[VALUE_SIZE], page[VALUE_SIZE];
	unsigned int before;

	set_up();
	memset(page, 'x', sizeof(page));
	make("sys/page", page, VALUE_SIZE - 1);
	make("sys/long", page, VALUE_SIZE);
	before = descriptors();
	EQUAL(io->read(context, "page", value, VALUE_SIZE), VALUE_SIZE - 1);
	EQUAL(value[VALUE_SIZE - 1], 0);
	EQUAL(io->read(context, "long", value, VALUE_SIZE), -EMSGSIZE);
	EQUAL(io->read(context, "page", value, 1), -EMSGSIZE);
	EQUAL(descriptors(), before);
	tear_down();
}

TEST(a_link_is_text)
{
	char target[16];

	set_up();
	CHECK(!symlink("../folder/target", "sys/link"));
	CHECK(!symlink("folder/target15", "sys/fits"));
	memset(target, 'x', sizeof(target));
	EQUAL(io->link(context, ROOT, "fits", target, sizeof(target)), 15);
	CHECK(!strcmp(target, "folder/target15"));
	EQUAL(io->link(context, ROOT, "link", target, sizeof(target)),
	      -EMSGSIZE);
	EQUAL(io->link(context, ROOT, ".", target, sizeof(target)), -EINVAL);
	EQUAL(io->link(context, ROOT, "missing", target, sizeof(target)),
	      -ENOENT);
	tear_down();
}

TEST(links_are_looked_up_from_a_folder)
{
	char target[16];
	int folder, before;

	set_up();
	before = descriptors();
	make("sys/value", "1\n", 2);
	CHECK(!mkdir("sys/folder", 0755));
	CHECK(!symlink("there", "sys/folder/link"));
	EQUAL(io->enter(context, "missing"), -ENOENT);
	EQUAL(io->enter(context, "value"), -ENOTDIR);
	folder = io->enter(context, "folder");
	CHECK(folder >= 0);
	EQUAL(io->link(context, folder, "link", target, sizeof(target)), 5);
	CHECK(!strcmp(target, "there"));
	EQUAL(io->link(context, ROOT, "link", target, sizeof(target)),
	      -ENOENT);
	io->leave(context, folder);
	EQUAL(descriptors(), before);
	tear_down();
}

TEST(a_write_never_makes_a_file)
{
	char value[16];

	set_up();
	EQUAL(io->write(context, "missing", "1", 1), -ENOENT);
	EQUAL(io->read(context, "missing", value, sizeof(value)), -ENOENT);
	make("sys/a", "value\n", 6);
	EQUAL(io->write(context, "a", "new", 3), 0);
	EQUAL(io->read(context, "a", value, sizeof(value)), 5);
	CHECK(!strcmp(value, "newue")); /* at the start, and no more */
	EQUAL(io->write(context, ".", "1", 1), -EISDIR);
	tear_down();
}

TEST(a_value_that_is_refused)
{
	struct rlimit limit = { 3, 3 };
	unsigned int before;
	pid_t child;
	int status;

	set_up();
	before = descriptors();
	CHECK(!symlink("/dev/full", "sys/full"));
	EQUAL(io->write(context, "full", "1", 1), -ENOSPC);
	EQUAL(descriptors(), before);
	/* One that was taken in part was not taken. */
	make("sys/a", "", 0);
	child = fork();
	if (!child) {
		CHECK(!setrlimit(RLIMIT_FSIZE, &limit));
		EQUAL(io->write(context, "a", "value", 5), -EIO);
		_exit(0);
	}
	EQUAL(waitpid(child, &status, 0), child);
	EQUAL(status, 0);
	tear_down();
}

static int count_all(const char *name, void *taker)
{
	CHECK(*name != '.');
	++*(int *)taker;
	return 0;
}

static int third(const char *name, void *taker)
{
	(void)name;
	return ++*(int *)taker == 3 ? 33 : 0;
}

/* More than one system call gives. */
TEST(a_directory_of_many)
{
	char path[128];
	unsigned int before;
	int i, count = 0;

	set_up();
	CHECK(!mkdir("sys/many", 0755) && !mkdir("sys/none", 0755));
	for (i = 0; i < 2000; i++) {
		snprintf(path, sizeof(path), "sys/many/%04d-%050d", i, i);
		make(path, "", 0);
	}
	before = descriptors();
	EQUAL(io->list(context, "many", count_all, &count), 0);
	EQUAL(count, 2000);
	count = 0;
	EQUAL(io->list(context, "many", third, &count), 33);
	EQUAL(count, 3);
	EQUAL(io->list(context, "none", is_left, NULL), 0);
	EQUAL(io->list(context, "missing", is_left, NULL), -ENOENT);
	EQUAL(io->list(context, "many/0000", is_left, NULL), -ENOENT);
	EQUAL(descriptors(), before);
	tear_down();
}

TEST(what_is_opened_is_closed)
{
	unsigned int before = descriptors();

	set_up();
	EQUAL(descriptors(), before + 1);
	tear_down();
	EQUAL(descriptors(), before);
}

TEST(a_sysfs_that_is_not_there)
{
	struct ibh_options options = { .sysfs = "/nowhere/sys" };
	struct ibh_error *error = system_open(&options, &io, &context);

	CHECK(error);
	EQUAL(error->number, ENOENT);
	CHECK(!strcmp(error->device, "/nowhere/sys"));
	ibh_error_free(error);
}

/* ---- locks ------------------------------------------------------------- */

TEST(the_folder_of_the_locks_is_made)
{
	struct waiting waiting = { 0 };
	struct stat about;
	bool waited;
	int lock;

	set_up();
	umask(0);
	lock = io->lock(context, "0000:3b:00.0", &waiting, &waited);
	CHECK(lock >= 0 && !waited);
	CHECK(!stat("run/a/b/0000:3b:00.0.lock", &about));
	EQUAL(about.st_mode & 07777, 0600);
	CHECK(!stat("run/a/b", &about));
	EQUAL(about.st_mode & 07777, 0755);
	CHECK(!stat("run", &about));
	EQUAL(about.st_mode & 07777, 0755);
	EQUAL(io->lock(context, "0000:3b:00.0", &waiting, &waited),
	      -ETIMEDOUT);
	io->unlock(context, lock, false);
	lock = io->lock(context, "0000:3b:00.0", &waiting, &waited);
	CHECK(lock >= 0 && !waited);
	io->unlock(context, lock, false);
	EQUAL(stat("run/a/b/0000:3b:00.0", &about), -1);
	tear_down();
}

static bool is_told(int watch)
{
	struct pollfd event = { .fd = watch, .events = POLLIN };
	char events[1024];

	if (!poll(&event, 1, 0))
		return false;
	CHECK(read(watch, events, sizeof(events)) > 0);
	return true;
}

TEST(a_change_is_told_to_who_watches_the_folder)
{
	struct waiting waiting = { 0 };
	int lock, watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	struct stat about;
	bool waited;

	set_up();
	lock = io->lock(context, "0000:3b:00.0", &waiting, &waited);
	io->unlock(context, lock, false);
	CHECK(inotify_add_watch(watch, "run/a/b", IN_MODIFY) >= 0);
	lock = io->lock(context, "0000:3b:00.0", &waiting, &waited);
	io->unlock(context, lock, false);
	CHECK(!is_told(watch));
	lock = io->lock(context, "0000:3b:00.0", &waiting, &waited);
	CHECK(!is_told(watch));
	io->unlock(context, lock, true);
	CHECK(is_told(watch));
	CHECK(!stat("run/a/b/0000:3b:00.0.lock", &about));
	EQUAL(about.st_size, 0);
	close(watch);
	tear_down();
}

TEST(a_folder_that_cannot_be_had)
{
	struct waiting waiting = { 0 };
	bool waited;
	pid_t child;
	int status;

	set_up();
	make("run", "", 0);
	EQUAL(io->lock(context, "pf", &waiting, &waited), -ENOTDIR);
	CHECK(!unlink("run") && !symlink("run", "run"));
	EQUAL(io->lock(context, "pf", &waiting, &waited), -ELOOP);
	CHECK(!unlink("run") && !mkdir("run", 0555));
	child = fork();
	if (!child) {
		/* Root may write anywhere. */
		CHECK(!chmod(".", 0755));
		CHECK(geteuid() || !setuid(65534));
		EQUAL(io->lock(context, "pf", &waiting, &waited), -EACCES);
		_exit(0);
	}
	EQUAL(waitpid(child, &status, 0), child);
	EQUAL(status, 0);
	tear_down();
}

/* ---- the kernel -------------------------------------------------------- */

static void open_real(struct ibh_host *host)
{
	const struct ibh_options options = { .sysfs = "/" };

	CHECK(!system_open(&options, &io, &context));
	memset(host, 0, sizeof(*host));
	host->io = io;
	host->context = context;
}

TEST(the_kernel_answers)
{
	struct vf_info *infos;
	struct ibh_host host;
	unsigned int before;
	size_t count;
	int i;

	open_real(&host);
	before = descriptors();
	for (i = 0; i < 20; i++) {
		EQUAL(netlink_ask(&host, 1, NULL, &infos, &count), 0);
		EQUAL(count, 0);
		free(infos);
		EQUAL(netlink_ask(&host, 0x7ffffff0, NULL, &infos, &count),
		      -ENODEV);
	}
	EQUAL(descriptors(), before);
	io->done(context);
}

/* It answers during the send, and drops what has no room (ENOBUFS). */
TEST(the_kernels_answers_are_never_more_than_the_socket_holds)
{
	static struct vf_set sets[3000];
	static size_t ends[3000];
	static int answers[3000];
	struct ibh_host host;
	size_t i;

	open_real(&host);
	for (i = 0; i < 3000; i++) {
		sets[i] = (struct vf_set){ 0, VF_NODE_GUID, 1 };
		ends[i] = i + 1;
	}
	netlink_set(&host, 1, sets, ends, 3000, answers, NULL, NULL);
	/* lo has no such operation; without the right to try, EPERM */
	CHECK(answers[0] == -EOPNOTSUPP || answers[0] == -EPERM);
	for (i = 1; i < 3000; i++)
		EQUAL(answers[i], answers[0]);
	io->done(context);
}

TEST(a_device_is_known_by_its_name)
{
	struct ibh_host host;
	unsigned int before;
	int ifindex = 0;
	char bus[32];

	open_real(&host);
	before = descriptors();
	/* lo has no driver that could tell */
	EQUAL(io->identify(context, "lo", &ifindex, bus), -EOPNOTSUPP);
	EQUAL(io->identify(context, "no-such-device", &ifindex, bus),
	      -ENODEV);
	EQUAL(io->identify(context, "", &ifindex, bus), -EINVAL);
	EQUAL(io->identify(context, "longer-than-they-get", &ifindex, bus),
	      -EINVAL);
	EQUAL(descriptors(), before);
	io->done(context);
}

/* ---- time -------------------------------------------------------------- */

TEST(time_goes_on)
{
	struct ibh_host host;
	uint64_t start;

	open_real(&host);
	start = io->now(context);
	io->sleep(context, 20);
	CHECK(io->now(context) >= start + 20);
	io->done(context);
}
