/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rtnetlink messages about the VFs of a PF: built, sent, received, parsed.
 *
 * The numbers are those of include/uapi/linux/{netlink,rtnetlink,if_link}.h;
 * the ones that system headers of long-lived distributions may lack are
 * repeated here. All functions return 0 or a count, or a negative errno.
 * Nothing here allocates, and no read goes past the length that recv gave.
 */
#ifndef FLOOR_RTNETLINK_H
#define FLOOR_RTNETLINK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#ifndef NETLINK_CAP_ACK
#define NETLINK_CAP_ACK 10
#endif
#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif
#ifndef NLM_F_DUMP_INTR
#define NLM_F_DUMP_INTR 0x10
#endif
#ifndef RTEXT_FILTER_SKIP_STATS
#define RTEXT_FILTER_SKIP_STATS (1 << 3)
#endif

/* Since Linux 4.7; enumerators, so they cannot be tested for by #ifndef. */
#define IBH_VF_LINK_STATE 5
#define IBH_VF_IB_NODE_GUID 10
#define IBH_VF_IB_PORT_GUID 11
/* Since Linux 5.14. */
#define IBH_PARENT_DEV_NAME 56

/* The kernel's struct ifla_vf_guid; the GUID is in host byte order. */
struct ibh_vf_guid {
	uint32_t vf;
	uint32_t pad;
	uint64_t guid;
};

/* One attribute of one VF: a GUID, or a link state. */
struct ibh_vf_set {
	uint32_t vf;
	uint32_t attr;
	uint64_t value;
};

#define IBH_HAVE_NODE_GUID 1u
#define IBH_HAVE_PORT_GUID 2u
#define IBH_HAVE_LINK_STATE 4u

/* What a GETLINK tells about one VF. */
struct ibh_vf_info {
	uint32_t vf;
	uint32_t have;
	uint32_t link_state;
	uint64_t node_guid;
	uint64_t port_guid;
};

struct ibh_link {
	int32_t ifindex;
	uint32_t num_vf;
	uint32_t vfs; /* records written, or more than `cap`: did not fit */
	char name[16]; /* IFNAMSIZ */
	char parent[32]; /* PCI address of the PF, "" on older kernels */
};

/* ---- building ------------------------------------------------------- */

#define IBH_SET_MAX 1024 /* of one message; an nlattr ends at 64 KiB */
#define IBH_SET_HEAD (NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct ifinfomsg)) + \
		      NLA_HDRLEN)
#define IBH_SET_SIZE (2 * NLA_HDRLEN + sizeof(struct ibh_vf_guid))

static inline void *ibh_put_header(unsigned char *buf, uint16_t type,
				   uint16_t flags, uint32_t seq, int ifindex)
{
	struct nlmsghdr *nlh = (struct nlmsghdr *)buf;
	struct ifinfomsg *ifi = (struct ifinfomsg *)(buf + NLMSG_HDRLEN);

	memset(buf, 0, NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(*ifi)));
	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = flags;
	nlh->nlmsg_seq = seq;
	/* ifi_flags and ifi_change stay 0: the interface is not touched */
	ifi->ifi_index = ifindex;
	return buf + NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(*ifi));
}

static inline void ibh_put_nla(void *at, uint16_t type, size_t len)
{
	struct nlattr *nla = at;

	nla->nla_type = type;
	nla->nla_len = (uint16_t)(NLA_HDRLEN + len);
}

/*
 * RTM_SETLINK with one IFLA_VF_INFO nest for each attribute. do_setvfinfo()
 * of net/core/rtnetlink.c returns straight after the node GUID, so a port
 * GUID in the same nest would be dropped and the kernel report success.
 * Returns the length, or -EINVAL/-ENOSPC.
 */
