// SPDX-License-Identifier: Apache-2.0
/* A PF: its ports, its network devices, its VFs' number and place. */
#include "internal.h"

#define MAX_VFS 0xffff /* NumVFs has 16 bits (PCI Express, SR-IOV) */
#define ARPHRD_INFINIBAND 32

/* Decimal, or hex as sysfs writes it; an absent file counts as 0. */
struct ibh_error *pf_number(struct ibh_host *host,
				     const struct ibh_pf *pf,
				     const char *file, unsigned int *number)
{
	char path[PATH_SIZE], value[SHORT_VALUE], folder[PATH_SIZE], *end;
	unsigned long n;
	ssize_t len;

	*number = 0;
	join(path, DEVICES "/%s/%s", pf->address, file);
	len = host_read(host, path, value, sizeof(value));
	if (len == -ENOENT)
		return NULL;
	join(folder, DEVICES "/%s", pf->address);
	if (len < 0)
		return fail(T_UNREADABLE, folder, file, (int)len, NULL, NULL,
			    NULL);
	errno = 0;
	n = strtoul(value, &end, 0);
	if (errno || end == value || *end || value[0] == '-' ||
	    n > INT32_MAX)
		return fail(T_NO_NUMBER, folder, file, EINVAL, value, NULL,
			    NULL);
	*number = (unsigned int)n;
	return NULL;
}

static int read_short(struct ibh_host *host, const struct ibh_pf *pf,
		       char value[SHORT_VALUE], const char *folder,
		       const char *name, const char *file)
{
	char path[PATH_SIZE];

	join(path, DEVICES "/%s/%s/%s/%s", pf->address, folder, name, file);
	return (int)host_read(host, path, value, SHORT_VALUE);
}

static struct ibh_error *unreadable(const struct ibh_pf *pf, const char *file,
				    int err)
{
	char folder[PATH_SIZE];

	join(folder, DEVICES "/%s", pf->address);
	return fail(T_UNREADABLE, folder, file, err, NULL, NULL, NULL);
}

static struct ibh_error *read_port(struct ibh_host *host, struct ibh_pf *pf,
				   const char *name)
{
	char folder[PATH_SIZE], value[SHORT_VALUE], *end;
	unsigned long number = strtoul(name, &end, 10);
	struct ibh_port port = { .state = "unknown" };
	unsigned int at;
	int err;

	if (*end || !number || number > 255 || pf->port_count == IBH_MAX_PORTS)
		return NULL;
	join(folder, "infiniband/%s/ports", pf->ib_device);
	err = read_short(host, pf, value, folder, name, "link_layer");
	if (err < 0 && err != -ENOENT)
		return unreadable(pf, "link_layer", err);
	if (err < 0 || strcmp(value, "InfiniBand"))
		return NULL;
	port.number = (unsigned int)number;
	for (at = pf->port_count++;
	     at > 0 && pf->ports[at - 1].number > port.number; at--)
		pf->ports[at] = pf->ports[at - 1];
	pf->ports[at] = port;
	return NULL;
}

/* An HCA that is ill cannot tell; its VFs can be made idle. */
void pf_read_states(struct ibh_host *host, struct ibh_pf *pf)
{
	char folder[PATH_SIZE], name[16], value[SHORT_VALUE], *end;
	const char *state;
	unsigned long lid;
	unsigned int i;

	join(folder, "infiniband/%s/ports", pf->ib_device);
	for (i = 0; i < pf->port_count; i++) {
		struct ibh_port *port = &pf->ports[i];

		format(name, sizeof(name), "%u", port->number);
		/* "4: ACTIVE" */
		if (read_short(host, pf, value, folder, name, "state") >= 0) {
			state = strrchr(value, ' ');
			format(port->state, sizeof(port->state), "%.15s",
			       state ? state + 1 : value);
			printable(port->state);
		}
		if (read_short(host, pf, value, folder, name, "sm_lid") < 0 ||
		    strncmp(value, "0x", 2))
			continue;
		lid = strtoul(value, &end, 16);
		if (!*end && lid <= UINT32_MAX)
			port->sm_lid = (unsigned int)lid;
	}
}

/* The GUID of a port is the second half of its first GID. */
void pf_read_guids(struct ibh_host *host, struct ibh_pf *pf)
{
	char folder[PATH_SIZE], name[16], value[SHORT_VALUE];
	unsigned int i;

	if (read_short(host, pf, value, "infiniband", pf->ib_device,
		       "node_guid") >= 0)
		(void)ibh_parse_digits(value, &pf->node_guid);
	join(folder, "infiniband/%s/ports", pf->ib_device);
	for (i = 0; i < pf->port_count; i++) {
		format(name, sizeof(name), "%u", pf->ports[i].number);
		if (read_short(host, pf, value, folder, name, "gids/0") >= 0)
			(void)ibh_parse_digits(value, &pf->ports[i].guid);
	}
}

