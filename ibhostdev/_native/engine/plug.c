// SPDX-License-Identifier: Apache-2.0
/*
 * The plan of a plug: what each VF needs to have its VIF's identity, and
 * which VFs lose it for that.
 */
#include "batch.h"

static struct ibh_error *no_memory(void)
{
	return fail(T_MEMORY, NULL, NULL, 0, NULL, NULL, NULL);
}

/* Whether a GUID is there, and somebody's, but not the one that it is to be. */
static bool is_other(bool known, uint64_t guid, uint64_t wanted)
{
	return known && !guid_is_idle(guid) && guid != wanted;
}

/* A guest whose identity is right is given a P_Key in the place of none, and
 * not in that of another. */
static struct ibh_error *spare_partition(struct run *run,
					 struct change *change)
{
	const struct ibh_state *before = &change->before;
	bool asked = change->write.have & IBH_HAVE_PKEY;
	bool told = before->have & IBH_HAVE_PKEY, pending = before->pending;
	char text[32] = "one that cannot be read";

	change->write.have = 0;
	/* The subnet manager may yet agree. */
	change->verified = !pending;
	if (!asked || (told && before->pkey == change->wanted.pkey))
		return NULL;
	if (told && !before->pkey && !pending) {
		change->write.have = IBH_HAVE_PKEY;
		return NULL;
	}
	change->verified = false;
	if (told)
		format(text, sizeof(text), before->pkey ? "0x%04x" : "none",
		       before->pkey);
	return warn(run,
		    "%s is left alone: a guest has it, and its P_Key is %s, "
		    "not 0x%04x",
		    change->address, text, change->wanted.pkey);
}

/* Whether what the kernel does not know of a guest's VF was lost with the
 * driver's memory, or may be written again, whichever it is. MLNX_OFED's
 * files would know it, if they could be read. */
static bool renews(const struct run *run, const struct side *side)
{
	return run->how->renew && run->how->proceed &&
	       side->pf->family == IBH_MLX5 &&
	       side->mechanism == &mlx5_netlink && mlx5_netlink_shows(side);
}

/*
 * What may be done to a VF in a guest's hands: nothing, but to give it back
 * an identity that it is known to have lost, and the link with it.
 */
static struct ibh_error *spare_guest(struct run *run,
				     const struct ibh_vif *vif,
				     struct change *change, bool equal)
{
	uint8_t identities =
		change->wanted.have & (IBH_HAVE_NODE | IBH_HAVE_PORT);
	const struct ibh_state *before = &change->before;
	uint64_t owner = state_owner(before);
	char text[IBH_GUID_TEXT + 1], port[IBH_GUID_TEXT + 1];

	if (owner && owner != vif->port_guid && owner != vif_node_guid(vif)) {
		ibh_format_guid(owner, text);
		return fail(T_GUEST_HAS, change->address, NULL, 0, text, NULL,
			    NULL);
	}
	/* The link went with the identity: a PF's driver makes VFs that are
	 * nobody's and down, and a plug that was cut off raises it last. In
	 * any other state somebody has chosen it, as the Neutron agent does. */
	if (equal || !(before->have & IBH_HAVE_POLICY) ||
	    before->policy != IBH_DOWN)
		change->write.have &= (uint8_t)~IBH_HAVE_POLICY;
	if (equal)
		return spare_partition(run, change);
	if (is_other(before->have & identities & IBH_HAVE_NODE,
			    before->node, change->wanted.node) ||
		   is_other(before->have & identities & IBH_HAVE_PORT,
			    before->port, change->wanted.port)) {
		/* Half of it is the VIF's, and the other somebody's choice. */
		change->write.have = 0;
		change->verified = false;
		ibh_format_guid(before->node, text);
		ibh_format_guid(before->port, port);
		return warn(run,
			    "%s is left alone: a guest has it, with node GUID "
			    "%s and port GUID %s",
			    change->address, text, port);
	} else if ((before->have & identities) != identities &&
		   !renews(run, change->side)) {
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

static struct ibh_error *warn_of_group(struct run *run, uint64_t guid)
{
	char text[IBH_GUID_TEXT + 1];

	if (!(guid >> 56 & 1))
		return NULL;
	ibh_format_guid(guid, text);
	return warn(run,
		    "GUID %s has the lowest bit of its first octet set: "
		    "InfiniBand does not mind, but a MAC address made of it "
		    "would be a group's",
		    text);
}

/* `had` is a GUID of the VF's before, and `gets` what comes in its place. */
static struct ibh_error *warn_of_loss(struct run *run,
				      const struct change *change,
				      uint64_t had, uint64_t gets)
{
	char text[IBH_GUID_TEXT + 1], other[IBH_GUID_TEXT + 1];

	if (guid_is_idle(had) || had == change->wanted.port ||
	    had == change->wanted.node)
		return NULL;
	ibh_format_guid(had, other);
	ibh_format_guid(gets, text);
	return warn(run, "%s had GUID %s, and gets %s in its place",
		    change->address, other, text);
}

/* What somebody should know before an identity is written. */
static struct ibh_error *warn_of_writing(struct run *run,
					 const struct change *change)
{
	const struct ibh_state *before = &change->before;
	const struct ibh_state *wanted = &change->wanted;
	uint64_t port = before->have & IBH_HAVE_PORT ? before->port : 0;
	uint64_t node = before->have & IBH_HAVE_NODE ? before->node : 0;
	bool two = wanted->have & IBH_HAVE_NODE && wanted->node != wanted->port;
	struct ibh_error *error = warn_of_group(run, wanted->port);

	if (!error && two)
		error = warn_of_group(run, wanted->node);
	if (!error)
		error = warn_of_loss(run, change, port, wanted->port);
	if (!error && node != port)
		error = warn_of_loss(run, change, node, wanted->node);
	return error;
}

/* mlx4 has no node GUIDs that could be set, and ebrctl takes one GUID. */
static struct ibh_error *gives_both(const struct change *change,
				    const struct ibh_vif *vif)
{
	const struct ibh_state *wanted = &change->wanted;

	if (vif_node_guid(vif) == vif->port_guid ||
	    (wanted->have & IBH_HAVE_NODE && wanted->node == vif->node_guid))
		return NULL;
	return fail(T_ONE_GUID, change->address, "node_guid", 0,
		    change->side->mechanism->name, NULL, NULL);
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
		error = gives_both(change, vif);
	if (!error)
		error = state_of(side, &change->vf, &change->before);
	if (error)
		return error;
	if (lowers(run->how) && change->wanted.have & IBH_HAVE_POLICY)
		change->wanted.policy = IBH_DOWN;
	equal = before->have & IBH_HAVE_PORT &&
		before->port == change->wanted.port &&
		(!(change->wanted.have & IBH_HAVE_NODE) ||
		 (before->have & IBH_HAVE_NODE &&
		  before->node == change->wanted.node));
	/* With another GUID it is written in any case. */
	if (equal && change->wanted.have & IBH_HAVE_PKEY)
		mlx4_see_pkey(side, &change->before);
	change->write = difference(before, &change->wanted);
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

	for (holder = run->holders[at]; holder; holder = holder->next) {
		ibh_format_pci(holder->vf.pci, address);
		ibh_format_guid(guid_held(vif, holder), text);
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
		ibh_format_guid(guid_held(vif, holder), text);
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
