// SPDX-License-Identifier: Apache-2.0
/*
 * The third step: what has to be written, decided before anything is. This
 * file has what all plans need.
 */
#include "batch.h"

#include <stdarg.h>
#include <stdio.h>

static struct ibh_error *no_memory(void)
{
	return fail(T_MEMORY, NULL, NULL, 0, NULL, NULL, NULL);
}

struct ibh_error *warn(struct run *run, const char *format, ...)
{
	char **grown, *text;
	va_list args;
	int len;

	grown = realloc(run->warnings,
			(run->warning_count + 1) * sizeof(*grown));
	if (!grown)
		return no_memory();
	run->warnings = grown;
	va_start(args, format);
	len = vasprintf(&text, format, args);
	va_end(args);
	if (len < 0)
		return no_memory();
	printable(text);
	grown[run->warning_count++] = text;
	return NULL;
}

/* ---- changes ----------------------------------------------------------- */

struct change *change_new(struct side *side, const struct ibh_vf *vf,
			  const struct ibh_vif *vif)
{
	struct change *change = calloc(1, sizeof(*change));

	if (!change)
		return NULL;
	change->side = side;
	change->vf = *vf;
	ibh_format_pci(vf->pci, change->address);
	change->vif = vif;
	change->before = side->states[vf->index];
	change->verified = true;
	return change;
}

struct change *change_idle(struct side *side, const struct ibh_vf *vf,
			   const struct ibh_vif *vif)
{
	struct change *change = change_new(side, vf, vif);

	if (!change)
		return NULL;
	change->wanted = side->mechanism->idle(side);
	change->write = difference(&change->before, &change->wanted);
	return change;
}

void change_free(struct change *change)
{
	if (!change)
		return;
	ibh_error_free(change->error);
	ibh_error_free(change->refusal);
	ibh_error_free(change->doubt);
	free(change->moves);
	free(change);
}

struct ibh_error *changes_list(struct changes *changes, struct change *change)
{
	struct change **grown;

	if (changes->count == changes->size) {
		size_t size = changes->size ? 2 * changes->size : 16;

		grown = realloc(changes->changes, size * sizeof(*grown));
		if (!grown)
			return no_memory();
		changes->changes = grown;
		changes->size = size;
	}
	changes->changes[changes->count++] = change;
	return NULL;
}

struct ibh_error *changes_add(struct changes *changes, struct change *change)
{
	struct ibh_error *error = changes_list(changes, change);

	if (error)
		change_free(change);
	return error;
}

struct change *changes_find(const struct changes *changes,
			    const struct side *side, unsigned int index)
{
	size_t i;

	for (i = 0; i < changes->count; i++)
		if (changes->changes[i]->side == side &&
		    changes->changes[i]->vf.index == index)
			return changes->changes[i];
	return NULL;
}

struct change *changes_sharing(const struct changes *changes,
			       const struct side *side, unsigned int index)
{
	const struct ibh_state *state = &side->states[index];

	/* With one GUID it is held for one VIF alone. */
	if (state->node == state->port)
		return NULL;
	return changes_find(changes, side, index);
}

bool change_needed(const struct change *change)
{
	return change->write.have != 0;
}

uint64_t guid_held(const struct ibh_vif *vif, const struct holder *holder)
{
	const struct ibh_state *state = &holder->side->states[holder->vf.index];
	uint64_t node = vif_node_guid(vif);

	if (state->have & IBH_HAVE_PORT &&
	    (state->port == vif->port_guid || state->port == node))
		return state->port;
	return state->have & IBH_HAVE_NODE && state->node == node ?
		       node :
		       vif->port_guid;
}

struct ibh_error *come_after(struct change *change, struct change *moved)
{
	struct change **grown = realloc(
		change->moves, (change->move_count + 1) * sizeof(*grown));

	if (!grown)
		return no_memory();
	change->moves = grown;
	grown[change->move_count++] = moved;
	return NULL;
}

struct ibh_error *move_first(struct run *run, const struct ibh_vif *vif,
			     struct holder *holder, struct change *change)
{
	struct change *moved = changes_sharing(&run->first, holder->side,
					       holder->vf.index);
	struct ibh_error *error;

	if (!moved) {
		moved = change_idle(holder->side, &holder->vf, vif);
		if (!moved)
			return no_memory();
		error = changes_add(&run->first, moved);
		if (error)
			return error;
	}
	return come_after(change, moved);
}

/* ---- states ------------------------------------------------------------ */

