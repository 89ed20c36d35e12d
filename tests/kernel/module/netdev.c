// SPDX-License-Identifier: GPL-2.0-only
/*
 * IPoIB netdevs.  On mlx5 the PF's has the operations for VFs.
 */
#include <linux/ethtool.h>
#include <linux/if_arp.h>
#include <linux/if_infiniband.h>
#include <linux/module.h>
#include <linux/netdevice.h>

#include "rig.h"

struct rig_net {
	struct rig_pf *pf;
	struct pci_dev *pdev;
};

static netdev_tx_t rig_xmit(struct sk_buff *skb, struct net_device *netdev)
{
	dev_kfree_skb(skb);
	return NETDEV_TX_OK;
}

static int rig_set_vf_guid(struct net_device *netdev, int vf, u64 guid,
			   int type)
{
	struct rig_net *net = netdev_priv(netdev);

	switch (type) {
	case IFLA_VF_IB_NODE_GUID:
		return rig_vport_set(net->pf, vf, RIG_NODE, guid, true);
	case IFLA_VF_IB_PORT_GUID:
		return rig_vport_set(net->pf, vf, RIG_PORT, guid, true);
	}
	return -EINVAL;
}

/* From the driver's memory, no command: 0 unless set by netlink. */
static int rig_get_vf_guid(struct net_device *netdev, int vf,
			   struct ifla_vf_guid *node,
			   struct ifla_vf_guid *port)
{
	struct rig_net *net = netdev_priv(netdev);
	struct rig_vf_ctx *ctx;

	if (vf >= net->pf->total)
		return -EINVAL;
	ctx = &net->pf->ctx[vf];
	mutex_lock(&net->pf->lock);
	node->guid = ctx->node_valid ? ctx->set.node : 0;
	port->guid = ctx->port_valid ? ctx->set.port : 0;
	mutex_unlock(&net->pf->lock);
	node->vf = vf;
	port->vf = vf;
	return 0;
}

static int rig_set_vf_link_state(struct net_device *netdev, int vf, int state)
{
	struct rig_net *net = netdev_priv(netdev);
	enum rig_policy policy;

	switch (state) {
	case IFLA_VF_LINK_STATE_AUTO:
		policy = RIG_FOLLOW;
		break;
	case IFLA_VF_LINK_STATE_ENABLE:
		policy = RIG_UP;
		break;
	case IFLA_VF_LINK_STATE_DISABLE:
		policy = RIG_DOWN;
		break;
	default:
		return -EINVAL;
	}
	return rig_vport_set(net->pf, vf, RIG_POLICY, policy, true);
}

static int rig_get_vf_config(struct net_device *netdev, int vf,
			     struct ifla_vf_info *info)
{
	static const u32 states[] = {
		[RIG_DOWN] = IFLA_VF_LINK_STATE_DISABLE,
		[RIG_UP] = IFLA_VF_LINK_STATE_ENABLE,
		[RIG_FOLLOW] = IFLA_VF_LINK_STATE_AUTO,
	};
	struct rig_net *net = netdev_priv(netdev);
	struct rig_vport vport;
	int err;

	/* VF 0 comes once in each GETLINK that asks for VFs. */
	if (!vf)
		atomic_inc(&rig_getlinks);
	err = rig_vport_get(net->pf, vf, &vport);
	if (err)
		return err;
	memset(info, 0, sizeof(*info));
	info->vf = vf;
	info->linkstate = states[vport.policy];
	memcpy(info->mac, netdev->dev_addr, netdev->addr_len);
	return 0;
}

/* Numbers by which VFs and counters can be told apart. */
static int rig_get_vf_stats(struct net_device *netdev, int vf,
			    struct ifla_vf_stats *stats)
{
	struct rig_net *net = netdev_priv(netdev);
	u64 number = 1000 * (vf + 1);

	stats->rx_packets = number + IFLA_VF_STATS_RX_PACKETS;
	stats->tx_packets = number + IFLA_VF_STATS_TX_PACKETS;
	stats->rx_bytes = number + IFLA_VF_STATS_RX_BYTES;
	stats->tx_bytes = number + IFLA_VF_STATS_TX_BYTES;
	stats->broadcast = number + IFLA_VF_STATS_BROADCAST;
	stats->multicast = number + IFLA_VF_STATS_MULTICAST;
	stats->rx_dropped = number + IFLA_VF_STATS_RX_DROPPED;
	stats->tx_dropped = number + IFLA_VF_STATS_TX_DROPPED;
	return rig_query(net->pf, vf);
}

static const struct net_device_ops pf_ops = {
	.ndo_start_xmit		= rig_xmit,
	.ndo_set_vf_guid	= rig_set_vf_guid,
	.ndo_get_vf_guid	= rig_get_vf_guid,
	.ndo_set_vf_link_state	= rig_set_vf_link_state,
	.ndo_get_vf_config	= rig_get_vf_config,
	.ndo_get_vf_stats	= rig_get_vf_stats,
};

