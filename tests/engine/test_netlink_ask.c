// SPDX-License-Identifier: Apache-2.0
/* RTM_GETLINK, and manners towards a peer that misbehaves. */
#include "peer.h"

/* A link with so many VFs, whose GUIDs begin with `guid`. */
static void add_link(uint32_t seq, uint16_t flags, int ifindex, uint32_t vfs,
		     uint64_t guid)
{
	size_t start = message(&bytes, RTM_NEWLINK, flags, seq), list;
	uint32_t i;

	link_head(&bytes, ifindex, vfs);
	list = nest(&bytes, IFLA_VFINFO_LIST | NLA_F_NESTED);
	for (i = 0; i < vfs; i++)
		known_vf(&bytes, i, guid + i, guid + i, 0);
	nest_end(&bytes, list);
	message_end(&bytes, start);
}

static void add_done(uint32_t seq, uint16_t flags)
{
	int32_t error = 0;
	size_t start = message(&bytes, NLMSG_DONE, NLM_F_MULTI | flags, seq);

	add(&bytes, &error, sizeof(error));
	message_end(&bytes, start);
}

/* What comes of a question about device 5. */
static int ask(struct vf_info **infos, size_t *count)
{
	int err;

	*infos = NULL;
	*count = 0;
	err = netlink_ask(&host, 5, NULL, infos, count);
	CHECK(!err || !*infos);
	return err;
}

static void is_refused(void (*answer)(const struct message *request),
		       int error)
{
	struct vf_info *infos;
	size_t count;

	set_up(answer);
	EQUAL(ask(&infos, &count), error);
	tear_down();
}

static void dump_only(const struct message *request)
{
	const uint32_t seq = request->seq;

	if ((request->flags & NLM_F_DUMP) != NLM_F_DUMP) {
		acknowledge(seq, -EMSGSIZE);
		return;
	}
	add_link(seq, NLM_F_MULTI, 4, 1, 7);
	add_link(seq, NLM_F_MULTI, 5, 1, 8);
	reply();
	add_link(seq, NLM_F_MULTI, 6, 0, 0);
	reply();
	add_done(seq, 0);
	reply();
}

/* Linux 5.5 to 6.14 from some 16 to 64 VFs on. */
TEST(emsgsize_is_answered_by_a_dump_and_remembered)
{
	struct vf_info *infos;
	size_t count;

	set_up(dump_only);
	EQUAL(ask(&infos, &count), 0);
	EQUAL(count, 1);
	EQUAL(infos[0].port, 8);
	free(infos);
	EQUAL(peer.requests, 2);
	EQUAL(ask(&infos, &count), 0);
	free(infos);
	EQUAL(peer.requests, 3);
	EQUAL(peer.bad_sockets, 0);
	CHECK(known.dumped && known.shown);
	EQUAL(learnt, 1);
	tear_down();
}

static void two_vfs(const struct message *request)
{
	add_link(request->seq, 0, 5, 2, 1);
	reply();
}

static void without_guids(const struct message *request)
{
	size_t start = message(&bytes, RTM_NEWLINK, 0, request->seq), list;

	link_head(&bytes, 5, 1);
	list = nest(&bytes, IFLA_VFINFO_LIST);
	vf_info(&bytes, 0, 0, 0, NULL, NULL);
	nest_end(&bytes, list);
	message_end(&bytes, start);
	reply();
}

TEST(whether_the_kernel_tells_guids_is_remembered)
{
	struct vf_info *infos;
	size_t count;

	set_up(without_guids);
	EQUAL(ask(&infos, &count), 0);
	free(infos);
	CHECK(!known.shown && !known.dumped);
	EQUAL(learnt, 0);
	peer.answer = two_vfs;
	EQUAL(ask(&infos, &count), 0);
	free(infos);
	CHECK(known.shown && !known.dumped);
	EQUAL(ask(&infos, &count), 0);
	free(infos);
	EQUAL(learnt, 1);
	tear_down();
}

static void interrupted(const struct message *request)
{
	const bool late = peer.dumps < 3;
	const uint16_t flags = late ? NLM_F_DUMP_INTR : 0;

	if ((request->flags & NLM_F_DUMP) != NLM_F_DUMP) {
		acknowledge(request->seq, -EMSGSIZE);
		return;
	}
	add_link(request->seq, NLM_F_MULTI | flags, late ? 4 : 5, 1, 1);
	reply();
	add_done(request->seq, flags);
	reply();
}

