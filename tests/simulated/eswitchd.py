# SPDX-License-Identifier: Apache-2.0
"""A daemon that answers as eswitchd of networking-mlnx 21.0.0 does, in the
place of the program that would ask it."""

import threading
from collections.abc import Sequence

from ibhostdev import Vif
from ibhostdev.host.vendor import Answer
from tests.flavours import ONES, mac
from tests.simulated.testbed import SimulatedTestbed


class Eswitchd:
    """Knows the VFs that were there when it started, says OK to plugs of
    any others, and leaves the policy of a plugged VF alone."""

    def __init__(
        self, bed: SimulatedTestbed, pfs: int = 1, vfs: int = 4
    ) -> None:
        self.bed = bed
        self.vfs = {
            bed.vf(p, i): (p, i) for p in range(pfs) for i in range(vfs)
        }
        # By index; the VFs of a PF without netdev have no other witness.
        self.held: dict[int, str] = {}
        self.calls: list[list[str]] = []
        self.under_way = self.most = 0
        self.refuse: set[str] = set()
        self.keeps = False
        # Where calls that are to be under way at once wait for each other.
        self.meeting: threading.Barrier | None = None
        self._lock = threading.Lock()

    def __call__(self, arguments: Sequence[str]) -> Answer:
        with self._lock:
            self.calls.append(list(arguments))
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        if self.meeting:
            self.meeting.wait()
        with self._lock:
            self.under_way -= 1
        if arguments[0] == "add-port":
            return self._add_port(*arguments[1:])
        assert arguments[0] == "del-port"
        return self._del_port(*arguments[1:])

    def _add_port(
        self, address: str, device_id: str, fabric: str, kind: str, slot: str
    ) -> Answer:
        assert kind == "ib_hostdev"
        if slot in self.refuse:
            return Answer(1, "", "Error in add-port command Action failed")
        if slot in self.vfs:
            self._set(self.vfs[slot], _guid(address))
        return Answer(0, slot, "")

    def _del_port(self, fabric: str, address: str) -> Answer:
        for pf, index in () if self.keeps else self.vfs.values():
            port = self.bed.seen(pf)[index].port or self.held.get(index)
            if port == _guid(address):
                self._set((pf, index), ONES, "down")
                return Answer(0, "", "")
        return Answer(
            1, "", f"Error in del-port command Failed to deallocate {address}"
        )

    def _set(
        self, place: tuple[int, int], text: str, policy: str | None = None
    ) -> None:
        self.bed.seed(*place, node=text, port=text, policy=policy)
        self.held[place[1]] = text


def _guid(address: str) -> str:
    return f"{address[:8]}:00:00:{address[9:]}"


def named(bed: SimulatedTestbed, *numbers: int, pf: int = 0) -> list[Vif]:
    return [
        Vif.parse(bed.vf(pf, index), mac(number), "default")
        for index, number in enumerate(numbers)
    ]
