// SPDX-License-Identifier: Apache-2.0
/*
 * Which PFs there are. What was read is kept until something says that it no
 * longer holds, which costs a few small reads for each PF to find out; nothing
 * here asks firmware.
 */
#include "internal.h"

#include "path.h"

#define TRIES 3

static struct ibh_error *no_memory(void)
{
	return fail(T_MEMORY, NULL, NULL, 0, NULL, NULL, NULL);
}

/* ---- all of them ------------------------------------------------------- */

/* An IB device, and the PCI function it is of, or why that is not known. */
struct candidate {
	struct ibh_pci pci;
	const char *name;
	struct ibh_error *error;
};

static int by_pci(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	if (x->pci.domain != y->pci.domain)
		return x->pci.domain < y->pci.domain ? -1 : 1;
	if (x->pci.rid != y->pci.rid)
		return x->pci.rid < y->pci.rid ? -1 : 1;
	return strcmp(x->name, y->name);
}

/* …/0000:3b:00.0/infiniband/mlx5_0; software devices have no PCI parent. */
static bool parent(struct ibh_host *host, struct candidate *candidate)
{
	char target[PATH_SIZE], *part;
	struct path path = { .len = 0 };
	ssize_t len;
	int i;

	if (strlen(candidate->name) >= IBH_NAME)
		return false;
	path_add(&path, "class/infiniband/");
	path_add(&path, candidate->name);
	len = host->io->link(host->context, path.text, target,
			     sizeof(target));
	if (len == -ENOENT)
		return false; /* it has gone meanwhile */
	if (len < 0) {
		candidate->error = fail(T_UNREADABLE, candidate->name,
					path.text, (int)len, NULL, NULL, NULL);
		return true;
	}
	for (i = 0; i < 2; i++) {
		part = strrchr(target, '/');
		if (!part)
			return false;
		*part = '\0';
	}
	part = strrchr(target, '/');
	part = part ? part + 1 : target;
	return !ibh_parse_pci(part, strlen(part), &candidate->pci);
}

static bool has_guid(const struct ibh_pf *pf)
{
	unsigned int i;

	for (i = 0; i < pf->port_count; i++)
		if (pf->ports[i].guid)
			return true;
	return false;
}

/*
 * One function may have several IB devices: planes and SMI devices of a
 * ConnectX-8 are beside the one that has InfiniBand ports. If their ports say
 * that they are InfiniBand's, too, they have no GUID.
 */
static struct ibh_error *read_function(struct ibh_host *host,
				       const struct candidate *candidates,
				       size_t count, struct ibh_pf *pf,
				       bool *is_one)
{
	struct ibh_error *error = NULL;
	char path[PATH_SIZE], value[SHORT_VALUE];
	struct ibh_pf first;
	bool has_first = false;
	ssize_t len;
	size_t i;

	*is_one = false;
	for (i = 0; i < count && !error; i++) {
		memset(pf, 0, sizeof(*pf));
		pf->pci = candidates[i].pci;
		ibh_format_pci(pf->pci, pf->address);
		strcpy(pf->ib_device, candidates[i].name);
		/* Only a PF has this file: what the VFs' own driver registers
		 * is not of interest here. */
		join(path, DEVICES "/%s/sriov_totalvfs", pf->address);
		len = host_read(host, path, value, sizeof(value));
		if (len == -ENOENT)
			return NULL;
		if (len < 0)
			return fail(T_UNREADABLE, pf->address, path, (int)len,
				    NULL, NULL, NULL);
		error = pf_read(host, pf, is_one);
		if (error || !*is_one || count == 1)
			continue;
		pf_read_guids(host, pf);
		if (has_guid(pf))
			return NULL;
		if (!has_first)
			first = *pf;
		has_first = true;
	}
	if (!error && has_first) {
		*pf = first;
		*is_one = true;
	}
	return error;
}

/* A PF comes before its VFs, of which nothing has to be asked: their own
 * driver may have registered an IB device for each. */
static bool is_vf(const struct topology *made, struct ibh_pci pci)
{
	size_t i;

	for (i = 0; i < made->public.count; i++)
		if (vf_index(&made->pfs[i], pci) >= 0)
			return true;
	return false;
}

/* Takes the errors of those candidates that it comes to. */
static struct ibh_error *fill(struct ibh_host *host, struct topology *made,
			      struct candidate *candidates, size_t count)
{
	const struct ibh_pf **pfs;
	const struct ibh_error **left_out;
	size_t at, next, n = 0, ill = 0;
	struct ibh_pf *grown;
	bool is_one;