static inline ssize_t ibh_build_setlink(unsigned char *buf, size_t cap,
					uint32_t seq, int ifindex,
					const struct ibh_vf_set *sets,
					size_t count)
{
	unsigned char *list, *p;
	size_t i;

	if (count > IBH_SET_MAX)
		return -EINVAL;
	if (cap < IBH_SET_HEAD + count * IBH_SET_SIZE)
		return -ENOSPC;
	list = ibh_put_header(buf, RTM_SETLINK, NLM_F_REQUEST | NLM_F_ACK, seq,
			      ifindex);
	p = list + NLA_HDRLEN;
	for (i = 0; i < count; i++) {
		unsigned char *nest = p;

		if (sets[i].attr == IBH_VF_LINK_STATE) {
			struct ifla_vf_link_state s = {
				.vf = sets[i].vf,
				.link_state = (uint32_t)sets[i].value,
			};

			ibh_put_nla(nest + NLA_HDRLEN, IBH_VF_LINK_STATE,
				    sizeof(s));
			memcpy(nest + 2 * NLA_HDRLEN, &s, sizeof(s));
			p += 2 * NLA_HDRLEN + sizeof(s);
		} else if (sets[i].attr == IBH_VF_IB_NODE_GUID ||
			   sets[i].attr == IBH_VF_IB_PORT_GUID) {
			struct ibh_vf_guid g = {
				.vf = sets[i].vf,
				.guid = sets[i].value,
			};

			ibh_put_nla(nest + NLA_HDRLEN, (uint16_t)sets[i].attr,
				    sizeof(g));
			memcpy(nest + 2 * NLA_HDRLEN, &g, sizeof(g));
			p += 2 * NLA_HDRLEN + sizeof(g);
		} else {
			return -EINVAL;
		}
		ibh_put_nla(nest, IFLA_VF_INFO | NLA_F_NESTED,
			    (size_t)(p - nest) - NLA_HDRLEN);
	}
	ibh_put_nla(list, IFLA_VFINFO_LIST | NLA_F_NESTED,
		    (size_t)(p - list) - NLA_HDRLEN);
	((struct nlmsghdr *)buf)->nlmsg_len = (uint32_t)(p - buf);
	return p - buf;
}

/*
 * RTM_GETLINK, with VF data but without statistics: each would cost another
 * firmware query. `buf` holds at least 64 bytes. Returns the length.
 */
static inline size_t ibh_build_getlink(unsigned char *buf, uint32_t seq,
				       int ifindex, int dump, int vf_data)
{
	uint32_t mask = vf_data ? RTEXT_FILTER_VF | RTEXT_FILTER_SKIP_STATS : 0;
	unsigned char *p = ibh_put_header(
		buf, RTM_GETLINK,
		dump ? NLM_F_REQUEST | NLM_F_DUMP : NLM_F_REQUEST, seq,
		dump ? 0 : ifindex);

	ibh_put_nla(p, IFLA_EXT_MASK, sizeof(mask));
	memcpy(p + NLA_HDRLEN, &mask, sizeof(mask));
	p += NLA_HDRLEN + sizeof(mask);
	((struct nlmsghdr *)buf)->nlmsg_len = (uint32_t)(p - buf);
	return (size_t)(p - buf);
}

/* ---- parsing -------------------------------------------------------- */

struct ibh_attr {
	uint16_t type;
	uint16_t len;
	const unsigned char *data;
};

/* The next attribute of a run of them: 1, 0 at the end, -EBADMSG. */
static inline int ibh_next_attr(const unsigned char **p, size_t *left,
				struct ibh_attr *attr)
{
	struct nlattr nla;
	size_t step;

	if (*left < NLA_HDRLEN)
		return 0; /* padding at most */
	memcpy(&nla, *p, sizeof(nla));
	if (nla.nla_len < NLA_HDRLEN || nla.nla_len > *left)
		return -EBADMSG;
	attr->type = nla.nla_type & NLA_TYPE_MASK;
	attr->len = (uint16_t)(nla.nla_len - NLA_HDRLEN);
	attr->data = *p + NLA_HDRLEN;
	step = NLA_ALIGN((size_t)nla.nla_len);
	if (step > *left)
		step = *left;
	*p += step;
	*left -= step;
	return 1;
}

/*
 * One IFLA_VF_INFO. Linux 5.5 left the vf field of the GUIDs unset, so the
 * number is taken from the other attributes where there is one.
 */
