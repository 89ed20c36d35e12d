/* SPDX-License-Identifier: Apache-2.0 */
/* The host: its sysfs, HCAs and VFs, and the locks. Read only, but for what
 * sysfs_write() is asked to write. */
#include "ebrctl.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "ibhostdev/ioctl.h"
#include "ibhostdev/rtnetlink.h"
#include "ibhostdev/sysfs.h"

#define DEVICES "bus/pci/devices"
#define RUN_DIR "/run/ibhostdev"
/* The driver gives up on a firmware command after 60 s (mlx5 core/cmd.c). */
#define NETLINK_SECONDS 70
#define LOCK_SECONDS 180

/* What a simulated host's processes tell one another
 * (ibhostdev/simulate/netlink.py): a write() to its sysfs. */
#define SIMULATED_WRITE 0x7001
#define SIMULATED_PATH 1
#define SIMULATED_VALUE 2

struct pf pfs[MAX_PFS];
unsigned int pf_count;
bool pf_missing;

static int root = -1;
static int folder = -1; /* of a simulated host */
static uint32_t netlink_port, sysfs_port;
static int locks[MAX_PFS];
static unsigned int lock_count;

/* ---- errors ----------------------------------------------------------- */

static const char *usual_cure(int err)
{
	switch (err) {
	case EPERM:
		return "needs CAP_NET_ADMIN in the network namespace of the PF";
	case EACCES:
		return "run as root, or with CAP_DAC_OVERRIDE";
	case EROFS:
		return "/sys is mounted read-only here: mount it writable, or "
		       "give the PF an IPoIB netdev so that netlink serves";
	case ENODEV:
	case ENOENT:
		return "the device went away, or its driver does not offer "
		       "this: check that the PF's driver is bound and its VFs "
		       "are enabled";
	case EOPNOTSUPP:
		return "the driver of this PF cannot do it: see 'ibhostdev "
		       "doctor'";
	case ETIMEDOUT:
		return "firmware does not answer: look into the kernel log for "
		       "the health of the HCA";
	case EIO:
	case EINVAL:
		return "driver or firmware refused: look into the kernel log";
	case EBUSY:
	case EAGAIN:
		return "something else has the device: try again";
	case ENOBUFS:
		return "the kernel is out of socket memory: try again";
	case EMSGSIZE:
		return "the kernel cannot put this many VFs into a message: "
		       "update it, or install MLNX_OFED";
	default:
		return NULL;
	}
}

static void append(struct error *error, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void append(struct error *error, const char *format, ...)
{
	size_t used = strlen(error->text);
	va_list args;

	va_start(args, format);
	vsnprintf(error->text + used, sizeof(error->text) - used, format, args);
	va_end(args);
}

int fail(struct error *error, const char *device, const char *attribute,
	 int err, const char *cure, const char *what, ...)
{
	char text[512];
	va_list args;

	va_start(args, what);
	vsnprintf(text, sizeof(text), what, args);
	va_end(args);
	error->text[0] = '\0';
	if (device)
		append(error, attribute ? "%s " : "%s: ", device);
	if (attribute)
		append(error, "%s: ", attribute);
	append(error, "%s", text);
	if (err) {
		append(error, ": %s", strerror(err));
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 32)
		append(error, " (%s)",
		       strerrorname_np(err) ? strerrorname_np(err) : "?");
#else
		append(error, " (%d)", err);
#endif
	}
	if (!cure)
		cure = usual_cure(err);
	if (cure)
		append(error, "; %s", cure);
	return -1;
}

void warn(const char *what, ...)
{
	va_list args;

	fputs("ebrctl: warning: ", stderr);
	va_start(args, what);
	vfprintf(stderr, what, args);
	va_end(args);
	fputc('\n', stderr);
}

/* ---- sysfs and netlink ------------------------------------------------ */

