// SPDX-License-Identifier: Apache-2.0
/*
 * mlx5 by the files of MLNX_OFED, <PF>/sriov/<VF>/{node,port,policy}.
 *
 * Each write is a firmware command, each read too: what is read is the
 * vport's true state (OFED drivers/net/ethernet/mellanox/mlx5/core/
 * sriov_sysfs.c). The store functions check the form of a GUID, not its
 * value. A GUID that is set this way reads as 0 by netlink, so that the
 * Neutron agent does not see it: second choice.
 */
#include "batch.h"
#include "path.h"

/*
 * How many VFs of a PF are read or written at once. Neither takes RTNL, and
 * firmware has some 30 slots for commands (mlx5 core/cmd.c). Measured in the
 * rig with 64 VFs of a PF, and commands that are as long beside software as
 * real ones: 3.1 s by one thread, 1.8 by 2, 0.94 by 4, 0.64 by 8, and 0.55
 * by 16, which take twice the processor's time.
 */
#define AT_ONCE 8

static const char *const words[] = {
	[IBH_FOLLOW] = "Follow",
	[IBH_UP] = "Up",
	[IBH_DOWN] = "Down",
};

#define WORDS (sizeof(words) / sizeof(words[0]))

struct ibh_error *mlx5_plugged(const struct side *side,
			       const struct ibh_vif *vif,
			       const struct ibh_how *how,
			       struct ibh_state *wanted)
{
	(void)side;
	*wanted = (struct ibh_state){
		.node = vif_node_guid(vif),
		.port = vif->port_guid,
		.policy = how && how->set_policy ? (uint8_t)how->policy :
						   IBH_FOLLOW,
		.have = IBH_HAVE_NODE | IBH_HAVE_PORT | IBH_HAVE_POLICY,
	};
	return NULL;
}

struct ibh_state mlx5_idle(const struct side *side)
{
	(void)side;
	return (struct ibh_state){
		.node = IBH_GUID_IDLE,
		.port = IBH_GUID_IDLE,
		.policy = IBH_DOWN,
		.have = IBH_HAVE_NODE | IBH_HAVE_PORT | IBH_HAVE_POLICY,
	};
}

static bool obstacle(const struct side *side, char *why, size_t size)
{
	if (side->pf->family == IBH_MLX5_OFED)
		return false;
	format(why, size,
	       "the PF has no sriov/<VF>/policy files (MLNX_OFED)");
	return true;
}

static void vf_folder(struct path *path, const struct ibh_pf *pf,
		   unsigned int index)
{
	path_device(path, pf->address, "/sriov/");
	path_number(path, index);
	path_is_folder(path);
}

/* ---- reading ----------------------------------------------------------- */

static struct ibh_error *unreadable(const struct side *side,
				    unsigned int index, struct path *path,
				    int err, const char *value)
{
	char address[IBH_PCI_TEXT + 1];

	vf_address(side->pf, index, address);
	if (err < 0)
		return fail(T_UNREADABLE, address, path->text, err, NULL, NULL,
			    NULL);
	path_cut(path, path->folder - 1);
	return fail(T_NO_GUID, address, path->text, 0, value, "mlx5_core",
		    NULL);
}

/* Both GUIDs, and the policy if it is wanted; *state is set if all could be
 * read. */
static struct ibh_error *read_vf(const struct side *side, unsigned int index,
				 bool policy, struct ibh_state *state)
{
	static const char *const guids[] = { "node", "port" };
	char value[SHORT_VALUE];
	struct path path;
	uint64_t read[2];
	size_t i;
	ssize_t n;

	vf_folder(&path, side->pf, index);
	for (i = 0; i < 2; i++) {
		n = host_read(side->host, path_file(&path, guids[i]), value,
			      sizeof(value));
		if (n < 0 || ibh_parse_octets(value, (size_t)n, 8, &read[i]))
			return unreadable(side, index, &path,
					  n < 0 ? (int)n : 0, value);
	}
	if (policy) {
		n = host_read(side->host, path_file(&path, "policy"), value,
			      sizeof(value));
		if (n < 0)
			return unreadable(side, index, &path, (int)n, NULL);
		for (i = 0; i < WORDS; i++) {
			if (!strcmp(value, words[i])) {
				state->policy = (uint8_t)i;
				state->have |= IBH_HAVE_POLICY;
			}
		}
	}
	state->node = read[0];
	state->port = read[1];
	state->have |= IBH_HAVE_NODE | IBH_HAVE_PORT;
	return NULL;
}

void mlx5_files_complete(struct side *side, unsigned int index)
{
	struct ibh_state state = { 0 };
	struct ibh_error *error = read_vf(side, index, true, &state);

	if (!error)
		side->states[index] = state;
	/* The GUIDs are known; the write that follows tells. */
	ibh_error_free(error);
}

