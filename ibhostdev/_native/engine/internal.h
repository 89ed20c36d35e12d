/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the engine share. From the bottom up:
 *
 *   text.c        text that fits, and is fit to be shown
 *   error.c       errors as values, and the words of all of them
 *   system.c      struct io on the real system: sysfs, netlink sockets
 *   simulated.c   the same where a process stands in for the kernel
 *   lock.c        the locks of PFs, first come, first served
 *   parallel.c    work that waits for the kernel, in threads
 *   host.c        a host, opened and closed
 *   pf.c          a PF
 *   topology.c    which PFs there are
 *   vf.c          which VFs there are, who drives them (paths: path.h)
 *   network.c     physical networks
 *   netlink_ask.c, netlink_set.c
 *                 rtnetlink requests about VFs (messages: rtnetlink.h)
 *   mlx5_netlink.c, mlx5_sysfs.c, mlx4_sysfs.c, foreign.c
 *                 a mechanism each; mlx4_pkeys.c: P_Keys (both: mlx4.h)
 *   choose.c      which mechanism serves a PF
 *   traffic.c     what VFs have sent and received
 *   check.c, resolve.c, hold.c, plan.c, plug.c, unplug.c, restore.c, adjust.c,
 *   apply.c, verify.c, undo.c, rebind.c
 *                 the steps of a batch
 *   run.c         all of them, in their order
 *   report.c      what became of a batch
 *   make.c        VFs made
 *   drive.c       VFs given to drivers
 *
 * Functions that can fail return NULL or 0 for success and else the error,
 * which then is the caller's; or an errno, negative, where it is a system
 * call's. An error may be the one that stands for "no memory"; it is freed
 * as any other.
 */
#ifndef IBHOSTDEV_INTERNAL_H
#define IBHOSTDEV_INTERNAL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "ibhostdev/engine.h"

#define DEVICES "bus/pci/devices"
#define DRIVERS "bus/pci/drivers"
#define RUN_DIR "/run/ibhostdev" /* of the locks */
#define PATH_SIZE 256 /* below the sysfs root; longer leads to nothing */
#define VALUE_SIZE 4097 /* a page and a byte: what fills it is no attribute */
#define SHORT_VALUE 64 /* of the attributes that are read by the hundred */

/* ---- error.c ----------------------------------------------------------- */

/* What is said of an error; error.c has the words. {1} … {3} in them are
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

/* ---- what is asked of the system --------------------------------------- */

typedef int (*take_name)(const char *name, void *context);

struct waiting; /* a lock's time limit, and whether to stop */

/*
 * All that the engine asks of a system. Paths are relative to the sysfs
 * root. Results are lengths or 0, or negative errnos. Functions may be called
 * by several threads at once.
 */
struct io {
	/* What to do for want of rights to the folder of the locks. */
	const char *no_rights;
	/* How many threads of one call may be in these functions. */
	unsigned int at_once;
	/* One read(); EMSGSIZE if it fills the buffer. The value loses its
	 * newline and gets a NUL. */
	ssize_t (*read)(void *context, const char *path, char *value,
			size_t size);
	/* The target of a symbolic link, with a NUL. */
	ssize_t (*link)(void *context, const char *path, char *target,
			size_t size);
	/* Every name in a directory but . and .., in no order, until `take`
	 * returns other than 0, which then is the result. */
	int (*list)(void *context, const char *path, take_name take,
		    void *taker);
	/* One write(). */
	int (*write)(void *context, const char *path, const char *value,
		     size_t len);
	/* Index and bus address of a network device, as netlink reaches it:
	 * sysfs may show another namespace. */
	int (*identify)(void *context, const char *netdev, int *ifindex,
			char bus[32]);
	/* A netlink socket. A message may hold several requests; receiving
	 * gives one datagram (0: not from whom was asked), or EMSGSIZE with
	 * *need set if it does not fit, which loses it, and waits for it 70 s
	 * at most (ETIMEDOUT). */
	int (*open)(void *context);
	int (*send)(void *context, int socket, const void *data, size_t len);
	ssize_t (*receive)(void *context, int socket, void *data, size_t size,
			   size_t *need);
	/* As many datagrams as are there, `count` at most: it waits for the
	 * first. Each goes to data + i * size, what is longer is cut, and its
	 * length to lengths[i], 0 if it is not from whom was asked. Their
	 * number. */
	int (*receive_many)(void *context, int socket, void *data, size_t size,
			    unsigned int count, size_t *lengths);
	void (*close)(void *context, int socket);
	/* The lock of a name, as a handle; *waited says whether it had to be
	 * waited for. EINTR if waiting->stop said so. */
	int (*lock)(void *context, const char *name, struct waiting *waiting,
		    bool *waited);
	/* `changed` tells whoever watches that something was written. */
	void (*unlock)(void *context, int handle, bool changed);
	uint64_t (*now)(void *context); /* ms, monotonic */
	void (*sleep)(void *context, unsigned int ms);
	void (*done)(void *context); /* frees it */
};

