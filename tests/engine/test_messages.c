// SPDX-License-Identifier: Apache-2.0
/* rtnetlink's bytes, in both directions. */
#include "check.h"
#include "messages.h"

#define GUID 0xfa163e0000123456ull

static struct bytes bytes;

/* ---- built ------------------------------------------------------------- */

/* Against the layout of linux/if_link.h, written down by hand. */
TEST(a_set_message_byte_by_byte)
{
	static const struct {
		uint32_t len;
		uint16_t type, flags;
		uint32_t seq, pid;
		uint8_t family, pad;
		uint16_t arphrd;
		int32_t index;
		uint32_t ifi_flags, change;
		uint16_t list_len, list;
		uint16_t nest1_len, nest1;
		uint16_t guid_len, guid;
		uint32_t guid_vf, guid_pad;
		uint64_t value;
		uint16_t nest2_len, nest2;
		uint16_t state_len, state;
		uint32_t state_vf, state_value;
	} __attribute__((packed)) wanted = {
		.len = 76,
		.type = 19,
		.flags = 0x05,
		.seq = 7,
		.index = 5,
		.list_len = 44,
		.list = 22 | 0x8000,
		.nest1_len = 24,
		.nest1 = 1 | 0x8000,
		.guid_len = 20,
		.guid = 10,
		.guid_vf = 3,
		.value = GUID,
		.nest2_len = 16,
		.nest2 = 1 | 0x8000,
		.state_len = 12,
		.state = 5,
		.state_vf = 3,
		.state_value = 2,
	};
	const struct vf_set sets[] = { { 3, VF_NODE_GUID, GUID },
				       { 3, VF_LINK_STATE, IBH_DOWN } };
	unsigned char buf[256];

	EQUAL(sizeof(wanted), 76);
	EQUAL(build_setlink(buf, sizeof(buf), 7, 5, sets, 2), 76);
	CHECK(!memcmp(buf, &wanted, sizeof(wanted)));
}

TEST(a_question_byte_by_byte)
{
	struct {
		uint32_t len;
		uint16_t type, flags;
		uint32_t seq, pid;
		uint8_t family, pad;
		uint16_t arphrd;
		int32_t index;
		uint32_t ifi_flags, change;
		uint16_t mask_len, mask;
		uint32_t value;
	} __attribute__((packed)) wanted = {
		.len = 40,
		.type = 18,
		.flags = 0x01,
		.seq = 9,
		.index = 5,
		.mask_len = 8,
		.mask = 29,
		.value = 1 | 8, /* VFs, without statistics */
	};
	unsigned char buf[LINK_REQUEST];

	EQUAL(build_getlink(buf, 9, 5, false), 40);
	CHECK(!memcmp(buf, &wanted, sizeof(wanted)));
	wanted.flags = 0x301;
	wanted.index = 0;
	EQUAL(build_getlink(buf, 9, 5, true), 40);
	CHECK(!memcmp(buf, &wanted, sizeof(wanted)));
}

/* The kernel would drop a port GUID that shares one with a node GUID. */
TEST(each_attribute_has_a_nest_of_its_own)
{
	static struct vf_set sets[SET_MAX];
	struct message message;
	struct attr list, nest, attr;
	const unsigned char *p, *q, *r;
	size_t left, rest, end, i;
	uint64_t guid;
	uint32_t vf;
	ssize_t len;

	for (i = 0; i < SET_MAX; i++)
		sets[i] = (struct vf_set){
			(uint32_t)i * 7, i % 2 ? VF_PORT_GUID : VF_NODE_GUID,
			GUID * (i + 1)
		};
	len = build_setlink(bytes.at, sizeof(bytes.at), 1, 1, sets, SET_MAX);
	CHECK(len > 0);
	p = bytes.at;
	left = (size_t)len;
	EQUAL(next_message(&p, &left, &message), 1);
	EQUAL(left, 0);
	p = message.data + sizeof(struct ifinfomsg);
	left = message.len - sizeof(struct ifinfomsg);
	EQUAL(next_attr(&p, &left, &list), 1);
	EQUAL(list.type, IFLA_VFINFO_LIST);
	EQUAL(left, 0);
	q = list.data;
	rest = list.len;
	for (i = 0; i < SET_MAX; i++) {
		EQUAL(next_attr(&q, &rest, &nest), 1);
		EQUAL(nest.type, IFLA_VF_INFO);
		r = nest.data;
		end = nest.len;
		EQUAL(next_attr(&r, &end, &attr), 1);
		EQUAL(end, 0);
		memcpy(&vf, attr.data, sizeof(vf));
		memcpy(&guid, attr.data + 8, sizeof(guid));
		EQUAL(attr.type, sets[i].attr);
		EQUAL(vf, sets[i].vf);
		CHECK(guid == sets[i].value);
	}
	EQUAL(next_attr(&q, &rest, &nest), 0);
}

