// SPDX-License-Identifier: Apache-2.0
/* What became of a batch, for who asked for it. */
#include "internal.h"

static void result_of(const struct run *run, struct change *change,
		      struct ibh_result *result)
{
	bool dry_run = run->how->dry_run, needed = change_needed(change);

	*result = (struct ibh_result){
		.pci = change->vf.pci,
		.has_pci = true,
		.wanted = change->wanted,
		.before = change->before,
		.after = change->after,
		.has_before = true,
		.has_after = change->has_after,
		.mechanism = change->side->mechanism->id,
		.verified = change->verified && !change->error &&
			    !(dry_run && needed),
		/* Two VIFs may share a change. */
		.error = error_copy(change->error),
	};
	if (!change->has_after && !change->tried && !dry_run) {
		result->after = change->before;
		result->has_after = true;
	}
	result->changed = dry_run ? needed :
				    change->tried &&
					    !(result->has_after &&
					      same_state(&change->before,
							 &result->after));
}

struct ibh_error *report(struct run *run, struct ibh_batch **made)
{
	struct ibh_batch *batch = calloc(1, sizeof(*batch));
	size_t i;

	if (batch)
		batch->results = calloc(run->count + 1,
					sizeof(*batch->results));
	if (!batch || !batch->results) {
		free(batch);
		return fail(T_MEMORY, NULL, NULL, 0, NULL, NULL, NULL);
	}
	batch->count = run->count;
	batch->stopped = atomic_load(&run->stopped);
	for (i = 0; i < run->count; i++) {
		struct answer *answer = &run->answers[i];

		if (answer->change) {
			result_of(run, answer->change, &batch->results[i]);
		} else {
			batch->results[i] = answer->result;
			answer->result.error = NULL;
		}
		batch->failed += batch->results[i].error != NULL;
	}
	batch->warnings = run->warnings;
	batch->warning_count = run->warning_count;
	run->warnings = NULL;
	run->warning_count = 0;
	*made = batch;
	return NULL;
}

void ibh_batch_free(struct ibh_batch *batch)
{
	size_t i;

	if (!batch)
		return;
	for (i = 0; i < batch->count; i++)
		ibh_error_free(batch->results[i].error);
	for (i = 0; i < batch->warning_count; i++)
		free(batch->warnings[i]);
	free(batch->warnings);
	free(batch->results);
	free(batch);
}
