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

	EQUAL(build_getlink(buf, 9, 5, false, false), 40);
	CHECK(!memcmp(buf, &wanted, sizeof(wanted)));
	wanted.flags = 0x301;
	wanted.index = 0;
	EQUAL(build_getlink(buf, 9, 5, true, false), 40);
	CHECK(!memcmp(buf, &wanted, sizeof(wanted)));
	wanted.value = 1;
	EQUAL(build_getlink(buf, 9, 5, true, true), 40);
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

/* The kernel leaves out a VF that its driver could not be asked about. */
TEST(vfs_are_known_by_their_number_not_their_place)
{
	struct vf_info *infos;
	struct link link;

	list_of(&bytes, 2, 2);
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

/* Attributes that are not known, and padding, may be among them. */
TEST(what_a_vf_has_sent_and_received)
{
	uint64_t number = 100, whole;
	struct vf_info *infos;
	struct link link;
	size_t list, vf, stats;
	uint32_t mac[9] = { 3 };
	uint16_t i;

	bytes.len = 0;
	link_head(&bytes, 5, 2);
	list = nest(&bytes, IFLA_VFINFO_LIST | NLA_F_NESTED);
	vf = nest(&bytes, IFLA_VF_INFO | NLA_F_NESTED);
	attribute(&bytes, IFLA_VF_MAC, mac, sizeof(mac));
	stats = nest(&bytes, VF_STATS | NLA_F_NESTED);
	for (i = 0; i < 12; i++) {
		whole = number + i;
		attribute(&bytes, i, &whole, i == 6 ? 0 : sizeof(whole));
	}
	nest_end(&bytes, stats);
	nest_end(&bytes, vf);
	known_vf(&bytes, 4, 1, 1, 0);
	nest_end(&bytes, list);
	EQUAL(take_apart(bytes.at, bytes.len, &link, &infos), 2);
	CHECK(infos[0].counted);
	EQUAL(infos[0].traffic.rx_packets, 100);
	EQUAL(infos[0].traffic.tx_packets, 101);
	EQUAL(infos[0].traffic.rx_bytes, 102);
	EQUAL(infos[0].traffic.tx_bytes, 103);
	EQUAL(infos[0].traffic.rx_broadcast, 104);
	EQUAL(infos[0].traffic.rx_multicast, 105);
	EQUAL(infos[0].traffic.rx_dropped, 107);
	EQUAL(infos[0].traffic.tx_dropped, 108);
	CHECK(!infos[1].counted);
	free(infos);
	/* One that is too short. */
	bytes.len = 0;
	link_head(&bytes, 5, 1);
	list = nest(&bytes, IFLA_VFINFO_LIST | NLA_F_NESTED);
	vf = nest(&bytes, IFLA_VF_INFO | NLA_F_NESTED);
	attribute(&bytes, IFLA_VF_MAC, mac, sizeof(mac));
	stats = nest(&bytes, VF_STATS | NLA_F_NESTED);
	attribute(&bytes, 2, &number, 7);
	nest_end(&bytes, stats);
	nest_end(&bytes, vf);
	nest_end(&bytes, list);
	EQUAL(take_apart(bytes.at, bytes.len, &link, &infos), -EBADMSG);
	free(infos);
}

TEST(a_list_of_two_hundred_vfs)
{
	struct vf_info *infos;
	struct link link;
	uint32_t i;

	list_of(&bytes, 200, 1);
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
	/* What comes last is true. */
	attribute(&bytes, PARENT_DEV_NAME, "eth", 3);
	EQUAL(take_apart(bytes.at, bytes.len, &link, &infos), 0);
	CHECK(!strcmp(link.parent, "eth"));
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
