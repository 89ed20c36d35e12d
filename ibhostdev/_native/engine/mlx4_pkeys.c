// SPDX-License-Identifier: Apache-2.0
/*
 * mlx4: the P_Keys that a VF sees.
 *
 * iov/ports/<p>/pkeys/<i> is the table of the PF's port, which the subnet
 * manager writes, and each read of it asks firmware; pkey_idx/<i> of a VF says
 * at which place of that table the VF's own entry i is, or "none", and is the
 * driver's memory (drivers/infiniband/hw/mlx4/sysfs.c, show_phys_port_pkey(),
 * show_port_pkey() and store_port_pkey(), which tells the VF, too).
 */
#include "batch.h"
#include "mlx4.h"

#define MAX_PKEYS 128 /* include/linux/mlx4/device.h, MLX4_MAX_PORT_PKEYS */
/* The highest of 16 bits tells full from limited members (InfiniBand
 * Architecture Specification, volume 1, 10.9.1.1). */
#define NUMBER 0x7fff
#define DEFAULT_PKEY 0x7fff
/* The table is written in blocks of so many (InfiniBand Architecture
 * Specification, volume 1, 14.2.5.7), and what is new comes behind the rest:
 * so opensm does it (osm_pkey_mgr.c, pkey_mgr_update_port()). */
#define BLOCK 32
#define FIRST_PAUSE_MS 5
#define LONGEST_PAUSE_MS 500

const char no_place[] = "none";

/* ---- a VF's entries ---------------------------------------------------- */

int mlx4_read_places(struct iov *iov, struct ibh_state *state)
{
	unsigned int i;
	ssize_t n;

	for (i = 0; i < 2; i++) {
		n = iov_read(iov, path_entry(&iov->vf, "pkey_idx/", i),
			     state->pkeys[i], sizeof(state->pkeys[i]));
		if (n < 0)
			return (int)n;
	}
	state->have |= IBH_HAVE_PKEYS;
	return 0;
}

bool mlx4_put_place(struct iov *iov, struct change *change, unsigned int entry,
		    const char *place)
{
	return iov_put(iov, change, path_entry(&iov->vf, "pkey_idx/", entry),
		       place);
}

/* ---- the port's table -------------------------------------------------- */

/* As much of it as somebody has looked for; of one that is looked at in brief
 * up to where a block's worth of places is empty. */
struct pkeys {
	bool brief;
	unsigned int count, empty; /* `empty` are the last of `count` */
	bool whole;
	uint16_t pkeys[MAX_PKEYS];
	int err; /* of the first that could not be read, and its place */
	unsigned int unread;
};

/* An entry; 0 if it is empty or none, or a negative errno. */
static int read_pkey(struct iov *iov, unsigned int place)
{
	char value[SHORT_VALUE], *end;
	unsigned long pkey;
	ssize_t n = iov_read(iov, path_entry(&iov->port, "pkeys/", place),
			     value, sizeof(value));

	if (n < 0)
		return (int)n;
	pkey = strtoul(value, &end, 16);
	return *end || pkey > UINT16_MAX ? 0 : (int)pkey;
}

/* The first place of what is `pkey` in the bits of `mask`, or -1. */
static int place_of(struct iov *iov, struct pkeys *pkeys, unsigned int pkey,
		    unsigned int mask)
{
	unsigned int i;

	for (i = 0;; i++) {
		if (i == pkeys->count) {
			int read = -ENOENT;

			if (i < MAX_PKEYS && !pkeys->whole &&
			    !(pkeys->brief && pkeys->empty == BLOCK))
				read = read_pkey(iov, i);
			if (read == -ENOENT) {
				pkeys->whole = true;
				return -1;
			}
			pkeys->empty = read ? 0 : pkeys->empty + 1;
			if (read < 0 && !pkeys->err) {
				pkeys->err = read;
				pkeys->unread = i;
			}
			pkeys->pkeys[i] = (uint16_t)(read < 0 ? 0 : read);
			pkeys->count++;
		}
		if ((pkeys->pkeys[i] & mask) == (pkey & mask))
			return (int)i;
	}
}

bool mlx4_find_default(struct iov *iov, char place[IBH_PKEY])
{
	struct pkeys pkeys = { 0 };
	int at = place_of(iov, &pkeys, DEFAULT_PKEY, NUMBER);

	if (at >= 0)
		format(place, IBH_PKEY, "%d", at);
	return at >= 0;
}

