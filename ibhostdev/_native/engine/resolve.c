// SPDX-License-Identifier: Apache-2.0
/*
 * The second step: which VFs the VIFs mean, what serves their PFs, and, with
 * the PFs to ourselves, in what state all VFs are that may matter.
 */
#include "batch.h"

static struct ibh_error *no_memory(void)
{
	return fail(T_MEMORY, NULL, NULL, 0, NULL, NULL, NULL);
}

/* ---- places ------------------------------------------------------------ */

/* The first port that a VF has. */
static unsigned int first_port(struct ibh_host *host, const struct ibh_pf *pf,
			       unsigned int index)
{
	unsigned int i;

	for (i = 0; pf->port_count > 1 && i < pf->port_count; i++)
		if (pf->family == IBH_MLX4 &&
		    mlx4_has_port(host, pf, index, pf->ports[i].number))
			return pf->ports[i].number;
	return pf->ports[0].number;
}

/* The port on which a VIF wants a PF: that of its network, else the first
 * that the VF has. */
static struct ibh_error *on_port(struct run *run, const struct ibh_vif *vif,
				 struct place *place)
{
	const struct ibh_pf *pf = place->pf;
	char address[IBH_PCI_TEXT + 1], devices[256];
	const char *missing;

	if (!network_mapped(run->host, vif->network)) {
		place->port = first_port(run->host, pf, place->vf.index);
		return NULL;
	}
	place->port = network_port(run->host, vif->network, pf);
	if (place->port)
		return NULL;
	if (run->job == UNPLUG) {
		/* The mapping may have changed since it was plugged. */
		place->port = first_port(run->host, pf, place->vf.index);
		return NULL;
	}
	ibh_format_pci(vif->pci, address);
	missing = network_missing(run->host, vif->network,
				  &run->topology->public);
	if (missing) {
		network_devices(&run->topology->public, devices,
				sizeof(devices));
		return fail(T_NOT_HERE, address, "physical_network", 0,
			    vif->network, missing, devices);
	}
	network_names(run->host, vif->network, devices, sizeof(devices));
	return fail(T_OTHER_NETWORK, address, "physical_network", 0,
		    pf->address, vif->network, devices);
}

static void find_place(struct run *run, const struct ibh_vif *vif,
		       struct glance *glance, struct place *place)
{
	char text[IBH_GUID_TEXT + 1];

	if (!vif->has_pci) {
		ibh_format_guid(vif->port_guid, text);
		place->error = fail(T_NO_VF_GIVEN, text, NULL, 0, NULL, NULL,
				    NULL);
		return;
	}
	place->error = vf_locate(run->host, &run->topology->public, vif->pci,
				 glance, &place->pf, &place->vf);
	if (!place->error)
		place->error = on_port(run, vif, place);
	if (place->error)
		place->pf = NULL;
}

void forget_places(struct run *run)
{
	size_t i;

	for (i = 0; run->places && i < run->count; i++)
		ibh_error_free(run->places[i].error);
	free(run->places);
	run->places = NULL;
	for (i = 0; i < run->side_count; i++)
		side_free(&run->sides[i]);
	free(run->sides);
	run->sides = NULL;
	run->side_count = 0;
	dump_free(run->dump);
	run->dump = NULL;
	topology_put(run->topology);
	run->topology = NULL;
}

/* ---- sides ------------------------------------------------------------- */

static struct side *find_side(struct run *run, const struct ibh_pf *pf,
			      unsigned int port)
{
	size_t i;

	for (i = 0; i < run->side_count; i++)
		if (run->sides[i].pf == pf && run->sides[i].port == port)
			return &run->sides[i];
	return NULL;
}

static void add_side(struct run *run, const struct ibh_pf *pf,
		     unsigned int port)
{
	if (!find_side(run, pf, port))
		side_init(&run->sides[run->side_count++], run->host, pf, port);
}

static int by_address(const void *a, const void *b)
{
	const struct side *x = a, *y = b;

	if (x->pf->pci.domain != y->pf->pci.domain)
		return x->pf->pci.domain < y->pf->pci.domain ? -1 : 1;
	if (x->pf->pci.rid != y->pf->pci.rid)
		return x->pf->pci.rid < y->pf->pci.rid ? -1 : 1;
	return x->port < y->port ? -1 : x->port > y->port;
}

/* Whether a network is known to be behind any PF here. */
static bool is_here(const struct run *run, const char *network)
{
	const struct ibh_pfs *pfs = &run->topology->public;
	size_t i;

	for (i = 0; network && i < pfs->count; i++)
		if (network_port(run->host, network, pfs->pfs[i]))
			return true;
	return false;
}

/* Whether some VIF's network is not known to be behind any PF: then all are
 * taken for one fabric. */
static bool everywhere(const struct run *run)
{
	size_t i;

	for (i = 0; i < run->count; i++) {
		const char *network = run->vifs[i].network;

		/* Most VIFs are on the network of the one before. */
		if (i && network == run->vifs[i - 1].network)
			continue;
		if (!network_apart(run->host, network))
			return true;
	}
	return false;
}

