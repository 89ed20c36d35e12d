// SPDX-License-Identifier: Apache-2.0
/* A PF: its ports, its network devices, its VFs' number and place. */
#include "devices.h"
#include "path.h"

#define MAX_VFS 0xffff /* NumVFs has 16 bits (PCI Express, SR-IOV) */
#define ARPHRD_INFINIBAND 32

static struct ibh_error *unreadable(const struct ibh_pf *pf, const char *file,
				    int err)
{
	struct path folder;

	path_device(&folder, pf->address, "");
	return fail(T_UNREADABLE, folder.text, file, err, NULL, NULL, NULL);
}

/* Decimal, or hex as sysfs writes it; *is_there says whether there is such a
 * file. */
static struct ibh_error *read_number(struct ibh_host *host,
				     const struct ibh_pf *pf,
				     const char *file, unsigned int *number,
				     bool *is_there)
{
	char value[SHORT_VALUE], *end;
	struct path path;
	unsigned long n;
	ssize_t len;

	*number = 0;
	path_device(&path, pf->address, "/");
	path_add(&path, file);
	len = host_read(host, path.text, value, sizeof(value));
	*is_there = len != -ENOENT;
	if (!*is_there)
		return NULL;
	if (len < 0)
		return unreadable(pf, file, (int)len);
	errno = 0;
	n = strtoul(value, &end, 0);
	if (errno || end == value || *end || value[0] == '-' ||
	    n > INT32_MAX) {
		path_device(&path, pf->address, "");
		return fail(T_NO_NUMBER, path.text, file, EINVAL, value, NULL,
			    NULL);
	}
	*number = (unsigned int)n;
	return NULL;
}

struct ibh_error *pf_number(struct ibh_host *host, const struct ibh_pf *pf,
			    const char *file, unsigned int *number)
{
	bool is_there;

	return read_number(host, pf, file, number, &is_there);
}

static void ib_path(struct path *path, const struct ibh_pf *pf,
		    const char *rest)
{
	path_device(path, pf->address, "/infiniband/");
	path_add(path, pf->ib_device);
	path_add(path, rest);
}

static int read_of_port(struct ibh_host *host, const struct ibh_pf *pf,
			unsigned int port, const char *file,
			char value[SHORT_VALUE])
{
	struct path path;

	ib_path(&path, pf, "/ports/");
	path_number(&path, port);
	path_add(&path, file);
	return (int)host_read(host, path.text, value, SHORT_VALUE);
}

/* A folder comes before what is in it (drivers/infiniband/core/sysfs.c,
 * setup_port): without its link_layer a port is one to look at again. */
static struct ibh_error *read_port(struct ibh_host *host, struct ibh_pf *pf,
				   const char *name, bool *early)
{
	char value[SHORT_VALUE], *end;
	unsigned long number = strtoul(name, &end, 10);
	struct ibh_port port = { .state = "unknown" };
	unsigned int at;
	int err;

	if (*end || !number || number > 255 || pf->port_count == IBH_MAX_PORTS)
		return NULL;
	port.number = (unsigned int)number;
	err = read_of_port(host, pf, port.number, "/link_layer", value);
	if (err < 0 && err != -ENOENT)
		return unreadable(pf, "link_layer", err);
	*early |= err < 0;
	if (err < 0 || strcmp(value, "InfiniBand"))
		return NULL;
	for (at = pf->port_count++;
	     at > 0 && pf->ports[at - 1].number > port.number; at--)
		pf->ports[at] = pf->ports[at - 1];
	pf->ports[at] = port;
	return NULL;
}

/* An HCA that is ill cannot tell; its VFs can be made idle. */
void pf_read_states(struct ibh_host *host, struct ibh_pf *pf)
{
	char value[SHORT_VALUE], *end;
	const char *state;
	unsigned long lid;
	unsigned int i;

	for (i = 0; i < pf->port_count; i++) {
		struct ibh_port *port = &pf->ports[i];

		/* "4: ACTIVE" */
		if (read_of_port(host, pf, port->number, "/state",
				 value) >= 0) {
			state = strrchr(value, ' ');
			format(port->state, sizeof(port->state), "%.15s",
			       state ? state + 1 : value);
			printable(port->state);
		}
		if (read_of_port(host, pf, port->number, "/sm_lid",
				 value) < 0 ||
		    strncmp(value, "0x", 2))
			continue;
		lid = strtoul(value, &end, 16);
		if (!*end && lid <= UINT32_MAX)
			port->sm_lid = (unsigned int)lid;
	}
}

