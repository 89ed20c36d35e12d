// SPDX-License-Identifier: Apache-2.0
/*
 * RTM_GETLINK and RTM_SETLINK as the kernel answers them for IPoIB devices of
 * PFs (net/core/rtnetlink.c, drivers/infiniband/hw/mlx5/ib_virt.c): see
 * ibhostdev/simulate/rtnetlink.py.
 */
#include <errno.h>
#include <string.h>

#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include "machine.h"

#define ALIGNED(len) (((len) + 3u) & ~3u)
#define HEADER 16u /* struct nlmsghdr */
#define IFINFO 16u /* struct ifinfomsg */
#define GUID_ATTR 24u /* with its header */

/* include/uapi/linux/if_link.h; headers of old systems lack some */
enum {
	MAC = 1,
	VLAN,
	TX_RATE,
	SPOOFCHK,
	LINK_STATE,
	RATE,
	RSS_QUERY_EN,
	STATS,
	TRUST,
	NODE_GUID,
	PORT_GUID,
	VLAN_LIST,
	BROADCAST,
	ATTRS,
};

enum { AUTO, ENABLE, DISABLE };

struct bytes {
	const unsigned char *data;
	size_t len;
};

static uint16_t u16(const unsigned char *at)
{
	uint16_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static uint32_t u32(const unsigned char *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static uint64_t u64(const unsigned char *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

/* The next attribute of a run: false at the end, as nlmsg_parse_deprecated()
 * takes what does not hold together, too. */
static bool next_attr(struct bytes *run, unsigned int *type,
		      struct bytes *value)
{
	size_t len;

	if (run->len < 4)
		return false;
	len = u16(run->data);
	if (len < 4 || len > run->len)
		return false;
	*type = u16(run->data + 2) & NLA_TYPE_MASK;
	value->data = run->data + 4;
	value->len = len - 4;
	len = ALIGNED(len) < run->len ? ALIGNED(len) : run->len;
	run->data += len;
	run->len -= len;
	return true;
}

/* ---- building ---------------------------------------------------------- */

struct builder {
	unsigned char *data;
	size_t len;
};

static void put(struct builder *to, const void *data, size_t len)
{
	if (to->len + ALIGNED(len) > DATAGRAM)
		return;
	memcpy(to->data + to->len, data, len);
	memset(to->data + to->len + len, 0, ALIGNED(len) - len);
	to->len += ALIGNED(len);
}

static void put_attr(struct builder *to, uint16_t type, const void *data,
		     size_t len)
{
	uint16_t head[2] = { (uint16_t)(len + 4), type };

	put(to, head, sizeof(head));
	put(to, data, len);
}

static size_t nest_begin(struct builder *to, uint16_t type)
{
	put_attr(to, type, "", 0);
	return to->len - 4;
}

static void nest_end(struct builder *to, size_t at)
{
	uint16_t len = (uint16_t)(to->len - at);

	memcpy(to->data + at, &len, sizeof(len));
}

static struct builder begin(struct queue *queue)
{
	unsigned int at = (queue->first + queue->count) % QUEUE;

	queue->items[at].stranger = false;
	return (struct builder){ .data = queue->items[at].data };
}

static void message_begin(struct builder *to, uint16_t type, uint16_t flags,
			  uint32_t seq)
{
	uint32_t port = 4711; /* the asker's */
	uint32_t len = 0;

	put(to, &len, 4);
	put(to, (uint16_t[]){ type, flags }, 4);
	put(to, &seq, 4);
	put(to, &port, 4);
}

static void message_end(struct builder *to, size_t at)
{
	uint32_t len = (uint32_t)(to->len - at);

	memcpy(to->data + at, &len, 4);
}

static void send_off(struct queue *queue, const struct builder *from)
{
	unsigned int at = (queue->first + queue->count) % QUEUE;

	if (queue->count == QUEUE)
		return; /* overrun: a receiver that does not look */
	queue->items[at].len = (uint16_t)from->len;
	queue->count++;
}

static void acknowledge(struct queue *queue, const unsigned char *request,
			int err)
{
	struct builder to = begin(queue);

	message_begin(&to, NLMSG_ERROR, NLM_F_CAPPED, u32(request + 8));
	put(&to, &(int32_t){ err }, 4);
	put(&to, request, HEADER);
	message_end(&to, 0);
	send_off(queue, &to);
}

/* ---- RTM_GETLINK ------------------------------------------------------- */

/* One IFLA_VF_INFO, or nothing if the driver does not answer; mlx4 never
 * does. GUIDs that were not set by netlink are 0. */
static void put_vf(struct builder *to, struct machine *machine,
		   unsigned int pf, uint32_t vf)
{
	static const uint32_t states[] = { DISABLE, ENABLE, AUTO };
	struct pf *at = &machine->pfs[pf];
	const struct vport *vport = &at->vports[vf + 1];
	const struct memory *memory = &at->memories[vf];
	struct ifla_vf_guid node = {
		.vf = vf, .guid = memory->node_valid ? vport->node : 0,
	};
	struct ifla_vf_guid port = {
		.vf = vf, .guid = memory->port_valid ? vport->port : 0,
	};
	unsigned char mac[36] = { 0 }, broadcast[32] = { 0, 0xff, 0xff };
	uint32_t words[3] = { vf, 0, 0 };
	size_t nest;

	if (at->family != CX3 && at->vfs[vf].silent)
		machine_wait(machine, &at->vfs[vf]);
	if (at->family == CX3 || at->vfs[vf].silent)
		return;
	memcpy(mac, &vf, 4);
	memcpy(mac + 16, &at->vports[0].port, 8);
	nest = nest_begin(to, IFLA_VF_INFO);
	put_attr(to, MAC, mac, sizeof(mac));
	put_attr(to, BROADCAST, broadcast, sizeof(broadcast));
	put_attr(to, VLAN, words, 12);
	put_attr(to, RATE, words, 12);
	put_attr(to, TX_RATE, words, 8);
	put_attr(to, SPOOFCHK, words, 8);
	words[1] = states[vport->policy];
	put_attr(to, LINK_STATE, words, 8);
	words[1] = 0;
	put_attr(to, RSS_QUERY_EN, words, 8);
	put_attr(to, TRUST, words, 8);
	if (!machine->no_guids) {
		put_attr(to, NODE_GUID, &node, sizeof(node));
		put_attr(to, PORT_GUID, &port, sizeof(port));
	}
	nest_end(to, nest);
}

static void put_link(struct builder *to, struct machine *machine,
		     unsigned int pf, unsigned int port, bool vf_data)
{
	int ifindex = machine_ifindex(pf, port);
	struct ifinfomsg info = {
		.ifi_type = ARPHRD_INFINIBAND,
		.ifi_index = ifindex,
		.ifi_flags = 0x1003,
	};
	char name[4] = { 'i', 'b', (char)('0' + ifindex - 3) };
	uint32_t vf, count = machine->pfs[pf].numvfs;
	size_t list;

	put(to, &info, sizeof(info));
	put_attr(to, IFLA_IFNAME, name, sizeof(name));
	if (vf_data) {
		put_attr(to, IFLA_NUM_VF, &count, 4);
		list = nest_begin(to, IFLA_VFINFO_LIST);
		for (vf = 0; vf < count; vf++)
			put_vf(to, machine, pf, vf);
		nest_end(to, list);
	}
	put_attr(to, 56 /* IFLA_PARENT_DEV_NAME */, machine_address(pf, VFS),
		 ADDRESS);
}

/* Of all devices: two to a datagram, and NLMSG_DONE in one of its own. */
static void dump(struct machine *machine, uint32_t seq, bool vf_data,
		 struct queue *queue)
{
	struct ifinfomsg lo = {
		.ifi_type = ARPHRD_LOOPBACK, .ifi_index = 1,
	};
	struct builder to = begin(queue);
	unsigned int pf, port, links = 1;

	message_begin(&to, RTM_NEWLINK, NLM_F_MULTI, seq);
	put(&to, &lo, sizeof(lo));
	put_attr(&to, IFLA_IFNAME, "lo", 3);
	message_end(&to, 0);
	for (pf = 0; pf < PFS; pf++) {
		const struct pf *at = &machine->pfs[pf];

		for (port = 1; at->netdev && !at->away && port <= at->ports;
		     port++) {
			size_t start;

			if (links == 2) {
				send_off(queue, &to);
				to = begin(queue);
				links = 0;
			}
			start = to.len;
			message_begin(&to, RTM_NEWLINK, NLM_F_MULTI, seq);
			put_link(&to, machine, pf, port, vf_data);
			message_end(&to, start);
			links++;
		}
	}
	send_off(queue, &to);
	to = begin(queue);
	message_begin(&to, NLMSG_DONE, NLM_F_MULTI, seq);
	put(&to, &(int32_t){ 0 }, 4);
	message_end(&to, 0);
	send_off(queue, &to);
}

static int get(struct machine *machine, const unsigned char *request,
	       struct bytes attrs, struct queue *queue)
{
	uint32_t mask = 0, seq = u32(request + 8);
	int ifindex = (int)u32(request + HEADER + 4);
	struct bytes value;
	struct builder to;
	unsigned int pf, port, type;

	while (next_attr(&attrs, &type, &value))
		if (type == IFLA_EXT_MASK && value.len >= 4)
			mask = u32(value.data);
	if ((u16(request + 6) & NLM_F_DUMP) == NLM_F_DUMP) {
		dump(machine, seq, mask & RTEXT_FILTER_VF, queue);
		return 0;
	}
	if (!machine_netdev(machine, ifindex, &pf, &port))
		return -ENODEV;
	if (machine->too_long && mask & RTEXT_FILTER_VF)
		return -EMSGSIZE;
	to = begin(queue);
	message_begin(&to, RTM_NEWLINK, 0, seq);
	put_link(&to, machine, pf, port, mask & RTEXT_FILTER_VF);
	message_end(&to, 0);
	send_off(queue, &to);
	return 0;
}

/* ---- RTM_SETLINK ------------------------------------------------------- */

/* do_setvfinfo(), whose branch for the node GUID returns at once: a port GUID
 * in the same nest is dropped, with success. */
static int set_vf(struct bytes nest, struct command *command,
		  execute execute, void *context)
{
	static const size_t least[ATTRS] = {
		[MAC] = 36, [VLAN] = 12, [TX_RATE] = 8, [SPOOFCHK] = 8,
		[LINK_STATE] = 8, [RATE] = 12, [RSS_QUERY_EN] = 8,
		[TRUST] = 8, [NODE_GUID] = 16, [PORT_GUID] = 16,
	};
	static const uint8_t policies[] = { FOLLOW, UP, DOWN };
	const unsigned char *found[ATTRS] = { NULL };
	struct bytes value;
	unsigned int type;
	bool done = false;

	while (next_attr(&nest, &type, &value)) {
		if (type >= ATTRS)
			continue;
		if (value.len < least[type])
			return -ERANGE;
		found[type] = value.data;
	}
	if (found[MAC] || found[VLAN] || found[VLAN_LIST] ||
	    found[TX_RATE] || found[RATE] || found[SPOOFCHK])
		return -EOPNOTSUPP;
	command->kind = SET_VPORT;
	command->netlink = true;
	if (found[LINK_STATE]) {
		uint32_t state = u32(found[LINK_STATE] + 4);
		int err;

		if (state > DISABLE)
			return -EINVAL;
		command->vf = u32(found[LINK_STATE]);
		command->what = POLICY;
		command->value = policies[state];
		err = execute(context, command);
		if (err)
			return err;
		done = true;
	}
	if (found[RSS_QUERY_EN] || found[TRUST])
		return -EOPNOTSUPP;
	if (found[NODE_GUID] || found[PORT_GUID]) {
		const unsigned char *guid = found[NODE_GUID];

		command->what = guid ? NODE : PORT;
		guid = guid ? guid : found[PORT_GUID];
		command->vf = u32(guid);
		command->value = u64(guid + 8);
		return execute(context, command);
	}
	return done ? 0 : -EINVAL;
}

/* VFs in the order of their nests, until the first error; what was done
 * before it stays done. */
static int set(struct machine *machine, const unsigned char *request,
	       struct bytes attrs, execute execute, void *context)
{
	struct command command = { .netlink = true };
	int ifindex = (int)u32(request + HEADER + 4);
	struct bytes list, nest;
	unsigned int type;
	int err;

	if (!machine_netdev(machine, ifindex, &command.pf, &command.port))
		return -ENODEV;
	while (next_attr(&attrs, &type, &list)) {
		if (type != IFLA_VFINFO_LIST)
			continue;
		while (next_attr(&list, &type, &nest)) {
			if (type != IFLA_VF_INFO || nest.len < 4)
				return -EINVAL;
			if (machine->pfs[command.pf].family == CX3)
				return -EOPNOTSUPP;
			err = set_vf(nest, &command, execute, context);
			if (err)
				return err;
		}
	}
	return 0;
}

/* ---- a datagram -------------------------------------------------------- */

bool wire_serve(struct machine *machine, const void *data, size_t len,
		struct queue *queue, execute execute, void *context)
{
	const unsigned char *at = data;
	bool good = true;

	while (len >= HEADER) {
		uint32_t size = u32(at);
		uint16_t type = u16(at + 4), flags = u16(at + 6);
		struct bytes attrs;
		int err = 0;

		if (size < HEADER + IFINFO || size > len)
			return false;
		/* ifi_flags and ifi_change: the interface is not touched */
		good = good && !u64(at + HEADER + 8) &&
		       flags & NLM_F_REQUEST;
		attrs.data = at + HEADER + IFINFO;
		attrs.len = size - HEADER - IFINFO;
		if (type == RTM_GETLINK)
			err = get(machine, at, attrs, queue);
		else if (type == RTM_SETLINK || type == RTM_NEWLINK)
			err = set(machine, at, attrs, execute, context);
		else
			good = false;
		if (err || (flags & NLM_F_ACK &&
			    (flags & NLM_F_DUMP) != NLM_F_DUMP))
			acknowledge(queue, at, err);
		size = ALIGNED(size) < len ? ALIGNED(size) : (uint32_t)len;
		at += size;
		len -= size;
	}
	return good && !len;
}
