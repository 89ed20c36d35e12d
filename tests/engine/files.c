// SPDX-License-Identifier: Apache-2.0
/*
 * sysfs as the kernel lays it out, as far as anybody looks at it: see
 * ibhostdev/simulate/layout.py.
 */
#include <errno.h>
#include <string.h>

#include "path.h"

#define ROOT "../../.."
#define DRIVER_FOLDER ROOT "/../bus/pci/drivers/"

/* ---- answers ----------------------------------------------------------- */

struct answer_to {
	enum { READ, LINK, LIST } how;
	char *text;
	size_t size, len; /* what does not fit is only counted */
	int (*take)(const char *name, void *context);
	void *context;
	int result;
};

static void add(struct answer_to *to, const char *text)
{
	size_t len = strlen(text);

	if (to->len + len < to->size)
		memcpy(to->text + to->len, text, len);
	to->len += len;
}

static int value(struct answer_to *to, const char *text)
{
	if (to->how != READ)
		return -ENOTDIR;
	add(to, text);
	return 0;
}

static int number(struct answer_to *to, unsigned int value_of)
{
	char text[12], *at = text + sizeof(text) - 1;

	for (*at = '\0'; value_of > 9; value_of /= 10)
		*--at = (char)('0' + value_of % 10);
	*--at = (char)('0' + value_of);
	return value(to, at);
}

/* As mlx4 shows a GUID. */
static int unpadded(struct answer_to *to, uint64_t guid)
{
	char text[17], *at = text + sizeof(text) - 1;

	*at = '\0';
	do
		*--at = "0123456789abcdef"[guid & 15];
	while (guid >>= 4);
	return value(to, at);
}

/* 16 digits with a colon after each `group`, or none. */
static int hex(struct answer_to *to, uint64_t guid, unsigned int group)
{
	char text[24], *at = text;
	unsigned int i;

	for (i = 0; i < 16; i++) {
		if (i && group && i % group == 0)
			*at++ = ':';
		*at++ = "0123456789abcdef"[guid >> (60 - 4 * i) & 15];
	}
	*at = '\0';
	return value(to, text);
}

static int pkey(struct answer_to *to, unsigned int pkey_of)
{
	char text[] = "0x0000";
	unsigned int i;

	for (i = 5; i > 1; i--, pkey_of >>= 4)
		text[i] = "0123456789abcdef"[pkey_of & 15];
	return value(to, text);
}

static int gid(struct answer_to *to, uint64_t guid)
{
	int err = value(to, "fe80:0000:0000:0000:");

	return err ? err : hex(to, guid, 4);
}

static int target(struct answer_to *to, const char *folder, const char *name)
{
	if (to->how != LINK)
		return -EINVAL;
	add(to, folder);
	add(to, name);
	return 0;
}

/* A name in a folder: 0, or what ends the listing. */
static int has(struct answer_to *to, const char *name)
{
	if (!to->result)
		to->result = to->take(name, to->context);
	return to->result;
}

/* Of a few: "0", "1" and so on. */
static int has_number(struct answer_to *to, unsigned int number_of)
{
	return has(to, (char[]){ (char)('0' + number_of), '\0' });
}

/* Whether a path ends here, at a folder that is to be listed. */
static bool lists(const struct path *path, const struct answer_to *to)
{
	return !left(path) && to->how == LIST;
}

/* ---- IB devices -------------------------------------------------------- */

static int ib_ports(struct machine *machine, unsigned int pf, unsigned int vf,
		    struct path *path, struct answer_to *to)
{
	const struct pf *at = &machine->pfs[pf];
	unsigned int port;

	if (lists(path, to)) {
		for (port = at->ports; port; port--)
			has_number(to, port);
		return 0;
	}
	if (!next_number(path, at->ports + 1u, &port) || !port)
		return -ENOENT;
	if (next_is(path, "link_layer"))
		return value(to, "InfiniBand");
	if (next_is(path, "state"))
		return value(to, "4: ACTIVE");
	if (next_is(path, "sm_lid"))
		return value(to, "0x1");
	if (next_is(path, "gids") && next_is(path, "0"))
		return gid(to, vf == VFS ? at->vports[0].port + port - 1 :
					   at->vports[vf + 1].port);
	return -ENOENT;
}

static int iov_port(struct machine *machine, unsigned int pf,
		    unsigned int port, struct path *path, struct answer_to *to)
{
	const struct alias *alias = &machine->pfs[pf].aliases[port - 1];
	unsigned int n;

	if (next_is(path, "admin_guids")) {
		if (!next_number(path, ENTRIES, &n))
			return -ENOENT;
		return unpadded(to, alias->admin[n]);
	}
	if (next_is(path, "gids")) {
		if (!next_number(path, ENTRIES, &n))
			return -ENOENT;
		return gid(to, machine_agreed(machine, pf, port, n));
	}
	if (!next_is(path, "pkeys"))
		return -ENOENT;
	if (lists(path, to)) {
		for (n = NONE; n; n--)
			has_number(to, n - 1);
		return 0;
	}
	if (!next_number(path, NONE, &n))
		return -ENOENT;
	return pkey(to, machine_pkey(machine, pf, n));
}