static inline int ibh_parse_vf(struct ibh_attr nest, struct ibh_vf_info *vf)
{
	const unsigned char *p = nest.data;
	size_t left = nest.len;
	struct ibh_vf_guid guid;
	struct ibh_attr attr;
	int have_vf = 0, guid_vf = 0, more;

	memset(vf, 0, sizeof(*vf));
	while ((more = ibh_next_attr(&p, &left, &attr)) > 0) {
		if (attr.type == IBH_VF_IB_NODE_GUID ||
		    attr.type == IBH_VF_IB_PORT_GUID) {
			if (attr.len < sizeof(guid))
				return -EBADMSG;
			memcpy(&guid, attr.data, sizeof(guid));
			if (attr.type == IBH_VF_IB_NODE_GUID) {
				vf->node_guid = guid.guid;
				vf->have |= IBH_HAVE_NODE_GUID;
			} else {
				vf->port_guid = guid.guid;
				vf->have |= IBH_HAVE_PORT_GUID;
			}
			if (!have_vf)
				vf->vf = guid.vf;
			guid_vf = 1;
		} else if (attr.type == IFLA_VF_MAC ||
			   attr.type == IBH_VF_LINK_STATE) {
			if (attr.len < 8)
				return -EBADMSG;
			memcpy(&vf->vf, attr.data, 4);
			have_vf = 1;
			if (attr.type == IBH_VF_LINK_STATE) {
				memcpy(&vf->link_state, attr.data + 4, 4);
				vf->have |= IBH_HAVE_LINK_STATE;
			}
		}
	}
	if (more < 0)
		return more;
	return have_vf || guid_vf ? 0 : -EBADMSG;
}

static inline void ibh_copy_text(char *to, size_t cap, struct ibh_attr attr)
{
	size_t len = strnlen((const char *)attr.data, attr.len);

	if (len >= cap)
		len = cap - 1;
	memcpy(to, attr.data, len);
	to[len] = '\0';
}

/*
 * The payload of an RTM_NEWLINK. Up to `cap` VFs go to `vfs`; link->vfs
 * counts all of them. A VF that its driver could not be asked about is left
 * out by the kernel (rtnl_fill_vfinfo), so match by the vf field.
 */
static inline int ibh_parse_link(const unsigned char *payload, size_t len,
				 struct ibh_link *link,
				 struct ibh_vf_info *vfs, size_t cap)
{
	const size_t head = NLMSG_ALIGN(sizeof(struct ifinfomsg));
	const unsigned char *p;
	struct ifinfomsg ifi;
	struct ibh_attr attr;
	size_t left;
	int more;

	memset(link, 0, sizeof(*link));
	if (len < head)
		return -EBADMSG;
	memcpy(&ifi, payload, sizeof(ifi));
	link->ifindex = ifi.ifi_index;
	p = payload + head;
	left = len - head;
	while ((more = ibh_next_attr(&p, &left, &attr)) > 0) {
		if (attr.type == IFLA_IFNAME) {
			ibh_copy_text(link->name, sizeof(link->name), attr);
		} else if (attr.type == IBH_PARENT_DEV_NAME) {
			ibh_copy_text(link->parent, sizeof(link->parent), attr);
		} else if (attr.type == IFLA_NUM_VF) {
			if (attr.len < 4)
				return -EBADMSG;
			memcpy(&link->num_vf, attr.data, 4);
		} else if (attr.type == IFLA_VFINFO_LIST) {
			const unsigned char *q = attr.data;
			size_t rest = attr.len;
			struct ibh_attr nest;
			struct ibh_vf_info vf;
			int next, err;

			while ((next = ibh_next_attr(&q, &rest, &nest)) > 0) {
				if (nest.type != IFLA_VF_INFO)
					continue;
				err = ibh_parse_vf(nest, &vf);
				if (err)
					return err;
				if (link->vfs < cap)
					vfs[link->vfs] = vf;
				link->vfs++;
			}
			if (next < 0)
				return next;
		}
	}
	return more;
}

/* ---- a socket ------------------------------------------------------- */

/*
 * `protocol` is NETLINK_ROUTE; NETLINK_USERSOCK talks to another process
 * that stands in for the kernel. `seconds` bounds the wait for a reply.
 * Returns the descriptor.
 */
static inline int ibh_nl_open(int protocol, int seconds)
{
	struct sockaddr_nl me = { .nl_family = AF_NETLINK };
	struct timeval wait = { .tv_sec = seconds };
	int rcvbuf = 1 << 20, on = 1, err;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) ||
	    bind(fd, (struct sockaddr *)&me, sizeof(me))) {
		err = -errno;
		close(fd);
		return err;
	}
	/* Helpful, not needed: an overrun is seen and answered. */
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof(rcvbuf));
	/* Acknowledge without sending the request back (Linux 4.3). */
	(void)setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
	return fd;
}