	pfs = calloc(count + 1, sizeof(*pfs));
	left_out = calloc(count + 1, sizeof(*left_out));
	made->public.pfs = pfs;
	made->public.left_out = left_out;
	if (!pfs || !left_out)
		return no_memory();
	for (at = 0; at < count; at = next) {
		struct ibh_error *error = candidates[at].error;

		candidates[at].error = NULL;
		for (next = at + 1; next < count; next++)
			if (error || candidates[next].error ||
			    candidates[next].pci.domain !=
				    candidates[at].pci.domain ||
			    candidates[next].pci.rid != candidates[at].pci.rid)
				break;
		if (error) {
			left_out[ill++] = error;
			made->public.left_out_count = ill;
			continue;
		}
		if (is_vf(made, candidates[at].pci))
			continue;
		grown = realloc(made->pfs, (n + 1) * sizeof(*grown));
		if (!grown)
			return no_memory();
		made->pfs = grown;
		error = read_function(host, candidates + at, next - at,
				      &made->pfs[n], &is_one);
		if (error) /* one that is ill must not stop the others */
			left_out[ill++] = error;
		else if (is_one)
			n++;
		made->public.count = n;
		made->public.left_out_count = ill;
	}
	for (at = 0; at < n; at++)
		pfs[at] = &made->pfs[at];
	return NULL;
}

/* ---- whether it still holds -------------------------------------------- */

/* FNV-1a, summed up: names in any order. */
static int add_name(const char *name, void *context)
{
	uint64_t hash = 0xcbf29ce484222325ULL, *sum = context;

	for (; *name; name++)
		hash = (hash ^ (unsigned char)*name) * 0x100000001b3ULL;
	*sum += hash;
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
	char path[PATH_SIZE];

	join(path, DEVICES "/%s/net", pf->address);
	return digest(host, path);
}

/*
 * A PF with a network device for each of its ports gets no other one, so its
 * devices need not be listed: one that goes away or is renamed takes its
 * ifindex file along.
 */
static bool holds(struct ibh_host *host, const struct topology *topology)
{
	char file[PATH_SIZE];
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
			format(file, sizeof(file), "net/%s/ifindex",
			       pf->netdevs[n].name);
			if (!reads(host, pf, file,
				   (unsigned int)pf->netdevs[n].ifindex))
				return false;
		}
		if (pf->netdev_count < pf->port_count &&
		    net_digest(host, pf) != topology->nets[i])
			return false;
	}
	return true;
}

static struct ibh_error *read_candidates(struct ibh_host *host,
					 struct topology *made,
					 const struct names *names)
{
	struct candidate *candidates =
		calloc(names->count + 1, sizeof(*candidates));
	struct ibh_error *error;
	size_t i, count = 0;

	if (!candidates)
		return no_memory();
	for (i = 0; i < names->count; i++) {
		add_name(names->names[i], &made->devices);
		candidates[count].name = names->names[i];
		if (parent(host, &candidates[count]))
			count++;
	}
	qsort(candidates, count, sizeof(*candidates), by_pci);
	error = fill(host, made, candidates, count);
	for (i = 0; i < count; i++)
		ibh_error_free(candidates[i].error);
	free(candidates);
	return error;
}

static struct ibh_error *read_topology(struct ibh_host *host,
				       struct topology **topology)
{
	struct topology *made = calloc(1, sizeof(*made));
	struct ibh_error *error;
	struct names names;
	size_t i;

	if (!made)
		return no_memory();
	atomic_init(&made->users, 1);
	error = host_names(host, "class/infiniband", &names);
	if (!error) {
		error = read_candidates(host, made, &names);
		names_free(&names);
	}
	if (!error) {
		made->nets = calloc(made->public.count + 1,
				    sizeof(*made->nets));
		if (!made->nets)
			error = no_memory();
	}
	if (error) {
		topology_put(made);
		return error;
	}
	for (i = 0; i < made->public.count; i++)
		if (made->pfs[i].netdev_count < made->pfs[i].port_count)
			made->nets[i] = net_digest(host, &made->pfs[i]);
	*topology = made;
	return NULL;
}

struct ibh_error *topology_get(struct ibh_host *host, bool anew,
			       struct topology **topology)
{
	struct ibh_error *error = NULL;
	struct topology *next = NULL;
	int tries = TRIES;

	pthread_mutex_lock(&host->mutex);
	/* Who was ill may be well again. */
	if (!host->topology || host->topology->public.left_out_count)
		anew = true;
	/* Until what was read was not changing meanwhile. */
	while (!error && tries-- > 0 &&
	       (anew || !holds(host, host->topology))) {
		anew = false;
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
		pf_read_guids(host, &topology->pfs[i]);
	topology->has_guids = true;
	pthread_mutex_unlock(&host->mutex);
}

int ibh_pfs(struct ibh_host *host, bool anew, bool states,
	    struct ibh_pfs **pfs, struct ibh_error **error)
{
	struct topology *topology;
	size_t i;

	*error = topology_get(host, anew, &topology);
	if (*error)
		return -1;
	topology_guids(host, topology);
	if (states) {
		pthread_mutex_lock(&host->asking);
		for (i = 0; !topology->has_states && i < topology->public.count;
		     i++)
			pf_read_states(host, &topology->pfs[i]);
		topology->has_states = true;
		pthread_mutex_unlock(&host->asking);
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
