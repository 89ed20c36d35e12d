// SPDX-License-Identifier: GPL-2.0-only
/*
 * ibhostdev_rig: test-only stand-ins for mlx5_core and mlx4_core.
 */
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>

#include "rig.h"

#define RIG_VENDOR	0x15b3
#define RIG_MLX5_PF	0x101b
#define RIG_MLX5_VF	0x101c
#define RIG_MLX4_PF	0x1003
#define RIG_MLX4_VF	0x1004
#define RIG_CLASS	0x020700	/* InfiniBand controller */

static struct rig_hca *find_hca(const struct pci_dev *pdev)
{
	unsigned int i;

	for (i = 0; i < RIG_MAX_HCAS; i++)
		if (rig_hcas[i].used && rig_hcas[i].pdev == pdev)
			return &rig_hcas[i];
	return NULL;
}

/* VFs */

static int vf_probe(struct pci_dev *pdev)
{
	struct rig_pf *pf = pci_get_drvdata(pci_physfn(pdev));
	int index = pci_iov_vf_id(pdev);
	u64 port_guid[RIG_MAX_PORTS];
	struct rig_vf *vf;
	u64 node;
	int err;

	if (!pf || index < 0 || index >= pf->total)
		return -ENODEV;
	atomic_inc(&rig_probes);
	rig_step();
	if (rig_probe_delay_ms)
		msleep(rig_probe_delay_ms);
	vf = kzalloc(sizeof(*vf), GFP_KERNEL);
	if (!vf)
		return -ENOMEM;
	err = pci_enable_device(pdev);
	if (err)
		goto free;

	/* What it is called from now on, whatever the PF's owner does. */
	if (pf->hca->family == RIG_MLX5) {
		struct rig_vport vport;

		rig_vport_peek(pf, index, &vport);
		node = vport.node;
		port_guid[0] = vport.port;
	} else {
		unsigned int port;

		node = pf->guid + 0x100 + index;
		for (port = 0; port < pf->hca->ports; port++)
			port_guid[port] = rig_iov_guid(pf, index, port);
	}
	vf->ib = rig_ibdev_add(pf, pdev, index, node, port_guid,
			       pf->hca->ports);
	if (IS_ERR(vf->ib)) {
		err = PTR_ERR(vf->ib);
		goto disable;
	}
	if (rig_vf_netdev) {
		vf->netdev = rig_netdev_add(pf, pdev, 1, port_guid[0], true);
		if (IS_ERR(vf->netdev)) {
			err = PTR_ERR(vf->netdev);
			goto remove;
		}
	}
	pci_set_drvdata(pdev, vf);
	return 0;

remove:
	rig_ibdev_remove(vf->ib);
disable:
	pci_disable_device(pdev);
free:
	kfree(vf);
	return err;
}

static void vf_remove(struct pci_dev *pdev)
{
	struct rig_vf *vf = pci_get_drvdata(pdev);

	rig_netdev_remove(vf->netdev);
	rig_ibdev_remove(vf->ib);
	pci_disable_device(pdev);
	kfree(vf);
}

/* PFs */

static bool is_vf_of(const struct pci_dev *vf, const struct pci_dev *pf)
{
	return vf->is_virtfn && vf->physfn == pf;
}

/* The VFs stay in PCI, but none on the driver. */
static void vfs_leave(struct rig_pf *pf)
{
	struct pci_dev *vf = NULL;

	for_each_pci_dev(vf)
		if (is_vf_of(vf, pf->pdev) && vf->driver == pf->pdev->driver)
			device_release_driver(&vf->dev);
}

static void vfs_disable(struct rig_pf *pf, bool keep)
{
	if (keep)
		vfs_leave(pf);
	else
		pci_disable_sriov(pf->pdev);
	if (pf->hca->family == RIG_MLX5) {
		rig_ofed_disable(pf);
		rig_vport_disable(pf);
	}
}

/*
 * When it fails, what it has made is gone again in the end, as in
 * drivers/pci/iov.c.  Unlike there, sriov_numvfs shows it for a moment, and a
 * uevent tells of it.
 */
static int vfs_make(struct rig_pf *pf, int vfs)
{
	int err = xchg(&pf->hca->fail_numvfs, 0);
	int after = READ_ONCE(pf->hca->fail_after);

	if (!err)
		return pci_enable_sriov(pf->pdev, vfs);
	if (after && !pci_enable_sriov(pf->pdev, min(after, vfs)))
		pci_disable_sriov(pf->pdev);
	return -err;
}

