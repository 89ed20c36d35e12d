// SPDX-License-Identifier: Apache-2.0
/* The locks of a batch's PFs, and those that could not be had. */
#include "batch.h"

#define SEARCH_MS 5000 /* for the lock of a PF that is only searched */

static struct ibh_error *no_memory(void)
{
	return fail(T_MEMORY, NULL, NULL, 0, NULL, NULL, NULL);
}

static int asked_to_stop(void *run)
{
	return stopped(run);
}

/* Whether anything of the PF with this side first was written to. There may
 * be no sides any more: they are forgotten while a lock is waited for. */
static bool is_written(const struct run *run, size_t i)
{
	size_t first = i;

	for (; i < run->side_count &&
	       run->sides[i].pf == run->sides[first].pf; i++)
		if (run->sides[i].written)
			return true;
	return false;
}

void drop_locks(struct run *run)
{
	while (run->lock_count) {
		size_t i = --run->lock_count;

		if (run->locks[i] >= 0)
			run->host->io->unlock(run->host->context,
					      run->locks[i],
					      is_written(run, i));
	}
	free(run->locks);
	run->locks = NULL;
}

/* The first of a PF's sides, by which its lock is known. */
static size_t first_side(const struct run *run, size_t i)
{
	while (i && run->sides[i].pf == run->sides[i - 1].pf)
		i--;
	return i;
}

static bool has_mine(const struct run *run, size_t i)
{
	const struct ibh_pf *pf = run->sides[i].pf;

	for (; i < run->side_count && run->sides[i].pf == pf; i++)
		if (run->sides[i].has_mine)
			return true;
	return false;
}

/* A PF that has none of the batch's VFs, and is only searched for their GUIDs,
 * is not waited for as long: one that is stuck must not stop the others. */
static unsigned int patience(const struct run *run, size_t i)
{
	unsigned int most = run->host->lock_ms;

	return has_mine(run, i) || most < SEARCH_MS ? most : SEARCH_MS;
}

static struct ibh_error *no_lock(const struct run *run, size_t i)
{
	i = first_side(run, i);
	return lock_error(run->host, run->sides[i].pf->address,
			  run->locks[i], patience(run, i));
}

/* In the order of addresses, so that no two batches wait for each other. */
struct ibh_error *take_locks(struct run *run, bool *waited)
{
	const struct io *io = run->host->io;
	uint64_t now = io->now(run->host->context);
	struct waiting waiting = {
		.stop = asked_to_stop,
		.context = run,
	};
	size_t i;

	*waited = false;
	run->locks = calloc(run->side_count + 1, sizeof(*run->locks));
	if (!run->locks)
		return no_memory();
	for (i = 0; i < run->side_count; i++) {
		bool had_to_wait = false;

		run->lock_count = i + 1;
		run->locks[i] = -ENOLCK; /* another side's */
		if (first_side(run, i) != i)
			continue;
		waiting.deadline = now + patience(run, i);
		run->locks[i] = io->lock(run->host->context,
					 run->sides[i].pf->address, &waiting,
					 &had_to_wait);
		*waited |= had_to_wait;
		if (run->locks[i] >= 0)
			continue;
		/* Without it nothing of this PF is read or written. */
		if (run->locks[i] == -EINTR || has_mine(run, i))
			return no_lock(run, i);
	}
	return NULL;
}

const struct ibh_error *locked_out(const struct run *run, size_t side)
{
	return run->locks && run->locks[first_side(run, side)] < 0 ?
		       run->sides[side].trouble :
		       NULL;
}

/* Sides whose lock is another's. */
void leave_locked(struct run *run)
{
	size_t i;

	for (i = 0; i < run->side_count; i++)
		if (run->locks[first_side(run, i)] < 0)
			run->sides[i].trouble = no_lock(run, i);
}
