# SPDX-License-Identifier: Apache-2.0
"""Batches of sysfs operations below one root directory, for who wants to look
for himself.

Paths are relative to the root and used as they are: who builds them answers
for what is in them. Reads and writes run without the GIL and without a lock
(the one shared thing, the root's descriptor, never changes), so threads may
share a Tree.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport ENOMEM
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from ibhostdev._native.api cimport ibh_error, ibh_error_free, ibh_options

import os

cdef extern from "Python.h":
    bytes PyUnicode_EncodeFSDefault(object text)
    str PyUnicode_DecodeFSDefault(const char *text)
    str PyUnicode_DecodeFSDefaultAndSize(const char *text, Py_ssize_t size)

cdef extern from "host.h":
    enum:
        VALUE_SIZE
        ROOT

    ctypedef int (*take_name)(const char *name, void *context) except? -1

    struct io:
        ssize_t (*read)(void *context, const char *path, char *value,
                        size_t size) noexcept nogil
        ssize_t (*link)(void *context, int folder, const char *path,
                        char *target, size_t size) noexcept nogil
        int (*list)(void *context, const char *path, take_name take,
                    void *taker) except? -1
        int (*write)(void *context, const char *path, const char *value,
                     size_t len) noexcept nogil
        void (*done)(void *context)

    ibh_error *system_open(const ibh_options *options, const io **io,
                           void **context)
    ibh_error *simulated_open(const ibh_options *options, const io **io,
                              void **context)


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


cdef int _add_name(const char *name, void *names) except? -1:
    (<list>names).append(PyUnicode_DecodeFSDefault(name))
    return 0


cdef class Tree:
    """A directory shaped like /sys, the root of all paths given to it. With
    a ``port`` it is a simulated one: reads are of plain files, and a write is
    a message to the process that serves it."""

    cdef const io *io
    cdef void *context
    cdef readonly str path
    cdef readonly unsigned int port

    def __cinit__(self, path="/sys", unsigned int port=0):
        cdef ibh_options options
        cdef ibh_error *error
        cdef bytes encoded = os.fsencode(path)
        cdef int number
        memset(&options, 0, sizeof(options))
        options.sysfs = encoded
        options.sysfs_port = port
        self.path = os.fsdecode(encoded)
        self.port = port
        if port:
            error = simulated_open(&options, &self.io, &self.context)
        else:
            error = system_open(&options, &self.io, &self.context)
        if error is not NULL:
            number = error.number
            ibh_error_free(error)
            raise OSError(number, os.strerror(number), self.path)

    def __dealloc__(self):
        if self.context is not NULL:
            self.io.done(self.context)

    def read(self, paths):
        """Value of each attribute, without its newline, or its errno."""
        return self.look(paths, False)

    def readlink(self, paths):
        """Text of each symbolic link, or its errno."""
        return self.look(paths, True)

    cdef list look(self, paths, bint link):
        cdef _Batch batch = _Batch(paths)
        cdef Py_ssize_t i
        cdef char *value = <char *>malloc(VALUE_SIZE)
        cdef char *kept
        cdef Item *item
        cdef list results = []
        if value is NULL:
            raise MemoryError
        # The values are a few bytes each: copied out one by one, they need
        # no page-sized buffer each.
        try:
            with nogil:
                for i in range(batch.count):
                    item = &batch.items[i]
                    if link:
                        item.result = self.io.link(
                            self.context, ROOT, item.path, value, VALUE_SIZE
                        )
                    else:
                        item.result = self.io.read(
                            self.context, item.path, value, VALUE_SIZE
                        )
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
                    results.append(PyUnicode_DecodeFSDefaultAndSize(
                        item.data, item.result
                    ))
                else:
                    results.append(PyBytes_FromStringAndSize(
                        item.data, item.result
                    ))
        finally:
            for i in range(batch.count):
                free(<void *>batch.items[i].data)
            free(value)
        return results

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
                item.result = -self.io.write(
                    self.context, item.path, item.data, item.size
                )
                if item.result and stopping:
                    break
        return [<int>batch.items[i].result for i in range(batch.count)]

    def listdir(self, paths):
        """Names in each directory, sorted, or its errno."""
        cdef _Batch batch = _Batch(paths)
        cdef Py_ssize_t i
        cdef list names, results = []
        cdef int err
        for i in range(batch.count):
            names = []
            err = self.io.list(
                self.context, batch.items[i].path, _add_name, <void *>names
            )
            names.sort()
            results.append(-err if err else names)
        return results
