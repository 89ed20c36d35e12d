// SPDX-License-Identifier: Apache-2.0
/* The plan of giving VFs back what they were before they were plugged. */
#include "batch.h"

/*
 * As undo, what the kernel could not show then goes back to idle. Where it
 * cannot show anything now either, though it shows what is set, nothing was
 * done.
 */
static struct ibh_state former(const struct ibh_state *then,
			       const struct ibh_state *now,
			       const struct ibh_state *idle, bool shows)
{
	struct ibh_state wanted = *then;
	uint8_t lost = (uint8_t)(idle->have & ~then->have &
				 (shows ? now->have : 0xff));

	wanted.pending = false;
	wanted.have &= (uint8_t)~IBH_HAVE_PKEY; /* its place is given back */
	if (lost & IBH_HAVE_NODE)
		wanted.node = idle->node;
	if (lost & IBH_HAVE_PORT)
		wanted.port = idle->port;
	if (lost & IBH_HAVE_POLICY)
		wanted.policy = idle->policy;
	wanted.have |= lost;
	return wanted;
}

static bool has(const struct ibh_state *state, uint64_t guid)
{
	return (state->have & IBH_HAVE_PORT && state->port == guid) ||
	       (state->have & IBH_HAVE_NODE && state->node == guid);
}

static struct ibh_error *back(struct change *change,
			      const struct ibh_vif *vif,
			      const struct ibh_state *then)
{
	const struct side *side = change->side;
	struct ibh_state idle = side->mechanism->idle(side), *write;
	char text[IBH_GUID_TEXT + 1];
	struct ibh_error *error;
	uint64_t owner;

	error = state_of(side, &change->vf, &change->before);
	if (error)
		return error;
	change->wanted = former(then, &change->before, &idle,
				side->mechanism != &mlx5_netlink ||
					mlx5_netlink_shows(side));
	change->write = difference(&change->before, &change->wanted);
	write = &change->write;
	/* mlx4 has them written with the GUID or not at all. */
	if (then->have & IBH_HAVE_PKEYS &&
	    (write->have & IBH_HAVE_PORT ||
	     !same_pkeys(then, &change->before)))
		write->have |= IBH_HAVE_PKEYS |
			       (change->wanted.have & IBH_HAVE_PORT);
	/* A restore that was cut off may have given the GUID back already. */
	owner = state_owner(&change->before);
	if (write->have && owner && owner != vif->port_guid &&
	    owner != vif_node_guid(vif) && !has(then, owner)) {
		ibh_format_guid(owner, text);
		return fail(T_GIVEN_MEANWHILE, change->address, NULL, 0, text,
			    NULL, NULL);
	}
	if (write->have && change->vf.in_use)
		return fail(T_TAKEN_MEANWHILE, change->address, NULL, 0, NULL,
			    NULL, NULL);
	return NULL;
}

/* Whether this batch takes a GUID from a VF. One that it leaves alone keeps
 * it. */
static bool loses(const struct run *run, const struct side *side,
		  unsigned int index, uint64_t guid)
{
	const struct change *change = changes_find(&run->then, side, index);

	return change && !has(&change->wanted, guid);
}

/* Whether another VF has a GUID that is to be given back, and keeps it, or
 * was given it back before. */
static bool is_kept(const struct run *run, const struct change *change,
		    uint64_t guid, char address[IBH_PCI_TEXT + 1])
{
	unsigned int n;
	size_t i;

	for (i = 0; run->then.changes[i] != change; i++) {
		const struct change *other = run->then.changes[i];

		if (!change_needed(other) || !has(&other->wanted, guid) ||
		    apart(run, change->vif, other->side))
			continue;
		strcpy(address, other->address);
		return true;
	}
	for (i = 0; i < run->side_count; i++) {
		const struct side *side = &run->sides[i];

		if (side->trouble || apart(run, change->vif, side))
			continue;
		for (n = 0; n < side->pf->numvfs; n++) {
			if (side->told[n] != TOLD ||
			    !has(&side->states[n], guid) ||
			    (side == change->side && n == change->vf.index) ||
			    loses(run, side, n, guid))
				continue;
			vf_address(side->pf, n, address);
			return true;
		}
	}
	return false;
}

/* What a VF had another may have been given meanwhile: then it stays idle. */
static struct ibh_error *keep_from(struct run *run, struct change *change)
{
	const struct ibh_state *wanted = &change->wanted;
	const uint64_t guids[] = {
		wanted->have & IBH_HAVE_PORT ? wanted->port : 0,
		wanted->have & IBH_HAVE_NODE ? wanted->node : 0,
	};
	char text[IBH_GUID_TEXT + 1], address[IBH_PCI_TEXT + 1];
	unsigned int i;

	/* One that has it all already may be a guest's by now. */
	if (!change_needed(change))
		return NULL;
	for (i = 0; i < 2; i++) {
		if (guid_is_idle(guids[i]) ||
		    !is_kept(run, change, guids[i], address))
			continue;
		change->wanted = change->side->mechanism->idle(change->side);
		change->write = difference(&change->before, &change->wanted);
		ibh_format_guid(guids[i], text);
		return warn(run,
			    "%s is left idle: GUID %s, which it had, is on %s "
			    "now",
			    change->address, text, address);
	}
	return NULL;
}

/* Whether a VF is given a GUID that another one has now. */
static bool is_after(const struct run *run, const struct change *change,
		     const struct change *holder)
{
	const struct ibh_state *now = &holder->before;
	bool port = now->have & IBH_HAVE_PORT && !guid_is_idle(now->port);
	bool node = now->have & IBH_HAVE_NODE && !guid_is_idle(now->node);

	return change != holder && change_needed(change) &&
	       ((port && has(&change->wanted, now->port)) ||
		(node && has(&change->wanted, now->node))) &&
	       !apart(run, change->vif, holder->side);
}

/* A VF that loses a GUID to another of the batch is made idle before: in
 * whatever order they are written, no two have it. */
static struct ibh_error *lose_first(struct run *run, struct change *holder)
{
	struct change *moved = NULL;
	struct ibh_error *error = NULL;
	size_t i;

	for (i = 0; i < run->then.count && !error; i++) {
		struct change *change = run->then.changes[i];

		if (!is_after(run, change, holder))
			continue;
		if (!moved) {
			moved = change_idle(holder->side, &holder->vf,
					    holder->vif);
			error = moved ? changes_add(&run->first, moved) :
					fail(T_MEMORY, NULL, NULL, 0, NULL,
					     NULL, NULL);
		}
		if (!error)
			error = come_after(change, moved);
	}
	if (error || !moved)
		return error;
	/* Its own turn comes after that, with all that it is to have, unless
	 * it is to be idle. */
	holder->write = difference(&moved->wanted, &holder->wanted);
	if (holder->write.have || holder->wanted.have & IBH_HAVE_PKEYS)
		holder->write = holder->wanted;
	return come_after(holder, moved);
}

struct ibh_error *plan_restore(struct run *run)
{
	struct ibh_error *error = plan_each(run, back);
	size_t i;

	/* Once it is known who is given what back. */
	for (i = 0; i < run->then.count && !error; i++)
		error = keep_from(run, run->then.changes[i]);
	for (i = 0; i < run->then.count && !error; i++)
		error = lose_first(run, run->then.changes[i]);
	return error;
}
