// SPDX-License-Identifier: Apache-2.0
/*
 * Every batch of up to three VFs on two PFs, from every start, with
 * everything that can go wrong at every step: whatever happens, the end is
 * the start, the goal, or reported, and the call repeated reaches the goal.
 *
 *   enumerate short|long    all of it; the number of runs is printed
 *   enumerate --only SCRIPT one run, with all that it does
 */
#include <stdio.h>
#include <time.h>

#include "pairs.h"

#define TOLD 60 /* failures that are printed */

static const char *const fault_names[FAULT_KINDS] = {
	"none", "operation", "lost", "command", "commands", "rest", "ignored",
	"crash", "stop", "stranger", "garbled", "vanish", "overtaken",
	"memory", "goes", "comes",
};

struct script {
	enum fault_kind kind;
	unsigned int at;
	int number;
};

/* What a run came by: where scripts can strike. */
struct extent {
	unsigned int operations, effects, commands, datagrams, looks, stops;
	unsigned int locks, memory;
	bool done;
};

static struct scripted at;
static unsigned long runs, failures, pairs;
static bool full;

/* Whether this was told already: one script for each thing that goes wrong by
 * each fault is enough, and the first is the smallest. */
static bool is_known(const struct scene *scene, const struct script *script)
{
	static char known[TOLD][sizeof(at.wrong) + 32];
	static unsigned int count;
	char key[sizeof(known[0])], *c;
	unsigned int i;

	snprintf(key, sizeof(key), "%s %c%c", at.wrong, 'a' + script->kind,
		 'a' + scene->act);
	for (c = key; *c; c++)
		if (*c >= '0' && *c <= '9')
			*c = '#';
	for (i = 0; i < count; i++)
		if (!strcmp(known[i], key))
			return true;
	if (count == TOLD)
		return true;
	memcpy(known[count++], key, sizeof(key));
	return false;
}

static void tell(const struct scene *scene, const struct script *script,
		 const char *when)
{
	unsigned int i;

	failures++;
	if (is_known(scene, script))
		return;
	printf("%s%s\n  enumerate --only %s:%u:", at.wrong, when,
	       setting_names[scene->setting], scene->layout);
	for (i = 0; i < scene->count; i++)
		printf("%s%s", i ? "," : "", state_names[scene->states[i]]);
	printf(":%s:%s:%s:%u:%d\n", stray_names[scene->stray],
	       act_names[scene->act], fault_names[script->kind], script->at,
	       script->number);
	fflush(stdout);
}

/* BACK begins with a plug, of which it is to make good. */
static bool prepare(const struct scene *scene, struct trial *trial)
{
	struct scene plug = *scene;
	struct trial first = { .scene = &plug, .system = &at };
	unsigned int i;

	trial->origin = at.machine;
	if (scene->act != BACK)
		return true;
	plug.act = PLUG_ALL;
	trial_run(&first, 0);
	trial_close(&first);
	if (!judge_done(&first)) {
		trial_clear(&first);
		return false;
	}
	for (i = 0; i < scene->count; i++)
		trial->states[i] = first.batch->results[i].before;
	trial_clear(&first);
	return true;
}

static void attempt(struct trial *trial, const struct script *script)
{
	scripted_reset(&at);
	scripted_fault(&at, script->kind, script->at, script->number);
	at.watch = judge_command;
	at.meanwhile = judge_meanwhile;
	at.patience = judge_patience;
	if (script->kind == COMES)
		at.machine.pfs[script->number].away = true;
	memory_count(script->kind == MEMORY ? script->at : 0);
	trial_run(trial, 0);
	if (at.trace)
		trial_print(trial);
}

