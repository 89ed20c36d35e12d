/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors as values, and text that is fit to be shown.
 *
 * Functions that can fail return NULL or 0 for success and else the error,
 * which then is the caller's; or an errno, negative, where it is a system
 * call's. An error may be the one that stands for "no memory"; it is freed
 * as any other.
 */
#ifndef IBHOSTDEV_ENGINE_ERROR_H
#define IBHOSTDEV_ENGINE_ERROR_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "ibhostdev/engine.h"

/* ---- error.c ----------------------------------------------------------- */

/* What is said of an error; words.c has the words. {1} … {3} in them are
 * the arguments of fail(). */
enum text {
	/* an errno's; kind and cure are those of the errno */
	T_REFUSED,
	T_UNREADABLE,
	T_STATE_UNREADABLE,
	T_UNLISTED,
	T_NO_NUMBER, /* {1} value */
	T_TOO_MANY, /* {1} value */
	T_NO_LOCK,
	T_LOCK_DENIED, /* {1} folder, {2} how to get the rights */
	T_LOCK_HELD, /* {1} seconds */
	T_LOCK_FOLDER, /* {1} folder */
	T_LOCK_READ_ONLY, /* {1} folder */
	T_NO_HOST, /* the sysfs root */
	/* bad input */
	T_NO_IDENTITY, /* {1} GUID, {2} what it is */
	T_NO_VF_NAMED, /* {1} GUID */
	T_GUID_TWICE, /* {1} GUID, {2} whose else */
	T_VF_TWICE, /* {1} for whom */
	T_NO_POLICY, /* {1} policy */
	T_FOREIGN_POLICY, /* {1} policy */
	T_ONE_GUID, /* {1} mechanism */
	T_PF_HAS, /* {1} GUID, {2} PF */
	T_NO_PARTITION, /* {1} P_Key */
	T_FOREIGN_PKEY, /* {1} P_Key */
	T_NO_MAPPING, /* {1} what stands there */
	T_UNPAIRED, /* {1} where */
	T_AUTO_DEVICE, /* {1} mapping, {2} device */
	T_NO_NAME, /* {1} name */
	T_NETWORK_UNMAPPED, /* {1} network, {2} those that are */
	/* what an address leads to */
	T_NO_VF_GIVEN,
	T_NO_DEVICE,
	T_NO_PHYSFN, /* {1} what it is */
	T_NO_IB_PORT, /* {1} PF */
	T_ELSEWHERE,
	T_NOT_ENABLED, /* {1} numvfs, {2} PF */
	T_NOT_LISTED, /* {1} PF, {2} index */
	T_NO_SUCH_PORT, /* {1} port */
	T_NOT_HERE, /* {1} network, {2} device, {3} those that are */
	T_OTHER_NETWORK, /* {1} PF, {2} network, {3} its devices */
	T_NO_MECHANISM, /* {1} why not */
	T_NOT_FORCED, /* {1} why not */
	T_NO_TRAFFIC, /* {1} why not */
	T_MUCH_TRAFFIC,
	/* whose it is */
	T_GUEST_HAS, /* {1} GUID */
	T_GUEST_HAS_HOLDER, /* {1} GUID, {2} VF */
	T_GUEST_HAS_GUID, /* {1} GUID */
	T_GUEST_HAS_UNTOLD,
	T_GIVEN_MEANWHILE, /* {1} GUID */
	T_TAKEN_MEANWHILE,
	T_NOT_ITS, /* {1} GUID */
	T_UNTOLD, /* the driver cannot tell */
	T_LINK_UP, /* and nothing tells with which GUID */
	T_VANISHED,
	T_GONE, /* {1} PF, {2} numvfs */
	/* writing and reading back */
	T_NO_ENTRY,
	T_NO_CONSENT, /* {1} seconds */
	T_NO_PKEY, /* {1} P_Key, {2} seconds, {3} what is there instead */
	T_NO_GUID, /* {1} value, {2} driver */
	T_DIFFERS, /* {1} what, {2} seen, {3} wanted */
	T_NOTHING_SET,
	T_ROLLED_BACK, /* {1} cause */
	T_LEFT_ALONE, /* {1} cause */
	T_LEFT_TO_FOREIGN,
	T_NOT_PUT_BACK, /* {1} trouble, {2} cause */
	/* binding anew */
	T_NO_LONGER_VF, /* {1} PF */
	T_NOT_BOUND, /* {1} driver, {2} VF */
	T_NOT_UNBOUND, /* likewise */
	/* making VFs, and giving them drivers */
	T_VFS_KEPT, /* {1} wanted, {2} there, {3} VF */
	T_VFS_LENT, /* likewise */
	T_NOT_MADE, /* {1} number of VFs */
	T_NOT_SHOWN, /* {1} seen, {2} wanted, {3} seconds */
	T_GUEST_DRIVES, /* {1} driver */
	T_DRIVES_LENT, /* likewise */
	T_NO_DRIVER, /* {1} driver */
	T_NOT_DRIVEN, /* {1} driver */
	T_NOT_RELEASED, /* {1} driver */
	T_OTHER_DRIVER, /* {1} seen, {2} wanted */
	T_NO_SERVER,
	T_MEMORY,
	T_LAST,
};

/* In place of a kind: what the errno means. */
#define BY_ERRNO IBH_OTHER

/* words.c */
struct words {
	enum ibh_kind kind;
	const char *message, *cure;
};
extern const struct words error_words[T_LAST];
/* What an errno means by itself; the cure may be NULL. */
const char *usual_cure(int number);
enum ibh_kind usual_kind(int number);

/* A new error; `args` are the {1} …, each may be NULL. `number` is an errno,
 * positive or negative, or 0. */
struct ibh_error *fail(enum text what, const char *device,
		       const char *attribute, int number, const char *arg1,
		       const char *arg2, const char *arg3);
/* The same kind of error about another device, with `prefix` in front of
 * its message; frees the old one. */
struct ibh_error *error_of(struct ibh_error *error, const char *device,
			   const char *attribute);
struct ibh_error *error_copy(const struct ibh_error *error);

/* ---- text.c ------------------------------------------------------------ */

/* Text with what could move a terminal's cursor taken out. */
void printable(char *text);
/* snprintf() whose result, cut, is whole: -1 never, NUL always. */
void format(char *text, size_t size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
