// SPDX-License-Identifier: Apache-2.0
/* A host: opened, closed, and what is known of it between batches. */
#include "devices.h"

#include <unistd.h>

/* The driver gives up on a firmware command after 60 s (mlx5 core/cmd.c). */
#define LOCK_MS 180000
/* The subnet manager's answer to one request has a limit of 1 s in the
 * driver (mlx4/alias_GUID.c), and a refusal is tried again. */
#define PATIENCE_MS 10000

struct ibh_error *host_new(const struct ibh_options *options,
			   const struct io *io, void *context,
			   struct ibh_host **opened)
{
	struct ibh_host *host = calloc(1, sizeof(*host));
	struct ibh_error *error;

	if (!host) {
		io->done(context);
		return fail(T_MEMORY, NULL, NULL, 0, NULL, NULL, NULL);
	}
	host->io = io;
	host->context = context;
	host->lock_ms = options->lock_ms ? options->lock_ms : LOCK_MS;
	host->patience_ms =
		options->patience_ms ? options->patience_ms : PATIENCE_MS;
	host->one_fabric = options->mappings_only_refuse;
	if (options->foreign) {
		host->has_foreign = true;
		host->foreign = *options->foreign;
	}
	host->run_dir = strdup(options->run_dir ? options->run_dir : RUN_DIR);
	pthread_mutex_init(&host->mutex, NULL);
	error = host->run_dir ? NULL : fail(T_MEMORY, NULL, NULL, 0, NULL, NULL, NULL);
	if (!error)
		error = networks_set(host, options->mappings, options->mapping_count);
	if (error) {
		ibh_host_close(host);
		return error;
	}
	*opened = host;
	return NULL;
}

int ibh_host_open(const struct ibh_options *options, struct ibh_host **host,
		  struct ibh_error **error)
{
	const struct io *io;
	void *context;

	*error = options->sysfs_port || options->netlink_port ?
			 simulated_open(options, &io, &context) :
			 system_open(options, &io, &context);
	if (!*error)
		*error = host_new(options, io, context, host);
	return *error ? -1 : 0;
}

void ibh_host_close(struct ibh_host *host)
{
	if (!host)
		return;
	host_sockets_close(host);
	topology_put(host->topology);
	networks_free(host);
	free(host->run_dir);
	pthread_mutex_destroy(&host->mutex);
	host->io->done(host->context);
	free(host);
}

/* ---- shorthands -------------------------------------------------------- */

ssize_t host_read(struct ibh_host *host, const char *path, char *value,
		  size_t size)
{
	return host->io->read(host->context, path, value, size);
}

ssize_t host_base_in(struct ibh_host *host, int folder, const char *path,
		     char *name, size_t size)
{
	char target[PATH_SIZE];
	ssize_t n = host->io->link(host->context, folder, path, target,
				   sizeof(target));
	const char *base;
	size_t len;

	if (n < 0)
		return n;
	base = strrchr(target, '/');
	base = base ? base + 1 : target;
	len = strlen(base);
	if (len >= size)
		return -ENAMETOOLONG;
	memcpy(name, base, len + 1);
	return (ssize_t)len;
}

ssize_t host_base(struct ibh_host *host, const char *path, char *name,
		  size_t size)
{
	return host_base_in(host, ROOT, path, name, size);
}

int host_list(struct ibh_host *host, const char *path, take_name take,
	      void *taker)
{
	return host->io->list(host->context, path, take, taker);
}

int host_write(struct ibh_host *host, const char *path, const char *value)
{
	return host->io->write(host->context, path, value, strlen(value));
}

bool host_exists(struct ibh_host *host, const char *path)
{
	char value[SHORT_VALUE];
	ssize_t n = host_read(host, path, value, sizeof(value));

	return n >= 0 || n == -EMSGSIZE;
}

static int take_none(const char *name, void *context)
{
	(void)name;
	(void)context;
	return 1;
}

bool host_has_folder(struct ibh_host *host, const char *path)
{
	return host_list(host, path, take_none, NULL) != -ENOENT;
}

/* ---- names in a directory ---------------------------------------------- */

