// SPDX-License-Identifier: GPL-2.0-only
/*
 * MLNX_OFED's files for VFs of an InfiniBand mlx5 PF: <PF>/sriov/<VF>/node,
 * port and policy.
 */
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "rig.h"

struct rig_vfdir {
	struct kobject kobj;
	struct rig_pf *pf;
	unsigned int vf;
};

static const char *const policies[] = { "Down", "Up", "Follow" };

static struct rig_vfdir *to_vfdir(struct kobject *kobj)
{
	return container_of(kobj, struct rig_vfdir, kobj);
}

static ssize_t guid_show(char *buf, u64 guid)
{
	__be64 octets = cpu_to_be64(guid);

	return sysfs_emit(buf, "%8phC\n", &octets);
}

static ssize_t guid_store(struct kobject *kobj, const char *buf, size_t count,
			  enum rig_field field)
{
	struct rig_vfdir *dir = to_vfdir(kobj);
	u8 o[8];
	u64 guid = 0;
	int i, err;

	if (sscanf(buf, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx",
		   &o[0], &o[1], &o[2], &o[3], &o[4], &o[5], &o[6],
		   &o[7]) != 8)
		return -EINVAL;
	for (i = 0; i < 8; i++)
		guid = guid << 8 | o[i];
	err = rig_vport_set(dir->pf, dir->vf, field, guid, false);
	return err ? err : count;
}

static ssize_t node_show(struct kobject *kobj, struct kobj_attribute *attr,
			 char *buf)
{
	struct rig_vfdir *dir = to_vfdir(kobj);
	struct rig_vport vport;
	int err = rig_vport_get(dir->pf, dir->vf, &vport);

	return err ? err : guid_show(buf, vport.node);
}

static ssize_t node_store(struct kobject *kobj, struct kobj_attribute *attr,
			  const char *buf, size_t count)
{
	return guid_store(kobj, buf, count, RIG_NODE);
}

static ssize_t port_show(struct kobject *kobj, struct kobj_attribute *attr,
			 char *buf)
{
	struct rig_vfdir *dir = to_vfdir(kobj);
	struct rig_vport vport;
	int err = rig_vport_get(dir->pf, dir->vf, &vport);

	return err ? err : guid_show(buf, vport.port);
}

static ssize_t port_store(struct kobject *kobj, struct kobj_attribute *attr,
			  const char *buf, size_t count)
{
	return guid_store(kobj, buf, count, RIG_PORT);
}

static ssize_t policy_show(struct kobject *kobj, struct kobj_attribute *attr,
			   char *buf)
{
	struct rig_vfdir *dir = to_vfdir(kobj);
	struct rig_vport vport;
	int err = rig_vport_get(dir->pf, dir->vf, &vport);

	if (err)
		return err;
	return sysfs_emit(buf, "%s\n", vport.policy < ARRAY_SIZE(policies) ?
			  policies[vport.policy] : "Invalid policy");
}

static ssize_t policy_store(struct kobject *kobj, struct kobj_attribute *attr,
			    const char *buf, size_t count)
{
	struct rig_vfdir *dir = to_vfdir(kobj);
	int policy = sysfs_match_string(policies, buf);
	int err;

	if (policy < 0)
		return policy;
	err = rig_vport_set(dir->pf, dir->vf, RIG_POLICY, policy, false);
	return err ? err : count;
}

static struct kobj_attribute node_attr = __ATTR_RW(node);
static struct kobj_attribute port_attr = __ATTR_RW(port);
static struct kobj_attribute policy_attr = __ATTR_RW(policy);

static struct attribute *vf_attrs[] = {
	&node_attr.attr, &port_attr.attr, &policy_attr.attr, NULL,
};
ATTRIBUTE_GROUPS(vf);

static void vfdir_release(struct kobject *kobj)
{
	kfree(to_vfdir(kobj));
}

static const struct kobj_type vfdir_type = {
	.sysfs_ops = &kobj_sysfs_ops,
	.default_groups = vf_groups,
	.release = vfdir_release,
};

static bool ofed_wanted(const struct rig_pf *pf)
{
	int ofed = READ_ONCE(rig_ofed);

	return ofed < 0 ? pf->hca->ofed : ofed;
}

/**
 * rig_ofed_init() - the folder "sriov", there from the PF's probe on
 * @pf: the PF
 *
 * Return: 0 or a negative errno.
 */
int rig_ofed_init(struct rig_pf *pf)
{
	pf->vfdir = kcalloc(pf->total, sizeof(*pf->vfdir), GFP_KERNEL);
	if (!pf->vfdir)
		return -ENOMEM;
	if (!ofed_wanted(pf))
		return 0;
	pf->sriov = kobject_create_and_add("sriov", &pf->pdev->dev.kobj);
	return pf->sriov ? 0 : -ENOMEM;
}

void rig_ofed_exit(struct rig_pf *pf)
{
	rig_ofed_disable(pf);
	kobject_put(pf->sriov);
	kfree(pf->vfdir);
	pf->sriov = NULL;
	pf->vfdir = NULL;
}

/**
 * rig_ofed_enable() - the folders of the VFs, there before the VFs are
 * @pf: the PF
 * @vfs: number of VFs
 */
void rig_ofed_enable(struct rig_pf *pf, unsigned int vfs)
{
	unsigned int vf;

	if (!ofed_wanted(pf)) {
		kobject_put(pf->sriov);
		pf->sriov = NULL;
		return;
	}
	if (!pf->sriov)
		pf->sriov = kobject_create_and_add("sriov",
						   &pf->pdev->dev.kobj);
	for (vf = 0; pf->sriov && vf < vfs; vf++) {
		struct rig_vfdir *dir = kzalloc(sizeof(*dir), GFP_KERNEL);

		if (!dir)
			return;
		dir->pf = pf;
		dir->vf = vf;
		if (kobject_init_and_add(&dir->kobj, &vfdir_type, pf->sriov,
					 "%u", vf)) {
			kobject_put(&dir->kobj);
			return;
		}
		pf->vfdir[vf] = &dir->kobj;
	}
}

void rig_ofed_disable(struct rig_pf *pf)
{
	unsigned int vf;

	for (vf = 0; pf->vfdir && vf < pf->total; vf++) {
		if (!pf->vfdir[vf])
			continue;
		/* Waits for readers and writers, who use @pf. */
		kobject_del(pf->vfdir[vf]);
		kobject_put(pf->vfdir[vf]);
		pf->vfdir[vf] = NULL;
	}
}
