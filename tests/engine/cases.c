// SPDX-License-Identifier: Apache-2.0
/*
 * Hosts, batches and states; see cases.h.
 */
#include <stdio.h>

#include "cases.h"

#define SPARE 3u /* the VF beside those of the batch */
#define LATE 30 /* ms */

const char *const setting_names[SETTINGS] = {
	"two-stock", "two-ofed", "no-netdev", "two-cx3", "mixed",
	"old-kernel", "long-kernel", "two-fabrics", "two-guids",
	"cx3-pkeys", "cx3-without",
};

const char *const state_names[STATES] = {
	"fresh", "idle", "right", "half-node", "half-port", "low",
	"mixed-node", "others", "next", "unknown", "unknown-right", "stale",
	"guest-right", "guest-others", "guest-mixed", "guest-low", "guest-idle",
	"guest-fresh", "guest-unknown", "silent", "absent",
};

const char *const stray_names[STRAYS] = {
	"none", "here", "there", "guest", "half", "unknown", "silent",
};

const char *const act_names[ACTS] = {
	"plug", "plug-some", "plug-up", "plug-dry", "plug-anew", "unplug",
	"unplug-some", "unplug-anywhere", "unplug-misled", "unplug-keep",
	"unplug-dry", "restore", "adjust",
};

static const enum family families[SETTINGS][PFS] = {
	[TWO_STOCK] = { STOCK, STOCK },	   [TWO_OFED] = { OFED, OFED },
	[NO_NETDEV] = { OFED, STOCK },	   [TWO_CX3] = { CX3, CX3 },
	[MIXED] = { CX3, OFED },	   [OLD_KERNEL] = { STOCK, STOCK },
	[LONG_KERNEL] = { STOCK, STOCK },  [TWO_FABRICS] = { STOCK, STOCK },
	[TWO_GUIDS] = { STOCK, OFED },	   [CX3_PKEYS] = { CX3, CX3 },
	[CX3_WITHOUT] = { CX3, CX3 },
};

static const struct {
	unsigned int count;
	struct spot spots[BATCH];
} layouts[LAYOUTS] = {
	{ 1, { { 0, 1 } } },
	{ 2, { { 0, 0 }, { 0, 2 } } },
	{ 2, { { 1, 0 }, { 0, 0 } } },
	{ 3, { { 0, 2 }, { 0, 1 }, { 0, 0 } } },
	{ 3, { { 0, 0 }, { 1, 1 }, { 0, 1 } } },
	{ 1, { { 1, 2 } } },
};

static const struct ibh_mapping mappings[] = {
	{ "first", "ib0" },
	{ "second", "0000:5e:00.0" },
};

unsigned int layout_count(unsigned int layout)
{
	return layouts[layout].count;
}

/* Of locally administered MACs, with a zero in front. */
uint64_t scene_guid(unsigned int vif)
{
	return 0x0208bb0000ccdd10ull + vif;
}

uint64_t scene_node(const struct scene *scene, unsigned int vif)
{
	return scene->setting == TWO_GUIDS ? 0x0208bb0000ccde10ull + vif :
					     scene_guid(vif);
}

void scene_name(struct scene *scene, unsigned int vif, unsigned int number)
{
	scene->vifs[vif].port_guid = scene_guid(number);
	if (scene->setting == TWO_GUIDS)
		scene->vifs[vif].node_guid = scene_node(scene, number);
}

static uint64_t others_guid(unsigned int vf)
{
	return 0x0a02c90000000100ull + vf;
}

