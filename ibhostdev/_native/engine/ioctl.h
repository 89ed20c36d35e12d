/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ioctls on a network device, by name. They see the network namespace of
 * the calling thread, unlike /sys/class/net, which shows the one that it
 * was mounted in. All return 0 or a value, or a negative errno.
 */
#ifndef IBHOSTDEV_ENGINE_IOCTL_H
#define IBHOSTDEV_ENGINE_IOCTL_H

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <net/if.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>

struct if_driver {
	char driver[33];
	char bus_info[33];
};

/* Any socket of the namespace will do. */
static inline int if_socket(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

static inline int if_ask(int fd, unsigned long request, const char *name,
			 struct ifreq *ifr)
{
	size_t len = strlen(name);

	if (len == 0 || len >= IFNAMSIZ)
		return -EINVAL;
	memcpy(ifr->ifr_name, name, len + 1);
	return ioctl(fd, request, ifr) < 0 ? -errno : 0;
}

/* … on a socket of its own. */
static inline int if_ask_once(unsigned long request, const char *name,
			      struct ifreq *ifr)
{
	int fd = if_socket(), err;

	if (fd < 0)
		return fd;
	err = if_ask(fd, request, name, ifr);
	close(fd);
	return err;
}

static inline int if_driver_on(int fd, const char *name, struct if_driver *out)
{
	struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };
	struct ifreq ifr = { 0 };
	int err;

	ifr.ifr_data = (void *)&info;
	err = if_ask(fd, SIOCETHTOOL, name, &ifr);
	if (err)
		return err;
	memset(out, 0, sizeof(*out));
	memcpy(out->driver, info.driver, sizeof(info.driver));
	memcpy(out->bus_info, info.bus_info, sizeof(info.bus_info));
	return 0;
}

static inline int if_driver(const char *name, struct if_driver *out)
{
	int fd = if_socket(), err;

	if (fd < 0)
		return fd;
	err = if_driver_on(fd, name, out);
	close(fd);
	return err;
}

static inline int if_index(const char *name)
{
	struct ifreq ifr = { 0 };
	int err = if_ask_once(SIOCGIFINDEX, name, &ifr);

	return err ? err : ifr.ifr_ifindex;
}

static inline int if_flags(const char *name)
{
	struct ifreq ifr = { 0 };
	int err = if_ask_once(SIOCGIFFLAGS, name, &ifr);

	return err ? err : (unsigned short)ifr.ifr_flags;
}

static inline int if_set_flags(const char *name, int flags)
{
	struct ifreq ifr = { 0 };

	ifr.ifr_flags = (short)flags;
	return if_ask_once(SIOCSIFFLAGS, name, &ifr);
}

/* Index and driver in one go. */
static inline int if_identify(const char *name, int *ifindex,
			      struct if_driver *driver)
{
	struct ifreq ifr = { 0 };
	int fd = if_socket(), err;

	if (fd < 0)
		return fd;
	err = if_ask(fd, SIOCGIFINDEX, name, &ifr);
	if (!err) {
		*ifindex = ifr.ifr_ifindex;
		err = if_driver_on(fd, name, driver);
	}
	close(fd);
	return err;
}

#endif
