# SPDX-License-Identifier: Apache-2.0
"""What goes into a batch and what comes out of it."""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple, Self

from ibhostdev._native.text import vif_of
from ibhostdev.errors import IbHostdevError, InvalidInput, root_causes
from ibhostdev.guid import Guid
from ibhostdev.inventory import VfState
from ibhostdev.pci import PciAddress
from ibhostdev.pkey import PKey


class OnError(StrEnum):
    """What becomes of a batch when one of its VFs fails."""

    ROLLBACK = "rollback"
    CONTINUE = "continue"


class Link(StrEnum):
    """What a plug makes of a VF's link where it is given no policy.

    RAISED has one that is down follow the fabric: a guest is about to get
    the VF. KEPT leaves it as it is on a VF whose identity is right already.
    LOWERED has it down, for a GUID that is still in use elsewhere; where VFs
    have no policy, or it is not ours to set, it is RAISED.
    """

    RAISED = "raised"
    KEPT = "kept"
    LOWERED = "lowered"


class Vif(NamedTuple):
    """A port: the GUID it is to have and the VF it is to have it on.

    ``guid`` is the port GUID, by which the fabric knows it, and the node
    GUID too unless ``node_guid`` is another. Unplug goes by either of them,
    and ``pci`` is a hint for it, and may be missing. ``pkey`` is the partition
    that it is to be in. On mlx4 a plug puts it first, as a full member if
    it is to be both, once the subnet manager has given it to the PF's port;
    without one the first entry is left to others, as Neutron's agent. On mlx5
    it is the subnet manager's to give: for who tells that (hooks, ``ibhostdev
    fabric``), and nothing of it is written here.
    """

    pci: PciAddress | None
    guid: Guid
    physical_network: str | None = None
    node_guid: Guid | None = None
    pkey: PKey | None = None

    @classmethod
    def parse(
        cls,
        pci: str | None,
        identity: str,
        physical_network: str | None = None,
        node_guid: str | None = None,
    ) -> Self:
        """From text: PCI address, MAC or GUID, and a GUID.

        :raises InvalidInput: for any being malformed, or a GUID that cannot
            be an identity
        """
        vif = vif_of(cls, PciAddress, Guid, pci, identity, physical_network)
        if vif is not None and node_guid is None:
            return vif
        # One of these says what is wrong.
        return cls(
            None if pci is None else PciAddress.parse(pci),
            Guid.parse_identity(identity),
            physical_network,
            None if node_guid is None else Guid.parse_keyed(None, node_guid),
        )

    @classmethod
    def parse_keyed(cls, given: Mapping[str, str]) -> Self:
        """From what stands under these keys: ``pci``; ``mac`` or ``guid``,
        or ``node_guid`` and ``port_guid``, which come together;
        ``physical_network``; ``pkey``.

        :raises InvalidInput: as parse() does, and for what may not stand
            together
        """
        pci, mac, guid = given.get("pci"), given.get("mac"), given.get("guid")
        node, port = given.get("node_guid"), given.get("port_guid")
        address = None if pci is None else PciAddress.parse(pci)
        network = given.get("physical_network") or None
        text = given.get("pkey")
        pkey = None if text is None else PKey.parse(text)
        if node is None and port is None:
            own = Guid.parse_keyed(mac, guid)
            return cls(address, own, network, None, pkey)
        if node is None or port is None:
            raise InvalidInput(
                "has one of node_guid and port_guid",
                cure="write both, or guid where they are one",
            )
        if mac is not None or guid is not None:
            raise InvalidInput(
                "has mac or guid beside node_guid and port_guid",
                cure="leave it out",
            )
        own, nodes = (Guid.parse_keyed(None, text) for text in (port, node))
        if nodes == own:
            return cls(address, own, network, None, pkey)
        return cls(address, own, network, nodes, pkey)


class VfResult(NamedTuple):
    """What became of one VIF.

    ``pci`` is the VF that was dealt with, which unplug may have found
    elsewhere than its hint said; ``after`` is None where nothing was
    written for want of trying. ``verified`` says that the kernel has shown
    the state to be as wanted, or that no VF has the GUID to be unplugged;
    False where it cannot, and where nobody has looked.
    """

    pci: PciAddress | None
    wanted: VfState
    before: VfState | None = None
    after: VfState | None = None
    mechanism: str | None = None
    changed: bool = False
    verified: bool = False
    error: IbHostdevError | None = None


class Outcome(NamedTuple):
    """What became of a device that was to be made otherwise: whether it was,
    and what went wrong."""

    changed: bool
    error: IbHostdevError | None


class BatchResult:
    """One result for each VIF, in the order of the call.

    ``made`` gives them when they are looked at, ``errors`` are those in it,
    where they are known already. ``moved`` are the other VFs that a VIF's GUID
    was taken from for it.
    """

    def __init__(
        self,
        made: Iterable[VfResult],
        warnings: Iterable[str] = (),
        errors: Iterable[IbHostdevError] | None = None,
        moved: Iterable[VfResult] = (),
    ) -> None:
        self.made = made
        self.moved = moved
        self.warnings = tuple(warnings)
        if errors is not None:
            self.errors = list(errors)

    @cached_property
    def results(self) -> tuple[VfResult, ...]:
        return tuple(self.made)

    @cached_property
    def errors(self) -> list[IbHostdevError]:
        """Of the VFs that failed, in order."""
        return [r.error for r in self.results if r.error is not None]

    @property
    def ok(self) -> bool:
        return not self.errors

    @property
    def failures(self) -> list[IbHostdevError]:
        """The errors that are causes, not consequences."""
        return root_causes(self.errors)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BatchResult):
            return NotImplemented
        return (self.results, self.warnings) == (other.results, other.warnings)

    def __repr__(self) -> str:
        return f"BatchResult({self.results!r}, {self.warnings!r})"

    def __reduce__(self) -> tuple[object, ...]:
        made = (self.results, self.warnings, None, tuple(self.moved))
        return BatchResult, made


class Move(NamedTuple):
    """A VIF whose GUID was on one VF and is on another now."""

    vif: Vif
    source: PciAddress
    target: PciAddress


def moves(vifs: Iterable[Vif], result: BatchResult) -> list[Move]:
    """What of a batch's GUIDs has gone from one VF to another, in the order
    of the VIFs. Of a fault that had it on several VFs, the first counts."""
    had: dict[Guid, PciAddress] = {}
    for one in (*result.moved, *result.results):
        if one.changed and one.pci is not None and one.before is not None:
            for guid in _guids(one.before) - _guids(one.after):
                had.setdefault(guid, one.pci)
    found = []
    for vif, one in zip(vifs, result.results, strict=True):
        if one.error is not None or not one.changed or one.pci is None:
            continue
        source = had.get(vif.guid)
        if source is not None and vif.guid in _guids(one.wanted):
            found.append(Move(vif, source, one.pci))
    return found


def _guids(state: VfState | None) -> set[Guid]:
    """Those by which a VF is somebody's."""
    if state is None:
        return set()
    both = (state.port_guid, state.node_guid)
    return {guid for guid in both if guid is not None and not guid.is_idle}


class BatchFailed(IbHostdevError):
    """At least one VF of the batch failed; ``result`` tells of each."""

    result: BatchResult

    @classmethod
    def of(cls, result: BatchResult) -> Self:
        error = cls.of_several(result.failures)
        error.result = result
        return error

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self).of, (self.result,))


Progress = Callable[[str, int, int], None]
"""Called, one call at a time, with a stage ("write", "verify", "rebind",
"make", "bind"), and how many VFs of how many are through with it."""