struct ibh_state difference(const struct ibh_state *before,
			    const struct ibh_state *wanted)
{
	struct ibh_state write = *wanted;

	if (before->have & IBH_HAVE_NODE && before->node == wanted->node)
		write.have &= (uint8_t)~IBH_HAVE_NODE;
	/* What was only asked for is asked for again. */
	if (before->have & IBH_HAVE_PORT && before->port == wanted->port &&
	    !before->pending)
		write.have &= (uint8_t)~IBH_HAVE_PORT;
	if (before->have & IBH_HAVE_POLICY && before->policy == wanted->policy)
		write.have &= (uint8_t)~IBH_HAVE_POLICY;
	if (before->have & IBH_HAVE_PKEY && before->pkey == wanted->pkey)
		write.have &= (uint8_t)~IBH_HAVE_PKEY;
	/* mlx4 takes the VF out of it while the GUID changes. */
	if (write.have & IBH_HAVE_PORT)
		write.have |= wanted->have & IBH_HAVE_PKEY;
	write.have &= (uint8_t)~IBH_HAVE_PKEYS;
	return write;
}

/* The kernel leaves out whom its driver cannot ask about, and who that
 * belongs to must not be guessed. */
struct ibh_error *state_of(const struct side *side, const struct ibh_vf *vf,
			   struct ibh_state *state)
{
	char address[IBH_PCI_TEXT + 1], by[48];
	struct ibh_vf now;

	if (side->told[vf->index] == TOLD) {
		*state = side->states[vf->index];
		return NULL;
	}
	ibh_format_pci(vf->pci, address);
	if (side->told[vf->index] == NO_PORT) {
		format(by, sizeof(by), "%u", side->port);
		return fail(T_NO_SUCH_PORT, address, "physical_network", 0, by,
			    NULL, NULL);
	}
	if (!vf_read(side->host, side->pf, vf->index, &now))
		return fail(T_VANISHED, address, NULL, 0, NULL, NULL, NULL);
	format(by, sizeof(by), "by %s", side->mechanism->name);
	return fail(T_UNTOLD, address, by, 0, NULL, NULL, NULL);
}

bool is_untold(const struct ibh_state *state)
{
	if (state->have & IBH_HAVE_PORT)
		return false;
	return !state->have || (state->have & IBH_HAVE_POLICY &&
				state->policy != IBH_DOWN);
}

void answer_error(struct run *run, size_t vif, const struct ibh_state *wanted,
		  struct ibh_error *error)
{
	struct ibh_result *result = &run->answers[vif].result;

	result->pci = run->vifs[vif].pci;
	result->has_pci = run->vifs[vif].has_pci;
	result->wanted = *wanted;
	result->mechanism = IBH_NO_CHOICE;
	result->error = error;
}

/* ---- who holds the GUIDs ----------------------------------------------- */

bool apart(const struct run *run, const struct ibh_vif *vif,
	   const struct side *side)
{
	bool known = run->job == UNPLUG ?
			     network_mapped(run->host, vif->network) :
			     network_apart(run->host, vif->network);

	return known &&
	       network_port(run->host, vif->network, side->pf) != side->port;
}

/* Whether a VIF's address leads there: then the VF has been looked up. */
static bool is_place(const struct place *place, const struct side *side,
		     unsigned int index)
{
	return place->side == side && place->vf.index == index;
}

static struct ibh_error *add_holder(struct run *run, size_t at,
				    struct side *side, unsigned int index)
{
	struct holder **end = &run->holders[at], *holder;

	/* Where both GUID and address say so, it is what was plugged. */
	if (!is_place(&run->places[at], side, index) &&
	    apart(run, &run->vifs[at], side))
		return NULL;
	/* To plug, the VF that is to have it is none that has to be moved. */
	if (run->job != UNPLUG && is_place(&run->places[at], side, index))
		return NULL;
	holder = calloc(1, sizeof(*holder));
	if (!holder)
		return no_memory();
	holder->side = side;
	if (is_place(&run->places[at], side, index)) {
		holder->vf = run->places[at].vf;
		holder->there = true;
	} else {
		holder->vf.index = index;
		holder->vf.pci = ibh_vf_pci(side->pf, index);
		holder->there = vf_read(run->host, side->pf, index,
					&holder->vf);
	}
	while (*end)
		end = &(*end)->next;
	*end = holder;
	return NULL;
}

static struct ibh_error *find_on(struct run *run, struct side *side)
{
	struct ibh_error *error = NULL;
	unsigned int i;