struct waiting {
	uint64_t deadline; /* as io->now counts */
	int (*stop)(void *context); /* may be NULL */
	void *context;
};

/* The real one, and one that is served by a process (options->sysfs_port).
 * *context is given to all functions. */
struct ibh_error *system_open(const struct ibh_options *options,
			      const struct io **io, void **context);
struct ibh_error *simulated_open(const struct ibh_options *options,
				 const struct io **io, void **context);

/* lock.c: a lock file in an open folder; as io->lock. */
int lock_take(int folder, const char *name, struct waiting *waiting,
	      bool *waited);
void lock_drop(int handle);
/* Tells who watches the folder; see lock.c. */
void lock_mark(int handle);
/* Why the lock of a name could not be had, from the errno of io->lock, which
 * had so long. */
struct ibh_error *lock_error(const struct ibh_host *host, const char *name,
			     int err, unsigned int waited_ms);

/* ---- parallel.c -------------------------------------------------------- */

/* work(context, i) for all i below count, in up to `at_once` threads, the
 * calling one among them: it is the only one where no other can be had. All
 * of it has ended when this returns. */
void each(size_t count, unsigned int at_once,
	  void (*work)(void *context, size_t i), void *context);

/* ---- host.c ------------------------------------------------------------ */

struct topology;
struct side;
struct change;

/* What is known of a network device's netlink; by its ifindex. */
struct habit {
	int ifindex;
	bool dumped; /* the kernel tells of its VFs only in a dump */
	bool shown; /* the kernel tells GUIDs: since 5.5, and backported */
	bool unusable; /* what it says; the VFs' files were read instead */
};

#define MAX_HABITS 64
#define MAX_SOCKETS 8

struct ibh_host {
	const struct io *io;
	void *context; /* of io */
	char *run_dir; /* for people */
	unsigned int lock_ms, patience_ms;
	struct ibh_mapping *mappings;
	size_t mapping_count;
	bool one_fabric; /* whatever is mapped */
	bool has_foreign;
	struct ibh_foreign foreign;

	pthread_mutex_t mutex; /* of all below */
	struct topology *topology;
	struct habit habits[MAX_HABITS];
	unsigned int habit_count;
	struct idle_socket {
		pthread_t thread; /* that opened it */
		int socket;
	} sockets[MAX_SOCKETS];
	unsigned int socket_count;
	atomic_uint seq; /* of netlink requests */
};

/* A host on another system than this one: for tests. Takes over io's
 * context. */
struct ibh_error *host_new(const struct ibh_options *options,
			   const struct io *io, void *context,
			   struct ibh_host **host);

/* Shorthands for host->io. */
ssize_t host_read(struct ibh_host *host, const char *path, char *value,
		  size_t size);
/* Of a link, the last part of its target. */
ssize_t host_base(struct ibh_host *host, const char *path, char *name,
		  size_t size);
int host_list(struct ibh_host *host, const char *path, take_name take,
	      void *taker);
int host_write(struct ibh_host *host, const char *path, const char *value);
bool host_exists(struct ibh_host *host, const char *path);
/* What cannot be listed may be one. */
bool host_has_folder(struct ibh_host *host, const char *path);
/* The names in a directory, sorted; none where there is no such one. */
struct names {
	size_t count, size;
	char **names;
	bool failed;
};
struct ibh_error *host_names(struct ibh_host *host, const char *path,
			     struct names *names);
