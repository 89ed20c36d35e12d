// SPDX-License-Identifier: Apache-2.0
/* Work in threads. */
#include "host.h"

#include <signal.h>
#include <sys/resource.h>

#include "check.h"

#define MOST 1000

static atomic_uint done[MOST], now, most;
static pthread_barrier_t barrier;
static pthread_t caller;
static atomic_bool caller_worked;

static void note(void *context, size_t i)
{
	unsigned int at_once = atomic_fetch_add(&now, 1) + 1;
	unsigned int seen = atomic_load(&most);

	CHECK(context == done);
	while (at_once > seen &&
	       !atomic_compare_exchange_weak(&most, &seen, at_once))
		;
	atomic_fetch_add(&done[i], 1);
	if (pthread_equal(pthread_self(), caller))
		atomic_store(&caller_worked, true);
	atomic_fetch_sub(&now, 1);
}

static void do_all(size_t count, unsigned int at_once)
{
	size_t i;

	memset(done, 0, sizeof(done));
	atomic_store(&most, 0);
	caller = pthread_self();
	each(count, at_once, note, done);
	for (i = 0; i < MOST; i++)
		EQUAL(done[i], i < count);
	EQUAL(now, 0);
	CHECK(most <= (at_once ? at_once : 1));
}

TEST(everything_is_done_once)
{
	do_all(0, 16);
	do_all(1, 16);
	do_all(MOST, 0);
	do_all(MOST, 1);
	do_all(MOST, 2);
	do_all(MOST, 16);
	do_all(MOST, 100000);
}

static void meet(void *context, size_t i)
{
	sigset_t mask;

	(void)context;
	(void)i;
	/* A signal finds the caller, who is asked whether to stop. */
	CHECK(!pthread_sigmask(SIG_SETMASK, NULL, &mask));
	EQUAL(sigismember(&mask, SIGINT),
	      !pthread_equal(pthread_self(), caller));
	pthread_barrier_wait(&barrier);
}

/* Nobody passes before all are there. */
TEST(it_is_done_at_once)
{
	caller = pthread_self();
	CHECK(!pthread_barrier_init(&barrier, NULL, 16));
	each(16, 16, meet, NULL);
	pthread_barrier_destroy(&barrier);
}

/* Without threads the caller does it alone. */
TEST(where_no_thread_can_be_had)
{
	struct rlimit none = { 0, 0 };

	CHECK(!setrlimit(RLIMIT_AS, &none));
	atomic_store(&caller_worked, false);
	do_all(MOST, 16);
	EQUAL(most, 1);
	CHECK(caller_worked);
}
