// SPDX-License-Identifier: Apache-2.0
/*
 * The floor: what safety asks. The same questions as the engine of ibhostdev
 * has, in the same places: the PFs to ourselves, who drives each VF of the
 * batch, and whether the VFs are enabled still when they are written.
 */
#include "floor.h"

#include <sys/file.h>
#include <sys/stat.h>

#define RUN "/run/ibhostdev"

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

/* The kernel's own word for which VF it is, and whether a guest has it. */
void who_drives(const struct item *item)
{
	char path[128], name[64];

	snprintf(path, sizeof(path), DEVICES "%s/virtfn%u", item->pf->pci,
		 item->index);
	if (!get_base(path, name, sizeof(name)) || strcmp(name, item->pci))
		fail("virtfn", item->pci, ENODEV);
	snprintf(path, sizeof(path), DEVICES "%s/driver", item->pci);
	if (!get_base(path, name, sizeof(name)) ||
	    !strcmp(name, "mlx5_core") || !strcmp(name, "mlx4_core"))
		return;
	if (get_number(item->pci, "enable"))
		fail("guest", item->pci, EBUSY);
}

void still_there(const struct pf *pf)
{
	if (get_number(pf->pci, "sriov_numvfs") != pf->numvfs)
		fail("number of VFs", pf->pci, ENODEV);
}
