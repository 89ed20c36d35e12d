/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How VFs are told their identities and asked for them: what the files of
 * ibhostdev/mechanisms/ do, which also name the kernel's side of it.
 */
#include "ebrctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ibhostdev/rtnetlink.h"

#define TRIES 3
#define DEFAULT_PKEY 0x7fff /* 15 bits; the top one tells full members */
/* The subnet manager's answer to one request has a limit of 1 s in the mlx4
 * driver. */
#define PATIENCE_MS 10000

const char *const policy_names[] = { "follow", "up", "down" };
const char *const mechanism_names[] = { "none", "mlx5_netlink", "mlx5_sysfs",
					"mlx4_sysfs" };

static const char *const policy_words[] = { "Follow", "Up", "Down" };

bool guid_idle(uint64_t guid)
{
	return guid == 0 || guid == IBH_GUID_IDLE;
}

uint64_t owner(const struct state *state)
{
	if (state->have & HAVE_PORT && !guid_idle(state->port))
		return state->port;
	if (state->have & HAVE_NODE && !guid_idle(state->node))
		return state->node;
	return 0;
}

struct state identity(const struct side *side, uint64_t guid)
{
	struct state state = { .told = true };

	state.port = guid;
	state.have = HAVE_PORT;
	if (side->mechanism != MLX4_SYSFS) {
		state.node = guid;
		state.policy = guid == IBH_GUID_IDLE ? DOWN : FOLLOW;
		state.have |= HAVE_NODE | HAVE_POLICY;
	}
	return state;
}

/* ---- paths ------------------------------------------------------------ */

static void ofed_path(char path[PATH_SIZE], const struct side *side,
		      unsigned int index, const char *file)
{
	join(path, "bus/pci/devices/%s/sriov/%u/%s", side->pf->address, index,
	     file);
}

static void mlx4_port_path(char path[PATH_SIZE], const struct side *side,
			   const char *folder, unsigned int entry)
{
	join(path, "bus/pci/devices/%s/infiniband/%s/iov/ports/%u/%s/%u",
	     side->pf->address, side->pf->ib_device, side->port, folder, entry);
}

/* The driver names the folders by itself (mlx4/sysfs.c): the PF's bus, and
 * the slave's number in place of device and function. */
static void mlx4_vf_path(char path[PATH_SIZE], const struct side *side,
			 unsigned int index, const char *folder,
			 unsigned int entry)
{
	unsigned int slave = index + 1;
	const char *address = side->pf->address;

	join(path,
	     "bus/pci/devices/%s/infiniband/%s/iov/%.*s%02u.%u/ports/%u/%s/%u",
	     address, side->pf->ib_device,
	     (int)(strrchr(address, ':') + 1 - address), address, slave / 8,
	     slave % 8, side->port, folder, entry);
}

/* ---- choosing --------------------------------------------------------- */

int choose(struct side *side, struct error *error)
{
	const struct pf *pf = side->pf;
	char path[PATH_SIZE], value[NAME_SIZE], why[128];
	unsigned int i;

	for (i = 0; i < pf->netdev_count; i++)
		if (pf->netdevs[i].port == side->port)
			side->netdev = &pf->netdevs[i];
	if (pf->family == MLX4) {
		mlx4_port_path(path, side, "admin_guids", 0);
		if (sysfs_read(value, sizeof(value), path) >= 0) {
			side->mechanism = MLX4_SYSFS;
			return 0;
		}
		return fail(error, pf->address, NULL, 0,
			    "load mlx4_core with num_vfs",
			    "nothing can set the identities of its VFs: the "
			    "driver shows no iov folder");
	}
	snprintf(why, sizeof(why),
		 "the PF has no IPoIB network device here (ib_ipoib)");
	if (side->netdev &&
	    netlink_reaches(pf, side->netdev, why, sizeof(why))) {
		side->mechanism = MLX5_NETLINK;
		return 0;
	}
	if (pf->family == MLX5_OFED) {
		side->mechanism = MLX5_SYSFS;
		return 0;
	}
	return fail(error, pf->address, NULL, 0,
		    "load ib_ipoib, or install MLNX_OFED",
		    "nothing can set the identities of its VFs: %s, and no "
		    "sriov/<VF>/policy files (MLNX_OFED)",
		    why);
}

