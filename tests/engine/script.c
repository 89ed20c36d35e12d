// SPDX-License-Identifier: Apache-2.0
/*
 * What a script says, and callers by turns; see scripted.h.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "scripted.h"

void scripted_wrong(struct scripted *system, const char *format, ...)
{
	va_list args;

	if (system->wrong[0])
		return;
	va_start(args, format);
	vsnprintf(system->wrong, sizeof(system->wrong), format, args);
	va_end(args);
}

void scripted_reset(struct scripted *system)
{
	struct queue *queues = system->queues;
	bool trace = system->trace;
	unsigned int i;

	/* But the contexts, which are large and always set before use. */
	memset(&system->faults, 0, sizeof(system->faults));
	system->fault_count = 0;
	system->watch = NULL;
	system->meanwhile = NULL;
	system->patience = NULL;
	system->threads = NULL;
	system->hostile = false;
	system->trace = trace;
	for (i = 0; i < CALLERS; i++) {
		struct caller *caller = &system->callers[i];

		caller->system = system;
		caller->number = i;
		caller->dead = caller->finished = false;
		caller->budget = -1;
		caller->wants = -1;
	}
	memset(system->lock_owner, 0, sizeof(system->lock_owner));
	memset(system->folders, 0, sizeof(system->folders));
	memset(system->open, 0, sizeof(system->open));
	if (!queues)
		system->queues = calloc(SOCKETS, sizeof(*queues));
	if (!system->queues)
		abort();
	system->lifetime = 0;
	system->operations = system->effects = system->commands = 0;
	system->datagrams = 0;
	system->looks = system->stops = system->bindings = 0;
	system->locks = system->readings = 0;
	memset(system->refusing_vf, 0, sizeof(system->refusing_vf));
	system->refusing = system->two = system->handover = false;
	system->vanished = system->misread = false;
	system->wrong[0] = '\0';
}

void scripted_fault(struct scripted *system, enum fault_kind kind,
		    unsigned int at, int number)
{
	if (kind != NO_FAULT && system->fault_count < FAULTS)
		system->faults[system->fault_count++] = (struct fault){
			.kind = kind, .at = at, .number = number,
		};
}

const struct fault *scripted_at(const struct scripted *system,
				    enum fault_kind kind, unsigned int at)
{
	unsigned int i;

	for (i = 0; i < system->fault_count; i++)
		if (system->faults[i].kind == kind &&
		    system->faults[i].at == at)
			return &system->faults[i];
	return NULL;
}

/* ---- commands --------------------------------------------------------- */

/* What must not happen, whoever calls. */
static void look_at(struct scripted *system, const struct caller *caller,
		    const struct command *command)
{
	unsigned int vfs = system->machine.pfs[command->pf].numvfs;
	const struct caller *owner = system->lock_owner[command->pf];
	bool own = system->threads ? owner != NULL : owner == caller;

	if (command->vf >= vfs && !system->hostile)
		scripted_wrong(system, "writes to VF %u of PF %u, which has %u",
			       command->vf, command->pf, vfs);
	if (command->kind == SET_ALIAS && !command->n)
		scripted_wrong(system, "writes to PF %u's own GUID",
			       command->pf);
	/* Binding anew is without locks: it takes long, and is the VF's. */
	if (command->kind == BIND || command->kind == UNBIND) {
		if (owner == caller)
			scripted_wrong(system, "binds a VF of PF %u with its "
				       "lock", command->pf);
	} else if (!own) {
		scripted_wrong(system, "writes to PF %u without its lock",
			       command->pf);
	}
}

/* The errno that a command is refused with, or 0. */
static int refusal_of(struct scripted *system, const struct command *command)
{
	unsigned int at = system->commands;
	bool *refusing = &system->refusing_vf[command->pf][command->vf];
	const struct fault *fault = scripted_at(system, COMMAND, at);

	if (!fault && (fault = scripted_at(system, COMMANDS, at)))
		*refusing = true;
	if (!fault && (fault = scripted_at(system, REST, at)))
		system->refusing = true;
	if (fault)
		return -fault->number;
	return system->refusing || *refusing ? -EIO : 0;
}

static void die(struct caller *caller)
{
	unsigned int pf;

	caller->dead = true;
	for (pf = 0; pf < PFS; pf++)
		if (caller->system->lock_owner[pf] == caller)
			caller->system->lock_owner[pf] = NULL;
}

