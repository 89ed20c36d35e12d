# SPDX-License-Identifier: Apache-2.0
"""rtnetlink requests about the VFs behind a network device.

Knows messages, not what they are good for. A Socket serves one request at a
time (it has a lock); threads that want to overlap open one each.
"""

from libc.errno cimport EBADMSG, EINTR, EMSGSIZE, ENOBUFS, ENODEV, ENOMEM
from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy
from posix.unistd cimport close

import os
import threading

cdef extern from "ibhostdev/rtnetlink.h" nogil:
    struct nlmsghdr:
        uint32_t nlmsg_len
        unsigned short nlmsg_type
        unsigned short nlmsg_flags
        uint32_t nlmsg_seq

    struct ibh_vf_set:
        uint32_t vf
        uint32_t attr
        uint64_t value

    struct ibh_vf_info:
        uint32_t vf
        uint32_t have
        uint32_t link_state
        uint64_t node_guid
        uint64_t port_guid

    struct ibh_link:
        int32_t ifindex
        uint32_t num_vf
        uint32_t vfs
        char name[16]
        char parent[32]

    enum:
        NLMSG_HDRLEN
        NLMSG_ERROR
        NLMSG_DONE
        RTM_NEWLINK
        NLM_F_MULTI
        NLM_F_DUMP_INTR
        IBH_VF_LINK_STATE
        IBH_VF_IB_NODE_GUID
        IBH_VF_IB_PORT_GUID
        IBH_HAVE_NODE_GUID
        IBH_HAVE_PORT_GUID
        IBH_HAVE_LINK_STATE
        IBH_NL_ANSWER
        IBH_SET_MAX
        IBH_SET_HEAD
        IBH_SET_SIZE

    uint32_t NLMSG_ALIGN(uint32_t size)
    ssize_t ibh_build_setlink(unsigned char *buf, size_t cap, uint32_t seq,
                              int ifindex, const ibh_vf_set *sets,
                              size_t count)
    size_t ibh_build_getlink(unsigned char *buf, uint32_t seq, int ifindex,
                             int dump, int vf_data)
    int ibh_parse_link(const unsigned char *payload, size_t len,
                       ibh_link *link, ibh_vf_info *vfs, size_t cap)
    int ibh_nl_open(int protocol, int seconds)
    int ibh_nl_send(int fd, uint32_t peer, const void *buf, size_t len)
    int ibh_nl_acks(int fd, uint32_t peer, uint32_t seq, size_t count,
                    int *errs)
    ssize_t ibh_nl_recv(int fd, uint32_t peer, void *buf, size_t cap)

LINK_STATE = IBH_VF_LINK_STATE
NODE_GUID = IBH_VF_IB_NODE_GUID
PORT_GUID = IBH_VF_IB_PORT_GUID

cdef enum:
    # What goes out in one send: the kernel answers each message at once, and
    # the answers must fit into the receive queue of an ordinary socket.
    WINDOW_MESSAGES = 64
    WINDOW_BYTES = 96 * 1024
    # More VFs than a list can hold: it ends at 64 KiB, a VF takes 236 bytes.
    MAX_VFS = 1024
    TRIES = 3


cdef object _error(int err, str asked):
    return OSError(err, os.strerror(err), asked)