static inline int ibh_nl_send(int fd, uint32_t peer, const void *buf,
			      size_t len)
{
	struct sockaddr_nl to = { .nl_family = AF_NETLINK, .nl_pid = peer };
	ssize_t n;

	do
		n = sendto(fd, buf, len, 0, (struct sockaddr *)&to, sizeof(to));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

#define IBH_ACKS 32
#define IBH_ACK_SIZE 256

/*
 * Collects the acknowledgements of requests seq .. seq+count-1 into
 * errs[], 0 or a negative errno each. What stays 1 was not acknowledged:
 * then the return value says why (-ENOBUFS, -ETIMEDOUT, …).
 */
static inline int ibh_nl_acks(int fd, uint32_t peer, uint32_t seq,
			      size_t count, int *errs)
{
	unsigned char bufs[IBH_ACKS][IBH_ACK_SIZE]
		__attribute__((aligned(NLMSG_ALIGNTO)));
	struct sockaddr_nl from[IBH_ACKS];
	struct iovec iov[IBH_ACKS];
	struct mmsghdr msgs[IBH_ACKS];
	size_t i, waiting = count;

	for (i = 0; i < count; i++)
		errs[i] = 1;
	while (waiting) {
		unsigned int want = waiting < IBH_ACKS ?
					    (unsigned int)waiting :
					    IBH_ACKS;
		int got, k;

		memset(msgs, 0, sizeof(msgs));
		for (i = 0; i < want; i++) {
			iov[i].iov_base = bufs[i];
			iov[i].iov_len = IBH_ACK_SIZE;
			msgs[i].msg_hdr.msg_name = &from[i];
			msgs[i].msg_hdr.msg_namelen = sizeof(from[i]);
			msgs[i].msg_hdr.msg_iov = &iov[i];
			msgs[i].msg_hdr.msg_iovlen = 1;
		}
		got = recvmmsg(fd, msgs, want, MSG_WAITFORONE, NULL);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		for (k = 0; k < got; k++) {
			struct nlmsghdr nlh;
			struct nlmsgerr ack;
			uint32_t at;

			if (from[k].nl_pid != peer ||
			    msgs[k].msg_len < NLMSG_HDRLEN + sizeof(ack))
				continue; /* not for us */
			memcpy(&nlh, bufs[k], sizeof(nlh));
			memcpy(&ack, bufs[k] + NLMSG_HDRLEN, sizeof(ack));
			at = nlh.nlmsg_seq - seq;
			if (nlh.nlmsg_type != NLMSG_ERROR || at >= count ||
			    errs[at] != 1)
				continue;
			errs[at] = ack.error > 0 ? -EBADMSG : ack.error;
			waiting--;
		}
	}
	return 0;
}

/* A VF's record has 236 bytes (336 with statistics), and a list of them ends
 * at 64 KiB. Never less than 32 KiB, and no look at a datagram's length before
 * it is read: a dump's datagrams are as large as what the socket was read with
 * so far, up to 32 KiB, and else as large as the kernel's estimate, which is
 * too small on the kernels that are asked for a dump (netlink_recvmsg). */
#define IBH_NL_ANSWER	(1 << 18)

/* The next datagram: its length, 0 if it came from somebody else, -EMSGSIZE
 * if it is longer than that; -ETIMEDOUT, -ENOBUFS. */
static inline ssize_t ibh_nl_recv(int fd, uint32_t peer, void *buf, size_t cap)
{
	struct sockaddr_nl from = { 0 };
	struct iovec iov = { .iov_base = buf, .iov_len = cap };
	struct msghdr msg = {
		.msg_name = &from,
		.msg_namelen = sizeof(from),
		.msg_iov = &iov,
		.msg_iovlen = 1,
	};
	ssize_t n;

	do
		n = recvmsg(fd, &msg, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	if (from.nl_pid != peer)
		return 0;
	return msg.msg_flags & MSG_TRUNC ? -EMSGSIZE : n;
}

#endif
