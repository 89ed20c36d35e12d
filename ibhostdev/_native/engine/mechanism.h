/* SPDX-License-Identifier: Apache-2.0 */
/* How the identities of a PF's VFs are read and written. */
#ifndef IBHOSTDEV_ENGINE_MECHANISM_H
#define IBHOSTDEV_ENGINE_MECHANISM_H

#include "devices.h"

/* ---- mechanisms -------------------------------------------------------- */

/* What a driver says of a VF: nothing, if it could not be asked; its state;
 * or that it has no such port (mlx4). */
enum telling { UNTOLD, TOLD, NO_PORT };

/* A PF on one of its ports, what serves it there, and its VFs' states as
 * found before anything was written. */
struct side {
	struct ibh_host *host;
	const struct ibh_pf *pf;
	unsigned int port;
	const struct ibh_netdev *netdev; /* of the port; may be NULL */
	const struct mechanism *mechanism; /* NULL: none */
	struct ibh_error *obstacle; /* why there is none */
	struct dump *dump; /* of the batch; NULL: one of its own */
	/* VFs of the batch: all is to be known of these, of the others at
	 * least the GUIDs */
	bool *mine; /* [numvfs] */
	bool has_mine;
	struct ibh_state *states; /* [numvfs] */
	uint8_t *told; /* [numvfs]; enum telling */
	bool surveyed;
	enum { NOT_ASKED, HAS_NONE, HAS_SOME } netdevs; /* its VFs have, here */
	struct ibh_error *trouble; /* why not */
	struct ibh_error *detour; /* why another way was taken */
	bool written; /* something was, or was tried to be */
};

/*
 * What is to be written to a VF, and what came of it. `put` is what is being
 * written: first `write`, to undo it something else. `tried` is set before
 * the first write: from then on the VF may have taken a part.
 */
struct change {
	struct side *side;
	struct ibh_vf vf;
	char address[IBH_PCI_TEXT + 1];
	const struct ibh_vif *vif; /* that it is for */
	struct ibh_state before, wanted, write, put, after;
	bool tried, has_after, verified;
	struct ibh_error *error;
	/* of one write() and read_back() */
	uint64_t owner; /* who has it now, as far as that is known */
	struct ibh_error *refusal;
	struct ibh_state seen;
	bool told;
	struct ibh_error *doubt; /* why not, or what is wrong about it */
	/* VFs that must have been made idle before */
	size_t move_count;
	struct change **moves;
};

struct run;

struct mechanism {
	enum ibh_mechanism id;
	const char *name;
	/* Why it cannot serve: true, and the reason. */
	bool (*obstacle)(const struct side *side, char *why, size_t size);
	/* The state of a VF with this identity, as far as it can be given: a
	 * node GUID of its own is refused where it is not in there. */
	struct ibh_error *(*plugged)(const struct side *side,
				     const struct ibh_vif *vif,
				     const struct ibh_how *how,
				     struct ibh_state *wanted);
	/* … and of one that is nobody's. */
	struct ibh_state (*idle)(const struct side *side);
	/* Fills side->states and side->told. */
	struct ibh_error *(*survey)(struct side *side);
	/* What survey() did not ask of a VF that is none of side->mine, but
	 * has to be written; NULL where it asks everything. */
	void (*complete)(struct side *side, unsigned int index);
	/* Writes each change's `put`, and sets `refusal` of those that
	 * failed, which may have taken a part. `run` is NULL, or is asked
	 * between messages whether to stop. */
	void (*write)(struct side *side, struct change **changes,
		      size_t count, struct run *run);
	/* Sets `seen`, and `told` or `doubt`, of each change after write():
	 * with `settle` once it has taken effect. */
	struct ibh_error *(*read_back)(struct side *side,
				       struct change **changes, size_t count,
				       bool settle);
};

extern const struct mechanism mlx5_netlink, mlx5_sysfs, mlx4_sysfs, foreign;
/* By their id. */
extern const struct mechanism *const mechanisms[IBH_MECHANISMS];

/* Fills side->mechanism or side->obstacle. */
void side_choose(struct side *side, const struct ibh_how *how);
/* Gets side->netdev right. */
void side_init(struct side *side, struct ibh_host *host,
	       const struct ibh_pf *pf, unsigned int port);
struct ibh_error *side_survey(struct side *side);
void side_free(struct side *side);

/* What an mlx5 VF is to be, whoever writes it. */
struct ibh_error *mlx5_plugged(const struct side *side,
			       const struct ibh_vif *vif,
			       const struct ibh_how *how,
			       struct ibh_state *wanted);
struct ibh_state mlx5_idle(const struct side *side);
/* mlx4: whether a VF has a port. */
bool mlx4_has_port(struct ibh_host *host, const struct ibh_pf *pf,
		   unsigned int index, unsigned int port);
/* … and the P_Key at the first of a state's places, which asks firmware. */
void mlx4_see_pkey(const struct side *side, struct ibh_state *state);
/* OFED's files, for who reads by them. mlx5_sysfs's own survey() and
 * complete(), */
struct ibh_error *mlx5_files_survey(struct side *side);
void mlx5_files_complete(struct side *side, unsigned int index);
/* the GUIDs that netlink does not know, and with `all` the VFs that it left
 * out, */
void mlx5_files_fill(struct side *side, bool all);
/* and reading back. */
struct ibh_error *mlx5_files_read_back(struct side *side,
				       struct change **changes, size_t count);
/* Whether the kernel shows what was last set by netlink on this side. */
bool mlx5_netlink_shows(const struct side *side);
/* foreign.c: the native mechanism that can show a side's VFs, if any. */
const struct mechanism *foreign_reader(const struct side *side);

static inline bool guid_is_idle(uint64_t guid)
{
	return guid == 0 || guid == IBH_GUID_IDLE;
}

/* The GUID of whom a VF belongs to, 0 if to nobody that is known. */
static inline uint64_t state_owner(const struct ibh_state *state)
{
	if (state->have & IBH_HAVE_PORT && !guid_is_idle(state->port))
		return state->port;
	if (state->have & IBH_HAVE_NODE && !guid_is_idle(state->node))
		return state->node;
	return 0;
}

#endif
