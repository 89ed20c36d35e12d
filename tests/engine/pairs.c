// SPDX-License-Identifier: Apache-2.0
/*
 * Two callers on one host; see pairs.h. Whatever their turns, it ends as if
 * one had come after the other.
 */
#include <stdio.h>

#include "pairs.h"

#define TOLD 5 /* failures that are printed */

/* What each does: how many VIFs of the scene, from which on, and how. */
struct part {
	enum act act;
	struct spot spots[2];
	uint8_t guids[2]; /* by the scene's VIFs; the third is new */
	uint8_t count;
};

static const struct pair {
	const char *name;
	enum state states[2]; /* of VF 0 of both PFs, with GUIDs 0 and 1 */
	struct part parts[CALLERS];
} pairs[] = {
	{ "one-vf", { IDLE, IDLE },
	  { { PLUG_ALL, { { 0, 0 } }, { 0 }, 1 },
	    { PLUG_ALL, { { 0, 0 } }, { 2 }, 1 } } },
	{ "one-guid", { IDLE, FRESH },
	  { { PLUG_ALL, { { 0, 0 } }, { 0 }, 1 },
	    { PLUG_ALL, { { 1, 0 } }, { 0 }, 1 } } },
	{ "plug-unplug", { RIGHT, IDLE },
	  { { PLUG_ALL, { { 0, 0 } }, { 0 }, 1 },
	    { UNPLUG_ALL, { { 0, 0 } }, { 0 }, 1 } } },
	{ "unplug-plug", { RIGHT, IDLE },
	  { { UNPLUG_ALL, { { 0, 0 } }, { 0 }, 1 },
	    { PLUG_ALL, { { 0, 0 } }, { 2 }, 1 } } },
	{ "unplug-unplug", { RIGHT, RIGHT },
	  { { UNPLUG_ALL, { { 0, 0 }, { 1, 0 } }, { 0, 1 }, 2 },
	    { UNPLUG_ALL, { { 0, 0 } }, { 0 }, 1 } } },
	{ "crossed", { IDLE, OTHERS },
	  { { PLUG_ALL, { { 0, 0 }, { 1, 0 } }, { 0, 1 }, 2 },
	    { PLUG_ALL, { { 1, 1 }, { 0, 1 } }, { 2, 0 }, 2 } } },
	{ "move", { RIGHT, IDLE },
	  { { PLUG_ALL, { { 1, 0 } }, { 0 }, 1 },
	    { UNPLUG_ANYWHERE, { { 0, 0 } }, { 0 }, 1 } } },
};

#define PAIRS (sizeof(pairs) / sizeof(pairs[0]))

/* How both ended, when one came after the other. */
struct end {
	struct machine machine;
	bool done[CALLERS];
};

struct duel {
	const struct pair *pair;
	struct machine start;
	struct scene scenes[CALLERS];
	struct end ends[CALLERS]; /* by who was first */
	unsigned int operations[CALLERS]; /* of each, when it was first */
};

static struct ibh_pci pci_of(struct spot spot)
{
	struct ibh_pci pci = { 0 };

	ibh_parse_pci(machine_address(spot.pf, spot.vf), ADDRESS - 1, &pci);
	return pci;
}

static void set_up(struct duel *duel, enum setting setting)
{
	unsigned int i, n;

	for (i = 0; i < CALLERS; i++) {
		const struct part *part = &duel->pair->parts[i];
		struct scene *scene = &duel->scenes[i];

		/* VF 0 of both PFs, in the layout that has these. */
		*scene = (struct scene){
			.setting = setting, .layout = 2, .act = part->act,
			.states = { duel->pair->states[1],
				    duel->pair->states[0] },
		};
		scene_make(scene);
		duel->start = scene->start;
		scene->count = part->count;
		for (n = 0; n < part->count; n++) {
			scene->spots[n] = part->spots[n];
			scene->vifs[n].pci = pci_of(part->spots[n]);
			/* The layout names the second PF first. */
			scene_name(scene, n,
				   part->guids[n] < 2 ? !part->guids[n] :
							part->guids[n]);
		}
	}
}

static void work(struct caller *caller)
{
	trial_run(caller->about, caller->number);
}

static void begin(struct scripted *system, const struct duel *duel,
		  struct trial trials[CALLERS])
{
	unsigned int i;

