# SPDX-License-Identifier: Apache-2.0
"""What the checks have in common: the patient, what is found, and words for
it."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ibhostdev.batch import BatchResult
from ibhostdev.errors import IbHostdevError
from ibhostdev.host import Host
from ibhostdev.host.views import View
from ibhostdev.inventory import DEVICES, Pf, Vf

SRIOV = "SRIOV_EN=1 NUM_OF_VFS=16"
LINK = "LINK_TYPE_P1=1"
_NAMED = 3


class Severity(StrEnum):
    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """What a check has found, on which device if on one, and its cure."""

    check: str
    severity: Severity
    message: str
    device: str | None = None
    cure: str | None = None


@dataclass(frozen=True)
class Patient:
    """The host, and what the checks have in common."""

    host: Host
    views: Sequence[View]
    locks: str
    simulated: bool
    privileged: Callable[[], BatchResult] | None = None
    notes: Sequence[str] = ()
    malformed: Sequence[IbHostdevError] = ()

    @property
    def vfs(self) -> Iterator[tuple[View, Vf]]:
        for view in self.views:
            for vf in view.vfs:
                yield view, vf


Check = Callable[[Patient], Iterable[Finding]]


def problems(findings: Sequence[Finding]) -> bool:
    return any(one.severity is Severity.PROBLEM for one in findings)


def some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    shown = ", ".join(names[:_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown


def firmware(pci: str, settings: str) -> str:
    """How to change them. Debian has one tool for it, NVIDIA's MFT another of
    the same arguments."""
    tools = ("mstconfig", "mlxconfig")
    tool = next(filter(shutil.which, tools), None)
    where = "" if tool else " (of package mstflint)"
    command = f"{tool or tools[0]} -d {pci} set {settings}"
    return f"'{command}'{where}, then reboot"


def attribute(pf: Pf, name: str) -> str:
    """The shortest path to it, for people."""
    return f"/sys/{DEVICES}/{pf.pci}/{name}"
