// SPDX-License-Identifier: Apache-2.0
/*
 * The plan of what Neutron's agent does to ports that are plugged: their
 * policies, and on mlx4 the network's own partition. It is for guests that run
 * that it is done, and it takes nothing from anybody: identities are looked
 * at, and never written.
 */
#include "batch.h"

/* Whether the VF is whose it is taken for. */
static struct ibh_error *is_its(const struct change *change,
				const struct ibh_vif *vif)
{
	const struct ibh_state *state = &change->before;
	uint64_t owner = state_owner(state);
	char text[IBH_GUID_TEXT + 1], by[48];

	if (owner && (owner == vif->port_guid || owner == vif_node_guid(vif)))
		return NULL;
	if (!(state->have & (IBH_HAVE_NODE | IBH_HAVE_PORT))) {
		format(by, sizeof(by), "by %s", change->side->mechanism->name);
		return fail(T_UNTOLD, change->address, by, 0, NULL, NULL,
			    NULL);
	}
	ibh_format_guid(vif->port_guid, text);
	return fail(T_NOT_ITS, change->address, "guid", 0, text, NULL, NULL);
}

static struct ibh_error *set_policy(struct change *change, uint8_t policy)
{
	const struct side *side = change->side;

	if (!(side->mechanism->idle(side).have & IBH_HAVE_POLICY))
		return NULL; /* mlx4's VFs have none */
	if (side->mechanism == &foreign)
		return fail(T_FOREIGN_POLICY, change->address, "policy", 0,
			    policy == IBH_DOWN ? "down" : "follow", NULL,
			    NULL);
	change->wanted.policy = policy;
	change->wanted.have |= IBH_HAVE_POLICY;
	return NULL;
}

/* The second entry is the default partition's, and a plug's. */
static void set_pkey(struct change *change, const struct ibh_state *asked)
{
	struct ibh_state *wanted = &change->wanted;

	if (!(change->before.have & IBH_HAVE_PKEYS))
		return;
	memcpy(wanted->pkeys[0], asked->pkeys[0], IBH_PKEY);
	if (same_pkeys(wanted, &change->before))
		return;
	memcpy(change->write.pkeys, wanted->pkeys, sizeof(wanted->pkeys));
	change->write.have |= IBH_HAVE_PKEYS;
}

static struct ibh_error *adjust(struct change *change,
				const struct ibh_vif *vif,
				const struct ibh_state *asked)
{
	struct ibh_error *error = state_of(change->side, &change->vf,
					   &change->before);

	if (!error)
		error = is_its(change, vif);
	change->wanted = change->before;
	change->wanted.pending = false;
	if (!error && asked->have & IBH_HAVE_POLICY)
		error = set_policy(change, asked->policy);
	change->write = difference(&change->before, &change->wanted);
	/* Whatever the subnet manager has to say of a GUID. */
	change->write.have &= IBH_HAVE_POLICY;
	if (!error && asked->have & IBH_HAVE_PKEYS)
		set_pkey(change, asked);
	return error;
}

struct ibh_error *plan_adjust(struct run *run)
{
	return plan_each(run, adjust);
}
