# SPDX-License-Identifier: Apache-2.0
"""What goes into a call for guests and what comes out of it."""

from dataclasses import dataclass
from typing import Self

from ibhostdev.batch import Move, Vif
from ibhostdev.errors import IbHostdevError, root_causes
from ibhostdev.guid import Guid
from ibhostdev.pci import PciAddress
from ibhostdev.pkey import PKey


@dataclass(frozen=True, slots=True)
class Attachment:
    """A VIF, and the domain that is to have it."""

    domain: str
    vif: Vif


@dataclass(frozen=True, slots=True)
class Detachment:
    """A VF, and the domain that is to give it back."""

    domain: str
    pci: PciAddress


@dataclass(frozen=True, slots=True)
class Use:
    """Which domain has a VF: a running one has it in its hands, another one
    will if it is started."""

    domain: str
    running: bool


@dataclass(frozen=True, slots=True)
class GuestResult:
    """What became of one VF.

    ``guid`` is the identity that it was given, or was relieved of; None if
    it had none; ``pkey`` the partition that is noted with it. ``changed``
    says that libvirt changed the domain.
    """

    domain: str
    pci: PciAddress
    guid: Guid | None
    changed: bool = False
    error: IbHostdevError | None = None
    pkey: PKey | None = None


@dataclass(frozen=True, slots=True)
class GuestsResult:
    """One result for each VF, in the order of the call. ``moves`` are the
    GUIDs that have gone from another VF to one of these."""

    results: tuple[GuestResult, ...]
    warnings: tuple[str, ...] = ()
    moves: tuple[Move, ...] = ()

    @property
    def ok(self) -> bool:
        return all(result.error is None for result in self.results)

    @property
    def failures(self) -> list[IbHostdevError]:
        """The errors that are causes, not consequences."""
        return root_causes(
            [r.error for r in self.results if r.error is not None]
        )


class GuestsFailed(IbHostdevError):
    """At least one VF was not attached, or not detached and made idle;
    ``result`` tells of each."""

    result: GuestsResult

    @classmethod
    def of(cls, result: GuestsResult) -> Self:
        error = cls.of_several(result.failures)
        error.result = result
        return error

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self).of, (self.result,))
