/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tests of a part of the engine: a program, which runs the one that is
 * named, in an empty folder. tests/unit/test_engine.py builds and runs it.
 */
#ifndef IBHOSTDEV_TESTS_CHECK_H
#define IBHOSTDEV_TESTS_CHECK_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(what)                                                         \
	do {                                                                \
		if (!(what)) {                                              \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__,    \
				__LINE__, #what);                           \
			_exit(1);                                           \
		}                                                           \
	} while (0)

#define EQUAL(seen, wanted)                                                 \
	do {                                                                \
		long long seen_ = (long long)(seen);                        \
		long long wanted_ = (long long)(wanted);                    \
									    \
		if (seen_ != wanted_) {                                     \
			fprintf(stderr, "%s:%d: %s is %lld, not %lld\n",    \
				__FILE__, __LINE__, #seen, seen_, wanted_); \
			_exit(1);                                           \
		}                                                           \
	} while (0)

/* How many are open. */
static inline unsigned int descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int count = 0;

	CHECK(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

struct test {
	const char *name;
	void (*run)(void);
	struct test *next;
};

static struct test *tests;

#define TEST(what)                                                          \
	static void what(void);                                             \
	__attribute__((constructor)) static void add_##what(void)           \
	{                                                                   \
		static struct test test = { .name = #what, .run = what };   \
									    \
		test.next = tests;                                          \
		tests = &test;                                              \
	}                                                                   \
	static void what(void)

int main(int argc, char **argv)
{
	const struct test *test;

	for (test = tests; test; test = test->next) {
		if (argc != 2 || strcmp(argv[1], test->name))
			continue;
		/* What hangs is no success: the program is to end. */
		alarm(300);
		test->run();
		return 0;
	}
	return 2;
}

#endif