TEST(a_dump_that_was_interrupted_is_asked_for_again)
{
	struct vf_info *infos;
	size_t count;

	set_up(interrupted);
	EQUAL(ask(&infos, &count), 0);
	EQUAL(count, 1);
	free(infos);
	EQUAL(peer.dumps, 3);
	tear_down();
}

static void ends_at_another(const struct message *request)
{
	const int32_t error = -EMSGSIZE;
	size_t start;

	if ((request->flags & NLM_F_DUMP) != NLM_F_DUMP) {
		acknowledge(request->seq, -EMSGSIZE);
		return;
	}
	add_link(request->seq, NLM_F_MULTI, 5, 1, 1);
	reply();
	start = message(&bytes, NLMSG_DONE, NLM_F_MULTI, request->seq);
	add(&bytes, &error, sizeof(error));
	message_end(&bytes, start);
	reply();
}

/* With VFs whose statistics are told, too, before Linux 6.5. */
TEST(a_device_too_long_for_a_dump_does_not_take_others_along)
{
	struct vf_info *infos;
	struct dump *dump;
	size_t count;

	set_up(ends_at_another);
	EQUAL(ask(&infos, &count), 0);
	EQUAL(count, 1);
	free(infos);
	EQUAL(dump_new(2, &dump), 0);
	dump_add(dump, 5);
	dump_add(dump, 6);
	EQUAL(netlink_ask(&host, 6, dump, &infos, &count), -EMSGSIZE);
	EQUAL(netlink_ask(&host, 5, dump, &infos, &count), 0);
	EQUAL(count, 1);
	free(infos);
	EQUAL(peer.dumps, 2);
	dump_free(dump);
	tear_down();
}

static void always_interrupted(const struct message *request)
{
	if ((request->flags & NLM_F_DUMP) != NLM_F_DUMP) {
		acknowledge(request->seq, -EMSGSIZE);
		return;
	}
	add_done(request->seq, NLM_F_DUMP_INTR);
	reply();
}

TEST(but_not_for_ever)
{
	is_refused(always_interrupted, -EAGAIN);
	EQUAL(peer.dumps, 3);
}

static void interrupted_elsewhere(const struct message *request)
{
	add_link(request->seq, NLM_F_MULTI | NLM_F_DUMP_INTR, 5, 1, 1);
	reply();
	add_done(request->seq, NLM_F_DUMP_INTR);
	reply();
}

/* Links came or went meanwhile; ours is whole. */
TEST(a_dump_that_has_the_device_is_good)
{
	struct vf_info *infos;
	size_t count;

	set_up(interrupted_elsewhere);
	known.dumped = true;
	EQUAL(ask(&infos, &count), 0);
	EQUAL(count, 1);
	free(infos);
	EQUAL(peer.requests, 1);
	tear_down();
}

static void no_device(const struct message *request)
{
	acknowledge(request->seq, -ENODEV);
}

static void short_link(const struct message *request)
{
	size_t start = message(&bytes, RTM_NEWLINK, 0, request->seq);

	add(&bytes, "short", 5);
	message_end(&bytes, start);
	reply();
}

static void cut_link(const struct message *request)
{
	add_link(request->seq, 0, 5, 2, 1);
	bytes.len = 40;
	reply();
}

static void cut_list(const struct message *request)
{
	size_t start = message(&bytes, RTM_NEWLINK, 0, request->seq);

	link_head(&bytes, 5, 1);
	nest(&bytes, IFLA_VFINFO_LIST);
	message_end(&bytes, start);
	reply();
}

/* The list is whole, what is in it is not. */
static void cut_vf(const struct message *request)
{
	size_t start = message(&bytes, RTM_NEWLINK, 0, request->seq), list;
	const uint16_t cut[2] = { 40, IFLA_VF_INFO };

	link_head(&bytes, 5, 1);
	list = nest(&bytes, IFLA_VFINFO_LIST);
	add(&bytes, cut, sizeof(cut));
	nest_end(&bytes, list);
	message_end(&bytes, start);
	reply();
}

static void nobodys_vf(const struct message *request)
{
	size_t start = message(&bytes, RTM_NEWLINK, 0, request->seq), list;

	link_head(&bytes, 5, 1);
	list = nest(&bytes, IFLA_VFINFO_LIST);
	attribute(&bytes, IFLA_VF_INFO, "", 0);
	nest_end(&bytes, list);
	message_end(&bytes, start);
	reply();
}

static void tiny_message(const struct message *request)
{
	size_t start = message(&bytes, RTM_NEWLINK, 0, request->seq);
	uint32_t len = 4;

	memcpy(bytes.at + start, &len, sizeof(len));
	reply();
}

static void other_device(const struct message *request)
{
	add_link(request->seq, 0, 6, 1, 1);
	reply();
}

