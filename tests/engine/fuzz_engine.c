// SPDX-License-Identifier: Apache-2.0
/*
 * Batches of any kind on the scripted host, with several faults each. Where
 * all that it is told is true, what judge.c says must hold; where answers are
 * lies or the VIFs are odd, it must neither break nor leave anything, nor
 * write beyond what it may.
 */
#include "fuzz.h"
#include "judge.h"

static struct scripted at;
static struct scene scene;
static bool odd; /* VIFs that no scene has */

/* Even for lies: no PF, no index beyond, no file but the identities'. */
static void watch_odd(struct scripted *system, struct caller *caller,
		      const struct command *command)
{
	const struct trial *trial = caller->about;

	if (act_is_dry(trial->scene->act))
		scripted_wrong(system, "writes though it is only to look");
	if (!system->hostile && trial->start.pfs[command->pf]
					.vfs[command->vf].open &&
	    (act_unplugs(trial->scene->act) || command->kind == UNBIND))
		scripted_wrong(system, "takes from a guest");
}

/* Operations and allocations are many, commands few. */
static unsigned int place_of_fault(enum fault_kind kind, unsigned int last)
{
	return kind == OPERATION || kind == GARBLED || kind == MEMORY ?
		       last :
		       1 + last % 16;
}

static void take_faults(struct input *input)
{
	static const int numbers[] = {
		EIO, EPERM, EBUSY, EINVAL, ENOMEM, EAGAIN, ETIMEDOUT,
		EOPNOTSUPP, ENOBUFS,
	};
	unsigned int count = take_below(input, FAULTS), last = 0;
	unsigned int allocation = 0;

	while (count--) {
		enum fault_kind kind = 1 + take_below(input, MEMORY);
		struct fault *fault = &at.faults[at.fault_count++];
		struct input bytes = { NULL, 0 };
		unsigned int number;

		/* Elsewhere nothing shows that it had no effect. */
		if (kind == IGNORED && scene.setting != TWO_OFED)
			kind = COMMAND;
		last += 1 + take_below(input, 100);
		number = take_below(input, sizeof(numbers) / sizeof(int));
		if (kind == GARBLED)
			bytes = take_bytes(input);
		*fault = (struct fault){
			.kind = kind,
			.at = place_of_fault(kind, last),
			.number = kind == OVERTAKEN ? (int)number % MEANWHILE :
						      numbers[number],
			.bytes = bytes.data,
			.len = bytes.left,
		};
		at.hostile |= kind == GARBLED;
		if (kind == MEMORY)
			allocation = fault->at;
	}
	memory_count(allocation);
}

static void take_scene(struct input *input)
{
	unsigned int i;

	scene = (struct scene){
		.setting = take_below(input, SETTINGS),
		.layout = take_below(input, LAYOUTS),
		.act = take_below(input, ACTS),
		.stray = take_below(input, STRAYS),
	};
	/* What there is to put back is known to judge.c only from a plug. */
	if (scene.act == BACK)
		scene.act = PLUG_ALL;
	do
		for (i = 0; i < BATCH; i++)
			scene.states[i] = take_below(input, STATES);
	while (input->left && !scene_possible(scene.setting, scene.layout,
					      scene.states));
	if (!scene_possible(scene.setting, scene.layout, scene.states))
		memset(scene.states, 0, sizeof(scene.states));
	scene_make(&scene);
	odd = take_below(input, 4) == 0;
	for (i = 0; odd && i < scene.count; i++) {
		struct ibh_vif *vif = &scene.vifs[i];

		switch (take_below(input, 6)) {
		case 0:
			vif->port_guid = take_number(input, 8);
			break;
		case 1:
			vif->node_guid = take_number(input, 8);
			break;
		case 2:
			vif->node_guid = scene_guid(take_below(input, 4));
			break;
		case 3:
			vif->pci.rid = (uint16_t)take_number(input, 2);
			break;
		case 4:
			vif->has_pci = false;
			break;
		case 5:
			vif->pkey = (uint16_t)take_number(input, 2);
			break;
		}
	}
}

static void show(const struct trial *trial)
{
	unsigned int i;

	fprintf(stderr, "%s, layout %u, %s, stray %s%s%s:",
		setting_names[scene.setting], scene.layout,
		act_names[scene.act], stray_names[scene.stray],
		odd ? ", odd" : "", at.hostile ? ", hostile" : "");
	for (i = 0; i < scene.count; i++)
		fprintf(stderr, " %s", state_names[scene.states[i]]);
	for (i = 0; i < at.fault_count; i++)
		fprintf(stderr, "; fault %d at %u", at.faults[i].kind,
			at.faults[i].at);
	fprintf(stderr, "\n");
	trial_print(trial);
}

static void judge(struct trial *trial)
{
	unsigned int i;

	scripted_leftovers(&at);
	if (at.callers[0].dead) {
		if (!odd && !at.hostile)
			judge_others(trial);
		return;
	}
	must(trial->answer ? trial->error && !trial->batch :
			     !trial->error && trial->batch,
	     "neither an error nor a batch");
	if (!odd && !at.hostile && !at.vanished)
		judge_end(trial);
	for (i = 0; trial->batch && i < trial->batch->count; i++) {
		char text[512];

		if (trial->batch->results[i].error)
			ibh_error_text(trial->batch->results[i].error, text,
				       sizeof(text));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { data, size };
	struct trial trial = { .scene = &scene, .system = &at };
	unsigned int calls;

	at.trace = getenv("TRACE") != NULL;
	take_scene(&input);
	scripted_reset(&at);
	at.machine = scene.start;
	/* The second call meets what the first one left. */
	for (calls = 0; calls < 2; calls++) {
		scripted_reset(&at);
		take_faults(&input);
		at.watch = odd || at.hostile ? watch_odd : judge_command;
		at.meanwhile = judge_meanwhile;
		trial_run(&trial, 0);
		memory_counted();
		if (at.trace)
			show(&trial);
		judge(&trial);
		trial_clear(&trial);
		if (at.wrong[0])
			must(0, at.wrong);
		/* A dead one's successor is another process; and lies are
		 * remembered. */
		if (at.callers[0].dead || at.hostile)
			trial_close(&trial);
	}
	trial_close(&trial);
	return 0;
}
