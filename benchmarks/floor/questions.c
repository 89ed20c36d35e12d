// SPDX-License-Identifier: Apache-2.0
/*
 * The floor: what safety asks. The same questions as the engine of ibhostdev
 * has, in the same places and the same way: the PFs to ourselves, who drives
 * each VF of the batch, and whether the VFs are enabled still when they are
 * written.
 */
#include "floor.h"

#include <sys/file.h>
#include <sys/stat.h>

#define RUN "/run/ibhostdev"
#define DRIVERS "bus/pci/drivers/" /* in sysfs */
#define MANY 2

static void take_lock(struct pf *pf)
{
	struct stat opened, there;
	char path[64];

	snprintf(path, sizeof(path), RUN "/%s.lock", pf->pci);
	pf->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (pf->lock < 0 || flock(pf->lock, LOCK_EX) ||
	    fstat(pf->lock, &opened) || lstat(path, &there))
		fail("lock", pf->pci, errno);
	if (opened.st_ino != there.st_ino)
		fail("lock", pf->pci, ENOENT);
}

void take_locks(void)
{
	if (mkdir(RUN, 0755) && errno != EEXIST)
		fail("folder of the lock", RUN, errno);
	for (unsigned int i = 0; i < pf_count; i++)
		take_lock(&pfs[i]);
}

void drop_locks(void)
{
	for (unsigned int i = 0; i < pf_count; i++)
		close(pfs[i].lock);
}

/* The kernel's own word for which VF it is. `folder` is its PF's, or -1. */
static void is_listed(const struct item *item, int folder)
{
	char path[128], name[64];
	int n = 0;

	if (folder < 0)
		n = snprintf(path, sizeof(path), DEVICES "%s/",
			     item->pf->pci);
	snprintf(path + n, sizeof(path) - (size_t)n, "virtfn%u", item->index);
	if (!get_base(folder < 0 ? sysfs : folder, path, name, sizeof(name)) ||
	    strcmp(name, item->pci))
		fail("virtfn", item->pci, ENODEV);
}

/* Whether a guest has it. */
static void is_ours(const struct item *item)
{
	char path[128], name[64];

	snprintf(path, sizeof(path), DEVICES "%s/driver", item->pci);
	if (!get_base(sysfs, path, name, sizeof(name)) ||
	    !strcmp(name, "mlx5_core") || !strcmp(name, "mlx4_core"))
		return;
	if (get_number(item->pci, "enable"))
		fail("guest", item->pci, EBUSY);
}

/* Whom the host's own driver has. */
static void list_own(void)
{
	static char entries[1 << 13];
	const struct ibh_entry *entry;
	struct ibh_pci pci;
	ssize_t n, at;
	unsigned int i;
	int fd = ibh_dir_open(sysfs, mechanism == MLX4 ?
					     DRIVERS "mlx4_core" :
					     DRIVERS "mlx5_core");

	if (fd < 0)
		fail("list", "driver", fd);
	while ((n = ibh_entries(fd, entries, sizeof(entries))) > 0) {
		for (at = 0; at < n; at += entry->size) {
			entry = (const void *)(entries + at);
			if (ibh_parse_pci(entry->name, strlen(entry->name),
					  &pci))
				continue;
			for (i = 0; i < pf_count; i++)
				if (is_of(&pfs[i], pci))
					pfs[i].own[vf_of(&pfs[i], pci)] = true;
		}
	}
	close(fd);
}

/* Of few VFs each is looked at by itself; for many the way to their PF's
 * folder is gone once, and their driver asked for its list. */
void who_drives(void)
{
	const struct pf *pf = NULL;
	char path[64];
	unsigned int i;
	int folder = -1;

	if (count >= MANY)
		list_own();
	for (i = 0; i < count; i++) {
		if (count >= MANY && items[i].pf != pf) {
			if (pf)
				close(folder);
			pf = items[i].pf;
			snprintf(path, sizeof(path), DEVICES "%s", pf->pci);
			folder = openat(sysfs, path, O_PATH | O_CLOEXEC);
		}
		is_listed(&items[i], folder);
		if (!items[i].pf->own[items[i].index])
			is_ours(&items[i]);
	}
	if (pf)
		close(folder);
}

void still_there(const struct pf *pf)
{
	if (get_number(pf->pci, "sriov_numvfs") != pf->numvfs)
		fail("number of VFs", pf->pci, ENODEV);
}
