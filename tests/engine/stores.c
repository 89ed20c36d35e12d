// SPDX-License-Identifier: Apache-2.0
/*
 * What a write to a file of sysfs means, as the store functions take it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "path.h"

/* As the store functions: eight octets, or a word. */
static int ofed_value(struct command *command, const char *value)
{
	unsigned int octets[8], i;
	uint64_t guid = 0;

	command->kind = SET_VPORT;
	if (command->what == POLICY) {
		static const char *const words[] = { "Down", "Up", "Follow" };

		for (i = 0; i < 3; i++)
			if (!strcmp(value, words[i])) {
				command->value = i;
				return 0;
			}
		return -EINVAL;
	}
	if (sscanf(value, "%2x:%2x:%2x:%2x:%2x:%2x:%2x:%2x", &octets[0],
		   &octets[1], &octets[2], &octets[3], &octets[4],
		   &octets[5], &octets[6], &octets[7]) != 8)
		return -EINVAL;
	for (i = 0; i < 8; i++)
		guid = guid << 8 | octets[i];
	command->value = guid;
	return 0;
}

static int iov_value(const struct machine *machine, struct path *path,
		     const char *value, struct command *command)
{
	const struct pf *pf = &machine->pfs[command->pf];
	char *end;

	if (next_is(path, "ports")) {
		if (!next_number(path, pf->ports + 1u, &command->port) ||
		    !command->port || !next_is(path, "admin_guids") ||
		    !next_number(path, ENTRIES, &command->n) || left(path))
			return -EACCES;
		command->kind = SET_ALIAS;
		command->value = strtoull(value, &end, 16);
		command->vf = command->n - 1 - command->pf;
		/* The driver would take what lies on its stack. */
		return end == value || *end ? -EPROTO : 0;
	}
	if (!slave(machine, command->pf, path, &command->vf) ||
	    !next_is(path, "ports") ||
	    !next_number(path, pf->ports + 1u, &command->port) ||
	    !command->port || !next_is(path, "pkey_idx") ||
	    !next_number(path, NONE, &command->n) || left(path))
		return -EACCES;
	command->kind = SET_PKEY;
	if (!strncasecmp(value, "no", 2)) {
		command->value = NONE;
		return 0;
	}
	command->value = strtoull(value, &end, 0);
	return end == value || *end || command->value >= NONE ? -EINVAL : 0;
}

/* Binds and unbinds, by any of the drivers. */
static int driver_value(const struct machine *machine, struct path *path,
			const char *value, size_t len,
			struct command *command)
{
	if (next_is(path, "mlx5_core") || next_is(path, "mlx4_core"))
		command->driver = OWN;
	else if (next_is(path, driver_names[VFIO]))
		command->driver = VFIO;
	else if (next_is(path, driver_names[VARIANT]))
		command->driver = VARIANT;
	else
		return -ENOENT;
	if (next_is(path, "bind"))
		command->kind = BIND;
	else if (next_is(path, "unbind"))
		command->kind = UNBIND;
	else
		return -EACCES;
	return machine_find(machine, value, len, &command->pf, &command->vf) ?
		       0 :
		       -ENODEV;
}

int files_write(struct machine *machine, const char *text, const char *value,
		size_t len, struct command *command)
{
	struct path path;
	unsigned int vf;
	char copy[64];

	memset(command, 0, sizeof(*command));
	if (len >= sizeof(copy) || !take_apart(&path, text))
		return -EACCES;
	memcpy(copy, value, len);
	copy[len] = '\0';
	if (!next_is(&path, "bus") || !next_is(&path, "pci"))
		return -EACCES;
	if (next_is(&path, "drivers"))
		return driver_value(machine, &path, copy, len, command);
	if (!next_is(&path, "devices") || !left(&path) ||
	    !machine_find(machine, path.parts[path.at].text,
			  path.parts[path.at].len, &command->pf, &vf) ||
	    vf != VFS)
		return -EACCES;
	path.at++;
	if (next_is(&path, "sriov") &&
	    machine->pfs[command->pf].family == OFED) {
		if (!next_number(&path, machine->pfs[command->pf].numvfs,
				 &command->vf))
			return -ENOENT;
		if (next_is(&path, "node"))
			command->what = NODE;
		else if (next_is(&path, "port"))
			command->what = PORT;
		else if (next_is(&path, "policy"))
			command->what = POLICY;
		else
			return -EACCES;
		return left(&path) ? -EACCES : ofed_value(command, copy);
	}
	if (machine->pfs[command->pf].family == CX3 &&
	    next_is(&path, "infiniband") &&
	    next_is(&path, ib_name(machine, command->pf, VFS)) &&
	    next_is(&path, "iov"))
		return iov_value(machine, &path, copy, command);
	return -EACCES;
}
