// SPDX-License-Identifier: GPL-2.0-only
/*
 * IB devices of PFs and of VFs that are on the HCA's driver.  No verbs:
 * just enough for class infiniband to show ports, GUIDs and tables.
 */
#include <linux/module.h>
#include <rdma/ib_mad.h>

#include "rig.h"

#define RIG_GIDS	2

static struct rig_ibdev *to_rig(struct ib_device *ibdev)
{
	return container_of(ibdev, struct rig_ibdev, ibdev);
}

/**
 * rig_pkey() - the physical P_Key table, which the parameter "pkeys" has
 * @index: index into it
 *
 * Return: the P_Key.
 */
u16 rig_pkey(unsigned int index)
{
	return index < RIG_PKEYS ? READ_ONCE(rig_pkeys[index]) : 0;
}

static int rig_query_device(struct ib_device *ibdev,
			    struct ib_device_attr *attr, struct ib_udata *udata)
{
	memset(attr, 0, sizeof(*attr));
	attr->sys_image_guid = cpu_to_be64(to_rig(ibdev)->pf->guid);
	attr->vendor_id = 0x02c9;
	attr->max_pkeys = RIG_PKEYS;
	return 0;
}

static enum ib_port_state rig_state(struct rig_ibdev *ib)
{
	struct rig_vport vport;

	if (ib->vf < 0 || ib->pf->hca->family != RIG_MLX5)
		return rig_port_state;
	rig_vport_peek(ib->pf, ib->vf, &vport);
	if (vport.policy == RIG_DOWN)
		return IB_PORT_DOWN;
	if (vport.policy == RIG_UP && rig_port_state != IB_PORT_ACTIVE)
		return IB_PORT_INIT;
	return rig_port_state;
}

static int rig_query_port(struct ib_device *ibdev, u32 port,
			  struct ib_port_attr *attr)
{
	attr->state = rig_state(to_rig(ibdev));
	attr->phys_state = attr->state == IB_PORT_DOWN ?
			   IB_PORT_PHYS_STATE_POLLING :
			   IB_PORT_PHYS_STATE_LINK_UP;
	attr->max_mtu = IB_MTU_4096;
	attr->active_mtu = IB_MTU_4096;
	attr->gid_tbl_len = RIG_GIDS;
	attr->pkey_tbl_len = RIG_PKEYS;
	attr->sm_lid = rig_sm_lid;
	attr->lid = 2;
	attr->active_width = IB_WIDTH_4X;
	attr->active_speed = IB_SPEED_EDR;
	return 0;
}

static int rig_query_gid(struct ib_device *ibdev, u32 port, int index,
			 union ib_gid *gid)
{
	gid->global.subnet_prefix = cpu_to_be64(RIG_PREFIX);
	gid->global.interface_id = index ? 0 :
		cpu_to_be64(to_rig(ibdev)->port_guid[port - 1]);
	return 0;
}

static int rig_query_pkey(struct ib_device *ibdev, u32 port, u16 index,
			  u16 *pkey)
{
	*pkey = rig_pkey(index);
	return 0;
}

static int rig_port_immutable(struct ib_device *ibdev, u32 port,
			      struct ib_port_immutable *immutable)
{
	immutable->pkey_tbl_len = RIG_PKEYS;
	immutable->gid_tbl_len = RIG_GIDS;
	immutable->core_cap_flags = RDMA_CORE_PORT_IBA_IB;
	immutable->max_mad_size = IB_MGMT_MAD_SIZE;
	return 0;
}

static enum rdma_link_layer rig_link_layer(struct ib_device *ibdev, u32 port)
{
	return IB_LINK_LAYER_INFINIBAND;
}

static const struct ib_device_ops rig_ops = {
	.owner			= THIS_MODULE,
	.driver_id		= RDMA_DRIVER_UNKNOWN,
	.query_device		= rig_query_device,
	.query_port		= rig_query_port,
	.query_gid		= rig_query_gid,
	.query_pkey		= rig_query_pkey,
	.get_port_immutable	= rig_port_immutable,
	.get_link_layer		= rig_link_layer,
};

/**
 * rig_ibdev_add() - register an IB device
 * @pf: the PF
 * @pdev: the PCI function that it belongs to: the PF or a VF of it
 * @vf: index of the VF, or -1
 * @node: its node GUID
 * @port_guid: its port GUIDs
 * @ports: number of ports
 *
 * Return: the device or an error pointer.
 */
struct rig_ibdev *rig_ibdev_add(struct rig_pf *pf, struct pci_dev *pdev,
				int vf, u64 node, const u64 *port_guid,
				unsigned int ports)
{
	const char *name = pf->hca->family == RIG_MLX5 ? "mlx5_%d" : "mlx4_%d";
	struct rig_ibdev *ib = ib_alloc_device(rig_ibdev, ibdev);
	unsigned int i;
	int err;

	if (!ib)
		return ERR_PTR(-ENOMEM);
	ib->pf = pf;
	ib->vf = vf;
	ib->ports = ports;
	for (i = 0; i < ports; i++)
		ib->port_guid[i] = port_guid[i];
	ib->ibdev.node_type = RDMA_NODE_IB_CA;
	ib->ibdev.phys_port_cnt = ports;
	ib->ibdev.num_comp_vectors = 1;
	ib->ibdev.node_guid = cpu_to_be64(node);
	ib->ibdev.dev.parent = &pdev->dev;
	snprintf(ib->ibdev.node_desc, sizeof(ib->ibdev.node_desc),
		 "ibhostdev_rig");
	ib_set_device_ops(&ib->ibdev, &rig_ops);
	err = ib_register_device(&ib->ibdev, name, &pdev->dev);
	if (err) {
		ib_dealloc_device(&ib->ibdev);
		return ERR_PTR(err);
	}
	return ib;
}

void rig_ibdev_remove(struct rig_ibdev *ib)
{
	if (IS_ERR_OR_NULL(ib))
		return;
	ib_unregister_device(&ib->ibdev);
	ib_dealloc_device(&ib->ibdev);
}