struct work {
	struct side *side;
	struct change **changes;
	struct run *run;
	bool all; /* of a fill */
};

static void each_vf(struct work *work, size_t count,
		    void (*one)(void *context, size_t i))
{
	unsigned int at_once = work->side->host->io->at_once;

	each(count, at_once < AT_ONCE ? at_once : AT_ONCE, one, work);
}

static void survey_vf(void *context, size_t i)
{
	struct side *side = ((struct work *)context)->side;
	struct ibh_state state = { 0 };
	struct ibh_error *error = read_vf(side, (unsigned int)i,
					  side->mine && side->mine[i], &state);

	side->states[i] = state;
	side->told[i] = error ? UNTOLD : TOLD;
	/* That it is not told is all that matters here. */
	ibh_error_free(error);
}

struct ibh_error *mlx5_files_survey(struct side *side)
{
	struct work work = { .side = side };

	each_vf(&work, side->pf->numvfs, survey_vf);
	return NULL;
}

static void fill_vf(void *context, size_t i)
{
	const unsigned int guids = IBH_HAVE_NODE | IBH_HAVE_PORT;
	const struct work *work = context;
	struct side *side = work->side;
	bool left_out = side->told[i] != TOLD;
	struct ibh_error *error;

	if (left_out ? !work->all : (side->states[i].have & guids) == guids)
		return;
	error = read_vf(side, (unsigned int)i, left_out, &side->states[i]);
	if (!error)
		side->told[i] = TOLD;
	ibh_error_free(error);
}

void mlx5_files_fill(struct side *side, bool all)
{
	struct work work = { .side = side, .all = all };

	each_vf(&work, side->pf->numvfs, fill_vf);
}

static void read_back_vf(void *context, size_t i)
{
	struct work *work = context;
	struct change *change = work->changes[i];

	change->seen = (struct ibh_state){ 0 };
	change->doubt = read_vf(work->side, change->vf.index, true,
				&change->seen);
	change->told = !change->doubt;
}

struct ibh_error *mlx5_files_read_back(struct side *side,
				       struct change **changes, size_t count)
{
	struct work work = { .side = side, .changes = changes };

	each_vf(&work, count, read_back_vf);
	return NULL;
}

static struct ibh_error *read_back(struct side *side, struct change **changes,
				   size_t count, bool settle)
{
	(void)settle;
	return mlx5_files_read_back(side, changes, count);
}

/* ---- writing ----------------------------------------------------------- */

/* false if it was refused. */
static bool put(struct side *side, struct change *change, struct path *path,
		const char *file, const char *value)
{
	int err = host_write(side->host, path_file(path, file), value);

	if (err)
		change->refusal = fail(T_REFUSED, change->address, path->text,
				       err, NULL, NULL, NULL);
	return !err;
}

static bool put_guid(struct side *side, struct change *change,
		     struct path *path, const char *file, uint64_t guid)
{
	char text[IBH_GUID_TEXT + 1];

	ibh_format_guid(guid, text);
	return put(side, change, path, file, text);
}

/* Down comes first, everything else last: a VF is never up with an identity
 * that is only half its own. */
static void write_vf(void *context, size_t i)
{
	struct work *work = context;
	struct change *change = work->changes[i];
	const struct ibh_state *state = &change->put;
	bool policy = state->have & IBH_HAVE_POLICY && state->policy < WORDS;
	bool down = policy && state->policy == IBH_DOWN;
	struct side *side = work->side;
	struct path path;

	vf_folder(&path, side->pf, change->vf.index);
	if (work->run && stopped(work->run)) {
		change->tried = false;
		change->refusal = fail(T_REFUSED, change->address,
				       path_file(&path, "policy"), EINTR, NULL,
				       NULL, NULL);
		return;
	}
	if (down && !put(side, change, &path, "policy", words[state->policy]))
		return;
	if (state->have & IBH_HAVE_NODE &&
	    !put_guid(side, change, &path, "node", state->node))
		return;
	if (state->have & IBH_HAVE_PORT &&
	    !put_guid(side, change, &path, "port", state->port))
		return;
	if (policy && !down)
		put(side, change, &path, "policy", words[state->policy]);
}

static void write_all(struct side *side, struct change **changes,
		      size_t count, struct run *run)
{
	struct work work = { .side = side, .changes = changes, .run = run };

	each_vf(&work, count, write_vf);
}

const struct mechanism mlx5_sysfs = {
	.id = IBH_MLX5_SYSFS,
	.name = "mlx5_sysfs",
	.obstacle = obstacle,
	.plugged = mlx5_plugged,
	.idle = mlx5_idle,
	.survey = mlx5_files_survey,
	.complete = mlx5_files_complete,
	.write = write_all,
	.read_back = read_back,
};