/*
 * The PFs of the VIFs' fabrics, each on the ports in question: no two VFs of
 * a fabric may hold the same GUID.
 */
static void add_fabrics(struct run *run)
{
	const struct ibh_pfs *pfs = &run->topology->public;
	bool all = everywhere(run);
	size_t i, n;

	for (i = 0; i < pfs->count; i++) {
		const struct ibh_pf *pf = pfs->pfs[i];

		if (!pf->numvfs)
			continue;
		for (n = 0; all && n < pf->port_count; n++)
			add_side(run, pf, pf->ports[n].number);
		for (n = 0; !all && n < run->count; n++) {
			const char *network = run->vifs[n].network;
			unsigned int port;

			/* Most VIFs are on the network of the one before. */
			if (n && network == run->vifs[n - 1].network)
				continue;
			port = network_port(run->host, network, pf);
			if (port)
				add_side(run, pf, port);
		}
	}
}

static struct ibh_error *add_mine(const struct run *run, struct side *side,
				  unsigned int index)
{
	char address[IBH_PCI_TEXT + 1];

	if (!side->mine) {
		side->mine = calloc(side->pf->numvfs, sizeof(*side->mine));
		if (!side->mine)
			return no_memory();
	}
	if (side->mine[index] && run->job != UNPLUG) {
		vf_address(side->pf, index, address);
		return fail(T_VF_TWICE, address, "pci", 0, NULL, NULL, NULL);
	}
	side->mine[index] = true;
	side->has_mine = true;
	return NULL;
}

static struct ibh_error *find_sides(struct run *run)
{
	const struct ibh_pfs *pfs = &run->topology->public;
	struct ibh_error *error = NULL;
	size_t i, most = run->count;

	for (i = 0; i < pfs->count; i++)
		most += pfs->pfs[i]->port_count + pfs->pfs[i]->netdev_count;
	run->sides = calloc(most + 1, sizeof(*run->sides));
	if (!run->sides)
		return no_memory();
	for (i = 0; i < run->count; i++)
		if (run->places[i].pf)
			add_side(run, run->places[i].pf, run->places[i].port);
	if (run->job != ADJUST) /* it gives no GUIDs */
		add_fabrics(run);
	qsort(run->sides, run->side_count, sizeof(*run->sides), by_address);
	for (i = 0; i < run->count && !error; i++) {
		struct place *place = &run->places[i];
		struct side *side;

		if (!place->pf)
			continue;
		side = find_side(run, place->pf, place->port);
		if (!side)
			continue; /* it was added above */
		place->side = side;
		if (!side->mechanism && !side->obstacle)
			side_choose(side, run->how);
		if (side->mechanism) {
			error = add_mine(run, side, place->vf.index);
		} else {
			place->error = error_copy(side->obstacle);
			place->pf = NULL;
		}
	}
	return error;
}

/* Places and sides, as they are now. */
static struct ibh_error *locate(struct run *run)
{
	struct ibh_error *error;
	struct glance glance;
	size_t i;

	error = topology_get(run->host, false, &run->topology);
	if (error)
		return error;
	run->places = calloc(run->count + 1, sizeof(*run->places));
	if (!run->places)
		return no_memory();
	glance_begin(run->host, &run->topology->public, run->count, &glance);
	for (i = 0; i < run->count; i++)
		find_place(run, &run->vifs[i], &glance, &run->places[i]);
	glance_end(run->host, &glance);
	return find_sides(run);
}

/* To plug all or none, the first VIF that cannot be served ends the batch,
 * before anything is locked. */
static struct ibh_error *require_all(const struct run *run)
{
	size_t i;

	for (i = 0; i < run->count; i++)
		if (run->places[i].error)
			return error_copy(run->places[i].error);
	return NULL;
}

/* ---- locks ------------------------------------------------------------- */

/* Which PFs have to be locked; the same text if none is another. */
static char *lock_names(const struct run *run)
{
	char *text = calloc(run->side_count + 1, IBH_PCI_TEXT + 1), *at = text;
	size_t i;

	for (i = 0; text && i < run->side_count; i++)
		at = stpcpy(at, run->sides[i].pf->address);
	return text;
}

/*
 * The PFs to ourselves, from reading their state to verifying it. Where that
 * had to be waited for, who has which VF may have changed since it was looked
 * up, and even which PFs there are.
 */
static struct ibh_error *take(struct run *run)
{
	struct ibh_error *error;
	char *before, *after;
	bool waited, same;

	for (;;) {
		before = lock_names(run);
		error = before ? take_locks(run, &waited) : no_memory();
		if (error || !waited) {
			free(before);
			return error;
		}
		forget_places(run);
		error = locate(run);
		after = lock_names(run);
		same = after && !strcmp(before, after);
		free(before);
		free(after);
		if (error || same)
			return error;
		drop_locks(run);
	}
}

/* ---- survey ------------------------------------------------------------ */