void names_free(struct names *names);
/* Summed up they tell the names in a directory from others, in any order. */
uint64_t name_digest(const char *name);
void host_habit(struct ibh_host *host, int ifindex, struct habit *habit);
void host_learn(struct ibh_host *host, const struct habit *habit);
/* A netlink socket to be used by this thread alone, and given back, `good`
 * if nothing is left to come on it. */
int host_socket(struct ibh_host *host);
void host_socket_back(struct ibh_host *host, int socket, bool good);
/* Those that are idle; at the end of a batch. */
void host_sockets_close(struct ibh_host *host);

/* ---- pf.c -------------------------------------------------------------- */

/* What pf_read() came upon: the digest of its network devices' names; whether
 * the kernel had only begun to make the folder of an IB device, so that there
 * may be more to see; and whether it has no InfiniBand port, or fewer network
 * devices than ports, as while its drivers go. */
struct pf_seen {
	uint64_t netdevs;
	bool early, lacks;
};

/* Fills *pf with what a function is that a driver has; *is_one says whether
 * it is a PF with InfiniBand ports. */
struct ibh_error *pf_read(struct ibh_host *host, struct ibh_pci pci,
			  const char *driver, struct ibh_pf *pf, bool *is_one,
			  struct pf_seen *seen);
/* … and this the state of its ports, for which firmware is asked. */
void pf_read_states(struct ibh_host *host, struct ibh_pf *pf);
/* … and this its own GUIDs; false if one of them cannot be read now. */
bool pf_read_guids(struct ibh_host *host, struct ibh_pf *pf);
/* A number below the PF's folder: decimal, or hex as sysfs writes it; an
 * absent file counts as 0. */
struct ibh_error *pf_number(struct ibh_host *host, const struct ibh_pf *pf,
			    const char *file, unsigned int *number);

/* ---- topology.c -------------------------------------------------------- */

/* The PFs as they were at one time; never changed once it is made, but that
 * their GUIDs are read when somebody wants to know. */
struct topology {
	atomic_uint users;
	bool has_guids;
	struct ibh_pfs public;
	struct ibh_pf *pfs;
	/* What the directories' names add up to: class/infiniband, and each
	 * PF's network devices. */
	uint64_t devices, *nets;
	/* Some PF was read too early, or while it changed: what there is of it
	 * may be less than there is now. */
	bool early;
};

/* The PFs, read anew if anything says that they changed or if `anew`. To be
 * given back. */
struct ibh_error *topology_get(struct ibh_host *host, bool anew,
			       struct topology **topology);
void topology_put(struct topology *topology);
/* Reads the PFs' own GUIDs, unless they are known. */
void topology_guids(struct ibh_host *host, struct topology *topology);

/* ---- vf.c -------------------------------------------------------------- */

/* VF `index` of a PF at an address: the index, or -1. */
int vf_index(const struct ibh_pf *pf, struct ibh_pci pci);
void vf_address(const struct ibh_pf *pf, unsigned int index,
		char address[IBH_PCI_TEXT + 1]);
/* false if it is not there (any more). */
bool vf_read(struct ibh_host *host, const struct ibh_pf *pf,
	     unsigned int index, struct ibh_vf *vf);
struct ibh_error *vf_locate(struct ibh_host *host,
			    const struct ibh_pfs *pfs, struct ibh_pci pci,
			    const struct ibh_pf **pf, struct ibh_vf *vf);
/* The node GUID that the VF's own driver on this host took when it was
 * bound, IBH_GUID_IDLE if that was zero, 0 if it shows none. */
uint64_t vf_own_identity(struct ibh_host *host, const struct ibh_vf *vf);
/* Whether a VF has a network device in this namespace, and whether any of a
 * PF has. */
bool vf_has_netdev(struct ibh_host *host, const struct ibh_vf *vf);
bool vfs_have_netdevs(struct ibh_host *host, const struct ibh_pf *pf);
/* Whether it looks as if the network device of a VF that the vendor's driver
 * has were in another namespace; `some` of its PF's have one here. */
bool vf_is_lent(struct ibh_host *host, const struct ibh_pf *pf,
		const struct ibh_vf *vf, bool some);

/* ---- network.c --------------------------------------------------------- */

struct ibh_error *networks_set(struct ibh_host *host,
			       const struct ibh_mapping *mappings,
			       size_t count);
