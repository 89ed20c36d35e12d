// SPDX-License-Identifier: Apache-2.0
/* Work that waits for the kernel, in threads. */
#include "host.h"

#include <signal.h>

#define MAX_THREADS 256

struct crew {
	void (*work)(void *context, size_t i);
	void *context;
	size_t count;
	atomic_size_t next;
};

static void *labour(void *context)
{
	struct crew *crew = context;
	size_t i;

	while ((i = atomic_fetch_add(&crew->next, 1)) < crew->count)
		crew->work(crew->context, i);
	return NULL;
}

/* Signals are for the program's own threads, which know what to do and which
 * the caller, who is asked whether to stop, is one of. */
static void hire(struct crew *crew, pthread_t *threads, unsigned int *hired,
		 unsigned int wanted)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	while (*hired < wanted &&
	       !pthread_create(&threads[*hired], NULL, labour, crew))
		++*hired;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void each(size_t count, unsigned int at_once,
	  void (*work)(void *context, size_t i), void *context)
{
	struct crew crew = { .work = work, .context = context, .count = count };
	pthread_t threads[MAX_THREADS];
	unsigned int hired = 0;

	if (at_once > count)
		at_once = (unsigned int)count;
	if (at_once > MAX_THREADS)
		at_once = MAX_THREADS;
	if (at_once > 1)
		hire(&crew, threads, &hired, at_once - 1);
	labour(&crew);
	while (hired)
		pthread_join(threads[--hired], NULL);
}
