# SPDX-License-Identifier: Apache-2.0
"""Batches: many VIFs plugged or unplugged in one call, all or nothing.

A batch runs in five steps: check, resolve, plan, apply, verify. Which
mechanism writes what is not known here.
"""

import logging
import threading
from collections.abc import (
    Callable,
    Container,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractContextManager

from ibhostdev._native.sysfs import Tree
from ibhostdev.batch import (
    BatchFailed,
    BatchResult,
    OnError,
    Progress,
    VfResult,
    Vif,
)
from ibhostdev.errors import (
    DeviceNotFound,
    IbHostdevError,
    InvalidInput,
    NoMechanism,
    NotVerified,
    RollbackFailed,
    RolledBack,
)
from ibhostdev.guid import IDLE, Guid
from ibhostdev.inventory import Inventory, Pf, Policy, Vf, VfState
from ibhostdev.locks import Locks
from ibhostdev.mechanisms import Mechanism, Mechanisms, Whose
from ibhostdev.networks import PhysicalNetworks
from ibhostdev.parallel import each
from ibhostdev.pci import PciAddress
from ibhostdev.planning import Change, Key, Plan, Planner, Side, known
from ibhostdev.rebinding import Rebinding

LOG = logging.getLogger(__name__)


class Plugging:
    """The engine. One serves a host; threads and processes may overlap."""

    def __init__(
        self,
        sysfs: Tree,
        inventory: Inventory,
        mechanisms: Mechanisms,
        locks: Locks,
        networks: PhysicalNetworks,
    ) -> None:
        self._sysfs = sysfs
        self._inventory = inventory
        self._mechanisms = mechanisms
        self._rebinding = Rebinding(sysfs, inventory)
        self._locks = locks
        self._networks = networks

    def plug(
        self,
        vifs: Sequence[Vif],
        *,
        policy: Policy | None = None,
        on_error: OnError = OnError.ROLLBACK,
        mechanism: str | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> BatchResult:
        """Give VFs the identities of VIFs; see Host.plug()."""
        self._check(vifs, plugging=True)
        vfs, serving = self._resolve(vifs, mechanism)
        if on_error is OnError.ROLLBACK:
            for vf in vfs:
                if isinstance(vf, IbHostdevError):
                    raise vf
        scope = self._scope(vifs, vfs)
        with self._locked(scope, dry_run) as waited:
            if waited:
                vfs, serving = self._resolve(vifs, mechanism)
            sides, doubts = self._survey(scope, vfs, serving, mechanism)
            plan = Planner(self._inventory, vifs, sides, self._networks).plug(
                vfs, policy
            )
            plan.warnings[:0] = doubts
            if not dry_run:
                self._apply(plan, on_error, progress)
        return _report(plan, dry_run)

    def unplug(
        self,
        vifs: Sequence[Vif],
        *,
        rebind: bool = True,
        on_error: OnError = OnError.ROLLBACK,
        mechanism: str | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> BatchResult:
        """Make the VFs that hold the VIFs' GUIDs idle; see Host.unplug()."""
        self._check(vifs, plugging=False)
        # Only hints: after an evacuation they are another host's addresses,
        # and leading nowhere is no error.
        vfs, serving = self._resolve(vifs, mechanism)
        scope = self._scope(vifs, vfs)
        with self._locked(scope, dry_run) as waited:
            if waited:
                vfs, serving = self._resolve(vifs, mechanism)
            sides, doubts = self._survey(scope, vfs, serving, mechanism)
            plan = Planner(
                self._inventory,
                vifs,
                sides,
                self._networks,
                bool(doubts),
            ).unplug(vfs)
            plan.warnings[:0] = doubts
            if not dry_run:
                self._apply(plan, on_error, progress)
                self._forget(plan, vifs, sides, on_error)
        if rebind and not dry_run:
            # Without the locks: it takes long, and concerns the VF alone.
            self._refresh(plan, progress)
        return _report(plan, dry_run)

    def restore(
        self, vifs: Sequence[Vif], states: Sequence[VfState]
    ) -> BatchResult:
        """Make VFs again what they were; see Host.restore()."""
        self._check(vifs, plugging=True)
        vfs, serving = self._resolve(vifs, None)
        found = [vf for vf in vfs if isinstance(vf, Vf)]
        scope = list({(vf.pf.pci, vf.pf.port): vf.pf for vf in found}.values())
        with self._locked(scope, False) as waited:
            if waited:
                vfs, serving = self._resolve(vifs, None)
            sides, _ = self._survey(scope, vfs, serving, None)
            plan = Planner(
                self._inventory, vifs, sides, self._networks
            ).restore(vfs, states)
            self._apply(plan, OnError.CONTINUE, None)
        return _report(plan, False)

    # -- 1. check -----------------------------------------------------

    def _check(self, vifs: Sequence[Vif], plugging: bool) -> None:
        """Reject the batch on the first bad input, before any device is
        touched. A Vif can be made without its parse()."""
        vfs: set[PciAddress] = set()
        guids: set[Guid] = set()
        for vif in vifs:
            Guid(vif.guid).require_identity()
            if vif.pci is not None and not PciAddress(vif.pci).is_long:
                raise InvalidInput(
                    f"{vif.pci!r} is not in its long form",
                    attribute="pci",
                    cure="make it with PciAddress.parse()",
                )
            if vif.pci is None and plugging:
                raise InvalidInput(
                    f"no VF was named for GUID {vif.guid}",
                    attribute="pci",
                    cure="name the VF by its PCI address",
                )
            if vif.guid in guids:
                raise InvalidInput(
                    f"GUID {vif.guid} is named twice",
                    vif.pci,
                    "guid",
                    cure="give each VIF a GUID of its own",
                )
            if vif.pci in vfs and plugging:
                raise InvalidInput(
                    "the VF is named twice",
                    vif.pci,
                    "pci",
                    cure="give each VIF a VF of its own",
                )
            guids.add(vif.guid)
            if vif.pci is not None:
                vfs.add(vif.pci)
            # To unplug, any PF may have it: the mapping may have changed.
            if plugging:
                self._networks.check(vif)

    # -- 2. resolve ---------------------------------------------------

    def _resolve(
        self, vifs: Sequence[Vif], forced: str | None
    ) -> tuple[list[Vf | IbHostdevError], dict[Key, Mechanism]]:
        """The VF that each VIF's address leads to, or why to none; and what
        serves these."""
        addresses = [vif.pci for vif in vifs if vif.pci is not None]
        located = iter(self._inventory.locate(addresses))
        served: dict[Key, Mechanism | NoMechanism] = {}
        vfs: list[Vf | IbHostdevError] = []
        for vif in vifs:
            vf: Vf | IbHostdevError
            if vif.pci is None:
                vf = DeviceNotFound("no VF was named", str(vif.guid))
            else:
                vf = next(located)
            if isinstance(vf, Vf):
                vf = self._networks.place(vif, vf)
            if isinstance(vf, Vf):
                key = vf.pf.pci, vf.pf.port
                if key not in served:
                    served[key] = self._serving(vf.pf, forced)
                by = served[key]
                vf = by if isinstance(by, NoMechanism) else vf
            vfs.append(vf)
        return vfs, {
            key: by
            for key, by in served.items()
            if not isinstance(by, NoMechanism)
        }

    def _serving(self, pf: Pf, forced: str | None) -> Mechanism | NoMechanism:
        try:
            return self._mechanisms.require(pf, forced)
        except NoMechanism as error:
            return error

    def _scope(
        self, vifs: Sequence[Vif], vfs: Sequence[Vf | IbHostdevError]
    ) -> list[Pf]:
        """The PFs of the VIFs' fabrics, each on the ports in question: no
        two VFs of a fabric may hold the same GUID. Without a mapping all
        PFs are taken for one fabric."""
        networks = {vif.physical_network for vif in vifs}
        scope: dict[Key, Pf] = {}
        for pf in self._inventory.last_pfs:
            if pf.numvfs:
                scope.update(
                    ((pf.pci, port), pf.on_port(port))
                    for port in self._networks.ports(pf, networks)
                )
        for vf in vfs:
            if isinstance(vf, Vf):
                scope[vf.pf.pci, vf.pf.port] = vf.pf
        return [scope[key] for key in sorted(scope)]

    def _locked(
        self, scope: Sequence[Pf], dry_run: bool
    ) -> AbstractContextManager[bool]:
        """The PFs to ourselves, from reading their state to verifying it.
        Tells whether they had to be waited for: then who has which VF may
        have changed since it was looked up."""
        return self._locks.hold([] if dry_run else {pf.pci for pf in scope})

    # -- 3. plan ------------------------------------------------------

    def _survey(
        self,
        scope: Sequence[Pf],
        vfs: Sequence[Vf | IbHostdevError],
        serving: Mapping[Key, Mechanism],
        forced: str | None,
    ) -> tuple[dict[Key, Side], list[str]]:
        """The one reading of state before anything is written, and warnings
        of PFs that could not be asked: a GUID may be held there. Only a PF
        that the batch has VFs of must answer."""
        batch: dict[Key, list[int]] = {}
        for vf in vfs:
            if isinstance(vf, Vf):
                batch.setdefault((vf.pf.pci, vf.pf.port), []).append(vf.index)

        def survey(pf: Pf) -> Side | str:
            key = pf.pci, pf.port
            mine = batch.get(key, ())
            try:
                mechanism = serving.get(key) or self._mechanisms.require(
                    pf, forced
                )
                return Side(pf, mechanism, mechanism.survey(pf, mine))
            except IbHostdevError as error:
                if mine:
                    raise
                return f"not searched for the GUIDs: {error}"

        found = each(scope, survey)
        return {
            (side.pf.pci, side.pf.port): side
            for side in found
            if isinstance(side, Side)
        }, [doubt for doubt in found if isinstance(doubt, str)]

    # -- 4. apply -----------------------------------------------------

    def _apply(
        self, plan: Plan, on_error: OnError, progress: Progress | None
    ) -> None:
        """Write the plan and verify it; on an error undo it, unless the
        others are to go on. The errors are in the plan's changes."""
        undoing = on_error is OnError.ROLLBACK
        if undoing and plan.refusal is not None:
            for change in plan.then:
                change.error = RolledBack(
                    f"left alone because of {plan.refusal.device}",
                    change.vf.pci,
                )
            return
        for warning in plan.warnings:
            LOG.warning("%s", warning)
        tell = _teller(progress, plan)
        try:
            self._write(plan.first, tell)
            for change in plan.then:
                for move in change.moves:
                    change.error = change.error or move.error
            if not (undoing and plan.failed):
                self._write(plan.then, tell)
            if not (undoing and plan.failed):
                self._verify(plan.changes, tell)
        except BaseException as interruption:
            # Ctrl-C, a termination signal, a fault of our own: whatever it
            # is, nothing stays half-done.
            if undoing:
                self._undo(plan)
            for change in plan.failed:
                if isinstance(change.error, RollbackFailed):
                    interruption.add_note(str(change.error))
            raise
        if undoing and plan.failed:
            self._undo(plan)

    def _write(self, changes: Iterable[Change], tell: "_Tell") -> None:
        """Write what is to be written, PFs in parallel."""

        def write(group: list[Change]) -> None:
            present = self._present(group)
            for change in present:
                change.tried = True
            if present:
                failed = present[0].mechanism.write(
                    present[0].vf.pf,
                    {c.vf.index: c.write for c in present},
                    {
                        c.vf.index: Whose(c.before.owner, c.network)
                        for c in present
                    },
                )
                for change in present:
                    change.error = failed.get(change.vf.index)
            tell("write", len(group))

        due = [c for c in changes if c.needed and c.error is None]
        each(_by_pf(due), write)

    def _present(self, group: list[Change]) -> list[Change]:
        """Those whose VF is still enabled: no driver checks the index, and
        what lies beyond is not ours to write to. The others have an error."""
        pf = group[0].vf.pf
        (value,) = self._sysfs.read([f"{pf.path}/sriov_numvfs"])
        numvfs = 0
        if isinstance(value, bytes) and value.isdigit():
            numvfs = int(value)
        for change in group:
            if change.vf.index >= numvfs:
                change.error = DeviceNotFound(
                    f"vanished: its PF {pf.pci} has {numvfs} VFs now",
                    change.vf.pci,
                    "sriov_numvfs",
                    cure="enable the PF's VFs and try again",
                )
        return [change for change in group if change.vf.index < numvfs]

    def _undo(self, plan: Plan) -> None:
        """Put everything back that was tried, the batch's own VFs before
        those that were made idle for them."""
        cause = plan.failed[0].vf.pci if plan.failed else "an interruption"

        def undo(group: list[Change]) -> None:
            present = self._present(group)
            if not present:
                return
            states = {change.vf.index: change.undo for change in present}
            refused = present[0].mechanism.write(
                present[0].vf.pf,
                states,
                {
                    c.vf.index: Whose(
                        c.wanted.owner or c.before.owner, c.network
                    )
                    for c in present
                },
            )
            for change, doubt in self._read_back(
                present, states, refused, settle=False
            ):
                refusal = refused.get(change.vf.index)
                trouble = refusal or doubt
                if refusal and change.error is None and not change.verified:
                    # Nothing shows what it is. By its own word it has taken
                    # what was written, and not given it up.
                    change.after = _overlaid(change.before, change.write)
                # One that refuses everything may not have changed at all.
                if trouble is not None and not _same(
                    change.before, change.after
                ):
                    change.error = RollbackFailed(
                        "could not be put back to what it was "
                        f"({trouble.message}) after {change.error or cause}",
                        change.vf.pci,
                        trouble.attribute,
                        trouble.errno,
                        "see what it is now with 'ibhostdev list', then "
                        "plug or unplug it again",
                    )

        try:
            each(_by_pf([c for c in plan.then if c.tried]), undo)
        finally:
            each(_by_pf([c for c in plan.first if c.tried]), undo)
        for change in plan.changes:
            if change.error is None:
                change.error = RolledBack(
                    f"rolled back because of {cause}", change.vf.pci
                )

    # -- 5. verify ----------------------------------------------------

    def _verify(self, changes: Iterable[Change], tell: "_Tell") -> None:
        """Nothing is done that does not read back as it was written."""

        def verify(group: list[Change]) -> None:
            states = {change.vf.index: change.write for change in group}
            for change, doubt in self._read_back(group, states):
                change.error = doubt
            tell("verify", len(group))

        each(
            _by_pf([c for c in changes if c.tried and c.error is None]), verify
        )

    def _read_back(
        self,
        group: list[Change],
        expected: Mapping[int, VfState],
        refused: Container[int] = (),
        settle: bool = True,
    ) -> list[tuple[Change, IbHostdevError | None]]:
        """Each change with what is wrong about its VF's state, if anything.
        Sets ``after`` and ``verified``."""
        try:
            seen = group[0].mechanism.read_back(
                group[0].vf.pf, expected, settle
            )
        except IbHostdevError as error:
            return [(change, error) for change in group]
        return [
            (
                change,
                _compare(
                    change,
                    expected[change.vf.index],
                    seen.get(change.vf.index),
                    change.vf.index not in refused,
                ),
            )
            for change in group
        ]

    # -- afterwards ---------------------------------------------------

    def _forget(
        self,
        plan: Plan,
        vifs: Sequence[Vif],
        sides: Mapping[Key, Side],
        on_error: OnError,
    ) -> None:
        """Where only ebrctl can tell who has a GUID, have it look. Last of
        all: what it takes away cannot be given back, for it does not say
        which VF that was."""
        ebrctl = self._mechanisms.ebrctl
        if ebrctl is None or not any(
            side.mechanism is ebrctl and ebrctl.blind(side.pf)
            for side in sides.values()
        ):
            return
        failed = plan.failed or plan.refusal is not None
        if failed and on_error is OnError.ROLLBACK:
            stopped: IbHostdevError | None = RolledBack(
                "left alone because another VF failed", ebrctl.name
            )
        else:
            stopped = None

        def forget(at: int, answer: VfResult) -> VfResult:
            answer = answer._replace(
                mechanism=ebrctl.name, verified=False, error=stopped
            )
            if stopped is not None:
                return answer
            vif = vifs[at]
            try:
                done = ebrctl.forget(vif.guid, vif.physical_network)
            except IbHostdevError as error:
                return answer._replace(error=error)
            return answer._replace(changed=done)

        unknown = [
            (at, answer)
            for at, answer in enumerate(plan.answers)
            if isinstance(answer, VfResult)
            and answer.error is None
            and not answer.verified
        ]
        for (at, _), answer in zip(
            unknown,
            each(unknown, lambda one: forget(*one), ebrctl.at_once),
            strict=True,
        ):
            plan.answers[at] = answer

    def _refresh(self, plan: Plan, progress: Progress | None) -> None:
        """Bind VFs anew whose own driver shows what they no longer are."""
        changed = {
            change.vf.pci: change
            for change in plan.changes
            if change.error is None
        }
        due = self._rebinding.stale(
            [
                (change.vf, guid)
                for change in changed.values()
                if (guid := change.before.owner) is not None
            ],
            certain=False,
        )
        if not plan.failed and plan.refusal is None:
            due += self._rebinding.stale(plan.stale, certain=True)
        for vf in due:
            if not vf.pf.autoprobe:
                # drivers/pci/pci-driver.c would refuse to bind it again.
                plan.warnings.append(
                    f"{vf.pci} shows its old identity on this host until it "
                    "is bound anew: its PF has sriov_drivers_autoprobe off"
                )
        refreshed = self._rebinding.rebind(
            [vf for vf in due if vf.pf.autoprobe], progress
        )
        failed = {vf.pci: error for vf, error in refreshed if error}
        for pci, change in changed.items():
            change.error = failed.get(pci)
        plan.answers = [
            answer._replace(error=failed[answer.pci])
            if isinstance(answer, VfResult) and answer.pci in failed
            else answer
            for answer in plan.answers
        ]


def _by_pf(changes: Iterable[Change]) -> list[list[Change]]:
    groups: dict[Key, list[Change]] = {}
    for change in changes:
        groups.setdefault(change.key, []).append(change)
    return list(groups.values())


def _compare(
    change: Change,
    want: VfState,
    seen: VfState | IbHostdevError | None,
    accepted: bool,
) -> IbHostdevError | None:
    """What is wrong about a VF's state after writing, if anything."""
    if isinstance(seen, IbHostdevError):
        return seen
    if seen is None:
        return NotVerified(
            "the driver cannot tell the state of the VF",
            change.vf.pci,
            f"by {change.mechanism.name}",
            cure="look into the kernel log for the health of the HCA",
        )
    fields = (
        ("node GUID", want.node_guid, seen.node_guid),
        ("port GUID", want.port_guid, seen.port_guid),
        ("policy", want.policy, seen.policy),
    )
    change.verified = all(
        wanted is None or shown is not None for _, wanted, shown in fields
    )
    # What is seen, else what was accepted, else what was there.
    taken = want if accepted else VfState()
    change.after = _overlaid(_overlaid(change.before, taken), seen)
    for name, wanted, shown in fields:
        if (wanted, shown) == (Policy.FOLLOW, Policy.UP):
            # Neutron's agent raises every VF that it sees a port's GUID on.
            continue
        if None not in (wanted, shown) and wanted != shown:
            return NotVerified(
                f"{name} reads {shown} after {wanted} was accepted",
                change.vf.pci,
                f"by {change.mechanism.name}",
                cure="see whether another program writes to this PF's VFs",
            )
    return None


def _overlaid(state: VfState, written: VfState) -> VfState:
    if None not in (written.node_guid, written.port_guid, written.policy):
        return written
    return VfState(
        known(written.node_guid, state.node_guid),
        known(written.port_guid, state.port_guid),
        known(written.policy, state.policy),
    )


def _same(before: VfState, after: VfState | None) -> bool:
    """Whether a VF is what it was; what could not be shown was idle."""
    return after is not None and (
        known(before.node_guid, IDLE) == known(after.node_guid, IDLE)
        and known(before.port_guid, IDLE) == known(after.port_guid, IDLE)
        and known(before.policy, Policy.DOWN)
        == known(after.policy, Policy.DOWN)
    )


_Tell = Callable[[str, int], None]


def _teller(progress: Progress | None, plan: Plan) -> _Tell:
    total = sum(change.needed for change in plan.changes)
    done: dict[str, int] = {}
    lock = threading.Lock()

    def tell(stage: str, count: int) -> None:
        if progress is not None:
            with lock:
                done[stage] = done.get(stage, 0) + count
                progress(stage, done[stage], total)

    return tell


def _report(plan: Plan, dry_run: bool) -> BatchResult:
    """The result, or BatchFailed with it inside."""
    result = BatchResult(
        tuple(
            answer
            if isinstance(answer, VfResult)
            else _result(answer, dry_run)
            for answer in plan.answers
        ),
        tuple(plan.warnings),
    )
    if not result.ok:
        raise BatchFailed.of(result)
    return result


def _result(change: Change, dry_run: bool) -> VfResult:
    after = change.after
    if after is None and not change.tried and not dry_run:
        after = change.before
    return VfResult(
        change.vf.pci,
        change.wanted,
        change.before,
        after,
        change.mechanism.name,
        changed=change.needed
        if dry_run
        else change.tried and not _same(change.before, after),
        verified=change.verified
        and change.error is None
        and not (dry_run and change.needed),
        error=change.error,
    )