void networks_free(struct ibh_host *host);
/* Whether it can be the name of a physical network or of a device. */
bool network_is_name(const char *text);
/* Whether anything is mapped to a network; not to NULL. */
bool network_mapped(const struct ibh_host *host, const char *network);
/* … and whether its PFs are a fabric of their own by that. */
bool network_apart(const struct ibh_host *host, const char *network);
/* The port on which a PF is behind a network, 0 if it is not. */
unsigned int network_port(const struct ibh_host *host, const char *network,
			  const struct ibh_pf *pf);
/* Finds the altnames by which network devices of PFs are mapped; the kernel is
 * asked for what is no other name of a PF. */
void networks_find(struct ibh_host *host, const struct ibh_pfs *pfs);
/* … and whether they are so still. */
bool networks_hold(struct ibh_host *host, const struct ibh_pfs *pfs);
/* Whether a PF here has that name. */
bool network_leads(const struct ibh_pfs *pfs, const char *device);
/* A device that a network is mapped to and no PF has; NULL. */
const char *network_missing(const struct ibh_host *host, const char *network,
			    const struct ibh_pfs *pfs);
/* What PFs may be named by: "ib0, ib1". */
void network_devices(const struct ibh_pfs *pfs, char *text, size_t size);
/* The names of all networks, or of the devices of one: "a, b, c". */
void network_names(const struct ibh_host *host, const char *of, char *text,
		   size_t size);

/* ---- netlink_ask.c, netlink_set.c -------------------------------------- */

struct vf_set; /* rtnetlink.h */
struct vf_info;
struct dump;

/*
 * Asks about a network device's VFs: the records are in *infos, to be freed.
 * A negative errno; EBADMSG is an answer that does not hold together. Where
 * it takes a dump, that is the one of `dump`, unless it is NULL.
 */
int netlink_ask(struct ibh_host *host, int ifindex, struct dump *dump,
		struct vf_info **infos, size_t *count);
/* The same with their traffic, which costs firmware a query for each. */
int netlink_traffic(struct ibh_host *host, int ifindex,
		    struct vf_info **infos, size_t *count);
/*
 * A dump that serves several network devices, as many as are added: of
 * whoever asks, in whatever thread, the first has it taken. It holds until
 * dump_again(), so nothing may be written meanwhile.
 */
int dump_new(size_t most, struct dump **dump);
void dump_add(struct dump *dump, int ifindex);
void dump_again(struct dump *dump);
void dump_free(struct dump *dump);
/*
 * The network device that has a name, which may be an altname of its: its
 * index, and by which name sysfs has it.
 */
int netlink_named(struct ibh_host *host, const char *name, int *ifindex,
		  char netdev[IBH_NAME]);
/*
 * Sends RTM_SETLINKs: sets[0 … ends[0]), sets[ends[0] … ends[1]) and so on,
 * and puts 0 or a negative errno for each into answers. A message that
 * failed may have been applied up to any attribute. `stop` is asked between
 * windows of messages: then the rest is not sent and answers ECANCELED.
 */
void netlink_set(struct ibh_host *host, int ifindex,
		 const struct vf_set *sets, const size_t *ends, size_t count,
		 int *answers, bool (*stop)(void *context), void *context);

/* ---- mechanisms -------------------------------------------------------- */

/* What a driver says of a VF: nothing, if it could not be asked; its state;
 * or that it has no such port (mlx4). */
enum telling { UNTOLD, TOLD, NO_PORT };

/* A PF on one of its ports, what serves it there, and its VFs' states as
 * found before anything was written. */
struct side {
	struct ibh_host *host;
	const struct ibh_pf *pf;
	unsigned int port;
	const struct ibh_netdev *netdev; /* of the port; may be NULL */
	const struct mechanism *mechanism; /* NULL: none */
	struct ibh_error *obstacle; /* why there is none */
	struct dump *dump; /* of the batch; NULL: one of its own */
	/* VFs of the batch: all is to be known of these, of the others at
	 * least the GUIDs */
	bool *mine; /* [numvfs] */
	bool has_mine;
	struct ibh_state *states; /* [numvfs] */
	uint8_t *told; /* [numvfs]; enum telling */
	bool surveyed;
	enum { NOT_ASKED, HAS_NONE, HAS_SOME } netdevs; /* its VFs have, here */
	struct ibh_error *trouble; /* why not */
	struct ibh_error *detour; /* why another way was taken */
	bool written; /* something was, or was tried to be */
};

