// SPDX-License-Identifier: Apache-2.0
/*
 * The plan of a plug: what each VF needs to have its VIF's identity, and
 * which VFs lose it for that.
 */
#include "internal.h"

static struct ibh_error *no_memory(void)
{
	return fail(T_MEMORY, NULL, NULL, 0, NULL, NULL, NULL);
}

/*
 * What may be done to a VF in a guest's hands: nothing, but to give it back
 * an identity that it is known to have lost.
 */
static struct ibh_error *spare_guest(struct run *run,
				     const struct ibh_vif *vif,
				     struct change *change, bool equal)
{
	uint8_t identities =
		change->wanted.have & (IBH_HAVE_NODE | IBH_HAVE_PORT);
	uint64_t owner = state_owner(&change->before);
	char text[IBH_GUID_TEXT + 1];

	if (owner && owner != vif->port_guid && owner != vif_node_guid(vif)) {
		ibh_format_guid(owner, text);
		return fail(T_GUEST_HAS, change->address, NULL, 0, text, NULL,
			    NULL);
	}
	change->write.have &= (uint8_t)~IBH_HAVE_POLICY;
	if (equal) {
		change->write.have = 0;
		/* The subnet manager may yet agree. */
		change->verified = !change->before.pending;
	} else if ((change->before.have & identities) != identities) {
		change->write.have = 0;
		change->verified = false;
		ibh_format_guid(vif->port_guid, text);
		return warn(run,
			    "%s is left alone: a guest has it, and the kernel "
			    "does not tell whether it is GUID %s already",
			    change->address, text);
	}
	return NULL;
}

/* The PF that has a GUID for its own; NULL if none has. */
static const struct ibh_pf *pf_with(const struct run *run, uint64_t guid)
{
	const struct ibh_pfs *pfs = &run->topology->public;
	unsigned int n;
	size_t i;

	for (i = 0; i < pfs->count; i++) {
		const struct ibh_pf *pf = pfs->pfs[i];

		if (pf->node_guid == guid)
			return pf;
		for (n = 0; n < pf->port_count; n++)
			if (pf->ports[n].guid == guid)
				return pf;
	}
	return NULL;
}

/* The fabric would send to either of them. */
static struct ibh_error *spare_pfs(const struct run *run,
				   const struct change *change)
{
	const struct ibh_state *wanted = &change->wanted;
	char text[IBH_GUID_TEXT + 1];
	const struct ibh_pf *pf;
	uint64_t guid = wanted->port;

	topology_guids(run->host, run->topology);
	pf = pf_with(run, guid);
	if (!pf && wanted->have & IBH_HAVE_NODE) {
		guid = wanted->node;
		pf = pf_with(run, guid);
	}
	if (!pf)
		return NULL;
	ibh_format_guid(guid, text);
	return fail(T_PF_HAS, change->address, "guid", 0, text, pf->address,
		    NULL);
}

/* What somebody should know before an identity is written. */
static struct ibh_error *warn_of_writing(struct run *run,
					 const struct change *change)
{
	char text[IBH_GUID_TEXT + 1], other[IBH_GUID_TEXT + 1];
	uint64_t owner = state_owner(&change->before);
	struct ibh_error *error = NULL;

	ibh_format_guid(change->wanted.port, text);
	if (change->wanted.port >> 56 & 1)
		error = warn(run,
			     "GUID %s has the lowest bit of its first octet "
			     "set: InfiniBand does not mind, but a MAC address "
			     "made of it would be a group's",
			     text);
	if (error || !owner || owner == change->wanted.port ||
	    owner == change->wanted.node)
		return error;
	ibh_format_guid(owner, other);
	return warn(run, "%s had GUID %s, and gets %s in its place",
		    change->address, other, text);
}

static bool lowers(const struct ibh_how *how)
{
	return !how->set_policy && how->link == IBH_LINK_LOWERED;
}

/* What a VF needs to become the VIF's. */
static struct ibh_error *identity(struct run *run, const struct ibh_vif *vif,
				  struct change *change)
{
	const struct side *side = change->side;
	const struct ibh_state *before = &change->before;
	struct ibh_error *error;
	bool equal;

