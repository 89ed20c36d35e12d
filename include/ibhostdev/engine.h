/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine of ibhostdev: gives the InfiniBand VFs of a host their
 * identities, many in a call, and takes them back.
 *
 *   struct ibh_host *host;
 *   struct ibh_error *error;
 *   struct ibh_batch *batch;
 *
 *   if (ibh_host_open(&(struct ibh_options){ 0 }, &host, &error))
 *           ...ibh_error_text(error, text, sizeof(text))
 *   if (ibh_plug(host, vifs, count, NULL, &batch, &error))
 *           ...nothing was written
 *   for (i = 0; i < batch->count; i++)
 *           ...batch->results[i]
 *   ibh_batch_free(batch);
 *   ibh_host_close(host);
 *
 * Functions that can fail return 0, or -1 with *error set, which the caller
 * frees with ibh_error_free(). Nothing here prints, exits, changes signals
 * or keeps state outside a host. A host may be used by several threads at
 * once; hosts of several processes keep out of each other's way by locks.
 *
 * A GUID is a number whose most significant byte is the first octet of its
 * text (guid.h); 0 stands for "none". Indices of VFs count from 0, ports of
 * an HCA from 1.
 */
#ifndef IBHOSTDEV_ENGINE_H
#define IBHOSTDEV_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guid.h"
#include "pci.h"

#define IBH_PUBLIC __attribute__((visibility("default")))

#define IBH_NAME 64 /* of a device, with its NUL; the kernel's have less */

/* ---- errors ------------------------------------------------------------ */

/* What kind of thing went wrong: a class of ibhostdev.errors each. */
enum ibh_kind {
	IBH_COMMAND_FAILED, /* kernel, driver or firmware refused */
	IBH_INVALID_INPUT,
	IBH_DEVICE_NOT_FOUND,
	IBH_WRONG_NETWORK,
	IBH_GUID_CONFLICT,
	IBH_DEVICE_IN_USE,
	IBH_NO_MECHANISM,
	IBH_ACCESS_DENIED, /* EPERM, EACCES, EROFS */
	IBH_NOT_VERIFIED,
	IBH_TIMED_OUT,
	IBH_REBIND_FAILED,
	IBH_ROLLED_BACK, /* nothing wrong here, another VF failed */
	IBH_ROLLBACK_FAILED,
	IBH_NOT_RUNNING, /* a daemon, or who serves a simulated host */
	IBH_OTHER,
};

/*
 * `device` is a PCI address, a network device or a file, `attribute` a sysfs
 * file, a message or the name of an input, `cure` what an operator can do;
 * each may be NULL. `number` is an errno, or 0.
 */
struct ibh_error {
	enum ibh_kind kind;
	int number;
	const char *message, *device, *attribute, *cure;
};

/* For who implements a struct ibh_foreign; NULL if memory is out, which
 * every function here takes for an error that says so. */
IBH_PUBLIC struct ibh_error *ibh_error_new(enum ibh_kind kind,
					   const char *message,
					   const char *device,
					   const char *attribute, int number,
					   const char *cure);
IBH_PUBLIC void ibh_error_free(struct ibh_error *error);
/* "DEVICE ATTRIBUTE: message: strerror (ENAME); cure", cut to fit. */
IBH_PUBLIC void ibh_error_text(const struct ibh_error *error, char *text,
			       size_t size);

/* ---- states ------------------------------------------------------------ */

/* Administrative link state of a VF, as IFLA_VF_LINK_STATE counts it
 * (include/uapi/linux/if_link.h): auto, enable, disable. */
enum ibh_policy { IBH_FOLLOW = 0, IBH_UP = 1, IBH_DOWN = 2 };

#define IBH_HAVE_NODE 1u
#define IBH_HAVE_PORT 2u
#define IBH_HAVE_POLICY 4u
#define IBH_HAVE_PKEYS 8u
#define IBH_HAVE_PKEY 16u

#define IBH_PKEY 8 /* "none", or an index of the port's table, and a NUL */

/*
 * Identity and policy of a VF, as far as `have` says; what it does not have
 * is not known, or not there (mlx4 has neither node GUIDs nor policies of
 * VFs). `pkeys` are mlx4's two pkey_idx entries as sysfs shows them: places in
 * the table of the PF's port; `pkey` is what that table has at the first of
 * them, 0 for nothing (drivers/infiniband/hw/mlx4/sysfs.c, show_port_pkey()
 * and show_phys_port_pkey()), and known only in results of plugs whose VIFs
 * name a P_Key. `pending` says that the subnet manager has not agreed to the
 * GUID.
 */
