// SPDX-License-Identifier: Apache-2.0
/* Waiting for a P_Key of mlx4's: what each place of the table is asked for,
 * which costs firmware a command, with a clock that only sleeping moves. */
#include "batch.h"
#include "mlx4.h"

#include "check.h"

#define PLACES 127u
#define PKEY 0x8005
#define PATIENCE_MS 10000u

static uint16_t table[PLACES];
static unsigned int asked[PLACES], rounds, arrives;
static uint64_t now, due; /* when PKEY is at `arrives` */
static char put[IBH_PKEY];
static bool stop;

/* ---- what mlx4_sysfs.c and others have --------------------------------- */

void iov_of_port(struct iov *iov, const struct side *side)
{
	iov->side = side;
	iov->port.len = 0;
	path_add(&iov->port, "port");
	path_is_folder(&iov->port);
}

void iov_of_vf(struct iov *iov, unsigned int index)
{
	iov->index = index;
	iov->vf.len = 0;
	path_add(&iov->vf, "vf");
	path_is_folder(&iov->vf);
}

ssize_t iov_read(const struct iov *iov, const char *path, char *value,
		 size_t size)
{
	unsigned int place;

	(void)iov;
	EQUAL(sscanf(path, "port/pkeys/%u", &place), 1);
	if (place >= PLACES)
		return -ENOENT;
	asked[place]++;
	rounds += !place;
	if (now >= due)
		table[arrives] = PKEY;
	return snprintf(value, size, "0x%04x", table[place]);
}

bool iov_put(const struct iov *iov, struct change *change, const char *path,
	     const char *value)
{
	(void)iov;
	(void)change;
	EQUAL(strcmp(path, "vf/pkey_idx/0"), 0);
	snprintf(put, sizeof(put), "%s", value);
	return true;
}

bool stopped(struct run *run)
{
	(void)run;
	return stop;
}

static uint64_t tell_now(void *context)
{
	(void)context;
	return now;
}

static void pass(void *context, unsigned int ms)
{
	(void)context;
	now += ms;
}

/* ---- waiting ----------------------------------------------------------- */

/* Whether it was had in the end. */
static bool wait_for(unsigned int place, uint64_t when)
{
	static const struct io io = { .now = tell_now, .sleep = pass };
	struct ibh_host host = { .io = &io, .patience_ms = PATIENCE_MS };
	struct side side = { .host = &host };
	struct change change = {
		.address = "0000:3b:00.1",
		.put = { .pkey = PKEY, .have = IBH_HAVE_PKEY },
	};
	struct change *changes[] = { &change };
	struct ibh_how how = { 0 };
	struct run run = { .how = &how };
	bool had;

	table[0] = 0xffff;
	table[1] = 0x7fff;
	table[2] = 0x8001;
	arrives = place;
	due = when;
	mlx4_give_pkeys(&side, changes, 1, &run);
	had = !change.refusal;
	ibh_error_free(change.refusal);
	return had;
}

TEST(one_that_does_not_come_costs_little)
{
	unsigned int i;

	CHECK(!wait_for(3, UINT64_MAX));
	CHECK(now > PATIENCE_MS);
	CHECK(rounds > 20);
	/* Three and a block of empty ones each time; the rest twice. */
	for (i = 0; i < PLACES; i++)
		EQUAL(asked[i], i < 3 + 32 ? rounds : 2);
}

TEST(one_that_is_there_is_asked_for_once)
{
	CHECK(wait_for(PLACES - 1, 0));
	EQUAL(strcmp(put, "126"), 0);
	EQUAL(rounds, 1);
	EQUAL(now, 0);
}

TEST(one_that_comes_behind_the_others_is_had_soon)
{
	CHECK(wait_for(3, 1000));
	EQUAL(strcmp(put, "3"), 0);
	CHECK(now <= 2000);
	EQUAL(asked[PLACES - 1], 1);
}

/* As by another subnet manager. */
TEST(one_that_comes_anywhere_is_had_in_the_end)
{
	CHECK(wait_for(100, 1000));
	EQUAL(strcmp(put, "100"), 0);
	EQUAL(asked[PLACES - 1], 1);
}

TEST(who_is_told_to_stop_does)
{
	stop = true;
	CHECK(!wait_for(3, 1));
	EQUAL(rounds, 1);
	EQUAL(now, 0);
}
