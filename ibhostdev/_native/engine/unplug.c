// SPDX-License-Identifier: Apache-2.0
/*
 * The plan of an unplug. It is keyed by GUID: what holds it becomes idle,
 * wherever it is, and what does not hold it is somebody else's.
 */
#include "batch.h"

static struct ibh_error *no_memory(void)
{
	return fail(T_MEMORY, NULL, NULL, 0, NULL, NULL, NULL);
}

static bool hinted(const struct ibh_vif *vif, const struct holder *holder)
{
	return vif->has_pci && vif->pci.domain == holder->vf.pci.domain &&
	       vif->pci.rid == holder->vf.pci.rid;
}

static void found_result(struct run *run, size_t at,
			 const struct side *side, const struct ibh_vf *vf)
{
	struct ibh_result *result = &run->answers[at].result;

	*result = (struct ibh_result){
		.pci = vf->pci,
		.has_pci = true,
		.wanted = side->mechanism->idle(side),
		.before = side->states[vf->index],
		.after = side->states[vf->index],
		.has_before = true,
		.has_after = true,
		.mechanism = side->mechanism->id,
	};
}

/* That nothing was looked at, since the mechanism that was asked for serves
 * no PF that may have the VIF's VF; NULL. */
static const struct ibh_error *serves_none(const struct run *run,
					   const struct ibh_vif *vif)
{
	const struct ibh_error *why = NULL;
	size_t i;

	for (i = 0; run->how->force && i < run->side_count; i++) {
		if (apart(run, vif, &run->sides[i]))
			continue;
		if (!run->sides[i].obstacle)
			return NULL;
		if (!why)
			why = run->sides[i].obstacle;
	}
	return why;
}

/*
 * Nothing to do is success, where everything could be looked at. But a call
 * that was cut off after the VF had become idle may have left its driver with
 * the old identity.
 */
static struct ibh_error *not_held(struct run *run, size_t at)
{
	const struct ibh_vif *vif = &run->vifs[at];
	struct place *place = &run->places[at];
	struct ibh_result *result = &run->answers[at].result;
	const struct ibh_error *why;
	struct ibh_state state;
	struct ibh_error *error;
	char address[IBH_PCI_TEXT + 1], by[48];
	size_t i;

	if (place->error && place->error->kind == IBH_NO_MECHANISM) {
		/* It may well be there; nobody can tell. */
		error = place->error;
		place->error = NULL;
		return error;
	}
	/* It may be where another batch is at work. */
	for (i = 0; i < run->side_count; i++)
		if (locked_out(run, i) && !apart(run, vif, &run->sides[i]))
			return error_copy(locked_out(run, i));
	if (!place->side && (why = serves_none(run, vif)))
		return error_copy(why);
	if (!place->side || !place->pf || place->side->trouble ||
	    place->side->told[place->vf.index] == NO_PORT) {
		*result = (struct ibh_result){
			.pci = vif->pci,
			.has_pci = vif->has_pci,
			.wanted = { .node = IBH_GUID_IDLE,
				    .port = IBH_GUID_IDLE,
				    .policy = IBH_DOWN,
				    .have = IBH_HAVE_NODE | IBH_HAVE_PORT |
					    IBH_HAVE_POLICY },
			.mechanism = IBH_NO_CHOICE,
			.verified = !run->blind,
		};
		return NULL;
	}
	error = state_of(place->side, &place->vf, &state);
	if (error)
		return error;
	ibh_format_pci(place->vf.pci, address);
	format(by, sizeof(by), "by %s", place->side->mechanism->name);
	if (!state.have && place->vf.in_use)
		return fail(T_GUEST_HAS_UNTOLD, address, NULL, 0, NULL, NULL,
			    NULL);
	if (state.have && is_untold(&state))
		return fail(T_LINK_UP, address, by, 0, NULL, NULL, NULL);
	if (state_owner(&state)) {
		/* Another tenant's, and none of the caller's business. */
		*result = (struct ibh_result){
			.pci = vif->pci,
			.has_pci = true,
			.wanted = place->side->mechanism->idle(place->side),
			.mechanism = place->side->mechanism->id,
			.verified = !run->blind,
		};
		return NULL;
	}
	if (place->pf->family != IBH_MLX4 && place->pf->autoprobe &&
	    !place->vf.driver[0] &&
	    (error = warn(run,
			  "%s has no driver, as an unplug leaves it that was "
			  "killed between unbinding and binding it; if nobody "
			  "wants it so: echo %s > /sys/" DRIVERS "/%s/bind",
			  address, address, place->pf->driver)))
		return error;
	run->stale[run->stale_count++] = (struct stale){
		place->pf, place->vf, vif_node_guid(vif)
	};
	found_result(run, at, place->side, &place->vf);
	result->verified = !run->blind;
	return NULL;
}

/* There can be several holders after a fault; the one that the hint names
 * stands for all of them in the result. */
static struct ibh_error *take_away(struct run *run, size_t at)
{
	const struct ibh_vif *vif = &run->vifs[at];
	struct holder *holder, *chosen = run->holders[at];
	struct change *change;
	struct ibh_error *error;

	for (holder = run->holders[at]; holder; holder = holder->next)
		if (hinted(vif, holder))
			chosen = holder;
	/* It may hold another VIF's GUID, too. */
	change = changes_sharing(&run->then, chosen->side, chosen->vf.index);
	if (!change) {
		change = change_idle(chosen->side, &chosen->vf, vif);
		if (!change)
			return no_memory();
		error = changes_add(&run->then, change);
		if (error)
			return error;
	}
	run->answers[at].change = change;
	for (holder = run->holders[at]; holder; holder = holder->next) {
		error = holder == chosen ?
				NULL :
				move_first(run, vif, holder, change);
		if (error)
			return error;
	}
	return NULL;
}

/* Why the VFs that hold a GUID cannot be made idle; NULL if they can. */
static struct ibh_error *held_fast(struct run *run, size_t at)
{
	char address[IBH_PCI_TEXT + 1], text[IBH_GUID_TEXT + 1];
	struct holder *holder;

	for (holder = run->holders[at]; holder; holder = holder->next) {
		ibh_format_pci(holder->vf.pci, address);
		if (!holder->there)
			return fail(T_VANISHED, address, NULL, 0, NULL, NULL,
				    NULL);
	}
	for (holder = run->holders[at]; holder; holder = holder->next) {
		if (!holder->vf.in_use)
			continue;
		ibh_format_pci(holder->vf.pci, address);
		ibh_format_guid(guid_held(&run->vifs[at], holder), text);
		return fail(T_GUEST_HAS_GUID, address, NULL, 0, text, NULL,
			    NULL);
	}
	return NULL;
}

struct ibh_error *plan_unplug(struct run *run)
{
	static const struct ibh_state idle = {
		.node = IBH_GUID_IDLE,
		.port = IBH_GUID_IDLE,
		.policy = IBH_DOWN,
		.have = IBH_HAVE_NODE | IBH_HAVE_PORT | IBH_HAVE_POLICY,
	};
	struct ibh_error *error = NULL, *why;
	size_t i;

	for (i = 0; i < run->count && !error; i++) {
		struct holder *holder = run->holders[i];

		if (!holder) {
			why = not_held(run, i);
			if (why)
				answer_error(run, i, &idle, why);
			continue;
		}
		why = held_fast(run, i);
		if (!why) {
			error = take_away(run, i);
			continue;
		}
		found_result(run, i, holder->side, &holder->vf);
		run->answers[i].result.error = why;
	}
	return error;
}