struct ibh_state {
	uint64_t node, port;
	uint16_t pkey;
	uint8_t have;
	uint8_t policy; /* enum ibh_policy */
	bool pending;
	char pkeys[2][IBH_PKEY];
};

/* ---- what is there ----------------------------------------------------- */

enum ibh_family { IBH_MLX5, IBH_MLX5_OFED, IBH_MLX4 };

/* The ways of setting identities, in the order of preference. */
enum ibh_mechanism {
	IBH_MLX5_NETLINK, /* RTM_SETLINK on the PF's IPoIB device */
	IBH_MLX5_SYSFS, /* MLNX_OFED's <PF>/sriov/<VF>/ */
	IBH_MLX4_SYSFS, /* <IB device>/iov/ */
	IBH_FOREIGN, /* the caller's: ebrctl */
	IBH_MECHANISMS,
	IBH_NO_CHOICE = IBH_MECHANISMS,
};

/* "mlx5_netlink" and so on; NULL beyond. */
IBH_PUBLIC const char *ibh_mechanism_name(enum ibh_mechanism mechanism);

#define IBH_MAX_PORTS 4
#define IBH_MAX_NETDEVS 8

/* `state` as the kernel writes it (ACTIVE, INIT, DOWN), `sm_lid` the LID of
 * the subnet manager, 0 if none is seen, `guid` the port GUID, 0 if it is not
 * shown. */
struct ibh_port {
	uint64_t guid;
	unsigned int number, sm_lid;
	char state[16];
};

#define IBH_ALTNAMES 256

/* An IPoIB network device of a PF, not one of its P_Key children. `altnames`
 * are those by which the host's mappings name it, each with a comma behind. */
struct ibh_netdev {
	char name[IBH_NAME];
	char altnames[IBH_ALTNAMES];
	int ifindex;
	unsigned int port;
};

/* An HCA function with InfiniBand ports. */
struct ibh_pf {
	struct ibh_pci pci;
	char address[IBH_PCI_TEXT + 1];
	char ib_device[IBH_NAME];
	char driver[IBH_NAME];
	enum ibh_family family;
	bool autoprobe;
	uint64_t node_guid; /* 0 if it is not shown */
	unsigned int port_count, netdev_count;
	struct ibh_port ports[IBH_MAX_PORTS]; /* by number */
	struct ibh_netdev netdevs[IBH_MAX_NETDEVS]; /* by port */
	/* SR-IOV: VF i has the routing id of the PF + offset + stride * i
	 * (drivers/pci/iov.c) */
	unsigned int numvfs, totalvfs, offset, stride;
};

/* The host's PFs by PCI address, as they were when they were looked at;
 * `left_out` says, for each that is ill, why it is not among them. */
struct ibh_pfs {
	size_t count;
	const struct ibh_pf *const *pfs;
	size_t left_out_count;
	const struct ibh_error *const *left_out;
};

/*
 * A VF: where it is and who drives it ("" for nobody). `in_use` says that it
 * is in a guest's hands.
 */
struct ibh_vf {
	unsigned int index;
	struct ibh_pci pci;
	char driver[IBH_NAME];
	bool in_use;
};

/* ---- the host ---------------------------------------------------------- */

struct ibh_host;

/* A physical network, Neutron's name for a fabric, and one device behind it:
 * the PCI address, IB device or IPoIB network device of a PF, the last by its
 * name or an altname. */
struct ibh_mapping {
	const char *network, *device;
};

/*
 * From NETWORK:DEVICE,NETWORK:DEVICE,… as eswitchd has it in `fabrics`:
 * commas and white space are between them, pairs of quotes around each or all,
 * blanks may be around a colon, and a # begins a comment. The mappings are
 * made of the text itself, which has room for one in IBH_MAPPING_TEXT
 * characters of it at most. `source` is where it comes from, for the error; may
 * be NULL.
 */
#define IBH_MAPPING_TEXT 4 /* "a:b" and a comma */
IBH_PUBLIC int ibh_read_mappings(char *text, const char *source,
				 struct ibh_mapping *mappings, size_t *count,
				 struct ibh_error **error);