static struct ibh_error *read_netdev(struct ibh_host *host, struct ibh_pf *pf,
				     const char *name)
{
	static const char *const files[] = { "type", "ifindex", "iflink",
					     "dev_port" };
	struct ibh_netdev netdev = { 0 };
	char file[PATH_SIZE];
	unsigned int values[4], i, at;
	struct ibh_error *error;

	if (strlen(name) >= sizeof(netdev.name) ||
	    pf->netdev_count == IBH_MAX_NETDEVS)
		return NULL;
	for (i = 0; i < 4; i++) {
		format(file, sizeof(file), "net/%s/%s", name, files[i]);
		error = pf_number(host, pf, file, &values[i]);
		/* One that goes away (net/core/net-sysfs.c), or no number. */
		if (error && error->number == EINVAL) {
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

static struct ibh_error *read_ports(struct ibh_host *host, struct ibh_pf *pf)
{
	struct ibh_error *error;
	struct names names;
	char path[PATH_SIZE];
	size_t i;

	join(path, DEVICES "/%s/infiniband/%s/ports", pf->address,
	     pf->ib_device);
	error = host_names(host, path, &names);
	if (error)
		return error;
	for (i = 0; i < names.count && !error; i++)
		error = read_port(host, pf, names.names[i]);
	names_free(&names);
	return error;
}

static struct ibh_error *read_netdevs(struct ibh_host *host,
				      struct ibh_pf *pf)
{
	struct ibh_error *error;
	struct names names;
	char path[PATH_SIZE];
	size_t i;

	join(path, DEVICES "/%s/net", pf->address);
	error = host_names(host, path, &names);
	if (error)
		return error;
	for (i = 0; i < names.count && !error; i++)
		error = read_netdev(host, pf, names.names[i]);
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
	char path[PATH_SIZE];
	int found = 0;

	pf->family = IBH_MLX4;
	if (pf->driver[3] != '5')
		return NULL;
	join(path, DEVICES "/%s/sriov/0", pf->address);
	if (pf->numvfs)
		found = host_list(host, path, is_policy, NULL);
	if (found < 0 && found != -ENOENT)
		return unreadable(pf, "sriov/0", found);
	pf->family = found == 1 ? IBH_MLX5_OFED : IBH_MLX5;
	return NULL;
}

/*
 * *pf has its address and IB device. *is_one says whether it is a PF with
 * InfiniBand ports; what cannot be read may be one, whose VFs may hold any
 * GUID, and is an error.
 */
struct ibh_error *pf_read(struct ibh_host *host, struct ibh_pf *pf,
				 bool *is_one)
{
	char path[PATH_SIZE], text[16];
	struct ibh_error *error;
	unsigned int autoprobe;
	ssize_t len;

	*is_one = false;
	join(path, DEVICES "/%s/driver", pf->address);
	len = host_base(host, path, pf->driver, sizeof(pf->driver));
	if (len < 0 && len != -ENOENT && len != -ENAMETOOLONG)
		return unreadable(pf, "driver", (int)len);
	if (len < 0)
		return NULL;
	if (strcmp(pf->driver, "mlx5_core") && strcmp(pf->driver, "mlx4_core"))
		return NULL;
	error = read_ports(host, pf);
	if (error || !pf->port_count)
		return error;
	if ((error = pf_number(host, pf, "sriov_numvfs", &pf->numvfs)) ||
	    (error = pf_number(host, pf, "sriov_totalvfs",
				 &pf->totalvfs)) ||
	    (error = pf_number(host, pf, "sriov_offset", &pf->offset)) ||
	    (error = pf_number(host, pf, "sriov_stride", &pf->stride)) ||
	    (error = pf_number(host, pf, "sriov_drivers_autoprobe",
				 &autoprobe)) ||
	    (error = read_netdevs(host, pf)) ||
	    (error = find_family(host, pf)))
		return error;
	pf->autoprobe = autoprobe != 0;
	if (pf->numvfs > MAX_VFS) {
		format(text, sizeof(text), "%u", pf->numvfs);
		join(path, DEVICES "/%s", pf->address);
		return fail(T_TOO_MANY, path, "sriov_numvfs", EINVAL, text,
			    NULL, NULL);
	}
	*is_one = true;
	return NULL;
}
