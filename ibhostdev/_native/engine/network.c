// SPDX-License-Identifier: Apache-2.0
/* Physical networks, Neutron's names for fabrics, and the PFs behind them. */
#include "devices.h"

/* ---- as text ----------------------------------------------------------- */

/* What separates mappings, and what may be in pairs around each or all: the
 * sample of eswitchd.conf has quotes. */
#define BETWEEN ", \t\r\n"
#define QUOTES "'\""
#define BLANKS " \t"

bool network_is_name(const char *text)
{
	static const char never[] = "'\"`()[]{}<>;:,#\\|&$";
	const char *at;

	for (at = text; *at; at++)
		if ((unsigned char)*at <= ' ' || *at == 0x7f ||
		    strchr(never, *at))
			return false;
	return at > text && *text != '-';
}

/* Of a PF; a PCI address has colons. */
static bool is_device(const char *text)
{
	struct ibh_pci pci;

	return !ibh_read_pci(text, strlen(text), &pci) ||
	       (network_is_name(text) && !strchr(text, '/'));
}

static bool is_one_of(const char *set, char letter)
{
	return letter && strchr(set, letter);
}

/* Takes pairs of quotes out; where one is that is none of a pair, or NULL. It
 * would be a part of the name to eswitchd. */
static char *unquote(char *text)
{
	char *at = text, *open = NULL;

	for (; *at; at++) {
		bool begins = at == text || is_one_of(BETWEEN, at[-1]);

		if (begins && *at == '#') {
			at += strcspn(at, "\n") - 1;
		} else if (!is_one_of(QUOTES, *at)) {
			continue;
		} else if (!open && begins) {
			open = at;
		} else if (open && *at == *open &&
			   (!at[1] || is_one_of(BETWEEN, at[1]))) {
			*open = *at = ',';
			open = NULL;
		} else {
			return at;
		}
	}
	return open;
}

static struct ibh_error *unpaired(const char *source, const char *text,
				  char *quote)
{
	char *begin = quote;

	while (begin > text && !is_one_of(BETWEEN, begin[-1]))
		begin--;
	quote[strcspn(quote, BETWEEN)] = '\0';
	return fail(T_UNPAIRED, source, "physical_device_mappings", 0, begin,
		    NULL, NULL);
}

/* Cuts a mapping from the text; the rest, or NULL if it is none. */
static char *cut(char *text, struct ibh_mapping *mapping)
{
	char *end = text + strcspn(text, ":" BETWEEN);
	/* The first colon: a PCI address has some of its own. */
	char *colon = end + strspn(end, BLANKS);
	char *device, *rest;

	if (*colon != ':')
		return NULL;
	device = colon + 1 + strspn(colon + 1, BLANKS);
	rest = device + strcspn(device, BETWEEN);
	if (end == text || rest == device)
		return NULL;
	*end = '\0';
	if (*rest)
		*rest++ = '\0';
	*mapping = (struct ibh_mapping){ text, device };
	return rest;
}

static struct ibh_error *refused(const char *source,
				 const struct ibh_mapping *one)
{
	char text[256];

	format(text, sizeof(text), "%s:%s", one->network, one->device);
	if (!strcmp(one->device, "autoib") || !strcmp(one->device, "autoeth"))
		return fail(T_AUTO_DEVICE, source, "physical_device_mappings",
			    0, text, one->device, NULL);
	if (!network_is_name(one->network))
		return fail(T_NO_NAME, source, "physical_device_mappings", 0,
			    one->network, NULL, NULL);
	if (!is_device(one->device))
		return fail(T_NO_NAME, source, "physical_device_mappings", 0,
			    one->device, NULL, NULL);
	return NULL;
}

int ibh_read_mappings(char *text, const char *source,
		      struct ibh_mapping *mappings, size_t *count,
		      struct ibh_error **error)
{
	char *quote = unquote(text);

	*count = 0;
	*error = quote ? unpaired(source, text, quote) : NULL;
	while (!*error && *(text += strspn(text, BETWEEN))) {
		char *rest;

		if (*text == '#') {
			text += strcspn(text, "\n");
			continue;
		}
		rest = cut(text, &mappings[*count]);
		if (rest) {
			*error = refused(source, &mappings[(*count)++]);
			text = rest;
			continue;
		}
		text[strcspn(text, ",\r\n")] = '\0';
		*error = fail(T_NO_MAPPING, source, "physical_device_mappings",
			      0, text, NULL, NULL);
	}
	return *error ? -1 : 0;
}

/* ---- of a host --------------------------------------------------------- */