bool scene_possible(enum setting setting, unsigned int layout,
		    const enum state states[BATCH])
{
	bool partitions = setting == CX3_PKEYS || setting == CX3_WITHOUT;
	unsigned int i;

	for (i = 0; i < layouts[layout].count; i++) {
		enum family family =
			families[setting][layouts[layout].spots[i].pf];

		if (states[i] == NEXT && layouts[layout].count == 1)
			return false;
		if (states[i] == GUEST_LOW && !partitions)
			return false;
		if (family != CX3)
			continue;
		switch (states[i]) {
		case HALF_PORT:
		case LOW:
		case GUEST_MIXED:
			if (!partitions)
				return false;
			break;
		case MIXED_NODE:
		case UNKNOWN:
		case UNKNOWN_RIGHT:
		case STALE: /* mlx4's own driver is left alone */
		case GUEST_FRESH:
		case GUEST_UNKNOWN:
		case SILENT:
			return false;
		default:
			break;
		}
	}
	return true;
}

bool scene_blind(const struct scene *scene)
{
	unsigned int i;

	for (i = 0; i < scene->count; i++)
		switch (scene->states[i]) {
		case UNKNOWN:
		case UNKNOWN_RIGHT:
		case GUEST_UNKNOWN:
		case SILENT:
			return true;
		default:
			break;
		}
	return scene->setting == OLD_KERNEL ||
	       scene->stray == STRAY_UNKNOWN || scene->stray == STRAY_SILENT;
}

static struct ibh_pci pci_of(struct spot spot)
{
	struct ibh_pci pci = { 0 };

	ibh_parse_pci(machine_address(spot.pf, spot.vf), ADDRESS - 1, &pci);
	return pci;
}

/* ---- states ------------------------------------------------------------ */

static void put(struct machine *machine, struct spot spot, uint64_t node,
		uint64_t port, enum policy policy, bool known)
{
	struct pf *pf = &machine->pfs[spot.pf];
	struct vport *vport = &pf->vports[spot.vf + 1];
	struct memory *memory = &pf->memories[spot.vf];
	unsigned int n, entry = machine_entry(spot.pf, spot.vf);

	if (pf->family != CX3) {
		*vport = (struct vport){ node, port, (uint8_t)policy };
		memory->node_valid = memory->port_valid = known;
		return;
	}
	for (n = 0; n < pf->ports; n++) {
		struct alias *alias = &pf->aliases[n];

		alias->admin[entry] = port;
		alias->agreed[entry] = port == ONES ? 0 : port;
		alias->pkeys[spot.vf][0] =
			port && port != ONES ? TENANT_AT : 0;
		alias->pkeys[spot.vf][1] =
			port && port != ONES ? DEFAULT_AT : NONE;
	}
}

/* mlx4: a VF that has its GUID, and another P_Key or none. */
static void move(struct machine *machine, struct spot spot, uint8_t place)
{
	struct pf *pf = &machine->pfs[spot.pf];
	unsigned int n;

	for (n = 0; pf->family == CX3 && n < pf->ports; n++)
		pf->aliases[n].pkeys[spot.vf][0] = place;
}

static void drive(struct machine *machine, struct spot spot,
		  enum driver driver, bool open, uint64_t identity)
{
	machine->pfs[spot.pf].vfs[spot.vf] = (struct vf){
		.driver = (uint8_t)driver, .open = open, .identity = identity,
	};
}

/* A VF as a state says, with the GUIDs of a VIF, of the next one, and of
 * somebody else. */
