# SPDX-License-Identifier: Apache-2.0
"""What a batch has to write, decided before anything is written."""

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple, TypeVar

from ibhostdev.batch import VfResult, Vif
from ibhostdev.errors import (
    DeviceInUse,
    DeviceNotFound,
    GuidConflict,
    IbHostdevError,
    NoMechanism,
    NotVerified,
)
from ibhostdev.guid import IDLE, Guid
from ibhostdev.inventory import Inventory, Pf, Policy, Vf, VfState
from ibhostdev.mechanisms import Mechanism
from ibhostdev.networks import PhysicalNetworks
from ibhostdev.pci import PciAddress

LOG = logging.getLogger(__name__)

T = TypeVar("T")

Key = tuple[PciAddress, int]
"""A PF, on one of its ports."""

NOTHING = VfState()


class Side(NamedTuple):
    """A PF on one of its ports, what serves it, and its VFs' states as found
    before anything was written."""

    pf: Pf
    mechanism: Mechanism
    states: dict[int, VfState]


class Change:
    """What is to be written to one VF, and what came of it.

    ``network`` is the physical network as the VIF names it. ``moves`` are VFs
    that hold the GUID and must have been made idle before.
    ``tried`` is set before the first write: from then on the VF may have
    taken a part.
    """

    def __init__(
        self,
        vf: Vf,
        mechanism: Mechanism,
        before: VfState,
        wanted: VfState,
        write: VfState,
        network: str | None = None,
    ) -> None:
        self.vf = vf
        self.mechanism = mechanism
        self.before = before
        self.wanted = wanted
        self.write = write
        self.network = network
        self.moves: list[Change] = []
        self.tried = False
        self.after: VfState | None = None
        self.verified = True
        self.error: IbHostdevError | None = None

    @property
    def needed(self) -> bool:
        return self.write != NOTHING

    @property
    def key(self) -> Key:
        return self.vf.pf.pci, self.vf.pf.port

    @property
    def undo(self) -> VfState:
        """Back to what was found. What the kernel could not show (netlink's
        GUID 0 is "not known") goes back to idle."""
        write, before = self.write, self.before
        return VfState(
            None if write.node_guid is None else known(before.node_guid, IDLE),
            None if write.port_guid is None else known(before.port_guid, IDLE),
            None
            if write.policy is None
            else known(before.policy, Policy.DOWN),
            before.pkeys,
        )


class Plan:
    """``first`` makes VFs idle that hold a GUID which another is to get, or
    hold it besides the one that was named; ``then`` is the batch itself.
    ``answers`` has an entry for each VIF: its change, or its result where
    there is nothing to write. ``stale`` are idle VFs whose own driver still
    shows the VIF's identity."""

    def __init__(self) -> None:
        self.first: list[Change] = []
        self.then: list[Change] = []
        self.answers: list[Change | VfResult] = []
        self.warnings: list[str] = []
        self.stale: list[tuple[Vf, Guid]] = []

    @property
    def changes(self) -> list[Change]:
        return [*self.first, *self.then]

    @property
    def failed(self) -> list[Change]:
        return [change for change in self.changes if change.error is not None]

    @property
    def refusal(self) -> IbHostdevError | None:
        """The first reason why a VIF cannot be served at all."""
        for answer in self.answers:
            if isinstance(answer, VfResult) and answer.error is not None:
                return answer.error
        return None


