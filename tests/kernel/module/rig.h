/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * ibhostdev_rig: what its parts share.
 *
 * A test-only stand-in for the SR-IOV side of mlx5_core and mlx4_core, over
 * any SR-IOV capable PCI function.  It moves no data; it keeps vGUIDs and
 * shows them where the vendor's drivers do, with the same habits.
 */
#ifndef IBHOSTDEV_RIG_H
#define IBHOSTDEV_RIG_H

#include <linux/if_link.h>
#include <linux/kobject.h>
#include <linux/mutex.h>
#include <linux/netdevice.h>
#include <linux/pci.h>
#include <linux/types.h>
#include <rdma/ib_verbs.h>

#define RIG_MAX_HCAS	8
#define RIG_MAX_PORTS	2
/* Physical P_Key table: the last is "none", and not shown (drivers/net/
 * ethernet/mellanox/mlx4/main.c, mlx4_parav_master_pf_caps()). */
#define RIG_PKEYS	8

#define RIG_GUID_NONE	(~0ULL)
#define RIG_PREFIX	0xfe80000000000000ULL

enum rig_family { RIG_MLX5, RIG_MLX4 };

/* Policies of the firmware (include/linux/mlx5/driver.h has the same). */
enum rig_policy { RIG_DOWN, RIG_UP, RIG_FOLLOW };

/* What a MODIFY_HCA_VPORT_CONTEXT changes. */
enum rig_field {
	RIG_PORT	= 1,
	RIG_NODE	= 2,
	RIG_POLICY	= 4,
};

/**
 * struct rig_hca - what the "hca" parameter says of one PCI function
 * @used: this is an entry
 * @domain: PCI domain
 * @bus: PCI bus
 * @devfn: PCI device and function
 * @family: which driver it is for
 * @ports: 1, or 2 with mlx4
 * @vfs: mlx4: number of VFs, made at probe
 * @ofed: the vendor's sysfs files are there
 * @netdev: there is an IPoIB netdev
 * @pdev: the function itself, between rewriting its ids and giving them back
 * @vendor: its own vendor id
 * @device: its own device id
 * @class: its own class
 * @pf: the PF while it is on the driver
 * @fail_numvfs: errno with which its next VFs are not made; 0: they are
 * @fail_after: how many of these come before that
 */
struct rig_hca {
	bool used;
	int domain;
	u8 bus;
	u8 devfn;
	enum rig_family family;
	unsigned int ports;
	unsigned int vfs;
	bool ofed;
	bool netdev;
	struct pci_dev *pdev;
	u16 vendor;
	u16 device;
	u32 class;
	struct rig_pf *pf;
	int fail_numvfs;
	unsigned int fail_after;
};

/**
 * struct rig_vport - a virtual port
 * @node: node GUID, first octet most significant
 * @port: port GUID
 * @policy: enum rig_policy
 */
struct rig_vport {
	u64 node;
	u64 port;
	u8 policy;
};

/**
 * struct rig_vf_ctx - what the PF's driver remembers of a VF
 * @set: values that were set, by whom ever
 * @node_valid: the node GUID was set by netlink
 * @port_valid: the port GUID was set by netlink
 */
struct rig_vf_ctx {
	struct rig_vport set;
	bool node_valid;
	bool port_valid;
};

struct rig_ibdev {
	struct ib_device ibdev;		/* first: ib_alloc_device() */
	struct rig_pf *pf;
	int vf;				/* -1: the PF's own */
	unsigned int ports;
	u64 port_guid[RIG_MAX_PORTS];	/* as read at probe */
};

struct rig_iov;

/**
 * struct rig_pf - a PF on one of the two drivers
 * @pdev: its PCI function
 * @hca: its configuration
 * @total: number of VFs that it can have
 * @enabled: number of VFs that the firmware has enabled
 * @lock: guards @vport and @ctx
 * @vport: firmware: [0] the PF's, [n + 1] VF n's
 * @ctx: driver: [n] VF n's
 * @guid: its node GUID; port GUIDs follow
 * @ib: its IB device
 * @netdev: its IPoIB netdevs, by port
 * @sriov: OFED: folder "sriov"
 * @vfdir: OFED: folders of the VFs
 * @iov: mlx4: folder "iov" and what is behind it
 */
