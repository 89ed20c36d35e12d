// SPDX-License-Identifier: Apache-2.0
/* Which VFs there are, where, and who drives them. Nothing here asks
 * firmware. */
#include "devices.h"
#include "path.h"

/* By the SR-IOV capability's offset and stride (drivers/pci/iov.c): VFs may
 * lie on later buses than their PF. */
struct ibh_pci ibh_vf_pci(const struct ibh_pf *pf, unsigned int index)
{
	struct ibh_pci pci = pf->pci;

	pci.rid = (uint16_t)(pci.rid + pf->offset + pf->stride * index);
	return pci;
}

int vf_index(const struct ibh_pf *pf, struct ibh_pci pci)
{
	int64_t distance = (int64_t)pci.rid - pf->pci.rid - pf->offset;

	if (pci.domain != pf->pci.domain || distance < 0)
		return -1;
	if (pf->stride) {
		if (distance % pf->stride)
			return -1;
		distance /= pf->stride;
	}
	if (distance >= pf->numvfs || (distance && !pf->stride))
		return -1;
	return (int)distance;
}

void vf_address(const struct ibh_pf *pf, unsigned int index,
		char address[IBH_PCI_TEXT + 1])
{
	ibh_format_pci(ibh_vf_pci(pf, index), address);
}

/*
 * Whether a VF is in a guest's hands: whoever is neither the vendor's driver
 * nor none hands devices on, and enables one only while somebody has it
 * (vfio-pci: drivers/vfio/pci/vfio_pci_core.c). What cannot be read may be
 * in use.
 */
static bool in_use(struct ibh_host *host, const char *address, ssize_t known,
		   const char *driver)
{
	char value[SHORT_VALUE];
	struct path path;

	if (known == -ENOENT || !strcmp(driver, "mlx5_core") ||
	    !strcmp(driver, "mlx4_core"))
		return false;
	path_device(&path, address, "/enable");
	return host_read(host, path.text, value, sizeof(value)) < 0 ||
	       strcmp(value, "0");
}

/* ---- many of them ------------------------------------------------------ */

/* From so many on the way to the folder is worth it, and their drivers' lists
 * where they are one of so many, for all there are may be in these. */
#define MANY 2
#define ONE_OF 16

/* Where a PF's VFs begin among all. */
static size_t first_of(const struct ibh_pfs *pfs, size_t pf)
{
	size_t first = 0;

	while (pf-- > 0)
		first += pfs->pfs[pf]->numvfs;
	return first;
}

struct listing {
	struct glance *glance;
	const char *driver;
};

static int take_own(const char *name, void *context)
{
	const struct listing *listing = context;
	const struct ibh_pfs *pfs = listing->glance->pfs;
	struct ibh_pci pci;
	size_t i;
	int index;

	if (ibh_parse_pci(name, strlen(name), &pci))
		return 0;
	for (i = 0; i < pfs->count; i++) {
		if (strcmp(pfs->pfs[i]->driver, listing->driver))
			continue;
		index = vf_index(pfs->pfs[i], pci);
		if (index < 0)
			continue;
		listing->glance->own[first_of(pfs, i) + (size_t)index] = true;
		break;
	}
	return 0;
}

/* What a list leaves out is looked at by itself. */
static void list_own(struct ibh_host *host, struct glance *glance)
{
	const struct ibh_pfs *pfs = glance->pfs;
	struct listing listing = { .glance = glance };
	struct path path;
	size_t i, n;

	for (i = 0; i < pfs->count; i++) {
		listing.driver = pfs->pfs[i]->driver;
		for (n = 0; n < i; n++)
			if (!strcmp(pfs->pfs[n]->driver, listing.driver))
				break;
		if (n < i)
			continue; /* it was listed */
		path.len = 0;
		path_add(&path, DRIVERS "/");
		path_add(&path, listing.driver);
		host_list(host, path.text, take_own, &listing);
	}
}

void glance_begin(struct ibh_host *host, const struct ibh_pfs *pfs,
		  size_t count, struct glance *glance)
{
	size_t all = first_of(pfs, pfs->count);

	*glance = (struct glance){ .pfs = pfs, .folder = ROOT,
				   .many = count >= MANY };
	if (!glance->many || count < all / ONE_OF)
		return;
	glance->own = calloc(all + 1, sizeof(*glance->own));
	if (glance->own)
		list_own(host, glance);
}

static void leave(struct ibh_host *host, struct glance *glance)
{
	if (glance->folder >= 0)
		host->io->leave(host->context, glance->folder);
	glance->folder = ROOT;
	glance->pf = NULL;
}

