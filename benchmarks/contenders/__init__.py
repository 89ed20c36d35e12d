# SPDX-License-Identifier: Apache-2.0
"""Who can give VFs their identity, each in the same few words."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

REPO = Path(__file__).resolve().parents[2]
BUILD = REPO / "build" / "bench"


@dataclass(frozen=True)
class Target:
    """A VF and the identity that it is to have."""

    pci: str
    pf: str
    index: int
    mac: str

    @property
    def guid(self) -> str:
        """16 hex digits."""
        digits = self.mac.replace(":", "")
        return f"{digits[:6]}0000{digits[6:]}"

    @property
    def octets(self) -> str:
        return bytes.fromhex(self.guid).hex(":")


@dataclass(frozen=True)
class Place:
    """The HCAs that contenders work on: ``family`` is "mlx5" (netlink),
    "mlx5-files" or "mlx4", ``pfs`` are PCI addresses, ``vfs`` as many as
    each has."""

    family: str
    pfs: tuple[str, ...]
    netdevs: tuple[str, ...]
    vfs: int

    def netdev(self, target: Target) -> str:
        return self.netdevs[self.pfs.index(target.pf)]


class Contender(Protocol):
    """One way to do it.

    ``most`` is after how many VFs in a row the cost of the next is known:
    one call for each VF, whatever their number. The time for more is
    reckoned, and marked. Who ``looks_only`` has nothing but a list.
    ``refresh`` asks those that leave it to others to
    bind VFs anew behind an unplug. A method gives the seconds that it took
    where it can tell better than who calls it.
    """

    title: str
    most: int | None
    refresh: bool
    looks_only: bool

    def obstacle(self, place: Place) -> str | None:
        """Why it cannot serve there, in one sentence."""

    def open(self, place: Place) -> None:
        """Everything that is done once: imports, daemons, sockets."""

    def plug(self, targets: Sequence[Target]) -> float | None: ...
    def unplug(self, targets: Sequence[Target]) -> float | None: ...
    def list(self) -> float | None: ...
    def close(self) -> None: ...

    def daemons(self) -> Sequence[int]:
        """Processes that do part of the work and live on."""


class Base:
    """What most have in common."""

    title = ""
    most: int | None = None
    families: tuple[str, ...] = ("mlx5", "mlx5-files", "mlx4")
    refresh = False
    looks_only = False
    place: Place

    def obstacle(self, place: Place) -> str | None:
        if place.family in self.families:
            return None
        return {
            "mlx4": "mlx4 has no netlink operations for GUIDs",
            "mlx5-files": "it needs the PF's network device",
            "mlx5": "a stock kernel has no such files",
        }[place.family]

    def open(self, place: Place) -> None:
        self.place = place

    def close(self) -> None:
        pass

    def daemons(self) -> Sequence[int]:
        return ()


def run(*command: str | os.PathLike[str], **how: Any) -> None:
    how.setdefault("stdin", subprocess.DEVNULL)
    subprocess.run(command, check=True, capture_output=True, **how)


class CannotList(Exception):
    """It has no such operation; the text says so."""


_WHERE = {
    "floor": "floor:Floor",
    "safe": "floor:Safe",
    "write": "floor:Write",
    "bulk": "ours:Bulk",
    "survey": "ours:Survey",
    "single": "ours:Single",
    "command": "ours:Command",
    "floor-process": "floor:Process",
    "standin": "ours:Standin",
    "privsep": "ours:Privsep",
    "rootwrap": "ours:Rootwrap",
    "rootwrap-daemon": "ours:RootwrapDaemon",
    "ip": "iproute2:Ip",
    "ip-batch": "iproute2:IpBatch",
    "pyroute2-usual": "pyroute2:Usual",
    "pyroute2-best": "pyroute2:Best",
    "ebrctl": "ebrctl:Ebrctl",
    "nova": "nova:Ours",
    "nova-standin": "nova:Standin",
    "nova-ebrctl": "nova:Vendor",
    "agent": "agents:Ours",
    "agent-marks": "agents:Marks",
    "agent-mlnx": "agents:Vendor",
    "make-numvfs": "makers:Numvfs",
    "make-apply": "makers:Apply",
    "make-command": "makers:ApplyCommand",
    "make-script": "makers:Script",
    "make-vendor": "makers:Vendor",
}
NAMES = tuple(_WHERE)
NOVA = tuple(name for name in NAMES if name.startswith("nova"))
AGENTS = tuple(name for name in NAMES if name.startswith("agent"))
MAKERS = tuple(name for name in NAMES if name.startswith("make"))


def make(name: str) -> Contender:
    module, _, kind = _WHERE[name].partition(":")
    made: Callable[[], Contender] = getattr(
        import_module(f"{__name__}.{module}"), kind
    )
    return made()
