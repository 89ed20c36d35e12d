// SPDX-License-Identifier: Apache-2.0
/* rtnetlink messages about VFs: their bytes. */
#include "rtnetlink.h"

#ifndef RTEXT_FILTER_SKIP_STATS
#define RTEXT_FILTER_SKIP_STATS (1 << 3)
#endif

/* The kernel's own bound of an errno (include/linux/err.h). */
#define MAX_ERRNO 4095

/* The kernel's struct ifla_vf_guid. */
struct vf_guid {
	uint32_t vf;
	uint32_t pad;
	uint64_t guid;
};

/* ---- building ---------------------------------------------------------- */

unsigned char *put_header(unsigned char *buf, uint16_t type, uint16_t flags,
			  uint32_t seq)
{
	const struct nlmsghdr header = {
		.nlmsg_type = type,
		.nlmsg_flags = flags,
		.nlmsg_seq = seq,
	};

	memcpy(buf, &header, sizeof(header));
	return buf + NLMSG_HDRLEN;
}

unsigned char *put_link(unsigned char *at, int ifindex)
{
	/* ifi_flags and ifi_change stay 0: the interface is not touched */
	const struct ifinfomsg link = { .ifi_index = ifindex };

	memcpy(at, &link, sizeof(link));
	return at + NLMSG_ALIGN(sizeof(link));
}

static void put_head(unsigned char *at, uint16_t type, size_t len)
{
	const struct nlattr head = {
		.nla_type = type,
		.nla_len = (uint16_t)(NLA_HDRLEN + len),
	};

	memcpy(at, &head, sizeof(head));
}

unsigned char *put_attr(unsigned char *at, uint16_t type, const void *data,
			size_t len)
{
	put_head(at, type, len);
	at += NLA_HDRLEN;
	memcpy(at, data, len);
	memset(at + len, 0, NLA_ALIGN(len) - len);
	return at + NLA_ALIGN(len);
}

size_t put_end(unsigned char *buf, const unsigned char *end)
{
	const uint32_t len = (uint32_t)(end - buf);

	memcpy(buf, &len, sizeof(len)); /* nlmsg_len comes first */
	return len;
}

/*
 * One IFLA_VF_INFO nest for each attribute. do_setvfinfo() of
 * net/core/rtnetlink.c returns straight after the node GUID, so a port GUID
 * in the same nest would be dropped and the kernel report success.
 */
ssize_t build_setlink(unsigned char *buf, size_t cap, uint32_t seq,
		      int ifindex, const struct vf_set *sets, size_t count)
{
	unsigned char *list, *nest, *p;
	size_t i;

	if (count > SET_MAX)
		return -EINVAL;
	if (cap < SET_HEAD + count * SET_SIZE)
		return -ENOSPC;
	list = put_header(buf, RTM_SETLINK, NLM_F_REQUEST | NLM_F_ACK, seq);
	list = put_link(list, ifindex);
	p = list + NLA_HDRLEN;
	for (i = 0; i < count; i++) {
		const struct ifla_vf_link_state state = {
			.vf = sets[i].vf,
			.link_state = (uint32_t)sets[i].value,
		};
		const struct vf_guid guid = {
			.vf = sets[i].vf,
			.guid = sets[i].value,
		};

		nest = p;
		p += NLA_HDRLEN;
		switch (sets[i].attr) {
		case VF_LINK_STATE:
			p = put_attr(p, VF_LINK_STATE, &state, sizeof(state));
			break;
		case VF_NODE_GUID:
		case VF_PORT_GUID:
			p = put_attr(p, (uint16_t)sets[i].attr, &guid,
				     sizeof(guid));
			break;
		default:
			return -EINVAL;
		}
		put_head(nest, IFLA_VF_INFO | NLA_F_NESTED,
			 (size_t)(p - nest) - NLA_HDRLEN);
	}
	put_head(list, IFLA_VFINFO_LIST | NLA_F_NESTED,
		 (size_t)(p - list) - NLA_HDRLEN);
	return (ssize_t)put_end(buf, p);
}

