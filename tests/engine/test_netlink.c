// SPDX-License-Identifier: Apache-2.0
/* Manners towards a peer that misbehaves. The peer is this test, in place of
 * the system and its sockets. */
#include "check.h"
#include "messages.h"

/* ---- a peer ------------------------------------------------------------ */

#define MOST 512 /* datagrams that wait to be received */

static struct {
	/* answers a request: by reply() */
	void (*answer)(const struct message *request);
	unsigned int requests, dumps;
	size_t longest; /* send, in bytes */
	struct {
		unsigned char *at;
		size_t len;
		bool foreign;
	} queue[MOST];
	unsigned int first, last;
	int refuses; /* errno of send */
	int sockets, bad_sockets;
} peer;

static struct bytes bytes; /* an answer that is being made */

static void reply_as(bool foreign)
{
	CHECK(peer.last - peer.first < MOST);
	peer.queue[peer.last % MOST].at = malloc(bytes.len + 1);
	CHECK(peer.queue[peer.last % MOST].at);
	memcpy(peer.queue[peer.last % MOST].at, bytes.at, bytes.len);
	peer.queue[peer.last % MOST].len = bytes.len;
	peer.queue[peer.last++ % MOST].foreign = foreign;
	bytes.len = 0;
}

static void reply(void)
{
	reply_as(false);
}

static void acknowledge(uint32_t seq, int error)
{
	error_message(&bytes, seq, error);
	reply();
}

static int send_to_peer(void *context, int socket, const void *data,
			size_t len)
{
	const unsigned char *p = data;
	struct message request;
	size_t left = len;

	(void)context;
	EQUAL(socket, 3);
	if (peer.refuses)
		return -peer.refuses;
	if (len > peer.longest)
		peer.longest = len;
	while (next_message(&p, &left, &request) > 0) {
		peer.requests++;
		peer.dumps += (request.flags & NLM_F_DUMP) == NLM_F_DUMP;
		peer.answer(&request);
	}
	EQUAL(left, 0);
	return 0;
}

/* One that fits is taken; a longer one is lost, as in the kernel. */
static ssize_t receive(void *context, int socket, void *data, size_t size,
		       size_t *need)
{
	ssize_t result;
	size_t len;

	(void)context;
	EQUAL(socket, 3);
	if (peer.first == peer.last)
		return -ETIMEDOUT;
	len = peer.queue[peer.first % MOST].len;
	memcpy(data, peer.queue[peer.first % MOST].at,
	       len < size ? len : size);
	free(peer.queue[peer.first % MOST].at);
	result = (ssize_t)len;
	if (peer.queue[peer.first++ % MOST].foreign) {
		result = 0;
	} else if (len > size) {
		*need = len;
		result = -EMSGSIZE;
	}
	return result;
}

static int receive_many(void *context, int socket, void *data, size_t size,
			unsigned int count, size_t *lengths)
{
	unsigned int i;
	ssize_t n;

	for (i = 0; i < count; i++) {
		n = receive(context, socket, (char *)data + i * size, size,
			    &lengths[i]);
		if (n == -ETIMEDOUT)
			break;
		if (n >= 0)
			lengths[i] = (size_t)n;
	}
	return i ? (int)i : -ETIMEDOUT;
}

static const struct io io = {
	.send = send_to_peer,
	.receive = receive,
	.receive_many = receive_many,
};

static struct ibh_host host = { .io = &io };
static struct habit known;

/* In place of host.c. */
void host_habit(struct ibh_host *of, int ifindex, struct habit *habit)
{
	(void)of;
	*habit = known;
	habit->ifindex = ifindex;
}

void host_learn(struct ibh_host *of, const struct habit *habit)
{
	(void)of;
	known = *habit;
}

int host_socket(struct ibh_host *of)
{
	(void)of;
	peer.sockets++;
	return 3;
}

void host_socket_back(struct ibh_host *of, int socket, bool good)
{
	(void)of;
	EQUAL(socket, 3);
	peer.sockets--;
	peer.bad_sockets += !good;
}

static void set_up(void (*answer)(const struct message *request))
{
	memset(&peer, 0, sizeof(peer));
	memset(&known, 0, sizeof(known));
	peer.answer = answer;
}

static void tear_down(void)
{
	size_t need;

	EQUAL(peer.sockets, 0);
	while (receive(NULL, 3, bytes.at, sizeof(bytes.at), &need) !=
	       -ETIMEDOUT)
		;
}

/* ---- RTM_SETLINK ------------------------------------------------------- */