/* ---- mlx5 by netlink -------------------------------------------------- */

/* What netlink told last, and about which device. */
static struct ibh_vf_info told[MAX_VFS];
static uint32_t told_count;
static uint32_t seq;

/* The messages of one datagram; *more is 0 after the last. */
static int take_answer(const unsigned char *buf, size_t left, int ifindex,
		       int *found, bool *interrupted, bool *more)
{
	struct ifinfomsg ifi;
	struct ibh_link link;
	struct nlmsghdr nlh;
	int err;

	while (left >= NLMSG_HDRLEN) {
		const unsigned char *payload = buf + NLMSG_HDRLEN;
		size_t len, step;

		memcpy(&nlh, buf, sizeof(nlh));
		if (nlh.nlmsg_len < NLMSG_HDRLEN || nlh.nlmsg_len > left)
			return -EBADMSG;
		len = nlh.nlmsg_len - NLMSG_HDRLEN;
		if (nlh.nlmsg_seq == seq) {
			if (nlh.nlmsg_flags & NLM_F_DUMP_INTR)
				*interrupted = true;
			if (nlh.nlmsg_type == NLMSG_ERROR ||
			    nlh.nlmsg_type == NLMSG_DONE) {
				*more = false;
				err = 0;
				if (len >= sizeof(err))
					memcpy(&err, payload, sizeof(err));
				else if (nlh.nlmsg_type == NLMSG_ERROR)
					return -EBADMSG;
				return err > 0 ? -EBADMSG : err;
			}
			if (nlh.nlmsg_type == RTM_NEWLINK) {
				if (!(nlh.nlmsg_flags & NLM_F_MULTI))
					*more = false;
				if (len < sizeof(ifi))
					return -EBADMSG;
				memcpy(&ifi, payload, sizeof(ifi));
				if (ifi.ifi_index == ifindex) {
					err = ibh_parse_link(payload, len,
							     &link, told,
							     MAX_VFS);
					if (err)
						return err;
					told_count = link.vfs < MAX_VFS ?
							     link.vfs :
							     MAX_VFS;
					*found = 0;
				}
			}
		}
		step = NLMSG_ALIGN((size_t)nlh.nlmsg_len);
		if (step > left)
			step = left;
		buf += step;
		left -= step;
	}
	return 0;
}

static int ask_once(int fd, int ifindex, bool dump)
{
	static unsigned char buf[IBH_NL_ANSWER];
	unsigned char request[64] __attribute__((aligned(NLMSG_ALIGNTO)));
	bool interrupted = false, more = true;
	int err, found = -ENODEV;
	ssize_t n;

	told_count = 0;
	err = ibh_nl_send(fd, netlink_peer(), request,
			  ibh_build_getlink(request, ++seq, ifindex, dump, 1));
	while (!err && more) {
		n = ibh_nl_recv(fd, netlink_peer(), buf, sizeof(buf));
		if (n < 0)
			return n == -EAGAIN ? -ETIMEDOUT : (int)n;
		err = take_answer(buf, (size_t)n, ifindex, &found, &interrupted,
				  &more);
	}
	if (err)
		return err;
	/* Links came or went meanwhile; ours, if it was there, is whole. */
	return interrupted && found ? -EINTR : found;
}

/* Fills told[]. Linux 5.5 to 6.14 underestimate the size of the answer about
 * many VFs; a dump of all devices is the way round. */
