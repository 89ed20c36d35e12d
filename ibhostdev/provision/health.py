# SPDX-License-Identifier: Apache-2.0
"""Whether a PF's firmware is known to be dead: a command that it does not
answer takes two minutes, and making VFs takes one for each of them.

By devlink's health reporters (drivers/net/ethernet/mellanox/mlx5/core/
health.c); numbers are those of include/uapi/linux/devlink.h and genetlink.h.
Nothing here asks firmware.
"""

import socket
import struct
from collections.abc import Iterator

from ibhostdev.inventory import Endpoint
from ibhostdev.pci import PciAddress

#: devlink's family where a process stands in for the kernel, whose rtnetlink
#: has the number that the kernel has for the list of families.
SIMULATED = 0x7003

_GENERIC = 16  # NETLINK_GENERIC
_ERROR = 2  # NLMSG_ERROR
_REQUEST = 1
_CONTROL, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2
_GET_REPORTER, _BUS, _DEVICE = 52, 1, 2
_REPORTER, _NAME, _STATE = 114, 115, 116
_BAD = 1  # DEVLINK_HEALTH_REPORTER_STATE_ERROR, include/net/devlink.h
_FATAL = "fw_fatal"
_HEADER = struct.Struct("=IHHII")
_GENERAL = struct.Struct("=BBH")
_ATTRIBUTE = struct.Struct("=HH")
_SECONDS = 5.0


def is_dead(endpoint: Endpoint, pf: PciAddress) -> bool:
    """Where nothing tells, it is not: no devlink, or none of this driver."""
    protocol = endpoint.protocol or _GENERIC
    try:
        with socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW, protocol
        ) as sock:
            sock.settimeout(_SECONDS)
            sock.connect((endpoint.port, 0))
            family = SIMULATED if endpoint.port else _family(sock)
            answer = _ask(
                sock,
                family,
                _GET_REPORTER,
                _text(_BUS, "pci") + _text(_DEVICE, pf) + _text(_NAME, _FATAL),
            )
    except OSError:
        return False
    reporter = dict(_attributes(answer.get(_REPORTER, b"")))
    return reporter.get(_STATE, b"\0")[:1] == bytes([_BAD])


def _family(sock: socket.socket) -> int:
    name = _text(_FAMILY_NAME, "devlink")
    answer = _ask(sock, _CONTROL, _GET_FAMILY, name)
    number = answer.get(_FAMILY_ID, b"")
    if len(number) < 2:
        raise OSError("no family devlink")
    (family,) = struct.unpack_from("=H", number)
    return int(family)


def _ask(
    sock: socket.socket, family: int, command: int, payload: bytes
) -> dict[int, bytes]:
    """The attributes of the one answer."""
    payload = _GENERAL.pack(command, 1, 0) + payload
    length = _HEADER.size + len(payload)
    sock.send(_HEADER.pack(length, family, _REQUEST, 1, 0) + payload)
    data = sock.recv(1 << 16)
    if len(data) < _HEADER.size + _GENERAL.size:
        raise OSError("short answer")
    _, kind, _, _, _ = _HEADER.unpack_from(data)
    if kind == _ERROR:
        raise OSError("refused")
    return dict(_attributes(data[_HEADER.size + _GENERAL.size :]))


def _text(kind: int, text: str) -> bytes:
    value = text.encode() + b"\0"
    head = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind)
    return head + value + bytes(-len(value) % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if not _ATTRIBUTE.size <= length <= len(data):
            return
        yield kind & 0x3FFF, data[_ATTRIBUTE.size : length]
        data = data[length + -length % 4 :]
