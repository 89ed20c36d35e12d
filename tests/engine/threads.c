// SPDX-License-Identifier: Apache-2.0
/*
 * One host and eight threads, each with a VF of its own that it plugs, looks
 * at and unplugs while topology changes, and four with a VF of each PF, of
 * which the kernel tells in one dump: for ThreadSanitizer, which is not to
 * see the scripted system, so that what orders the engine's accesses is the
 * engine's own doing.
 */
#include <stdio.h>

#include "cases.h"

#define THREADS (PFS * (VFS - 1))
#define ROUNDS 12u

void AnnotateIgnoreReadsBegin(const char *file, int line) __attribute__((weak));
void AnnotateIgnoreReadsEnd(const char *file, int line) __attribute__((weak));
void AnnotateIgnoreWritesBegin(const char *file, int line)
	__attribute__((weak));
void AnnotateIgnoreWritesEnd(const char *file, int line) __attribute__((weak));
void AnnotateIgnoreSyncBegin(const char *file, int line) __attribute__((weak));
void AnnotateIgnoreSyncEnd(const char *file, int line) __attribute__((weak));

static struct scripted at;
static struct ibh_host *host;
static unsigned int vfs_each; /* of a thread: one, or one of each PF */
static atomic_uint calls, failures;

static void hide(bool hidden)
{
	if (!AnnotateIgnoreSyncBegin)
		return;
	if (hidden) {
		AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
		AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
		AnnotateIgnoreSyncBegin(__FILE__, __LINE__);
	} else {
		AnnotateIgnoreSyncEnd(__FILE__, __LINE__);
		AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
		AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
	}
}

static void expect(bool holds, const char *what, const struct ibh_error *error)
{
	char text[512] = "";

	atomic_fetch_add(&calls, 1);
	if (holds)
		return;
	atomic_fetch_add(&failures, 1);
	if (error)
		ibh_error_text(error, text, sizeof(text));
	fprintf(stderr, "%s: %s\n", what, text);
}

static void batch(bool plug, const struct ibh_vif *vifs, size_t count)
{
	struct ibh_error *error = NULL;
	struct ibh_batch *batch = NULL;
	int answer = plug ? ibh_plug(host, vifs, count, NULL, &batch, &error) :
			    ibh_unplug(host, vifs, count, NULL, &batch,
				       &error);

	expect(!answer && !batch->failed && batch->results[0].changed &&
		      batch->results[0].verified,
	      plug ? "plug" : "unplug",
	      answer ? error : batch->results[0].error);
	if (answer)
		ibh_error_free(error);
	else
		ibh_batch_free(batch);
}

/* Those who do not ask for states have the same PFs as those who do. */
static bool are_whole(const struct ibh_pfs *pfs, bool states)
{
	size_t i;

	for (i = 0; i < pfs->count; i++)
		if (!pfs->pfs[i]->ports[0].guid ||
		    (!strcmp(pfs->pfs[i]->ports[0].state, "unknown")) ==
			    states)
			return false;
	return pfs->count == PFS;
}

/* Shows the VF of a thread as it is to be. */
static void look(unsigned int number, bool plugged)
{
	unsigned int index = number % (VFS - 1);
	struct ibh_state states[VFS];
	struct ibh_error *error = NULL;
	struct ibh_pfs *pfs;
	bool told[VFS], odd = number % 2;

	if (ibh_pfs(host, number == 0, !odd, &pfs, &error)) {
		expect(false, "PFs", error);
		ibh_error_free(error);
		return;
	}
	expect(are_whole(pfs, !odd), "PFs", NULL);
	if (ibh_survey(host, pfs->pfs[number / (VFS - 1)], 1, IBH_NO_CHOICE,
		       &index, 1, states, told, &error)) {
		expect(false, "survey", error);
		ibh_error_free(error);
	} else {
		expect(told[index] &&
			      (states[index].port == scene_guid(number)) ==
				      plugged,
		      "survey", NULL);
	}
	ibh_pfs_free(pfs);
}

/* What topology goes by, and nothing that matters to these VFs. */
static void change_topology(void)
{
	hide(true);
	pthread_mutex_lock(&at.mutex);
	at.machine.pfs[0].autoprobe = !at.machine.pfs[0].autoprobe;
	pthread_mutex_unlock(&at.mutex);
	hide(false);
}

static void *work(void *context)
{
	unsigned int number = (unsigned int)(uintptr_t)context, round, i;
	struct ibh_vif vifs[PFS] = { 0 };

	for (i = 0; i < vfs_each; i++) {
		unsigned int vf = number + i * (VFS - 1);

		vifs[i].has_pci = true;
		vifs[i].port_guid = scene_guid(vf);
		ibh_parse_pci(machine_address(vf / (VFS - 1), vf % (VFS - 1)),
			      ADDRESS - 1, &vifs[i].pci);
	}
	for (round = 0; round < ROUNDS; round++) {
		batch(true, vifs, vfs_each);
		look(number, true);
		batch(false, vifs, vfs_each);
		look(number, false);
		change_topology();
	}
	return NULL;
}

static void run(enum setting setting, const struct io *io)
{
	static struct scene scene;
	pthread_t threads[THREADS];
	unsigned int i, vf, count;

	vfs_each = setting == LONG_KERNEL ? PFS : 1;
	count = THREADS / vfs_each;
	scene = (struct scene){ .setting = setting };
	scene_make(&scene);
	scripted_reset(&at);
	at.machine = scene.start;
	at.threads = hide;
	/* Nobody's, all of them. */
	for (i = 0; i < PFS; i++)
		for (vf = 0; vf < VFS; vf++)
			at.machine.pfs[i].vfs[vf] = (struct vf){ 0 };
	if (host_new(&scene.options, io, &at.callers[0], &host)) {
		expect(false, "no host", NULL);
		return;
	}
	for (i = 0; i < count; i++)
		if (pthread_create(&threads[i], NULL, work,
				   (void *)(uintptr_t)i)) {
			perror("pthread_create");
			exit(1);
		}
	for (i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	ibh_host_close(host);
	scripted_leftovers(&at);
	if (at.wrong[0])
		expect(false, at.wrong, NULL);
}

int main(void)
{
	static const enum setting settings[] = {
		TWO_STOCK, TWO_OFED, NO_NETDEV, TWO_CX3, LONG_KERNEL,
	};
	struct io io = scripted_io;
	unsigned int i;

	io.at_once = 4;
	pthread_mutex_init(&at.mutex, NULL);
	for (i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		run(settings[i], &io);
	printf("%u calls by %u threads, %u failed\n", calls, THREADS,
	       failures);
	return failures != 0;
}