/* mlx4, and every VF. */
static const struct net_device_ops plain_ops = {
	.ndo_start_xmit		= rig_xmit,
};

static void rig_get_drvinfo(struct net_device *netdev,
			    struct ethtool_drvinfo *info)
{
	struct rig_net *net = netdev_priv(netdev);

	strscpy(info->driver, net->pf->hca->family == RIG_MLX5 ?
		"mlx5_core[ib_ipoib]" : "ib_ipoib", sizeof(info->driver));
	strscpy(info->fw_version, "0.0.0 (IBHOSTDEV_RIG)",
		sizeof(info->fw_version));
	strscpy(info->bus_info, pci_name(net->pdev), sizeof(info->bus_info));
}

static const struct ethtool_ops rig_ethtool_ops = {
	.get_drvinfo	= rig_get_drvinfo,
	.get_link	= ethtool_op_get_link,
};

static void rig_setup(struct net_device *netdev)
{
	static const u8 broadcast[INFINIBAND_ALEN] = {
		0x00, 0xff, 0xff, 0xff, 0xff, 0x12, 0x40, 0x1b, 0xff, 0xff,
		0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
	};

	netdev->type = ARPHRD_INFINIBAND;
	netdev->addr_len = INFINIBAND_ALEN;
	netdev->hard_header_len = 4;
	netdev->mtu = 2044;
	netdev->max_mtu = 4092;
	netdev->tx_queue_len = 256;
	netdev->flags = IFF_BROADCAST | IFF_MULTICAST;
	netdev->ethtool_ops = &rig_ethtool_ops;
	memcpy(netdev->broadcast, broadcast, sizeof(broadcast));
}

/**
 * rig_netdev_add() - register an IPoIB netdev
 * @pf: the PF
 * @pdev: the PCI function that it belongs to: the PF or a VF of it
 * @port: port of the HCA, from 1
 * @guid: GUID of that port
 * @vf: @pdev is a VF
 *
 * Return: the netdev or an error pointer.
 */
struct net_device *rig_netdev_add(struct rig_pf *pf, struct pci_dev *pdev,
				  unsigned int port, u64 guid, bool vf)
{
	struct {
		__be32 qpn;
		__be64 prefix;
		__be64 guid;
	} __packed address = {
		cpu_to_be32(0x48 + port), cpu_to_be64(RIG_PREFIX),
		cpu_to_be64(guid),
	};
	struct net_device *netdev;
	struct rig_net *net;
	int err;

	netdev = alloc_netdev(sizeof(*net), "ib%d", NET_NAME_ENUM, rig_setup);
	if (!netdev)
		return ERR_PTR(-ENOMEM);
	net = netdev_priv(netdev);
	net->pf = pf;
	net->pdev = pdev;
	netdev->netdev_ops = pf->hca->family == RIG_MLX5 && !vf ?
			     &pf_ops : &plain_ops;
	BUILD_BUG_ON(sizeof(address) != INFINIBAND_ALEN);
	__dev_addr_set(netdev, &address, sizeof(address));
	netdev->dev_port = port - 1;
	netdev->dev_id = port - 1;
	SET_NETDEV_DEV(netdev, &pdev->dev);
	err = register_netdev(netdev);
	if (err) {
		free_netdev(netdev);
		return ERR_PTR(err);
	}
	return netdev;
}

void rig_netdev_remove(struct net_device *netdev)
{
	if (IS_ERR_OR_NULL(netdev))
		return;
	unregister_netdev(netdev);
	free_netdev(netdev);
}

/**
 * rig_netdev_has_vfs() - is this a netdev of ours that tells of VFs?
 * @netdev: any netdev
 *
 * Return: true if it is an mlx5 PF's.
 */
bool rig_netdev_has_vfs(const struct net_device *netdev)
{
	return netdev->netdev_ops == &pf_ops;
}

int rig_netdev_init(struct rig_pf *pf)
{
	unsigned int i;

	for (i = 0; pf->hca->netdev && i < pf->hca->ports; i++) {
		struct net_device *netdev;

		netdev = rig_netdev_add(pf, pf->pdev, i + 1,
					pf->guid + i + 1, false);
		if (IS_ERR(netdev)) {
			rig_netdev_exit(pf);
			return PTR_ERR(netdev);
		}
		pf->netdev[i] = netdev;
	}
	return 0;
}

void rig_netdev_exit(struct rig_pf *pf)
{
	unsigned int i;

	for (i = 0; i < RIG_MAX_PORTS; i++) {
		rig_netdev_remove(pf->netdev[i]);
		pf->netdev[i] = NULL;
	}
}
