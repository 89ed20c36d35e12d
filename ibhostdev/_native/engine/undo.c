// SPDX-License-Identifier: Apache-2.0
/* What is done where a batch failed, or was told to stop: everything that was
 * tried is put back to what was found. */
#include "batch.h"

/* The change that made a VF idle before its own turn; NULL if none did. */
static struct change *made_idle(const struct run *run,
				const struct change *change)
{
	struct change *moved = changes_find(&run->first, change->side,
					    change->vf.index);

	return moved != change && moved && moved->tried ? moved : NULL;
}

/* One that was made idle before is so again, until those are put back that
 * were: in whatever order they are written, no two have a GUID. */
static const struct ibh_state *goal_of(const struct run *run,
				       const struct change *change)
{
	const struct change *moved = made_idle(run, change);

	return moved ? &moved->wanted : &change->before;
}

/* What the kernel could not show (netlink's GUID 0 is "not known") goes back
 * to idle. */
static struct ibh_state undo_of(const struct run *run,
				const struct change *change)
{
	const struct ibh_state *before = goal_of(run, change);
	struct ibh_state undo = *before;

	undo.pending = false;
	undo.have = change->write.have &
		    (IBH_HAVE_NODE | IBH_HAVE_PORT | IBH_HAVE_POLICY);
	if (!(before->have & IBH_HAVE_NODE))
		undo.node = IBH_GUID_IDLE;
	if (!(before->have & IBH_HAVE_PORT))
		undo.port = IBH_GUID_IDLE;
	if (!(before->have & IBH_HAVE_POLICY))
		undo.policy = IBH_DOWN;
	undo.have |= before->have & IBH_HAVE_PKEYS;
	return undo;
}

static const char *cause(const struct run *run)
{
	const struct change *failed = first_failed(run);

	return failed ? failed->address : "an interruption";
}

static void judge(const struct run *run, struct change *change)
{
	const struct ibh_error *trouble =
		change->refusal ? change->refusal : change->doubt;
	const struct ibh_state *goal = goal_of(run, change);
	struct ibh_error *error;
	char text[1024];

	if (change->refusal && !change->error && !change->verified) {
		/* Nothing shows what it is. By its own word it has taken what
		 * was written, and not given it up. */
		change->after = overlaid(&change->before, &change->write);
		change->has_after = true;
	} else if (change->refusal && !change->verified &&
		   change->side->mechanism == &mlx5_netlink &&
		   !mlx5_netlink_shows(change->side)) {
		change->has_after = false; /* it may have taken a part */
	}
	/* One that refuses everything may not have changed at all. */
	if (!trouble ||
	    (change->has_after && same_state(goal, &change->after) &&
	     (!(goal->have & IBH_HAVE_PKEYS) ||
	      same_pkeys(goal, &change->seen))))
		return;
	if (change->error)
		ibh_error_text(change->error, text, sizeof(text));
	error = fail(T_NOT_PUT_BACK, change->address, trouble->attribute,
		     trouble->number, trouble->message,
		     change->error ? text : run->cause, NULL);
	ibh_error_free(change->error);
	change->error = error;
}

static bool is_gone(const struct change *change)
{
	return change->refusal->kind == IBH_DEVICE_NOT_FOUND;
}

static void undo_group(struct run *run, struct side *side,
		       struct change **changes, size_t count)
{
	size_t here = still_there(side, changes, count), i;

	for (i = 0; i < here; i++) {
		changes[i]->put = undo_of(run, changes[i]);
		changes[i]->owner = state_owner(&changes[i]->wanted);
		if (!changes[i]->owner)
			changes[i]->owner = state_owner(&changes[i]->before);
	}
	if (here) {
		side->mechanism->write(side, changes, here, NULL);
		look_back(side, changes, here, false);
	}
	for (i = 0; i < count; i++) {
		if (i >= here && is_gone(changes[i])) {
			/* There is nothing to put back. */
			ibh_error_free(changes[i]->error);
			changes[i]->error = changes[i]->refusal;
			changes[i]->refusal = NULL;
		}
		judge(run, changes[i]);
		ibh_error_free(changes[i]->refusal);
		ibh_error_free(changes[i]->doubt);
		changes[i]->refusal = changes[i]->doubt = NULL;
	}
}

/* Whether a VF may have what it was to have, after all. */
static bool may_have(const struct change *change)
{
	const struct ibh_state *after = &change->after;

	return !change->has_after || after->port == change->wanted.port ||
	       after->node == change->wanted.node;
}

/* Who was made idle for a VF that could not be put back stays so: else both
 * would have the GUID. */
static void leave_idle(const struct run *run, const struct change *change)
{
	char why[IBH_PCI_TEXT + 48];
	size_t i;

	if (!change->error || change->error->kind != IBH_ROLLBACK_FAILED ||
	    !may_have(change))
		return;
	format(why, sizeof(why), "%s may still have its GUID",
	       change->address);
	for (i = 0; i < change->move_count; i++) {
		struct change *moved = change->moves[i];

		if (!moved->tried)
			continue;
		moved->tried = false;
		if (!moved->has_after) {
			/* Nobody has looked back; it was agreed to. */
			moved->after = overlaid(&moved->before, &moved->write);
			moved->has_after = true;
		}
		ibh_error_free(moved->error);
		moved->error = fail(T_NOT_PUT_BACK, moved->address, NULL, 0,
				    why, run->cause, NULL);
	}
}

/* What became of a VF that was put back in two steps. */
static void sum_up(const struct run *run, struct change *change)
{
	const struct change *moved = changes_find(&run->first, change->side,
						  change->vf.index);

	if (!moved)
		return;
	if (change->tried) {
		change->after = moved->after;
		change->has_after = moved->has_after;
	}
	if (!moved->error || moved->error->kind != IBH_ROLLBACK_FAILED ||
	    (change->error && change->error->kind == IBH_ROLLBACK_FAILED))
		return;
	ibh_error_free(change->error);
	change->error = error_copy(moved->error);
}

static bool is_tried(const struct change *change)
{
	return change->tried;
}

/* Where there is no memory to group them, one by one. */
static void undo_list(struct run *run, struct changes *changes)
{
	struct ibh_error *error = by_side(run, changes, is_tried, undo_group);
	size_t i;

	for (i = 0; error && i < changes->count; i++)
		if (is_tried(changes->changes[i]))
			undo_group(run, changes->changes[i]->side,
				   &changes->changes[i], 1);
	ibh_error_free(error);
}

static void mark(const struct run *run, struct changes *changes)
{
	size_t i;

	for (i = 0; i < changes->count; i++)
		if (!changes->changes[i]->error)
			changes->changes[i]->error =
				fail(T_ROLLED_BACK, changes->changes[i]->address,
				     NULL, 0, run->cause, NULL, NULL);
}

/* The batch's own VFs before those that were made idle for them, which get
 * their GUIDs back once it has been seen that nobody else has them: a PF with
 * both is asked twice. */
void undo(struct run *run)
{
	size_t i;

	format(run->cause, sizeof(run->cause), "%s", cause(run));
	/* One PF is read back while another is still written. */
	for (i = 0; i < run->side_count; i++)
		run->sides[i].dump = NULL;
	undo_list(run, &run->then);
	for (i = 0; i < run->then.count; i++)
		leave_idle(run, run->then.changes[i]);
	undo_list(run, &run->first);
	for (i = 0; i < run->then.count; i++)
		sum_up(run, run->then.changes[i]);
	mark(run, &run->then);
	mark(run, &run->first);
}
