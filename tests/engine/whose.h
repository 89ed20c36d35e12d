/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose a VF is, in a scene.
 */
#ifndef WHOSE_H
#define WHOSE_H

#include "cases.h"

/* The port that a side is about; the second is a fabric's of its own only
 * where it is mapped. */
#define FIRST 1u

static inline bool idle(uint64_t guid)
{
	return guid == 0 || guid == ONES;
}

/* The VIF whose VF this is, or -1. */
static inline int vif_at(const struct scene *scene, unsigned int pf,
			 unsigned int vf)
{
	unsigned int i;

	for (i = 0; i < scene->count; i++)
		if (scene->spots[i].pf == pf && scene->spots[i].vf == vf)
			return (int)i;
	return -1;
}

/* Whether a VF has a GUID of a VIF's. */
static inline bool vif_has(const struct scene *scene, unsigned int vif,
			   const struct machine *machine, unsigned int pf,
			   unsigned int vf)
{
	return machine_has(machine, pf, vf, FIRST, scene_guid(vif)) ||
	       machine_has(machine, pf, vf, FIRST, scene_node(scene, vif));
}

/* The VIF whose GUID a VF has, all or half, or -1. */
static inline int vif_on(const struct scene *scene,
			 const struct machine *machine, unsigned int pf,
			 unsigned int vf)
{
	unsigned int i;

	for (i = 0; i < scene->count; i++)
		if (vif_has(scene, i, machine, pf, vf))
			return (int)i;
	return -1;
}

/* Whether a PF is on the fabric of a VIF. */
static inline bool on_fabric(const struct scene *scene, unsigned int vif,
			     unsigned int pf)
{
	return scene->setting != TWO_FABRICS || scene->spots[vif].pf == pf;
}

static inline bool plugs_at(const struct scene *scene, int vif)
{
	return vif >= 0 && !act_unplugs(scene->act);
}

/* What can be known of a VF before. */
static inline bool knows_guids(const struct machine *machine, unsigned int pf,
			       unsigned int vf)
{
	const struct pf *at = &machine->pfs[pf];
	const struct vport *vport = &at->vports[vf + 1];

	if (at->family == CX3 || at->family == OFED)
		return true;
	return !machine->no_guids && at->memories[vf].node_valid &&
	       at->memories[vf].port_valid && vport->node && vport->port;
}

/* Whether a guest's VF has lost its link with the identity of a VIF. */
static inline bool lost_link(const struct scene *scene, unsigned int vif,
			     const struct machine *machine, unsigned int pf,
			     unsigned int vf)
{
	const struct vport *vport = &machine->pfs[pf].vports[vf + 1];

	return machine->pfs[pf].family != CX3 && vport->policy == DOWN &&
	       (!knows_guids(machine, pf, vf) ||
		vport->node != scene_node(scene, vif) ||
		vport->port != scene_guid(vif));
}

/* What a plug makes of it. */
static inline enum policy scene_policy(const struct scene *scene)
{
	return scene->act == PLUG_UP ? UP : FOLLOW;
}

#endif
