// SPDX-License-Identifier: Apache-2.0
/*
 * The first step: reject a batch on its first bad input, before any device is
 * touched. No driver checks any of this.
 */
#include "batch.h"

/* ---- a table ----------------------------------------------------------- */

struct table {
	size_t mask;
	struct entry {
		uint64_t key;
		size_t value;
	} entries[];
};

struct table *table_new(size_t count)
{
	struct table *table;
	size_t size = 8;

	while (size < 2 * count)
		size *= 2;
	table = calloc(1, sizeof(*table) + size * sizeof(struct entry));
	if (table)
		table->mask = size - 1;
	return table;
}

/* Where a key is, or would be. */
static size_t slot(const struct table *table, uint64_t key)
{
	uint64_t hash = key * 0x9e3779b97f4a7c15ULL;
	size_t at = (size_t)(hash >> 32) & table->mask;

	while (table->entries[at].key && table->entries[at].key != key)
		at = (at + 1) & table->mask;
	return at;
}

ssize_t table_find(const struct table *table, uint64_t key)
{
	const struct entry *entry = &table->entries[slot(table, key)];

	return entry->key ? (ssize_t)entry->value : -1;
}

ssize_t table_add(struct table *table, uint64_t key, size_t value)
{
	struct entry *entry = &table->entries[slot(table, key)];

	if (entry->key)
		return (ssize_t)entry->value;
	entry->key = key;
	entry->value = value;
	return -1;
}

/* ---- checks ------------------------------------------------------------ */

uint64_t vif_node_guid(const struct ibh_vif *vif)
{
	return vif->node_guid ? vif->node_guid : vif->port_guid;
}

static struct ibh_error *check_guid(uint64_t guid)
{
	char text[IBH_GUID_TEXT + 1], name[40];
	const char *what = NULL;

	if (!guid)
		what = "zero";
	else if (guid == IBH_GUID_IDLE)
		what = "all ones";
	if (!what)
		return NULL;
	ibh_format_guid(guid, text);
	format(name, sizeof(name), "GUID %s", text);
	return fail(T_NO_IDENTITY, NULL, "guid", 0, name, what, NULL);
}

static struct ibh_error *check_twice(struct run *run, size_t at,
				     uint64_t guid)
{
	const struct ibh_vif *vif = &run->vifs[at];
	char address[IBH_PCI_TEXT + 1], text[IBH_GUID_TEXT + 1];
	char first[IBH_PCI_TEXT + 1], too[IBH_PCI_TEXT + 16] = "";
	ssize_t other = table_add(run->guids, guid, at);

	if (other < 0 || (size_t)other == at)
		return NULL;
	ibh_format_guid(guid, text);
	ibh_format_pci(vif->pci, address);
	if (run->vifs[other].has_pci) {
		ibh_format_pci(run->vifs[other].pci, first);
		format(too, sizeof(too), ", for %s too", first);
	}
	return fail(T_GUID_TWICE, vif->has_pci ? address : NULL, "guid", 0,
		    text, too, NULL);
}

static struct ibh_error *check_pkey(const struct ibh_vif *vif)
{
	char address[IBH_PCI_TEXT + 1], text[16];

	if (!vif->pkey || vif->pkey & 0x7fff)
		return NULL;
	ibh_format_pci(vif->pci, address);
	format(text, sizeof(text), "0x%04x", vif->pkey);
	return fail(T_NO_PARTITION, vif->has_pci ? address : NULL, "pkey", 0,
		    text, NULL, NULL);
}

static struct ibh_error *check_network(struct run *run,
				       const struct ibh_vif *vif)
{
	char address[IBH_PCI_TEXT + 1], names[256];

	if (!vif->network || !run->host->mapping_count ||
	    network_mapped(run->host, vif->network))
		return NULL;
	network_names(run->host, NULL, names, sizeof(names));
	ibh_format_pci(vif->pci, address);
	return fail(T_NETWORK_UNMAPPED, vif->has_pci ? address : NULL,
		    "physical_network", 0, vif->network, names, NULL);
}

static struct ibh_error *vf_twice(const struct ibh_vif *first,
				  const struct ibh_vif *again)
{
	char address[IBH_PCI_TEXT + 1], text[2][IBH_GUID_TEXT + 1];
	char whom[2 * IBH_GUID_TEXT + 32];

	ibh_format_pci(again->pci, address);
	ibh_format_guid(first->port_guid, text[0]);
	ibh_format_guid(again->port_guid, text[1]);
	format(whom, sizeof(whom), ", for GUIDs %s and %s", text[0], text[1]);
	return fail(T_VF_TWICE, address, "pci", 0, whom, NULL, NULL);
}

/* A VF with two ports may be on two networks; whether these are behind two of
 * its ports is seen when it is looked up. */
static bool two_networks(const struct ibh_vif *a, const struct ibh_vif *b)
{
	return a->network && b->network && strcmp(a->network, b->network) != 0;
}

static struct ibh_error *check_one(struct run *run, size_t at,
				   struct table *vfs)
{
	const struct ibh_vif *vif = &run->vifs[at];
	bool plugging = run->job != UNPLUG;
	char address[IBH_PCI_TEXT + 1], text[IBH_GUID_TEXT + 1];
	struct ibh_error *error;
	ssize_t other;

	if ((error = check_guid(vif->port_guid)) ||
	    (error = check_guid(vif_node_guid(vif))) ||
	    (error = check_pkey(vif)))
		return error;
	if (!vif->has_pci && plugging) {
		ibh_format_guid(vif->port_guid, text);
		return fail(T_NO_VF_NAMED, NULL, "pci", 0, text, NULL, NULL);
	}
	ibh_format_pci(vif->pci, address);
	/* Programs take what begins with - for an option of theirs. */
	if (vif->network && !network_is_name(vif->network))
		return fail(T_NO_NAME, vif->has_pci ? address : NULL,
			    "physical_network", 0, vif->network, NULL, NULL);
	if ((error = check_twice(run, at, vif->port_guid)) ||
	    (error = check_twice(run, at, vif_node_guid(vif))))
		return error;
	if (!plugging)
		/* Any PF may have it: the mapping may have changed. */
		return NULL;
	/* Domain and routing id, and never 0. */
	other = table_add(vfs, (uint64_t)vif->pci.domain << 16 |
				       vif->pci.rid | 1ULL << 63,
			  at);
	if (other >= 0 && !two_networks(vif, &run->vifs[other]))
		return vf_twice(&run->vifs[other], vif);
	return check_network(run, vif);
}

struct ibh_error *check(struct run *run)
{
	struct table *vfs = table_new(run->count);
	struct ibh_error *error = NULL;
	size_t i;

	run->guids = table_new(2 * run->count);
	if (!vfs || !run->guids)
		error = fail(T_MEMORY, NULL, NULL, 0, NULL, NULL, NULL);
	for (i = 0; i < run->count && !error; i++)
		error = check_one(run, i, vfs);
	free(vfs);
	return error;
}