/* A VF that a foreign mechanism is to write to, and what came of it. */
struct ibh_foreign_call {
	const struct ibh_pf *pf;
	unsigned int index; /* of the VF */
	const char *address; /* of the VF */
	uint64_t guid; /* to have; IBH_GUID_IDLE to take `owner` away */
	uint64_t owner; /* who it is known to belong to now, 0 nobody */
	const char *network; /* physical, as who asks calls it; may be NULL */
	bool back; /* it is to be as it was, however late it is */
	bool left; /* out: nothing was begun, for the batch is to end */
	struct ibh_error *error; /* out; freed by the engine */
};

/*
 * A mechanism whose functions are the caller's. The engine plans for it,
 * reads back by a native mechanism where one can show the VF, rolls back and
 * reports, as for its own. Functions are called without any lock of the
 * engine's but those of the PFs; write() and forget() in the thread that
 * called the engine, the others in any.
 */
struct ibh_foreign {
	const char *name;
	void *context;
	/* Why it cannot serve: 0 if it can, else 1 and the reason. */
	int (*obstacle)(void *context, char *why, size_t size);
	/* Whether a GUID can be given by it at all; NULL, or why not. */
	struct ibh_error *(*check)(void *context, uint64_t guid);
	/* All calls; they may be made at once. */
	void (*write)(void *context, struct ibh_foreign_call *calls,
		      size_t count);
	/* Take each call's `owner` away, whichever VF has it: `guid` becomes
	 * 1 if one had, 0 if none. */
	void (*forget)(void *context, struct ibh_foreign_call *calls,
		       size_t count);
};

struct ibh_options {
	const char *sysfs; /* NULL: "/sys" */
	const char *run_dir; /* of the locks; NULL: "/run/ibhostdev" */
	/* Of whoever stands in for the kernel on a simulated host: netlink
	 * port ids of NETLINK_USERSOCK for rtnetlink and for writes to sysfs;
	 * 0 is the kernel itself. */
	uint32_t netlink_port, sysfs_port;
	unsigned int lock_ms; /* wait for a PF's lock; 0: 180 s */
	/* For the subnet manager (mlx4), to agree to GUIDs and again to give
	 * P_Keys; 0: 10 s */
	unsigned int patience_ms;
	const struct ibh_mapping *mappings; /* none: all PFs are one fabric */
	size_t mapping_count;
	/* They are nobody's word for which PFs are apart: VFs have to be
	 * behind their networks, and GUIDs to be unique on all PFs. */
	bool mappings_only_refuse;
	const struct ibh_foreign *foreign; /* may be NULL; is copied */
};

IBH_PUBLIC int ibh_host_open(const struct ibh_options *options,
			     struct ibh_host **host, struct ibh_error **error);
/* Not while a call is under way. */
IBH_PUBLIC void ibh_host_close(struct ibh_host *host);

/*
 * The PFs: as of the last change of topology, or with `anew` of now. With
 * `states` their ports' states are among it, which firmware is asked for now:
 * one that does not answer takes a minute. They hold until ibh_pfs_free(),
 * whatever becomes of the host's hardware.
 */
IBH_PUBLIC int ibh_pfs(struct ibh_host *host, bool anew, bool states,
		       struct ibh_pfs **pfs, struct ibh_error **error);
IBH_PUBLIC void ibh_pfs_free(struct ibh_pfs *pfs);

/* The PCI address of a PF's VF. */
IBH_PUBLIC struct ibh_pci ibh_vf_pci(const struct ibh_pf *pf,
				     unsigned int index);

/* The VFs of these indices that are there, in this order; their number. */
IBH_PUBLIC int ibh_vfs(struct ibh_host *host, const struct ibh_pf *pf,
		       const unsigned int *indices, size_t count,
		       struct ibh_vf *vfs, size_t *found,
		       struct ibh_error **error);

/* The VF at an address, and its PF, one of *pfs. */
IBH_PUBLIC int ibh_locate(struct ibh_host *host, const struct ibh_pfs *pfs,
			  struct ibh_pci pci, const struct ibh_pf **pf,
			  struct ibh_vf *vf, struct ibh_error **error);

/* The name of the network device that has an altname: 0, or -1 if none has. */
IBH_PUBLIC int ibh_netdev_named(struct ibh_host *host, const char *altname,
				char name[IBH_NAME]);

/*
 * Which mechanism serves a PF on a port, IBH_NO_CHOICE if none does, and why
 * those before it do not ("" for those that were not asked). `forced` is one
 * to be taken and no other, or IBH_NO_CHOICE.
 */
struct ibh_choice {
	enum ibh_mechanism mechanism;
	char against[IBH_MECHANISMS][160];
};