static void again(const struct scene *scene, struct trial *trial,
		  const struct script *script, bool must)
{
	static const struct script none;
	bool repeated = script->kind == NO_FAULT;

	if (at.trace)
		fprintf(stderr, "again:\n");
	attempt(trial, &none);
	memory_counted();
	judge_end(trial);
	trial_close(trial);
	judge_errnos(trial);
	scripted_leftovers(&at);
	if (must && !judge_done(trial) &&
	    !(act_unplugs(scene->act) && scene_blind(scene)))
		scripted_wrong(&at, "the call repeated does not reach the "
			       "goal");
	/* What the subnet manager is to choose is asked for each time. */
	if (must && repeated && at.commands > at.bindings &&
	    !scene_blind(scene) && scene->act != BACK)
		scripted_wrong(&at, "the call repeated writes again");
	if (repeated && at.readings && scene->act != BACK)
		scripted_wrong(&at, "the call repeated reads the PFs again");
	trial_clear(trial);
	if (at.wrong[0])
		tell(scene, script, ", when repeated");
	runs++;
}

/* Whether a PF goes or comes: what can be said of a call meanwhile is little,
 * but nothing of that may stay when the PF is there. */
static bool is_passing(const struct script *script)
{
	return script->kind == GOES || script->kind == COMES;
}

/* Whether somebody was told that memory was out. */
static bool says_so(const struct trial *trial)
{
	size_t i;

	for (i = 0; trial->batch && i < trial->batch->count; i++)
		if (trial->batch->results[i].error &&
		    trial->batch->results[i].error->number == ENOMEM)
			return true;
	return trial->error && trial->error->number == ENOMEM;
}

/* A run, and the call repeated; `must` says that without the fault all was
 * done that was asked for. */
static struct extent run(const struct scene *scene, struct script script,
			 bool must)
{
	struct trial trial = { .scene = scene, .system = &at };
	struct extent extent;
	bool dead;
	long held;

	scripted_reset(&at);
	held = memory_held();
	at.machine = scene->start;
	if (!prepare(scene, &trial))
		return (struct extent){ 0 };
	attempt(&trial, &script);
	extent = (struct extent){
		.operations = at.operations,
		.effects = at.effects,
		.commands = at.commands,
		.datagrams = at.datagrams,
		.looks = at.looks,
		.stops = at.stops,
		.locks = at.locks,
		.memory = memory_counted(),
		.done = judge_done(&trial),
	};
	dead = at.callers[0].dead;
	if (dead) {
		judge_others(&trial);
		trial_close(&trial);
	} else if (script.kind != VANISH && !is_passing(&script)) {
		judge_end(&trial);
	}
	/* Before that a PF may have been left out for want of it. */
	if (script.kind == MEMORY && must && !extent.done &&
	    extent.commands && !says_so(&trial))
		scripted_wrong(&at, "nothing is said of memory");
	judge_errnos(&trial);
	if (at.readings > PFS && script.kind == NO_FAULT)
		scripted_wrong(&at, "asks VFs whether they are PFs");
	scripted_leftovers(&at);
	trial_clear(&trial);
	runs++;
	if (is_passing(&script)) {
		/* All that is left of it is what the host remembers. */
		at.machine = trial.start;
		at.machine.pfs[script.number].away = false;
	}
	if (at.wrong[0])
		tell(scene, &script, "");
	else if (script.kind != VANISH)
		again(scene, &trial, &script,
		      script.kind == NO_FAULT ? extent.done : must);
	trial_close(&trial);
	if (memory_held() != held && !at.wrong[0]) {
		scripted_wrong(&at, "keeps memory when it is over");
		tell(scene, &script, "");
	}
	return extent;
}

/* Every place of one kind of fault. */
static void everywhere(const struct scene *scene, enum fault_kind kind,
		       unsigned int count, int number, bool must)
{
	unsigned int i;

	for (i = 1; i <= count; i++)
		run(scene, (struct script){ kind, i, number }, must);
}

static bool is_plain(enum state state)
{
	return state == IDLE || state == RIGHT;
}

