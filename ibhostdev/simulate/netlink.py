# SPDX-License-Identifier: Apache-2.0
"""Netlink messages between the processes of a simulated host.

Written without the package's own codec, whose counterpart it is. Numbers
are those of include/uapi/linux/netlink.h.
"""

import errno
import socket
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple, Self

USERSOCK = 2  # the protocol that two processes may talk without rights
NOOP, ERROR, DONE = 1, 2, 3
REQUEST, MULTI, ACK, DUMP, CAPPED = 0x1, 0x2, 0x4, 0x300, 0x100
MINIMUM_TYPE = 0x10

#: rtnetlink, as far as both ends speak it
NEWLINK, GETLINK, SETLINK = 16, 18, 19
IFLA_IFNAME, IFLA_PARENT_DEV_NAME = 3, 56
IFLA_PROP_LIST, IFLA_ALT_IFNAME = 52, 53
IFINFO = struct.Struct("=BxHiII")

#: devlink, whose family has a number of its own here
DEVLINK, HEALTH_REPORTER_GET = 0x7003, 52

#: A write() to sysfs, acknowledged when its store function has ended: a plain
#: file could not refuse a value, nor make its writer wait. HELLO is answered
#: by one with the folder of the host.
WRITE, HELLO = 0x7001, 0x7002
PATH, VALUE = 1, 2

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
MAXIMUM = 1 << 18  # bytes of a datagram


class Message(NamedTuple):
    kind: int
    flags: int
    sequence: int
    payload: bytes


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def pack(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    length = _HEADER.size + len(payload)
    header = _HEADER.pack(length, kind, flags, sequence, 0)
    return _padded(header + payload)


def unpack(data: bytes) -> Iterator[Message]:
    """The messages of a datagram, as far as it holds together."""
    while len(data) >= _HEADER.size:
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data)
        if not _HEADER.size <= length <= len(data):
            return
        yield Message(kind, flags, sequence, data[_HEADER.size : length])
        data = data[length + -length % 4 :]


def attribute(kind: int, payload: bytes) -> bytes:
    """A length that does not fit is cut, as nla_nest_end() does."""
    length = _ATTRIBUTE.size + len(payload) & 0xFFFF
    return _padded(_ATTRIBUTE.pack(length, kind) + payload)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """As nlmsg_parse_deprecated: what does not hold together ends it."""
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if not _ATTRIBUTE.size <= length <= len(data):
            return
        yield kind & 0x3FFF, data[_ATTRIBUTE.size : length]
        data = data[length + -length % 4 :]


def acknowledge(message: Message, code: int) -> bytes:
    """NLMSG_ERROR with an errno, or 0; of the request only its header, as
    NETLINK_CAP_ACK asks for."""
    length = _HEADER.size + len(message.payload)
    request = _HEADER.pack(
        length, message.kind, message.flags, message.sequence, 0
    )
    payload = struct.pack("=i", -code) + request
    return pack(ERROR, CAPPED, message.sequence, payload)


def open_socket(timeout: float | None = None) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, USERSOCK)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.settimeout(timeout)
    sock.bind((0, 0))
    return sock


class Channel:
    """One request, one answer, with the process at a port id."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket = open_socket(1.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._socket.close()

    def ask(self, request: bytes, patience: float | None = None) -> Message:
        """Raises the OSError that an NLMSG_ERROR carries,
        ConnectionRefusedError when there is nobody (any more), TimeoutError
        after ``patience`` seconds."""
        deadline = None if patience is None else time.monotonic() + patience
        self._socket.sendto(request, (self._port, 0))
        while True:
            try:
                data, (sender, _) = self._socket.recvfrom(MAXIMUM)
            except TimeoutError:
                if deadline is not None and time.monotonic() > deadline:
                    raise
                # Nobody tells when the other end is gone: find out.
                noop = pack(NOOP, 0, 0, b"")
                self._socket.sendto(noop, (self._port, 0))
                continue
            if sender == self._port:
                return self._check(next(unpack(data), None))

    def _check(self, message: Message | None) -> Message:
        if message is None:
            raise OSError(errno.EBADMSG, "answer does not hold together")
        if message.kind == ERROR:
            (code,) = struct.unpack_from("=i", message.payload)
            if code:
                raise OSError(-code, "request refused")
        return message
