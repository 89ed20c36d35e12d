// SPDX-License-Identifier: GPL-2.0-only
/*
 * Virtual ports of an mlx5 HCA: what its firmware holds, and what the PF's
 * driver remembers to give back to it.
 */
#include <linux/slab.h>

#include "rig.h"

int rig_vport_init(struct rig_pf *pf)
{
	pf->vport = kcalloc(pf->total + 1, sizeof(*pf->vport), GFP_KERNEL);
	pf->ctx = kcalloc(pf->total, sizeof(*pf->ctx), GFP_KERNEL);
	if (!pf->vport || !pf->ctx) {
		rig_vport_exit(pf);
		return -ENOMEM;
	}
	rig_vport_reset(pf);
	return 0;
}

void rig_vport_exit(struct rig_pf *pf)
{
	kfree(pf->vport);
	kfree(pf->ctx);
	pf->vport = NULL;
	pf->ctx = NULL;
}

/**
 * rig_vport_reset() - firmware and driver forget all VFs' values
 * @pf: the PF
 */
void rig_vport_reset(struct rig_pf *pf)
{
	mutex_lock(&pf->lock);
	memset(pf->vport, 0, (pf->total + 1) * sizeof(*pf->vport));
	memset(pf->ctx, 0, pf->total * sizeof(*pf->ctx));
	pf->vport[0].node = pf->guid;
	pf->vport[0].port = pf->guid + 1;
	mutex_unlock(&pf->lock);
}

static void vport_apply(struct rig_vport *vport, const struct rig_vport *set,
			unsigned int fields)
{
	if (fields & RIG_NODE)
		vport->node = set->node;
	if (fields & RIG_PORT)
		vport->port = set->port;
	if (fields & RIG_POLICY)
		vport->policy = set->policy;
}

/*
 * MODIFY_HCA_VPORT_CONTEXT.  The field for the vport has 16 bits, so a high
 * VF number lands on another's vport, and 65535 on the PF's.
 */
static int vport_modify(struct rig_pf *pf, u32 vf, const struct rig_vport *set,
			unsigned int fields)
{
	u16 vport = vf + 1;
	int err = rig_modify(pf, vf);

	if (err)
		return err;
	if (vport > pf->total)
		return -EINVAL;
	mutex_lock(&pf->lock);
	vport_apply(&pf->vport[vport], set, fields);
	mutex_unlock(&pf->lock);
	return 0;
}

/**
 * rig_vport_enable() - the firmware's part of enabling VFs, and the restore
 * @pf: the PF
 * @vfs: number of VFs
 *
 * As the real driver, it sends one command to each VF, be there something to
 * restore or not, gives back what is not zero, and does not mind a failure.
 */
void rig_vport_enable(struct rig_pf *pf, unsigned int vfs)
{
	unsigned int vf;

	pf->enabled = vfs;
	for (vf = 0; vf < vfs; vf++) {
		struct rig_vport set;
		unsigned int fields = 0;

		mutex_lock(&pf->lock);
		set = pf->ctx[vf].set;
		mutex_unlock(&pf->lock);
		if (set.node)
			fields |= RIG_NODE;
		if (set.port)
			fields |= RIG_PORT;
		if (set.policy)
			fields |= RIG_POLICY;
		if (vport_modify(pf, vf, &set, fields))
			pci_warn(pf->pdev,
				 "unable to restore VF %u settings\n", vf);
	}
}

/**
 * rig_vport_disable() - the firmware forgets; the driver does not
 * @pf: the PF
 */
void rig_vport_disable(struct rig_pf *pf)
{
	mutex_lock(&pf->lock);
	memset(pf->vport + 1, 0, pf->total * sizeof(*pf->vport));
	pf->enabled = 0;
	mutex_unlock(&pf->lock);
}

/**
 * rig_vport_set() - set one value of a VF
 * @pf: the PF
 * @vf: the VF, not checked
 * @field: which value
 * @value: GUID or policy, not checked
 * @netlink: it came by netlink, which will be able to read it back
 *
 * Return: 0 or a negative errno.
 */
int rig_vport_set(struct rig_pf *pf, u32 vf, enum rig_field field, u64 value,
		  bool netlink)
{
	struct rig_vport set = {
		.node = value, .port = value, .policy = value,
	};
	int err = vport_modify(pf, vf, &set, field);

	/* The real driver does write beyond its array here. */
	if (err || vf >= pf->total)
		return err;
	mutex_lock(&pf->lock);
	vport_apply(&pf->ctx[vf].set, &set, field);
	if (netlink && field == RIG_NODE)
		pf->ctx[vf].node_valid = true;
	if (netlink && field == RIG_PORT)
		pf->ctx[vf].port_valid = true;
	mutex_unlock(&pf->lock);
	return 0;
}

/**
 * rig_vport_get() - ask the firmware for a VF's values
 * @pf: the PF
 * @vf: the VF; 0 is let through even if there is none
 * @vport: where to put them
 *
 * Return: 0 or a negative errno.
 */
int rig_vport_get(struct rig_pf *pf, u32 vf, struct rig_vport *vport)
{
	int err = rig_query(pf, vf);

	if (err)
		return err;
	if (vf && vf >= pf->enabled)
		return -EINVAL;
	rig_vport_peek(pf, vf, vport);
	return 0;
}

/**
 * rig_vport_peek() - the VF's own look at its vport, no command of the PF's
 * @pf: the PF
 * @vf: the VF, below the total
 * @vport: where to put the values
 */
void rig_vport_peek(struct rig_pf *pf, u32 vf, struct rig_vport *vport)
{
	mutex_lock(&pf->lock);
	*vport = pf->vport[vf + 1];
	mutex_unlock(&pf->lock);
}
