/* SPDX-License-Identifier: Apache-2.0 */
/* mlx4's files: what mlx4_sysfs.c and mlx4_pkeys.c share. */
#ifndef IBHOSTDEV_MLX4_H
#define IBHOSTDEV_MLX4_H

#include "path.h"

/*
 * <IB device>/iov/: a port's {admin_guids,gids,pkeys}/<i> are in ports/<p>/,
 * a VF's {gid_idx,pkey_idx}/<i> in <name>/ports/<p>/.
 */
struct iov {
	const struct side *side;
	unsigned int index; /* of the VF */
	struct path port, vf;
};

/* ---- mlx4_sysfs.c ---- */

void iov_of_port(struct iov *iov, const struct side *side);
/* … whose port was set. */
void iov_of_vf(struct iov *iov, unsigned int index);
ssize_t iov_read(const struct iov *iov, const char *path, char *value,
		 size_t size);
/* false if it is refused, which the change is told. */
bool iov_put(const struct iov *iov, struct change *change, const char *path,
	     const char *value);

/* ---- mlx4_pkeys.c ---- */

/* In place of a place in the port's table, which is a number. */
extern const char no_place[];

/* The places that the VF's first two entries have: 0, or a negative errno. */
int mlx4_read_places(struct iov *iov, struct ibh_state *state);
bool mlx4_put_place(struct iov *iov, struct change *change, unsigned int entry,
		    const char *place);
/* The place of the default partition in the port's table; if none is found,
 * the VF's entry for it is left as it is. */
bool mlx4_find_default(struct iov *iov, char place[IBH_PKEY]);
/*
 * Puts the P_Keys that are named into the first entries. Those that are not in
 * the port's table are waited for; what is not to be had is refused.
 */
void mlx4_give_pkeys(struct side *side, struct change **changes, size_t count,
		     struct run *run);

#endif