cdef class Socket:
    """A netlink socket.

    ``protocol`` is 0 (NETLINK_ROUTE), or 2 (NETLINK_USERSOCK) with ``peer``
    the port id of the process that stands in for the kernel. ``timeout``
    bounds the wait for an answer, in seconds; the kernel itself gives up on
    firmware after 60 (mlx5 core/cmd.c).
    """

    cdef int fd
    cdef bint opened  # descriptor 0 is one, too
    cdef uint32_t peer
    cdef uint32_t seq
    cdef object lock

    def __cinit__(self, int protocol=0, uint32_t peer=0, int timeout=70):
        self.peer = peer
        self.lock = threading.Lock()
        cdef int fd = ibh_nl_open(protocol, timeout)
        if fd < 0:
            raise _error(-fd, "netlink socket")
        self.fd = fd
        self.opened = True

    def __dealloc__(self):
        if self.opened:
            close(self.fd)

    def close(self):
        with self.lock:
            if self.opened:
                close(self.fd)
            self.opened = False
            self.fd = -1

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def set_vfs(self, int ifindex, messages):
        """Send RTM_SETLINKs, each a sequence of (vf, attribute, value).

        Gives an errno for each message, 0 if the kernel took all of it. A
        message that failed may have been applied up to any attribute, and
        one that was not acknowledged (ENOBUFS, ETIMEDOUT) altogether.
        ValueError for what no message can hold.
        """
        cdef list results = []
        cdef Py_ssize_t at = 0, total
        messages = list(messages)
        total = len(messages)
        with self.lock:
            while at < total:
                at += self._send_window(ifindex, messages, at, results)
        return results

    cdef Py_ssize_t _send_window(self, int ifindex, list messages,
                                 Py_ssize_t start, list results) except -1:
        cdef unsigned char *buf = <unsigned char *>malloc(WINDOW_BYTES)
        cdef ibh_vf_set *sets = <ibh_vf_set *>malloc(
            IBH_SET_MAX * sizeof(ibh_vf_set)
        )
        cdef int errs[WINDOW_MESSAGES]
        cdef size_t used = 0, count = 0, n
        cdef ssize_t built
        cdef uint32_t first = self.seq + 1
        cdef int err = 0
        try:
            if buf is NULL or sets is NULL:
                raise MemoryError
            while (count < WINDOW_MESSAGES
                   and start + <Py_ssize_t>count < len(messages)):
                message = messages[start + count]
                n = len(message)
                if n > IBH_SET_MAX:
                    raise ValueError(f"{n} attributes in one message")
                if used + IBH_SET_HEAD + n * IBH_SET_SIZE > WINDOW_BYTES:
                    break
                for i, (vf, attr, value) in enumerate(message):
                    sets[<size_t>i].vf = vf
                    sets[<size_t>i].attr = attr
                    sets[<size_t>i].value = value
                built = ibh_build_setlink(buf + used, WINDOW_BYTES - used,
                                          first + count, ifindex, sets, n)
                if built < 0:
                    raise ValueError(f"no attribute of a VF in {message!r}")
                used += NLMSG_ALIGN(<uint32_t>built)
                count += 1
            self.seq += count
            with nogil:
                err = ibh_nl_send(self.fd, self.peer, buf, used)
                if not err:
                    err = ibh_nl_acks(self.fd, self.peer, first, count, errs)
                else:
                    for k in range(count):
                        errs[k] = 1
            for k in range(count):
                results.append(-err if errs[k] == 1 else -errs[k])
        finally:
            free(buf)
            free(sets)
        return count

    def link(self, int ifindex, bint vf_data=True, bint dump=False):
        """What the kernel tells about a network device and its VFs.

        (name, parent device, number of VFs, VFs, dumped); a VF is (number,
        node GUID, port GUID, link state), None for what was not told. Asking
        with ``vf_data`` makes the driver ask firmware about every VF.

        Linux 5.5 to 6.14 underestimate the size of the answer and refuse
        with EMSGSIZE, and a warning in their log; a dump of all devices is
        the way round (``dumped``), at once if ``dump`` is true.
        Raises OSError; EBADMSG is an answer that does not hold together.
        """
        with self.lock:
            try:
                if not dump:
                    return (*self._link(ifindex, vf_data, False), False)
            except OSError as error:
                if error.errno != EMSGSIZE:
                    raise
            return (*self._link(ifindex, vf_data, True), True)

    cdef tuple _link(self, int ifindex, bint vf_data, bint dump):
        cdef ibh_vf_info *vfs = <ibh_vf_info *>malloc(
            MAX_VFS * sizeof(ibh_vf_info)
        )
        cdef ibh_link link
        cdef int err = 0
        asked = f"RTM_GETLINK{' dump' if dump else ''} of ifindex {ifindex}"
        try:
            if vfs is NULL:
                raise MemoryError
            for _ in range(TRIES):
                with nogil:
                    err = self._ask(ifindex, vf_data, dump, &link, vfs)
                # Answers were lost, or links changed during the dump: the
                # question is still good.
                if err != -ENOBUFS and err != -EINTR:
                    break
            if err < 0:
                raise _error(-err, asked)
            return (
                os.fsdecode(link.name), os.fsdecode(link.parent), link.num_vf,
                _vfs(&link, vfs),
            )
        finally:
            free(vfs)

    cdef int _ask(self, int ifindex, bint vf_data, bint dump, ibh_link *link,
                  ibh_vf_info *vfs) noexcept nogil:
        """One request and its answer; 0 or a negative errno."""
        cdef unsigned char request[64]
        cdef unsigned char *buf = <unsigned char *>malloc(IBH_NL_ANSWER)
        cdef size_t length
        cdef ssize_t got
        cdef int err, found = -ENODEV, interrupted = 0
        cdef int more = 1
        if buf is NULL:
            return -ENOMEM
        self.seq += 1
        length = ibh_build_getlink(request, self.seq, ifindex, dump, vf_data)
        err = ibh_nl_send(self.fd, self.peer, request, length)
        while not err and more:
            got = ibh_nl_recv(self.fd, self.peer, buf, IBH_NL_ANSWER)
            if got < 0:
                err = <int>got
            else:
                err = self._take(buf, got, ifindex, link, vfs, &found,
                                 &interrupted, &more)
        free(buf)
        if err:
            return err
        # Links came or went meanwhile; ours, if it was there, is whole.
        if interrupted and found:
            return -EINTR
        return found

    cdef int _take(self, unsigned char *buf, size_t left, int ifindex,
                   ibh_link *link, ibh_vf_info *vfs, int *found,
                   int *interrupted, int *more) noexcept nogil:
        """The messages of one datagram; sets *more to 0 after the last."""
        cdef nlmsghdr nlh
        cdef int err
        cdef size_t step
        while left >= <size_t>NLMSG_HDRLEN:
            memcpy(&nlh, buf, sizeof(nlh))
            if nlh.nlmsg_len < NLMSG_HDRLEN or nlh.nlmsg_len > left:
                return -EBADMSG
            if nlh.nlmsg_seq == self.seq:
                if nlh.nlmsg_flags & NLM_F_DUMP_INTR:
                    interrupted[0] = 1
                if (nlh.nlmsg_type == NLMSG_ERROR
                        or nlh.nlmsg_type == NLMSG_DONE):
                    more[0] = 0
                    err = 0
                    if nlh.nlmsg_len >= NLMSG_HDRLEN + sizeof(err):
                        memcpy(&err, buf + NLMSG_HDRLEN, sizeof(err))
                    elif nlh.nlmsg_type == NLMSG_ERROR:
                        return -EBADMSG
                    return err if err <= 0 else -EBADMSG
                if nlh.nlmsg_type == RTM_NEWLINK:
                    if not nlh.nlmsg_flags & NLM_F_MULTI:
                        more[0] = 0
                    # A dump brings every device of the namespace; only ours
                    # may fill the list.
                    err = _parse(buf + NLMSG_HDRLEN,
                                 nlh.nlmsg_len - NLMSG_HDRLEN, ifindex,
                                 link, vfs, found)
                    if err:
                        return err
            step = NLMSG_ALIGN(nlh.nlmsg_len)
            if step > left:
                step = left
            buf += step
            left -= step
        return 0


