// SPDX-License-Identifier: Apache-2.0
/* Physical networks, Neutron's names for fabrics, and the PFs behind them. */
#include "internal.h"

/* A copy in one piece: the pairs, and their texts behind them. */
struct ibh_error *networks_set(struct ibh_host *host,
			       const struct ibh_mapping *mappings,
			       size_t count)
{
	size_t size = count * sizeof(*mappings), i;
	char *at;

	if (!count)
		return NULL;
	for (i = 0; i < count; i++)
		size += strlen(mappings[i].network) + 1 +
			strlen(mappings[i].device) + 1;
	host->mappings = malloc(size);
	if (!host->mappings)
		return fail(T_MEMORY, NULL, NULL, 0, NULL, NULL, NULL);
	host->mapping_count = count;
	at = (char *)(host->mappings + count);
	for (i = 0; i < count; i++) {
		host->mappings[i].network = at;
		at = stpcpy(at, mappings[i].network) + 1;
		host->mappings[i].device = at;
		at = stpcpy(at, mappings[i].device) + 1;
	}
	return NULL;
}

void networks_free(struct ibh_host *host)
{
	free(host->mappings);
}

bool network_mapped(const struct ibh_host *host, const char *network)
{
	size_t i;

	for (i = 0; network && i < host->mapping_count; i++)
		if (!strcmp(host->mappings[i].network, network))
			return true;
	return false;
}

bool network_apart(const struct ibh_host *host, const char *network)
{
	return !host->one_fabric && network_mapped(host, network);
}

static bool behind(const struct ibh_host *host, const char *network,
		   const char *device)
{
	size_t i;

	for (i = 0; i < host->mapping_count; i++)
		if (!strcmp(host->mappings[i].device, device) &&
		    !strcmp(host->mappings[i].network, network))
			return true;
	return false;
}

unsigned int network_port(const struct ibh_host *host, const char *network,
			  const struct ibh_pf *pf)
{
	unsigned int i;

	for (i = 0; i < pf->netdev_count; i++)
		if (behind(host, network, pf->netdevs[i].name))
			return pf->netdevs[i].port;
	if (behind(host, network, pf->address) ||
	    behind(host, network, pf->ib_device))
		return pf->ports[0].number;
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* "a, b, c": the networks, or one's devices; what does not fit is left
 * out. */
void network_names(const struct ibh_host *host, const char *of, char *text,
		   size_t size)
{
	const char **names =
		calloc(host->mapping_count + 1, sizeof(*names));
	size_t count = 0, used = 0, i;

	text[0] = '\0';
	if (!names)
		return;
	for (i = 0; i < host->mapping_count; i++) {
		const struct ibh_mapping *one = &host->mappings[i];

		if (!of)
			names[count++] = one->network;
		else if (!strcmp(one->network, of))
			names[count++] = one->device;
	}
	qsort(names, count, sizeof(*names), by_name);
	for (i = 0; i < count && used + 1 < size; i++) {
		if (i && !strcmp(names[i], names[i - 1]))
			continue;
		format(text + used, size - used, "%s%s", used ? ", " : "",
		       names[i]);
		used += strlen(text + used);
	}
	free(names);
}
