// SPDX-License-Identifier: Apache-2.0
/*
 * What firmware, drivers and the PCI core do; see machine.h.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "machine.h"

#define SM_DELAY 5 /* ms */
#define SILENCE 60000 /* ms (drivers/net/ethernet/mellanox/mlx5/core/cmd.c) */

const char *const driver_names[DRIVER_KINDS] = {
	"", "", "vfio-pci", "mlx5_vfio_pci",
};

void machine_boot(struct machine *machine, const enum family family[PFS])
{
	unsigned int i, vf, port;

	memset(machine, 0, sizeof(*machine));
	machine->now = 1000;
	for (i = 0; i < PFS; i++) {
		struct pf *pf = &machine->pfs[i];

		pf->family = (uint8_t)family[i];
		pf->netdev = pf->autoprobe = true;
		pf->ports = 1;
		pf->numvfs = VFS - 1;
		pf->vports[0].node = 0x0c42a10300a00000 + (i << 8);
		pf->vports[0].port = pf->vports[0].node + 1;
		pf->vports[0].policy = FOLLOW;
		for (port = 0; port < PORTS; port++) {
			struct alias *alias = &pf->aliases[port];

			alias->admin[0] = pf->vports[0].port + port;
			alias->agreed[0] = alias->admin[0];
			memset(alias->pkeys, NONE, sizeof(alias->pkeys));
			for (vf = 0; vf < VFS; vf++)
				alias->pkeys[vf][0] = 0;
		}
	}
}

/* Slave number VF + 1 on real ones; that it is to be read is all that the
 * driver promises. */
unsigned int machine_entry(unsigned int pf, unsigned int vf)
{
	return vf + 1 + pf;
}

uint64_t machine_agreed(struct machine *machine, unsigned int pf,
			unsigned int port, unsigned int entry)
{
	struct alias *alias = &machine->pfs[pf].aliases[port - 1];

	if (alias->due[entry] && machine->now >= alias->due[entry] &&
	    !machine->sm_silent) {
		alias->due[entry] = 0;
		alias->agreed[entry] = alias->admin[entry] == ONES ?
					       0 :
					       alias->admin[entry];
	}
	return alias->agreed[entry];
}

uint64_t machine_owner(const struct machine *machine, unsigned int pf,
		       unsigned int vf, unsigned int port)
{
	const struct pf *at = &machine->pfs[pf];
	const struct vport *vport = &at->vports[vf + 1];
	uint64_t guid = vport->port;

	if (at->family == CX3)
		guid = at->aliases[port - 1].admin[machine_entry(pf, vf)];
	else if (guid == 0 || guid == ONES)
		guid = vport->node;
	return guid == ONES ? 0 : guid;
}

bool machine_has(const struct machine *machine, unsigned int pf,
		 unsigned int vf, unsigned int port, uint64_t guid)
{
	const struct pf *at = &machine->pfs[pf];

	if (at->family == CX3)
		return machine_owner(machine, pf, vf, port) == guid;
	return at->vports[vf + 1].node == guid ||
	       at->vports[vf + 1].port == guid;
}

int machine_wait(struct machine *machine, struct vf *vf)
{
	machine->now += SILENCE;
	vf->asked++;
	return -ETIMEDOUT;
}

/* Neither the default partition nor the tenant's is the first, and as limited
 * members they come before. */
unsigned int machine_pkey(const struct machine *machine, unsigned int pf,
			  unsigned int place)
{
	switch (place) {
	case 0:
		return 0x8001;
	case 1:
		return TENANT & 0x7fff;
	case DEFAULT_AT:
		return 0x7fff;
	case TENANT_AT:
		return machine->now >= machine->pfs[pf].pkey_since ? TENANT : 0;
	default:
		return 0;
	}
}

/* ---- commands ---------------------------------------------------------- */

static int set_vport(struct pf *pf, const struct command *command)
{
	struct vport *vport = &pf->vports[command->vf + 1];
	struct memory *memory = &pf->memories[command->vf];

	if (command->vf >= pf->numvfs)
		return -EINVAL; /* not the kernel, but firmware knows */
	switch (command->what) {
	case NODE:
		vport->node = command->value;
		memory->node_valid |= command->netlink;
		break;
	case PORT:
		vport->port = command->value;
		memory->port_valid |= command->netlink;
		break;
	case POLICY:
		vport->policy = (uint8_t)command->value;
		break;
	}
	return 0;
}