static int ask(const struct side *side, struct error *error)
{
	char attribute[NAME_SIZE + 32];
	int fd = netlink_open(), err = fd, tries;
	bool dump = false;

	for (tries = 0; fd >= 0 && tries < TRIES; tries++) {
		err = ask_once(fd, side->netdev->ifindex, dump);
		if (err == -EMSGSIZE && !dump)
			dump = true;
		else if (err != -ENOBUFS && err != -EINTR)
			break;
	}
	if (fd >= 0)
		close(fd);
	if (!err)
		return 0;
	snprintf(attribute, sizeof(attribute), "RTM_GETLINK of %s",
		 side->netdev->name);
	return fail(error, side->pf->address, attribute, -err, NULL,
		    "the VFs' state cannot be read");
}

/* GUID 0 is "not known", not "none". */
static void from_netlink(struct state *state, const struct ibh_vf_info *vf)
{
	memset(state, 0, sizeof(*state));
	state->told = true;
	if (vf->have & IBH_HAVE_NODE_GUID && vf->node_guid) {
		state->node = vf->node_guid;
		state->have |= HAVE_NODE;
	}
	if (vf->have & IBH_HAVE_PORT_GUID && vf->port_guid) {
		state->port = vf->port_guid;
		state->have |= HAVE_PORT;
	}
	if (vf->have & IBH_HAVE_LINK_STATE && vf->link_state <= DOWN) {
		state->policy = (enum policy)vf->link_state;
		state->have |= HAVE_POLICY;
	}
}

static int set_once(int fd, const struct side *side,
		    const struct ibh_vf_set *sets, size_t count)
{
	unsigned char buf[IBH_SET_HEAD + 3 * IBH_SET_SIZE]
		__attribute__((aligned(NLMSG_ALIGNTO)));
	ssize_t len = ibh_build_setlink(buf, sizeof(buf), ++seq,
					side->netdev->ifindex, sets, count);
	int err, answer = 1;

	if (len < 0)
		return (int)len;
	err = ibh_nl_send(fd, netlink_peer(), buf, (size_t)len);
	if (!err)
		err = ibh_nl_acks(fd, netlink_peer(), seq, 1, &answer);
	return answer == 1 ? err : answer;
}

static int write_netlink(const struct side *side, unsigned int index,
			 const struct state *state, struct error *error)
{
	static const char *const names[] = {
		[IBH_VF_LINK_STATE] = "IFLA_VF_LINK_STATE",
		[IBH_VF_IB_NODE_GUID] = "IFLA_VF_IB_NODE_GUID",
		[IBH_VF_IB_PORT_GUID] = "IFLA_VF_IB_PORT_GUID",
	};
	char address[IBH_PCI_TEXT + 1], attribute[2 * NAME_SIZE];
	struct ibh_vf_set sets[3] = { 0 }, down;
	const char *name = "RTM_SETLINK";
	size_t count = 0, i;
	int fd, err;

	if (state->have & HAVE_NODE)
		sets[count++] = (struct ibh_vf_set){
			index, IBH_VF_IB_NODE_GUID, state->node
		};
	if (state->have & HAVE_PORT)
		sets[count++] = (struct ibh_vf_set){
			index, IBH_VF_IB_PORT_GUID, state->port
		};
	if (state->have & HAVE_POLICY)
		sets[count++] = (struct ibh_vf_set){ index, IBH_VF_LINK_STATE,
						     state->policy };
	/* Down comes first, everything else last: a VF is never up with an
	 * identity that is only half its own. */
	if (state->have & HAVE_POLICY && state->policy == DOWN) {
		down = sets[count - 1];
		memmove(sets + 1, sets, (count - 1) * sizeof(*sets));
		sets[0] = down;
	}
	fd = netlink_open();
	err = fd < 0 ? fd : set_once(fd, side, sets, count);
	/* The kernel stops at the first attribute that fails and does not say
	 * which; written one by one they tell. EPERM, ENODEV and ETIMEDOUT
	 * are not about one of them. */
	if (fd >= 0 && err && err != -EPERM && err != -ENODEV &&
	    err != -ETIMEDOUT) {
		for (i = 0; i < count; i++) {
			err = set_once(fd, side, &sets[i], 1);
			if (err) {
				name = names[sets[i].attr];
				break;
			}
		}
	}
	if (fd >= 0)
		close(fd);
	if (!err)
		return 0;
	vf_address(side->pf, index, address);
	snprintf(attribute, sizeof(attribute), "%s of VF %u on %s", name, index,
		 side->netdev->name);
	return fail(error, address, attribute, -err, NULL, "refused");
}