	error = side->mechanism->plugged(side, vif, run->how, &change->wanted);
	if (!error)
		error = state_of(side, &change->vf, &change->before);
	if (error)
		return error;
	if (lowers(run->how) && change->wanted.have & IBH_HAVE_POLICY)
		change->wanted.policy = IBH_DOWN;
	change->write = difference(before, &change->wanted);
	equal = before->have & IBH_HAVE_PORT &&
		before->port == change->wanted.port &&
		(!(change->wanted.have & IBH_HAVE_NODE) ||
		 (before->have & IBH_HAVE_NODE &&
		  before->node == change->wanted.node));
	if (!equal && (error = spare_pfs(run, change)))
		return error;
	if (change->vf.in_use)
		return spare_guest(run, vif, change, equal);
	if (!equal && (error = warn_of_writing(run, change)))
		return error;
	/* The Neutron agent owns the policy of a VF that is plugged; only one
	 * that an unplug or a reset left down is raised, unless somebody says
	 * what it is to be. */
	if (equal && !run->how->set_policy && !lowers(run->how) &&
	    !(run->how->link == IBH_LINK_RAISED &&
	      before->have & IBH_HAVE_POLICY && before->policy == IBH_DOWN))
		change->write.have &= (uint8_t)~IBH_HAVE_POLICY;
	return NULL;
}

/*
 * Make the stale holders of a GUID idle, unless a guest has them: a resize to
 * the same host plugs before it unplugs.
 */
static struct ibh_error *move_others(struct run *run, size_t at,
				     struct change *change)
{
	const struct ibh_vif *vif = &run->vifs[at];
	char address[IBH_PCI_TEXT + 1], text[IBH_GUID_TEXT + 1];
	struct ibh_error *error = NULL;
	struct holder *holder;

	ibh_format_guid(vif->port_guid, text);
	for (holder = run->holders[at]; holder; holder = holder->next) {
		ibh_format_pci(holder->vf.pci, address);
		if (!holder->there)
			return fail(T_VANISHED, address, NULL, 0, NULL, NULL,
				    NULL);
		if (holder->vf.in_use)
			return fail(T_GUEST_HAS_HOLDER, change->address,
				    "guid", 0, text, address, NULL);
	}
	for (holder = run->holders[at]; holder && !error;
	     holder = holder->next) {
		ibh_format_pci(holder->vf.pci, address);
		error = warn(run,
			     "GUID %s was still on %s, which is made idle for "
			     "%s to have it",
			     text, address, change->address);
		if (!error)
			error = move_first(run, vif, holder, change);
	}
	return error;
}

static struct ibh_error *plug_one(struct run *run, size_t at)
{
	const struct ibh_vif *vif = &run->vifs[at];
	struct place *place = &run->places[at];
	struct ibh_state wanted = {
		.node = vif_node_guid(vif),
		.port = vif->port_guid,
		.policy = (uint8_t)(run->how->set_policy ? run->how->policy :
				    lowers(run->how)	 ? IBH_DOWN :
							   IBH_FOLLOW),
		.have = IBH_HAVE_NODE | IBH_HAVE_PORT | IBH_HAVE_POLICY,
	};
	struct ibh_error *error = place->error;
	struct change *change = NULL;

	place->error = NULL;
	if (!error) {
		change = change_new(place->side, &place->vf, vif);
		error = change ? identity(run, vif, change) : no_memory();
	}
	if (!error)
		error = move_others(run, at, change);
	if (error) {
		change_free(change);
		answer_error(run, at, &wanted, error);
		return NULL;
	}
	error = changes_add(&run->then, change);
	if (!error)
		run->answers[at].change = change;
	return error;
}

struct ibh_error *plan_plug(struct run *run)
{
	struct ibh_error *error = NULL;
	size_t i;

	for (i = 0; i < run->count && !error; i++)
		error = plug_one(run, i);
	/* A VF that is made idle on the way gets all of its new identity. */
	for (i = 0; i < run->first.count && !error; i++) {
		struct change *moved = run->first.changes[i];
		struct change *change = changes_find(
			&run->then, moved->side, moved->vf.index);

		if (change)
			change->write = change->wanted;
	}
	return error;
}