void mlx4_see_pkey(const struct side *side, struct ibh_state *state)
{
	struct iov iov;
	char *end;
	int pkey = 0;

	if (!(state->have & IBH_HAVE_PKEYS))
		return;
	if (strcmp(state->pkeys[0], no_place)) {
		unsigned long place = strtoul(state->pkeys[0], &end, 10);

		if (*end || place >= MAX_PKEYS)
			return;
		iov_of_port(&iov, side);
		pkey = read_pkey(&iov, (unsigned int)place);
	}
	if (pkey < 0)
		return;
	state->pkey = (uint16_t)pkey;
	state->have |= IBH_HAVE_PKEY;
}

/* ---- giving ------------------------------------------------------------ */

/* `put` has the place in the end. */
static bool is_due(const struct change *change)
{
	return change->put.have & IBH_HAVE_PKEY && !change->put.pkeys[0][0] &&
	       !change->refusal;
}

/* Those whose P_Keys are in the table; the number of the others. */
static size_t give(struct iov *iov, struct pkeys *pkeys,
		   struct change **changes, size_t count)
{
	size_t i, left = 0;

	for (i = 0; i < count; i++) {
		struct change *change = changes[i];
		int at;

		if (!is_due(change))
			continue;
		at = place_of(iov, pkeys, change->put.pkey, UINT16_MAX);
		if (at < 0) {
			left++;
			continue;
		}
		format(change->put.pkeys[0], IBH_PKEY, "%d", at);
		iov_of_vf(iov, change->vf.index);
		mlx4_put_place(iov, change, 0, change->put.pkeys[0]);
	}
	return left;
}

/* A full member is not to become a limited one, nor the other way round. */
static void refuse(struct iov *iov, struct pkeys *pkeys,
		   struct change *change, bool ended)
{
	unsigned int pkey = change->put.pkey;
	int other = place_of(iov, pkeys, pkey, NUMBER);
	char text[16], seconds[24], instead[64] = "";

	if (ended) {
		change->refusal = fail(T_REFUSED, change->address,
				       path_file(&iov->port, "pkeys"), EINTR,
				       NULL, NULL, NULL);
		return;
	}
	if (pkeys->err) { /* It may be there. */
		change->refusal = fail(T_UNREADABLE, change->address,
				       path_entry(&iov->port, "pkeys/",
						  pkeys->unread),
				       pkeys->err, NULL, NULL, NULL);
		return;
	}
	format(text, sizeof(text), "0x%04x", pkey);
	format(seconds, sizeof(seconds), "%g",
	       iov->side->host->patience_ms / 1000.0);
	if (other >= 0)
		format(instead, sizeof(instead), ", only 0x%04x, a %s member's",
		       pkeys->pkeys[other],
		       pkeys->pkeys[other] & ~NUMBER ? "full" : "limited");
	change->refusal = fail(T_NO_PKEY, change->address,
			       path_file(&iov->port, "pkeys"), 0, text,
			       seconds, instead);
}

static bool any_is(bool (*what)(const struct change *change),
		   struct change **changes, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		if (what(changes[i]))
			return true;
	return false;
}

static bool is_refused(const struct change *change)
{
	return change->refusal != NULL;
}

/* All is put back anyway. */
static bool is_undone(struct run *run, struct change **changes, size_t count)
{
	return !run->how->proceed && any_is(is_refused, changes, count);
}

/* Each place costs firmware a command: the whole table is looked at first and
 * last, and in between as much of it as is likely to change. */
void mlx4_give_pkeys(struct side *side, struct change **changes, size_t count,
		     struct run *run)
{
	struct ibh_host *host = side->host;
	unsigned int pause = FIRST_PAUSE_MS;
	uint64_t deadline;
	bool brief = false, over = false, ended;
	struct pkeys pkeys;
	struct iov iov;
	size_t i;

	if (!any_is(is_due, changes, count))
		return;
	deadline = host->io->now(host->context) + host->patience_ms;
	iov_of_port(&iov, side);
	for (;;) {
		pkeys = (struct pkeys){ .brief = brief };
		if (!give(&iov, &pkeys, changes, count) ||
		    is_undone(run, changes, count))
			return;
		ended = stopped(run);
		if (ended || over)
			break;
		over = host->io->now(host->context) > deadline;
		brief = !over;
		if (over)
			continue;
		host->io->sleep(host->context, pause);
		pause = 2 * pause < LONGEST_PAUSE_MS ? 2 * pause :
						       LONGEST_PAUSE_MS;
	}
	for (i = 0; i < count; i++)
		if (is_due(changes[i]))
			refuse(&iov, &pkeys, changes[i], ended);
}
