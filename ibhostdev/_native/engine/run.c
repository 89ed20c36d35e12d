// SPDX-License-Identifier: Apache-2.0
/* A batch, from its VIFs to its results. */
#include "batch.h"

bool stopped(struct run *run)
{
	/* Only the caller's own thread may call back into it. */
	if (run->how->stop && !atomic_load(&run->stopped) &&
	    pthread_equal(pthread_self(), run->caller) &&
	    run->how->stop(run->how->context))
		atomic_store(&run->stopped, true);
	return atomic_load(&run->stopped);
}

void progress(struct run *run, enum ibh_stage stage, size_t count)
{
	if (!run->how->progress)
		return;
	pthread_mutex_lock(&run->mutex);
	run->done[stage] += count;
	run->how->progress(run->how->context, stage, run->done[stage],
			   run->due);
	pthread_mutex_unlock(&run->mutex);
}

/* Write the plan and verify it; what fails, or is to stop, is undone, unless
 * the others are to go on. */
static void carry_out(struct run *run)
{
	bool ended;

	apply(run);
	verify(run);
	/* From here on it is done or undone. A VF that is not bound anew
	 * because of a later stop is told as failed. */
	ended = stopped(run);
	if (!run->how->proceed && (any_failed(run) || ended))
		undo(run);
	if (run->job == UNPLUG && !ended)
		forget(run);
	drop_locks(run);
	/* Without the locks: it takes long, and concerns the VF alone. */
	if (run->job == UNPLUG && !run->how->keep_bound && !ended)
		refresh(run);
}

static struct ibh_error *steps(struct run *run, struct ibh_batch **batch)
{
	struct ibh_error *error;

	if ((error = check(run)) || (error = resolve(run)) ||
	    (error = plan(run)) || (error = report_ready(run)))
		return error;
	if (!run->how->dry_run)
		carry_out(run);
	*batch = report(run);
	return NULL;
}

static void clear(struct run *run)
{
	size_t i;

	drop_locks(run);
	ibh_batch_free(run->batch);
	for (i = 0; run->holders && i < run->count; i++) {
		while (run->holders[i]) {
			struct holder *next = run->holders[i]->next;

			free(run->holders[i]);
			run->holders[i] = next;
		}
	}
	free(run->holders);
	for (i = 0; i < run->first.count; i++)
		change_free(run->first.changes[i]);
	for (i = 0; i < run->then.count; i++)
		change_free(run->then.changes[i]);
	free(run->first.changes);
	free(run->then.changes);
	for (i = 0; run->answers && i < run->count; i++)
		if (!run->answers[i].change)
			ibh_error_free(run->answers[i].result.error);
	free(run->answers);
	free(run->stale);
	for (i = 0; i < run->warning_count; i++)
		free(run->warnings[i]);
	free(run->warnings);
	free(run->guids);
	forget_places(run);
	host_sockets_close(run->host);
	pthread_mutex_destroy(&run->mutex);
}

static int run(struct ibh_host *host, enum job job, const struct ibh_vif *vifs,
	       const struct ibh_state *states, size_t count,
	       const struct ibh_how *how, struct ibh_batch **batch,
	       struct ibh_error **error)
{
	static const struct ibh_how usual;
	struct run run = {
		.host = host,
		.job = job,
		.vifs = vifs,
		.states = states,
		.count = count,
		.how = how ? how : &usual,
		.caller = pthread_self(),
	};

	pthread_mutex_init(&run.mutex, NULL);
	*error = steps(&run, batch);
	clear(&run);
	return *error ? -1 : 0;
}

int ibh_plug(struct ibh_host *host, const struct ibh_vif *vifs, size_t count,
	     const struct ibh_how *how, struct ibh_batch **batch,
	     struct ibh_error **error)
{
	return run(host, PLUG, vifs, NULL, count, how, batch, error);
}

int ibh_unplug(struct ibh_host *host, const struct ibh_vif *vifs, size_t count,
	       const struct ibh_how *how, struct ibh_batch **batch,
	       struct ibh_error **error)
{
	return run(host, UNPLUG, vifs, NULL, count, how, batch, error);
}

int ibh_restore(struct ibh_host *host, const struct ibh_vif *vifs,
		const struct ibh_state *states, size_t count,
		struct ibh_batch **batch, struct ibh_error **error)
{
	static const struct ibh_how each_alone = { .proceed = true };

	return run(host, RESTORE, vifs, states, count, &each_alone, batch,
		   error);
}

int ibh_adjust(struct ibh_host *host, const struct ibh_vif *vifs,
	       const struct ibh_state *states, size_t count,
	       struct ibh_batch **batch, struct ibh_error **error)
{
	static const struct ibh_how each_alone = { .proceed = true };

	return run(host, ADJUST, vifs, states, count, &each_alone, batch,
		   error);
}
