// SPDX-License-Identifier: Apache-2.0
/* Physical networks, Neutron's names for fabrics, and the PFs behind them. */
#include "internal.h"

static struct ibh_error *no_memory(void)
{
	return fail(T_MEMORY, NULL, NULL, 0, NULL, NULL, NULL);
}

const struct network *network_find(const struct ibh_host *host,
				   const char *name)
{
	size_t i;

	for (i = 0; name && i < host->network_count; i++)
		if (!strcmp(host->networks[i].name, name))
			return &host->networks[i];
	return NULL;
}

static struct ibh_error *add(struct ibh_host *host, const char *name,
			     const char *device)
{
	struct network *network =
		(struct network *)network_find(host, name), *grown;
	char **devices;

	if (!network) {
		grown = realloc(host->networks, (host->network_count + 1) *
							sizeof(*grown));
		if (!grown)
			return no_memory();
		host->networks = grown;
		network = &grown[host->network_count];
		*network = (struct network){ .name = strdup(name) };
		if (!network->name)
			return no_memory();
		host->network_count++;
	}
	if (!device) /* a network that is behind none */
		return NULL;
	devices = realloc(network->devices,
			  (network->count + 1) * sizeof(*devices));
	if (!devices)
		return no_memory();
	network->devices = devices;
	devices[network->count] = strdup(device);
	if (!devices[network->count])
		return no_memory();
	network->count++;
	return NULL;
}

struct ibh_error *networks_set(struct ibh_host *host,
			       const struct ibh_mapping *mappings,
			       size_t count)
{
	struct ibh_error *error = NULL;
	size_t i;

	for (i = 0; i < count && !error; i++)
		error = add(host, mappings[i].network, mappings[i].device);
	return error;
}

void networks_free(struct ibh_host *host)
{
	size_t i, n;

	for (i = 0; i < host->network_count; i++) {
		for (n = 0; n < host->networks[i].count; n++)
			free(host->networks[i].devices[n]);
		free(host->networks[i].devices);
		free(host->networks[i].name);
	}
	free(host->networks);
}

static bool has(const struct network *network, const char *device)
{
	size_t i;

	for (i = 0; i < network->count; i++)
		if (!strcmp(network->devices[i], device))
			return true;
	return false;
}

unsigned int network_port(const struct network *network,
			  const struct ibh_pf *pf)
{
	unsigned int i;

	for (i = 0; i < pf->netdev_count; i++)
		if (has(network, pf->netdevs[i].name))
			return pf->netdevs[i].port;
	if (has(network, pf->address) || has(network, pf->ib_device))
		return pf->ports[0].number;
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* "a, b, c", sorted; what does not fit is left out. */
static void enumerate(const char **names, size_t count, char *text,
		      size_t size)
{
	size_t used = 0, i;

	text[0] = '\0';
	qsort(names, count, sizeof(*names), by_name);
	for (i = 0; i < count && used < size; i++) {
		format(text + used, size - used, "%s%s", i ? ", " : "",
		       names[i]);
		used += strlen(text + used);
	}
}

void network_devices(const struct network *network, char *text, size_t size)
{
	const char **names = calloc(network->count + 1, sizeof(*names));
	size_t i;

	text[0] = '\0';
	if (!names)
		return;
	for (i = 0; i < network->count; i++)
		names[i] = network->devices[i];
	enumerate(names, network->count, text, size);
	free(names);
}

void network_names(const struct ibh_host *host, char *text, size_t size)
{
	const char **names = calloc(host->network_count + 1, sizeof(*names));
	size_t i;

	text[0] = '\0';
	if (!names)
		return;
	for (i = 0; i < host->network_count; i++)
		names[i] = host->networks[i].name;
	enumerate(names, host->network_count, text, size);
	free(names);
}
