/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths below the root of sysfs, part by part.
 */
#ifndef PATH_H
#define PATH_H

#include <string.h>

#include "machine.h"

#define PARTS 16

/* A path, taken apart. */
struct path {
	unsigned int count, at;
	struct {
		const char *text;
		size_t len;
	} parts[PARTS];
};

static inline bool take_apart(struct path *path, const char *text)
{
	path->count = path->at = 0;
	do {
		const char *end = text;

		while (*end && *end != '/')
			end++;
		/* No path of the engine's is empty, absolute or goes up. */
		if (end == text || path->count == PARTS ||
		    (end - text == 2 && text[0] == '.' && text[1] == '.'))
			return false;
		path->parts[path->count].text = text;
		path->parts[path->count++].len = (size_t)(end - text);
		text = *end ? end + 1 : end;
		if (*end && !*text)
			return false;
	} while (*text);
	return true;
}

static inline unsigned int left(const struct path *path)
{
	return path->count - path->at;
}

/* Whether the next part is this one, which is taken then. */
static inline bool next_is(struct path *path, const char *name)
{
	size_t len = strlen(name);

	if (!left(path) || path->parts[path->at].len != len ||
	    memcmp(path->parts[path->at].text, name, len))
		return false;
	path->at++;
	return true;
}

/* A number as the kernel writes it, below `end`; taken if it is one. */
static inline bool next_number(struct path *path, unsigned int end,
			unsigned int *number)
{
	const char *text;
	size_t i, len;

	if (!left(path))
		return false;
	text = path->parts[path->at].text;
	len = path->parts[path->at].len;
	if (len > 3 || (len > 1 && text[0] == '0'))
		return false;
	*number = 0;
	for (i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		*number = *number * 10 + (unsigned int)(text[i] - '0');
	}
	if (*number >= end)
		return false;
	path->at++;
	return true;
}

static inline const char *driver_of(const struct pf *pf, unsigned int driver)
{
	if (driver != OWN)
		return driver_names[driver];
	return pf->family == CX3 ? "mlx4_core" : "mlx5_core";
}

/* Of a VF, or with VFS of the PF itself: "mlx5_0" and so on. */
static inline const char *ib_name(const struct machine *machine,
				  unsigned int pf, unsigned int vf)
{
	static const char names[2][PFS][VFS + 1][8] = {
		{ { "mlx5_2", "mlx5_3", "mlx5_4", "mlx5_5", "mlx5_6",
		    "mlx5_0" },
		  { "mlx5_7", "mlx5_8", "mlx5_9", "mlx5_10", "mlx5_11",
		    "mlx5_1" } },
		{ { "mlx4_2", "mlx4_3", "mlx4_4", "mlx4_5", "mlx4_6",
		    "mlx4_0" },
		  { "mlx4_7", "mlx4_8", "mlx4_9", "mlx4_10", "mlx4_11",
		    "mlx4_1" } },
	};

	return names[machine->pfs[pf].family == CX3][pf][vf];
}

/* "0000:3b:00.1" is slave 1 of the PF 0000:3b:00.0: the name is made up
 * (drivers/infiniband/hw/mlx4/sysfs.c). The number of the VF. */
static inline bool slave(const struct machine *machine, unsigned int pf,
			 struct path *path, unsigned int *vf)
{
	char name[] = "0000:00:00.0";

	memcpy(name, machine_address(pf, VFS), 8);
	for (*vf = 0; *vf < machine->pfs[pf].numvfs; (*vf)++) {
		name[11] = (char)('1' + *vf); /* VFS is below 7 */
		if (next_is(path, name))
			return true;
	}
	return false;
}

#endif
