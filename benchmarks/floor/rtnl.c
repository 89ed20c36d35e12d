// SPDX-License-Identifier: Apache-2.0
/*
 * How long another process's link operation waits: sets nothing on the
 * loopback device, over and over, until standard input ends.  Each needs the
 * kernel's RTNL lock.  The answer is one line: operations, and the median and
 * the longest in ns.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "rtnetlink.h"

#define MOST (1 << 20)

static int by_size(const void *a, const void *b)
{
	long long x = *(const long long *)a, y = *(const long long *)b;

	return (x > y) - (x < y);
}

int main(void)
{
	static long long took[MOST];
	unsigned char buf[64] __attribute__((aligned(NLMSG_ALIGNTO)));
	struct pollfd in = { .fd = 0, .events = POLLIN };
	int fd = ibh_nl_open(NETLINK_ROUTE, 70), answer, err;
	struct timespec from, to;
	uint32_t seq = 0;
	size_t n = 0;

	puts("ready");
	fflush(stdout);
	while (n < MOST && !poll(&in, 1, 1)) {
		ssize_t len = ibh_build_setlink(buf, sizeof(buf), ++seq, 1,
						NULL, 0);

		clock_gettime(CLOCK_MONOTONIC, &from);
		err = ibh_nl_send(fd, 0, buf, (size_t)len);
		if (!err)
			err = ibh_nl_acks(fd, 0, seq, 1, &answer);
		clock_gettime(CLOCK_MONOTONIC, &to);
		if (err || answer)
			return 1;
		took[n++] = (to.tv_sec - from.tv_sec) * 1000000000LL +
			    to.tv_nsec - from.tv_nsec;
	}
	qsort(took, n, sizeof(*took), by_size);
	printf("%zu %lld %lld\n", n, n ? took[n / 2] : 0,
	       n ? took[n - 1] : 0);
	return 0;
}