/*
 * What is to be written to a VF, and what came of it. `put` is what is being
 * written: first `write`, to undo it something else. `tried` is set before
 * the first write: from then on the VF may have taken a part.
 */
struct change {
	struct side *side;
	struct ibh_vf vf;
	char address[IBH_PCI_TEXT + 1];
	const struct ibh_vif *vif; /* that it is for */
	struct ibh_state before, wanted, write, put, after;
	bool tried, has_after, verified;
	struct ibh_error *error;
	/* of one write() and read_back() */
	uint64_t owner; /* who has it now, as far as that is known */
	struct ibh_error *refusal;
	struct ibh_state seen;
	bool told;
	struct ibh_error *doubt; /* why not, or what is wrong about it */
	/* VFs that must have been made idle before */
	size_t move_count;
	struct change **moves;
};

struct run;

struct mechanism {
	enum ibh_mechanism id;
	const char *name;
	/* Why it cannot serve: true, and the reason. */
	bool (*obstacle)(const struct side *side, char *why, size_t size);
	/* The state of a VF with this identity, as far as it can be given: a
	 * node GUID of its own is refused where it is not in there. */
	struct ibh_error *(*plugged)(const struct side *side,
				     const struct ibh_vif *vif,
				     const struct ibh_how *how,
				     struct ibh_state *wanted);
	/* … and of one that is nobody's. */
	struct ibh_state (*idle)(const struct side *side);
	/* Fills side->states and side->told. */
	struct ibh_error *(*survey)(struct side *side);
	/* What survey() did not ask of a VF that is none of side->mine, but
	 * has to be written; NULL where it asks everything. */
	void (*complete)(struct side *side, unsigned int index);
	/* Writes each change's `put`, and sets `refusal` of those that
	 * failed, which may have taken a part. `run` is NULL, or is asked
	 * between messages whether to stop. */
	void (*write)(struct side *side, struct change **changes,
		      size_t count, struct run *run);
	/* Sets `seen`, and `told` or `doubt`, of each change after write():
	 * with `settle` once it has taken effect. */
	struct ibh_error *(*read_back)(struct side *side,
				       struct change **changes, size_t count,
				       bool settle);
};

extern const struct mechanism mlx5_netlink, mlx5_sysfs, mlx4_sysfs, foreign;
/* By their id. */
extern const struct mechanism *const mechanisms[IBH_MECHANISMS];

/* Fills side->mechanism or side->obstacle. */
void side_choose(struct side *side, const struct ibh_how *how);
/* Gets side->netdev right. */
void side_init(struct side *side, struct ibh_host *host,
	       const struct ibh_pf *pf, unsigned int port);
struct ibh_error *side_survey(struct side *side);
void side_free(struct side *side);

/* What an mlx5 VF is to be, whoever writes it. */
struct ibh_error *mlx5_plugged(const struct side *side,
			       const struct ibh_vif *vif,
			       const struct ibh_how *how,
			       struct ibh_state *wanted);
struct ibh_state mlx5_idle(const struct side *side);
/* mlx4: whether a VF has a port. */
bool mlx4_has_port(struct ibh_host *host, const struct ibh_pf *pf,
		   unsigned int index, unsigned int port);
/* … and the P_Key at the first of a state's places, which asks firmware. */
void mlx4_see_pkey(const struct side *side, struct ibh_state *state);
/* OFED's files, for who reads by them. mlx5_sysfs's own survey() and
 * complete(), */
struct ibh_error *mlx5_files_survey(struct side *side);
void mlx5_files_complete(struct side *side, unsigned int index);
/* the GUIDs that netlink does not know, and with `all` the VFs that it left
 * out, */
void mlx5_files_fill(struct side *side, bool all);
/* and reading back. */
struct ibh_error *mlx5_files_read_back(struct side *side,
				       struct change **changes, size_t count);
/* Whether the kernel shows what was last set by netlink on this side. */
bool mlx5_netlink_shows(const struct side *side);
/* foreign.c: the native mechanism that can show a side's VFs, if any. */
const struct mechanism *foreign_reader(const struct side *side);

static inline bool guid_is_idle(uint64_t guid)
{
	return guid == 0 || guid == IBH_GUID_IDLE;
}

