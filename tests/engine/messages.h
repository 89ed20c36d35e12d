/* SPDX-License-Identifier: Apache-2.0 */
/* What a kernel would say about links and their VFs. */
#ifndef IBHOSTDEV_TESTS_MESSAGES_H
#define IBHOSTDEV_TESTS_MESSAGES_H

#include "check.h"
#include "rtnetlink.h"

struct bytes {
	unsigned char at[192 * 1024];
	size_t len;
};

static inline void add(struct bytes *bytes, const void *data, size_t len)
{
	memcpy(bytes->at + bytes->len, data, len);
	bytes->len += len;
}

/* Whatever is added until nest_end() is in it. */
static inline size_t nest(struct bytes *bytes, uint16_t type)
{
	uint16_t head[2] = { 0, type };

	add(bytes, head, sizeof(head));
	return bytes->len - sizeof(head);
}

static inline void nest_end(struct bytes *bytes, size_t start)
{
	uint16_t len = (uint16_t)(bytes->len - start);

	memcpy(bytes->at + start, &len, sizeof(len));
	while (bytes->len % 4)
		bytes->at[bytes->len++] = 0;
}

static inline void attribute(struct bytes *bytes, uint16_t type, const void *data,
		      size_t len)
{
	size_t start = nest(bytes, type);

	add(bytes, data, len);
	nest_end(bytes, start);
}

/* What is told of a VF: IFLA_VF_INFO, with GUIDs or without. */
static inline void vf_info(struct bytes *bytes, uint32_t vf, uint32_t state,
		    uint32_t guid_vf, const uint64_t *node,
		    const uint64_t *port)
{
	struct {
		uint32_t vf, pad;
		uint64_t guid;
	} guid = { guid_vf, 0, 0 };
	uint32_t mac[9] = { vf }, link[2] = { vf, state };
	size_t start = nest(bytes, IFLA_VF_INFO | NLA_F_NESTED);

	attribute(bytes, IFLA_VF_MAC, mac, sizeof(mac));
	attribute(bytes, VF_LINK_STATE, link, sizeof(link));
	if (node) {
		guid.guid = *node;
		attribute(bytes, VF_NODE_GUID, &guid, sizeof(guid));
	}
	if (port) {
		guid.guid = *port;
		attribute(bytes, VF_PORT_GUID, &guid, sizeof(guid));
	}
	nest_end(bytes, start);
}

static inline void known_vf(struct bytes *bytes, uint32_t vf, uint64_t node,
		     uint64_t port, uint32_t state)
{
	vf_info(bytes, vf, state, vf, &node, &port);
}

/* A message's start; it ends where the next begins or the bytes do. */
static inline size_t message(struct bytes *bytes, uint16_t type, uint16_t flags,
		      uint32_t seq)
{
	struct nlmsghdr header = { .nlmsg_type = type,
				   .nlmsg_flags = flags,
				   .nlmsg_seq = seq };

	add(bytes, &header, sizeof(header));
	return bytes->len - sizeof(header);
}

static inline void message_end(struct bytes *bytes, size_t start)
{
	uint32_t len = (uint32_t)(bytes->len - start);

	memcpy(bytes->at + start, &len, sizeof(len));
}

static inline void link_head(struct bytes *bytes, int ifindex, uint32_t num_vf)
{
	struct ifinfomsg info = { .ifi_type = 32, .ifi_index = ifindex };

	add(bytes, &info, sizeof(info));
	attribute(bytes, IFLA_IFNAME, "ib0", 4);
	attribute(bytes, IFLA_NUM_VF, &num_vf, sizeof(num_vf));
}

/* NLMSG_ERROR: what an acknowledgement is, too. */
static inline void error_message(struct bytes *bytes, uint32_t seq, int32_t error)
{
	struct nlmsghdr request = { 0 };
	size_t start = message(bytes, NLMSG_ERROR, 0, seq);

	add(bytes, &error, sizeof(error));
	add(bytes, &request, sizeof(request));
	message_end(bytes, start);
}

/* A reply about so many VFs: every `step`-th of them. */
static inline void list_of(struct bytes *bytes, uint32_t count, uint32_t step)
{
	size_t list;
	uint32_t i;

	bytes->len = 0;
	link_head(bytes, 5, 2);
	list = nest(bytes, IFLA_VFINFO_LIST | NLA_F_NESTED);
	for (i = 0; i < count; i++)
		known_vf(bytes, i * step, i + 1, i + 2, i % 3);
	nest_end(bytes, list);
}

/* The link and the VFs that a reply of `len` bytes tells of, in memory that
 * ends where it does; their number, or -EBADMSG. */
static inline ssize_t take_apart(const unsigned char *at, size_t len,
				 struct link *link,
				 struct vf_info **infos)
{
	unsigned char *copy = malloc(len ? len : 1);
	struct message message = { .data = copy, .len = len };
	ssize_t count;
	int err;

	CHECK(copy);
	memcpy(copy, at, len);
	*infos = NULL;
	err = parse_link(&message, link);
	count = err ? err : count_vfs(link->vfs);
	if (count >= 0) {
		*infos = malloc((size_t)(count ? count : 1) *
				sizeof(**infos));
		CHECK(*infos);
		err = parse_vfs(link->vfs, *infos);
		if (err)
			count = err;
	}
	free(copy);
	link->vfs.data = NULL;
	return count;
}

#endif
