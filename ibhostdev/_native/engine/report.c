// SPDX-License-Identifier: Apache-2.0
/* What became of a batch, for who asked for it. */
#include "batch.h"

static bool is_own(const struct ibh_error *error)
{
	return error && error->kind != IBH_ROLLED_BACK;
}

/* What is wrong with a VF that had to be made idle for another's sake is told
 * with that other's result: it has none of its own. */
static const struct ibh_error *error_of_all(const struct change *change)
{
	size_t i;

	for (i = 0; i < change->move_count && !is_own(change->error); i++)
		if (is_own(change->moves[i]->error))
			return change->moves[i]->error;
	return change->error;
}

/* … or as a warning, if that has an error besides. */
static struct ibh_error *warn_of_moves(struct run *run,
				       const struct change *change)
{
	const struct ibh_error *told = error_of_all(change), *other;
	struct ibh_error *error = NULL;
	char text[1024];
	size_t i;

	for (i = 0; i < change->move_count && !error; i++) {
		const struct change *moved = change->moves[i];

		other = moved->error;
		if (!other || other == told ||
		    other->kind != IBH_ROLLBACK_FAILED)
			continue;
		/* One that is a VIF's is told of there. */
		if (changes_find(&run->then, moved->side, moved->vf.index))
			continue;
		ibh_error_text(other, text, sizeof(text));
		error = warn(run, "%s", text);
	}
	return error;
}

/* mlx4: a VF is in another partition than before, which no GUID tells. */
static bool changes_partition(const struct change *change)
{
	const struct ibh_state *before = &change->before;
	const struct ibh_state *write = &change->write;

	if (write->have == IBH_HAVE_PKEYS)
		return true;
	return write->have & IBH_HAVE_PKEY &&
	       !(before->have & IBH_HAVE_PKEY && before->pkey == write->pkey);
}

static void result_of(const struct run *run, struct change *change,
		      struct ibh_result *result)
{
	bool dry_run = run->how->dry_run, needed = change_needed(change);
	const struct ibh_error *error = error_of_all(change);
	const struct change *done = change;

	*result = (struct ibh_result){
		.pci = change->vf.pci,
		.has_pci = true,
		.wanted = change->wanted,
		.before = change->before,
		.after = change->after,
		.has_before = true,
		.has_after = change->has_after,
		.mechanism = change->side->mechanism->id,
		/* Who was told to stop has not looked back. */
		.verified = change->verified && !error &&
			    !(dry_run && needed) &&
			    (change->has_after || !change->tried),
		/* Two VIFs may share a change. */
		.error = error_copy(error),
	};
	if (dry_run) {
		result->changed = needed;
		return;
	}
	/* It may have been made idle for another before its own turn. */
	if (!change->tried)
		done = changes_find(&run->first, change->side,
				    change->vf.index);
	/* One that was to be put back, and is left idle, is none that is
	 * tried any more. */
	if (done && (done->tried || done->has_after)) {
		result->after = done->after;
		result->has_after = done->has_after;
		result->verified = result->verified && done->verified;
	} else {
		result->after = change->before;
		result->has_after = true;
	}
	result->changed = !result->has_after ||
			  !same_state(&change->before, &result->after) ||
			  (change->tried && !error &&
			   changes_partition(change));
}

struct ibh_error *report_ready(struct run *run)
{
	run->batch = calloc(1, sizeof(*run->batch));
	if (run->batch) {
		run->batch->results = calloc(run->count + 1,
					     sizeof(*run->batch->results));
		run->batch->moved = calloc(run->first.count + 1,
					   sizeof(*run->batch->moved));
	}
	if (!run->batch || !run->batch->results || !run->batch->moved)
		return fail(T_MEMORY, NULL, NULL, 0, NULL, NULL, NULL);
	return NULL;
}

struct ibh_batch *report(struct run *run)
{
	struct ibh_batch *batch = run->batch;
	size_t i;

	run->batch = NULL;
	batch->count = run->count;
	batch->stopped = atomic_load(&run->stopped);
	for (i = 0; i < run->count; i++) {
		struct answer *answer = &run->answers[i];

		if (answer->change) {
			ibh_error_free(warn_of_moves(run, answer->change));
			result_of(run, answer->change, &batch->results[i]);
		} else {
			batch->results[i] = answer->result;
			answer->result.error = NULL;
		}
		batch->failed += batch->results[i].error != NULL;
	}
	for (i = 0; i < run->first.count; i++) {
		struct change *moved = run->first.changes[i];

		/* One that is a VIF's has its result there. */
		if (!changes_find(&run->then, moved->side, moved->vf.index))
			result_of(run, moved,
				  &batch->moved[batch->moved_count++]);
	}
	batch->warnings = run->warnings;
	batch->warning_count = run->warning_count;
	run->warnings = NULL;
	run->warning_count = 0;
	return batch;
}

void ibh_batch_free(struct ibh_batch *batch)
{
	size_t i;

	if (!batch)
		return;
	for (i = 0; i < batch->count; i++)
		ibh_error_free(batch->results[i].error);
	for (i = 0; i < batch->moved_count; i++)
		ibh_error_free(batch->moved[i].error);
	for (i = 0; i < batch->warning_count; i++)
		free(batch->warnings[i]);
	free(batch->warnings);
	free(batch->results);
	free(batch->moved);
	free(batch);
}