void glance_end(struct ibh_host *host, struct glance *glance)
{
	leave(host, glance);
	free(glance->own);
}

/* ---- one of them ------------------------------------------------------- */

/* The kernel's own word for what was computed: no driver checks the index,
 * and a wrong one is somebody else's VF. */
static bool is_listed(struct ibh_host *host, const struct ibh_pf *pf,
		      unsigned int index, const char *address, int folder)
{
	char name[IBH_NAME];
	struct path path = { .len = 0 };

	if (folder == ROOT)
		path_device(&path, pf->address, "/");
	path_add(&path, "virtfn");
	path_number(&path, index);
	return host_base_in(host, folder, path.text, name, sizeof(name)) >= 0 &&
	       !strcmp(name, address);
}

static bool read_at(struct ibh_host *host, const struct ibh_pf *pf,
		    unsigned int index, const char *address, int folder,
		    bool own, struct ibh_vf *vf)
{
	struct path path;
	ssize_t known;

	if (!is_listed(host, pf, index, address, folder))
		return false;
	vf->index = index;
	vf->pci = ibh_vf_pci(pf, index);
	if (own) {
		memcpy(vf->driver, pf->driver, sizeof(vf->driver));
		vf->in_use = false;
		return true;
	}
	path_device(&path, address, "/driver");
	known = host_base(host, path.text, vf->driver, sizeof(vf->driver));
	if (known < 0)
		vf->driver[0] = '\0';
	vf->in_use = in_use(host, address, known, vf->driver);
	return true;
}

bool vf_read(struct ibh_host *host, const struct ibh_pf *pf,
	     unsigned int index, struct ibh_vf *vf)
{
	char address[IBH_PCI_TEXT + 1];

	vf_address(pf, index, address);
	return read_at(host, pf, index, address, ROOT, false, vf);
}

/* Of the PF at this place. */
static bool glance_at(struct ibh_host *host, struct glance *glance, size_t at,
		      unsigned int index, const char *address,
		      struct ibh_vf *vf)
{
	const struct ibh_pf *pf = glance->pfs->pfs[at];
	struct path path;

	if (!glance->many)
		return read_at(host, pf, index, address, ROOT, false, vf);
	if (glance->pf != pf) {
		/* The next may be of another again. */
		leave(host, glance);
		glance->pf = pf;
	} else if (glance->folder == ROOT) {
		path_device(&path, pf->address, "");
		glance->folder = host->io->enter(host->context, path.text);
		if (glance->folder < 0)
			glance->folder = ROOT;
	}
	return read_at(host, pf, index, address, glance->folder,
		       glance->own &&
			       glance->own[first_of(glance->pfs, at) + index],
		       vf);
}

/* Why a PF is not among those that are known: of some that is told. */
static struct ibh_error *left_out(const struct ibh_pfs *pfs, const char *name,
				  const char *address)
{
	size_t i;

	for (i = 0; i < pfs->left_out_count; i++) {
		const struct ibh_error *why = pfs->left_out[i];

		if (why->device && strstr(why->device, name))
			return error_of(error_copy(why), address, NULL);
	}
	return fail(T_NO_IB_PORT, address, "physfn", 0, name, NULL, NULL);
}

/* Why an address is not that of a VF of any of the PFs. */
static struct ibh_error *misplaced(struct ibh_host *host,
				   const struct ibh_pfs *pfs,
				   const char *address)
{
	char name[IBH_NAME], value[SHORT_VALUE];
	struct path path;
	size_t i;

	path_device(&path, address, "/physfn");
	if (host_base(host, path.text, name, sizeof(name)) >= 0) {
		for (i = 0; i < pfs->count; i++) {
			if (strcmp(pfs->pfs[i]->address, name))
				continue;
			format(value, sizeof(value), "%u",
			       pfs->pfs[i]->numvfs);
			return fail(T_NOT_ENABLED, address, "sriov_numvfs", 0,
				    value, name, NULL);
		}
		return left_out(pfs, name, address);
	}
	path_device(&path, address, "");
	if (host_base(host, path.text, name, sizeof(name)) < 0)
		return fail(T_NO_DEVICE, address, NULL, 0, NULL, NULL, NULL);
	path_add(&path, "/sriov_totalvfs");
	return fail(T_NO_PHYSFN, address, "physfn", 0,
		    host_exists(host, path.text) ? "a PF" : "no VF", NULL,
		    NULL);
}