static uint32_t port_in(const char *state, const char *key)
{
	const char *at = strstr(state, key);

	return at ? (uint32_t)strtoul(at + strlen(key), NULL, 10) : 0;
}

/*
 * A simulated host, for trying and testing without rights or hardware. Its
 * folder must be the caller's own, and a program that runs with more rights
 * than its caller has does not look for one at all.
 */
static int open_simulated(const char *path, struct error *error)
{
	char state[VALUE_SIZE];
	struct stat about;
	ssize_t n;

	folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0 || fstat(folder, &about))
		return fail(error, path, NULL, errno, NULL,
			    "no such simulated host");
	if (about.st_uid != geteuid())
		return fail(error, path, NULL, EPERM,
			    "unset IBHOSTDEV_HOST",
			    "the simulated host is somebody else's");
	n = ibh_attr_read(folder, "host.json", state, sizeof(state));
	if (n >= 0) {
		state[n] = '\0';
		netlink_port = port_in(state, "\"netlink_port\":");
		sysfs_port = port_in(state, "\"sysfs_port\":");
	}
	root = openat(folder, "sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0 || !netlink_port || !sysfs_port)
		return fail(error, path, NULL, 0,
			    "start it: ibhostdev simulate FOLDER",
			    "is no simulated host that is being served");
	return 0;
}

int host_open(struct error *error)
{
	const char *simulated = secure_getenv("IBHOSTDEV_HOST");

	if (simulated)
		return open_simulated(simulated, error);
	root = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return fail(error, "/sys", NULL, errno, NULL,
			    "cannot be opened");
	return 0;
}

void join(char path[PATH_SIZE], const char *format, ...)
{
	va_list args;

	va_start(args, format);
	/* One that did not fit would lead elsewhere: to nothing, instead. */
	if (vsnprintf(path, PATH_SIZE, format, args) >= PATH_SIZE)
		path[0] = '\0';
	va_end(args);
}

int sysfs_read(char *value, size_t size, const char *path)
{
	ssize_t n = ibh_attr_read(root, path, value, size);

	if (n < 0)
		return (int)n;
	while (n > 0 && value[n - 1] == '\n')
		n--;
	value[n] = '\0';
	return (int)n;
}

int sysfs_link(char *name, size_t size, const char *path)
{
	char target[PATH_SIZE];
	ssize_t n = ibh_link_read(root, path, target, sizeof(target) - 1);
	const char *base;

	if (n < 0)
		return (int)n;
	target[n] = '\0';
	base = strrchr(target, '/');
	base = base ? base + 1 : target;
	if (strlen(base) >= size)
		return -ENAMETOOLONG;
	strcpy(name, base);
	return (int)strlen(name);
}

static int simulated_write(const char *path, const char *value)
{
	static uint32_t seq;
	unsigned char message[PATH_SIZE + 128]
		__attribute__((aligned(NLMSG_ALIGNTO))) = { 0 };
	struct nlmsghdr *nlh = (struct nlmsghdr *)message;
	size_t path_len = strlen(path), len = strlen(value);
	unsigned char *at = message + NLMSG_HDRLEN;
	int err, answer;
	int fd;

	if (path_len >= PATH_SIZE || len > 64)
		return -EINVAL;
	ibh_put_nla(at, SIMULATED_PATH, path_len);
	memcpy(at + NLA_HDRLEN, path, path_len);
	at += NLA_HDRLEN + NLA_ALIGN(path_len);
	ibh_put_nla(at, SIMULATED_VALUE, len);
	memcpy(at + NLA_HDRLEN, value, len);
	at += NLA_HDRLEN + NLA_ALIGN(len);
	nlh->nlmsg_type = SIMULATED_WRITE;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	nlh->nlmsg_seq = ++seq;
	nlh->nlmsg_len = (uint32_t)(at - message);
	fd = ibh_nl_open(NETLINK_USERSOCK, NETLINK_SECONDS);
	if (fd < 0)
		return fd;
	err = ibh_nl_send(fd, sysfs_port, message, nlh->nlmsg_len);
	if (!err)
		err = ibh_nl_acks(fd, sysfs_port, seq, 1, &answer);
	close(fd);
	return err ? err : answer;
}