static void all_faults(const struct scene *scene, bool thorough)
{
	struct extent extent = run(scene, (struct script){ 0 }, false);
	bool must = extent.done;
	unsigned int pf;

	everywhere(scene, COMMAND, extent.commands, EIO, must);
	everywhere(scene, CRASH, extent.commands, 0, must);
	everywhere(scene, COMMANDS, extent.commands, EIO, must);
	everywhere(scene, REST, extent.commands, ETIMEDOUT, must);
	/* Elsewhere what is shown is the driver's memory, and a GUID that the
	 * subnet manager chooses can be any. */
	if (scene->setting == TWO_OFED ||
	    ((scene->setting == TWO_CX3 || scene->setting == CX3_PKEYS) &&
	     scene->act != BACK))
		everywhere(scene, IGNORED, extent.commands, 0, must);
	everywhere(scene, OVERTAKEN, extent.locks, GUEST_TAKES, false);
	everywhere(scene, OVERTAKEN, extent.locks, VFS_GO, false);
	if (!thorough)
		return;
	everywhere(scene, COMMAND, extent.commands, ETIMEDOUT, must);
	everywhere(scene, OPERATION, extent.operations, EIO, must);
	/* What a network device answers that goes away. */
	everywhere(scene, OPERATION, extent.operations, EINVAL, must);
	/* Of a PF the same is remembered in whatever state its VFs are. */
	for (pf = 0; pf < PFS && is_plain(scene->states[0]); pf++) {
		everywhere(scene, GOES, extent.operations, (int)pf, must);
		everywhere(scene, COMES, extent.operations, (int)pf, must);
	}
	everywhere(scene, LOST, extent.effects, ENOBUFS, must);
	everywhere(scene, STOP, extent.stops, 0, must);
	everywhere(scene, STRANGER, extent.datagrams, 0, must);
	everywhere(scene, VANISH, extent.looks, 0, must);
	everywhere(scene, MEMORY, extent.memory, 0, must);
}

/* ---- what is enumerated ------------------------------------------------ */

/* Idle, right, half right, another's, a guest's, unknown; mlx4: without its
 * P_Key. */
static bool is_few(const struct scene *scene, enum state state)
{
	switch (state) {
	case LOW:
		return scene_partitions(scene);
	case IDLE:
	case RIGHT:
	case HALF_NODE:
	case OTHERS:
	case GUEST_OTHERS:
	case UNKNOWN:
		return true;
	default:
		return false;
	}
}

/* What a scene gets: nothing, the faults of commands, or all. */
static enum { NOTHING, COMMANDS_ONLY, ALL_FAULTS } share_of(
	const struct scene *scene)
{
	unsigned int i, rare = 0, count = layout_count(scene->layout);
	bool common = scene->act == PLUG_ALL || scene->act == UNPLUG_ALL;
	bool lonely = scene->stray == NO_STRAY;

	for (i = 0; i < count; i++) {
		/* A GUID that goes to another, or comes back from there. */
		bool next = (scene->act == BACK || scene->act == PLUG_ALL) &&
			    scene->states[i] == NEXT;
		bool anew = scene->act == PLUG_ANEW &&
			    (scene->states[i] == GUEST_FRESH ||
			     scene->states[i] == GUEST_UNKNOWN);

		rare += !is_few(scene, scene->states[i]) && !next && !anew;
		common |= next && count == 2;
	}
	if (full) {
		if (count == 1 || (count == 2 && !rare && lonely))
			return ALL_FAULTS;
		return count + rare < 4 || (count == 2 && lonely) ?
			       COMMANDS_ONLY :
			       NOTHING;
	}
	if (!common && (count > 1 || rare || scene->layout))
		return NOTHING;
	if (count == 1)
		return scene->layout ? NOTHING :
		       common && !rare && lonely ? ALL_FAULTS : COMMANDS_ONLY;
	/* Of another fabric the same GUID is somebody else's. */
	if (scene->setting == TWO_FABRICS && scene->stray == STRAY_THERE)
		lonely = true;
	if (rare || !lonely)
		return NOTHING;
	return count == 2 || (scene->layout == 4 &&
			      scene->act == PLUG_ALL &&
			      (scene->setting == NO_NETDEV ||
			       scene->setting == TWO_CX3 ||
			       scene->setting == CX3_PKEYS)) ?
		       COMMANDS_ONLY :
		       NOTHING;
}