/* `count` messages of `each` attributes. */
static int *set_all(size_t count, size_t each,
		    bool (*stop)(void *context), void *context)
{
	struct vf_set *sets = calloc(count * each, sizeof(*sets));
	size_t *ends = calloc(count, sizeof(*ends));
	int *answers = calloc(count, sizeof(*answers));
	size_t i;

	CHECK(sets && ends && answers);
	for (i = 0; i < count * each; i++)
		sets[i] = (struct vf_set){ (uint32_t)i, VF_NODE_GUID, i + 1 };
	for (i = 0; i < count; i++)
		ends[i] = (i + 1) * each;
	netlink_set(&host, 5, sets, ends, count, answers, stop, context);
	free(sets);
	free(ends);
	return answers;
}

static void check_all(int *answers, size_t count, int wanted)
{
	size_t i;

	for (i = 0; i < count; i++)
		EQUAL(answers[i], wanted);
	free(answers);
}

static void agree(const struct message *request)
{
	acknowledge(request->seq, 0);
}

static uint32_t held[5];

static void backwards(const struct message *request)
{
	int i;

	held[peer.requests - 1] = request->seq;
	for (i = 4; i >= 0 && peer.requests == 5; i--)
		acknowledge(held[i], i == 2 ? -EIO : 0);
}

TEST(each_message_has_its_own_answer_whatever_the_order)
{
	int *answers;

	set_up(backwards);
	answers = set_all(5, 1, NULL, NULL);
	EQUAL(answers[2], -EIO);
	answers[2] = 0;
	check_all(answers, 5, 0);
	EQUAL(peer.bad_sockets, 0);
	tear_down();
}

TEST(more_messages_than_fit_into_one_send)
{
	set_up(agree);
	check_all(set_all(8, 1000, NULL, NULL), 8, 0);
	EQUAL(peer.requests, 8);
	CHECK(peer.longest <= 96 * 1024);
	check_all(set_all(500, 1, NULL, NULL), 500, 0);
	EQUAL(peer.requests, 508);
	tear_down();
}

static void all_but_the_second(const struct message *request)
{
	if (peer.requests != 2)
		acknowledge(request->seq, 0);
}

TEST(an_answer_that_does_not_come_is_a_time_out)
{
	int *answers;

	set_up(all_but_the_second);
	answers = set_all(3, 1, NULL, NULL);
	EQUAL(answers[1], -ETIMEDOUT);
	answers[1] = 0;
	check_all(answers, 3, 0);
	EQUAL(peer.bad_sockets, 1);
	tear_down();
}

static void with_noise(const struct message *request)
{
	acknowledge(request->seq + 100, -EIO);
	acknowledge(request->seq - 1, -EIO);
	add(&bytes, "\0\0\0\0\0\0\0", 8);
	reply();
	message_end(&bytes, message(&bytes, NLMSG_NOOP, 0, request->seq));
	reply();
	error_message(&bytes, request->seq, -EIO);
	reply_as(true);
	acknowledge(request->seq, 0);
	acknowledge(request->seq, -EIO); /* said once is said */
}

TEST(answers_to_other_questions_are_not_ours)
{
	set_up(with_noise);
	check_all(set_all(1, 1, NULL, NULL), 1, 0);
	check_all(set_all(20, 1, NULL, NULL), 20, 0);
	tear_down();
}

static void beyond_bounds(const struct message *request)
{
	acknowledge(request->seq, peer.requests == 1 ? 5 : INT32_MIN);
}

TEST(an_error_that_is_none_is_no_success)
{
	set_up(beyond_bounds);
	check_all(set_all(2, 1, NULL, NULL), 2, -EBADMSG);
	tear_down();
}

TEST(what_cannot_be_sent_is_answered)
{
	set_up(agree);
	peer.refuses = ECONNREFUSED;
	check_all(set_all(70, 1, NULL, NULL), 70, -ECONNREFUSED);
	peer.refuses = 0;
	check_all(set_all(2, SET_MAX + 1, NULL, NULL), 2, -EINVAL);
	EQUAL(peer.requests, 0);
	tear_down();
}

static bool second_time(void *context)
{
	return ++*(int *)context == 2;
}

TEST(between_windows_it_is_asked_whether_to_stop)
{
	int *answers, asked = 0;
	size_t i;

	set_up(agree);
	answers = set_all(500, 1, second_time, &asked);
	EQUAL(asked, 2);
	for (i = 0; i < 500; i++)
		EQUAL(answers[i], i < peer.requests ? 0 : -ECANCELED);
	CHECK(peer.requests > 0 && peer.requests < 500);
	free(answers);
	tear_down();
}

/* ---- RTM_GETLINK ------------------------------------------------------- */

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
	err = netlink_ask(&host, 5, infos, count);
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
	is_refused(tiny_message, -EBADMSG);
	is_refused(other_device, -ENODEV);
	is_refused(empty_error, -EBADMSG);
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

static void two_vfs(const struct message *request)
{
	add_link(request->seq, 0, 5, 2, 1);
	reply();
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
