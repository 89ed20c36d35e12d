// SPDX-License-Identifier: Apache-2.0
/*
 * Binding VFs anew whose own driver shows an identity they no longer have.
 *
 * A driver reads its VF's identity when it is bound (drivers/infiniband/hw/
 * mlx5/main.c). A VF that went to a guest is no matter: the guest's driver
 * reads it. One that is on the host's own driver shows the last tenant's
 * until it is bound again, which takes 0.3 to 0.5 s of waiting for firmware:
 * so only those that need it, and many at once.
 */
#include "batch.h"

#define AT_ONCE 32

struct due {
	const struct ibh_pf *pf;
	const struct ibh_vf *vf;
	uint64_t guid; /* that its driver may show still */
	bool certain; /* only if it does */
	char address[IBH_PCI_TEXT + 1];
	struct ibh_error *error;
};

struct rebinding {
	struct run *run;
	struct due *dues;
	size_t count;
};

/* ---- which ------------------------------------------------------------- */

/*
 * Whether the host's own driver has a VF and its identity here it took when
 * it was bound; unless that is to be `certain`, also if it shows none that
 * could be compared.
 */
static bool is_stale(struct run *run, const struct ibh_vf *vf, uint64_t guid,
		     bool certain)
{
	uint64_t shown;

	if (!guid || strcmp(vf->driver, "mlx5_core"))
		return false;
	shown = vf_own_identity(run->host, vf);
	return shown ? shown == guid : !certain;
}

static void add(struct rebinding *all, const struct ibh_pf *pf,
		const struct ibh_vf *vf, uint64_t guid, bool certain)
{
	struct due *due;

	if (!is_stale(all->run, vf, guid, certain))
		return;
	due = &all->dues[all->count++];
	*due = (struct due){
		.pf = pf, .vf = vf, .guid = guid, .certain = certain,
	};
	ibh_format_pci(vf->pci, due->address);
}

/* The node GUID, which is what the driver shows, of who had a VF. That a call
 * has taken which was cut off only the VIF may tell. */
static uint64_t node_of(const struct change *change)
{
	const struct ibh_state *before = &change->before;
	uint64_t owner = state_owner(before);

	if (before->have & IBH_HAVE_NODE && !guid_is_idle(before->node))
		return before->node;
	return owner == change->vif->port_guid ? vif_node_guid(change->vif) :
						 owner;
}

static void add_changed(struct rebinding *all, const struct changes *changes)
{
	size_t i;

	for (i = 0; i < changes->count; i++) {
		const struct change *change = changes->changes[i];

		if (!change->error)
			add(all, change->side->pf, &change->vf,
			    node_of(change), false);
	}
}

static int by_address(const void *a, const void *b)
{
	return strcmp(((const struct due *)a)->address,
		      ((const struct due *)b)->address);
}

/* A VF with a port on two fabrics may be there twice. */
static void unite(struct rebinding *all)
{
	size_t i, kept = 0;

	qsort(all->dues, all->count, sizeof(*all->dues), by_address);
	for (i = 0; i < all->count; i++)
		if (!kept || by_address(&all->dues[kept - 1], &all->dues[i]))
			all->dues[kept++] = all->dues[i];
	all->count = kept;
}

static void find(struct rebinding *all)
{
	struct run *run = all->run;
	bool failed = any_failed(run) || refusal(run);
	size_t i;

	add_changed(all, &run->first);
	add_changed(all, &run->then);
	for (i = 0; i < run->stale_count && !failed; i++)
		add(all, run->stale[i].pf, &run->stale[i].vf,
		    run->stale[i].guid, true);
	unite(all);
}

/* ---- how --------------------------------------------------------------- */

static struct ibh_error *not_bound(const struct due *due, enum text what,
				   const char *step, ssize_t err)
{
	return fail(what, due->address, step, (int)err, due->vf->driver,
		    due->address, NULL);
}

static struct ibh_error *rebind(struct run *run, const struct due *due)
{
	struct ibh_host *host = run->host;
	char name[IBH_NAME];
	ssize_t err;

