/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rtnetlink messages about the VFs of a PF: built and taken apart.
 *
 * The numbers are those of include/uapi/linux/{netlink,rtnetlink,if_link}.h;
 * the ones that system headers of long-lived distributions may lack are
 * repeated here. Nothing here allocates, and no read goes past the length
 * that was received. What does not hold together is -EBADMSG.
 */
#ifndef IBHOSTDEV_ENGINE_RTNETLINK_H
#define IBHOSTDEV_ENGINE_RTNETLINK_H

#include "devices.h"

#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#ifndef NLM_F_DUMP_INTR
#define NLM_F_DUMP_INTR 0x10
#endif

/* Enumerators there, so they cannot be tested for by #ifndef: since 4.7, with
 * what is in VF_STATS in the order of IFLA_VF_STATS_RX_PACKETS and so on, … */
#define VF_LINK_STATE 5
#define VF_STATS 8
#define VF_NODE_GUID 10
#define VF_PORT_GUID 11
/* … since 5.5, with ALTIFNAMSIZ, … */
#define ALT_IFNAME 53
#define ALT_NAME 128
/* … and since 5.14. */
#define PARENT_DEV_NAME 56

/* What comes of one request and is not what was asked for. */
#define MOST_DATAGRAMS 65536

/* One attribute of one VF, of those above: a GUID, which is in host byte
 * order on the wire, or a link state, which is an enum ibh_policy. */
struct vf_set {
	uint32_t vf;
	uint32_t attr;
	uint64_t value;
};

/* What the kernel tells about one VF: `have` is IBH_HAVE_NODE,
 * IBH_HAVE_PORT and IBH_HAVE_POLICY. A GUID of 0 is "not known". */
struct vf_info {
	uint32_t vf;
	uint32_t have;
	uint32_t link_state; /* any number */
	bool counted; /* `traffic` was told */
	uint64_t node, port;
	struct ibh_traffic traffic;
};

struct attr {
	uint16_t type;
	uint16_t len;
	const unsigned char *data;
};

struct message {
	uint16_t type;
	uint16_t flags;
	uint32_t seq;
	const unsigned char *data;
	size_t len;
};

/* What an RTM_NEWLINK says of a network device. `num_vf` counts those that
 * the PF has: the kernel leaves a VF out of `vfs` that its driver could not
 * be asked about (rtnl_fill_vf), so match by the vf field. */
struct link {
	int32_t ifindex;
	char name[IBH_NAME];
	uint32_t num_vf;
	char parent[32]; /* PCI address of the PF, "" on older kernels */
	struct attr vfs; /* IFLA_VFINFO_LIST; data is NULL if it has none */
};

/* ---- building ---------------------------------------------------------- */

#define SET_MAX 1024 /* of one message; an nlattr ends at 64 KiB */
#define SET_HEAD                                                          \
	((size_t)(NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct ifinfomsg)) + \
		  NLA_HDRLEN))
#define SET_SIZE ((size_t)(2 * NLA_HDRLEN) + 16) /* at most, of a vf_set */
#define LINK_REQUEST 64 /* bytes that hold any RTM_GETLINK with VFs' data */
#define NAME_REQUEST (40 + ALT_NAME) /* … and one by a name */

/* A message's header at `buf`; its length comes at the end. What follows is
 * put at the address returned. */
unsigned char *put_header(unsigned char *buf, uint16_t type, uint16_t flags,
			  uint32_t seq);
/* … and the struct ifinfomsg of a message about a link. */
unsigned char *put_link(unsigned char *at, int ifindex);
unsigned char *put_attr(unsigned char *at, uint16_t type, const void *data,
			size_t len);
/* The length of the message that ends here. */
size_t put_end(unsigned char *buf, const unsigned char *end);

/* RTM_SETLINK. Its length, or -EINVAL, or -ENOSPC. */
ssize_t build_setlink(unsigned char *buf, size_t cap, uint32_t seq,
		      int ifindex, const struct vf_set *sets, size_t count);
/* RTM_GETLINK of one device, or of all, with the data of VFs, and maybe with
 * their traffic. */
size_t build_getlink(unsigned char buf[LINK_REQUEST], uint32_t seq,
		     int ifindex, bool dump, bool traffic);
/* … of one by any of its names, which is shorter than ALT_NAME, without. */
size_t build_getname(unsigned char buf[NAME_REQUEST], uint32_t seq,
		     const char *name);

/* ---- taking apart ------------------------------------------------------ */

/* The next of a run of messages or attributes: 1, 0 at the end. */
int next_message(const unsigned char **p, size_t *left,
		 struct message *message);
int next_attr(const unsigned char **p, size_t *left, struct attr *attr);

/* What an NLMSG_ERROR or NLMSG_DONE says: 0 or a negative errno. */
int message_error(const struct message *message);

int parse_link(const struct message *message, struct link *link);
/* How many VFs there are in an IFLA_VFINFO_LIST … */
ssize_t count_vfs(struct attr list);
/* … and what is said of each, in an array of so many. */
int parse_vfs(struct attr list, struct vf_info *infos);

#endif
