// SPDX-License-Identifier: Apache-2.0
/* The fourth step: write what is planned, grouped by PF, PFs in parallel. */
#include "batch.h"

/* ---- groups ------------------------------------------------------------ */

struct group {
	struct run *run;
	struct side *side;
	struct change **changes;
	size_t count;
	void (*work)(struct run *run, struct side *side,
		     struct change **changes, size_t count);
};

static void work_on(void *context, size_t at)
{
	struct group *group = (struct group *)context + at;

	if (group->side->mechanism != &foreign)
		group->work(group->run, group->side, group->changes,
			    group->count);
}

struct ibh_error *by_side(struct run *run, const struct changes *changes,
			  bool (*wanted)(const struct change *change),
			  void (*work)(struct run *run, struct side *side,
				       struct change **changes, size_t count))
{
	struct group *groups = calloc(run->side_count + 1, sizeof(*groups));
	struct change **sorted = calloc(changes->count + 1, sizeof(*sorted));
	size_t i, n, used = 0, count = 0;

	if (!groups || !sorted) {
		free(groups);
		free(sorted);
		return fail(T_MEMORY, NULL, NULL, 0, NULL, NULL, NULL);
	}
	for (i = 0; i < run->side_count; i++) {
		struct group *group = &groups[count];

		*group = (struct group){ run, &run->sides[i], sorted + used, 0,
					 work };
		for (n = 0; n < changes->count; n++)
			if (changes->changes[n]->side == group->side &&
			    wanted(changes->changes[n]))
				group->changes[group->count++] =
					changes->changes[n];
		used += group->count;
		count += group->count != 0;
	}
	each(count, run->host->io->at_once, work_on, groups);
	/* The caller's functions, in its own thread and while no other is at
	 * work: it may wait there for signals, or by green threads, which
	 * swap its stack. */
	for (i = 0; i < count; i++)
		if (groups[i].side->mechanism == &foreign)
			work(run, groups[i].side, groups[i].changes,
			     groups[i].count);
	free(groups);
	free(sorted);
	return NULL;
}

/* No driver checks the index, and what lies beyond is not ours to write to. */
size_t still_there(struct side *side, struct change **changes, size_t count)
{
	const struct ibh_pf *pf = side->pf;
	unsigned int numvfs = 0;
	struct ibh_error *error = pf_number(side->host, pf, "sriov_numvfs",
					    &numvfs);
	char text[16];
	size_t i, here = 0;

	format(text, sizeof(text), "%u", numvfs);
	for (i = 0; i < count; i++) {
		struct change *change = changes[i];

		if (!error && change->vf.index < numvfs) {
			changes[i] = changes[here];
			changes[here++] = change;
		} else if (error) {
			change->refusal = error_copy(error);
		} else {
			change->refusal = fail(T_GONE, change->address,
					       "sriov_numvfs", 0, pf->address,
					       text, NULL);
		}
	}
	ibh_error_free(error);
	return here;
}

/* ---- what failed ------------------------------------------------------- */

struct change *first_failed(const struct run *run)
{
	size_t i;

	for (i = 0; i < run->first.count; i++)
		if (run->first.changes[i]->error)
			return run->first.changes[i];
	for (i = 0; i < run->then.count; i++)
		if (run->then.changes[i]->error)
			return run->then.changes[i];
	return NULL;
}

bool any_failed(const struct run *run)
{
	return first_failed(run) != NULL;
}

const struct ibh_error *refusal(const struct run *run)
{
	size_t i;

	for (i = 0; i < run->count; i++)
		if (!run->answers[i].change && run->answers[i].result.error)
			return run->answers[i].result.error;
	return NULL;
}

/* ---- writing ----------------------------------------------------------- */

static bool is_due(const struct change *change)
{
	return change_needed(change) && !change->error;
}

static void write_group(struct run *run, struct side *side,
			struct change **changes, size_t count)
{
	size_t here = still_there(side, changes, count), i;

	for (i = 0; i < here; i++) {
		changes[i]->tried = true;
		changes[i]->put = changes[i]->write;
		changes[i]->owner = state_owner(&changes[i]->before);
	}
	if (here) {
		side->written = true;
		side->mechanism->write(side, changes, here, run);
	}
	for (i = 0; i < count; i++) {
		changes[i]->error = changes[i]->refusal;
		changes[i]->refusal = NULL;
	}
	progress(run, IBH_WRITE, count);
}

/* Every change of a list without an error gets this one. */
static void fail_all(struct changes *changes, struct ibh_error *error)
{
	size_t i;

	for (i = 0; i < changes->count; i++)
		if (!changes->changes[i]->error)
			changes->changes[i]->error = error_copy(error);
	ibh_error_free(error);
}

/* Those that are not begun any more. */
static void leave_all(const struct changes *changes)
{
	size_t i;

	for (i = 0; i < changes->count; i++)
		if (is_due(changes->changes[i]))
			changes->changes[i]->error =
				fail(T_REFUSED, changes->changes[i]->address,
				     NULL, EINTR, NULL, NULL, NULL);
}

static void write_all(struct run *run, struct changes *changes)
{
	struct ibh_error *error = NULL;

	if (!changes->count)
		return;
	if (!stopped(run))
		error = by_side(run, changes, is_due, write_group);
	else if (run->how->proceed) /* else it is told as rolled back */
		leave_all(changes);
	if (error)
		fail_all(changes, error);
}

/* Who was to get a GUID that could not be taken from another VF. */
static void pass_on(struct run *run)
{
	size_t i, n;

	for (i = 0; i < run->then.count; i++) {
		struct change *change = run->then.changes[i];

		for (n = 0; n < change->move_count && !change->error; n++)
			change->error = error_copy(change->moves[n]->error);
	}
}

void apply(struct run *run)
{
	bool together = !run->how->proceed;
	const struct ibh_error *refused = refusal(run);
	size_t i;

	if (together && refused) {
		/* What would have been done for it is not. */
		while (run->warning_count > run->doubt_count)
			free(run->warnings[--run->warning_count]);
		for (i = 0; i < run->then.count; i++)
			run->then.changes[i]->error =
				fail(T_LEFT_ALONE, run->then.changes[i]->address,
				     NULL, 0,
				     refused->device ? refused->device : "None",
				     NULL, NULL);
		return;
	}
	for (i = 0; i < run->first.count; i++)
		run->due += change_needed(run->first.changes[i]);
	for (i = 0; i < run->then.count; i++)
		run->due += change_needed(run->then.changes[i]);
	write_all(run, &run->first);
	pass_on(run);
	if (!(together && any_failed(run)))
		write_all(run, &run->then);
}