	/* Once more, right before: a PF has no physfn, and unbinding one
	 * takes the fabric from every guest of the host. */
	if (drive_target(host, due->address, "/physfn", name) < 0 ||
	    strcmp(name, due->pf->address))
		return fail(T_NO_LONGER_VF, due->address, "physfn", 0,
			    due->pf->address, NULL, NULL);
	err = drive_target(host, due->address, "/driver", name);
	if (err < 0 && err != -ENOENT)
		return not_bound(due, T_NOT_UNBOUND, "driver", err);
	/* Nothing is locked here: somebody may have taken it, and seen it
	 * idle, or have bound it anew for its next tenant. */
	if (err < 0 || strcmp(name, due->vf->driver) ||
	    !is_stale(run, due->vf, due->guid, due->certain))
		return NULL;
	err = drive_poke(host, due->vf->driver, "/unbind", due->address);
	if (err == -ENODEV)
		return NULL; /* likewise */
	if (err)
		return not_bound(due, T_NOT_UNBOUND, "unbind", err);
	err = drive_poke(host, due->vf->driver, "/bind", due->address);
	if (!err || drive_target(host, due->address, "/driver", name) >= 0)
		return NULL; /* or somebody took it in between */
	return not_bound(due, T_NOT_BOUND, "bind", err);
}

static void rebind_one(void *context, size_t i)
{
	struct rebinding *all = context;
	struct due *due = &all->dues[i];

	if (!due->pf->autoprobe)
		return;
	due->error = stopped(all->run) ?
			     fail(T_REFUSED, due->address, "unbind", EINTR,
				  NULL, NULL, NULL) :
			     rebind(all->run, due);
	progress(all->run, IBH_REBIND, 1);
}

/* What could not be bound again (drivers/pci/pci-driver.c) is left, with a
 * warning. */
static struct ibh_error *warn_of(struct run *run, const struct due *due)
{
	return warn(run,
		    "%s shows its old identity on this host until it is bound "
		    "anew: its PF has sriov_drivers_autoprobe off",
		    due->address);
}

/* ---- what came of it --------------------------------------------------- */

static struct ibh_error *error_at(const struct rebinding *all,
				  struct ibh_pci pci)
{
	const struct due *found;
	struct due key = { 0 };

	ibh_format_pci(pci, key.address);
	found = bsearch(&key, all->dues, all->count, sizeof(key), by_address);
	return found ? error_copy(found->error) : NULL;
}

static void tell(const struct rebinding *all, const struct changes *changes)
{
	struct change *change;
	size_t i;

	for (i = 0; i < changes->count; i++) {
		change = changes->changes[i];
		if (!change->error)
			change->error = error_at(all, change->vf.pci);
	}
}

static void tell_all(const struct rebinding *all)
{
	struct run *run = all->run;
	size_t i;

	tell(all, &run->first);
	tell(all, &run->then);
	for (i = 0; i < run->count; i++) {
		struct ibh_result *result = &run->answers[i].result;

		if (!run->answers[i].change && result->has_pci &&
		    !result->error)
			result->error = error_at(all, result->pci);
	}
}

/* Whether they are stale could not be found out. */
static void give_up(struct changes *changes)
{
	size_t i;

	for (i = 0; i < changes->count; i++)
		if (!changes->changes[i]->error)
			changes->changes[i]->error =
				fail(T_MEMORY, NULL, NULL, 0, NULL, NULL,
				     NULL);
}

void refresh(struct run *run)
{
	struct rebinding all = { .run = run };
	unsigned int at_once = run->host->io->at_once;
	size_t i, most = run->first.count + run->then.count + run->stale_count;

	if (!most)
		return;
	all.dues = calloc(most, sizeof(*all.dues));
	if (!all.dues) {
		give_up(&run->first);
		give_up(&run->then);
		return;
	}
	find(&all);
	run->due = 0;
	for (i = 0; i < all.count; i++) {
		if (all.dues[i].pf->autoprobe)
			run->due++;
		else
			all.dues[i].error = warn_of(run, &all.dues[i]);
	}
	if (all.count) {
		each(all.count, at_once < AT_ONCE ? at_once : AT_ONCE,
		     rebind_one, &all);
		tell_all(&all);
	}
	for (i = 0; i < all.count; i++)
		ibh_error_free(all.dues[i].error);
	free(all.dues);
}