/* The GUID of whom a VF belongs to, 0 if to nobody that is known. */
static inline uint64_t state_owner(const struct ibh_state *state)
{
	if (state->have & IBH_HAVE_PORT && !guid_is_idle(state->port))
		return state->port;
	if (state->have & IBH_HAVE_NODE && !guid_is_idle(state->node))
		return state->node;
	return 0;
}

/* ---- a batch ----------------------------------------------------------- */

enum job { PLUG, UNPLUG, RESTORE, ADJUST };

/* The VF that a VIF's address leads to, or why to none. */
struct place {
	const struct ibh_pf *pf;
	unsigned int port;
	struct ibh_vf vf;
	struct side *side;
	struct ibh_error *error;
};

/* What is said of a VIF: of its change, or a result where there is nothing
 * to write. */
struct answer {
	struct change *change;
	struct ibh_result result;
};

/* A VF that holds a GUID which a VIF names. */
struct holder {
	struct side *side;
	struct ibh_vf vf;
	bool there; /* else it vanished meanwhile */
	struct holder *next;
};

/* An idle VF that may show its old identity. */
struct stale {
	const struct ibh_pf *pf;
	struct ibh_vf vf;
	uint64_t guid;
};

struct changes {
	struct change **changes;
	size_t count, size;
};

struct run {
	struct ibh_host *host;
	enum job job;
	const struct ibh_vif *vifs;
	size_t count;
	const struct ibh_how *how;
	const struct ibh_state *states; /* to restore or to adjust to */

	struct table *guids; /* the VIFs by their GUIDs */
	struct topology *topology;
	struct place *places; /* [count] */
	size_t side_count;
	struct side *sides; /* by PCI address and port */
	int *locks; /* by side; handles, or negative errnos */
	size_t lock_count;
	bool blind; /* some PF could not be asked */
	struct dump *dump; /* of all PFs; while nothing is written */
	struct holder **holders; /* [count]: of each VIF's GUIDs */

	char cause[IBH_PCI_TEXT + 16]; /* of what is undone */
	struct changes first; /* to be made idle before the others */
	struct changes then; /* the batch itself */
	struct answer *answers; /* [count] */
	struct stale *stale; /* [count] */
	size_t stale_count;
	char **warnings;
	size_t warning_count, doubt_count; /* the first are of the survey */
	struct ibh_batch *batch; /* to be filled by report() */

	pthread_t caller;
	pthread_mutex_t mutex; /* of progress */
	atomic_bool stopped;
	size_t due, done[IBH_STAGES]; /* progress */
};

/* The steps. An error of these ends the batch, with nothing written. */
struct ibh_error *check(struct run *run);
struct ibh_error *resolve(struct run *run);
struct ibh_error *plan(struct run *run);
/* What goes wrong in these is in the changes. */
void apply(struct run *run);
void verify(struct run *run);
void undo(struct run *run);
void forget(struct run *run); /* foreign.c */
void refresh(struct run *run); /* rebind.c */
/* What is written must not go untold: memory for that is had before. */
struct ibh_error *report_ready(struct run *run);
struct ibh_batch *report(struct run *run);

/* check.c: numbers by which something is found again; keys are other than 0,
 * one that is there already is left and told: its value, or -1. */
struct table;
struct table *table_new(size_t count);
ssize_t table_add(struct table *table, uint64_t key, size_t value);
ssize_t table_find(const struct table *table, uint64_t key);
uint64_t vif_node_guid(const struct ibh_vif *vif);

/* hold.c: *waited says whether anything had to be waited for. */
struct ibh_error *take_locks(struct run *run, bool *waited);
void drop_locks(struct run *run);
/* Sides whose lock is another's get that for their trouble. */
void leave_locked(struct run *run);
/* Why a side was not looked at: another has its lock; NULL if nobody has. */
const struct ibh_error *locked_out(const struct run *run, size_t side);

/* resolve.c */
void forget_places(struct run *run);

/* plan.c, plug.c, unplug.c, restore.c, adjust.c */
struct ibh_error *plan_plug(struct run *run);
struct ibh_error *plan_unplug(struct run *run);
/* Where states are given: `want` says what becomes of the VF that a VIF names,
 * or why nothing does, which is the VIF's own error. */
