// SPDX-License-Identifier: Apache-2.0
/* The fifth step: nothing is done that does not read back as it was
 * written. */
#include "batch.h"

static const char *const policies[] = { "follow", "up", "down" };

struct ibh_state overlaid(const struct ibh_state *state,
			  const struct ibh_state *written)
{
	struct ibh_state sum = *state;

	if (written->have & IBH_HAVE_NODE)
		sum.node = written->node;
	if (written->have & IBH_HAVE_PORT)
		sum.port = written->port;
	if (written->have & IBH_HAVE_POLICY)
		sum.policy = written->policy;
	sum.have |= written->have & (IBH_HAVE_NODE | IBH_HAVE_PORT |
				     IBH_HAVE_POLICY);
	if (written->have & IBH_HAVE_PKEY)
		sum.pkey = written->pkey;
	/* What is not seen any more is not known. */
	sum.have &= (uint8_t)~(IBH_HAVE_PKEYS | IBH_HAVE_PKEY);
	sum.have |= written->have & IBH_HAVE_PKEY;
	sum.pending = false;
	return sum;
}

static uint64_t node_or_idle(const struct ibh_state *state)
{
	return state->have & IBH_HAVE_NODE ? state->node : IBH_GUID_IDLE;
}

static uint64_t port_or_idle(const struct ibh_state *state)
{
	return state->have & IBH_HAVE_PORT ? state->port : IBH_GUID_IDLE;
}

static unsigned int policy_or_down(const struct ibh_state *state)
{
	return state->have & IBH_HAVE_POLICY ? state->policy : IBH_DOWN;
}

bool same_pkeys(const struct ibh_state *a, const struct ibh_state *b)
{
	return a->have & b->have & IBH_HAVE_PKEYS &&
	       !strcmp(a->pkeys[0], b->pkeys[0]) &&
	       !strcmp(a->pkeys[1], b->pkeys[1]);
}

bool same_state(const struct ibh_state *before, const struct ibh_state *after)
{
	return node_or_idle(before) == node_or_idle(after) &&
	       port_or_idle(before) == port_or_idle(after) &&
	       policy_or_down(before) == policy_or_down(after);
}

static struct ibh_error *differs(const struct change *change,
				 const char *what, const char *seen,
				 const char *wanted)
{
	char by[48];

	format(by, sizeof(by), "by %s", change->side->mechanism->name);
	return fail(T_DIFFERS, change->address, by, 0, what, seen, wanted);
}

static struct ibh_error *guid_differs(const struct change *change,
				      const char *what, uint64_t seen,
				      uint64_t wanted)
{
	char is[IBH_GUID_TEXT + 1], should[IBH_GUID_TEXT + 1];

	ibh_format_guid(seen, is);
	ibh_format_guid(wanted, should);
	return differs(change, what, is, should);
}

static struct ibh_error *pkey_differs(const struct change *change,
				      unsigned int seen, unsigned int wanted)
{
	char is[16], should[16];

	format(is, sizeof(is), seen ? "0x%04x" : "none", seen);
	format(should, sizeof(should), "0x%04x", wanted);
	return differs(change, "P_Key", is, should);
}

/* What is wrong about a VF's state after writing, if anything. */
static struct ibh_error *compare(struct change *change, bool accepted)
{
	const struct ibh_state *want = &change->put, *seen = &change->seen;
	static const struct ibh_state nothing;
	uint8_t both = want->have & seen->have;
	struct ibh_state taken;
	char by[48];

	if (!change->told) {
		format(by, sizeof(by), "by %s", change->side->mechanism->name);
		return fail(T_UNTOLD, change->address, by, 0, NULL, NULL,
			    NULL);
	}
	change->verified = (want->have & ~seen->have &
			    (IBH_HAVE_NODE | IBH_HAVE_PORT | IBH_HAVE_POLICY |
			     IBH_HAVE_PKEY)) == 0;
	/* What is seen, else what was accepted, else what was there. */
	taken = overlaid(&change->before, accepted ? want : &nothing);
	change->after = overlaid(&taken, seen);
	change->has_after = true;
	if (both & IBH_HAVE_NODE && want->node != seen->node)
		return guid_differs(change, "node GUID", seen->node,
				    want->node);
	if (both & IBH_HAVE_PORT && want->port != seen->port)
		return guid_differs(change, "port GUID", seen->port,
				    want->port);
	if (both & IBH_HAVE_PKEYS && !(want->have & IBH_HAVE_PORT) &&
	    !same_pkeys(want, seen))
		return differs(change, "pkey_idx/0", seen->pkeys[0],
			       want->pkeys[0]);
	if (both & IBH_HAVE_PKEY && want->pkey != seen->pkey)
		return pkey_differs(change, seen->pkey, want->pkey);
	/* Neutron's agent raises every VF that it sees a port's GUID on. */
	if (both & IBH_HAVE_POLICY && want->policy != seen->policy &&
	    !(want->policy == IBH_FOLLOW && seen->policy == IBH_UP))
		return differs(change, "policy", policies[seen->policy],
			       policies[want->policy]);
	return NULL;
}

void look_back(struct side *side, struct change **changes, size_t count,
	       bool settle)
{
	struct ibh_error *error;
	size_t i;

	for (i = 0; i < count; i++) {
		ibh_error_free(changes[i]->doubt);
		changes[i]->doubt = NULL;
		changes[i]->told = false;
	}
	error = side->mechanism->read_back(side, changes, count, settle);
	for (i = 0; i < count; i++) {
		if (error) {
			ibh_error_free(changes[i]->doubt);
			changes[i]->doubt = error_copy(error);
		} else if (!changes[i]->doubt) {
			changes[i]->doubt =
				compare(changes[i], !changes[i]->refusal);
		}
	}
	ibh_error_free(error);
}

static bool is_written(const struct change *change)
{
	return change->tried && !change->error;
}

static void verify_group(struct run *run, struct side *side,
			 struct change **changes, size_t count)
{
	size_t i;

	look_back(side, changes, count, true);
	for (i = 0; i < count; i++) {
		changes[i]->error = changes[i]->doubt;
		changes[i]->doubt = NULL;
	}
	progress(run, IBH_VERIFY, count);
}

/* Whether a VF that was made idle has another identity by now. */
static bool is_overtaken(const struct run *run, const struct change *moved)
{
	const struct change *next = changes_find(&run->then, moved->side,
						 moved->vf.index);

	return next && is_written(next);
}

/* In one go, so that a PF with VFs in both lists is asked once. */
void verify(struct run *run)
{
	struct changes all = { 0 };
	struct ibh_error *error = NULL;
	size_t i, overtaken = 0;

	if (stopped(run) || (!run->how->proceed && any_failed(run)))
		return;
	dump_again(run->dump);
	for (i = 0; i < run->first.count && !error; i++) {
		struct change *moved = run->first.changes[i];

		if (is_written(moved) && is_overtaken(run, moved))
			overtaken++;
		else
			error = changes_list(&all, moved);
	}
	if (overtaken)
		progress(run, IBH_VERIFY, overtaken);
	for (i = 0; i < run->then.count && !error; i++)
		error = changes_list(&all, run->then.changes[i]);
	if (!error)
		error = by_side(run, &all, is_written, verify_group);
	for (i = 0; error && i < run->then.count; i++)
		if (is_written(run->then.changes[i]))
			run->then.changes[i]->error = error_copy(error);
	ibh_error_free(error);
	free(all.changes);
}
