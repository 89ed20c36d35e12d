# SPDX-License-Identifier: Apache-2.0
"""What is wanted of a host's PFs, as values."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ibhostdev.errors import InvalidInput
from ibhostdev.guid import Guid
from ibhostdev.inventory import Pf, Policy
from ibhostdev.pkey import PKey

NO_DRIVER = "none"
"""As the wish for a driver: the VFs are to be on none."""

# Of the first octet: a group's, and locally administered.
_GROUP, _LOCAL = 1 << 56, 2 << 56


class Place(NamedTuple):
    """Where in a file something stands; from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}, column {self.column}"

    def refuse(
        self, message: str, attribute: str | None = None, cure: str = ""
    ) -> InvalidInput:
        return InvalidInput(message, str(self), attribute, cure=cure or None)


class Identity(NamedTuple):
    """Who a VF is to be, how its link, and in which partition; no policy: as
    a plug has it. The node GUID is the same, unless there is another."""

    guid: Guid
    policy: Policy | None = None
    node_guid: Guid | None = None
    pkey: PKey | None = None

    @property
    def guids(self) -> tuple[Guid, ...]:
        """One, or the port's and the node's."""
        if self.node_guid is None:
            return (self.guid,)
        return self.guid, self.node_guid


class Guids(Protocol):
    """Who the VFs of a PF are to be."""

    def of(self, pf: Pf, index: int) -> Identity | None:
        """The VF's identity; None: it is to be nobody's."""

    def beyond(self, vfs: int) -> int:
        """How many of so many VFs are nobody's for want of a GUID."""

    def left(self, vfs: int) -> int:
        """How many of those that are listed one by one are for no VF."""


@dataclass(frozen=True, slots=True)
class Idle:
    """All VFs are nobody's."""

    def of(self, pf: Pf, index: int) -> Identity | None:
        return None

    def beyond(self, vfs: int) -> int:
        return 0

    def left(self, vfs: int) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Given:
    """One after the other."""

    identities: tuple[Identity | None, ...]

    def of(self, pf: Pf, index: int) -> Identity | None:
        inside = index < len(self.identities)
        return self.identities[index] if inside else None

    def beyond(self, vfs: int) -> int:
        return max(0, vfs - len(self.identities))

    def left(self, vfs: int) -> int:
        return sum(one is not None for one in self.identities[vfs:])


@dataclass(frozen=True, slots=True)
class Range:
    """From one GUID to another, this included."""

    first: Guid
    last: Guid

    def of(self, pf: Pf, index: int) -> Identity | None:
        guid = Guid(self.first + index)
        return Identity(guid) if guid <= self.last else None

    def beyond(self, vfs: int) -> int:
        return max(0, vfs - (self.last - self.first + 1))

    def left(self, vfs: int) -> int:
        return 0  # a range may have room to grow


@dataclass(frozen=True, slots=True)
class Derived:
    """From the PF's port GUID and the VF's index."""

    def of(self, pf: Pf, index: int) -> Identity | None:
        return Identity(derived(pf, index))

    def beyond(self, vfs: int) -> int:
        return 0

    def left(self, vfs: int) -> int:
        return 0


def derived(pf: Pf, index: int) -> Guid:
    """A GUID for a VF that is the same at each boot: that of its PF's port,
    marked as locally administered, and with the index, from 1, in octets 4
    and 5. GUIDs of adapters of one vendor differ in the last three, and are
    not locally administered; so it is no PF's, and no other PF's VF's.

    :raises InvalidInput: if the PF does not show its port's GUID
    """
    guid = next((p.guid for p in pf.ports if p.number == pf.port), None)
    if guid is None or guid.is_idle:
        raise InvalidInput(
            "shows no GUID of its own to derive others from",
            pf.pci,
            "guids",
            cure="give the GUIDs in a list or by a range",
        )
    return Guid((guid | _LOCAL) & ~_GROUP ^ (index + 1) << 24)


@dataclass(frozen=True, slots=True)
class PfWish:
    """What a PF is to be; None: as it is.

    ``pf`` is its PCI address, IB device, network device or the GUID of its
    port. ``driver`` is that of the VFs, ``autoprobe`` whether the kernel is
    to bind VFs to their driver by itself. ``guids`` None: what an old tenant
    left on VFs that are made anew is taken away. ``pkey`` is for whoever is on
    its VFs, unless something else is said of him.
    """

    pf: str
    place: Place
    vfs: int | None = None
    driver: str | None = None
    autoprobe: bool | None = None
    policy: Policy | None = None
    guids: Guids = Idle()
    physical_network: str | None = None
    pkey: PKey | None = None
