/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must hold of a call, whatever went wrong on the way. What does not is
 * told by scripted_wrong().
 */
#ifndef JUDGE_H
#define JUDGE_H

#include "cases.h"

/* A call on a scene's host: what it found, and what it answered. */
struct trial {
	const struct scene *scene;
	struct scripted *system;
	struct ibh_host *host; /* that is kept open from call to call */
	struct machine start; /* as it was when the call began */
	struct ibh_state states[BATCH]; /* of BACK */
	/* what BACK is to end in; of the others unused */
	struct machine origin;
	int answer;
	struct ibh_batch *batch;
	struct ibh_error *error;
};

/* For scripted->watch: of each command, whether the batch may have it. */
void judge_command(struct scripted *system, struct caller *caller,
		   const struct command *command);
/* For scripted->patience: a PF that is only searched is not waited for as
 * long as one that VIFs are on. */
void judge_patience(struct scripted *system, struct caller *caller,
		    unsigned int pf, uint64_t ms);
/* For scripted->meanwhile: what happens, by number. */
enum { GUEST_TAKES, VFS_GO, MEANWHILE };
void judge_meanwhile(struct scripted *system, struct caller *caller,
		     int number);
/* Of the end: start, goal, or reported. */
void judge_end(struct trial *trial);
/* EPERM is in no error, unless a script says so. */
void judge_errnos(struct trial *trial);
/* Whether all was done that was asked for. */
bool judge_done(const struct trial *trial);
/* Whether all VFs have the same identities. */
bool judge_same(const struct machine *one, const struct machine *other);
/* Of a caller that died: whatever it left, nobody else's was touched. */
void judge_others(const struct trial *trial);
/* What came of a call; the host remains. */
void trial_clear(struct trial *trial);
void trial_close(struct trial *trial);
/* Makes the call, on a new host if there is none. */
void trial_run(struct trial *trial, unsigned int caller);
void trial_print(const struct trial *trial);

#endif