static int iov(struct machine *machine, unsigned int pf, struct path *path,
	       struct answer_to *to)
{
	const struct pf *at = &machine->pfs[pf];
	unsigned int port, vf, n, index;

	if (next_is(path, "ports")) {
		if (!next_number(path, at->ports + 1u, &port) || !port)
			return -ENOENT;
		return iov_port(machine, pf, port, path, to);
	}
	if (!slave(machine, pf, path, &vf) || !next_is(path, "ports") ||
	    !next_number(path, at->ports + 1u, &port) || !port)
		return -ENOENT;
	if (next_is(path, "gid_idx") && next_is(path, "0"))
		return number(to, machine_entry(pf, vf));
	if (!next_is(path, "pkey_idx") || !next_number(path, NONE, &n))
		return -ENOENT;
	index = at->aliases[port - 1].pkeys[vf][n];
	return index == NONE ? value(to, "none") : number(to, index);
}

static int ib_device(struct machine *machine, unsigned int pf,
		     unsigned int vf, struct path *path, struct answer_to *to)
{
	const struct pf *at = &machine->pfs[pf];

	if (next_is(path, "node_guid"))
		return hex(to, vf == VFS ? at->vports[0].node :
					   at->vfs[vf].identity, 4);
	if (next_is(path, "ports"))
		return ib_ports(machine, pf, vf, path, to);
	if (next_is(path, "iov") && at->family == CX3 && vf == VFS)
		return iov(machine, pf, path, to);
	return -ENOENT;
}

/* ---- PCI devices ------------------------------------------------------- */

static int netdevs(struct machine *machine, unsigned int pf,
		   struct path *path, struct answer_to *to)
{
	const struct pf *at = &machine->pfs[pf];
	unsigned int port;

	if (!at->netdev || at->away)
		return -ENOENT;
	for (port = at->ports; port; port--) {
		int ifindex = machine_ifindex(pf, port);
		char name[] = { 'i', 'b', (char)('0' + ifindex - 3), '\0' };

		if (lists(path, to)) {
			has(to, name);
			continue;
		}
		if (!next_is(path, name))
			continue;
		if (next_is(path, "type"))
			return value(to, "32");
		if (next_is(path, "ifindex") || next_is(path, "iflink"))
			return number(to, ifindex);
		if (next_is(path, "dev_port"))
			return number(to, port - 1);
		return -ENOENT;
	}
	return to->how == LIST ? 0 : -ENOENT;
}

/* MLNX_OFED's folders, whose reads ask firmware. */
static int ofed(struct machine *machine, unsigned int pf, struct path *path,
		struct answer_to *to)
{
	static const char *const words[] = { "Down", "Up", "Follow" };
	struct pf *at = &machine->pfs[pf];
	const struct vport *vport;
	uint64_t guid;
	unsigned int vf, n;

	if (at->family != OFED)
		return -ENOENT;
	if (lists(path, to)) {
		for (n = at->numvfs; n; n--)
			has_number(to, n - 1);
		return 0;
	}
	if (!next_number(path, at->numvfs, &vf))
		return -ENOENT;
	if (lists(path, to)) {
		has(to, "port");
		has(to, "policy");
		has(to, "node");
		return 0;
	}
	vport = &at->vports[vf + 1];
	if (at->vfs[vf].silent)
		return machine_wait(machine, &at->vfs[vf]);
	if (next_is(path, "policy"))
		return value(to, words[vport->policy]);
	if (next_is(path, "node"))
		guid = vport->node;
	else if (next_is(path, "port"))
		guid = vport->port;
	else
		return -ENOENT;
	return hex(to, guid, 2);
}

static int pf_device(struct machine *machine, unsigned int pf,
		     struct path *path, struct answer_to *to)
{
	const struct pf *at = &machine->pfs[pf];
	char name[] = "virtfn0";
	unsigned int vf;

	if (next_is(path, "sriov_numvfs"))
		return number(to, at->numvfs);
	if (next_is(path, "sriov_totalvfs"))
		return number(to, VFS);
	if (next_is(path, "sriov_offset"))
		return number(to, places_of[pf].offset);
	if (next_is(path, "sriov_stride"))
		return number(to, places_of[pf].stride);
	if (next_is(path, "sriov_drivers_autoprobe"))
		return number(to, at->autoprobe);
	if (next_is(path, "driver"))
		return target(to, DRIVER_FOLDER, driver_of(at, OWN));
	if (next_is(path, "net"))
		return netdevs(machine, pf, path, to);
	if (next_is(path, "sriov"))
		return ofed(machine, pf, path, to);
	for (vf = 0; vf < at->numvfs; vf++) {
		name[6] = (char)('0' + vf);
		if (next_is(path, name))
			return target(to, "../", machine_address(pf, vf));
	}
	return -ENOENT;
}