TEST(what_no_message_can_say_is_refused)
{
	static struct vf_set sets[SET_MAX + 1];
	size_t cap = SET_HEAD + SET_SIZE, i;

	sets[0] = (struct vf_set){ 0, IFLA_VF_MAC, 0 };
	EQUAL(build_setlink(bytes.at, sizeof(bytes.at), 1, 1, sets, 1),
	      -EINVAL);
	for (i = 0; i < SET_MAX + 1; i++)
		sets[i].attr = VF_NODE_GUID;
	EQUAL(build_setlink(bytes.at, sizeof(bytes.at), 1, 1, sets,
			    SET_MAX + 1),
	      -EINVAL);
	EQUAL(build_setlink(bytes.at, cap - 1, 1, 1, sets, 1), -ENOSPC);
	EQUAL(build_setlink(bytes.at, cap, 1, 1, sets, 1), cap);
}

TEST(what_is_between_attributes_is_zero)
{
	static const unsigned char wanted[] = { 5, 0, 3, 0, 'x', 0, 0, 0 };
	unsigned char buf[8];

	memset(buf, 0xff, sizeof(buf));
	CHECK(put_attr(buf, 3, "x", 1) == buf + 8);
	CHECK(!memcmp(buf, wanted, sizeof(wanted)));
}

/* ---- taken apart ------------------------------------------------------- */

/* The link and the VFs that a reply of `len` bytes tells of, in memory that
 * ends where it does; their number, or -EBADMSG. */
static ssize_t take_apart(const unsigned char *at, size_t len,
			  struct link *link, struct vf_info **infos)
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
		*infos = malloc(((size_t)count + 1) * sizeof(**infos));
		CHECK(*infos);
		err = parse_vfs(link->vfs, *infos);
		if (err)
			count = err;
	}
	free(copy);
	link->vfs.data = NULL;
	return count;
}

static void list_of(uint32_t count, uint32_t step)
{
	size_t list;
	uint32_t i;

	bytes.len = 0;
	link_head(&bytes, 5, 2);
	list = nest(&bytes, IFLA_VFINFO_LIST | NLA_F_NESTED);
	for (i = 0; i < count; i++)
		known_vf(&bytes, i * step, i + 1, i + 2, i % 3);
	nest_end(&bytes, list);
}

/* The kernel leaves out a VF that its driver could not be asked about. */
TEST(vfs_are_known_by_their_number_not_their_place)
{
	struct vf_info *infos;
	struct link link;

	list_of(2, 2);
	EQUAL(take_apart(bytes.at, bytes.len, &link, &infos), 2);
	EQUAL(link.ifindex, 5);
	EQUAL(link.num_vf, 2);
	EQUAL(infos[1].vf, 2);
	EQUAL(infos[1].node, 2);
	EQUAL(infos[1].port, 3);
	EQUAL(infos[1].link_state, 1);
	EQUAL(infos[1].have,
	      IBH_HAVE_NODE | IBH_HAVE_PORT | IBH_HAVE_POLICY);
	free(infos);
}

