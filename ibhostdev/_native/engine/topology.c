// SPDX-License-Identifier: Apache-2.0
/*
 * Which PFs there are. What was read is kept until something says that it no
 * longer holds, which costs a few small reads for each PF to find out; nothing
 * here asks firmware.
 */
#include "devices.h"
#include "path.h"

static struct ibh_error *no_memory(void)
{
	return fail(T_MEMORY, NULL, NULL, 0, NULL, NULL, NULL);
}

/* ---- all of them ------------------------------------------------------- */

/* A PCI function that one of the drivers has: a PF, or a VF. */
struct function {
	struct ibh_pci pci;
	const char *driver;
};

struct functions {
	size_t count, size;
	struct function *functions;
	const char *driver; /* of those that are being listed */
};

static int by_pci(const void *a, const void *b)
{
	const struct function *x = a, *y = b;

	if (x->pci.domain != y->pci.domain)
		return x->pci.domain < y->pci.domain ? -1 : 1;
	return x->pci.rid < y->pci.rid ? -1 : x->pci.rid > y->pci.rid;
}

/* Among the driver's own files. */
static int take_function(const char *name, void *context)
{
	struct functions *all = context;
	struct function function = { .driver = all->driver };

	if (ibh_parse_pci(name, strlen(name), &function.pci))
		return 0;
	if (all->count == all->size) {
		size_t size = all->size ? 2 * all->size : 64;
		void *grown = realloc(all->functions,
				      size * sizeof(*all->functions));

		if (!grown)
			return -ENOMEM;
		all->functions = grown;
		all->size = size;
	}
	all->functions[all->count++] = function;
	return 0;
}

/*
 * By the drivers' folders, and not the links of class/infiniband: a VF that
 * the host's own driver has costs no more than its name in a list.
 */
static struct ibh_error *list_functions(struct ibh_host *host,
					struct functions *all)
{
	static const char *const drivers[] = { "mlx4_core", "mlx5_core" };
	struct path path;
	size_t i;
	int err;

	for (i = 0; i < 2; i++) {
		path.len = 0;
		path_add(&path, DRIVERS "/");
		path_add(&path, drivers[i]);
		all->driver = drivers[i];
		err = host_list(host, path.text, take_function, all);
		if (err == -ENOMEM)
			return no_memory();
		if (err && err != -ENOENT)
			return fail(T_UNLISTED, path.text, "directory", err,
				    NULL, NULL, NULL);
	}
	if (all->count)
		qsort(all->functions, all->count, sizeof(*all->functions),
		      by_pci);
	return NULL;
}

/* A PF comes before its VFs, of which nothing has to be asked. */
static bool is_vf(const struct topology *made, struct ibh_pci pci)
{
	size_t i;

	for (i = 0; i < made->public.count; i++)
		if (vf_index(&made->pfs[i], pci) >= 0)
			return true;
	return false;
}

static struct ibh_error *fill(struct ibh_host *host, struct topology *made,
			      const struct functions *all, bool *lacks)
{
	const struct ibh_pf **pfs;
	const struct ibh_error **left_out;
	size_t i, n = 0, ill = 0;
	struct ibh_pf *grown;
	bool is_one;

	pfs = calloc(all->count + 1, sizeof(*pfs));
	left_out = calloc(all->count + 1, sizeof(*left_out));
	made->public.pfs = pfs;
	made->public.left_out = left_out;
	made->nets = calloc(all->count + 1, sizeof(*made->nets));
	if (!pfs || !left_out || !made->nets)
		return no_memory();
	for (i = 0; i < all->count; i++) {
		struct pf_seen seen = { 0 };
		struct ibh_error *error;

		if (is_vf(made, all->functions[i].pci))
			continue;
		grown = realloc(made->pfs, (n + 1) * sizeof(*grown));
		if (!grown)
			return no_memory();
		made->pfs = grown;
		error = pf_read(host, all->functions[i].pci,
				all->functions[i].driver, &made->pfs[n],
				&is_one, &seen);
		made->nets[n] = seen.netdevs;
		made->early |= seen.early;
		*lacks |= seen.lacks;
		if (error) /* one that is ill must not stop the others */
			left_out[ill++] = error;
		else if (is_one)
			n++;
		made->public.count = n;
		made->public.left_out_count = ill;
	}
	for (i = 0; i < n; i++)
		pfs[i] = &made->pfs[i];
	return NULL;
}

/* ---- whether it still holds -------------------------------------------- */

static int add_name(const char *name, void *context)
{
	uint64_t *sum = context;

	*sum += name_digest(name);
	return 0;
}

/* What tells the names in a directory from others; an absent one has none. */
static uint64_t digest(struct ibh_host *host, const char *path)
{
	uint64_t sum = 0;
	int err = host_list(host, path, add_name, &sum);

	return err && err != -ENOENT ? UINT64_MAX : sum;
}

static bool reads(struct ibh_host *host, const struct ibh_pf *pf,
		  const char *file, unsigned int number)
{
	unsigned int now;
	struct ibh_error *error = pf_number(host, pf, file, &now);

	ibh_error_free(error);
	return !error && now == number;
}

static uint64_t net_digest(struct ibh_host *host, const struct ibh_pf *pf)
{
	struct path path;

	path_device(&path, pf->address, "/net");
	return digest(host, path.text);
}

/*
 * A PF with a network device for each of its ports gets no other one, so its
 * devices need not be listed: one that goes away or is renamed takes its
 * ifindex file along.
 */