int sysfs_write(const char *path, const char *value)
{
	if (folder >= 0)
		return simulated_write(path, value);
	return ibh_attr_write(root, path, value, strlen(value));
}

int sysfs_list(const char *path, int (*take)(const char *name, void *context),
	       void *context)
{
	int fd = openat(root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *entry;
	int result = 0;
	DIR *dir;

	if (fd < 0)
		return -errno;
	dir = fdopendir(fd);
	if (!dir) {
		result = -errno;
		close(fd);
		return result;
	}
	while (!result && (entry = readdir(dir)))
		if (entry->d_name[0] != '.' &&
		    strlen(entry->d_name) < NAME_SIZE)
			result = take(entry->d_name, context);
	closedir(dir);
	return result;
}

int netlink_open(void)
{
	return ibh_nl_open(folder < 0 ? NETLINK_ROUTE : NETLINK_USERSOCK,
			   NETLINK_SECONDS);
}

uint32_t netlink_peer(void)
{
	return netlink_port;
}

/* sysfs lists the devices of the namespace it was mounted in; by that name
 * or index ours may have another device, or none. */
bool netlink_reaches(const struct pf *pf, const struct netdev *netdev,
		     char *why, size_t size)
{
	struct ibh_driver driver;
	int found;

	if (folder >= 0)
		return true;
	found = ibh_ifindex(netdev->name);
	if (found >= 0) {
		int err = ibh_driver(netdev->name, &driver);

		if (err)
			found = err;
	}
	if (found < 0) {
		snprintf(why, size,
			 "%s cannot be reached from this network namespace: "
			 "%s",
			 netdev->name, strerror(-found));
		return false;
	}
	if (found != netdev->ifindex || strcmp(driver.bus_info, pf->address)) {
		snprintf(why, size,
			 "in this network namespace %s is another device",
			 netdev->name);
		return false;
	}
	return true;
}

/* ---- PFs -------------------------------------------------------------- */

/* Decimal, or hex as sysfs writes it; absent files count as 0. */
static int read_number(unsigned int *number, const char *path)
{
	char value[NAME_SIZE], *end;
	unsigned long n;
	int len = sysfs_read(value, sizeof(value), path);

	*number = 0;
	if (len == -ENOENT)
		return 0;
	if (len < 0)
		return len;
	errno = 0;
	n = strtoul(value, &end, 0);
	if (errno || end == value || *end || n > INT32_MAX)
		return -EINVAL;
	*number = (unsigned int)n;
	return 0;
}

static int take_port(const char *name, void *context)
{
	char path[PATH_SIZE], layer[NAME_SIZE];
	struct pf *pf = context;
	char *end;
	unsigned long number = strtoul(name, &end, 10);
	unsigned int at;

	if (*end || number == 0 || number > 255 || pf->port_count == MAX_PORTS)
		return 0;
	join(path, DEVICES "/%s/infiniband/%s/ports/%s/link_layer", pf->address,
	     pf->ib_device, name);
	if (sysfs_read(layer, sizeof(layer), path) < 0 ||
	    strcmp(layer, "InfiniBand"))
		return 0;
	for (at = pf->port_count++; at > 0 && pf->ports[at - 1] > number; at--)
		pf->ports[at] = pf->ports[at - 1];
	pf->ports[at] = (unsigned int)number;
	return 0;
}

static int take_netdev(const char *name, void *context)
{
	static const char *const files[] = { "type", "ifindex", "iflink",
					     "dev_port" };
	unsigned int values[4], i;
	struct pf *pf = context;
	struct netdev *netdev;
	char path[PATH_SIZE];

	for (i = 0; i < 4; i++) {
		join(path, DEVICES "/%s/net/%s/%s", pf->address, name,
		     files[i]);
		if (read_number(&values[i], path))
			return 0;
	}
	/* A P_Key child shows its parent's index in iflink. */
	if (values[0] != 32 || values[1] != values[2] ||
	    pf->netdev_count == MAX_PORTS)
		return 0;
	netdev = &pf->netdevs[pf->netdev_count++];
	strcpy(netdev->name, name);
	netdev->ifindex = (int)values[1];
	netdev->port = values[3] + 1;
	return 0;
}

/* 1 if it is a PF with InfiniBand ports, or a negative errno. */
static int read_pf(struct pf *pf)
{
	char path[PATH_SIZE], driver[NAME_SIZE];
	unsigned int autoprobe;
	struct {
		const char *file;
		unsigned int *number;
	} numbers[] = {
		{ "sriov_numvfs", &pf->numvfs },
		{ "sriov_offset", &pf->offset },
		{ "sriov_stride", &pf->stride },
		{ "sriov_drivers_autoprobe", &autoprobe },
	};
	size_t i;
	int err;

	join(path, DEVICES "/%s/driver", pf->address);
	if (sysfs_link(driver, sizeof(driver), path) < 0)
		return 0;
	if (!strcmp(driver, "mlx4_core"))
		pf->family = MLX4;
	else if (strcmp(driver, "mlx5_core"))
		return 0;
	join(path, DEVICES "/%s/infiniband/%s/ports", pf->address,
	     pf->ib_device);
	err = sysfs_list(path, take_port, pf);
	if (err && err != -ENOENT)
		return err;
	if (!pf->port_count)
		return 0;
	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		join(path, DEVICES "/%s/%s", pf->address, numbers[i].file);
		err = read_number(numbers[i].number, path);
		if (err)
			return err;
	}
	pf->autoprobe = autoprobe != 0;
	/* With an Ethernet port the folders hold many files but no policy. */
	join(path, DEVICES "/%s/sriov/0/policy", pf->address);
	if (pf->family == MLX5 && !faccessat(root, path, F_OK, 0))
		pf->family = MLX5_OFED;
	join(path, DEVICES "/%s/net", pf->address);
	err = sysfs_list(path, take_netdev, pf);
	return err && err != -ENOENT ? err : 1;
}