static void set(const struct scene *scene, struct machine *machine,
		struct spot spot, enum state state, unsigned int vif,
		uint64_t others)
{
	struct pf *pf = &machine->pfs[spot.pf];
	uint64_t node = scene_node(scene, vif), guid = scene_guid(vif);
	unsigned int next = (vif + 1) % scene->count;

	switch (state) {
	case FRESH:
		put(machine, spot, 0, 0, DOWN, false);
		drive(machine, spot, OWN, false, 0);
		break;
	case IDLE:
		put(machine, spot, ONES, ONES, DOWN, true);
		break;
	case RIGHT:
		put(machine, spot, node, guid, FOLLOW, true);
		drive(machine, spot, OWN, false, node);
		break;
	case HALF_NODE:
		if (pf->family == CX3) {
			put(machine, spot, node, guid, DOWN, true);
			pf->aliases[0].agreed[machine_entry(spot.pf,
							    spot.vf)] = 0;
		} else {
			put(machine, spot, node, ONES, DOWN, true);
		}
		break;
	case HALF_PORT:
		put(machine, spot, ONES, guid, UP, true);
		move(machine, spot, 0);
		break;
	case LOW:
		put(machine, spot, node, guid, DOWN, true);
		move(machine, spot, NONE);
		drive(machine, spot, VFIO, false, 0);
		break;
	case MIXED_NODE:
		put(machine, spot, others, guid, FOLLOW, true);
		drive(machine, spot, OWN, false, others);
		break;
	case OTHERS:
		put(machine, spot, others, others, UP, true);
		drive(machine, spot, VFIO, false, 0);
		break;
	case NEXT:
		put(machine, spot, scene_node(scene, next), scene_guid(next),
		    FOLLOW, true);
		drive(machine, spot, OWN, false, scene_node(scene, next));
		break;
	case UNKNOWN:
		put(machine, spot, others, others, FOLLOW, false);
		drive(machine, spot, OWN, false, others);
		break;
	case UNKNOWN_RIGHT:
		put(machine, spot, node, guid, FOLLOW, false);
		break;
	case STALE:
		put(machine, spot, ONES, ONES, DOWN, true);
		drive(machine, spot, OWN, false, node);
		break;
	case GUEST_RIGHT:
		put(machine, spot, node, guid, FOLLOW, true);
		drive(machine, spot, VFIO, true, 0);
		break;
	case GUEST_OTHERS:
		put(machine, spot, others, others, FOLLOW, true);
		drive(machine, spot, VARIANT, true, 0);
		break;
	case GUEST_MIXED:
		put(machine, spot, others, guid, FOLLOW, true);
		move(machine, spot, 0);
		drive(machine, spot, VFIO, true, 0);
		break;
	case GUEST_LOW:
		put(machine, spot, node, guid, FOLLOW, true);
		move(machine, spot, NONE);
		drive(machine, spot, VFIO, true, 0);
		break;
	case GUEST_IDLE:
		put(machine, spot, ONES, ONES, DOWN, true);
		drive(machine, spot, VFIO, true, 0);
		break;
	case GUEST_FRESH:
		put(machine, spot, 0, 0, DOWN, false);
		drive(machine, spot, VFIO, true, 0);
		break;
	case GUEST_UNKNOWN:
		put(machine, spot, others, others, FOLLOW, false);
		drive(machine, spot, VFIO, true, 0);
		break;
	case SILENT:
		put(machine, spot, others, others, FOLLOW, true);
		pf->vfs[spot.vf].silent = true;
		break;
	case ABSENT:
	case STATES:
		break;
	}
}

static void set_stray(struct scene *scene)
{
	struct machine *machine = &scene->start;
	unsigned int first = scene->spots[0].pf;
	struct spot here = { (uint8_t)first, SPARE };
	struct spot there = { (uint8_t)!first, SPARE };
	set(scene, machine, here, GUEST_OTHERS, 0, others_guid(8));
	set(scene, machine, there, GUEST_OTHERS, 0, others_guid(9));
	switch (scene->stray) {
	case STRAY_HERE:
		set(scene, machine, here, RIGHT, 0, 0);
		break;
	case STRAY_THERE:
		set(scene, machine, there, LOW, 0, 0);
		break;
	case STRAY_GUEST:
		set(scene, machine, there, GUEST_RIGHT, 0, 0);
		break;
	case STRAY_HALF:
		drive(machine, there, UNBOUND, false, 0);
		set(scene, machine, there, HALF_NODE, 0, 0);
		break;
	case STRAY_UNKNOWN:
		set(scene, machine, there, UNKNOWN, 0, others_guid(9));
		break;
	case STRAY_SILENT:
		drive(machine, there, UNBOUND, false, 0);
		set(scene, machine, there, SILENT, 0, scene_guid(0));
		break;
	case NO_STRAY:
	case STRAYS:
		break;
	}
}

