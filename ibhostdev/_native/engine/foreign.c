// SPDX-License-Identifier: Apache-2.0
/*
 * Any HCA by functions of the caller's: the vendor's ebrctl, which asks its
 * daemon eswitchd.
 *
 * The last resort. It reports success for VFs that the daemon does not know
 * and leaves the policy of a plugged VF to the Neutron agent (networking-mlnx
 * 21.0.0, eswitchd/cli/ebrctl.py and eswitch_handler.py), so what became of a
 * VF is read by a native mechanism where one can show it; where none can,
 * results are not verified.
 */
#include "batch.h"

static const char *const policies[] = { [IBH_FOLLOW] = "follow",
					[IBH_UP] = "up",
					[IBH_DOWN] = "down" };

const struct mechanism *foreign_reader(const struct side *side)
{
	char why[160];
	unsigned int i;

	for (i = 0; i < IBH_FOREIGN; i++)
		if (!mechanisms[i]->obstacle(side, why, sizeof(why)))
			return mechanisms[i];
	return NULL;
}

static bool obstacle(const struct side *side, char *why, size_t size)
{
	const struct ibh_foreign *way = &side->host->foreign;

	if (!side->host->has_foreign) {
		format(why, size, "it was not given to the engine");
		return true;
	}
	return way->obstacle && way->obstacle(way->context, why, size);
}

static struct ibh_error *plugged(const struct side *side,
				 const struct ibh_vif *vif,
				 const struct ibh_how *how,
				 struct ibh_state *wanted)
{
	const struct ibh_foreign *way = &side->host->foreign;
	struct ibh_error *error = NULL;

	if (way->check)
		error = way->check(way->context, vif->port_guid);
	if (error)
		return error;
	if (how && how->set_policy)
		return fail(T_FOREIGN_POLICY, NULL, "policy", 0,
			    policies[how->policy], NULL, NULL);
	if (vif->pkey && side->pf->family == IBH_MLX4) {
		char address[IBH_PCI_TEXT + 1], text[16];

		ibh_format_pci(vif->pci, address);
		format(text, sizeof(text), "0x%04x", vif->pkey);
		return fail(T_FOREIGN_PKEY, address, "pkey", 0, text, NULL,
			    NULL);
	}
	*wanted = (struct ibh_state){ .port = vif->port_guid,
				      .have = IBH_HAVE_PORT };
	if (side->pf->family != IBH_MLX4) {
		wanted->node = vif->port_guid;
		wanted->have |= IBH_HAVE_NODE;
	}
	return NULL;
}

static struct ibh_state idle(const struct side *side)
{
	return side->pf->family == IBH_MLX4 ? mlx4_sysfs.idle(side) :
					      mlx5_idle(side);
}

/* ---- reading ----------------------------------------------------------- */

static struct ibh_error *survey_all(struct side *side)
{
	const struct mechanism *reader = foreign_reader(side);
	unsigned int i;

	if (reader)
		return reader->survey(side);
	/* Nothing is known of them, and none is ill. */
	for (i = 0; i < side->pf->numvfs; i++) {
		side->states[i] = (struct ibh_state){ 0 };
		side->told[i] = TOLD;
	}
	return NULL;
}

static void complete(struct side *side, unsigned int index)
{
	const struct mechanism *reader = foreign_reader(side);

	if (reader && reader->complete)
		reader->complete(side, index);
}

/* The daemon too goes by netlink where there are no files: a VF that shows
 * no GUID after that was given none. */
static void doubt_unset(struct change *change)
{
	if (!change->told || change->seen.have & IBH_HAVE_PORT ||
	    !(change->put.have & IBH_HAVE_PORT) ||
	    guid_is_idle(change->put.port))
		return;
	change->told = false;
	change->doubt = fail(T_NOTHING_SET, change->address, "by ebrctl", 0,
			     NULL, NULL, NULL);
}

static struct ibh_error *read_back(struct side *side, struct change **changes,
				   size_t count, bool settle)
{
	const struct mechanism *reader = foreign_reader(side);
	struct ibh_error *error;
	size_t i;

	if (!reader) {
		for (i = 0; i < count; i++) {
			changes[i]->seen = (struct ibh_state){ 0 };
			changes[i]->told = true;
		}
		return NULL;
	}
	error = reader->read_back(side, changes, count, settle);
	if (!error && reader == &mlx5_netlink &&
	    side->pf->family == IBH_MLX5 && mlx5_netlink_shows(side))
		for (i = 0; i < count; i++)
			doubt_unset(changes[i]);
	return error;
}

/* ---- writing ----------------------------------------------------------- */

/* What a change asks for: a GUID, IBH_GUID_IDLE to take `owner` away, or 0
 * where there is nothing to ask. A policy alone is the Neutron agent's
 * business here. */
