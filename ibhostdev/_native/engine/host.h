/* SPDX-License-Identifier: Apache-2.0 */
/* A host: what is asked of its system, and what is kept of it. */
#ifndef IBHOSTDEV_ENGINE_HOST_H
#define IBHOSTDEV_ENGINE_HOST_H

#include "error.h"

#include <pthread.h>
#include <stdatomic.h>

#define DEVICES "bus/pci/devices"
#define DRIVERS "bus/pci/drivers"
#define RUN_DIR "/run/ibhostdev" /* of the locks */
#define PATH_SIZE 256 /* below the sysfs root; longer leads to nothing */
#define VALUE_SIZE 4097 /* a page and a byte: what fills it is no attribute */
#define SHORT_VALUE 64 /* of the attributes that are read by the hundred */

/* ---- what is asked of the system --------------------------------------- */

typedef int (*take_name)(const char *name, void *context);

#define ROOT (-1) /* in the place of a folder */

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
	/* A folder, as a handle, to be given back: links are looked up from
	 * there, so that the way to it is gone once. */
	int (*enter)(void *context, const char *path);
	void (*leave)(void *context, int folder);
	/* The target of a symbolic link, with a NUL; `path` begins in a folder,
	 * or in the root. */
	ssize_t (*link)(void *context, int folder, const char *path,
			char *target, size_t size);
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
ssize_t host_base_in(struct ibh_host *host, int folder, const char *path,
		     char *name, size_t size);
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

#endif