/* drivers/base/bus.c, drivers/pci/pci-driver.c */
static int bind(struct pf *pf, unsigned int number, struct vf *vf,
		const struct command *command)
{
	if (command->driver != OWN || !pf->autoprobe)
		return -ENODEV; /* does not match */
	if (vf->driver != UNBOUND)
		return -EBUSY;
	vf->driver = OWN;
	vf->identity = pf->vports[command->vf + 1].node;
	if (pf->family == CX3)
		vf->identity = pf->aliases[0].admin[machine_entry(
			number, command->vf)];
	return 0;
}

int machine_apply(struct machine *machine, const struct command *command)
{
	struct pf *pf = &machine->pfs[command->pf];
	struct vf *vf = &pf->vfs[command->vf];
	struct alias *alias = &pf->aliases[command->port ? command->port - 1 :
							   0];

	switch (command->kind) {
	case SET_VPORT:
		return set_vport(pf, command);
	case SET_ALIAS:
		if (command->n) { /* the PF's own cannot be set */
			alias->admin[command->n] = command->value;
			alias->due[command->n] = machine->now + SM_DELAY;
		}
		return 0;
	case SET_PKEY:
		alias->pkeys[command->vf][command->n] =
			(uint8_t)command->value;
		return 0;
	case BIND:
		return bind(pf, command->pf, vf, command);
	case UNBIND:
		if (vf->driver != command->driver)
			return -ENODEV;
		vf->driver = UNBOUND;
		vf->open = false;
		return 0;
	}
	return -EINVAL;
}

/* ---- names ------------------------------------------------------------- */

/* Routing ids: those of the second PF's VFs begin on a device of their own
 * and are two apart. */
const struct place_of places_of[PFS] = { { 0x3b, 1, 1 }, { 0x5e, 0x12, 2 } };

static const char addresses[PFS][VFS + 1][ADDRESS] = {
	{ "0000:3b:00.1", "0000:3b:00.2", "0000:3b:00.3", "0000:3b:00.4",
	  "0000:3b:00.5", "0000:3b:00.0" },
	{ "0000:5e:02.2", "0000:5e:02.4", "0000:5e:02.6", "0000:5e:03.0",
	  "0000:5e:03.2", "0000:5e:00.0" },
};

const char *machine_address(unsigned int pf, unsigned int vf)
{
	return addresses[pf][vf];
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool machine_find(const struct machine *machine, const char *address,
		  size_t len, unsigned int *pf, unsigned int *vf)
{
	int high, low, first, second, function;
	unsigned int rid;

	if (len != ADDRESS - 1 || memcmp(address, "0000:", 5) ||
	    address[7] != ':' || address[10] != '.')
		return false;
	high = digit(address[5]);
	low = digit(address[6]);
	first = digit(address[8]);
	second = digit(address[9]);
	function = digit(address[11]);
	if (high < 0 || low < 0 || first < 0 || first > 1 || second < 0 ||
	    function < 0 || function > 7)
		return false;
	rid = (unsigned int)(first << 7 | second << 3 | function);
	for (*pf = 0; *pf < PFS; (*pf)++) {
		const struct place_of *place = &places_of[*pf];

		if (place->bus != (unsigned int)(high << 4 | low))
			continue;
		*vf = VFS;
		if (!rid)
			return true;
		if (rid < place->offset)
			return false;
		*vf = (rid - place->offset) / place->stride;
		return (rid - place->offset) % place->stride == 0 &&
		       *vf < machine->pfs[*pf].numvfs;
	}
	return false;
}

int machine_ifindex(unsigned int pf, unsigned int port)
{
	return (int)(3 + pf * PORTS + port - 1);
}

bool machine_netdev(const struct machine *machine, int ifindex,
		    unsigned int *pf, unsigned int *port)
{
	for (*pf = 0; *pf < PFS; (*pf)++) {
		const struct pf *at = &machine->pfs[*pf];

		if (!at->netdev || at->away)
			continue;
		for (*port = 1; *port <= at->ports; (*port)++)
			if (machine_ifindex(*pf, *port) == ifindex)
				return true;
	}
	return false;
}
