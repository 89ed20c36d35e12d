// SPDX-License-Identifier: Apache-2.0
/* Which mechanism serves a PF on a port, and what that tells of its VFs. */
#include "mechanism.h"

const struct mechanism *const mechanisms[IBH_MECHANISMS] = {
	[IBH_MLX5_NETLINK] = &mlx5_netlink,
	[IBH_MLX5_SYSFS] = &mlx5_sysfs,
	[IBH_MLX4_SYSFS] = &mlx4_sysfs,
	[IBH_FOREIGN] = &foreign,
};

const char *ibh_mechanism_name(enum ibh_mechanism mechanism)
{
	if ((unsigned int)mechanism >= IBH_MECHANISMS)
		return NULL;
	return mechanisms[mechanism]->name;
}

void side_init(struct side *side, struct ibh_host *host,
	       const struct ibh_pf *pf, unsigned int port)
{
	unsigned int i;

	*side = (struct side){ .host = host, .pf = pf, .port = port };
	for (i = 0; i < pf->netdev_count; i++) {
		if (pf->netdevs[i].port == port) {
			side->netdev = &pf->netdevs[i];
			break;
		}
	}
}

static void choose(struct side *side, enum ibh_mechanism forced,
		   struct ibh_choice *choice)
{
	unsigned int i;

	*choice = (struct ibh_choice){ .mechanism = IBH_NO_CHOICE };
	for (i = 0; i < IBH_MECHANISMS; i++) {
		if (forced != IBH_NO_CHOICE && forced != i)
			continue;
		if (i == IBH_FOREIGN && !side->host->has_foreign &&
		    forced != i)
			continue;
		if (!mechanisms[i]->obstacle(side, choice->against[i],
					     sizeof(choice->against[i]))) {
			choice->mechanism = i;
			side->mechanism = mechanisms[i];
			choice->against[i][0] = '\0';
			return;
		}
	}
}

void side_choose(struct side *side, const struct ibh_how *how)
{
	bool force = how && how->force;
	char why[IBH_MECHANISMS * 192] = "";
	struct ibh_choice choice;
	unsigned int i;

	choose(side, force ? how->mechanism : IBH_NO_CHOICE, &choice);
	if (side->mechanism)
		return;
	for (i = 0; i < IBH_MECHANISMS; i++) {
		size_t used = strlen(why);

		if (choice.against[i][0])
			format(why + used, sizeof(why) - used, "%s%s: %s",
			       used ? "; " : "", mechanisms[i]->name,
			       choice.against[i]);
	}
	side->obstacle = fail(force ? T_NOT_FORCED : T_NO_MECHANISM,
			      side->pf->address, force ? "mechanism" : NULL, 0,
			      why, NULL, NULL);
}

struct ibh_error *side_survey(struct side *side)
{
	size_t numvfs = side->pf->numvfs;
	struct ibh_error *error;

	if (!side->mechanism)
		return error_copy(side->obstacle);
	if (!side->states)
		side->states = calloc(numvfs + 1, sizeof(*side->states));
	if (!side->told)
		side->told = calloc(numvfs + 1, sizeof(*side->told));
	if (!side->states || !side->told)
		return fail(T_MEMORY, side->pf->address, NULL, 0, NULL, NULL,
			    NULL);
	error = side->mechanism->survey(side);
	side->surveyed = !error;
	return error;
}

void side_free(struct side *side)
{
	ibh_error_free(side->obstacle);
	ibh_error_free(side->trouble);
	ibh_error_free(side->detour);
	free(side->mine);
	free(side->states);
	free(side->told);
	*side = (struct side){ 0 };
}

void ibh_choose(struct ibh_host *host, const struct ibh_pf *pf,
		unsigned int port, enum ibh_mechanism forced,
		struct ibh_choice *choice)
{
	struct side side;

	side_init(&side, host, pf, port);
	choose(&side, forced, choice);
}

static struct habit habit_of(struct ibh_host *host, const struct ibh_pf *pf,
			     unsigned int port)
{
	struct habit habit = { 0 };
	struct side side;

	side_init(&side, host, pf, port);
	if (side.netdev)
		host_habit(host, side.netdev->ifindex, &habit);
	return habit;
}

bool ibh_asks_all(struct ibh_host *host, const struct ibh_pf *pf,
		  unsigned int port)
{
	return habit_of(host, pf, port).dumped;
}

bool ibh_asks_files(struct ibh_host *host, const struct ibh_pf *pf,
		    unsigned int port)
{
	return habit_of(host, pf, port).unusable;
}

int ibh_survey(struct ibh_host *host, const struct ibh_pf *pf,
	       unsigned int port, enum ibh_mechanism forced,
	       const unsigned int *indices, size_t count,
	       struct ibh_state *states, bool *told, struct ibh_error **error)
{
	struct ibh_how how = { .force = forced != IBH_NO_CHOICE,
			       .mechanism = forced };
	struct side side;
	size_t i;

	side_init(&side, host, pf, port);
	side_choose(&side, &how);
	side.mine = calloc(pf->numvfs + 1, sizeof(*side.mine));
	for (i = 0; side.mine && i < count; i++) {
		if (indices[i] < pf->numvfs)
			side.has_mine = side.mine[indices[i]] = true;
	}
	*error = side.mine ? side_survey(&side) :
			     fail(T_MEMORY, pf->address, NULL, 0, NULL, NULL,
				  NULL);
	if (!*error) {
		memcpy(states, side.states, pf->numvfs * sizeof(*states));
		for (i = 0; i < pf->numvfs; i++)
			told[i] = side.told[i] == TOLD;
	}
	side_free(&side);
	return *error ? -1 : 0;
}