/* VFs that are there already were left by an earlier probe. */
static int vfs_enable(struct rig_pf *pf, int vfs)
{
	int err = 0;

	if (pf->hca->family == RIG_MLX5) {
		rig_vport_enable(pf, vfs);
		rig_ofed_enable(pf, vfs);
	}
	if (pci_num_vf(pf->pdev) != vfs)
		err = vfs_make(pf, vfs);
	if (err && pf->hca->family == RIG_MLX5) {
		rig_ofed_disable(pf);
		rig_vport_disable(pf);
	}
	return err;
}

static void pf_undo(struct rig_pf *pf)
{
	vfs_disable(pf, rig_keep_vfs);
	pf->hca->pf = NULL;
	rig_netdev_exit(pf);
	rig_iov_exit(pf);
	rig_ofed_exit(pf);
	rig_ibdev_remove(pf->ib);
	rig_vport_exit(pf);
	pci_disable_device(pf->pdev);
	kfree(pf);
}

static int pf_probe(struct pci_dev *pdev)
{
	struct rig_hca *hca = find_hca(pdev);
	u64 port_guid[RIG_MAX_PORTS];
	struct rig_pf *pf;
	int vfs, err;

	if (!hca)
		return -ENODEV;
	pf = kzalloc(sizeof(*pf), GFP_KERNEL);
	if (!pf)
		return -ENOMEM;
	pf->pdev = pdev;
	pf->hca = hca;
	pf->total = pci_sriov_get_totalvfs(pdev);
	pf->guid = 0x0002c90300000000ULL | (u64)hca->domain << 32 |
		   (u64)hca->bus << 24 | hca->devfn << 16;
	mutex_init(&pf->lock);
	err = pci_enable_device(pdev);
	if (err) {
		kfree(pf);
		return err;
	}
	port_guid[0] = pf->guid + 1;
	port_guid[1] = pf->guid + 2;
	err = rig_vport_init(pf);
	if (err)
		goto undo;
	pf->ib = rig_ibdev_add(pf, pdev, -1, pf->guid, port_guid, hca->ports);
	err = PTR_ERR_OR_ZERO(pf->ib);
	if (err)
		goto undo;
	err = hca->family == RIG_MLX4 ? rig_iov_init(pf) : rig_ofed_init(pf);
	if (err)
		goto undo;
	err = rig_netdev_init(pf);
	if (err)
		goto undo;
	pci_set_drvdata(pdev, pf);
	vfs = pci_num_vf(pdev);
	if (hca->family == RIG_MLX4 && hca->vfs != vfs) {
		pci_disable_sriov(pdev);
		vfs = hca->vfs;
	}
	if (vfs) {
		err = vfs_enable(pf, vfs);
		if (err)
			goto undo;
	}
	hca->pf = pf;
	return 0;

undo:
	pci_set_drvdata(pdev, NULL);
	pf_undo(pf);
	return err;
}

static int rig_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	return pdev->is_virtfn ? vf_probe(pdev) : pf_probe(pdev);
}

static void rig_remove(struct pci_dev *pdev)
{
	if (pdev->is_virtfn)
		vf_remove(pdev);
	else
		pf_undo(pci_get_drvdata(pdev));
}

static int mlx5_sriov_configure(struct pci_dev *pdev, int vfs)
{
	struct rig_pf *pf = pci_get_drvdata(pdev);
	int err;

	if (!vfs) {
		vfs_disable(pf, false);
		return 0;
	}
	err = vfs_enable(pf, vfs);
	return err ? err : vfs;
}

static const struct pci_device_id mlx5_ids[] = {
	{ PCI_DEVICE(RIG_VENDOR, RIG_MLX5_PF) },
	{ PCI_DEVICE(RIG_VENDOR, RIG_MLX5_VF) },
	{ }
};

static const struct pci_device_id mlx4_ids[] = {
	{ PCI_DEVICE(RIG_VENDOR, RIG_MLX4_PF) },
	{ PCI_DEVICE(RIG_VENDOR, RIG_MLX4_VF) },
	{ }
};

static struct pci_driver mlx5_driver = {
	.name = "mlx5_core",
	.id_table = mlx5_ids,
	.probe = rig_probe,
	.remove = rig_remove,
	.sriov_configure = mlx5_sriov_configure,
};

/* No sriov_configure: a write to sriov_numvfs gets ENOENT. */
static struct pci_driver mlx4_driver = {
	.name = "mlx4_core",
	.id_table = mlx4_ids,
	.probe = rig_probe,
	.remove = rig_remove,
};

