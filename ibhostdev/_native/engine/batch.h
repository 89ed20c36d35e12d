/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of a batch, and what they hand on. */
#ifndef IBHOSTDEV_ENGINE_BATCH_H
#define IBHOSTDEV_ENGINE_BATCH_H

#include "mechanism.h"

/* ---- a batch ----------------------------------------------------------- */

enum job { PLUG, UNPLUG, RESTORE, ADJUST };

/* The VF that a VIF's address leads to, or why to none. */
struct place {
	const struct ibh_pf *pf;
	unsigned int port;
	struct ibh_vf vf;
	struct side *side;
	struct ibh_error *error;
};

/* What is said of a VIF: of its change, or a result where there is nothing
 * to write. */
struct answer {
	struct change *change;
	struct ibh_result result;
};

/* A VF that holds a GUID which a VIF names. */
struct holder {
	struct side *side;
	struct ibh_vf vf;
	bool there; /* else it vanished meanwhile */
	struct holder *next;
};

/* An idle VF that may show its old identity. */
struct stale {
	const struct ibh_pf *pf;
	struct ibh_vf vf;
	uint64_t guid;
};

struct changes {
	struct change **changes;
	size_t count, size;
};

struct run {
	struct ibh_host *host;
	enum job job;
	const struct ibh_vif *vifs;
	size_t count;
	const struct ibh_how *how;
	const struct ibh_state *states; /* to restore or to adjust to */

	struct table *guids; /* the VIFs by their GUIDs */
	struct topology *topology;
	struct place *places; /* [count] */
	size_t side_count;
	struct side *sides; /* by PCI address and port */
	int *locks; /* by side; handles, or negative errnos */
	size_t lock_count;
	bool blind; /* some PF could not be asked */
	struct dump *dump; /* of all PFs; while nothing is written */
	struct holder **holders; /* [count]: of each VIF's GUIDs */

	char cause[IBH_PCI_TEXT + 16]; /* of what is undone */
	struct changes first; /* to be made idle before the others */
	struct changes then; /* the batch itself */
	struct answer *answers; /* [count] */
	struct stale *stale; /* [count] */
	size_t stale_count;
	char **warnings;
	size_t warning_count, doubt_count; /* the first are of the survey */
	struct ibh_batch *batch; /* to be filled by report() */

	pthread_t caller;
	pthread_mutex_t mutex; /* of progress */
	atomic_bool stopped;
	size_t due, done[IBH_STAGES]; /* progress */
};

/* The steps. An error of these ends the batch, with nothing written. */
struct ibh_error *check(struct run *run);
struct ibh_error *resolve(struct run *run);
struct ibh_error *plan(struct run *run);
/* What goes wrong in these is in the changes. */
void apply(struct run *run);
void verify(struct run *run);
void undo(struct run *run);
void forget(struct run *run); /* foreign.c */
void refresh(struct run *run); /* rebind.c */
/* What is written must not go untold: memory for that is had before. */
struct ibh_error *report_ready(struct run *run);
struct ibh_batch *report(struct run *run);

/* check.c: numbers by which something is found again; keys are other than 0,
 * one that is there already is left and told: its value, or -1. */
struct table;
struct table *table_new(size_t count);
ssize_t table_add(struct table *table, uint64_t key, size_t value);
ssize_t table_find(const struct table *table, uint64_t key);
uint64_t vif_node_guid(const struct ibh_vif *vif);

/* hold.c: *waited says whether anything had to be waited for. */
struct ibh_error *take_locks(struct run *run, bool *waited);
void drop_locks(struct run *run);
/* Sides whose lock is another's get that for their trouble. */
void leave_locked(struct run *run);
/* Why a side was not looked at: another has its lock; NULL if nobody has. */
const struct ibh_error *locked_out(const struct run *run, size_t side);

/* resolve.c */
void forget_places(struct run *run);

/* plan.c, plug.c, unplug.c, restore.c, adjust.c */
struct ibh_error *plan_plug(struct run *run);
struct ibh_error *plan_unplug(struct run *run);
/* Where states are given: `want` says what becomes of the VF that a VIF names,
 * or why nothing does, which is the VIF's own error. */