struct ibh_error *vf_locate(struct ibh_host *host, const struct ibh_pfs *pfs,
			    struct ibh_pci pci, struct glance *glance,
			    const struct ibh_pf **pf, struct ibh_vf *vf)
{
	struct glance none = { .pfs = pfs };
	char address[IBH_PCI_TEXT + 1], number[12];
	size_t i;
	int index;

	ibh_format_pci(pci, address);
	for (i = 0; i < pfs->count; i++) {
		index = vf_index(pfs->pfs[i], pci);
		if (index < 0)
			continue;
		*pf = pfs->pfs[i];
		if (glance_at(host, glance ? glance : &none, i,
			      (unsigned int)index, address, vf))
			return NULL;
		format(number, sizeof(number), "%d", index);
		return fail(T_NOT_LISTED, address, "virtfn", 0, (*pf)->address,
			    number, NULL);
	}
	return misplaced(host, pfs, address);
}

/* A function has one IB device, or none before its driver has it. */
static int first_name(const char *name, void *context)
{
	char *first = context;
	size_t len = strlen(name);

	if (len < IBH_NAME && (!*first || strcmp(name, first) < 0))
		memcpy(first, name, len + 1);
	return 0;
}

uint64_t vf_own_identity(struct ibh_host *host, const struct ibh_vf *vf)
{
	char address[IBH_PCI_TEXT + 1], name[IBH_NAME] = "";
	char value[SHORT_VALUE];
	struct path path;
	uint64_t guid;

	ibh_format_pci(vf->pci, address);
	path_device(&path, address, "/infiniband");
	if (host_list(host, path.text, first_name, name) < 0 || !*name)
		return 0;
	path_add(&path, "/");
	path_add(&path, name);
	path_add(&path, "/node_guid");
	if (host_read(host, path.text, value, sizeof(value)) < 0 ||
	    ibh_parse_digits(value, &guid))
		return 0;
	return guid ? guid : IBH_GUID_IDLE;
}

static int is_any(const char *name, void *context)
{
	(void)name;
	(void)context;
	return 1;
}

bool vf_has_netdev(struct ibh_host *host, const struct ibh_vf *vf)
{
	char address[IBH_PCI_TEXT + 1];
	struct path path;

	ibh_format_pci(vf->pci, address);
	path_device(&path, address, "/net");
	return host_list(host, path.text, is_any, NULL) > 0;
}

struct search {
	struct ibh_host *host;
	const struct ibh_pf *pf;
};

/* …/0000:3b:00.2/net/ib4 */
static int is_of_vf(const char *netdev, void *context)
{
	const struct search *search = context;
	char target[PATH_SIZE], *end;
	struct path path = { 0 };
	struct ibh_pci pci;
	int cuts;

	path_add(&path, "class/net/");
	path_add(&path, netdev);
	if (search->host->io->link(search->host->context, ROOT, path.text,
				   target, sizeof(target)) < 0)
		return 0;
	for (cuts = 0; cuts < 2; cuts++) {
		end = strrchr(target, '/');
		if (!end)
			return 0;
		*end = '\0';
	}
	end = strrchr(target, '/');
	return end && !ibh_parse_pci(end + 1, strlen(end + 1), &pci) &&
	       vf_index(search->pf, pci) >= 0;
}

/* By all there are, which costs less than to look for each VF's. */
bool vfs_have_netdevs(struct ibh_host *host, const struct ibh_pf *pf)
{
	struct search search = { host, pf };

	return host_list(host, "class/net", is_of_vf, &search) > 0;
}

bool vf_is_lent(struct ibh_host *host, const struct ibh_pf *pf,
		const struct ibh_vf *vf, bool some)
{
	return some && !strcmp(vf->driver, pf->driver) &&
	       !vf_has_netdev(host, vf);
}

int ibh_vfs(struct ibh_host *host, const struct ibh_pf *pf,
	    const unsigned int *indices, size_t count, struct ibh_vf *vfs,
	    size_t *found, struct ibh_error **error)
{
	const struct ibh_pfs one = { .count = 1, .pfs = &pf };
	char address[IBH_PCI_TEXT + 1];
	struct glance glance;
	size_t i;

	*found = 0;
	*error = NULL;
	glance_begin(host, &one, count, &glance);
	for (i = 0; i < count; i++) {
		if (indices[i] >= pf->numvfs)
			continue;
		vf_address(pf, indices[i], address);
		if (glance_at(host, &glance, 0, indices[i], address,
			      &vfs[*found]))
			++*found;
	}
	glance_end(host, &glance);
	return 0;
}

int ibh_locate(struct ibh_host *host, const struct ibh_pfs *pfs,
	       struct ibh_pci pci, const struct ibh_pf **pf,
	       struct ibh_vf *vf, struct ibh_error **error)
{
	*error = vf_locate(host, pfs, pci, NULL, pf, vf);
	return *error ? -1 : 0;
}
