// SPDX-License-Identifier: Apache-2.0
/* RTM_SETLINK, and manners towards a peer that misbehaves. */
#include "peer.h"

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
	check_all(set_all(8, SET_MAX, NULL, NULL), 8, 0);
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
	if (peer.requests == 1)
		acknowledge(request->seq + 1, -EIO);
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
	peer.requests = 1; /* the next is not the first */
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
	peer.has_no_socket = EMFILE;
	check_all(set_all(70, 1, NULL, NULL), 70, -EMFILE);
	EQUAL(peer.requests, 0);
	tear_down();
}

static int endless(void *context, int socket, void *data, size_t size,
		   unsigned int count, size_t *lengths)
{
	(void)context;
	(void)socket;
	(void)count;
	bytes.len = 0;
	error_message(&bytes, 0, 0);
	CHECK(bytes.len <= size);
	memcpy(data, bytes.at, bytes.len);
	lengths[0] = bytes.len;
	bytes.len = 0;
	return 1;
}

static void nothing(const struct message *request)
{
	(void)request;
}

TEST(answers_without_an_end_are_none)
{
	struct io talker = io;

	set_up(nothing);
	talker.receive_many = endless;
	host.io = &talker;
	atomic_store(&host.seq, 1000);
	check_all(set_all(2, 1, NULL, NULL), 2, -EBADMSG);
	EQUAL(peer.bad_sockets, 1);
	host.io = &io;
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