typedef struct ibh_error *want_t(struct change *change,
				 const struct ibh_vif *vif,
				 const struct ibh_state *state);
struct ibh_error *plan_each(struct run *run, want_t *want);
struct ibh_error *plan_restore(struct run *run);
struct ibh_error *plan_adjust(struct run *run);
/* A change of a VF on a side, to be filled; NULL without memory. */
struct change *change_new(struct side *side, const struct ibh_vf *vf,
			  const struct ibh_vif *vif);
/* … that makes it idle. */
struct change *change_idle(struct side *side, const struct ibh_vf *vf,
			   const struct ibh_vif *vif);
void change_free(struct change *change);
/* Takes the change over, also when it fails. */
struct ibh_error *changes_add(struct changes *changes, struct change *change);
/* The same without taking it over. */
struct ibh_error *changes_list(struct changes *changes,
			       struct change *change);
struct change *changes_find(const struct changes *changes,
			    const struct side *side, unsigned int index);
/* The same for a VF that holds a VIF's GUID, which may hold another's. */
struct change *changes_sharing(const struct changes *changes,
			       const struct side *side, unsigned int index);
/* The one of a VIF's GUIDs that is held there. */
uint64_t guid_held(const struct ibh_vif *vif, const struct holder *holder);
/* `change` comes after that of a VF that is made idle, if that is done. */
struct ibh_error *come_after(struct change *change, struct change *moved);
/* A VF that holds a VIF's GUID is made idle, once, and before `change`. */
struct ibh_error *move_first(struct run *run, const struct ibh_vif *vif,
			     struct holder *holder, struct change *change);
bool change_needed(const struct change *change);
/* What of the wanted is not there yet. */
struct ibh_state difference(const struct ibh_state *before,
			    const struct ibh_state *wanted);
/* The state of the VF of a side, or why it cannot be told. */
struct ibh_error *state_of(const struct side *side, const struct ibh_vf *vf,
			   struct ibh_state *state);
/* Whether the VFs of a side are on another fabric than a VIF, where its GUID
 * may be somebody else's; and an unplug takes nothing from a network that it
 * does not name, whoever says which is which. */
bool apart(const struct run *run, const struct ibh_vif *vif,
	   const struct side *side);
/* Whether the VF may have any GUID for all that is known: one that is idle
 * has its link down. */
bool is_untold(const struct ibh_state *state);
void answer_error(struct run *run, size_t vif, const struct ibh_state *wanted,
		  struct ibh_error *error);
/* An error if memory is out. */
struct ibh_error *warn(struct run *run, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* apply.c: the changes for which `wanted` is true, grouped by side, each
 * group given to `work`, sides in parallel. */
struct ibh_error *by_side(struct run *run, const struct changes *changes,
			  bool (*wanted)(const struct change *change),
			  void (*work)(struct run *run, struct side *side,
				       struct change **changes, size_t count));
/* Those of a group whose VF is still enabled, first, and their number; the
 * others get a refusal. */
size_t still_there(struct side *side, struct change **changes, size_t count);
bool any_failed(const struct run *run);
struct change *first_failed(const struct run *run);
/* A result's error that says a VIF cannot be served at all; NULL. */
const struct ibh_error *refusal(const struct run *run);

/* verify.c: sets after, verified and doubt of each change from what it
 * reads. */
void look_back(struct side *side, struct change **changes, size_t count,
	       bool settle);
struct ibh_state overlaid(const struct ibh_state *state,
			  const struct ibh_state *written);
/* Whether a VF is what it was; what could not be shown was idle. */
bool same_state(const struct ibh_state *before, const struct ibh_state *after);
bool same_pkeys(const struct ibh_state *a, const struct ibh_state *b);

/* drive.c: writes a VF's address to a file of its driver's, bind or unbind,
 * several times while firmware is not ready; a negative errno. */
int drive_poke(struct ibh_host *host, const char *driver, const char *action,
	       const char *address);
/* What a link of a device's leads to: a length or a negative errno. */
ssize_t drive_target(struct ibh_host *host, const char *address,
		     const char *link, char name[IBH_NAME]);

/* run.c: whether somebody wants it to end. */
bool stopped(struct run *run);
void progress(struct run *run, enum ibh_stage stage, size_t count);

#endif