static int take_ib_device(const char *name, void *context)
{
	char path[PATH_SIZE], target[PATH_SIZE], *part;
	struct pf *pf = &pfs[pf_count];
	struct error *error = context;
	struct error trouble;
	unsigned int i;
	ssize_t n;
	int found;

	join(path, "class/infiniband/%s", name);
	n = ibh_link_read(root, path, target, sizeof(target) - 1);
	if (n < 0)
		return 0;
	target[n] = '\0';
	/* …/0000:3b:00.0/infiniband/mlx5_0; software devices have no PCI
	 * parent */
	for (i = 0; i < 2; i++) {
		part = strrchr(target, '/');
		if (!part)
			return 0;
		*part = '\0';
	}
	part = strrchr(target, '/');
	part = part ? part + 1 : target;
	memset(pf, 0, sizeof(*pf));
	if (ibh_parse_pci(part, strlen(part), &pf->pci))
		return 0;
	ibh_format_pci(pf->pci, pf->address);
	/* Only a PF has this file: what the VFs' own driver registers is not
	 * of interest here. */
	join(path, DEVICES "/%s/sriov_totalvfs", pf->address);
	if (faccessat(root, path, F_OK, 0))
		return 0;
	for (i = 0; i < pf_count; i++)
		if (!strcmp(pfs[i].address, pf->address))
			return 0;
	strcpy(pf->ib_device, name);
	found = read_pf(pf);
	if (found < 0) {
		/* One that is ill must not stop the others. */
		fail(&trouble, pf->address, NULL, -found, NULL,
		     "the PF cannot be read");
		warn("%s", trouble.text);
		pf_missing = true;
	} else if (found && pf->numvfs > MAX_VFS) {
		return fail(error, pf->address, "sriov_numvfs", 0, NULL,
			    "has more than %d VFs", MAX_VFS);
	} else if (found) {
		if (++pf_count == MAX_PFS)
			return fail(error, "class/infiniband", NULL, 0, NULL,
				    "has %d PFs and more", MAX_PFS);
	}
	return 0;
}

