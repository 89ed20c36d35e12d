/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ioctls on a network device, by name. They see the network namespace of
 * the calling thread, unlike /sys/class/net, which shows the one that it
 * was mounted in. All return 0 or a value, or a negative errno.
 */
#ifndef IBHOSTDEV_IOCTL_H
#define IBHOSTDEV_IOCTL_H

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <net/if.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>

struct ibh_driver {
	char driver[33];
	char bus_info[33];
};

static inline int ibh_if_ioctl(unsigned long request, const char *name,
			       struct ifreq *ifr)
{
	size_t len = strlen(name);
	int fd, err = 0;

	if (len == 0 || len >= IFNAMSIZ)
		return -EINVAL;
	memcpy(ifr->ifr_name, name, len + 1);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (ioctl(fd, request, ifr) < 0)
		err = -errno;
	close(fd);
	return err;
}

static inline int ibh_driver(const char *name, struct ibh_driver *out)
{
	struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };
	struct ifreq ifr = { 0 };
	int err;

	ifr.ifr_data = (void *)&info;
	err = ibh_if_ioctl(SIOCETHTOOL, name, &ifr);
	if (err)
		return err;
	memset(out, 0, sizeof(*out));
	memcpy(out->driver, info.driver, sizeof(info.driver));
	memcpy(out->bus_info, info.bus_info, sizeof(info.bus_info));
	return 0;
}

static inline int ibh_ifindex(const char *name)
{
	struct ifreq ifr = { 0 };
	int err = ibh_if_ioctl(SIOCGIFINDEX, name, &ifr);

	return err ? err : ifr.ifr_ifindex;
}

static inline int ibh_flags(const char *name)
{
	struct ifreq ifr = { 0 };
	int err = ibh_if_ioctl(SIOCGIFFLAGS, name, &ifr);

	return err ? err : (unsigned short)ifr.ifr_flags;
}

static inline int ibh_set_flags(const char *name, int flags)
{
	struct ifreq ifr = { 0 };

	ifr.ifr_flags = (short)flags;
	return ibh_if_ioctl(SIOCSIFFLAGS, name, &ifr);
}

#endif
