/* SPDX-License-Identifier: Apache-2.0 */
/* What the real system (system.c) and one that a process serves
 * (simulated.c) have in common. All as struct io has it. */
#ifndef IBHOSTDEV_ENGINE_SYSTEM_H
#define IBHOSTDEV_ENGINE_SYSTEM_H

#include "host.h"

struct system {
	int root; /* of sysfs */
	char *run_dir; /* of the locks */
	uint32_t netlink_port, sysfs_port; /* of the process */
};

struct ibh_error *system_new(const struct ibh_options *options,
			     void **context);
void system_free(void *context);

ssize_t system_read(void *context, const char *path, char *value,
		    size_t size);
int system_enter(void *context, const char *path);
ssize_t system_link(void *context, int folder, const char *path,
		    char *target, size_t size);
int system_list(void *context, const char *path, take_name take,
		void *taker);
void system_close(void *context, int descriptor);
int system_lock(void *context, const char *name, struct waiting *waiting,
		bool *waited);
void system_unlock(void *context, int handle, bool changed);
uint64_t system_now(void *context);
void system_sleep(void *context, unsigned int ms);

/* A netlink socket that talks with a port id, 0 being the kernel, and waits
 * so long for an answer. */
int socket_open(int protocol, uint32_t peer, unsigned int seconds);
int socket_send(int fd, const void *data, size_t len);
ssize_t socket_receive(int fd, uint32_t peer, void *data, size_t size,
		       size_t *need);
int socket_receive_many(int fd, uint32_t peer, void *data, size_t size,
			unsigned int count, size_t *lengths);

#endif
