/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A struct io on a machine in memory, with a script of what goes wrong.
 *
 * Operations are the calls of the io's functions, commands what firmware and
 * drivers are told by them; both are counted from 1. A caller stands for a
 * process: it has locks and sockets of its own.
 */
#ifndef SCRIPTED_H
#define SCRIPTED_H

#include <ucontext.h>

#include "../../ibhostdev/_native/engine/batch.h"
#include "machine.h"

#define CALLERS 2u
#define SOCKETS 32u
#define FOLDERS 16u /* that are open */
#define FAULTS 8u

enum fault_kind {
	NO_FAULT,
	OPERATION, /* `at` fails with errno `number` and has no effect */
	LOST, /* send or write `at` does, too, but has its effect */
	COMMAND, /* `at` is refused with errno `number` */
	COMMANDS, /* … and all that follow of its VF */
	REST, /* … and all that follow */
	IGNORED, /* … is acknowledged and has no effect */
	CRASH, /* the caller dies after command `at` */
	STOP, /* how->stop says so when it is asked for the time `at` */
	STRANGER, /* datagram `at` is preceded by somebody else's */
	GARBLED, /* what operation `at` gives is replaced by `bytes` */
	VANISH, /* before the look `at` at a PF's number of VFs it is 0 */
	OVERTAKEN, /* lock `at` was waited for, and `number` happened */
	MEMORY, /* allocation `at` fails */
	GOES, /* before operation `at` PF `number` goes away … */
	COMES, /* … or is back */
	FAULT_KINDS,
};

struct fault {
	enum fault_kind kind;
	unsigned int at;
	int number;
	const unsigned char *bytes;
	size_t len;
};

struct scripted;

struct caller {
	struct scripted *system;
	unsigned int number;
	bool dead; /* whatever it still does has no effect */
	/* of scripted_two() */
	ucontext_t place;
	long budget; /* operations before the other's turn; -1: no end */
	int wants; /* PF whose lock it waits for, or -1 */
	bool finished;
	void (*work)(struct caller *caller);
	void *about; /* whatever `work` needs */
};

struct scripted {
	struct machine machine;
	struct fault faults[FAULTS];
	unsigned int fault_count;
	/* Told of each command before it takes effect. */
	void (*watch)(struct scripted *system, struct caller *caller,
		      const struct command *command);
	/* Told of each lock that is asked for, and how long at most. */
	void (*patience)(struct scripted *system, struct caller *caller,
			 unsigned int pf, uint64_t ms);
	/* Does what happens while a lock is waited for. */
	void (*meanwhile)(struct scripted *system, struct caller *caller,
			  int number);
	bool hostile; /* answers are lies: what follows from them is excused */
	bool trace;

	struct caller callers[CALLERS];
	struct caller *lock_owner[PFS];
	bool changed[PFS]; /* by who has the lock */
	char folders[FOLDERS][PATH_SIZE]; /* "": not open */
	bool open[SOCKETS];
	struct queue *queues; /* [SOCKETS] */
	uint64_t lifetime; /* of callers that are dead */

	unsigned int operations, effects, commands, datagrams, looks, stops;
	unsigned int bindings, locks;
	unsigned int readings; /* of a PF, if it is one */
	bool refusing_vf[PFS][VFS], refusing;
	/* Of several threads at once (threads.c): told when one goes in, and
	 * out again. */
	void (*threads)(bool in);
	pthread_mutex_t mutex;

	ucontext_t scheduler;
	bool two, handover;
	bool vanished; /* a PF's VFs are gone */
	bool misread; /* a read failed: something is not known */
	char wrong[256]; /* the first thing that must not happen */
};

extern const struct io scripted_io;

/* Forgets counts and faults; the machine is the caller's to fill. */
void scripted_reset(struct scripted *system);
void scripted_fault(struct scripted *system, enum fault_kind kind,
		    unsigned int at, int number);
struct ibh_error *scripted_open(struct scripted *system, unsigned int caller,
				const struct ibh_options *options,
				struct ibh_host **host);
void scripted_wrong(struct scripted *system, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* For how->stop; the context is the system. */
int scripted_stop(void *context);
/* A folder that is open, and no longer. */
int scripted_enter(struct scripted *system, const char *path);
void scripted_leave(struct scripted *system, int folder);
/* What is left behind that should not be: locks, sockets, folders. */
void scripted_leftovers(struct scripted *system);
/*
 * Both callers' work, by turns: the first makes `first` operations, then the
 * other `second`, then the first goes on to its end and the other after it.
 * Who waits for a lock lets the other go on; with `handover` it has its turn
 * as soon as the lock is free.
 */
void scripted_two(struct scripted *system, unsigned int first,
		  unsigned int second, bool handover);

/* The fault of a kind that is due at a count; NULL. */
const struct fault *scripted_at(const struct scripted *system,
				enum fault_kind kind, unsigned int at);
/* What becomes of a caller's command; of type execute. */
int scripted_command(void *context, const struct command *command);
/* Until it is this caller's turn again. */
void scripted_yield(struct caller *caller);

/* ---- memory.c ---- */

/* Allocations from here on are counted, and number `fails` (0: none) fails. */
void memory_count(unsigned int fails);
/* … up to here; their number. */
unsigned int memory_counted(void);
/* How many there are that were not freed. */
long memory_held(void);

#endif