TEST(linux_5_5_gave_every_guid_to_vf_0)
{
	uint64_t node = 1, port = 2;
	struct vf_info *infos;
	struct link link;
	size_t list;

	bytes.len = 0;
	link_head(&bytes, 5, 2);
	list = nest(&bytes, IFLA_VFINFO_LIST | NLA_F_NESTED);
	vf_info(&bytes, 6, 0, 0, &node, &port);
	nest_end(&bytes, list);
	EQUAL(take_apart(bytes.at, bytes.len, &link, &infos), 1);
	EQUAL(infos[0].vf, 6);
	EQUAL(infos[0].node, 1);
	EQUAL(infos[0].port, 2);
	free(infos);
}

TEST(a_kernel_that_tells_no_guids)
{
	struct vf_info *infos;
	struct link link;
	size_t list;

	bytes.len = 0;
	link_head(&bytes, 5, 2);
	list = nest(&bytes, IFLA_VFINFO_LIST | NLA_F_NESTED);
	vf_info(&bytes, 0, 0, 0, NULL, NULL);
	nest_end(&bytes, list);
	EQUAL(take_apart(bytes.at, bytes.len, &link, &infos), 1);
	EQUAL(infos[0].vf, 0);
	EQUAL(infos[0].have, IBH_HAVE_POLICY);
	free(infos);
}

/* How many VFs there are in a list with this nest, or -EBADMSG; the first is
 * *info. */
static ssize_t take_nest(uint16_t nest_type, uint16_t type, const void *data,
			 size_t len, struct vf_info *info)
{
	struct vf_info *infos;
	struct link link;
	size_t list, vf;
	ssize_t count;

	bytes.len = 0;
	link_head(&bytes, 5, 1);
	list = nest(&bytes, IFLA_VFINFO_LIST | NLA_F_NESTED);
	vf = nest(&bytes, nest_type);
	attribute(&bytes, type, data, len);
	nest_end(&bytes, vf);
	nest_end(&bytes, list);
	count = take_apart(bytes.at, bytes.len, &link, &infos);
	if (count > 0)
		*info = infos[0];
	free(infos);
	return count;
}

TEST(a_vf_is_known_by_any_of_its_attributes)
{
	const uint32_t four[9] = { 6, 1, 7 };
	struct vf_info info;

	EQUAL(take_nest(IFLA_VF_INFO, IFLA_VF_MAC, four, 36, &info), 1);
	EQUAL(info.vf, 6);
	EQUAL(info.have, 0);
	EQUAL(take_nest(IFLA_VF_INFO, VF_LINK_STATE, four, 8, &info), 1);
	EQUAL(info.vf, 6);
	EQUAL(info.have, IBH_HAVE_POLICY);
	EQUAL(info.link_state, 1);
	EQUAL(take_nest(IFLA_VF_INFO, VF_NODE_GUID, four, 16, &info), 1);
	EQUAL(info.vf, 6);
	EQUAL(info.have, IBH_HAVE_NODE);
	EQUAL(info.node, 7);
	EQUAL(take_nest(IFLA_VF_INFO, VF_PORT_GUID, four, 16, &info), 1);
	EQUAL(info.vf, 6);
	EQUAL(info.have, IBH_HAVE_PORT);
	EQUAL(info.port, 7);
}

TEST(a_vf_without_a_number_is_none)
{
	const uint32_t four[9] = { 6 };
	struct vf_info info;

	EQUAL(take_nest(IFLA_VF_INFO, 3, four, 8, &info), -EBADMSG);
	EQUAL(take_nest(IFLA_VF_INFO, IFLA_VF_MAC, four, 3, &info), -EBADMSG);
	EQUAL(take_nest(IFLA_VF_INFO, VF_LINK_STATE, four, 7, &info),
	      -EBADMSG);
	EQUAL(take_nest(IFLA_VF_INFO, VF_NODE_GUID, four, 15, &info),
	      -EBADMSG);
	EQUAL(take_nest(IFLA_VF_INFO, VF_PORT_GUID, four, 15, &info),
	      -EBADMSG);
	/* nor is another kind of nest */
	EQUAL(take_nest(2, IFLA_VF_MAC, four, 36, &info), 0);
}