static void look(void *context, size_t at)
{
	struct side *side = ((struct side **)context)[at];

	side->trouble = side_survey(side);
}

/* The kernel tells of one PF after the other (RTNL), so no thread is worth
 * it where nothing else is asked. */
static bool takes_turns(const struct side *side)
{
	return side->mechanism == &mlx5_netlink &&
	       side->pf->family == IBH_MLX5;
}

static struct ibh_error *look_at_all(struct run *run)
{
	struct side **others = calloc(run->side_count + 1, sizeof(*others));
	size_t i, count = 0;

	if (!others)
		return no_memory();
	for (i = 0; i < run->side_count; i++) {
		struct side *side = &run->sides[i];

		if (side->trouble)
			continue; /* it is locked */
		if (!side->mechanism && !side->obstacle)
			side_choose(side, run->how);
		if (takes_turns(side))
			side->trouble = side_survey(side);
		else
			others[count++] = side;
	}
	each(count, run->host->io->at_once, look, others);
	free(others);
	return NULL;
}

/* A GUID may be held where nobody can look, which is told. */
static struct ibh_error *doubt(struct run *run, const struct ibh_error *why)
{
	char text[1024];

	run->blind = true;
	ibh_error_text(why, text, sizeof(text));
	return warn(run, "not searched for the GUIDs: %s", text);
}

static struct ibh_error *tell_detour(struct run *run,
				     const struct ibh_error *why)
{
	char text[1024];

	ibh_error_text(why, text, sizeof(text));
	return warn(run, "MLNX_OFED's files were read instead: %s", text);
}

/* Nor is it known where those are that were plugged on a network of which no
 * device is here (any more). */
static struct ibh_error *doubt_network(struct run *run, size_t at)
{
	const char *network = run->vifs[at].network;

	if (run->job != UNPLUG || !network_mapped(run->host, network) ||
	    is_here(run, network))
		return NULL;
	run->blind = true;
	if (at && network == run->vifs[at - 1].network)
		return NULL; /* it has been told */
	return warn(run,
		    "not searched for the GUIDs: no PF here is on physical "
		    "network '%s' by the physical device mappings",
		    network);
}

/* Devices of the mapping that are no PF here are found out by the networks of
 * the VIFs; where none names one, a slip of the pen would never be. */
static struct ibh_error *doubt_mapping(struct run *run)
{
	const struct ibh_pfs *pfs = &run->topology->public;
	struct ibh_error *error = NULL;
	char devices[256];
	size_t i;

	if (run->job != PLUG && run->job != UNPLUG)
		return NULL;
	if (pfs->left_out_count) /* it may be one of these, which are told of */
		return NULL;
	for (i = 0; i < run->count; i++)
		if (run->vifs[i].network)
			return NULL;
	network_devices(pfs, devices, sizeof(devices));
	for (i = 0; run->count && i < run->host->mapping_count && !error; i++) {
		const struct ibh_mapping *one = &run->host->mappings[i];

		if (!network_leads(pfs, one->device))
			error = warn(run,
				     "physical network '%s' is mapped to %s, "
				     "and no InfiniBand PF here has that "
				     "name; there are: %s",
				     one->network, one->device, devices);
	}
	return error;
}

/* Who needs a dump of all devices has it together with the others: it makes
 * firmware tell of the VFs of every PF. */
static struct ibh_error *share_dump(struct run *run)
{
	size_t i;

	if (dump_new(run->side_count, &run->dump))
		return no_memory();
	for (i = 0; i < run->side_count; i++) {
		if (!run->sides[i].netdev)
			continue;
		run->sides[i].dump = run->dump;
		dump_add(run->dump, run->sides[i].netdev->ifindex);
	}
	return NULL;
}

/*
 * The one reading of state before anything is written. Only a PF that the
 * batch has VFs of must answer.
 */
static struct ibh_error *survey(struct run *run)
{
	const struct ibh_pfs *pfs = &run->topology->public;
	struct ibh_error *error = share_dump(run);
	size_t i;

	if (!error)
		error = look_at_all(run);
	for (i = 0; i < run->side_count && !error; i++) {
		struct side *side = &run->sides[i];

		if (side->detour)
			error = tell_detour(run, side->detour);
		if (!side->trouble)
			continue;
		if (side->has_mine)
			return error_copy(side->trouble);
		error = doubt(run, side->trouble);
	}
	for (i = 0; i < pfs->left_out_count && !error; i++)
		error = doubt(run, pfs->left_out[i]);
	for (i = 0; i < run->count && !error; i++)
		error = doubt_network(run, i);
	if (!error)
		error = doubt_mapping(run);
	return error;
}

struct ibh_error *resolve(struct run *run)
{
	struct ibh_error *error = locate(run);

	if (!error && run->job == PLUG && !run->how->proceed)
		error = require_all(run);
	if (!error && !run->how->dry_run)
		error = take(run);
	if (!error && run->locks)
		leave_locked(run);
	if (!error)
		error = survey(run);
	return error;
}