/* The GUID of a port is the second half of its first GID. */
bool pf_read_guids(struct ibh_host *host, struct ibh_pf *pf)
{
	char value[SHORT_VALUE];
	struct path path;
	unsigned int i;
	bool all;

	ib_path(&path, pf, "/node_guid");
	all = host_read(host, path.text, value, sizeof(value)) >= 0 &&
	      !ibh_parse_digits(value, &pf->node_guid);
	for (i = 0; i < pf->port_count; i++)
		if (read_of_port(host, pf, pf->ports[i].number, "/gids/0",
				 value) < 0 ||
		    ibh_parse_digits(value, &pf->ports[i].guid))
			all = false;
	return all;
}

/* One that goes away, or is renamed, may be back under its name the next time:
 * *early says that it is to be looked at again. */
static struct ibh_error *read_netdev(struct ibh_host *host, struct ibh_pf *pf,
				     const char *name, bool *early)
{
	static const char *const files[] = { "type", "ifindex", "iflink",
					     "dev_port" };
	struct ibh_netdev netdev = { 0 };
	unsigned int values[4], i, at;
	struct path file = { .len = 0 };
	struct ibh_error *error;
	bool is_there;

	if (strlen(name) >= sizeof(netdev.name) ||
	    pf->netdev_count == IBH_MAX_NETDEVS)
		return NULL;
	path_add(&file, "net/");
	path_add(&file, name);
	path_is_folder(&file);
	for (i = 0; i < 4; i++) {
		error = read_number(host, pf, path_file(&file, files[i]),
				    &values[i], &is_there);
		/* EINVAL while it goes away (net/core/net-sysfs.c). */
		if (!is_there || (error && error->number == EINVAL)) {
			*early = true;
			ibh_error_free(error);
			return NULL;
		}
		if (error)
			return error;
	}
	/* A P_Key child shows its parent's index in iflink. */
	if (values[0] != ARPHRD_INFINIBAND || values[1] != values[2] ||
	    !values[1])
		return NULL;
	strcpy(netdev.name, name);
	netdev.ifindex = (int)values[1];
	netdev.port = values[3] + 1;
	for (at = pf->netdev_count++;
	     at > 0 && pf->netdevs[at - 1].port > netdev.port; at--)
		pf->netdevs[at] = pf->netdevs[at - 1];
	pf->netdevs[at] = netdev;
	return NULL;
}

/* An IB device is in class/infiniband before it has any port (core/device.c,
 * ib_register_device), and each has one. */
static struct ibh_error *read_ports(struct ibh_host *host, struct ibh_pf *pf,
				    bool *early)
{
	struct ibh_error *error;
	struct names names;
	struct path path;
	size_t i;

	ib_path(&path, pf, "/ports");
	error = host_names(host, path.text, &names);
	if (error)
		return error;
	*early |= !names.count;
	for (i = 0; i < names.count && !error; i++)
		error = read_port(host, pf, names.names[i], early);
	names_free(&names);
	return error;
}

static bool has_guid(const struct ibh_pf *pf)
{
	unsigned int i;

	for (i = 0; i < pf->port_count; i++)
		if (pf->ports[i].guid)
			return true;
	return false;
}

/*
 * One function may have several IB devices: planes and SMI devices of a
 * ConnectX-8 are beside the one that has InfiniBand ports. If their ports say
 * that they are InfiniBand's, too, they have no GUID.
 */
static struct ibh_error *choose_ib_device(struct ibh_host *host,
					  struct ibh_pf *pf,
					  const struct names *names,
					  bool *early)
{
	struct ibh_error *error = NULL;
	struct ibh_pf one = *pf, first = *pf;
	size_t i;

	for (i = 0; i < names->count && !error; i++) {
		if (strlen(names->names[i]) >= sizeof(one.ib_device))
			continue;
		one = *pf;
		strcpy(one.ib_device, names->names[i]);
		error = read_ports(host, &one, early);
		if (error || !one.port_count)
			continue;
		if (names->count > 1)
			*early |= !pf_read_guids(host, &one);
		if (names->count == 1 || has_guid(&one)) {
			*pf = one;
			return NULL;
		}
		if (!first.port_count)
			first = one;
	}
	/* Of several none has a GUID: that may be yet to come. */
	*early |= names->count > 1 && first.port_count;
	*pf = first;
	return error;
}

static struct ibh_error *read_ib_device(struct ibh_host *host,
					struct ibh_pf *pf, bool *early)
{
	struct ibh_error *error;
	struct names names;
	struct path path;