struct rig_pf {
	struct pci_dev *pdev;
	struct rig_hca *hca;
	unsigned int total;
	unsigned int enabled;
	struct mutex lock;
	struct rig_vport *vport;
	struct rig_vf_ctx *ctx;
	u64 guid;
	struct rig_ibdev *ib;
	struct net_device *netdev[RIG_MAX_PORTS];
	struct kobject *sriov;
	struct kobject **vfdir;
	struct rig_iov *iov;
};

struct rig_vf {
	struct rig_ibdev *ib;
	struct net_device *netdev;
};

/* knobs.c: parameters, failures, counters */
extern struct rig_hca rig_hcas[RIG_MAX_HCAS];
extern bool rig_keep_vfs;
extern uint rig_sm_lid;
extern uint rig_port_state;
extern uint rig_sm_delay_ms;
extern uint rig_sm_retry_ms;
extern bool rig_sm_silent;
extern bool rig_mlx4_random;
extern ushort rig_pkeys[RIG_PKEYS];
extern bool rig_vf_netdev;
extern int rig_ofed;
extern uint rig_probe_delay_ms;
extern atomic_t rig_getlinks;
extern atomic_t rig_probes;

int rig_modify(const struct rig_pf *pf, u32 vf);
int rig_modify_nowait(const struct rig_pf *pf, u32 vf);
int rig_query(const struct rig_pf *pf, u32 vf);
int rig_refused(const struct rig_pf *pf, u32 vf);
void rig_command_sleep(void);
void rig_step(void);
void rig_knobs_live(void);
void rig_knobs_exit(void);

/* estimate.c: a kernel that expects too small messages */
void rig_estimate_exit(void);

/* main.c: the functions that "hca" names */
int rig_claim(struct rig_hca *hca);
int rig_reset(struct rig_hca *hca);

/* vport.c: the firmware's and the mlx5 driver's memory */
int rig_vport_init(struct rig_pf *pf);
void rig_vport_exit(struct rig_pf *pf);
void rig_vport_reset(struct rig_pf *pf);
void rig_vport_enable(struct rig_pf *pf, unsigned int vfs);
void rig_vport_disable(struct rig_pf *pf);
int rig_vport_set(struct rig_pf *pf, u32 vf, enum rig_field field, u64 value,
		  bool netlink);
int rig_vport_get(struct rig_pf *pf, u32 vf, struct rig_vport *vport);
void rig_vport_peek(struct rig_pf *pf, u32 vf, struct rig_vport *vport);

/* ofed.c: MLNX_OFED's sysfs files */
int rig_ofed_init(struct rig_pf *pf);
void rig_ofed_exit(struct rig_pf *pf);
void rig_ofed_enable(struct rig_pf *pf, unsigned int vfs);
void rig_ofed_disable(struct rig_pf *pf);

/* netdev.c: the IPoIB netdevs */
int rig_netdev_init(struct rig_pf *pf);
void rig_netdev_exit(struct rig_pf *pf);
struct net_device *rig_netdev_add(struct rig_pf *pf, struct pci_dev *pdev,
				  unsigned int port, u64 guid, bool vf);
void rig_netdev_remove(struct net_device *netdev);
bool rig_netdev_has_vfs(const struct net_device *netdev);

/* ibdev.c: the IB devices */
struct rig_ibdev *rig_ibdev_add(struct rig_pf *pf, struct pci_dev *pdev,
				int vf, u64 node, const u64 *port_guid,
				unsigned int ports);
void rig_ibdev_remove(struct rig_ibdev *ib);
u16 rig_pkey(unsigned int index);

/* mlx4.c: the folder "iov" */
int rig_iov_init(struct rig_pf *pf);
void rig_iov_exit(struct rig_pf *pf);
void rig_iov_reset(struct rig_pf *pf);
u64 rig_iov_guid(struct rig_pf *pf, int vf, unsigned int port);

#endif