class Planner:
    """Compares what is wanted with what is there."""

    def __init__(
        self,
        inventory: Inventory,
        vifs: Sequence[Vif],
        sides: Mapping[Key, Side],
        networks: PhysicalNetworks,
        blind: bool = False,
    ) -> None:
        """``blind`` says that PFs of the fabric are missing from ``sides``
        that could not be asked."""
        self._inventory = inventory
        self._vifs = vifs
        self._sides = sides
        self._vfs: dict[tuple[Key, int], Vf] = {}
        self._holders: dict[Guid, list[tuple[Side, int]]] = {
            vif.guid: [] for vif in vifs
        }
        named: dict[Guid | None, Vif] = {vif.guid: vif for vif in vifs}
        for side in sides.values():
            for index, state in side.states.items():
                if state.node_guid in named or state.port_guid in named:
                    for guid in {state.node_guid, state.port_guid}:
                        vif = named.get(guid)
                        # On another fabric it may be somebody else's.
                        if vif and not networks.apart(vif, side.pf):
                            self._holders[vif.guid].append((side, index))
        self._unasked = blind

    @cached_property
    def _blind(self) -> bool:
        """Whether some VF could not be asked about."""
        return self._unasked or any(
            len(side.states) < side.pf.numvfs
            or any(map(_untold, side.states.values()))
            for side in self._sides.values()
        )

    def _look_at_holders(self) -> None:
        """Who drives the VFs that hold the GUIDs, in one pass for each PF."""
        indices: dict[Key, set[int]] = {}
        for found in self._holders.values():
            for side, index in found:
                key = side.pf.pci, side.pf.port
                indices.setdefault(key, set()).add(index)
        for key, chosen in indices.items():
            for vf in self._inventory.vfs(self._sides[key].pf, sorted(chosen)):
                self._vfs[key, vf.index] = vf
            self._complete(self._sides[key], chosen)

    @staticmethod
    def _complete(side: Side, chosen: set[int]) -> None:
        """Of a VF that the batch did not name a survey may tell the GUIDs
        alone; what is to be written must be known to be put back."""
        if side.mechanism.idle(side.pf).policy is None:
            return
        part = {i: side.states[i] for i in chosen}
        part = {i: one for i, one in part.items() if one.policy is None}
        if part:
            seen = side.mechanism.read_back(side.pf, part, settle=False)
            for index, state in seen.items():
                if isinstance(state, VfState):
                    side.states[index] = state

    def plug(
        self, vfs: Sequence[Vf | IbHostdevError], policy: Policy | None
    ) -> Plan:
        """``vfs`` has, for each VIF, its VF or why there is none."""
        plan = Plan()
        for vif, vf in zip(self._vifs, vfs, strict=True):
            if isinstance(vf, Vf) and self._holders[vif.guid]:
                self._leave_out(vif, vf)
        self._look_at_holders()
        for vif, vf in zip(self._vifs, vfs, strict=True):
            try:
                if isinstance(vf, IbHostdevError):
                    raise vf
                change = self._identity(plan, vif, vf, policy)
                self._move_others(plan, vif, change)
            except IbHostdevError as error:
                wanted = VfState(vif.guid, vif.guid, policy or Policy.FOLLOW)
                plan.answers.append(VfResult(vif.pci, wanted, error=error))
                continue
            plan.then.append(change)
            plan.answers.append(change)
        # A VF that is made idle on the way gets all of its new identity.
        moved = {(change.key, change.vf.index) for change in plan.first}
        for change in plan.then:
            if (change.key, change.vf.index) in moved:
                change.write = change.wanted
        return plan

    def _identity(
        self, plan: Plan, vif: Vif, vf: Vf, policy: Policy | None
    ) -> Change:
        """What a VF needs to become the VIF's."""
        side = self._sides[vf.pf.pci, vf.pf.port]
        wanted = side.mechanism.plugged(vf.pf, vif.guid, policy)
        before = _told(side, vf)
        write = _difference(before, wanted)
        equal = wanted.port_guid == before.port_guid and (
            wanted.node_guid in (None, before.node_guid)
        )
        change = Change(
            vf, side.mechanism, before, wanted, write, vif.physical_network
        )
        if vf.in_use:
            self._spare_guest(plan, vif, change, equal)
        elif equal and policy is None and before.policy is not Policy.DOWN:
            # The Neutron agent owns the policy of a VF that is plugged; only
            # one that an unplug or a reset left down is raised, unless
            # somebody says what it is to be.
            change.write = write._replace(policy=None)
        return change

    def _spare_guest(
        self, plan: Plan, vif: Vif, change: Change, equal: bool
    ) -> None:
        """What may be done to a VF in a guest's hands: nothing, but to give
        it back an identity that it is known to have lost."""
        before = change.before
        if before.owner not in (None, vif.guid):
            raise DeviceInUse(
                f"a guest has the VF, with GUID {before.owner}",
                change.vf.pci,
                cure="detach it from that guest and unplug it first",
            )
        change.write = change.write._replace(policy=None)
        if equal:
            change.write = NOTHING
        elif before.port_guid is None or (
            before.node_guid is None and change.wanted.node_guid is not None
        ):
            change.write = NOTHING
            change.verified = False
            plan.warnings.append(
                f"{change.vf.pci} is left alone: a guest has it, and the "
                f"kernel does not tell whether it is GUID {vif.guid} already"
            )

    def _leave_out(self, vif: Vif, vf: Vf) -> None:
        """Of the holders of a VIF's GUID, the VF that is to have it."""
        mine = vf.pf.pci, vf.pf.port, vf.index
        self._holders[vif.guid] = [
            (side, index)
            for side, index in self._holders[vif.guid]
            if (side.pf.pci, side.pf.port, index) != mine
        ]

    def _move_others(self, plan: Plan, vif: Vif, change: Change) -> None:
        """Make the stale holders of a GUID idle, unless a guest has them: a
        resize to the same host plugs before it unplugs."""
        for side, index in self._holders[vif.guid]:
            holder = self._vf(side, index)
            if holder.in_use:
                raise GuidConflict(
                    f"GUID {vif.guid} is held by {holder.pci}, which a guest "
                    "has",
                    change.vf.pci,
                    "guid",
                    cure=f"detach {holder.pci} from its guest and unplug it "
                    "first",
                )
            plan.warnings.append(
                f"GUID {vif.guid} was still on {holder.pci}, which is made "
                f"idle for {change.vf.pci} to have it"
            )
            change.moves.append(_idling(side, holder, vif))
        plan.first.extend(change.moves)

    def unplug(self, hints: Sequence[Vf | IbHostdevError]) -> Plan:
        """Keyed by GUID: what holds it becomes idle, wherever it is; what
        does not hold it is somebody else's."""
        plan = Plan()
        self._look_at_holders()
        for vif, hint in zip(self._vifs, hints, strict=True):
            found = self._holders[vif.guid]
            if not found:
                try:
                    answer = self._not_held(plan, vif, hint)
                except IbHostdevError as error:
                    idle = VfState(IDLE, IDLE, Policy.DOWN)
                    answer = VfResult(vif.pci, idle, error=error)
                plan.answers.append(answer)
                continue
            try:
                holders = [(side, self._vf(side, i)) for side, i in found]
                for _, vf in holders:
                    if vf.in_use:
                        raise DeviceInUse(
                            f"a guest has the VF with GUID {vif.guid}",
                            vf.pci,
                            cure="detach it from the guest first",
                        )
            except IbHostdevError as error:
                side, index = found[0]
                state = side.states[index]
                plan.answers.append(
                    VfResult(
                        side.pf.vf_address(index),
                        side.mechanism.idle(side.pf),
                        state,
                        state,
                        side.mechanism.name,
                        error=error,
                    )
                )
                continue
            # There can be several after a fault; the one that the hint names
            # stands for all of them in the result.
            holders.sort(key=lambda holder: holder[1].pci != vif.pci)
            change, *others = (_idling(side, vf, vif) for side, vf in holders)
            change.moves = others
            plan.first.extend(others)
            plan.then.append(change)
            plan.answers.append(change)
        return plan

    def restore(
        self, vfs: Sequence[Vf | IbHostdevError], states: Sequence[VfState]
    ) -> Plan:
        """``states`` has, for each VIF, what its VF is to be again."""
        plan = Plan()
        for vif, vf, state in zip(self._vifs, vfs, states, strict=True):
            try:
                if isinstance(vf, IbHostdevError):
                    raise vf
                change = self._back(vif, vf, state)
            except IbHostdevError as error:
                plan.answers.append(VfResult(vif.pci, state, error=error))
                continue
            plan.then.append(change)
            plan.answers.append(change)
        return plan

    def _back(self, vif: Vif, vf: Vf, state: VfState) -> Change:
        side = self._sides[vf.pf.pci, vf.pf.port]
        before, idle = _told(side, vf), side.mechanism.idle(vf.pf)
        wanted = VfState(
            _former(state.node_guid, before.node_guid, idle.node_guid),
            _former(state.port_guid, before.port_guid, idle.port_guid),
            _former(state.policy, before.policy, idle.policy),
            state.pkeys,
        )
        write = _difference(before, wanted)
        # mlx4 has them written with the GUID or not at all.
        if state.pkeys is not None and (
            write.port_guid is not None or state.pkeys != before.pkeys
        ):
            write = write._replace(
                port_guid=wanted.port_guid, pkeys=state.pkeys
            )
        if write != NOTHING and before.owner not in (None, vif.guid):
            raise DeviceInUse(
                f"has been given GUID {before.owner} meanwhile",
                vf.pci,
                cure="see whose it is; nothing was written",
            )
        if write != NOTHING and vf.in_use:
            raise DeviceInUse(
                "a guest has taken the VF meanwhile",
                vf.pci,
                cure="detach it from the guest, then unplug it",
            )
        return Change(
            vf, side.mechanism, before, wanted, write, vif.physical_network
        )

    def _not_held(
        self, plan: Plan, vif: Vif, hint: Vf | IbHostdevError
    ) -> VfResult:
        """Nothing to do is success, where everything could be looked at. But
        a call that was cut off after the VF had become idle may have left
        its driver with the old identity."""
        if isinstance(hint, NoMechanism):
            raise hint  # it may well be there; nobody can tell
        LOG.debug("GUID %s is on no VF here: nothing to unplug", vif.guid)
        side = None
        if isinstance(hint, Vf):
            side = self._sides.get((hint.pf.pci, hint.pf.port))
        if side is None or not isinstance(hint, Vf):
            return VfResult(
                vif.pci,
                VfState(IDLE, IDLE, Policy.DOWN),
                verified=not self._blind,
            )
        state = _told(side, hint)
        if state == NOTHING and hint.in_use:
            raise DeviceInUse(
                "a guest has the VF, and nothing tells with which GUID",
                hint.pci,
                cure="detach it from the guest first",
            )
        if state != NOTHING and _untold(state):
            raise NotVerified(
                "has its link up, and the kernel does not tell with which "
                "GUID",
                hint.pci,
                f"by {side.mechanism.name}",
                cure="see whose it is; then plug it for him, and unplug it",
            )
        if state.owner is None:
            plan.stale.append((hint, vif.guid))
        return VfResult(
            hint.pci,
            side.mechanism.idle(side.pf),
            state,
            state,
            side.mechanism.name,
            verified=not self._blind,
        )

    def _vf(self, side: Side, index: int) -> Vf:
        try:
            return self._vfs[(side.pf.pci, side.pf.port), index]
        except KeyError:
            raise DeviceNotFound(
                "the VF vanished", side.pf.vf_address(index), cure="try again"
            ) from None


