// SPDX-License-Identifier: Apache-2.0
/*
 * mlx5 by rtnetlink, through the PF's IPoIB network device: first choice, for
 * the Neutron agent reads the GUIDs back by netlink.
 *
 * RTM_SETLINK with IFLA_VF_IB_NODE_GUID, IFLA_VF_IB_PORT_GUID and
 * IFLA_VF_LINK_STATE ends in one firmware command for each attribute
 * (drivers/infiniband/hw/mlx5/ib_virt.c). Reading back shows the GUIDs that
 * were set by netlink since the PF's driver was bound, and 0 for "not known";
 * the link state is asked of firmware, for every VF of the PF.
 */
#include "batch.h"
#include "rtnetlink.h"

/* The kernel holds its RTNL lock for a whole message, each attribute taking
 * firmware 0.1 to 0.4 ms: 16 VFs keep others waiting for some 10 ms. */
#define VFS_PER_MESSAGE 16
#define SETS_PER_VF 3
/* An answer that takes so long has waited for firmware that does not answer
 * about some VF: the driver gives up after 60 s (mlx5 core/cmd.c). */
#define SILENCE_MS 30000

/* Of an attribute's errors: "IFLA_VF_IB_PORT_GUID of VF 65535 on ib0". */
#define ATTRIBUTE_SIZE (IBH_NAME + 48)

static bool obstacle(const struct side *side, char *why, size_t size)
{
	const struct io *io = side->host->io;
	char bus[32] = "", reason[64];
	int ifindex = 0, err;

	if (side->pf->family == IBH_MLX4) {
		format(why, size,
		       "the mlx4 driver has no netlink operations for GUIDs");
		return true;
	}
	if (!side->netdev) {
		format(why, size,
		       "the PF has no IPoIB network device here (ib_ipoib)");
		return true;
	}
	/* sysfs lists the devices of the namespace it was mounted in; by that
	 * name or index ours may have another device, or none. */
	err = io->identify(side->host->context, side->netdev->name, &ifindex,
			   bus);
	if (err) {
		format(why, size,
		       "%s cannot be reached from this network namespace: %s",
		       side->netdev->name,
		       strerror_r(-err, reason, sizeof(reason)));
		return true;
	}
	if (ifindex != side->netdev->ifindex ||
	    strcmp(bus, side->pf->address)) {
		format(why, size,
		       "in this network namespace %s is another device (%s)",
		       side->netdev->name, *bus ? bus : "no PCI device");
		return true;
	}
	return false;
}

/* ---- reading ----------------------------------------------------------- */

/* `message` ends with a word for the network device. */
static struct ibh_error *refuse(const struct side *side, enum text what,
				const char *device, const char *message,
				int err)
{
	char attribute[ATTRIBUTE_SIZE];

	format(attribute, sizeof(attribute), "%s %s", message,
	       side->netdev->name);
	return fail(what, device, attribute, err, NULL, NULL, NULL);
}

static struct ibh_error *ask(const struct side *side, struct vf_info **infos,
			     size_t *count)
{
	int err = netlink_ask(side->host, side->netdev->ifindex, side->dump,
			      infos, count);

	return err ? refuse(side, T_STATE_UNREADABLE, side->pf->address,
			    "RTM_GETLINK of", err) :
		     NULL;
}

/* GUID 0 is "not known", not "none". */
static struct ibh_state told(const struct vf_info *info)
{
	struct ibh_state state = { .node = info->node, .port = info->port };

	if (info->have & IBH_HAVE_NODE && info->node)
		state.have |= IBH_HAVE_NODE;
	if (info->have & IBH_HAVE_PORT && info->port)
		state.have |= IBH_HAVE_PORT;
	if (info->have & IBH_HAVE_POLICY && info->link_state <= IBH_DOWN) {
		state.policy = (uint8_t)info->link_state;
		state.have |= IBH_HAVE_POLICY;
	}
	return state;
}

/* With too many VFs for a message it is refused or garbled, in a dump, too:
 * that is of no use however often it is asked for. */
static bool is_unusable(const struct ibh_error *error)
{
	return error &&
	       (error->number == EMSGSIZE || error->number == EBADMSG);
}

static void learn(const struct side *side, bool unusable)
{
	struct habit habit;

	host_habit(side->host, side->netdev->ifindex, &habit);
	if (habit.unusable == unusable)
		return;
	habit.unusable = unusable;
	host_learn(side->host, &habit);
}

/* The kernel tells of all VFs at once, but leaves out those that their driver
 * cannot ask about (net/core/rtnetlink.c, rtnl_fill_vfinfo). */
static struct ibh_error *survey_all(struct side *side)
{
	const struct io *io = side->host->io;
	uint64_t began = io->now(side->host->context);
	struct ibh_error *error;
	struct vf_info *infos;
	size_t count, i;
	bool silent;

