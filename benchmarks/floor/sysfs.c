// SPDX-License-Identifier: Apache-2.0
/* The floor: files of sysfs, one by one. */
#include "floor.h"

int get(char *value, size_t size, const char *path)
{
	ssize_t n = ibh_attr_read(sysfs, path, value, size);

	if (n < 0)
		fail("reading", path, n);
	while (n && value[n - 1] == '\n')
		n--;
	value[n] = '\0';
	return (int)n;
}

void set(const char *path, const char *value)
{
	int err = ibh_attr_write(sysfs, path, value, strlen(value));

	if (err)
		fail("writing", path, err);
}

unsigned int get_number(const char *pci, const char *name)
{
	char path[128], value[32];

	snprintf(path, sizeof(path), DEVICES "%s/%s", pci, name);
	get(value, sizeof(value), path);
	return (unsigned int)strtoul(value, NULL, 0);
}

void only_entry(const char *path, char *name, size_t size)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	name[0] = '\0';
	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			snprintf(name, size, "%s", entry->d_name);
	if (dir)
		closedir(dir);
}

uint64_t get_guid(const char *path)
{
	char value[64], digits[64];
	size_t i, n = 0;

	get(value, sizeof(value), path);
	for (i = 0; value[i]; i++)
		if (value[i] != ':')
			digits[n++] = value[i];
	digits[n] = '\0';
	return strtoull(n > 16 ? digits + n - 16 : digits, NULL, 16);
}


bool get_base(int folder, const char *path, char *name, size_t size)
{
	char link[256];
	ssize_t n = ibh_link_read(folder, path, link, sizeof(link) - 1);

	if (n < 0)
		return false;
	link[n] = '\0';
	snprintf(name, size, "%s", strrchr(link, '/') + 1);
	return true;
}
