/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sysfs attributes, links and directories, below a directory descriptor.
 *
 * A sysfs store function parses each write() on its own, so a value goes
 * out whole, in one call, at offset 0 (Documentation/filesystems/sysfs.rst).
 * All functions return a length or 0, or a negative errno.
 */
#ifndef FLOOR_SYSFS_H
#define FLOOR_SYSFS_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* One read(): a value is at most a page and a show function that asks
 * firmware is not to be called twice. EMSGSIZE if it fills the buffer. */
static inline ssize_t ibh_attr_read(int dir, const char *path, char *buf,
				    size_t size)
{
	ssize_t n;
	int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	do
		n = read(fd, buf, size);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		n = -errno;
	else if ((size_t)n == size)
		n = -EMSGSIZE;
	close(fd);
	return n;
}

/* EINTR may be tried again: every value that is written here is a state,
 * not a step, so writing it twice is writing it once. */
static inline int ibh_attr_write(int dir, const char *path, const char *buf,
				 size_t len)
{
	ssize_t n;
	int err = 0;
	int fd = openat(dir, path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	do
		n = write(fd, buf, len);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		err = -errno;
	else if ((size_t)n != len)
		err = -EIO;
	close(fd);
	return err;
}

static inline ssize_t ibh_link_read(int dir, const char *path, char *buf,
				    size_t size)
{
	ssize_t n = readlinkat(dir, path, buf, size);

	return n < 0 ? -errno : n;
}

/* What getdents64() gives (linux/fs/readdir.c). */
struct ibh_entry {
	uint64_t ino;
	int64_t off;
	unsigned short size;
	unsigned char type;
	char name[];
};

/* The next entries of an open directory, whole ones; 0 after the last. The
 * system call itself: opendir() costs a stat, an fcntl and an allocation. */
static inline ssize_t ibh_entries(int fd, char *buf, size_t size)
{
	ssize_t n = syscall(SYS_getdents64, fd, buf, size);

	return n < 0 ? -errno : n;
}

static inline int ibh_dir_open(int dir, const char *path)
{
	int fd = openat(dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

#endif