static int by_address(const void *a, const void *b)
{
	return strcmp(((const struct pf *)a)->address,
		      ((const struct pf *)b)->address);
}

int find_pfs(struct error *error)
{
	int err;

	pf_count = 0;
	pf_missing = false;
	error->text[0] = '\0';
	err = sysfs_list("class/infiniband", take_ib_device, error);
	if (err && error->text[0])
		return -1;
	if (err && err != -ENOENT)
		return fail(error, "class/infiniband", NULL, -err, NULL,
			    "cannot be listed");
	qsort(pfs, pf_count, sizeof(pfs[0]), by_address);
	return 0;
}

/* ---- fabrics ---------------------------------------------------------- */

/* NETWORK:DEVICE, separated by commas or white space, as eswitchd takes it;
 * a # begins a comment. Read once. */
static const char *fabrics(struct error *error)
{
	static char text[1 << 16];
	static bool ready;
	const char *given;
	ssize_t n;
	char *at;

	if (ready)
		return text;
	given = secure_getenv("IBHOSTDEV_PHYSICAL_DEVICE_MAPPINGS");
	if (given) {
		if (strlen(given) >= sizeof(text)) {
			fail(error, "IBHOSTDEV_PHYSICAL_DEVICE_MAPPINGS", NULL,
			     E2BIG, NULL, "cannot be taken");
			return NULL;
		}
		strcpy(text, given);
	} else if (folder < 0) {
		n = ibh_attr_read(AT_FDCWD, FABRICS, text, sizeof(text));
		if (n < 0 && n != -ENOENT) {
			fail(error, FABRICS, NULL, (int)-n, NULL,
			     "cannot be read");
			return NULL;
		}
		text[n < 0 ? 0 : n] = '\0';
	}
	for (at = text; *at; at++)
		if (*at == '#')
			memset(at, ' ', strcspn(at, "\n"));
	ready = true;
	return text;
}

/* The next NETWORK:DEVICE of *text; false at the end. */
static bool next_mapping(const char **text, const char **network,
			 size_t *network_len, const char **device,
			 size_t *device_len)
{
	static const char between[] = ", \t\r\n";
	const char *colon;
	size_t len;

	*text += strspn(*text, between);
	len = strcspn(*text, between);
	if (!len)
		return false;
	*network = *text;
	*text += len;
	/* The first colon: a PCI address has some of its own. */
	colon = memchr(*network, ':', len);
	*network_len = colon ? (size_t)(colon - *network) : len;
	*device = colon ? colon + 1 : *text;
	*device_len = (size_t)(*text - *device);
	return true;
}

static bool is(const char *name, const char *text, size_t len)
{
	return strlen(name) == len && !memcmp(name, text, len);
}

int know_fabric(const char *fabric, struct error *error)
{
	const char *text = fabrics(error), *network, *device;
	size_t network_len, device_len;
	bool any = false, known = false;

	if (!text)
		return -1;
	while (next_mapping(&text, &network, &network_len, &device,
			    &device_len)) {
		if (!network_len || !device_len)
			return fail(error, FABRICS, NULL, 0,
				    "write as in default:ib0,default:ib1",
				    "'%.*s' is not of the form NETWORK:DEVICE",
				    (int)(text - network), network);
		any = true;
		known = known || is(fabric, network, network_len);
	}
	if (!any)
		return NO_MAPPING;
	return known ? MAPPED : UNMAPPED;
}

