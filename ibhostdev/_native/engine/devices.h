/* SPDX-License-Identifier: Apache-2.0 */
/* PFs, VFs and their networks, as the kernel tells of them. */
#ifndef IBHOSTDEV_ENGINE_DEVICES_H
#define IBHOSTDEV_ENGINE_DEVICES_H

#include "host.h"

/* ---- pf.c -------------------------------------------------------------- */

/* What pf_read() came upon: the digest of its network devices' names; whether
 * the kernel had only begun to make the folder of an IB device, so that there
 * may be more to see; and whether it has no InfiniBand port, or fewer network
 * devices than ports, as while its drivers go. */
struct pf_seen {
	uint64_t netdevs;
	bool early, lacks;
};

/* Fills *pf with what a function is that a driver has; *is_one says whether
 * it is a PF with InfiniBand ports. */
struct ibh_error *pf_read(struct ibh_host *host, struct ibh_pci pci,
			  const char *driver, struct ibh_pf *pf, bool *is_one,
			  struct pf_seen *seen);
/* … and this the state of its ports, for which firmware is asked. */
void pf_read_states(struct ibh_host *host, struct ibh_pf *pf);
/* … and this its own GUIDs; false if one of them cannot be read now. */
bool pf_read_guids(struct ibh_host *host, struct ibh_pf *pf);
/* A number below the PF's folder: decimal, or hex as sysfs writes it; an
 * absent file counts as 0. */
struct ibh_error *pf_number(struct ibh_host *host, const struct ibh_pf *pf,
			    const char *file, unsigned int *number);

/* ---- topology.c -------------------------------------------------------- */

/* The PFs as they were at one time; never changed once it is made, but that
 * their GUIDs are read when somebody wants to know. */
struct topology {
	atomic_uint users;
	bool has_guids;
	struct ibh_pfs public;
	struct ibh_pf *pfs;
	/* What the directories' names add up to: class/infiniband, and each
	 * PF's network devices. */
	uint64_t devices, *nets;
	/* Some PF was read too early, or while it changed: what there is of it
	 * may be less than there is now. */
	bool early;
};

/* The PFs, read anew if anything says that they changed or if `anew`. To be
 * given back. */
struct ibh_error *topology_get(struct ibh_host *host, bool anew,
			       struct topology **topology);
void topology_put(struct topology *topology);
/* Reads the PFs' own GUIDs, unless they are known. */
void topology_guids(struct ibh_host *host, struct topology *topology);

/* ---- vf.c -------------------------------------------------------------- */

/* VF `index` of a PF at an address: the index, or -1. */
int vf_index(const struct ibh_pf *pf, struct ibh_pci pci);
void vf_address(const struct ibh_pf *pf, unsigned int index,
		char address[IBH_PCI_TEXT + 1]);
/*
 * For a look at many VFs, one after the other: the folder of the PF that the
 * last was of, and which VFs their PFs' own drivers have, by the lists of
 * these drivers. So a VF takes one short look, not two with a long way.
 */
struct glance {
	const struct ibh_pfs *pfs;
	bool many; /* else each is looked at by itself */
	const struct ibh_pf *pf; /* whose folder it is; NULL: nobody's */
	int folder;
	bool *own; /* of all VFs, PF after PF; NULL: not looked up */
};

/* … of which there are so many. */
void glance_begin(struct ibh_host *host, const struct ibh_pfs *pfs,
		  size_t count, struct glance *glance);
void glance_end(struct ibh_host *host, struct glance *glance);
/* false if it is not there (any more). */
bool vf_read(struct ibh_host *host, const struct ibh_pf *pf,
	     unsigned int index, struct ibh_vf *vf);
/* `glance` is of these PFs, or NULL. */
struct ibh_error *vf_locate(struct ibh_host *host,
			    const struct ibh_pfs *pfs, struct ibh_pci pci,
			    struct glance *glance, const struct ibh_pf **pf,
			    struct ibh_vf *vf);
/* The node GUID that the VF's own driver on this host took when it was
 * bound, IBH_GUID_IDLE if that was zero, 0 if it shows none. */