	error = ask(side, &infos, &count);
	silent = io->now(side->host->context) - began >= SILENCE_MS;
	if (side->pf->family == IBH_MLX5_OFED)
		learn(side, is_unusable(error));
	if (side->pf->family == IBH_MLX5_OFED && is_unusable(error)) {
		/* By netlink they can be written to all the same. */
		side->detour = error;
		return mlx5_files_survey(side);
	}
	if (error)
		return error;
	memset(side->told, 0, side->pf->numvfs * sizeof(*side->told));
	for (i = 0; i < count; i++) {
		if (infos[i].vf < side->pf->numvfs) {
			side->states[infos[i].vf] = told(&infos[i]);
			side->told[infos[i].vf] = TOLD;
		}
	}
	free(infos);
	/* Where netlink knows nothing the files still do: a GUID that was set
	 * through them, or before the kernel could read back. But who made it
	 * wait would do so again: their reads ask firmware the same. */
	if (side->pf->family == IBH_MLX5_OFED)
		mlx5_files_fill(side, !silent);
	return NULL;
}

static void complete(struct side *side, unsigned int index)
{
	if (side->detour)
		mlx5_files_complete(side, index);
}

static struct ibh_error *read_back(struct side *side, struct change **changes,
				   size_t count, bool settle)
{
	const struct vf_info **by_vf;
	struct ibh_error *error;
	struct vf_info *infos;
	size_t found, i;

	(void)settle;
	/* Firmware's own word, for these VFs only, where there are files. */
	if (side->pf->family == IBH_MLX5_OFED)
		return mlx5_files_read_back(side, changes, count);
	by_vf = calloc(side->pf->numvfs + 1, sizeof(*by_vf));
	if (!by_vf)
		return fail(T_MEMORY, NULL, NULL, 0, NULL, NULL, NULL);
	error = ask(side, &infos, &found);
	if (error) {
		free(by_vf);
		return error;
	}
	for (i = 0; i < found; i++)
		if (infos[i].vf < side->pf->numvfs)
			by_vf[infos[i].vf] = &infos[i];
	for (i = 0; i < count; i++) {
		const struct vf_info *info = by_vf[changes[i]->vf.index];

		changes[i]->told = info;
		if (info)
			changes[i]->seen = told(info);
	}
	free(infos);
	free(by_vf);
	return NULL;
}

/* As found when it was last asked: then "not known" says that nothing was. */
bool mlx5_netlink_shows(const struct side *side)
{
	struct habit habit;

	host_habit(side->host, side->netdev->ifindex, &habit);
	return habit.shown;
}

/* ---- writing ----------------------------------------------------------- */

static struct vf_set *add(struct vf_set *set, const struct change *change,
			  uint32_t attr, uint64_t value)
{
	*set = (struct vf_set){
		.vf = change->vf.index,
		.attr = attr,
		.value = value,
	};
	return set + 1;
}

/* In an order in which a VF is never up with an identity that is only half
 * its own: down comes first, everything else last. */
static struct vf_set *add_vf(struct vf_set *set, const struct change *change)
{
	const struct ibh_state *put = &change->put;
	bool policy = put->have & IBH_HAVE_POLICY;
	bool down = policy && put->policy == IBH_DOWN;

	if (down)
		set = add(set, change, VF_LINK_STATE, put->policy);
	if (put->have & IBH_HAVE_NODE)
		set = add(set, change, VF_NODE_GUID, put->node);
	if (put->have & IBH_HAVE_PORT)
		set = add(set, change, VF_PORT_GUID, put->port);
	if (policy && !down)
		set = add(set, change, VF_LINK_STATE, put->policy);
	return set;
}

/* One write(): sets of all changes, those that are sent, and where the
 * messages end. */
struct work {
	struct side *side;
	struct change **changes;
	size_t count;
	struct run *run;
	struct vf_set *sets, *single;
	size_t *ends; /* of sets, by message */
	int *answers; /* by message */
};

static bool stop(void *run)
{
	return stopped(run);
}

static void send(const struct work *work, const struct vf_set *sets,
		 size_t messages)
{
	netlink_set(work->side->host, work->side->netdev->ifindex, sets,
		    work->ends, messages, work->answers, work->run ? stop : NULL,
		    work->run);
}

/* Whether an answer means that there was none: it was told to stop. */
static bool was_left(const struct work *work, int answer)
{
	return answer == -ECANCELED && work->run && stopped(work->run);
}

static void refuse_change(const struct work *work, struct change *change,
			  int err)
{
	change->refusal = refuse(work->side, T_REFUSED, change->address,
				 "RTM_SETLINK of",
				 was_left(work, err) ? EINTR : err);
}

/* Whether a message that was answered so has to be looked into. Others are
 * not about one VF: to ask again for each would only take longer, with a
 * firmware that does not answer up to a minute each. */