static bool is_as_read(struct ibh_host *host, const struct topology *topology)
{
	unsigned int n;
	size_t i;

	if (digest(host, "class/infiniband") != topology->devices)
		return false;
	for (i = 0; i < topology->public.count; i++) {
		const struct ibh_pf *pf = &topology->pfs[i];

		if (!reads(host, pf, "sriov_numvfs", pf->numvfs) ||
		    !reads(host, pf, "sriov_drivers_autoprobe", pf->autoprobe))
			return false;
		for (n = 0; n < pf->netdev_count; n++) {
			struct path file = { .len = 0 };

			path_add(&file, "net/");
			path_add(&file, pf->netdevs[n].name);
			path_add(&file, "/ifindex");
			if (!reads(host, pf, file.text,
				   (unsigned int)pf->netdevs[n].ifindex))
				return false;
		}
		if (pf->netdev_count < pf->port_count &&
		    net_digest(host, pf) != topology->nets[i])
			return false;
	}
	return true;
}

static bool holds(struct ibh_host *host, const struct topology *topology)
{
	return !topology->early && is_as_read(host, topology) &&
	       networks_hold(host, &topology->public);
}

static struct ibh_error *read_topology(struct ibh_host *host,
				       struct topology **topology)
{
	struct topology *made = calloc(1, sizeof(*made));
	struct functions all = { 0 };
	struct ibh_error *error;
	bool lacks = false;

	if (!made)
		return no_memory();
	atomic_init(&made->users, 1);
	/* First: what changes from here on is seen next time. */
	made->devices = digest(host, "class/infiniband");
	error = list_functions(host, &all);
	if (!error)
		error = fill(host, made, &all, &lacks);
	free(all.functions);
	if (error) {
		topology_put(made);
		return error;
	}
	/* A device that goes away is in its class no more before its folder
	 * is gone (drivers/base/core.c, device_del). It may be back, under the
	 * same name, before anybody looks again. Network devices need no such
	 * look: those that come back have another ifindex. */
	made->early |= lacks && !is_as_read(host, made);
	networks_find(host, &made->public);
	*topology = made;
	return NULL;
}

struct ibh_error *topology_get(struct ibh_host *host, bool anew,
			       struct topology **topology)
{
	struct ibh_error *error = NULL;
	struct topology *next = NULL;

	pthread_mutex_lock(&host->mutex);
	/* Who was ill may be well again. */
	if (!host->topology || host->topology->public.left_out_count)
		anew = true;
	/* It may change while it is read, as it may right after: what a batch
	 * goes by it asks again, of the VFs and the PFs that it writes to. */
	if (anew || !holds(host, host->topology)) {
		error = read_topology(host, &next);
		if (!error) {
			topology_put(host->topology);
			host->topology = next;
		}
	}
	if (!error) {
		*topology = host->topology;
		atomic_fetch_add(&host->topology->users, 1);
	}
	pthread_mutex_unlock(&host->mutex);
	return error;
}

void topology_put(struct topology *topology)
{
	size_t i;

	if (!topology || atomic_fetch_sub(&topology->users, 1) > 1)
		return;
	for (i = 0; i < topology->public.left_out_count; i++)
		ibh_error_free((struct ibh_error *)topology->public.left_out[i]);
	free((void *)topology->public.left_out);
	free((void *)topology->public.pfs);
	free(topology->pfs);
	free(topology->nets);
	free(topology);
}

void topology_guids(struct ibh_host *host, struct topology *topology)
{
	size_t i;

	pthread_mutex_lock(&host->mutex);
	for (i = 0; !topology->has_guids && i < topology->public.count; i++)
		topology->early |= !pf_read_guids(host, &topology->pfs[i]);
	topology->has_guids = true;
	pthread_mutex_unlock(&host->mutex);
}

/* One that nobody else looks at. */
static struct ibh_error *copy(const struct topology *topology,
			      struct topology **copied)
{
	size_t count = topology->public.count, i;
	size_t ill = topology->public.left_out_count;
	struct topology *made = calloc(1, sizeof(*made));
	const struct ibh_pf **pfs;
	const struct ibh_error **left_out;

	if (!made)
		return no_memory();
	atomic_init(&made->users, 1);
	pfs = calloc(count + 1, sizeof(*pfs));
	left_out = calloc(ill + 1, sizeof(*left_out));
	made->pfs = calloc(count + 1, sizeof(*made->pfs));
	made->public.pfs = pfs;
	made->public.left_out = left_out;
	if (!pfs || !left_out || !made->pfs) {
		topology_put(made);
		return no_memory();
	}
	for (i = 0; i < count; i++) {
		made->pfs[i] = topology->pfs[i];
		pfs[i] = &made->pfs[i];
	}
	for (i = 0; i < ill; i++)
		left_out[i] = error_copy(topology->public.left_out[i]);
	made->public.count = count;
	made->public.left_out_count = ill;
	*copied = made;
	return NULL;
}

int ibh_pfs(struct ibh_host *host, bool anew, bool states,
	    struct ibh_pfs **pfs, struct ibh_error **error)
{
	struct topology *topology, *own = NULL;
	size_t i;

	*error = topology_get(host, anew, &topology);
	if (*error)
		return -1;
	topology_guids(host, topology);
	if (states) {
		/* Others have this one, too, and do not wait for firmware. */
		*error = copy(topology, &own);
		topology_put(topology);
		if (*error)
			return -1;
		topology = own;
		for (i = 0; i < topology->public.count; i++)
			pf_read_states(host, &topology->pfs[i]);
	}
	*pfs = &topology->public;
	return 0;
}

void ibh_pfs_free(struct ibh_pfs *pfs)
{
	if (pfs)
		topology_put((struct topology *)((char *)pfs -
						 offsetof(struct topology,
							  public)));
}
