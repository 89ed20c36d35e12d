# SPDX-License-Identifier: Apache-2.0
"""What became of a host that was to be as somebody wished, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ibhostdev.batch import Move
from ibhostdev.errors import IbHostdevError, RolledBack
from ibhostdev.guid import Guid
from ibhostdev.inventory import VfState
from ibhostdev.pci import PciAddress
from ibhostdev.pkey import PKey


class Claims(NamedTuple):
    """What somebody else wants of this host: who has an identity, and who
    has a VF, in words."""

    guids: Mapping[Guid, str] = {}
    vfs: Mapping[PciAddress, str] = {}


@dataclass(slots=True)
class PfReport:
    """A PF: how many VFs it had and has, and whether new ones are bound by
    themselves. ``error`` is why it was left as it is."""

    pci: PciAddress
    vfs_before: int
    vfs: int
    autoprobe_before: bool
    autoprobe: bool
    error: IbHostdevError | None = None

    @property
    def changed(self) -> bool:
        return (self.vfs_before, self.autoprobe_before) != (
            self.vfs,
            self.autoprobe,
        )


@dataclass(slots=True)
class VfReport:
    """A VF. ``guid`` is whose it is to be, None nobody's, ``pkey`` in which
    partition, if that is said; ``before`` is None for one that was not there
    or was not looked at, ``after`` for one that needed nothing.
    ``driver_before`` and ``driver`` are "" for none."""

    pf: PciAddress
    index: int
    pci: PciAddress | None
    guid: Guid | None
    before: VfState | None = None
    after: VfState | None = None
    changed: bool = False
    verified: bool = True
    mechanism: str | None = None
    driver_before: str | None = None
    driver: str | None = None
    bound: bool = False
    error: IbHostdevError | None = None
    pkey: PKey | None = None


@dataclass(slots=True)
class Report:
    """All PFs and VFs that were wished for. ``moves`` are the GUIDs that have
    gone from one VF to another."""

    pfs: list[PfReport] = field(default_factory=list)
    vfs: list[VfReport] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)

    @property
    def errors(self) -> list[IbHostdevError]:
        """The causes, not the consequences."""
        errors = [
            *(pf.error for pf in self.pfs),
            *(vf.error for vf in self.vfs),
        ]
        return [
            error
            for error in errors
            if error is not None and not isinstance(error, RolledBack)
        ]

    @property
    def changed(self) -> bool:
        """Whether anything was written, or would be."""
        return any(one.changed for one in self.pfs) or any(
            one.changed or one.bound for one in self.vfs
        )
