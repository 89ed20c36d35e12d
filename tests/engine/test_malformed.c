// SPDX-License-Identifier: Apache-2.0
/* What is no message, or a strange one. */
#include "check.h"
#include "messages.h"

static struct bytes bytes;

/* ---- strange records of VFs -------------------------------------------- */

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

	list_of(&bytes, 3, 1);
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

	list_of(&bytes, 3, 1);
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
		{ 1, -EBADMSG },      { 5, -EBADMSG },
		{ INT32_MIN, -EBADMSG }, { INT32_MAX, -EBADMSG },
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
