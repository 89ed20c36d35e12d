# SPDX-License-Identifier: Apache-2.0
"""The package's own view of a simulated host's sysfs, and whether it is
served."""

import os
import shlex
from collections.abc import Sequence
from errno import ECONNREFUSED

from ibhostdev._native.sysfs import Tree
from ibhostdev.errors import NotRunning
from ibhostdev.simulate.netlink import HELLO, REQUEST, Channel, pack


def not_running(folder: str) -> NotRunning:
    return NotRunning(
        "no server answers for this simulated host",
        device=folder,
        cure=f"start it: ibhostdev simulate {shlex.quote(folder)}",
    )


class SimulatedTree(Tree):
    """Reads are of plain files; a write is a message to the server, which
    knows how a driver would have ended it."""

    def write(
        self, items: Sequence[tuple[str, bytes]], stop: bool = False
    ) -> list[int]:
        """As Tree.write(). Raises NotRunning when the server is gone."""
        results = super().write(items, stop)
        if ECONNREFUSED in results:
            raise not_running(os.path.dirname(self.path))
        return results


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