typedef struct ibh_error *want_t(struct change *change,
				 const struct ibh_vif *vif,
				 const struct ibh_state *state);
struct ibh_error *plan_each(struct run *run, want_t *want);
struct ibh_error *plan_restore(struct run *run);
struct ibh_error *plan_adjust(struct run *run);
/* A change of a VF on a side, to be filled; NULL without memory. */
struct change *change_new(struct side *side, const struct ibh_vf *vf,
			  const struct ibh_vif *vif);
/* … that makes it idle. */
struct change *change_idle(struct side *side, const struct ibh_vf *vf,
			   const struct ibh_vif *vif);
void change_free(struct change *change);
/* Takes the change over, also when it fails. */
struct ibh_error *changes_add(struct changes *changes, struct change *change);
/* The same without taking it over. */
struct ibh_error *changes_list(struct changes *changes,
			       struct change *change);
struct change *changes_find(const struct changes *changes,
			    const struct side *side, unsigned int index);
/* The same for a VF that holds a VIF's GUID, which may hold another's. */
struct change *changes_sharing(const struct changes *changes,
			       const struct side *side, unsigned int index);
/* The one of a VIF's GUIDs that is held there. */
uint64_t guid_held(const struct ibh_vif *vif, const struct holder *holder);
/* `change` comes after that of a VF that is made idle, if that is done. */
struct ibh_error *come_after(struct change *change, struct change *moved);
/* A VF that holds a VIF's GUID is made idle, once, and before `change`. */
struct ibh_error *move_first(struct run *run, const struct ibh_vif *vif,
			     struct holder *holder, struct change *change);
bool change_needed(const struct change *change);
/* What of the wanted is not there yet. */
struct ibh_state difference(const struct ibh_state *before,
			    const struct ibh_state *wanted);
/* The state of the VF of a side, or why it cannot be told. */
struct ibh_error *state_of(const struct side *side, const struct ibh_vf *vf,
			   struct ibh_state *state);
/* Whether the VFs of a side are on another fabric than a VIF, where its GUID
 * may be somebody else's; and an unplug takes nothing from a network that it
 * does not name, whoever says which is which. */
bool apart(const struct run *run, const struct ibh_vif *vif,
	   const struct side *side);
/* Whether the VF may have any GUID for all that is known: one that is idle
 * has its link down. */
bool is_untold(const struct ibh_state *state);
void answer_error(struct run *run, size_t vif, const struct ibh_state *wanted,
		  struct ibh_error *error);
/* An error if memory is out. */
struct ibh_error *warn(struct run *run, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* apply.c: the changes for which `wanted` is true, grouped by side, each
 * group given to `work`, sides in parallel. */
struct ibh_error *by_side(struct run *run, const struct changes *changes,
			  bool (*wanted)(const struct change *change),
			  void (*work)(struct run *run, struct side *side,
				       struct change **changes, size_t count));
/* Those of a group whose VF is still enabled, first, and their number; the
 * others get a refusal. */
size_t still_there(struct side *side, struct change **changes, size_t count);
bool any_failed(const struct run *run);
struct change *first_failed(const struct run *run);
/* A result's error that says a VIF cannot be served at all; NULL. */
const struct ibh_error *refusal(const struct run *run);

/* verify.c: sets after, verified and doubt of each change from what it
 * reads. */
void look_back(struct side *side, struct change **changes, size_t count,
	       bool settle);
struct ibh_state overlaid(const struct ibh_state *state,
			  const struct ibh_state *written);
/* Whether a VF is what it was; what could not be shown was idle. */
bool same_state(const struct ibh_state *before, const struct ibh_state *after);
bool same_pkeys(const struct ibh_state *a, const struct ibh_state *b);

/* drive.c: writes a VF's address to a file of its driver's, bind or unbind,
 * several times while firmware is not ready; a negative errno. */
int drive_poke(struct ibh_host *host, const char *driver, const char *action,
	       const char *address);
/* What a link of a device's leads to: a length or a negative errno. */
ssize_t drive_target(struct ibh_host *host, const char *address,
		     const char *link, char name[IBH_NAME]);

/* run.c: whether somebody wants it to end. */
bool stopped(struct run *run);
void progress(struct run *run, enum ibh_stage stage, size_t count);

#endif
