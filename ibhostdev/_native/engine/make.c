// SPDX-License-Identifier: Apache-2.0
/*
 * Making VFs. sriov_numvfs takes a number only where there are none (EBUSY,
 * drivers/pci/pci-sysfs.c), and returns when the last of them has been
 * probed: minutes, for many VFs and firmware that is slow. So PFs at once,
 * and progress by the virtfn links that appear meanwhile.
 */
#include "batch.h"
#include "path.h"

#define LOOK_MS 100
#define SHOW_MS 60000

struct making {
	struct ibh_making *public;
	struct ibh_pf pf; /* as it is now, but for its ports' states */
	atomic_bool ended;
	unsigned int seen; /* VFs, when they were last counted */
};

struct makings {
	struct run *run;
	struct making *all;
	size_t count;
};

/* The kernel makes them in this order. */
static unsigned int count_vfs(struct ibh_host *host, const struct ibh_pf *pf,
			      unsigned int from, unsigned int most)
{
	char name[IBH_NAME];
	struct path path;

	for (; from < most; from++) {
		path_device(&path, pf->address, "/virtfn");
		path_number(&path, from);
		if (host_base(host, path.text, name, sizeof(name)) < 0)
			break;
	}
	return from;
}

/* Where its VFs are may depend on their number (PCI Express, SR-IOV). */
static struct ibh_error *look(struct ibh_host *host, struct ibh_pf *pf)
{
	struct ibh_error *error;

	error = pf_number(host, pf, "sriov_numvfs", &pf->numvfs);
	if (!error)
		error = pf_number(host, pf, "sriov_offset", &pf->offset);
	if (!error)
		error = pf_number(host, pf, "sriov_stride", &pf->stride);
	return error;
}

static struct ibh_error *spare_guests(struct ibh_host *host,
				      const struct ibh_pf *pf,
				      unsigned int wanted)
{
	bool some = vfs_have_netdevs(host, pf), lent;
	char address[IBH_PCI_TEXT + 1], there[12], asked[12];
	struct ibh_vf vf;
	unsigned int i;

	for (i = 0; i < pf->numvfs; i++) {
		if (!vf_read(host, pf, i, &vf))
			continue;
		lent = vf_is_lent(host, pf, &vf, some);
		if (!vf.in_use && !lent)
			continue;
		ibh_format_pci(vf.pci, address);
		format(there, sizeof(there), "%u", pf->numvfs);
		format(asked, sizeof(asked), "%u", wanted);
		return fail(lent ? T_VFS_LENT : T_VFS_KEPT, pf->address,
			    "sriov_numvfs", 0, asked, there, address);
	}
	return NULL;
}

static struct ibh_error *set(struct ibh_host *host, const struct ibh_pf *pf,
			     unsigned int vfs)
{
	char number[12];
	struct path path;
	int err;

	path_device(&path, pf->address, "/sriov_numvfs");
	format(number, sizeof(number), "%u", vfs);
	err = host_write(host, path.text, number);
	return err ? fail(T_NOT_MADE, pf->address, "sriov_numvfs", err, number,
			  NULL, NULL) :
		     NULL;
}

/* All of them, where they are to be; unless the PF goes, or somebody else
 * changes their number. */
static struct ibh_error *wait_for(struct run *run, struct ibh_pf *pf,
				  unsigned int vfs)
{
	struct ibh_host *host = run->host;
	uint64_t start = host->io->now(host->context), passed = 0;
	char seen[12], wanted[12], seconds[24];
	struct ibh_error *error;
	struct ibh_vf vf;
	unsigned int there = 0;

	for (;;) {
		error = look(host, pf);
		if (error)
			return error;
		while (there < vfs && vf_read(host, pf, there, &vf))
			there++;
		if (there == vfs && pf->numvfs == vfs)
			return NULL;
		passed = host->io->now(host->context) - start;
		if (pf->numvfs != vfs || stopped(run) || passed > SHOW_MS)
			break;
		host->io->sleep(host->context, LOOK_MS);
	}
	format(seen, sizeof(seen), "%u", there);
	format(wanted, sizeof(wanted), "%u", vfs);
	format(seconds, sizeof(seconds), "%g", (double)passed / 1e3);
	return fail(T_NOT_SHOWN, pf->address, "virtfn", 0, seen, wanted,
		    seconds);
}

static struct ibh_error *change(struct run *run, struct making *making)
{
	struct ibh_host *host = run->host;
	struct ibh_making *public = making->public;
	struct ibh_pf *pf = &making->pf;
	struct ibh_error *error = look(host, pf);