IBH_PUBLIC void ibh_choose(struct ibh_host *host, const struct ibh_pf *pf,
			   unsigned int port, enum ibh_mechanism forced,
			   struct ibh_choice *choice);

/*
 * The states of a PF's VFs on a port: all that can be known of those of
 * `indices`, at least the GUIDs of the others. `states` and `told` have
 * pf->numvfs entries; told is false for one that its driver could not be
 * asked about.
 */
IBH_PUBLIC int ibh_survey(struct ibh_host *host, const struct ibh_pf *pf,
			  unsigned int port, enum ibh_mechanism forced,
			  const unsigned int *indices, size_t count,
			  struct ibh_state *states, bool *told,
			  struct ibh_error **error);

/*
 * Whether the kernel, when it was last asked about a PF's VFs by netlink, could
 * not put them into one answer (EMSGSIZE), so that all network devices have
 * to be asked about.
 */
IBH_PUBLIC bool ibh_asks_all(struct ibh_host *host, const struct ibh_pf *pf,
			     unsigned int port);
/* … or its answer could not be used at all, so that MLNX_OFED's files were
 * read. */
IBH_PUBLIC bool ibh_asks_files(struct ibh_host *host, const struct ibh_pf *pf,
			       unsigned int port);

/* What a VF has sent and received since its PF's driver made it. What an
 * adapter does not count is 0. */
struct ibh_traffic {
	uint64_t rx_packets, tx_packets, rx_bytes, tx_bytes;
	uint64_t rx_broadcast, rx_multicast, rx_dropped, tx_dropped;
};

/*
 * The traffic of a PF's VFs on a port, by netlink: the driver asks firmware
 * about each of them, with the kernel's RTNL lock held. `traffic` and `told`
 * have pf->numvfs entries; told is false for one of which there is none.
 */
IBH_PUBLIC int ibh_count_traffic(struct ibh_host *host,
				 const struct ibh_pf *pf, unsigned int port,
				 struct ibh_traffic *traffic, bool *told,
				 struct ibh_error **error);

/* ---- batches ----------------------------------------------------------- */

/*
 * A port: the GUIDs it is to have, and on which VF. For unplug the address
 * is a hint and may be missing. `node_guid` 0 is the same as `port_guid`.
 *
 * `pkey` is for plugs: the P_Key that the VF is to have first, with the bit of
 * full members (0x8000) or without, as a port's table has it (InfiniBand
 * Architecture Specification, volume 1, 10.9.1.1); 0 leaves the first entry to
 * others. It is written on mlx4 alone; on mlx5 the subnet manager gives it, by
 * the GUID.
 */
struct ibh_vif {
	struct ibh_pci pci;
	bool has_pci;
	uint64_t port_guid, node_guid;
	uint16_t pkey;
	const char *network; /* physical; NULL is any */
};

enum ibh_stage {
	IBH_WRITE,
	IBH_VERIFY,
	IBH_REBIND,
	IBH_MAKE,
	IBH_BIND,
	IBH_STAGES
};

/*
 * What a plug makes of the link where no policy is given, and where VFs have
 * one that is ours to set. A new identity comes with a link that follows the
 * fabric, but for the last.
 */
enum ibh_link {
	IBH_LINK_RAISED, /* one that is down follows the fabric */
	IBH_LINK_KEPT, /* if the identity is right, it stays as it is */
	IBH_LINK_LOWERED, /* down: the GUID is still in use elsewhere */
};

/* How a batch is to be run; all zero is the ordinary way. */
struct ibh_how {
	bool proceed; /* when a VF fails the others go on; else all go back */
	bool dry_run; /* only look and plan */
	bool keep_bound; /* unplug: leave VFs that show an old identity */
	/* plug, with `proceed`, for it could not be put back: a VF in a guest's
	 * hands of which the kernel, which shows what was set, knows no GUID
	 * gets its own. Else it is left alone. */
	bool renew;
	bool set_policy; /* plug: `policy`, whatever `link` says */
	enum ibh_policy policy;
	enum ibh_link link;
	bool force; /* `mechanism` and no other */
	enum ibh_mechanism mechanism;
	void *context; /* of the functions, each of which may be NULL */
	/*
	 * Asked in the calling thread between messages, while a lock is
	 * waited for, and when a system call was interrupted: other than 0
	 * ends the batch, and what was written is put back (not with
	 * `proceed`).
	 */
	int (*stop)(void *context);
	/* Of `total` VFs `done` are through with a stage; one call at a time,
	 * from any of the engine's threads. */
	void (*progress)(void *context, enum ibh_stage stage, size_t done,
			 size_t total);
};