/* ---- mlx5 by MLNX_OFED's files ---------------------------------------- */

static bool read_guid(const char *path, uint64_t *guid)
{
	char value[NAME_SIZE];
	int len = sysfs_read(value, sizeof(value), path);

	return len >= 0 && !ibh_parse_octets(value, (size_t)len, 8, guid);
}

/* Each read is a firmware query. */
static void from_ofed(const struct side *side, unsigned int index, bool policy,
		      struct state *state)
{
	char path[PATH_SIZE], value[NAME_SIZE];
	uint64_t node, port;
	unsigned int i;

	ofed_path(path, side, index, "node");
	if (!read_guid(path, &node))
		return;
	ofed_path(path, side, index, "port");
	if (!read_guid(path, &port))
		return;
	state->node = node;
	state->port = port;
	state->have |= HAVE_NODE | HAVE_PORT;
	state->told = true;
	if (!policy)
		return;
	ofed_path(path, side, index, "policy");
	if (sysfs_read(value, sizeof(value), path) < 0)
		state->told = false;
	for (i = 0; i < 3; i++) {
		if (state->told && !strcmp(value, policy_words[i])) {
			state->policy = (enum policy)i;
			state->have |= HAVE_POLICY;
		}
	}
}

static int put(const struct side *side, unsigned int index, const char *path,
	       const char *value, struct error *error)
{
	char address[IBH_PCI_TEXT + 1];
	int err = sysfs_write(path, value);

	if (!err)
		return 0;
	vf_address(side->pf, index, address);
	return fail(error, address, path, -err, NULL, "refused");
}

static int write_ofed(const struct side *side, unsigned int index,
		      const struct state *state, struct error *error)
{
	bool down = state->policy == DOWN;
	char path[PATH_SIZE], text[IBH_GUID_TEXT + 1];
	unsigned int step;

	/* policy if down, node, port, policy if not */
	for (step = 0; step < 4; step++) {
		bool policy = step == 0 || step == 3;

		if (policy) {
			if (!(state->have & HAVE_POLICY) ||
			    down != (step == 0))
				continue;
			ofed_path(path, side, index, "policy");
			if (put(side, index, path, policy_words[state->policy],
				error))
				return -1;
			continue;
		}
		if (!(state->have & (step == 1 ? HAVE_NODE : HAVE_PORT)))
			continue;
		ofed_path(path, side, index, step == 1 ? "node" : "port");
		ibh_format_guid(step == 1 ? state->node : state->port, text);
		if (put(side, index, path, text, error))
			return -1;
	}
	return 0;
}

/* ---- mlx4 ------------------------------------------------------------- */

/* The VF's entry in admin_guids, 0 if the driver does not say; 0 is the
 * PF's own, which ignores what is written. */
static unsigned int mlx4_entry(const struct side *side, unsigned int index)
{
	char path[PATH_SIZE], value[NAME_SIZE], *end;
	unsigned long entry;

	mlx4_vf_path(path, side, index, "gid_idx", 0);
	if (sysfs_read(value, sizeof(value), path) < 0)
		return 0;
	entry = strtoul(value, &end, 10);
	return *end || entry > INT32_MAX ? 0 : (unsigned int)entry;
}

/* admin_guids are hex without padding, gids 128 bits of which the GUID is
 * the second half. */