static void with_states(struct scene *scene)
{
	unsigned int count = layout_count(scene->layout);
	enum state s[BATCH];

	for (s[0] = 0; s[0] < STATES; s[0]++)
		for (s[1] = 0; s[1] < (count > 1 ? STATES : 1); s[1]++)
			for (s[2] = 0; s[2] < (count > 2 ? STATES : 1);
			     s[2]++) {
				memcpy(scene->states, s, sizeof(s));
				if (!scene_possible(scene->setting,
						    scene->layout, s) ||
				    share_of(scene) == NOTHING)
					continue;
				scene_make(scene);
				all_faults(scene,
					   share_of(scene) == ALL_FAULTS);
			}
}

/* The small before the large, so that what fails first is short. */
static void everything(void)
{
	struct scene scene = { 0 };

	for (scene.layout = 0; scene.layout < LAYOUTS; scene.layout++)
		for (scene.setting = 0; scene.setting < SETTINGS;
		     scene.setting++)
			for (scene.act = 0; scene.act < ACTS; scene.act++)
				for (scene.stray = 0; scene.stray < STRAYS;
				     scene.stray++)
					with_states(&scene);
	failures += pairs_all(&at, full, &pairs);
	runs += pairs;
}

/* ---- one --------------------------------------------------------------- */

static int named(const char **text, const char *const *names, unsigned int end,
		 unsigned int *number)
{
	size_t len = strcspn(*text, ":,");

	for (*number = 0; *number < end; (*number)++)
		if (strlen(names[*number]) == len &&
		    !memcmp(names[*number], *text, len))
			break;
	*text += len + ((*text)[len] != '\0');
	return *number < end;
}

static int only(const char *text)
{
	static struct scene scene;
	struct script script = { 0 };
	unsigned int number, i;
	char *end;

	at.trace = true;
	if (!strncmp(text, "pair:", 5))
		return pairs_only(&at, text);
	if (!named(&text, setting_names, SETTINGS, &number))
		return 2;
	scene.setting = number;
	scene.layout = (unsigned int)strtoul(text, &end, 10);
	if (scene.layout >= LAYOUTS || *end != ':')
		return 2;
	text = end + 1;
	for (i = 0; i < layout_count(scene.layout); i++) {
		if (!named(&text, state_names, STATES, &number))
			return 2;
		scene.states[i] = number;
	}
	if (!named(&text, stray_names, STRAYS, &number))
		return 2;
	scene.stray = number;
	if (!named(&text, act_names, ACTS, &number))
		return 2;
	scene.act = number;
	if (!named(&text, fault_names, FAULT_KINDS, &number))
		return 2;
	script.kind = number;
	if (sscanf(text, "%u:%d", &script.at, &script.number) != 2)
		return 2;
	scene_make(&scene);
	run(&scene, script, false);
	printf("%s\n", failures ? "failed" : "as it should be");
	return failures != 0;
}

int main(int argc, char **argv)
{
	struct timespec begin, end;

	if (argc == 3 && !strcmp(argv[1], "--only"))
		return only(argv[2]);
	if (argc != 2 ||
	    (strcmp(argv[1], "short") && strcmp(argv[1], "long"))) {
		fprintf(stderr, "Usage: enumerate short|long|--only SCRIPT\n");
		return 2;
	}
	full = !strcmp(argv[1], "long");
	clock_gettime(CLOCK_MONOTONIC, &begin);
	everything();
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%lu runs, %lu failed, %.1f s; %lu of them by two callers\n",
	       runs, failures,
	       (double)(end.tv_sec - begin.tv_sec) +
		       (double)(end.tv_nsec - begin.tv_nsec) / 1e9,
	       pairs);
	return failures != 0;
}