	for (i = 0; i < side->pf->numvfs && !error; i++) {
		const struct ibh_state *state = &side->states[i];
		ssize_t node = -1, port = -1;

		if (side->told[i] == NO_PORT)
			continue;
		if (side->told[i] == UNTOLD || is_untold(state)) {
			run->blind = true;
			if (side->told[i] == UNTOLD)
				continue;
		}
		if (state->have & IBH_HAVE_PORT && !guid_is_idle(state->port))
			port = table_find(run->guids, state->port);
		if (state->have & IBH_HAVE_NODE && !guid_is_idle(state->node))
			node = table_find(run->guids, state->node);
		/* What it is put back to, if need be. */
		if ((port >= 0 || node >= 0) && side->mechanism->complete &&
		    !(side->mine && side->mine[i]))
			side->mechanism->complete(side, i);
		if (port >= 0)
			error = add_holder(run, (size_t)port, side, i);
		if (!error && node >= 0 && node != port)
			error = add_holder(run, (size_t)node, side, i);
	}
	return error;
}

static struct ibh_error *find_holders(struct run *run)
{
	struct ibh_error *error = NULL;
	size_t i;

	run->holders = calloc(run->count + 1, sizeof(struct holder *));
	if (!run->holders)
		return no_memory();
	for (i = 0; i < run->side_count && !error; i++)
		if (!run->sides[i].trouble)
			error = find_on(run, &run->sides[i]);
	return error;
}

/* ---- containers -------------------------------------------------------- */

/* Whether it looks as if the network device of a VF that the vendor's driver
 * has were in another namespace. */
static bool is_lent(const struct change *change)
{
	struct side *side = change->side;

	if (strcmp(change->vf.driver, side->pf->driver))
		return false;
	if (side->netdevs == NOT_ASKED)
		side->netdevs = vfs_have_netdevs(side->host, side->pf) ?
					HAS_SOME :
					HAS_NONE;
	return vf_is_lent(side->host, side->pf, &change->vf,
			  side->netdevs == HAS_SOME);
}

/* Too weak a sign to refuse the boot of a guest for. */
static struct ibh_error *warn_of_lent(struct run *run,
				      const struct changes *changes)
{
	struct ibh_error *error = NULL;
	size_t i;

	for (i = 0; i < changes->count && !error; i++) {
		const struct change *change = changes->changes[i];

		if (change_needed(change) && is_lent(change))
			error = warn(run,
				     "%s may be a container's, and is changed "
				     "all the same: it has no network device "
				     "here, while other VFs of its PF have",
				     change->address);
	}
	return error;
}

static struct ibh_error *plan_one(struct run *run, size_t at, want_t *want)
{
	struct place *place = &run->places[at];
	struct ibh_error *error = place->error;
	struct change *change = NULL;

	place->error = NULL;
	if (!error) {
		change = change_new(place->side, &place->vf, &run->vifs[at]);
		error = change ? want(change, &run->vifs[at],
				      &run->states[at]) :
				 no_memory();
	}
	if (error) {
		change_free(change);
		answer_error(run, at, &run->states[at], error);
		return NULL;
	}
	error = changes_add(&run->then, change);
	if (!error)
		run->answers[at].change = change;
	return error;
}

struct ibh_error *plan_each(struct run *run, want_t *want)
{
	struct ibh_error *error = NULL;
	size_t i;

	for (i = 0; i < run->count && !error; i++)
		error = plan_one(run, i, want);
	return error;
}

static struct ibh_error *plan_job(struct run *run)
{
	switch (run->job) {
	case PLUG:
		return plan_plug(run);
	case UNPLUG:
		return plan_unplug(run);
	case ADJUST:
		return plan_adjust(run);
	default:
		return plan_restore(run);
	}
}

struct ibh_error *plan(struct run *run)
{
	struct ibh_error *error;

	run->answers = calloc(run->count + 1, sizeof(*run->answers));
	run->stale = calloc(run->count + 1, sizeof(*run->stale));
	if (!run->answers || !run->stale)
		return no_memory();
	run->doubt_count = run->warning_count;
	/* A restore takes nothing from any but its own. */
	error = run->job == RESTORE ? NULL : find_holders(run);
	if (!error)
		error = plan_job(run);
	if (!error)
		error = warn_of_lent(run, &run->first);
	if (!error)
		error = warn_of_lent(run, &run->then);
	return error;
}
