/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is enumerated: hosts, batches, and the states that the VFs are in
 * before.
 */
#ifndef CASES_H
#define CASES_H

#include "scripted.h"

#define BATCH 3u

/* The host. */
enum setting {
	TWO_STOCK, /* a stock kernel's mlx5, by netlink */
	TWO_OFED, /* netlink too, and MLNX_OFED's files beside it */
	NO_NETDEV, /* MLNX_OFED's files alone, and a stock one */
	TWO_CX3, /* mlx4 */
	MIXED, /* mlx4, and MLNX_OFED */
	OLD_KERNEL, /* netlink does not show GUIDs */
	LONG_KERNEL, /* netlink shows VFs only in a dump */
	TWO_FABRICS, /* each PF is behind a network of its own */
	TWO_GUIDS, /* each VIF has a node GUID of its own */
	CX3_PKEYS, /* mlx4, with VIFs that name a P_Key */
	CX3_WITHOUT, /* … that the subnet manager never gives */
	SETTINGS,
};

/* A VF of the batch, before. */
enum state {
	FRESH, /* all zero: not known by netlink */
	IDLE, /* all ones, down */
	RIGHT, /* as the VIF has it, on the host's own driver */
	HALF_NODE, /* the node GUID alone; mlx4: not agreed to */
	HALF_PORT, /* the port GUID alone; mlx4: in another partition */
	LOW, /* right but down; mlx4: in no partition */
	MIXED_NODE, /* right but for the node GUID, which is another's */
	OTHERS, /* another tenant's, for all that is known in no guest */
	NEXT, /* with the GUID of the batch's next VIF, the last the first's */
	UNKNOWN, /* another's, but not known by netlink */
	UNKNOWN_RIGHT,
	STALE, /* idle, but its own driver shows the VIF's GUID */
	GUEST_RIGHT, /* a guest has it … */
	GUEST_OTHERS,
	GUEST_MIXED, /* mlx4: with its GUID, in another partition */
	GUEST_LOW, /* mlx4: in none */
	GUEST_IDLE,
	GUEST_FRESH, /* as a PF's driver leaves it that was bound anew */
	GUEST_UNKNOWN,
	SILENT, /* firmware answers no question about it */
	ABSENT, /* it is not enabled */
	STATES,
};

/* The VF beside those of the batch. Where nothing else is said, another
 * tenant's guest has it. */
enum stray {
	NO_STRAY,
	STRAY_HERE, /* on the first VIF's PF, with its GUID */
	STRAY_THERE, /* on the other PF */
	STRAY_GUEST, /* … and a guest has it */
	STRAY_HALF, /* … of which it has the node GUID alone */
	STRAY_UNKNOWN, /* its GUID is not known, and its link is up */
	STRAY_SILENT, /* with the GUID, but not to be asked */
	STRAYS,
};

enum act {
	PLUG_ALL,
	PLUG_SOME, /* `proceed` */
	PLUG_UP, /* with a policy */
	PLUG_DRY,
	PLUG_ANEW, /* `renew`, and `proceed` */
	UNPLUG_ALL,
	UNPLUG_SOME,
	UNPLUG_ANYWHERE, /* without a hint */
	UNPLUG_MISLED, /* with another's address as the hint */
	UNPLUG_KEEP, /* without binding anew */
	UNPLUG_DRY,
	BACK, /* restore, after a plug */
	LOWER, /* adjust: links down, and mlx4's first P_Key at its place 1 */
	ACTS,
};

/* The VFs of a batch, by PF and index. */
struct spot {
	uint8_t pf, vf;
};

#define LAYOUTS 6u

struct scene {
	enum setting setting;
	unsigned int layout, count;
	enum state states[BATCH];
	enum stray stray;
	enum act act;
	/* made of it */
	struct spot spots[BATCH];
	struct ibh_vif vifs[BATCH];
	struct ibh_how how;
	struct ibh_options options;
	struct machine start;
};

extern const char *const setting_names[SETTINGS], *const state_names[STATES],
	*const stray_names[STRAYS], *const act_names[ACTS];

/* How many VFs a layout has. */
unsigned int layout_count(unsigned int layout);
/* Whether a setting has such a state: mlx4 does not have all. */
bool scene_possible(enum setting setting, unsigned int layout,
		    const enum state states[BATCH]);
/* Fills what is made of it. */
void scene_make(struct scene *scene);
uint64_t scene_guid(unsigned int vif);
/* … which is the port's, and the node's that goes with it. */
uint64_t scene_node(const struct scene *scene, unsigned int vif);
/* A VIF gets the GUIDs of this number. */
void scene_name(struct scene *scene, unsigned int vif, unsigned int number);
/* Whether VIFs name a P_Key that is the host's to give. */
static inline bool scene_partitions(const struct scene *scene)
{
	return scene->setting == CX3_PKEYS || scene->setting == CX3_WITHOUT;
}

/* Whether of some VF nothing can tell whose it is. */
bool scene_blind(const struct scene *scene);
static inline bool act_unplugs(enum act act)
{
	return act >= UNPLUG_ALL && act <= UNPLUG_DRY;
}

static inline bool act_plugs(enum act act)
{
	return act <= PLUG_ANEW;
}

static inline bool act_is_dry(enum act act)
{
	return act == PLUG_DRY || act == UNPLUG_DRY;
}

static inline bool act_proceeds(enum act act)
{
	return act == PLUG_SOME || act == PLUG_ANEW || act == UNPLUG_SOME ||
	       act == BACK || act == LOWER;
}

/* Makes the call of a scene (for BACK, `states` is what is put back). */
int scene_call(const struct scene *scene, struct scripted *system,
	       struct ibh_host *host, const struct ibh_state *states,
	       struct ibh_batch **batch, struct ibh_error **error);

#endif