static void empty_error(const struct message *request)
{
	message_end(&bytes, message(&bytes, NLMSG_ERROR, 0, request->seq));
	reply();
}

static void beyond_bounds(const struct message *request)
{
	acknowledge(request->seq, peer.requests == 1 ? 5 : INT32_MIN);
}

static void fails_in_the_end(const struct message *request)
{
	add_link(request->seq, NLM_F_MULTI, 5, 2, 1);
	error_message(&bytes, request->seq, -EIO);
	reply();
}

static void nothing(const struct message *request)
{
	(void)request;
}

TEST(bad_answers_are_errors)
{
	is_refused(no_device, -ENODEV);
	EQUAL(peer.bad_sockets, 0);
	is_refused(short_link, -EBADMSG);
	is_refused(cut_link, -EBADMSG);
	EQUAL(peer.bad_sockets, 1);
	is_refused(cut_list, -EBADMSG);
	is_refused(cut_vf, -EBADMSG);
	is_refused(nobodys_vf, -EBADMSG);
	is_refused(tiny_message, -EBADMSG);
	is_refused(other_device, -ENODEV);
	is_refused(empty_error, -EBADMSG);
	is_refused(fails_in_the_end, -EIO);
	is_refused(nothing, -ETIMEDOUT);
	EQUAL(peer.bad_sockets, 1);
	is_refused(beyond_bounds, -EBADMSG);
}

static void noise_first(const struct message *request)
{
	add_link(request->seq, 0, 5, 1, 1);
	reply_as(true);
	acknowledge(request->seq - 1, -EIO);
	add_link(request->seq + 1, 0, 5, 3, 1);
	message_end(&bytes, message(&bytes, NLMSG_NOOP, 0, request->seq));
	reply();
	add_link(request->seq, 0, 5, 2, 1);
	reply();
}

TEST(only_the_answer_to_the_question_is_taken)
{
	struct vf_info *infos;
	size_t count;

	set_up(noise_first);
	EQUAL(ask(&infos, &count), 0);
	EQUAL(count, 2);
	free(infos);
	tear_down();
}

static uint32_t late_seq;

static void late(const struct message *request)
{
	if (peer.requests == 1) {
		late_seq = request->seq;
		return;
	}
	add_link(late_seq, 0, 5, 1, 1);
	reply();
	add_link(request->seq, 0, 5, 2, 1);
	reply();
}

TEST(an_answer_that_comes_late_is_of_no_use)
{
	struct vf_info *infos;
	size_t count;

	set_up(late);
	EQUAL(ask(&infos, &count), -ETIMEDOUT);
	EQUAL(ask(&infos, &count), 0);
	EQUAL(count, 2);
	free(infos);
	tear_down();
}

static void twice(const struct message *request)
{
	add_link(request->seq, NLM_F_MULTI, 5, 1, 1);
	add_link(request->seq, NLM_F_MULTI, 5, 2, 9);
	reply();
	add_done(request->seq, 0);
	reply();
}

TEST(a_device_that_comes_twice_in_a_dump)
{
	struct vf_info *infos;
	size_t count;

	set_up(twice);
	known.dumped = true;
	EQUAL(ask(&infos, &count), 0);
	EQUAL(count, 2);
	EQUAL(infos[0].port, 9);
	free(infos);
	tear_down();
}

static void huge(const struct message *request)
{
	static unsigned char padding[60000];
	size_t start = message(&bytes, RTM_NEWLINK, 0, request->seq), list;
	uint32_t i;

	link_head(&bytes, 5, 250);
	list = nest(&bytes, IFLA_VFINFO_LIST | NLA_F_NESTED);
	for (i = 0; i < 250; i++)
		known_vf(&bytes, i, i, i, 0);
	nest_end(&bytes, list);
	attribute(&bytes, 99, padding, sizeof(padding));
	attribute(&bytes, 99, padding, sizeof(padding));
	message_end(&bytes, start);
	reply();
}

TEST(a_reply_of_any_size_is_received_whole)
{
	struct vf_info *infos;
	size_t count;

	set_up(huge);
	EQUAL(ask(&infos, &count), 0);
	EQUAL(count, 250);
	EQUAL(infos[249].vf, 249);
	free(infos);
	tear_down();
}

static ssize_t lossy(void *context, int socket, void *data, size_t size,
		     size_t *need)
{
	ssize_t n = receive(context, socket, data, size, need);

	return peer.requests == 1 ? -ENOBUFS : n;
}

