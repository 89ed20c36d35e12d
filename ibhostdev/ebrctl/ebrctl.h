/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the stand-in for ebrctl share.
 *
 *   host.c      the host: sysfs, its HCAs and VFs, the locks
 *   identity.c  how VFs are told identities and asked for them
 *   ebrctl.c    the command: what is to be written, and what if it fails
 *
 * It means what the package's engine means (ibhostdev/planning.py and
 * plugging.py), for one VIF and without an interpreter to start. Functions
 * that can fail return 0, or -1 with the error told in *error.
 */
#ifndef IBHOSTDEV_EBRCTL_H
#define IBHOSTDEV_EBRCTL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ibhostdev/guid.h"
#include "ibhostdev/pci.h"

/* More than there are in a machine, and than the kernel can tell of in a
 * message; who has more is told so. */
#define MAX_PFS 32
#define MAX_PORTS 4
#define MAX_VFS 1024
#define MAX_HOLDERS 32
#define PATH_SIZE 512
#define NAME_SIZE 64
#define VALUE_SIZE 4097 /* a page and a byte: what fills it is no attribute */

/* ---- errors ----------------------------------------------------------- */

struct error {
	char text[1024];
};

/* "DEVICE ATTRIBUTE: what: strerror (ENAME); cure". `err` 0 has no errno;
 * no cure is the usual one of the errno. Returns -1. */
int fail(struct error *error, const char *device, const char *attribute,
	 int err, const char *cure, const char *what, ...)
	__attribute__((format(printf, 6, 7)));

void warn(const char *what, ...) __attribute__((format(printf, 1, 2)));

/* ---- the host --------------------------------------------------------- */

enum family { MLX5, MLX5_OFED, MLX4 };

struct netdev {
	char name[NAME_SIZE];
	int ifindex;
	unsigned int port;
};

/* An HCA function with InfiniBand ports. */
struct pf {
	struct ibh_pci pci;
	char address[IBH_PCI_TEXT + 1];
	char ib_device[NAME_SIZE];
	enum family family;
	unsigned int ports[MAX_PORTS], port_count;
	struct netdev netdevs[MAX_PORTS];
	unsigned int netdev_count;
	unsigned int numvfs, offset, stride;
	bool autoprobe;
};

enum mechanism { NOTHING, MLX5_NETLINK, MLX5_SYSFS, MLX4_SYSFS };

/* A PF on one of its ports, and what serves it there. */
struct side {
	const struct pf *pf;
	const struct netdev *netdev;
	unsigned int port;
	enum mechanism mechanism;
};

/* `in_use`: a driver of the VFIO kind has it enabled, which it is only while
 * some process holds it open (drivers/vfio/pci/vfio_pci_core.c). */
struct vf {
	const struct side *side;
	unsigned int index;
	char address[IBH_PCI_TEXT + 1];
	char driver[NAME_SIZE];
	bool in_use;
};

int host_open(struct error *error);

/* Values lose their newline; length, or a negative errno. */
int sysfs_read(char *value, size_t size, const char *path);
/* The last part of a link's target. */
int sysfs_link(char *name, size_t size, const char *path);
int sysfs_write(const char *path, const char *value);
/* Each name in a directory, in no order, until `take` returns other than 0;
 * that, or a negative errno. */
int sysfs_list(const char *path, int (*take)(const char *name, void *context),
	       void *context);
void join(char path[PATH_SIZE], const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Netlink to whom it is to be, and whether a network device as sysfs shows
 * it is the one that this reaches. */
int netlink_open(void);
uint32_t netlink_peer(void);
bool netlink_reaches(const struct pf *pf, const struct netdev *netdev,
		     char *why, size_t size);

/* The PFs with InfiniBand ports, by address. */
int find_pfs(struct error *error);
extern struct pf pfs[MAX_PFS];
extern unsigned int pf_count;
/* Whether a PF was left out for being ill. */
extern bool pf_missing;

/* Fabrics: what the mapping says of one; -1 if it cannot be read. */
enum mapped { NO_MAPPING, MAPPED, UNMAPPED };
int know_fabric(const char *fabric, struct error *error);
#define FABRICS "/etc/ibhostdev/fabrics"
/* The port of a PF that is on a fabric, 0 if none is. */
unsigned int port_on(const struct pf *pf, const char *fabric);

/* The PF and the index of the VF at an address. */
int locate(struct ibh_pci pci, const struct pf **pf, unsigned int *index,
	   struct error *error);
void vf_address(const struct pf *pf, unsigned int index,
		char address[IBH_PCI_TEXT + 1]);
int read_vf(const struct side *side, unsigned int index, struct vf *vf,
	    struct error *error);
/* The node GUID that the VF's own driver on this host took when it was
 * bound, 0 if it shows none. */
uint64_t own_identity(const struct vf *vf);

/* Take the locks of these PFs, sorted by address; 1 if any had to be waited
 * for. */
int lock_pfs(const bool wanted[MAX_PFS], struct error *error);
void unlock_pfs(void);

/* ---- identities ------------------------------------------------------- */

/* Numbers of rtnetlink's IFLA_VF_LINK_STATE_*. */
enum policy { FOLLOW = 0, UP = 1, DOWN = 2 };

#define HAVE_NODE 1u
#define HAVE_PORT 2u
#define HAVE_POLICY 4u
#define HAVE_PKEYS 8u

/* Identity and policy of a VF, as far as `have` says; `told` is false if the
 * driver could not be asked about it. mlx4 has neither node GUIDs nor
 * policies, but `pkeys`, and `pending` while the subnet manager has not
 * agreed to the GUID. */
struct state {
	uint64_t node, port;
	enum policy policy;
	unsigned int have;
	bool told, pending;
	char pkeys[2][16];
};

extern const char *const policy_names[];
extern const char *const mechanism_names[];

/* Picks what serves a side; what is against all of them is in *error. */
int choose(struct side *side, struct error *error);
/* The states of all VFs of a side; of VF `mine`, if it is one, all that can
 * be known, of the others at least the GUIDs. */
int survey(const struct side *side, unsigned int mine,
	   struct state states[MAX_VFS], struct error *error);
/* Writes what `state` has. After an error the VF may have taken a part. */
int write_state(const struct side *side, unsigned int index,
		const struct state *state, struct error *error);
/* The state of a VF after that; with `settle` once it has taken effect.
 * `renew` asks anew where one answer tells of all VFs of the side. */
int read_back(const struct side *side, unsigned int index,
	      const struct state *wanted, bool settle, bool renew,
	      struct state *seen, struct error *error);

/* What of an identity a side has; IBH_GUID_IDLE makes idle. */
struct state identity(const struct side *side, uint64_t guid);
bool guid_idle(uint64_t guid);
/* The GUID of whom a VF belongs to, 0 if to nobody that is known. */
uint64_t owner(const struct state *state);

#endif