/* A PCI address in the form in which PFs have it; the end of it. */
static char *put_device(char *at, const char *device)
{
	struct ibh_pci pci;

	if (ibh_read_pci(device, strlen(device), &pci))
		return stpcpy(at, device);
	ibh_format_pci(pci, at);
	return at + strlen(at);
}

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
			strlen(mappings[i].device) + 1 + IBH_PCI_TEXT;
	host->mappings = malloc(size);
	if (!host->mappings)
		return fail(T_MEMORY, NULL, NULL, 0, NULL, NULL, NULL);
	host->mapping_count = count;
	at = (char *)(host->mappings + count);
	for (i = 0; i < count; i++) {
		host->mappings[i].network = at;
		at = stpcpy(at, mappings[i].network) + 1;
		host->mappings[i].device = at;
		at = put_device(at, mappings[i].device) + 1;
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

static bool has_altname(const struct ibh_netdev *netdev, const char *name)
{
	const char *at;
	size_t len;

	for (at = netdev->altnames; *at; at += len + 1) {
		len = strcspn(at, ",");
		if (len == strlen(name) && !memcmp(at, name, len))
			return true;
	}
	return false;
}

/* Whether any name of a device, which may be a network device, is mapped to
 * a network. */
static bool behind(const struct ibh_host *host, const char *network,
		   const char *device, const struct ibh_netdev *netdev)
{
	size_t i;

	for (i = 0; i < host->mapping_count; i++) {
		const struct ibh_mapping *one = &host->mappings[i];

		if (!strcmp(one->network, network) &&
		    (!strcmp(one->device, device) ||
		     (netdev && has_altname(netdev, one->device))))
			return true;
	}
	return false;
}

/* By a name that is in sysfs. */
static bool has_name(const struct ibh_pf *pf, const char *device)
{
	unsigned int i;

	for (i = 0; i < pf->netdev_count; i++)
		if (!strcmp(pf->netdevs[i].name, device))
			return true;
	return !strcmp(pf->address, device) || !strcmp(pf->ib_device, device);
}

static bool is_here(const struct ibh_pfs *pfs, const char *device)
{
	size_t i;

	for (i = 0; i < pfs->count; i++)
		if (has_name(pfs->pfs[i], device))
			return true;
	return false;
}

/* The network device of a PF that is known to have an altname; NULL. */
static const struct ibh_netdev *with_altname(const struct ibh_pfs *pfs,
					     const char *altname)
{
	unsigned int n;
	size_t i;

	for (i = 0; i < pfs->count; i++)
		for (n = 0; n < pfs->pfs[i]->netdev_count; n++)
			if (has_altname(&pfs->pfs[i]->netdevs[n], altname))
				return &pfs->pfs[i]->netdevs[n];
	return NULL;
}

/* … or has it by the kernel's word. Name and index have to be right, for
 * sysfs may be of another namespace than netlink. */
static const struct ibh_netdev *ask_for(struct ibh_host *host,
					const struct ibh_pfs *pfs,
					const char *altname)
{
	char name[IBH_NAME];
	unsigned int n;
	int ifindex;
	size_t i;

	if (netlink_named(host, altname, &ifindex, name))
		return NULL;
	for (i = 0; i < pfs->count; i++) {
		for (n = 0; n < pfs->pfs[i]->netdev_count; n++) {
			const struct ibh_netdev *at = &pfs->pfs[i]->netdevs[n];

			if (at->ifindex == ifindex && !strcmp(at->name, name))
				return at;
		}
	}
	return NULL;
}

void networks_find(struct ibh_host *host, const struct ibh_pfs *pfs)
{
	size_t i, used;

	for (i = 0; i < host->mapping_count; i++) {
		const char *device = host->mappings[i].device;
		struct ibh_netdev *netdev;

		if (network_leads(pfs, device))
			continue;
		/* They are being made. */
		netdev = (struct ibh_netdev *)ask_for(host, pfs, device);
		if (!netdev)
			continue;
		used = strlen(netdev->altnames);
		if (used + strlen(device) + 1 < sizeof(netdev->altnames))
			format(netdev->altnames + used,
			       sizeof(netdev->altnames) - used, "%s,", device);
	}
}

bool networks_hold(struct ibh_host *host, const struct ibh_pfs *pfs)
{
	size_t i;

	for (i = 0; i < host->mapping_count; i++) {
		const char *device = host->mappings[i].device;

		if (!is_here(pfs, device) &&
		    ask_for(host, pfs, device) != with_altname(pfs, device))
			return false;
	}
	return true;
}

int ibh_netdev_named(struct ibh_host *host, const char *altname,
		     char name[IBH_NAME])
{
	int ifindex;

	return netlink_named(host, altname, &ifindex, name) ? -1 : 0;
}

unsigned int network_port(const struct ibh_host *host, const char *network,
			  const struct ibh_pf *pf)
{
	unsigned int i;

	for (i = 0; i < pf->netdev_count; i++)
		if (behind(host, network, pf->netdevs[i].name,
			   &pf->netdevs[i]))
			return pf->netdevs[i].port;
	if (behind(host, network, pf->address, NULL) ||
	    behind(host, network, pf->ib_device, NULL))
		return pf->ports[0].number;
	return 0;
}

bool network_leads(const struct ibh_pfs *pfs, const char *device)
{
	return is_here(pfs, device) || with_altname(pfs, device);
}

const char *network_missing(const struct ibh_host *host, const char *network,
			    const struct ibh_pfs *pfs)
{
	size_t i;

	for (i = 0; i < host->mapping_count; i++) {
		const struct ibh_mapping *one = &host->mappings[i];

		if (!strcmp(one->network, network) &&
		    !network_leads(pfs, one->device))
			return one->device;
	}
	return NULL;
}

void network_devices(const struct ibh_pfs *pfs, char *text, size_t size)
{
	size_t used = 0, i;
	unsigned int n;

	format(text, size, "none");
	for (i = 0; i < pfs->count; i++) {
		const struct ibh_pf *pf = pfs->pfs[i];

		for (n = 0; n < pf->netdev_count || !n; n++) {
			if (used + 1 >= size)
				return;
			format(text + used, size - used, "%s%s",
			       used ? ", " : "",
			       pf->netdev_count ? pf->netdevs[n].name :
						  pf->ib_device);
			used += strlen(text + used);
		}
	}
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