TEST(an_answer_that_was_lost_is_asked_for_again)
{
	struct io full = io;
	struct vf_info *infos;
	size_t count;

	set_up(two_vfs);
	full.receive = lossy;
	host.io = &full;
	EQUAL(ask(&infos, &count), 0);
	EQUAL(count, 2);
	EQUAL(peer.bad_sockets, 1);
	free(infos);
	host.io = &io;
	tear_down();
}

static ssize_t too_big(void *context, int socket, void *data, size_t size,
		       size_t *need)
{
	(void)context;
	(void)socket;
	(void)data;
	*need = 2 * size;
	return -EMSGSIZE;
}

/* That is not the kernel's EMSGSIZE, which a dump would be the answer to. */
TEST(an_answer_that_never_fits_is_none)
{
	struct io growing = io;
	struct vf_info *infos;
	size_t count;

	set_up(nothing);
	growing.receive = too_big;
	host.io = &growing;
	EQUAL(ask(&infos, &count), -EBADMSG);
	EQUAL(peer.dumps, 0);
	CHECK(peer.requests > 1);
	host.io = &io;
	peer.has_no_socket = EMFILE;
	EQUAL(ask(&infos, &count), -EMFILE);
	tear_down();
}

/* ---- by name ----------------------------------------------------------- */

static void by_altname(const struct message *request)
{
	const size_t head = NLMSG_ALIGN(sizeof(struct ifinfomsg));
	const unsigned char *p = request->data + head;
	size_t left = request->len - head, start;
	struct attr attr;

	EQUAL(request->type, RTM_GETLINK);
	EQUAL(request->flags & NLM_F_DUMP, 0);
	/* Nothing of VFs is asked for. */
	EQUAL(next_attr(&p, &left, &attr), 1);
	EQUAL(attr.type, ALT_IFNAME);
	EQUAL(next_attr(&p, &left, &attr), 0);
	if (attr.len != 7 || memcmp(attr.data, "ibp1s0", 7)) {
		acknowledge(request->seq, -ENODEV);
		return;
	}
	start = message(&bytes, RTM_NEWLINK, 0, request->seq);
	link_head(&bytes, 5, 0);
	attribute(&bytes, IFLA_IFNAME, "ib0", 4);
	message_end(&bytes, start);
	reply();
}

TEST(a_device_by_its_altname)
{
	char name[IBH_NAME], altname[ALT_NAME + 1] = "";
	int ifindex;

	set_up(by_altname);
	EQUAL(netlink_named(&host, "ibp1s0", &ifindex, name), 0);
	EQUAL(ifindex, 5);
	CHECK(!strcmp(name, "ib0"));
	EQUAL(netlink_named(&host, "ibp1s1", &ifindex, name), -ENODEV);
	/* What is too long for a name is not asked for. */
	memset(altname, 'x', ALT_NAME - 1);
	EQUAL(netlink_named(&host, altname, &ifindex, name), -ENODEV);
	EQUAL(peer.requests, 3);
	altname[ALT_NAME - 1] = 'x';
	EQUAL(netlink_named(&host, altname, &ifindex, name), -ENODEV);
	EQUAL(peer.requests, 3);
	EQUAL(peer.sockets, 0);
	peer.answer = short_link;
	EQUAL(netlink_named(&host, "ibp1s0", &ifindex, name), -EBADMSG);
	peer.answer = nothing;
	EQUAL(netlink_named(&host, "ibp1s0", &ifindex, name), -ETIMEDOUT);
	peer.refuses = EPERM;
	EQUAL(netlink_named(&host, "ibp1s0", &ifindex, name), -EPERM);
	peer.refuses = 0;
	EQUAL(peer.sockets, 0);
	peer.has_no_socket = EMFILE;
	EQUAL(netlink_named(&host, "ibp1s0", &ifindex, name), -EMFILE);
	peer.has_no_socket = 0;
	tear_down();
}

static void no_end(const struct message *request)
{
	(void)request;
}

static ssize_t for_ever(void *context, int socket, void *data, size_t size,
			size_t *need)
{
	(void)context;
	(void)socket;
	(void)need;
	bytes.len = 0;
	add_link(host.seq, NLM_F_MULTI, 4, 1, 1);
	CHECK(bytes.len <= size);
	memcpy(data, bytes.at, bytes.len);
	return (ssize_t)bytes.len;
}

TEST(an_answer_without_an_end_is_none)
{
	struct io endless = io;
	struct vf_info *infos;
	size_t count;

	set_up(no_end);
	endless.receive = for_ever;
	host.io = &endless;
	EQUAL(ask(&infos, &count), -EBADMSG);
	host.io = &io;
	bytes.len = 0;
	tear_down();
}