/* The functions that "hca" names get the vendor's ids, and so do their VFs. */

static void claim_vf(struct pci_dev *vf, const struct rig_hca *hca)
{
	vf->vendor = RIG_VENDOR;
	vf->device = hca->family == RIG_MLX5 ? RIG_MLX5_VF : RIG_MLX4_VF;
	vf->class = RIG_CLASS;
}

/**
 * rig_claim() - make a function match one of the drivers
 * @hca: which function, and which driver
 *
 * Return: 0, or -ENODEV if it is not there, is on a driver or has no VFs.
 */
int rig_claim(struct rig_hca *hca)
{
	struct pci_dev *pdev = hca->pdev, *vf = NULL;
	int total;

	if (!pdev) {
		pdev = pci_get_domain_bus_and_slot(hca->domain, hca->bus,
						   hca->devfn);
		if (!pdev)
			return -ENODEV;
		hca->vendor = pdev->vendor;
		hca->device = pdev->device;
		hca->class = pdev->class;
	}
	total = pci_sriov_get_totalvfs(pdev);
	if (total <= 0 || hca->vfs > total || pdev->driver) {
		if (!hca->pdev)
			pci_dev_put(pdev);
		return -ENODEV;
	}
	hca->pdev = pdev;
	pdev->vendor = RIG_VENDOR;
	pdev->device = hca->family == RIG_MLX5 ? RIG_MLX5_PF : RIG_MLX4_PF;
	pdev->class = RIG_CLASS;
	for_each_pci_dev(vf)
		if (is_vf_of(vf, pdev))
			claim_vf(vf, hca);
	return 0;
}

static void unclaim_all(void)
{
	unsigned int i;

	for (i = 0; i < RIG_MAX_HCAS; i++) {
		struct rig_hca *hca = &rig_hcas[i];

		if (!hca->pdev)
			continue;
		if (pci_num_vf(hca->pdev))
			pci_disable_sriov(hca->pdev);
		hca->pdev->vendor = hca->vendor;
		hca->pdev->device = hca->device;
		hca->pdev->class = hca->class;
		pci_dev_put(hca->pdev);
		hca->pdev = NULL;
	}
}

/**
 * rig_reset() - a PF forgets all that was set
 * @hca: which PF
 *
 * Return: 0, or -ENODEV if it is not on its driver.
 */
int rig_reset(struct rig_hca *hca)
{
	int err = -ENODEV;

	device_lock(&hca->pdev->dev);
	if (hca->pf) {
		rig_vport_reset(hca->pf);
		if (hca->pf->iov)
			rig_iov_reset(hca->pf);
		err = 0;
	}
	device_unlock(&hca->pdev->dev);
	return err;
}

/* A new VF has the vendor of its PF, but its own device id and class. */
static int rig_notify(struct notifier_block *block, unsigned long action,
		      void *data)
{
	struct pci_dev *pdev = to_pci_dev(data);
	struct rig_hca *hca;

	if (action != BUS_NOTIFY_ADD_DEVICE || !pdev->is_virtfn)
		return NOTIFY_DONE;
	hca = find_hca(pdev->physfn);
	if (hca)
		claim_vf(pdev, hca);
	return NOTIFY_DONE;
}

static struct notifier_block rig_notifier = { .notifier_call = rig_notify };

static int __init rig_init(void)
{
	unsigned int i;
	int err = 0;

	for (i = 0; !err && i < RIG_MAX_HCAS; i++)
		if (rig_hcas[i].used)
			err = rig_claim(&rig_hcas[i]);
	if (err)
		goto ids;
	err = bus_register_notifier(&pci_bus_type, &rig_notifier);
	if (err)
		goto ids;
	err = pci_register_driver(&mlx5_driver);
	if (err)
		goto notifier;
	err = pci_register_driver(&mlx4_driver);
	if (err)
		goto driver;
	rig_knobs_live();
	return 0;

driver:
	pci_unregister_driver(&mlx5_driver);
notifier:
	bus_unregister_notifier(&pci_bus_type, &rig_notifier);
ids:
	unclaim_all();
	rig_estimate_exit();
	return err;
}

static void __exit rig_exit(void)
{
	pci_unregister_driver(&mlx4_driver);
	pci_unregister_driver(&mlx5_driver);
	bus_unregister_notifier(&pci_bus_type, &rig_notifier);
	unclaim_all();
	rig_estimate_exit();
	rig_knobs_exit();
}

module_init(rig_init);
module_exit(rig_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Stand-in for the vGUID side of mlx5_core and mlx4_core, for tests");