	if (error || pf->numvfs == public->vfs)
		return error;
	error = spare_guests(host, pf, public->vfs);
	if (error)
		return error;
	public->changed = true;
	if (pf->numvfs)
		error = set(host, pf, 0);
	if (!error && public->vfs)
		error = set(host, pf, public->vfs);
	return error ? error : wait_for(run, pf, public->vfs);
}

static int asked_to_stop(void *run)
{
	return stopped(run);
}

/* With the PF's lock: a batch that is at work there ends first. */
static struct ibh_error *make(struct run *run, struct making *making)
{
	struct ibh_host *host = run->host;
	struct waiting waiting = {
		.deadline = host->io->now(host->context) + host->lock_ms,
		.stop = asked_to_stop,
		.context = run,
	};
	struct ibh_error *error;
	bool waited;
	int lock;

	lock = host->io->lock(host->context, making->pf.address, &waiting,
			      &waited);
	if (lock < 0)
		return lock_error(host, making->pf.address, lock,
				  host->lock_ms);
	error = change(run, making);
	host->io->unlock(host->context, lock, making->public->changed);
	return error;
}

/* Tells how many there are, until all PFs are through. */
static void watch(struct makings *makings)
{
	struct run *run = makings->run;
	bool ended;
	size_t i;

	do {
		ended = true;
		for (i = 0; i < makings->count; i++) {
			struct making *making = &makings->all[i];
			bool over = atomic_load(&making->ended);
			unsigned int now = making->public->vfs;

			if (!over || making->public->error)
				now = count_vfs(run->host, &making->pf, 0,
						now);
			if (now > making->seen) {
				progress(run, IBH_MAKE, now - making->seen);
				making->seen = now;
			}
			ended = ended && over;
		}
		if (!ended)
			run->host->io->sleep(run->host->context, LOOK_MS);
	} while (!ended);
}

static void make_one(void *context, size_t i)
{
	struct makings *makings = context;
	struct making *making;

	/* The last one looks after the others. */
	if (i == makings->count) {
		if (makings->run->how->progress)
			watch(makings);
		return;
	}
	making = &makings->all[i];
	making->public->error = make(makings->run, making);
	atomic_store(&making->ended, true);
}

static struct ibh_error *find(struct makings *makings, size_t i)
{
	struct making *making = &makings->all[i];
	struct topology *topology = makings->run->topology;
	char address[IBH_PCI_TEXT + 1];
	size_t n;

	ibh_format_pci(making->public->pf, address);
	for (n = 0; n < topology->public.count; n++) {
		if (strcmp(topology->pfs[n].address, address) != 0)
			continue;
		making->pf = topology->pfs[n];
		return NULL;
	}
	return fail(T_NO_DEVICE, address, NULL, 0, NULL, NULL, NULL);
}

static struct ibh_error *make_all(struct makings *makings,
				  struct ibh_making *public)
{
	struct run *run = makings->run;
	struct ibh_error *error;
	unsigned int at_once;
	size_t i;

	error = topology_get(run->host, true, &run->topology);
	for (i = 0; i < makings->count && !error; i++) {
		public[i].changed = false;
		public[i].error = NULL;
		makings->all[i].public = &public[i];
		run->due += public[i].vfs;
		error = find(makings, i);
	}
	if (error)
		return error;
	/* They wait for the kernel, and the last looks on. */
	at_once = run->host->io->at_once == 1 ?
			  1 :
			  (unsigned int)makings->count + 1;
	each(makings->count + 1, at_once, make_one, makings);
	return NULL;
}

int ibh_make(struct ibh_host *host, struct ibh_making *public, size_t count,
	     const struct ibh_how *how, struct ibh_error **error)
{
	static const struct ibh_how usual;
	struct run run = {
		.host = host,
		.how = how ? how : &usual,
		.caller = pthread_self(),
	};
	struct makings makings = { .run = &run, .count = count };

	makings.all = calloc(count + 1, sizeof(*makings.all));
	if (!makings.all) {
		*error = fail(T_MEMORY, NULL, NULL, 0, NULL, NULL, NULL);
		return -1;
	}
	pthread_mutex_init(&run.mutex, NULL);
	*error = make_all(&makings, public);
	topology_put(run.topology);
	pthread_mutex_destroy(&run.mutex);
	free(makings.all);
	return *error ? -1 : 0;
}