static int device(struct machine *machine, unsigned int pf, unsigned int vf,
		  struct path *path, struct answer_to *to)
{
	const struct pf *at = &machine->pfs[pf];
	const struct vf *own = &at->vfs[vf == VFS ? 0 : vf];
	const char *name = ib_name(machine, pf, vf);
	bool is_ib = vf == VFS ? !at->away : own->driver == OWN;

	if (next_is(path, "vendor"))
		return value(to, "0x15b3");
	if (is_ib && next_is(path, "infiniband")) {
		if (lists(path, to))
			return has(to, name), 0;
		return next_is(path, name) ?
			       ib_device(machine, pf, vf, path, to) :
			       -ENOENT;
	}
	if (next_is(path, "enable"))
		return number(to, vf == VFS || own->driver == OWN ||
					       own->open);
	if (vf == VFS)
		return pf_device(machine, pf, path, to);
	if (next_is(path, "physfn"))
		return target(to, "../", machine_address(pf, VFS));
	if (own->driver != UNBOUND && next_is(path, "driver"))
		return target(to, DRIVER_FOLDER,
			      driver_of(at, own->driver));
	return -ENOENT;
}

/* ---- the whole tree ---------------------------------------------------- */

static int ib_class(struct machine *machine, struct path *path,
		    struct answer_to *to)
{
	unsigned int pf, vf;
	bool listed = lists(path, to);

	for (pf = PFS; pf-- > 0;)
		for (vf = 0; vf <= VFS; vf++) {
			const char *name = ib_name(machine, pf, vf);

			if (vf == VFS ?
				    machine->pfs[pf].away :
				    vf >= machine->pfs[pf].numvfs ||
					    machine->pfs[pf].vfs[vf].driver !=
						    OWN)
				continue;
			if (listed) {
				has(to, name);
				continue;
			}
			if (!next_is(path, name))
				continue;
			if (left(path))
				return ib_device(machine, pf, vf, path, to);
			target(to, "../../devices/pci0000:3a/0000:3a:00.0/",
			       machine_address(pf, vf));
			return target(to, "/infiniband/", name);
		}
	return listed ? 0 : -ENOENT;
}

/* What a driver's folder lists: the functions that it has, and its own
 * files. */
static int driver_folder(struct machine *machine, struct path *path,
			 struct answer_to *to)
{
	enum { MLX4, MLX5 } driver;
	unsigned int pf, vf;

	if (next_is(path, "mlx4_core"))
		driver = MLX4;
	else if (next_is(path, "mlx5_core"))
		driver = MLX5;
	else
		return -ENOENT;
	if (!lists(path, to))
		return -ENOENT;
	has(to, "bind");
	for (pf = PFS; pf-- > 0;) {
		const struct pf *at = &machine->pfs[pf];

		if ((at->family == CX3) != (driver == MLX4))
			continue;
		for (vf = 0; vf < at->numvfs; vf++)
			if (at->vfs[vf].driver == OWN)
				has(to, machine_address(pf, vf));
		has(to, machine_address(pf, VFS));
	}
	return 0;
}

static int find(struct machine *machine, struct path *path,
		const char *text, struct answer_to *to)
{
	unsigned int pf, vf;

	if (next_is(path, "class")) {
		if (next_is(path, "infiniband"))
			return ib_class(machine, path, to);
		return -ENOENT;
	}
	if (!next_is(path, "bus") || !next_is(path, "pci"))
		return -ENOENT;
	if (next_is(path, "drivers"))
		return driver_folder(machine, path, to);
	if (!next_is(path, "devices") || !left(path) ||
	    !machine_find(machine, path->parts[path->at].text,
			  path->parts[path->at].len, &pf, &vf))
		return -ENOENT;
	path->at++;
	if (!left(path))
		return target(to, ROOT "/devices/pci0000:3a/0000:3a:00.0/",
			      text + sizeof("bus/pci/devices/") - 1);
	return device(machine, pf, vf, path, to);
}

static int look(struct machine *machine, const char *text,
		struct answer_to *to)
{
	struct path path;
	int err;

	if (!take_apart(&path, text))
		return -ENOENT;
	err = find(machine, &path, text, to);
	return err ? err : left(&path) ? -ENOTDIR : 0;
}

ssize_t files_read(struct machine *machine, const char *path, char *text,
		   size_t size)
{
	struct answer_to to = { .how = READ, .text = text, .size = size };
	int err = look(machine, path, &to);

	if (err)
		return err;
	/* with the newline that is taken off, and one byte to tell the end */
	return to.len + 1 >= size ? -EMSGSIZE : (ssize_t)to.len;
}

ssize_t files_link(struct machine *machine, const char *path, char *text,
		   size_t size)
{
	struct answer_to to = { .how = LINK, .text = text, .size = size };
	int err = look(machine, path, &to);

	if (err)
		return err;
	return to.len < size ? (ssize_t)to.len : -ENAMETOOLONG;
}

int files_list(struct machine *machine, const char *path,
	       int (*take)(const char *name, void *context), void *context)
{
	struct answer_to to = {
		.how = LIST, .take = take, .context = context,
	};
	int err = look(machine, path, &to);

	return to.result ? to.result : err;
}
