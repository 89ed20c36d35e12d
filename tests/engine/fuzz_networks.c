// SPDX-License-Identifier: Apache-2.0
/*
 * Mappings of physical networks to devices, and VIFs on any: a PF that is not
 * behind a VIF's network is not written to for it, unless an unplug's address
 * leads to its GUID there.
 */
#include "fuzz.h"
#include "cases.h"

#define MOST 6u
#define TEXT 24u

static struct scripted at;
static struct scene scene;
static bool behind[PFS];
static struct ibh_mapping mappings[MOST];
static unsigned int count;

static void watch(struct scripted *system, struct caller *caller,
		  const struct command *command)
{
	unsigned int i;

	(void)caller;
	if (act_unplugs(scene.act)) {
		for (i = 0; i < scene.count; i++)
			if (scene.spots[i].pf == command->pf &&
			    scene.spots[i].vf == command->vf)
				return;
	}
	if (!behind[command->pf])
		scripted_wrong(system, "writes to PF %u, which is not behind "
			       "the network", command->pf);
}

static const char *take_usual(struct input *input, char *text,
			     const char *const *usual, unsigned int number)
{
	unsigned int which = take_below(input, number + 1);

	if (which == number)
		return take_text(input, text, TEXT);
	return usual[which];
}

/* A comment may have any number of quotes. */
static bool pairs(const uint8_t *data, size_t size)
{
	unsigned int single = 0, twofold = 0;
	size_t i;

	for (i = 0; i < size && data[i]; i++) {
		if (data[i] == '#')
			return true;
		single += data[i] == '\'';
		twofold += data[i] == '"';
	}
	return single % 2 == 0 && twofold % 2 == 0;
}

/* What is read from a text has names and fits into its room. */
static void read_text(const uint8_t *data, size_t size)
{
	size_t most = size / IBH_MAPPING_TEXT + 1, found, i;
	struct ibh_mapping *read = calloc(most, sizeof(*read));
	struct ibh_error *error;
	char *text = malloc(size + 1);

	if (read && text) {
		memcpy(text, data, size);
		text[size] = '\0';
		if (ibh_read_mappings(text, NULL, read, &found, &error)) {
			ibh_error_free(error);
			found = 0;
		} else {
			must(pairs(data, size), "a quote alone is taken");
		}
		must(found <= most, "more mappings than there is room for");
		for (i = 0; i < found; i++)
			must(*read[i].network && *read[i].device &&
				     *read[i].network != '-' &&
				     !strpbrk(read[i].network, " ,:;'\"[]"),
			     "what is no name is taken for one");
	}
	free(text);
	free(read);
}

static bool same(const char *given, const char *name)
{
	struct ibh_pci one, other;

	if (!ibh_read_pci(given, strlen(given), &one) &&
	    !ibh_parse_pci(name, strlen(name), &other))
		return one.domain == other.domain && one.rid == other.rid;
	return !strcmp(given, name);
}

/* In plain words, what network_port() of the engine is to find. */
static bool is_behind(unsigned int pf, const char *network)
{
	static const char *const names[PFS][3] = {
		{ "ib0", "0000:3b:00.0", "mlx5_0" },
		{ "ib2", "0000:5e:00.0", "mlx5_1" },
	};
	bool mapped = false;
	unsigned int i, n;

	for (i = 0; i < count; i++) {
		if (strcmp(mappings[i].network, network))
			continue;
		mapped = true;
		for (n = 0; n < 3; n++)
			if (same(mappings[i].device, names[pf][n]))
				return true;
	}
	return !mapped;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const networks[] = { "a", "b", "default", "" };
	static const char *const devices[] = {
		"ib0", "ib2", "0000:3b:00.0", "0000:5e:00.0", "mlx5_0",
		"mlx5_1", "ib9",
	};
	static char texts[2 * MOST + 1][TEXT];
	struct input input = { data, size };
	struct ibh_error *error = NULL;
	struct ibh_batch *batch = NULL;
	struct ibh_host *host;
	const char *network;
	unsigned int i;

	read_text(data, size);
	scene = (struct scene){
		.setting = TWO_STOCK, .layout = 2,
		.act = take_below(&input, 2) ? PLUG_ALL : UNPLUG_ALL,
		.states = { RIGHT, IDLE }, .stray = STRAY_HERE,
	};
	scene_make(&scene);
	count = take_below(&input, MOST + 1);
	for (i = 0; i < count; i++) {
		mappings[i].network = take_usual(&input, texts[2 * i],
						networks, 4);
		mappings[i].device = take_usual(&input, texts[2 * i + 1],
					       devices, 7);
	}
	network = take_usual(&input, texts[2 * MOST], networks, 4);
	for (i = 0; i < PFS; i++)
		behind[i] = is_behind(i, network);
	for (i = 0; i < scene.count; i++)
		scene.vifs[i].network = network;
	scene.options.mappings = mappings;
	scene.options.mapping_count = count;
	scripted_reset(&at);
	at.machine = scene.start;
	at.watch = watch;
	must(!scripted_open(&at, 0, &scene.options, &host), "no host");
	if (scene_call(&scene, &at, host, NULL, &batch, &error))
		ibh_error_free(error);
	else
		ibh_batch_free(batch);
	ibh_host_close(host);
	scripted_leftovers(&at);
	must(!at.wrong[0], at.wrong);
	return 0;
}