/*
 * What became of a VIF. `pci` is the VF that was dealt with, which unplug
 * may have found elsewhere than the hint said. `verified` says that the
 * kernel has shown the state to be as wanted, or that no VF has the GUID to
 * be unplugged.
 */
struct ibh_result {
	struct ibh_pci pci;
	bool has_pci, has_before, has_after, changed, verified;
	enum ibh_mechanism mechanism; /* IBH_NO_CHOICE: none */
	struct ibh_state wanted, before, after;
	struct ibh_error *error; /* NULL: none */
};

/* A result for each VIF in the order of the call. `stopped` says that
 * how->stop ended it. `failed` counts results with an error. `moved` are the
 * other VFs that had a VIF's GUID, which was to be taken from them. */
struct ibh_batch {
	size_t count, failed, moved_count;
	struct ibh_result *results, *moved;
	size_t warning_count;
	char **warnings;
	bool stopped;
};

/*
 * Give VFs the identities of VIFs, and make their links follow the fabric.
 * On mlx4 a P_Key that is named is put first, once the subnet manager has
 * given it to the PF's port, the default partition behind it; without one the
 * first entry of a VF with a new identity is none. What is right already is
 * not written. Returns -1, with nothing written,
 * for a batch that is bad, or whose VFs or locks cannot be had; else 0 and
 * *batch, whose results may be errors.
 */
IBH_PUBLIC int ibh_plug(struct ibh_host *host, const struct ibh_vif *vifs,
			size_t count, const struct ibh_how *how,
			struct ibh_batch **batch, struct ibh_error **error);

/* Make the VFs idle that hold the VIFs' GUIDs, wherever they are; a GUID
 * that none holds is done already. */
IBH_PUBLIC int ibh_unplug(struct ibh_host *host, const struct ibh_vif *vifs,
			  size_t count, const struct ibh_how *how,
			  struct ibh_batch **batch, struct ibh_error **error);

/* Make VFs again what they were before they were plugged: `states` are the
 * `before` of these VIFs' results. A VF that fails does not stop the
 * others. */
IBH_PUBLIC int ibh_restore(struct ibh_host *host, const struct ibh_vif *vifs,
			   const struct ibh_state *states, size_t count,
			   struct ibh_batch **batch, struct ibh_error **error);

/*
 * Give VFs that have the VIFs' identities, whether guests have them or not,
 * the policies of `states`, and where VFs have P_Keys (mlx4) the first entry.
 * Identities are not written. What VFs do not have is not set. A VF that
 * fails does not stop the others; one that has another GUID fails.
 */
IBH_PUBLIC int ibh_adjust(struct ibh_host *host, const struct ibh_vif *vifs,
			  const struct ibh_state *states, size_t count,
			  struct ibh_batch **batch, struct ibh_error **error);

IBH_PUBLIC void ibh_batch_free(struct ibh_batch *batch);

/* ---- VFs made, and their drivers --------------------------------------- */

/* How many VFs a PF is to have. `changed` says that it has others than
 * before, or none; `error`, to be freed by the caller, why not these. */
struct ibh_making {
	struct ibh_pci pf;
	unsigned int vfs;
	bool changed;
	struct ibh_error *error;
};

/*
 * Make VFs on PFs, on several at once; one that has so many is left alone.
 * The kernel changes a number of VFs only by taking all away, so a PF with a
 * VF in a guest's hands is refused. Of `how` its functions count. Returns -1
 * if nothing could be begun.
 */
IBH_PUBLIC int ibh_make(struct ibh_host *host, struct ibh_making *makings,
			size_t count, const struct ibh_how *how,
			struct ibh_error **error);

/*
 * The driver that a VF is to be on: "" for none, NULL for the one that the
 * kernel gives it, if it has none. One that is on its own driver already and
 * shows another identity than `node_guid` (0: it may show any) is bound anew.
 */
struct ibh_driving {
	struct ibh_pci vf;
	const char *driver;
	uint64_t node_guid;
	bool changed;
	struct ibh_error *error; /* to be freed by the caller */
};

/* Bind VFs to drivers, many at once; never one in a guest's hands. */
IBH_PUBLIC int ibh_drive(struct ibh_host *host, struct ibh_driving *drivings,
			 size_t count, const struct ibh_how *how,
			 struct ibh_error **error);

#endif
