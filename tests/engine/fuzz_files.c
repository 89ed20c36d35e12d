// SPDX-License-Identifier: Apache-2.0
/*
 * Files, links and folders that say anything: the PFs, their VFs and their
 * states are looked at, and nothing is written.
 */
#include "fuzz.h"
#include "cases.h"

static struct scripted at;

static void never(struct scripted *system, struct caller *caller,
		  const struct command *command)
{
	(void)caller;
	(void)command;
	scripted_wrong(system, "writes though it only looks");
}

/* Up to all faults that there can be, at growing distances. */
static void garble(struct input *input)
{
	unsigned int operation = 0;

	while (input->left && at.fault_count < FAULTS) {
		struct fault *fault = &at.faults[at.fault_count++];
		unsigned int kind = take_below(input, 4);
		struct input bytes;

		operation += 1 + take_below(input, 40);
		fault->at = operation;
		fault->kind = kind ? GARBLED : OPERATION;
		fault->number = 1 + (int)take_below(input, 133);
		if (!kind)
			continue;
		bytes = take_bytes(input);
		fault->bytes = bytes.data;
		fault->len = bytes.left;
	}
}

static void look_at(struct ibh_host *host, const struct ibh_pfs *pfs,
		    const struct ibh_pf *pf)
{
	unsigned int indices[] = { 0, 2, 4, 70000 };
	struct ibh_vf vfs[4], vf;
	struct ibh_state *states;
	struct ibh_error *error = NULL;
	struct ibh_choice choice;
	const struct ibh_pf *found_pf;
	size_t found = 0, count = pf->numvfs < 4 ? 1 : 3;
	bool *told;

	must(strlen(pf->address) < sizeof(pf->address) &&
		     pf->port_count >= 1 && pf->port_count <= IBH_MAX_PORTS &&
		     pf->netdev_count <= IBH_MAX_NETDEVS &&
		     pf->numvfs <= 65535,
	     "a PF that cannot be");
	ibh_choose(host, pf, pf->ports[0].number, IBH_NO_CHOICE, &choice);
	if (ibh_vfs(host, pf, indices, count, vfs, &found, &error))
		ibh_error_free(error);
	must(found <= count, "more VFs than were asked for");
	if (ibh_locate(host, pfs, ibh_vf_pci(pf, 1), &found_pf, &vf, &error))
		ibh_error_free(error);
	if (pf->numvfs < 3 || choice.mechanism == IBH_NO_CHOICE)
		return;
	states = calloc(pf->numvfs, sizeof(*states));
	told = calloc(pf->numvfs, sizeof(*told));
	must(states && told, "no memory");
	if (ibh_survey(host, pf, pf->ports[0].number, IBH_NO_CHOICE, indices,
		       2, states, told, &error))
		ibh_error_free(error);
	free(states);
	free(told);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct scene scene;
	struct input input = { data, size };
	struct ibh_error *error = NULL;
	struct ibh_host *host;
	struct ibh_pfs *pfs;
	unsigned int i, n;

	scene = (struct scene){
		.setting = take_below(&input, SETTINGS),
		.layout = 2,
		.states = { OTHERS, RIGHT },
	};
	scene_make(&scene);
	scripted_reset(&at);
	at.machine = scene.start;
	at.hostile = true;
	at.watch = never;
	garble(&input);
	must(!scripted_open(&at, 0, &scene.options, &host), "no host");
	for (n = 0; n < 2; n++) {
		if (ibh_pfs(host, n, true, &pfs, &error)) {
			ibh_error_free(error);
			continue;
		}
		for (i = 0; i < pfs->count; i++)
			look_at(host, pfs, pfs->pfs[i]);
		ibh_pfs_free(pfs);
	}
	ibh_host_close(host);
	scripted_leftovers(&at);
	must(!at.wrong[0], at.wrong);
	return 0;
}