uint64_t vf_own_identity(struct ibh_host *host, const struct ibh_vf *vf);
/* Whether a VF has a network device in this namespace, and whether any of a
 * PF has. */
bool vf_has_netdev(struct ibh_host *host, const struct ibh_vf *vf);
bool vfs_have_netdevs(struct ibh_host *host, const struct ibh_pf *pf);
/* Whether it looks as if the network device of a VF that the vendor's driver
 * has were in another namespace; `some` of its PF's have one here. */
bool vf_is_lent(struct ibh_host *host, const struct ibh_pf *pf,
		const struct ibh_vf *vf, bool some);

/* ---- network.c --------------------------------------------------------- */

struct ibh_error *networks_set(struct ibh_host *host,
			       const struct ibh_mapping *mappings,
			       size_t count);
void networks_free(struct ibh_host *host);
/* Whether it can be the name of a physical network or of a device. */
bool network_is_name(const char *text);
/* Whether anything is mapped to a network; not to NULL. */
bool network_mapped(const struct ibh_host *host, const char *network);
/* … and whether its PFs are a fabric of their own by that. */
bool network_apart(const struct ibh_host *host, const char *network);
/* The port on which a PF is behind a network, 0 if it is not. */
unsigned int network_port(const struct ibh_host *host, const char *network,
			  const struct ibh_pf *pf);
/* Finds the altnames by which network devices of PFs are mapped; the kernel is
 * asked for what is no other name of a PF. */
void networks_find(struct ibh_host *host, const struct ibh_pfs *pfs);
/* … and whether they are so still. */
bool networks_hold(struct ibh_host *host, const struct ibh_pfs *pfs);
/* Whether a PF here has that name. */
bool network_leads(const struct ibh_pfs *pfs, const char *device);
/* A device that a network is mapped to and no PF has; NULL. */
const char *network_missing(const struct ibh_host *host, const char *network,
			    const struct ibh_pfs *pfs);
/* What PFs may be named by: "ib0, ib1". */
void network_devices(const struct ibh_pfs *pfs, char *text, size_t size);
/* The names of all networks, or of the devices of one: "a, b, c". */
void network_names(const struct ibh_host *host, const char *of, char *text,
		   size_t size);

/* ---- netlink_ask.c, netlink_set.c -------------------------------------- */

struct vf_set; /* rtnetlink.h */
struct vf_info;
struct dump;

/*
 * Asks about a network device's VFs: the records are in *infos, to be freed.
 * A negative errno; EBADMSG is an answer that does not hold together. Where
 * it takes a dump, that is the one of `dump`, unless it is NULL.
 */
int netlink_ask(struct ibh_host *host, int ifindex, struct dump *dump,
		struct vf_info **infos, size_t *count);
/* The same with their traffic, which costs firmware a query for each. */
int netlink_traffic(struct ibh_host *host, int ifindex,
		    struct vf_info **infos, size_t *count);
/*
 * A dump that serves several network devices, as many as are added: of
 * whoever asks, in whatever thread, the first has it taken. It holds until
 * dump_again(), so nothing may be written meanwhile.
 */
int dump_new(size_t most, struct dump **dump);
void dump_add(struct dump *dump, int ifindex);
void dump_again(struct dump *dump);
void dump_free(struct dump *dump);
/*
 * The network device that has a name, which may be an altname of its: its
 * index, and by which name sysfs has it.
 */
int netlink_named(struct ibh_host *host, const char *name, int *ifindex,
		  char netdev[IBH_NAME]);
/*
 * Sends RTM_SETLINKs: sets[0 … ends[0]), sets[ends[0] … ends[1]) and so on,
 * and puts 0 or a negative errno for each into answers. A message that
 * failed may have been applied up to any attribute. `stop` is asked between
 * windows of messages: then the rest is not sent and answers ECANCELED.
 */
void netlink_set(struct ibh_host *host, int ifindex,
		 const struct vf_set *sets, const size_t *ends, size_t count,
		 int *answers, bool (*stop)(void *context), void *context);

#endif