TEST(a_list_that_was_cut_inside)
{
	const uint16_t long_attr[2] = { 40, IFLA_VF_MAC };
	struct vf_info *infos;
	struct link link;
	size_t list, vf;

	bytes.len = 0;
	link_head(&bytes, 5, 1);
	list = nest(&bytes, IFLA_VFINFO_LIST);
	known_vf(&bytes, 0, 1, 1, 0);
	add(&bytes, long_attr, sizeof(long_attr));
	nest_end(&bytes, list);
	EQUAL(take_apart(bytes.at, bytes.len, &link, &infos), -EBADMSG);
	free(infos);
	bytes.len = 0;
	link_head(&bytes, 5, 1);
	list = nest(&bytes, IFLA_VFINFO_LIST);
	vf = nest(&bytes, IFLA_VF_INFO);
	attribute(&bytes, IFLA_VF_MAC, "\0\0\0\0\0\0\0", 8);
	add(&bytes, long_attr, sizeof(long_attr));
	nest_end(&bytes, vf);
	nest_end(&bytes, list);
	EQUAL(take_apart(bytes.at, bytes.len, &link, &infos), -EBADMSG);
	free(infos);
}

TEST(a_list_may_have_more_than_vfs)
{
	struct vf_info *infos;
	struct link link;
	size_t list;
	uint32_t i;

	bytes.len = 0;
	link_head(&bytes, 5, 1);
	list = nest(&bytes, IFLA_VFINFO_LIST);
	for (i = 0; i < 20; i++)
		attribute(&bytes, 2, "", 0);
	known_vf(&bytes, 4, 1, 1, 0);
	nest_end(&bytes, list);
	EQUAL(take_apart(bytes.at, bytes.len, &link, &infos), 1);
	EQUAL(infos[0].vf, 4);
	free(infos);
}

TEST(a_list_of_two_hundred_vfs)
{
	struct vf_info *infos;
	struct link link;
	uint32_t i;

	list_of(200, 1);
	EQUAL(take_apart(bytes.at, bytes.len, &link, &infos), 200);
	for (i = 0; i < 200; i++) {
		EQUAL(infos[i].vf, i);
		EQUAL(infos[i].node, i + 1);
		EQUAL(infos[i].port, i + 2);
		EQUAL(infos[i].link_state, i % 3);
	}
	free(infos);
}

TEST(the_pf_of_a_link)
{
	struct vf_info *infos;
	struct link link;
	size_t len;

	bytes.len = 0;
	link_head(&bytes, 5, 0);
	attribute(&bytes, PARENT_DEV_NAME, "0000:3b:00.0", 13);
	EQUAL(take_apart(bytes.at, bytes.len, &link, &infos), 0);
	CHECK(!strcmp(link.parent, "0000:3b:00.0"));
	free(infos);
	/* Neither without its end, nor longer than there is room. */
	for (len = 31; len < 34; len++) {
		bytes.len = 0;
		link_head(&bytes, 5, 0);
		attribute(&bytes, PARENT_DEV_NAME,
			  "0123456789012345678901234567890123456789", len);
		EQUAL(take_apart(bytes.at, bytes.len, &link, &infos), 0);
		EQUAL(strlen(link.parent), 31);
		free(infos);
	}
}

TEST(the_number_of_a_links_vfs)
{
	struct vf_info *infos;
	struct link link;

	bytes.len = 0;
	link_head(&bytes, 5, 0);
	EQUAL(take_apart(bytes.at, bytes.len, &link, &infos), 0);
	free(infos);
	/* The end of the head is an end, too. */
	EQUAL(take_apart(bytes.at, sizeof(struct ifinfomsg), &link, &infos),
	      0);
	EQUAL(link.ifindex, 5);
	free(infos);
	attribute(&bytes, IFLA_NUM_VF, "", 1);
	EQUAL(take_apart(bytes.at, bytes.len, &link, &infos), -EBADMSG);
	free(infos);
}