static bool mlx4_guid(const struct side *side, const char *folder,
		      unsigned int entry, uint64_t *guid)
{
	char path[PATH_SIZE], value[NAME_SIZE], *from, *to, *end;

	mlx4_port_path(path, side, folder, entry);
	if (sysfs_read(value, sizeof(value), path) <= 0)
		return false;
	for (from = to = value; *from; from++)
		if (*from != ':')
			*to++ = *from;
	*to = '\0';
	from = to - value > 16 ? to - 16 : value;
	*guid = strtoull(from, &end, 16);
	return *end == '\0';
}

static void from_mlx4(const struct side *side, unsigned int index, bool mine,
		      struct state *state)
{
	unsigned int entry = mlx4_entry(side, index), i;
	char path[PATH_SIZE];
	uint64_t agreed;

	memset(state, 0, sizeof(*state));
	if (!entry || !mlx4_guid(side, "admin_guids", entry, &state->port))
		return;
	state->told = true;
	state->have = HAVE_PORT | HAVE_PKEYS;
	for (i = 0; i < 2; i++) {
		mlx4_vf_path(path, side, index, "pkey_idx", i);
		if (sysfs_read(state->pkeys[i], sizeof(state->pkeys[i]),
			       path) < 0)
			state->have &= ~HAVE_PKEYS;
	}
	/* What was only asked for is asked for again: the driver gives a
	 * request up when the VF's own driver goes. */
	state->pending = mine && mlx4_guid(side, "gids", entry, &agreed) &&
			 agreed != state->port;
}

struct pkey_search {
	const struct side *side;
	unsigned int found;
};

static int take_pkey(const char *name, void *context)
{
	struct pkey_search *search = context;
	char path[PATH_SIZE], value[NAME_SIZE], *end;
	unsigned long entry = strtoul(name, &end, 10);

	if (*end || entry >= search->found)
		return 0;
	mlx4_port_path(path, search->side, "pkeys", (unsigned int)entry);
	if (sysfs_read(value, sizeof(value), path) > 0 &&
	    (strtoul(value, NULL, 16) & DEFAULT_PKEY) == DEFAULT_PKEY)
		search->found = (unsigned int)entry;
	return 0;
}

/*
 * No partition while the GUID changes, and the default partition in the
 * second entry, as the Neutron agent expects it: it puts the network's own
 * into the first. The GUID last: one that is there says that all is.
 */
static int write_mlx4(const struct side *side, unsigned int index,
		      const struct state *state, struct error *error)
{
	struct pkey_search search = { side, UINT32_MAX };
	unsigned int entry = mlx4_entry(side, index);
	const char *first = "none", *second = NULL;
	char path[PATH_SIZE], first_path[PATH_SIZE], address[IBH_PCI_TEXT + 1];
	char number[16], text[17];

	if (!(state->have & HAVE_PORT))
		return 0;
	if (!entry) {
		vf_address(side->pf, index, address);
		return fail(error, address, "gid_idx", 0,
			    "look into the kernel log of mlx4_core",
			    "the driver does not say which GUID entry is this "
			    "VF's");
	}
	if (state->have & HAVE_PKEYS) {
		first = state->pkeys[0];
		second = state->pkeys[1];
	} else if (!guid_idle(state->port)) {
		join(path, "bus/pci/devices/%s/infiniband/%s/iov/ports/%u/pkeys",
		     side->pf->address, side->pf->ib_device, side->port);
		sysfs_list(path, take_pkey, &search);
		if (search.found != UINT32_MAX) {
			snprintf(number, sizeof(number), "%u", search.found);
			second = number;
		}
	}
	mlx4_vf_path(first_path, side, index, "pkey_idx", 0);
	if (put(side, index, first_path, "none", error))
		return -1;
	mlx4_vf_path(path, side, index, "pkey_idx", 1);
	if (second && put(side, index, path, second, error))
		return -1;
	mlx4_port_path(path, side, "admin_guids", entry);
	snprintf(text, sizeof(text), "%llx", (unsigned long long)state->port);
	if (put(side, index, path, text, error))
		return -1;
	if (strcmp(first, "none") && put(side, index, first_path, first, error))
		return -1;
	return 0;
}