unsigned int port_on(const struct pf *pf, const char *fabric)
{
	struct error unused;
	const char *text = fabrics(&unused), *network, *device;
	size_t network_len, device_len;
	unsigned int i;

	while (text && next_mapping(&text, &network, &network_len, &device,
				    &device_len)) {
		if (!is(fabric, network, network_len))
			continue;
		for (i = 0; i < pf->netdev_count; i++)
			if (is(pf->netdevs[i].name, device, device_len))
				return pf->netdevs[i].port;
		if (is(pf->address, device, device_len) ||
		    is(pf->ib_device, device, device_len))
			return pf->ports[0];
	}
	return 0;
}

/* ---- VFs -------------------------------------------------------------- */

/* By the SR-IOV capability's offset and stride (drivers/pci/iov.c): VFs may
 * lie on later buses than their PF. */
static struct ibh_pci vf_pci(const struct pf *pf, unsigned int index)
{
	struct ibh_pci pci = pf->pci;

	pci.rid = (uint16_t)(pci.rid + pf->offset + pf->stride * index);
	return pci;
}

void vf_address(const struct pf *pf, unsigned int index,
		char address[IBH_PCI_TEXT + 1])
{
	ibh_format_pci(vf_pci(pf, index), address);
}

static int no_vf(const char *address, struct error *error)
{
	char path[PATH_SIZE];

	join(path, DEVICES "/%s", address);
	if (faccessat(root, path, F_OK, 0))
		return fail(error, address, NULL, 0,
			    "see 'ibhostdev list' for the VFs of this host",
			    "there is no such PCI device");
	join(path, DEVICES "/%s/sriov_totalvfs", address);
	return fail(error, address, "physfn", 0,
		    "name one of its VFs; see 'ibhostdev list'",
		    "is %s: it has no physfn",
		    faccessat(root, path, F_OK, 0) ? "no VF" : "a PF");
}

int locate(struct ibh_pci pci, const struct pf **found, unsigned int *index,
	   struct error *error)
{
	char path[PATH_SIZE], name[NAME_SIZE], address[IBH_PCI_TEXT + 1];
	const struct pf *pf = NULL;
	unsigned int distance, i;

	ibh_format_pci(pci, address);
	join(path, DEVICES "/%s/physfn", address);
	if (sysfs_link(name, sizeof(name), path) < 0)
		return no_vf(address, error);
	for (i = 0; i < pf_count; i++)
		if (!strcmp(pfs[i].address, name))
			pf = &pfs[i];
	if (!pf)
		return fail(error, address, "physfn", 0,
			    "load the InfiniBand driver (mlx5_ib, mlx4_ib), or "
			    "name a VF of an InfiniBand adapter",
			    "its PF %s has no InfiniBand port", name);
	distance = (uint16_t)(pci.rid - pf->pci.rid - pf->offset);
	i = pf->stride ? distance / pf->stride : distance;
	/* No driver checks the index, and a wrong one is somebody else's. */
	if (i >= pf->numvfs || vf_pci(pf, i).rid != pci.rid)
		return fail(error, address, "sriov_numvfs", 0,
			    "write the number of VFs to the PF's sriov_numvfs",
			    "is no VF below the %u that %s has enabled",
			    pf->numvfs, pf->address);
	join(path, DEVICES "/%s/virtfn%u", pf->address, i);
	if (sysfs_link(name, sizeof(name), path) < 0 || strcmp(name, address))
		return fail(error, address, "virtfn", 0,
			    "enable the PF's VFs anew",
			    "its PF %s does not list it as VF %u", pf->address,
			    i);
	*found = pf;
	*index = i;
	return 0;
}

int read_vf(const struct side *side, unsigned int index, struct vf *vf,
	    struct error *error)
{
	char path[PATH_SIZE], value[NAME_SIZE];