def _untold(state: VfState) -> bool:
    """Whether a VF may have any GUID for all that is known: one that is idle
    has its link down."""
    return state.port_guid is None and (
        state == NOTHING or state.policy not in (None, Policy.DOWN)
    )


def _idling(side: Side, vf: Vf, vif: Vif) -> Change:
    before, idle = side.states[vf.index], side.mechanism.idle(side.pf)
    return Change(
        vf,
        side.mechanism,
        before,
        idle,
        _difference(before, idle),
        vif.physical_network,
    )


def _told(side: Side, vf: Vf) -> VfState:
    """The VF's state; the kernel leaves out whom its driver cannot ask
    about, and who that belongs to must not be guessed."""
    try:
        return side.states[vf.index]
    except KeyError:
        raise NotVerified(
            "the driver cannot tell the state of the VF",
            vf.pci,
            f"by {side.mechanism.name}",
            cure="look into the kernel log for the health of the HCA",
        ) from None


def _difference(before: VfState, wanted: VfState) -> VfState:
    """What of the wanted is not there yet."""
    settled = not before.pending
    return VfState(
        None if before.node_guid == wanted.node_guid else wanted.node_guid,
        None
        if before.port_guid == wanted.port_guid and settled
        else wanted.port_guid,
        None if before.policy == wanted.policy else wanted.policy,
    )


def _former(then: T | None, now: T | None, idle: T | None) -> T | None:
    """As Change.undo, what the kernel could not show goes back to idle, but
    where it cannot show anything now either, nothing was done."""
    return now if then == now else known(then, idle)


def known(value: T | None, otherwise: T) -> T:
    return otherwise if value is None else value