/* ---- scenes ------------------------------------------------------------ */

/* The second port's P_Key comes late, unless a VF of the batch has it. */
static void set_pkeys(struct scene *scene)
{
	struct pf *pfs = scene->start.pfs;
	unsigned int i;

	pfs[1].pkey_since = scene->start.now + LATE;
	for (i = 0; i < scene->count; i++)
		if (scene->spots[i].pf == 1 &&
		    pfs[1].aliases[0].pkeys[scene->spots[i].vf][0] == TENANT_AT)
			pfs[1].pkey_since = 0;
	if (scene->setting == CX3_WITHOUT)
		pfs[0].pkey_since = pfs[1].pkey_since = UINT64_MAX;
}

void scene_make(struct scene *scene)
{
	unsigned int i;

	scene->count = layouts[scene->layout].count;
	machine_boot(&scene->start, families[scene->setting]);
	scene->start.no_guids = scene->setting == OLD_KERNEL;
	scene->start.too_long = scene->setting == LONG_KERNEL;
	scene->start.pfs[0].netdev = scene->setting != NO_NETDEV;
	scene->options = (struct ibh_options){ 0 };
	if (scene->setting == TWO_FABRICS) {
		scene->options.mappings = mappings;
		scene->options.mapping_count = 2;
	}
	for (i = 0; i < scene->count; i++) {
		struct spot spot = layouts[scene->layout].spots[i];
		struct ibh_vif *vif = &scene->vifs[i];

		if (scene->states[i] == ABSENT)
			spot.vf = VFS - 1;
		scene->spots[i] = spot;
		set(scene, &scene->start, spot, scene->states[i], i,
		    others_guid(i));
		*vif = (struct ibh_vif){
			.pci = pci_of(spot),
			.has_pci = scene->act != UNPLUG_ANYWHERE,
			.network = scene->setting == TWO_FABRICS ?
					   mappings[spot.pf].network :
					   NULL,
			/* To mlx5 it is nothing. */
			.pkey = scene_partitions(scene) ||
						scene->setting == TWO_OFED ?
					TENANT :
					0,
		};
		scene_name(scene, i, i);
		if (scene->act == UNPLUG_MISLED)
			vif->pci = pci_of((struct spot){ spot.pf, SPARE });
	}
	set_pkeys(scene);
	set_stray(scene);
	scene->how = (struct ibh_how){
		.proceed = act_proceeds(scene->act),
		.dry_run = act_is_dry(scene->act),
		.renew = scene->act == PLUG_ANEW,
		.keep_bound = scene->act == UNPLUG_KEEP,
		.set_policy = scene->act == PLUG_UP,
		.policy = IBH_UP,
		.stop = scripted_stop,
	};
}

int scene_call(const struct scene *scene, struct scripted *system,
	       struct ibh_host *host, const struct ibh_state *states,
	       struct ibh_batch **batch, struct ibh_error **error)
{
	struct ibh_how how = scene->how;
	struct ibh_state low[BATCH];
	unsigned int i;

	how.context = system;
	for (i = 0; i < scene->count; i++)
		low[i] = (struct ibh_state){
			.have = IBH_HAVE_POLICY | IBH_HAVE_PKEYS,
			.policy = IBH_DOWN,
			.pkeys = { "1", "none" },
		};
	if (scene->act == LOWER)
		return ibh_adjust(host, scene->vifs, low, scene->count, batch,
				  error);
	if (scene->act == BACK)
		return ibh_restore(host, scene->vifs, states, scene->count,
				   batch, error);
	if (act_unplugs(scene->act))
		return ibh_unplug(host, scene->vifs, scene->count, &how,
				  batch, error);
	return ibh_plug(host, scene->vifs, scene->count, &how, batch, error);
}