	path_device(&path, pf->address, "/infiniband");
	error = host_names(host, path.text, &names);
	if (error)
		return error;
	error = choose_ib_device(host, pf, &names, early);
	names_free(&names);
	return error;
}

static int is_any(const char *name, void *context)
{
	(void)name;
	(void)context;
	return 1;
}

/* In another RDMA namespace, of which sysfs shows nothing but the folder
 * (core/device.c, ib_class): its VFs may hold any GUID. */
static struct ibh_error *look_elsewhere(struct ibh_host *host,
					struct ibh_pf *pf)
{
	struct ibh_error *error;
	struct path path;

	path_device(&path, pf->address, "/infiniband");
	if (host_list(host, path.text, is_any, NULL))
		return NULL; /* one without InfiniBand ports, or none */
	error = pf_number(host, pf, "sriov_numvfs", &pf->numvfs);
	if (error || !pf->numvfs)
		return error;
	return fail(T_ELSEWHERE, pf->address, "infiniband", 0, NULL, NULL,
		    NULL);
}

static struct ibh_error *read_netdevs(struct ibh_host *host,
				      struct ibh_pf *pf, struct pf_seen *seen)
{
	struct ibh_error *error;
	struct names names;
	struct path path;
	size_t i;

	path_device(&path, pf->address, "/net");
	error = host_names(host, path.text, &names);
	if (error)
		return error;
	for (i = 0; i < names.count && !error; i++) {
		seen->netdevs += name_digest(names.names[i]);
		error = read_netdev(host, pf, names.names[i], &seen->early);
	}
	names_free(&names);
	return error;
}

static int is_policy(const char *name, void *context)
{
	(void)context;
	return !strcmp(name, "policy");
}

/* With an Ethernet port the folders hold many files, but no policy
 * (MLNX_OFED, mlx5/core/sriov_sysfs.c). To read it would ask firmware, and
 * fails for a VF that is ill. */
static struct ibh_error *find_family(struct ibh_host *host, struct ibh_pf *pf)
{
	struct path path;
	int found = 0;

	pf->family = IBH_MLX4;
	if (pf->driver[3] != '5')
		return NULL;
	path_device(&path, pf->address, "/sriov/0");
	if (pf->numvfs)
		found = host_list(host, path.text, is_policy, NULL);
	if (found < 0 && found != -ENOENT)
		return unreadable(pf, "sriov/0", found);
	pf->family = found == 1 ? IBH_MLX5_OFED : IBH_MLX5;
	return NULL;
}

/*
 * *is_one says whether it is a PF with InfiniBand ports; what cannot be read
 * may be one, whose VFs may hold any GUID, and is an error.
 */
struct ibh_error *pf_read(struct ibh_host *host, struct ibh_pci pci,
			  const char *driver, struct ibh_pf *pf, bool *is_one,
			  struct pf_seen *seen)
{
	unsigned int autoprobe;
	struct ibh_error *error;
	struct path path;
	char text[16];
	bool is_pf;

	*is_one = false;
	memset(pf, 0, sizeof(*pf));
	pf->pci = pci;
	ibh_format_pci(pci, pf->address);
	strcpy(pf->driver, driver);
	/* Only a PF has this file. */
	error = read_number(host, pf, "sriov_totalvfs", &pf->totalvfs, &is_pf);
	if (error || !is_pf)
		return error;
	error = read_ib_device(host, pf, &seen->early);
	if (error)
		return error;
	seen->lacks = !pf->port_count;
	if (seen->lacks)
		return look_elsewhere(host, pf);
	if ((error = pf_number(host, pf, "sriov_numvfs", &pf->numvfs)) ||
	    (error = pf_number(host, pf, "sriov_offset", &pf->offset)) ||
	    (error = pf_number(host, pf, "sriov_stride", &pf->stride)) ||
	    (error = pf_number(host, pf, "sriov_drivers_autoprobe",
				 &autoprobe)) ||
	    (error = read_netdevs(host, pf, seen)) ||
	    (error = find_family(host, pf)))
		return error;
	seen->lacks = pf->netdev_count < pf->port_count;
	pf->autoprobe = autoprobe != 0;
	if (pf->numvfs > MAX_VFS) {
		format(text, sizeof(text), "%u", pf->numvfs);
		path_device(&path, pf->address, "");
		return fail(T_TOO_MANY, path.text, "sriov_numvfs", EINVAL, text,
			    NULL, NULL);
	}
	*is_one = true;
	return NULL;
}