int scripted_command(void *context, const struct command *command)
{
	struct caller *caller = context;
	struct scripted *system = caller->system;
	unsigned int at = ++system->commands;
	int err;

	if (system->trace)
		fprintf(stderr, "%u      command %u: kind %d PF %u VF %u "
			"%d = %llx\n", caller->number, at, command->kind,
			command->pf, command->vf, command->what,
			(unsigned long long)command->value);
	if (caller->dead)
		return -EIO;
	system->bindings += command->kind == BIND || command->kind == UNBIND;
	look_at(system, caller, command);
	if (command->vf >= VFS)
		return -EINVAL;
	if (system->watch)
		system->watch(system, caller, command);
	err = refusal_of(system, command);
	if (err)
		return err;
	if (scripted_at(system, IGNORED, at) &&
	    (command->kind == SET_VPORT || command->kind == SET_ALIAS ||
	     (command->kind == SET_PKEY && command->n == 0)))
		return 0;
	err = machine_apply(&system->machine, command);
	if (command->kind != BIND && command->kind != UNBIND)
		system->changed[command->pf] |=
			system->lock_owner[command->pf] == caller;
	if (scripted_at(system, CRASH, at))
		die(caller);
	return err;
}

/* ---- turns ------------------------------------------------------------- */

void scripted_yield(struct caller *caller)
{
	swapcontext(&caller->place, &caller->system->scheduler);
}

static void begin_work(unsigned int high, unsigned int low)
{
	struct caller *caller = (struct caller *)((uintptr_t)high << 32 | low);

	caller->work(caller);
	caller->finished = true;
	scripted_yield(caller);
}

static bool can_go(const struct scripted *system, const struct caller *caller)
{
	return !caller->finished &&
	       (caller->wants < 0 || !system->lock_owner[caller->wants]);
}

static void take_turns(struct scripted *system)
{
	struct caller *at = &system->callers[0];

	while (!system->callers[0].finished || !system->callers[1].finished) {
		struct caller *other = &system->callers[!at->number];

		swapcontext(&system->scheduler, &at->place);
		if (can_go(system, other)) {
			at = other;
		} else if (!can_go(system, at)) {
			at = at->finished ? other : at;
			if (at->finished)
				break;
			scripted_wrong(system, "waits for a lock that is "
				       "never given back");
			at->dead = true;
		}
	}
}

static void make_ready(struct caller *caller, unsigned int budget)
{
	static _Alignas(64) char stacks[CALLERS][512 << 10];
	uintptr_t address = (uintptr_t)caller;

	getcontext(&caller->place);
	caller->place.uc_stack.ss_sp = stacks[caller->number];
	caller->place.uc_stack.ss_size = sizeof(stacks[0]);
	caller->place.uc_link = NULL;
	caller->budget = budget;
	makecontext(&caller->place, (void (*)(void))begin_work, 2,
		    (unsigned int)(address >> 32), (unsigned int)address);
}

void scripted_two(struct scripted *system, unsigned int first,
		  unsigned int second, bool handover)
{
	system->two = true;
	system->handover = handover;
	make_ready(&system->callers[0], first);
	make_ready(&system->callers[1], second);
	take_turns(system);
	system->two = false;
}

/* ---- a caller -------------------------------------------------------- */

struct ibh_error *scripted_open(struct scripted *system, unsigned int caller,
				const struct ibh_options *options,
				struct ibh_host **host)
{
	return host_new(options, &scripted_io, &system->callers[caller],
			host);
}

int scripted_stop(void *context)
{
	struct scripted *system = context;

	return scripted_at(system, STOP, ++system->stops) != NULL;
}

int scripted_enter(struct scripted *system, const char *path)
{
	int folder = 0;

	while (folder < (int)FOLDERS && *system->folders[folder])
		folder++;
	if (folder == (int)FOLDERS)
		return -EMFILE;
	snprintf(system->folders[folder], PATH_SIZE, "%s/", path);
	return folder;
}

void scripted_leave(struct scripted *system, int folder)
{
	if (folder < 0 || folder >= (int)FOLDERS || !*system->folders[folder])
		scripted_wrong(system, "leaves no folder");
	else
		*system->folders[folder] = '\0';
}

void scripted_leftovers(struct scripted *system)
{
	unsigned int i;

	for (i = 0; i < PFS; i++)
		if (system->lock_owner[i])
			scripted_wrong(system, "leaves PF %u locked", i);
	for (i = 0; i < SOCKETS; i++)
		if (system->open[i])
			scripted_wrong(system, "leaves a socket open");
	for (i = 0; i < FOLDERS; i++)
		if (*system->folders[i])
			scripted_wrong(system, "leaves a folder open");
}
