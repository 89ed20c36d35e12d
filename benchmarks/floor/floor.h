/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the floor share: a request, and its host. */
#ifndef FLOOR_H
#define FLOOR_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include <ibhostdev/guid.h>
#include <ibhostdev/pci.h>

#include "rtnetlink.h"
#include "sysfs.h"

#define MAX_PFS 16
#define MAX_VFS 128
#define MAX_BATCH (MAX_PFS * MAX_VFS)
#define DEVICES "/sys/bus/pci/devices/"

enum { NETLINK, FILES, MLX4 };
enum { FOLLOW, UP, DOWN };
extern const char *const words[];

struct state {
	uint64_t node, port;
	unsigned int policy;
};

struct item {
	char pci[IBH_PCI_TEXT + 1];
	uint64_t guid;
	struct pf *pf;
	unsigned int index;
	bool needed;
};

struct pf {
	char pci[IBH_PCI_TEXT + 1], ib[32];
	unsigned int domain, rid, offset, stride, numvfs;
	int ifindex, lock;
	bool dump, own[MAX_VFS]; /* those that the host's own driver has */
	struct state now[MAX_VFS];
	uint32_t entry[MAX_VFS]; /* mlx4 */
};

extern struct pf pfs[MAX_PFS];
extern struct item items[MAX_BATCH];
extern unsigned int pf_count, count, mechanism;
extern int sysfs, sock;
extern char pkey[16];

_Noreturn void fail(const char *what, const char *which, long err);
/* Whether it is the address of a VF of a PF, and which then. */
bool is_of(const struct pf *pf, struct ibh_pci pci);
unsigned int vf_of(const struct pf *pf, struct ibh_pci pci);

/* sysfs.c; what goes wrong ends the program */
int get(char *value, size_t size, const char *path);
void set(const char *path, const char *value);
unsigned int get_number(const char *pci, const char *name);
/* The first entry of a directory, "" if there is none. */
void only_entry(const char *path, char *name, size_t size);
uint64_t get_guid(const char *path);
/* The last part of a link's target; false if there is none. */
bool get_base(int folder, const char *path, char *name, size_t size);

/* mechanisms.c */
/* Who has what; `survey` is of all VFs, else only those of the batch. */
void ask(struct pf *pf, bool survey);
void write_pf(struct pf *pf, uint64_t idle);

/* questions.c */
void take_locks(void);
void drop_locks(void);
void who_drives(void);
void still_there(const struct pf *pf);

#endif