static bool is_particular(const struct work *work, int answer)
{
	return answer && answer != -EPERM && answer != -ENODEV &&
	       answer != -ETIMEDOUT && !was_left(work, answer);
}

static void refuse_attribute(const struct work *work, struct change *change,
			     const struct vf_set *set, int err)
{
	char message[ATTRIBUTE_SIZE];
	const char *name = "IFLA_VF_LINK_STATE";

	if (was_left(work, err)) {
		refuse_change(work, change, err);
		return;
	}
	if (set->attr == VF_NODE_GUID)
		name = "IFLA_VF_IB_NODE_GUID";
	else if (set->attr == VF_PORT_GUID)
		name = "IFLA_VF_IB_PORT_GUID";
	format(message, sizeof(message), "%s of VF %u on", name, set->vf);
	change->refusal = refuse(work->side, T_REFUSED, change->address,
				 message, err);
}

/* The change of a VF, from one on: they are in the order of the sets. */
static struct change **change_of(struct change **change,
				 const struct vf_set *set)
{
	while ((*change)->vf.index != set->vf)
		change++;
	return change;
}

/* Of each VF the set that comes `nth`, unless one before it was refused. */
static size_t pick(const struct work *work, size_t count, unsigned int nth)
{
	struct change **change = work->changes;
	unsigned int place = 0;
	size_t i, picked = 0;

	for (i = 0; i < count; i++) {
		const struct vf_set *set = &work->sets[i];

		place = i && set[-1].vf == set->vf ? place + 1 : 0;
		change = change_of(change, set);
		if (place != nth || (*change)->refusal)
			continue;
		work->single[picked++] = *set;
		work->ends[picked - 1] = picked;
	}
	return picked;
}

/*
 * The kernel stops at the first attribute that fails and does not say which
 * it was. Written one by one they tell, each VF's first before any second, so
 * that none is raised whose GUID was refused; what had been applied is
 * written again, which changes nothing.
 */
static void write_singly(struct work *work, size_t count)
{
	unsigned int nth;
	size_t i;

	for (nth = 0; nth < SETS_PER_VF; nth++) {
		struct change **change = work->changes;
		size_t picked = pick(work, count, nth);

		send(work, work->single, picked);
		for (i = 0; i < picked; i++) {
			change = change_of(change, &work->single[i]);
			if (work->answers[i])
				refuse_attribute(work, *change,
						 &work->single[i],
						 work->answers[i]);
		}
	}
}

static void write_together(struct work *work)
{
	size_t message, messages = 0, singles = 0, first = 0, i;
	struct vf_set *set = work->sets;

	for (i = 0; i < work->count; i++) {
		set = add_vf(set, work->changes[i]);
		if (i % VFS_PER_MESSAGE == VFS_PER_MESSAGE - 1 ||
		    i == work->count - 1)
			work->ends[messages++] = (size_t)(set - work->sets);
	}
	send(work, work->sets, messages);
	for (message = 0; message < messages; message++) {
		int answer = work->answers[message];
		size_t end = work->ends[message];

		if (is_particular(work, answer)) {
			memmove(work->sets + singles, work->sets + first,
				(end - first) * sizeof(*work->sets));
			singles += end - first;
		} else if (answer) {
			for (i = message * VFS_PER_MESSAGE;
			     i < work->count &&
			     i / VFS_PER_MESSAGE == message;
			     i++) {
				refuse_change(work, work->changes[i], answer);
				/* It was not sent at all. */
				if (was_left(work, answer))
					work->changes[i]->tried = false;
			}
		}
		first = end;
	}
	if (singles)
		write_singly(work, singles);
}

static void write_all(struct side *side, struct change **changes,
		      size_t count, struct run *run)
{
	struct work work = {
		.side = side, .changes = changes, .count = count, .run = run,
	};
	size_t most = count * SETS_PER_VF, i;
	/* One block, the widest first. */
	void *block = calloc(most, 2 * sizeof(*work.sets) +
					   sizeof(*work.ends) +
					   sizeof(*work.answers));

	if (!block) {
		for (i = 0; i < count; i++)
			changes[i]->refusal = fail(T_MEMORY, NULL, NULL, 0,
						   NULL, NULL, NULL);
		return;
	}
	work.sets = block;
	work.single = work.sets + most;
	work.ends = (size_t *)(work.single + most);
	work.answers = (int *)(work.ends + most);
	write_together(&work);
	free(block);
}

const struct mechanism mlx5_netlink = {
	.id = IBH_MLX5_NETLINK,
	.name = "mlx5_netlink",
	.obstacle = obstacle,
	.plugged = mlx5_plugged,
	.idle = mlx5_idle,
	.survey = survey_all,
	.complete = complete,
	.write = write_all,
	.read_back = read_back,
};