cdef int _parse(const unsigned char *payload, size_t length, int ifindex,
                ibh_link *link, ibh_vf_info *vfs,
                int *found) noexcept nogil:
    cdef int32_t index
    cdef int err
    if length < 8:
        return -EBADMSG
    memcpy(&index, payload + 4, sizeof(index))
    if index != ifindex:
        return 0
    err = ibh_parse_link(payload, length, link, vfs, MAX_VFS)
    if not err:
        found[0] = 0
    return err


cdef list _vfs(ibh_link *link, ibh_vf_info *vfs):
    cdef list told = []
    cdef ibh_vf_info *vf
    cdef uint32_t i
    for i in range(min(link.vfs, <uint32_t>MAX_VFS)):
        vf = &vfs[i]
        told.append((
            vf.vf,
            vf.node_guid if vf.have & IBH_HAVE_NODE_GUID else None,
            vf.port_guid if vf.have & IBH_HAVE_PORT_GUID else None,
            vf.link_state if vf.have & IBH_HAVE_LINK_STATE else None,
        ))
    return told


def build_setlink(uint32_t seq, int ifindex, sets):
    """The bytes of one RTM_SETLINK, as set_vfs() sends it."""
    cdef size_t count = len(sets)
    cdef ibh_vf_set *items
    cdef unsigned char *buf
    cdef ssize_t length
    if count > IBH_SET_MAX:
        raise ValueError(f"{count} attributes in one message")
    items = <ibh_vf_set *>malloc((count + 1) * sizeof(ibh_vf_set))
    buf = <unsigned char *>malloc(IBH_SET_HEAD + count * IBH_SET_SIZE)
    try:
        if items is NULL or buf is NULL:
            raise MemoryError
        for i, (vf, attr, value) in enumerate(sets):
            items[<size_t>i].vf = vf
            items[<size_t>i].attr = attr
            items[<size_t>i].value = value
        length = ibh_build_setlink(buf, IBH_SET_HEAD + count * IBH_SET_SIZE,
                                   seq, ifindex, items, count)
        if length < 0:
            raise ValueError(f"no attribute of a VF in {sets!r}")
        return <bytes>buf[:length]
    finally:
        free(items)
        free(buf)


def parse_link(const unsigned char[::1] payload not None):
    """(ifindex, name, parent, number of VFs, VFs) of an RTM_NEWLINK's
    payload, as link() reads it. OSError with EBADMSG if it is malformed."""
    cdef ibh_vf_info *vfs = <ibh_vf_info *>malloc(
        MAX_VFS * sizeof(ibh_vf_info)
    )
    cdef ibh_link link
    cdef unsigned char none = 0
    cdef const unsigned char *start = &none
    cdef size_t length = payload.shape[0]
    cdef int err
    if length:
        start = &payload[0]
    try:
        if vfs is NULL:
            raise MemoryError
        with nogil:
            err = ibh_parse_link(start, length, &link, vfs, MAX_VFS)
        if err:
            raise _error(-err, "RTM_NEWLINK")
        return (
            link.ifindex, os.fsdecode(link.name), os.fsdecode(link.parent),
            link.num_vf,
            _vfs(&link, vfs),
        )
    finally:
        free(vfs)