/* The statistics of each VF cost another firmware query. */
size_t build_getlink(unsigned char buf[LINK_REQUEST], uint32_t seq,
		     int ifindex, bool dump, bool traffic)
{
	const uint32_t mask = RTEXT_FILTER_VF |
			      (traffic ? 0 : RTEXT_FILTER_SKIP_STATS);
	unsigned char *p;

	p = put_header(buf, RTM_GETLINK,
		       dump ? NLM_F_REQUEST | NLM_F_DUMP : NLM_F_REQUEST, seq);
	p = put_link(p, dump ? 0 : ifindex);
	p = put_attr(p, IFLA_EXT_MASK, &mask, sizeof(mask));
	return put_end(buf, p);
}

size_t build_getname(unsigned char buf[NAME_REQUEST], uint32_t seq,
		     const char *name)
{
	unsigned char *p;

	p = put_header(buf, RTM_GETLINK, NLM_F_REQUEST, seq);
	p = put_link(p, 0);
	p = put_attr(p, ALT_IFNAME, name, strlen(name) + 1);
	return put_end(buf, p);
}

/* ---- taking apart ------------------------------------------------------ */

static void step_over(const unsigned char **p, size_t *left, size_t len)
{
	size_t step = NLMSG_ALIGN(len); /* NLA_ALIGN is the same */

	if (step > *left)
		step = *left; /* the last has no padding */
	*p += step;
	*left -= step;
}

int next_message(const unsigned char **p, size_t *left,
		 struct message *message)
{
	struct nlmsghdr header;

	if (*left < NLMSG_HDRLEN)
		return 0;
	memcpy(&header, *p, sizeof(header));
	if (header.nlmsg_len < NLMSG_HDRLEN || header.nlmsg_len > *left)
		return -EBADMSG;
	message->type = header.nlmsg_type;
	message->flags = header.nlmsg_flags;
	message->seq = header.nlmsg_seq;
	message->data = *p + NLMSG_HDRLEN;
	message->len = header.nlmsg_len - NLMSG_HDRLEN;
	step_over(p, left, header.nlmsg_len);
	return 1;
}

int next_attr(const unsigned char **p, size_t *left, struct attr *attr)
{
	struct nlattr head;

	if (*left < NLA_HDRLEN)
		return 0; /* padding at most */
	memcpy(&head, *p, sizeof(head));
	if (head.nla_len < NLA_HDRLEN || head.nla_len > *left)
		return -EBADMSG;
	attr->type = head.nla_type & NLA_TYPE_MASK;
	attr->len = (uint16_t)(head.nla_len - NLA_HDRLEN);
	attr->data = *p + NLA_HDRLEN;
	step_over(p, left, head.nla_len);
	return 1;
}

int message_error(const struct message *message)
{
	int32_t error;

	if (message->len < sizeof(error)) /* older kernels' NLMSG_DONE */
		return message->type == NLMSG_DONE ? 0 : -EBADMSG;
	memcpy(&error, message->data, sizeof(error));
	return error <= 0 && error >= -MAX_ERRNO ? error : -EBADMSG;
}

static int take_u32(struct attr attr, uint32_t *number)
{
	if (attr.len < sizeof(*number))
		return -EBADMSG;
	memcpy(number, attr.data, sizeof(*number));
	return 0;
}

/* What is too long is cut. */
static void take_text(struct attr attr, char *text, size_t size)
{
	size_t len = strnlen((const char *)attr.data, attr.len);

	if (len >= size)
		len = size - 1;
	memcpy(text, attr.data, len);
	text[len] = '\0';
}