	memset(vf, 0, sizeof(*vf));
	vf->side = side;
	vf->index = index;
	vf_address(side->pf, index, vf->address);
	join(path, DEVICES "/%s/physfn", vf->address);
	if (sysfs_link(value, sizeof(value), path) < 0 ||
	    strcmp(value, side->pf->address))
		return fail(error, vf->address, NULL, 0, "try again",
			    "the VF vanished");
	join(path, DEVICES "/%s/driver", vf->address);
	if (sysfs_link(vf->driver, sizeof(vf->driver), path) < 0)
		vf->driver[0] = '\0';
	join(path, DEVICES "/%s/enable", vf->address);
	/* What cannot be read may be in use. */
	vf->in_use = strstr(vf->driver, "vfio") &&
		     (sysfs_read(value, sizeof(value), path) < 0 ||
		      strcmp(value, "0"));
	return 0;
}

struct taken {
	const struct vf *vf;
	uint64_t guid;
};

static int take_identity(const char *name, void *context)
{
	char path[PATH_SIZE], value[NAME_SIZE], *from, *to;
	struct taken *taken = context;

	join(path, DEVICES "/%s/infiniband/%s/node_guid", taken->vf->address,
	     name);
	if (sysfs_read(value, sizeof(value), path) < 0)
		return 0;
	/* four groups of four digits */
	for (from = to = value; *from; from++)
		if (*from != ':')
			*to++ = *from;
	*to = '\0';
	taken->guid = strtoull(value, NULL, 16);
	return 1;
}

uint64_t own_identity(const struct vf *vf)
{
	struct taken taken = { .vf = vf };
	char path[PATH_SIZE];

	join(path, DEVICES "/%s/infiniband", vf->address);
	sysfs_list(path, take_identity, &taken);
	return taken.guid;
}

/* ---- locks ------------------------------------------------------------ */

/* 1 if it had to be waited for. */
static int take_lock(int fd)
{
	struct timespec start, now, pause = { .tv_nsec = 1000000 };
	int waited = 0;

	clock_gettime(CLOCK_MONOTONIC, &start);
	while (flock(fd, LOCK_EX | LOCK_NB)) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec - start.tv_sec > LOCK_SECONDS)
			return -ETIMEDOUT;
		nanosleep(&pause, NULL);
		if (pause.tv_nsec < 20000000)
			pause.tv_nsec *= 2;
		waited = 1;
	}
	return waited;
}

/* The kernel drops the locks of a process that dies. */
int lock_pfs(const bool wanted[MAX_PFS], struct error *error)
{
	char name[IBH_PCI_TEXT + 8];
	int run, waited = 0;
	unsigned int i;

	for (i = 0; i < pf_count && !wanted[i]; i++)
		;
	if (i == pf_count)
		return 0;
	if (folder >= 0) {
		run = openat(folder, "run", O_PATH | O_DIRECTORY | O_CLOEXEC);
	} else {
		if (mkdir(RUN_DIR, 0755) && errno != EEXIST)
			return fail(error, RUN_DIR, "lock", errno, NULL,
				    "cannot be made");
		run = open(RUN_DIR, O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
	if (run < 0)
		return fail(error, RUN_DIR, "lock", errno, NULL,
			    "cannot be opened");
	for (i = 0; i < pf_count; i++) {
		int fd, got;

		if (!wanted[i])
			continue;
		snprintf(name, sizeof(name), "%s.lock", pfs[i].address);
		fd = openat(run, name,
			    O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		got = fd < 0 ? -errno : take_lock(fd);
		if (fd >= 0)
			locks[lock_count++] = fd;
		if (got < 0) {
			close(run);
			unlock_pfs();
			return fail(error, name, "lock", -got, NULL,
				    "cannot be taken");
		}
		waited |= got;
	}
	close(run);
	return waited;
}

void unlock_pfs(void)
{
	while (lock_count)
		close(locks[--lock_count]);
}
