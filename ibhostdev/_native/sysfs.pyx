# SPDX-License-Identifier: Apache-2.0
"""Batches of sysfs operations below one root directory.

Paths are relative to the root and used as they are: who builds them answers
for what is in them. Each batch runs without the GIL and without a lock (the
one shared thing, the root's descriptor, never changes), so threads may share
a Tree.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_SetFromErrnoWithFilename
from libc.errno cimport ENOMEM
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy
from posix.fcntl cimport open
from posix.unistd cimport close

import os

cdef extern from "Python.h":
    bytes PyUnicode_EncodeFSDefault(object text)
    str PyUnicode_DecodeFSDefault(const char *text)
    str PyUnicode_DecodeFSDefaultAndSize(const char *text, Py_ssize_t size)

cdef extern from "<fcntl.h>" nogil:
    int O_PATH, O_DIRECTORY, O_CLOEXEC

cdef extern from "ibhostdev/sysfs.h" nogil:
    ssize_t ibh_attr_read(int dir, const char *path, char *buf, size_t size)
    int ibh_attr_write(int dir, const char *path, const char *buf, size_t len)
    ssize_t ibh_link_read(int dir, const char *path, char *buf, size_t size)
    ssize_t ibh_entries(int fd, char *buf, size_t size)
    int ibh_dir_open(int dir, const char *path)

    struct ibh_entry:
        unsigned short size
        char name[]

# A page and one byte: what fills it is no sysfs attribute.
cdef enum:
    VALUE_SIZE = 4097
    LINK_SIZE = 4096
    ENTRIES_SIZE = 32768
    NEWLINE = 10


cdef struct Item:
    const char *path
    const char *data
    ssize_t size
    ssize_t result


cdef class _Batch:
    """C view of a sequence of paths (and values); keeps its owners alive."""

    cdef Item *items
    cdef Py_ssize_t count
    cdef list owners

    def __cinit__(self, paths, values=None):
        cdef Py_ssize_t i
        cdef bytes encoded
        self.owners = [PyUnicode_EncodeFSDefault(path) for path in paths]
        self.count = len(self.owners)
        self.items = <Item *>malloc((self.count or 1) * sizeof(Item))
        if self.items is NULL:
            raise MemoryError
        for i in range(self.count):
            encoded = self.owners[i]
            if b"\0" in encoded:
                raise ValueError(f"NUL in path {paths[i]!r}")
            self.items[i].path = encoded
            self.items[i].result = -1
            self.items[i].data = NULL
        if values is not None:
            for i in range(self.count):
                encoded = values[i]
                self.items[i].data = encoded
                self.items[i].size = len(encoded)
            self.owners.extend(values)

    def __dealloc__(self):
        free(self.items)


cdef list _read(int root, paths, bint link):
    cdef _Batch batch = _Batch(paths)
    cdef Py_ssize_t i
    cdef size_t size = LINK_SIZE if link else VALUE_SIZE
    cdef char *value = <char *>malloc(size)
    cdef Item *item
    cdef list results = []
    if value is NULL:
        raise MemoryError
    # The values are a few bytes each: copied out one by one, they need no
    # page-sized buffer each.
    cdef char *kept = NULL
    try:
        with nogil:
            for i in range(batch.count):
                item = &batch.items[i]
                if link:
                    item.result = ibh_link_read(root, item.path, value, size)
                else:
                    item.result = ibh_attr_read(root, item.path, value, size)
                item.data = NULL
                if item.result >= 0:
                    kept = <char *>malloc(item.result + 1)
                    if kept is NULL:
                        item.result = -ENOMEM
                        continue
                    memcpy(kept, value, item.result)
                    item.data = kept
        for i in range(batch.count):
            item = &batch.items[i]
            if item.result < 0:
                results.append(<int>-item.result)
            elif link:
                results.append(
                    PyUnicode_DecodeFSDefaultAndSize(item.data, item.result)
                )
            else:
                while item.result and item.data[item.result - 1] == NEWLINE:
                    item.result -= 1
                results.append(
                    PyBytes_FromStringAndSize(item.data, item.result)
                )
    finally:
        for i in range(batch.count):
            if batch.items[i].data is not NULL:
                free(<void *>batch.items[i].data)
        free(value)
    return results


cdef object _names(int root, const char *path, char *buf):
    """Names in a directory, sorted, or an errno."""
    cdef list names = []
    cdef ssize_t got, at
    cdef ibh_entry *entry
    cdef int fd
    with nogil:
        fd = ibh_dir_open(root, path)
    if fd < 0:
        return -fd
    try:
        while True:
            with nogil:
                got = ibh_entries(fd, buf, ENTRIES_SIZE)
            if got <= 0:
                break
            at = 0
            while at < got:
                entry = <ibh_entry *>(buf + at)
                names.append(PyUnicode_DecodeFSDefault(entry.name))
                at += entry.size
    finally:
        close(fd)
    if got < 0:
        return <int>-got
    names.remove(".")
    names.remove("..")
    names.sort()
    return names


cdef class Tree:
    """A directory shaped like /sys, the root of all paths given to it."""

    cdef int root
    cdef bint opened  # descriptor 0 is one, too
    cdef readonly str path

    def __cinit__(self, path="/sys", *args, **kwargs):
        cdef bytes encoded = os.fsencode(path)
        self.path = os.fsdecode(encoded)
        self.root = open(encoded, O_PATH | O_DIRECTORY | O_CLOEXEC)
        if self.root < 0:
            PyErr_SetFromErrnoWithFilename(OSError, encoded)
        self.opened = True

    def __dealloc__(self):
        if self.opened:
            close(self.root)

    def read(self, paths):
        """Value of each attribute, without its newline, or its errno."""
        return _read(self.root, paths, False)

    def readlink(self, paths):
        """Text of each symbolic link, or its errno."""
        return _read(self.root, paths, True)

    def write(self, items, stop=False):
        """Write each (path, value) in order, one write() call a value.

        Gives an errno for each, 0 if it was taken. With ``stop`` the first
        failure ends the batch; what was not tried has -1.
        """
        cdef _Batch batch = _Batch(
            [path for path, _ in items], [value for _, value in items]
        )
        cdef Py_ssize_t i
        cdef Item *item
        cdef bint stopping = stop
        with nogil:
            for i in range(batch.count):
                item = &batch.items[i]
                item.result = -ibh_attr_write(
                    self.root, item.path, item.data, item.size
                )
                if item.result and stopping:
                    break
        return [<int>batch.items[i].result for i in range(batch.count)]

    def listdir(self, paths):
        """Names in each directory, sorted, or its errno."""
        cdef _Batch batch = _Batch(paths)
        cdef Py_ssize_t i
        cdef char *buf = <char *>malloc(ENTRIES_SIZE)
        if buf is NULL:
            raise MemoryError
        try:
            return [
                _names(self.root, batch.items[i].path, buf)
                for i in range(batch.count)
            ]
        finally:
            free(buf)