static uint64_t asked_for(const struct change *change)
{
	const struct ibh_state *put = &change->put;
	uint64_t guid = 0;

	if (!(put->have & (IBH_HAVE_NODE | IBH_HAVE_PORT)))
		return 0;
	if (put->have & IBH_HAVE_PORT)
		guid = put->port;
	if (!guid && put->have & IBH_HAVE_NODE)
		guid = put->node;
	if (!guid_is_idle(guid))
		return guid;
	return change->owner ? IBH_GUID_IDLE : 0;
}

/* … before anything was written. */
static void refuse_all(struct change **changes, size_t count, enum text what,
		       int number)
{
	size_t i;

	for (i = 0; i < count; i++) {
		changes[i]->refusal = fail(what, changes[i]->address, "ebrctl",
					   number, NULL, NULL, NULL);
		/* To undo it would take its GUID away, from whoever has it. */
		changes[i]->tried = false;
	}
}

static void write_all(struct side *side, struct change **changes,
		      size_t count, struct run *run)
{
	const struct ibh_foreign *way = &side->host->foreign;
	struct ibh_foreign_call *calls;
	size_t i, n = 0;

	if (run && stopped(run)) {
		refuse_all(changes, count, T_REFUSED, EINTR);
		return;
	}
	calls = calloc(count, sizeof(*calls));
	if (!calls) {
		refuse_all(changes, count, T_MEMORY, 0);
		return;
	}
	for (i = 0; i < count; i++) {
		uint64_t guid = asked_for(changes[i]);

		if (guid)
			calls[n++] = (struct ibh_foreign_call){
				.pf = side->pf,
				.index = changes[i]->vf.index,
				.address = changes[i]->address,
				.guid = guid,
				.owner = changes[i]->owner,
				.network = changes[i]->vif->network,
				.back = !run,
			};
	}
	if (n)
		way->write(way->context, calls, n);
	for (i = n = 0; i < count; i++) {
		if (!asked_for(changes[i]))
			continue;
		if (calls[n].left)
			refuse_all(&changes[i], 1, T_REFUSED, EINTR);
		else
			changes[i]->refusal = error_of(calls[n].error,
						       changes[i]->address,
						       NULL);
		n++;
	}
	free(calls);
}

/* ---- what nobody else can find ----------------------------------------- */

/* Whether nothing but the foreign mechanism can tell who has a GUID. */
static bool is_blind(const struct run *run)
{
	size_t i;

	for (i = 0; i < run->side_count; i++) {
		const struct side *side = &run->sides[i];

		if (side->surveyed && side->mechanism == &foreign &&
		    !foreign_reader(side))
			return true;
	}
	return false;
}

static bool is_unknown(const struct answer *answer)
{
	return !answer->change && !answer->result.error &&
	       !answer->result.verified;
}

static void forget_all(struct run *run, struct ibh_foreign_call *calls,
		       size_t count)
{
	const struct ibh_foreign *way = &run->host->foreign;
	size_t i, n = 0;

	if (count)
		way->forget(way->context, calls, count);
	for (i = 0; i < run->count; i++) {
		struct ibh_result *result = &run->answers[i].result;

		if (!is_unknown(&run->answers[i]))
			continue;
		result->mechanism = IBH_FOREIGN;
		result->error = calls[n].error;
		result->changed = !calls[n].error && calls[n].guid == 1;
		n++;
	}
}

/*
 * Where only the foreign mechanism can tell who has a GUID, have it look.
 * Last of all: what it takes away cannot be given back, for it does not say
 * which VF that was.
 */
void forget(struct run *run)
{
	struct ibh_foreign_call *calls;
	bool leave;
	size_t i, n = 0;

	if (!run->host->has_foreign || !is_blind(run))
		return;
	leave = !run->how->proceed && (any_failed(run) || refusal(run));
	calls = calloc(run->count + 1, sizeof(*calls));
	for (i = 0; i < run->count; i++) {
		struct ibh_result *result = &run->answers[i].result;

		if (!is_unknown(&run->answers[i]))
			continue;
		if (leave || !calls) {
			result->mechanism = IBH_FOREIGN;
			result->error = fail(leave ? T_LEFT_TO_FOREIGN :
						     T_MEMORY,
					     "ebrctl", NULL, 0, NULL, NULL,
					     NULL);
			continue;
		}
		calls[n++] = (struct ibh_foreign_call){
			.address = "",
			.guid = IBH_GUID_IDLE,
			.owner = run->vifs[i].port_guid,
			.network = run->vifs[i].network,
		};
	}
	if (calls)
		forget_all(run, calls, n);
	free(calls);
}

const struct mechanism foreign = {
	.id = IBH_FOREIGN,
	.name = "ebrctl",
	.obstacle = obstacle,
	.plugged = plugged,
	.idle = idle,
	.survey = survey_all,
	.complete = complete,
	.write = write_all,
	.read_back = read_back,
};
