/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths below the sysfs root, built part by part: with snprintf() they would
 * be most of what a VF costs. Names are bounded (IBH_NAME), so that all fits;
 * what did not would lead to nothing.
 */
#ifndef IBHOSTDEV_PATH_H
#define IBHOSTDEV_PATH_H

#include "host.h"

struct path {
	size_t len;
	size_t folder; /* its length, of what files are in */
	char text[PATH_SIZE];
};

/* Back to what it was when it had this length. */
static inline void path_cut(struct path *path, size_t len)
{
	if (len < path->len)
		path->len = len;
	path->text[path->len] = '\0';
}

static inline void path_add(struct path *path, const char *part)
{
	size_t len = strlen(part);

	if (len >= sizeof(path->text) - path->len) {
		path_cut(path, 0);
		return;
	}
	memcpy(path->text + path->len, part, len + 1);
	path->len += len;
}

static inline void path_number(struct path *path, unsigned int number)
{
	char digits[12], *at = digits + sizeof(digits);

	*--at = '\0';
	do
		*--at = (char)('0' + number % 10);
	while (number /= 10);
	path_add(path, at);
}

/* A PCI device's folder, and what follows. */
static inline void path_device(struct path *path, const char *address,
			       const char *rest)
{
	path->len = 0;
	path_add(path, DEVICES "/");
	path_add(path, address);
	path_add(path, rest);
}

/* What has been built is a folder; files are named one after the other. */
static inline void path_is_folder(struct path *path)
{
	path_add(path, "/");
	path->folder = path->len;
}

static inline const char *path_file(struct path *path, const char *name)
{
	path_cut(path, path->folder);
	path_add(path, name);
	return path->text;
}

/* One of those that are numbered; `kind` ends with a slash. */
static inline const char *path_entry(struct path *path, const char *kind,
				     unsigned int number)
{
	path_file(path, kind);
	path_number(path, number);
	return path->text;
}

#endif