static int take(const char *name, void *context)
{
	struct names *names = context;
	char *copy;

	if (names->count == names->size) {
		size_t size = names->size ? 2 * names->size : 32;
		char **grown = realloc(names->names, size * sizeof(*grown));

		if (!grown) {
			names->failed = true;
			return -ENOMEM;
		}
		names->names = grown;
		names->size = size;
	}
	copy = strdup(name);
	if (!copy) {
		names->failed = true;
		return -ENOMEM;
	}
	names->names[names->count++] = copy;
	return 0;
}

void names_free(struct names *names)
{
	while (names->count)
		free(names->names[--names->count]);
	free(names->names);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted; none where there is no such directory. */
struct ibh_error *host_names(struct ibh_host *host, const char *path,
			     struct names *names)
{
	int err;

	*names = (struct names){ 0 };
	err = host_list(host, path, take, names);
	if (err && err != -ENOENT) {
		names_free(names);
		return names->failed ? fail(T_MEMORY, NULL, NULL, 0, NULL, NULL, NULL) :
				       fail(T_UNLISTED, path, "directory",
					    err, NULL, NULL, NULL);
	}
	if (names->count)
		qsort(names->names, names->count, sizeof(char *), by_text);
	return NULL;
}

/* FNV-1a. */
uint64_t name_digest(const char *name)
{
	uint64_t hash = 0xcbf29ce484222325ULL;

	for (; *name; name++)
		hash = (hash ^ (unsigned char)*name) * 0x100000001b3ULL;
	return hash;
}

/* ---- what is known of a device's netlink ------------------------------- */

void host_habit(struct ibh_host *host, int ifindex, struct habit *habit)
{
	unsigned int i;

	*habit = (struct habit){ .ifindex = ifindex };
	pthread_mutex_lock(&host->mutex);
	for (i = 0; i < host->habit_count; i++)
		if (host->habits[i].ifindex == ifindex)
			*habit = host->habits[i];
	pthread_mutex_unlock(&host->mutex);
}

void host_learn(struct ibh_host *host, const struct habit *habit)
{
	unsigned int i;

	pthread_mutex_lock(&host->mutex);
	for (i = 0; i < host->habit_count; i++)
		if (host->habits[i].ifindex == habit->ifindex)
			break;
	/* Who does not fit is learnt again each time. */
	if (i < MAX_HABITS) {
		host->habits[i] = *habit;
		if (i == host->habit_count)
			host->habit_count++;
	}
	pthread_mutex_unlock(&host->mutex);
}

/* ---- netlink sockets --------------------------------------------------- */

/*
 * A socket stays in the network namespace in which it was opened, and a
 * thread may go to another: so only the thread that opened one gets it again,
 * and none outlives a batch.
 */
int host_socket(struct ibh_host *host)
{
	pthread_t me = pthread_self();
	int found = -1;
	unsigned int i;

	pthread_mutex_lock(&host->mutex);
	for (i = 0; i < host->socket_count && found < 0; i++) {
		if (!pthread_equal(host->sockets[i].thread, me))
			continue;
		found = host->sockets[i].socket;
		host->sockets[i] = host->sockets[--host->socket_count];
	}
	pthread_mutex_unlock(&host->mutex);
	return found >= 0 ? found : host->io->open(host->context);
}

void host_socket_back(struct ibh_host *host, int socket, bool good)
{
	if (good) {
		pthread_mutex_lock(&host->mutex);
		if (host->socket_count < MAX_SOCKETS) {
			host->sockets[host->socket_count++] =
				(struct idle_socket){ pthread_self(), socket };
			socket = -1;
		}
		pthread_mutex_unlock(&host->mutex);
	}
	if (socket >= 0)
		host->io->close(host->context, socket);
}

void host_sockets_close(struct ibh_host *host)
{
	struct idle_socket idle[MAX_SOCKETS];
	unsigned int count, i;

	pthread_mutex_lock(&host->mutex);
	count = host->socket_count;
	memcpy(idle, host->sockets, sizeof(idle));
	host->socket_count = 0;
	pthread_mutex_unlock(&host->mutex);
	for (i = 0; i < count; i++)
		host->io->close(host->context, idle[i].socket);
}