/* An idle VF needs no consent: nobody is to use it, and the subnet manager
 * may be away. */
static int settle_mlx4(const struct side *side, unsigned int index,
		       uint64_t guid, struct error *error)
{
	struct timespec pause = { .tv_nsec = 2000000 };
	unsigned int entry = mlx4_entry(side, index);
	char path[PATH_SIZE], address[IBH_PCI_TEXT + 1];
	long waited = 0;
	uint64_t agreed;

	for (;;) {
		if (mlx4_guid(side, "gids", entry, &agreed) && agreed == guid)
			return 0;
		if (waited > PATIENCE_MS)
			break;
		nanosleep(&pause, NULL);
		waited += pause.tv_nsec / 1000000;
		if (pause.tv_nsec < 128000000)
			pause.tv_nsec *= 2;
	}
	mlx4_port_path(path, side, "gids", entry);
	vf_address(side->pf, index, address);
	return fail(error, address, path, 0,
		    "check that the port is active and the subnet manager "
		    "supports alias GUIDs",
		    "the subnet manager did not take the GUID within %d s",
		    PATIENCE_MS / 1000);
}

/* ---- all of them ------------------------------------------------------ */

int survey(const struct side *side, unsigned int mine,
	   struct state states[MAX_VFS], struct error *error)
{
	unsigned int i, numvfs = side->pf->numvfs;

	memset(states, 0, numvfs * sizeof(*states));
	switch (side->mechanism) {
	case MLX5_NETLINK:
		if (ask(side, error))
			return -1;
		for (i = 0; i < told_count; i++)
			if (told[i].vf < numvfs)
				from_netlink(&states[told[i].vf], &told[i]);
		/* Where netlink knows nothing the files still do: a GUID that
		 * was set through them, or before the kernel could read back. */
		for (i = 0; i < numvfs && side->pf->family == MLX5_OFED; i++)
			if (states[i].told &&
			    (states[i].have & (HAVE_NODE | HAVE_PORT)) !=
				    (HAVE_NODE | HAVE_PORT))
				from_ofed(side, i, false, &states[i]);
		break;
	case MLX5_SYSFS:
		for (i = 0; i < numvfs; i++)
			from_ofed(side, i, i == mine, &states[i]);
		break;
	default:
		for (i = 0; i < numvfs; i++)
			from_mlx4(side, i, i == mine, &states[i]);
	}
	return 0;
}

int write_state(const struct side *side, unsigned int index,
		const struct state *state, struct error *error)
{
	if (side->mechanism == MLX5_NETLINK)
		return write_netlink(side, index, state, error);
	if (side->mechanism == MLX5_SYSFS)
		return write_ofed(side, index, state, error);
	return write_mlx4(side, index, state, error);
}

int read_back(const struct side *side, unsigned int index,
	      const struct state *wanted, bool settle, bool renew,
	      struct state *seen, struct error *error)
{
	uint32_t i;

	memset(seen, 0, sizeof(*seen));
	if (side->mechanism == MLX4_SYSFS) {
		from_mlx4(side, index, false, seen);
		if (settle && wanted->have & HAVE_PORT &&
		    !guid_idle(wanted->port) && seen->told &&
		    seen->port == wanted->port)
			return settle_mlx4(side, index, wanted->port, error);
	} else if (side->pf->family == MLX5_OFED) {
		/* Firmware's own word, for this VF only. */
		from_ofed(side, index, true, seen);
	} else {
		if (renew && ask(side, error))
			return -1;
		for (i = 0; i < told_count; i++)
			if (told[i].vf == index)
				from_netlink(seen, &told[i]);
	}
	return 0;
}