	scripted_reset(system);
	system->machine = duel->start;
	for (i = 0; i < CALLERS; i++) {
		trials[i] = (struct trial){
			.scene = &duel->scenes[i], .system = system,
			.answer = -1,
		};
		system->callers[i].work = work;
		system->callers[i].about = &trials[i];
	}
}

/* One after the other: what may come of it, and how long it takes. */
static void learn(struct scripted *system, struct duel *duel)
{
	struct trial trials[CALLERS];
	unsigned int first, i;

	for (first = 0; first < CALLERS; first++) {
		struct end *end = &duel->ends[first];

		begin(system, duel, trials);
		trial_run(&trials[first], first);
		duel->operations[first] = system->operations;
		trial_run(&trials[!first], !first);
		for (i = 0; i < CALLERS; i++) {
			end->done[i] = judge_done(&trials[i]);
			trial_clear(&trials[i]);
			trial_close(&trials[i]);
		}
		end->machine = system->machine;
	}
}

static bool is_end(const struct end *end, const struct scripted *system,
		   const struct trial trials[CALLERS])
{
	return judge_same(&end->machine, &system->machine) &&
	       end->done[0] == judge_done(&trials[0]) &&
	       end->done[1] == judge_done(&trials[1]);
}

static bool fight(struct scripted *system, const struct duel *duel,
		  unsigned int first, unsigned int second, bool handover)
{
	struct trial trials[CALLERS];
	unsigned int i, pf, vf;

	begin(system, duel, trials);
	scripted_two(system, first, second, handover);
	if (!is_end(&duel->ends[0], system, trials) &&
	    !is_end(&duel->ends[1], system, trials))
		scripted_wrong(system, "ends as neither order of the two "
			       "does");
	for (pf = 0; pf < PFS; pf++)
		for (vf = 0; vf < VFS; vf++)
			if (duel->start.pfs[pf].vfs[vf].driver == OWN &&
			    system->machine.pfs[pf].vfs[vf].driver != OWN)
				scripted_wrong(system, "VF %u of PF %u is "
					       "left unbound", vf, pf);
	scripted_leftovers(system);
	for (i = 0; i < CALLERS; i++) {
		if (system->trace)
			trial_print(&trials[i]);
		trial_clear(&trials[i]);
		trial_close(&trials[i]);
	}
	return !system->wrong[0];
}

static void tell(const struct scripted *system, const struct duel *duel,
		 enum setting setting, unsigned int first,
		 unsigned int second, bool handover)
{
	static unsigned int told;

	if (told++ < TOLD)
		printf("%s\n  enumerate --only pair:%s:%u:%u:%d:%s\n",
		       system->wrong, setting_names[setting], first, second,
		       handover, duel->pair->name);
}

unsigned long pairs_all(struct scripted *system, bool thorough,
			unsigned long *runs)
{
	static struct duel duel;
	enum setting setting;
	unsigned int i, first, second, step = thorough ? 1 : 3;
	unsigned long failed = 0;
	int handover;

	for (i = 0; i < PAIRS; i++)
		for (setting = 0; setting < SETTINGS; setting++) {
			if (!thorough && setting != i % SETTINGS)
				continue;
			duel.pair = &pairs[i];
			set_up(&duel, setting);
			learn(system, &duel);
			for (first = 0; first <= duel.operations[0];
			     first += step)
				for (second = 0; second <= duel.operations[1];
				     second += step)
					for (handover = 0; handover < 2;
					     handover++) {
						++*runs;
						if (fight(system, &duel, first,
							  second, handover))
							continue;
						failed++;
						tell(system, &duel, setting,
						     first, second, handover);
					}
		}
	return failed;
}

int pairs_only(struct scripted *system, const char *text)
{
	static struct duel duel;
	char name[32], of[32];
	unsigned int first, second, i;
	enum setting setting;
	int handover;

	if (sscanf(text, "pair:%31[^:]:%u:%u:%d:%31s", of, &first, &second,
		   &handover, name) != 5)
		return 2;
	for (setting = 0; setting < SETTINGS; setting++)
		for (i = 0; i < PAIRS; i++) {
			if (strcmp(setting_names[setting], of) ||
			    strcmp(pairs[i].name, name))
				continue;
			duel.pair = &pairs[i];
			set_up(&duel, setting);
			system->trace = false;
			learn(system, &duel);
			system->trace = true;
			if (fight(system, &duel, first, second, handover)) {
				printf("as it should be\n");
				return 0;
			}
			tell(system, &duel, setting, first, second, handover);
			return 1;
		}
	return 2;
}