int parse_link(const struct message *message, struct link *link)
{
	const size_t head = NLMSG_ALIGN(sizeof(struct ifinfomsg));
	const unsigned char *p;
	struct ifinfomsg info;
	struct attr attr;
	size_t left;
	int more;

	memset(link, 0, sizeof(*link));
	if (message->len < head)
		return -EBADMSG;
	memcpy(&info, message->data, sizeof(info));
	link->ifindex = info.ifi_index;
	p = message->data + head;
	left = message->len - head;
	while ((more = next_attr(&p, &left, &attr)) > 0) {
		switch (attr.type) {
		case PARENT_DEV_NAME:
			take_text(attr, link->parent, sizeof(link->parent));
			break;
		case IFLA_IFNAME:
			take_text(attr, link->name, sizeof(link->name));
			break;
		case IFLA_NUM_VF:
			if (take_u32(attr, &link->num_vf))
				return -EBADMSG;
			break;
		case IFLA_VFINFO_LIST:
			link->vfs = attr;
			break;
		}
	}
	return more;
}

ssize_t count_vfs(struct attr list)
{
	const unsigned char *p = list.data;
	size_t left = list.len;
	struct attr nest;
	ssize_t count = 0;
	int more;

	while ((more = next_attr(&p, &left, &nest)) > 0)
		if (nest.type == IFLA_VF_INFO)
			count++;
	return more < 0 ? more : count;
}

static int parse_traffic(struct attr nest, struct ibh_traffic *traffic)
{
	uint64_t *const places[] = {
		&traffic->rx_packets, &traffic->tx_packets,
		&traffic->rx_bytes, &traffic->tx_bytes,
		&traffic->rx_broadcast, &traffic->rx_multicast,
		NULL, /* IFLA_VF_STATS_PAD */
		&traffic->rx_dropped, &traffic->tx_dropped,
	};
	const unsigned char *p = nest.data;
	size_t left = nest.len;
	struct attr attr;
	int more;

	while ((more = next_attr(&p, &left, &attr)) > 0) {
		if (attr.type >= sizeof(places) / sizeof(places[0]) ||
		    !places[attr.type])
			continue;
		if (attr.len < sizeof(uint64_t))
			return -EBADMSG;
		memcpy(places[attr.type], attr.data, sizeof(uint64_t));
	}
	return more;
}

/*
 * One IFLA_VF_INFO. Linux 5.5 left the vf field of the GUIDs unset, so the
 * number is taken from the other attributes where there is one.
 */
static int parse_vf(struct attr nest, struct vf_info *vf)
{
	const unsigned char *p = nest.data;
	size_t left = nest.len;
	bool sure = false, told = false;
	struct vf_guid guid;
	struct attr attr;
	int more;

	memset(vf, 0, sizeof(*vf));
	while ((more = next_attr(&p, &left, &attr)) > 0) {
		switch (attr.type) {
		case VF_NODE_GUID:
		case VF_PORT_GUID:
			if (attr.len < sizeof(guid))
				return -EBADMSG;
			memcpy(&guid, attr.data, sizeof(guid));
			if (attr.type == VF_NODE_GUID) {
				vf->node = guid.guid;
				vf->have |= IBH_HAVE_NODE;
			} else {
				vf->port = guid.guid;
				vf->have |= IBH_HAVE_PORT;
			}
			if (!sure)
				vf->vf = guid.vf;
			told = true;
			break;
		case VF_LINK_STATE:
			if (attr.len < sizeof(struct ifla_vf_link_state))
				return -EBADMSG;
			memcpy(&vf->link_state, attr.data + sizeof(vf->vf),
			       sizeof(vf->link_state));
			vf->have |= IBH_HAVE_POLICY;
			/* fall through */
		case IFLA_VF_MAC:
			if (take_u32(attr, &vf->vf))
				return -EBADMSG;
			sure = told = true;
			break;
		case VF_STATS:
			if (parse_traffic(attr, &vf->traffic))
				return -EBADMSG;
			vf->counted = true;
			break;
		}
	}
	if (more < 0)
		return more;
	return told ? 0 : -EBADMSG;
}

int parse_vfs(struct attr list, struct vf_info *infos)
{
	const unsigned char *p = list.data;
	size_t left = list.len;
	struct attr nest;
	int more, err;

	while ((more = next_attr(&p, &left, &nest)) > 0) {
		if (nest.type != IFLA_VF_INFO)
			continue;
		err = parse_vf(nest, infos++);
		if (err)
			return err;
	}
	return more;
}