/* ---- what does not hold together --------------------------------------- */

static uint64_t state = 1;

/* The same numbers each time (Knuth's constants of a linear congruence). */
static uint32_t draw(uint32_t below)
{
	state = state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(state >> 33) % below;
}

static void read_or_refused(const unsigned char *at, size_t len)
{
	struct vf_info *infos;
	struct link link;
	ssize_t count = take_apart(at, len, &link, &infos);

	CHECK(count >= 0 || count == -EBADMSG);
	free(infos);
}

TEST(garbage_is_refused_or_read_but_never_past_its_end)
{
	unsigned char garbage[400];
	unsigned int round;
	size_t len, i;

	for (round = 0; round < 20000; round++) {
		len = draw(sizeof(garbage) + 1);
		for (i = 0; i < len; i++)
			/* small numbers make lengths that fit */
			garbage[i] = (unsigned char)draw(round % 2 ? 256 : 24);
		read_or_refused(garbage, len);
	}
}

TEST(a_reply_with_flipped_bytes)
{
	unsigned char reply[512];
	unsigned int round, flips;

	list_of(3, 1);
	CHECK(bytes.len <= sizeof(reply));
	for (round = 0; round < 20000; round++) {
		memcpy(reply, bytes.at, bytes.len);
		for (flips = 1 + draw(4); flips; flips--)
			reply[draw((uint32_t)bytes.len)] =
				(unsigned char)draw(256);
		read_or_refused(reply, draw((uint32_t)bytes.len + 1));
	}
}

TEST(a_reply_that_was_cut)
{
	struct vf_info *infos;
	struct link link;
	size_t len;

	list_of(3, 1);
	for (len = 0; len < bytes.len; len++)
		read_or_refused(bytes.at, len);
	EQUAL(take_apart(bytes.at, bytes.len - 1, &link, &infos), -EBADMSG);
	free(infos);
	EQUAL(take_apart(bytes.at, 15, &link, &infos), -EBADMSG);
	free(infos);
}

TEST(messages_of_impossible_length)
{
	static const uint32_t lengths[] = { 0, 4, 15, 17, 0x80000000,
					    UINT32_MAX };
	struct message message;
	const unsigned char *p;
	unsigned char buf[16];
	size_t left, i;

	for (i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		memset(buf, 0, sizeof(buf));
		memcpy(buf, &lengths[i], 4);
		p = buf;
		left = sizeof(buf);
		EQUAL(next_message(&p, &left, &message), -EBADMSG);
	}
	p = buf;
	left = 15;
	EQUAL(next_message(&p, &left, &message), 0);
	put_end(buf, put_header(buf, NLMSG_NOOP, 0, 0));
	left = 16;
	EQUAL(next_message(&p, &left, &message), 1);
	EQUAL(message.len, 0);
	EQUAL(left, 0);
}

TEST(an_errno_is_believed_within_bounds)
{
	static const struct {
		int32_t said;
		int taken;
	} cases[] = {
		{ 0, 0 },	      { -EIO, -EIO },
		{ -4095, -4095 },     { -4096, -EBADMSG },
		{ 5, -EBADMSG },      { INT32_MIN, -EBADMSG },
		{ INT32_MAX, -EBADMSG },
	};
	struct message message = { .type = NLMSG_ERROR };
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		message.data = (const unsigned char *)&cases[i].said;
		message.len = sizeof(cases[i].said);
		EQUAL(message_error(&message), cases[i].taken);
	}
	message.len = 3;
	EQUAL(message_error(&message), -EBADMSG);
	message.type = NLMSG_DONE;
	EQUAL(message_error(&message), 0);
}
