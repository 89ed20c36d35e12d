/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two HCAs as their firmware, their drivers and the PCI core have them, and
 * what a kernel shows of them: files (files.c) and rtnetlink (wire.c).
 *
 * It is plain data without pointers: a copy is a snapshot. None of it is made
 * with the engine's code, whose counterpart it is; the models are
 * ibhostdev/simulate and tests/kernel/module.
 */
#ifndef MACHINE_H
#define MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PFS 2u
#define VFS 5u /* of a PF, at most */
#define PORTS 2u
#define PKEYS 8u
#define ENTRIES 8u /* of mlx4's GID table; real ones have 128 */
#define NONE (PKEYS - 1) /* the P_Key index that stands for none, not shown */
#define TENANT 0x8003u /* a P_Key of mlx4's ports, and where it is: */
#define TENANT_AT 3u
#define DEFAULT_AT 2u
#define ONES UINT64_MAX

enum family { STOCK, OFED, CX3 };

enum driver { UNBOUND, OWN, VFIO, VARIANT, DRIVER_KINDS };

enum what { NODE, PORT, POLICY };

/* firmware's numbers (include/linux/mlx5/driver.h) */
enum policy { DOWN, UP, FOLLOW };

struct vport {
	uint64_t node, port;
	uint8_t policy;
};

/* The PF driver's memory of a VF (struct mlx5_vf_context). */
struct memory {
	bool node_valid, port_valid; /* set by netlink, and so shown by it */
};

struct vf {
	uint8_t driver;
	bool open; /* through vfio, by a guest */
	bool silent; /* firmware answers no question about it … */
	uint8_t asked; /* … however often it was asked */
	uint64_t identity; /* that its own driver took at probe */
};

struct alias {
	uint64_t admin[ENTRIES], agreed[ENTRIES];
	uint64_t due[ENTRIES]; /* when the subnet manager answers; 0: not */
	uint8_t pkeys[VFS][PKEYS];
};

struct pf {
	uint8_t family;
	bool netdev, autoprobe;
	bool away; /* its IB device and network devices: nobody drives it */
	uint8_t ports; /* 2 only with CX3 */
	uint8_t numvfs;
	struct vport vports[VFS + 1]; /* the first is the PF's own */
	struct memory memories[VFS];
	struct vf vfs[VFS];
	struct alias aliases[PORTS];
	uint64_t pkey_since; /* when mlx4's ports have TENANT */
};

struct machine {
	struct pf pfs[PFS];
	uint64_t now; /* ms */
	bool sm_silent;
	bool no_guids; /* a kernel before 5.5 */
	bool too_long; /* one of 5.5 to 6.14: GETLINK ends with EMSGSIZE */
};

/* What a write comes down to. */
struct command {
	enum {
		SET_VPORT, /* MODIFY_HCA_VPORT_CONTEXT */
		SET_ALIAS, /* `n` is the entry */
		SET_PKEY, /* `n` is the virtual index */
		BIND,
		UNBIND,
	} kind;
	unsigned int pf, vf, port, n;
	enum what what;
	uint64_t value;
	enum driver driver;
	bool netlink;
};

typedef int (*execute)(void *context, const struct command *command);

/* Of a PF: its bus, and its VFs' routing ids (drivers/pci/iov.c). */
struct place_of {
	unsigned int bus, offset, stride;
};

extern const struct place_of places_of[PFS];
extern const char *const driver_names[DRIVER_KINDS];

/* VFs enabled, fresh and without drivers. */
void machine_boot(struct machine *machine, const enum family family[PFS]);
/* The effect of a command; a negative errno as the kernel would give it. */
int machine_apply(struct machine *machine, const struct command *command);
/* Waits for firmware that does not answer about a VF, as long as the driver
 * does. */
int machine_wait(struct machine *machine, struct vf *vf);
/* Of a VF, where its GUID is in mlx4's tables. */
unsigned int machine_entry(unsigned int pf, unsigned int vf);
/* What the subnet manager has agreed to by now. */
uint64_t machine_agreed(struct machine *machine, unsigned int pf,
			unsigned int port, unsigned int entry);
/* Who has a VF: firmware's word for its GUID (or one of the two). */
uint64_t machine_owner(const struct machine *machine, unsigned int pf,
		       unsigned int vf, unsigned int port);
bool machine_has(const struct machine *machine, unsigned int pf,
		 unsigned int vf, unsigned int port, uint64_t guid);
/* What mlx4's port has at a place of its table. */
unsigned int machine_pkey(const struct machine *machine, unsigned int pf,
			  unsigned int place);

#define ADDRESS 13
/* Of a VF, or with VFS of the PF itself. */
const char *machine_address(unsigned int pf, unsigned int vf);
/* false if it is neither that of a PF nor of a VF that is enabled; `vf` is
 * VFS for a PF. */
bool machine_find(const struct machine *machine, const char *address,
		  size_t len, unsigned int *pf, unsigned int *vf);
/* "ib0", with ifindex 3 and so on; the device of a PF's port. */
int machine_ifindex(unsigned int pf, unsigned int port);
bool machine_netdev(const struct machine *machine, int ifindex,
		    unsigned int *pf, unsigned int *port);

/* ---- files.c: paths are relative to the root of sysfs ---- */

ssize_t files_read(struct machine *machine, const char *path, char *value,
		   size_t size);
ssize_t files_link(struct machine *machine, const char *path, char *target,
		   size_t size);
int files_list(struct machine *machine, const char *path,
	       int (*take)(const char *name, void *context), void *context);
/* What a write means; EACCES if the file is none that may be written to. */
int files_write(struct machine *machine, const char *path, const char *value,
		size_t len, struct command *command);

/* ---- wire.c ---- */

#define DATAGRAM 2048u
#define QUEUE 64u

struct queue {
	unsigned int first, count;
	struct {
		uint16_t len;
		bool stranger; /* somebody else sent it */
		unsigned char data[DATAGRAM];
	} items[QUEUE];
};

/* Serves the requests of a datagram and queues what goes back; false if it
 * does not hold together as a well-meant request would. */
bool wire_serve(struct machine *machine, const void *data, size_t len,
		struct queue *queue, execute execute, void *context);

#endif
