// SPDX-License-Identifier: Apache-2.0
/*
 * A loop of string handling, to tell how much slower a machine is than
 * another: the least of some rounds, in ns of the processor's own time.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <ibhostdev/guid.h>

#define ROUNDS 15
#define GUIDS 20000

static long long one_round(void)
{
	char text[IBH_GUID_TEXT + 1], line[64];
	struct timespec from, to;
	volatile uint64_t sum = 0;
	uint64_t guid;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
	for (uint64_t i = 0; i < GUIDS; i++) {
		ibh_format_guid(i * 0x9e3779b97f4a7c15ULL, text);
		snprintf(line, sizeof(line), "%d %s", (int)i, text);
		if (!ibh_parse_octets(text, IBH_GUID_TEXT, 8, &guid))
			sum += guid + strtoul(line, NULL, 10);
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
	return (to.tv_sec - from.tv_sec) * 1000000000LL + to.tv_nsec -
	       from.tv_nsec;
}

int main(void)
{
	long long least = 0;

	for (int i = 0; i < ROUNDS; i++) {
		long long took = one_round();

		if (!least || took < least)
			least = took;
	}
	printf("%lld\n", least);
	return 0;
}
