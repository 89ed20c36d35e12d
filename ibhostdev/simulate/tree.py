# SPDX-License-Identifier: Apache-2.0
"""The package's own view of a simulated host: its sysfs and its devices."""

import os
from collections.abc import Sequence

from ibhostdev._native.sysfs import Tree
from ibhostdev.errors import NotRunning
from ibhostdev.interruption import uninterrupted
from ibhostdev.simulate.netlink import (
    ACK,
    GETLINK,
    HELLO,
    IFINFO,
    IFLA_IFNAME,
    IFLA_PARENT_DEV_NAME,
    PATH,
    REQUEST,
    VALUE,
    WRITE,
    Channel,
    attribute,
    attributes,
    pack,
)


def not_running(folder: str) -> NotRunning:
    return NotRunning(
        "no server answers for this simulated host",
        device=folder,
        cure=f"start it: ibhostdev simulate {folder}",
    )


class SimulatedTree(Tree):
    """Reads are of plain files; a write is a message to the server, which
    knows how a driver would have ended it."""

    def __init__(self, path: str | os.PathLike[str], port: int) -> None:
        # The folder itself is opened by Tree.__cinit__
        self._port = port

    def write(
        self, items: Sequence[tuple[str, bytes]], stop: bool = False
    ) -> list[int]:
        """As Tree.write(); each is a request of its own, so that what a
        killed process had not come to stays undone. Raises NotRunning when
        the server is gone."""
        results: list[int] = []
        with Channel(self._port) as channel:
            for path, value in items:
                results.append(self._write(channel, path, value))
                if stop and results[-1]:
                    break
        return results + [-1] * (len(items) - len(results))

    def _write(self, channel: Channel, path: str, value: bytes) -> int:
        payload = attribute(PATH, os.fsencode(path)) + attribute(VALUE, value)
        try:
            # Else what was asked for last might be done after what an
            # interrupted plug writes next, to undo it.
            with uninterrupted():
                channel.ask(pack(WRITE, REQUEST | ACK, 1, payload))
        except ConnectionRefusedError:
            raise not_running(os.path.dirname(self.path)) from None
        except OSError as error:
            if not error.errno:
                raise
            return error.errno
        return 0


def identify(port: int, name: str) -> tuple[int, str]:
    """What SIOCGIFINDEX and ETHTOOL_GDRVINFO tell about a network device;
    the server is asked, for it may be in another namespace."""
    wanted = attribute(IFLA_IFNAME, name.encode() + b"\0")
    request = IFINFO.pack(0, 0, 0, 0, 0) + wanted
    with Channel(port) as channel:
        link = channel.ask(pack(GETLINK, REQUEST, 1, request)).payload
    index: int = IFINFO.unpack_from(link)[2]
    given = dict(attributes(link[IFINFO.size :]))
    parent = given.get(IFLA_PARENT_DEV_NAME, b"")
    return index, parent.rstrip(b"\0").decode()


def serves(
    port: int, folder: str | os.PathLike[str], patience: float = 5.0
) -> bool:
    """Whether the server of exactly this folder listens there."""
    if not port:
        return False
    root = os.fsencode(os.path.realpath(folder))
    try:
        with Channel(port) as channel:
            answer = channel.ask(pack(HELLO, REQUEST, 1, b""), patience)
    except OSError:
        return False
    return answer.kind == HELLO and answer.payload == root
