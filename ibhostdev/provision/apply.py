# SPDX-License-Identifier: Apache-2.0
"""Making a host what it is to be.

All is looked at before anything is touched. Then, in this order: autoprobe
off, VFs made, identities in one batch while no driver has the VFs, autoprobe
as it is to stay, drivers bound, many at once. So no VF is bound twice.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from errno import EACCES, EPERM, EROFS
from functools import partial

from ibhostdev.batch import (
    BatchFailed,
    BatchResult,
    Move,
    OnError,
    Progress,
    Vif,
    moves,
)
from ibhostdev.errors import (
    AccessDenied,
    CommandFailed,
    DeviceInUse,
    DeviceNotFound,
    GuidConflict,
    IbHostdevError,
)
from ibhostdev.guid import IDLE, Guid
from ibhostdev.host import Host
from ibhostdev.inventory import DEVICES, Family, Policy, Vf, VfState
from ibhostdev.pci import PciAddress
from ibhostdev.provision.found import Found, find
from ibhostdev.provision.health import is_dead
from ibhostdev.provision.marks import Mark, Marks
from ibhostdev.provision.report import Claims, PfReport, Report, VfReport
from ibhostdev.provision.restoring import idle
from ibhostdev.provision.wish import NO_DRIVER, PfWish

_NOBODY = Claims()


def apply(
    host: Host,
    wishes: Sequence[PfWish],
    claims: Claims = _NOBODY,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Make the host's PFs what is wished for, or only tell what that would
    change. PFs that no wish names are not touched, nor is what ``claims``
    has, nor a VF in a guest's hands.

    What goes wrong with a PF or VF is in the report, and does not stop the
    others; a repeated call goes on from there.

    :raises InvalidInput, DeviceNotFound: for a wish that cannot be; nothing
        was touched
    :raises DeviceInUse: if VFs would have to go that a guest has; likewise
    :raises GuidConflict: for a GUID that a VF has whose PF no wish names;
        likewise
    """
    with nullcontext() if dry_run else Marks(host.run_dir).alone():
        work = _Work(host, find(host, wishes), claims, progress)
        work.spare_guests()
        work.spare_others()
        if dry_run:
            work.foresee()
        else:
            work.carry_out()
        return work.report()


class _Work:
    """One call, from what was found to what became of it."""

    def __init__(
        self,
        host: Host,
        found: Sequence[Found],
        claims: Claims,
        progress: Progress | None,
    ) -> None:
        self.host = host
        self.found = found
        self.claims = claims
        self.progress = progress
        self.marks = Marks(host.run_dir)
        self.marked: dict[PciAddress, Mark] = {}
        for one in found:
            mark = self.marks.get(one.pf.pci)
            if mark is not None:
                self.marked[one.pf.pci] = mark
        self.pfs = {
            one.pf.pci: PfReport(
                one.pf.pci,
                one.pf.numvfs,
                one.pf.numvfs,
                one.pf.autoprobe,
                one.pf.autoprobe,
            )
            for one in found
        }
        for pci, report in self.pfs.items():
            if is_dead(host.netlink, pci):
                report.error = CommandFailed(
                    "its firmware is dead, and is not asked",
                    pci,
                    "devlink health",
                    cure=f"devlink health show pci/{pci}; then reset it "
                    f"(mlxfwreset -d {pci} reset), or the host",
                )
        self.vfs: dict[tuple[PciAddress, int], VfReport] = {}
        self.warnings: list[str] = []
        self.moves: list[Move] = []
        self.notes = [note for one in found for note in one.notes]

    def report(self) -> Report:
        return Report(
            list(self.pfs.values()),
            [self.vfs[key] for key in sorted(self.vfs)],
            self.warnings,
            self.notes,
            self.moves,
        )

    # -- before anything is touched -----------------------------------

    def spare_guests(self) -> None:
        for one in self._ready():
            if not one.makes:
                continue
            held = [
                f"{vf.pci} ({self.claims.vfs.get(vf.pci, 'a guest')})"
                for vf in self.host.vfs(one.pf)
                if vf.in_use
            ]
            if held:
                raise DeviceInUse(
                    f"cannot have {one.vfs} VFs in place of "
                    f"{one.pf.numvfs}: guests have {', '.join(held)}",
                    one.pf.pci,
                    "sriov_numvfs",
                    cure="detach the VFs from their guests first",
                )

    def spare_others(self) -> None:
        """A plug would take a GUID from whoever has it."""
        wanted = {
            guid: one.wish
            for one in self.found
            for identity in one.identities.values()
            for guid in identity.guids
        }
        mine = {one.pf.pci for one in self.found}
        for pf in self.host.pfs if wanted else ():
            if pf.pci in mine or not pf.numvfs:
                continue
            if is_dead(self.host.netlink, pf.pci):
                continue
            try:
                states = self.host.survey(pf)
            except IbHostdevError as error:
                self.warnings.append(f"not asked for its GUIDs: {error}")
                continue
            for index, state in states.items():
                for guid in {state.port_guid, state.node_guid} & set(wanted):
                    assert guid is not None
                    raise GuidConflict(
                        f"GUID {guid} is on {pf.vf_address(index)}, whose PF "
                        f"{pf.pci} is not in the file",
                        str(wanted[guid].place),
                        "guids",
                        cure="give the VF another GUID, or unplug that one",
                    )

    # -- the steps ----------------------------------------------------

    def carry_out(self) -> None:
        try:
            self._make()
            self._look()
            self._take_away()
            self._identify()
        finally:
            # Also if somebody wants it to end: only SIGKILL leaves it off.
            self._set_autoprobe()
        self._bind()
        self._finish()

    def _make(self) -> None:
        makers = []
        for one in self._ready():
            if not one.makes:
                continue
            pci = one.pf.pci
            before = self.marked.get(pci)
            autoprobe = before.autoprobe if before else one.pf.autoprobe
            try:
                self.marks.put(pci, Mark(autoprobe))
                self.marked[pci] = Mark(autoprobe)
                self._write(pci, "sriov_drivers_autoprobe", False)
                makers.append((one, before))
            except IbHostdevError as error:
                self.pfs[pci].error = error
        outcomes = self.host.make(
            [(one.pf.pci, one.vfs) for one, _ in makers], self.progress
        )
        for (one, before), outcome in zip(makers, outcomes, strict=True):
            pci = one.pf.pci
            self.pfs[pci].error = outcome.error
            if not outcome.changed and before is None:
                # They are somebody's, as they were.
                self._finally(pci, self.marked.pop(pci).autoprobe)
                self.marks.drop(pci)

    def _look(self) -> None:
        """The PFs and VFs as they are now."""
        now = {pf.pci: pf for pf in self.host.pfs}
        for one in self.found:
            report = self.pfs[one.pf.pci]
            if one.pf.pci not in now:
                report.vfs = 0
                report.error = report.error or DeviceNotFound(
                    "the PF vanished",
                    one.pf.pci,
                    cure="try again when its driver is bound",
                )
                continue
            one.pf = now[one.pf.pci]
            report.vfs = one.pf.numvfs
            if report.error is None:
                self._look_at_vfs(one)

    def _look_at_vfs(self, one: Found) -> None:
        for vf in self.host.vfs(one.pf):
            identity = one.identities.get(vf.index)
            self.vfs[one.pf.pci, vf.index] = VfReport(
                one.pf.pci,
                vf.index,
                vf.pci,
                identity.guid if identity else None,
                driver_before=vf.driver or "",
                driver=vf.driver or "",
                pkey=identity.pkey if identity else None,
            )

    def _ready(self) -> list[Found]:
        return [
            one for one in self.found if self.pfs[one.pf.pci].error is None
        ]

    def _is_new(self, one: Found, index: int) -> bool:
        mark = self.marked.get(one.pf.pci)
        return mark is not None and mark.has(index)

    def _take_away(self) -> None:
        """What old tenants left on VFs that were made anew: the driver gives
        it back to them (mlx5/core/sriov.c)."""
        left: list[tuple[Vif, VfState, VfReport]] = []
        for one in self._ready():
            if one.pf.pci not in self.marked:
                continue
            try:
                states = self.host.survey(one.pf, range(one.pf.numvfs))
            except IbHostdevError as error:
                self.pfs[one.pf.pci].error = error
                continue
            for index, state in states.items():
                report = self.vfs.get((one.pf.pci, index))
                owner = state.owner
                if report is not None and report.guid is None:
                    report.before = state
                if (
                    report is None
                    or owner in (None, report.guid)
                    or not self._is_new(one, index)
                ):
                    continue
                assert owner is not None
                if report.guid is None and owner in self.claims.guids:
                    self.notes.append(
                        f"{report.pci} keeps GUID {owner}: "
                        f"{self.claims.guids[owner]} claims it"
                    )
                    continue
                left.append(
                    (Vif(report.pci, owner), idle(one.pf.family), report)
                )
        # A GUID is named once in a batch; a fault may have left it twice.
        while left:
            first = {one[0].guid: one for one in left}
            batch = list(first.values())
            left = [one for one in left if one not in batch]
            vifs, idles, reports = zip(*batch, strict=True)
            back = partial(self.host.restore, vifs, idles)
            self._run(back, vifs, reports)

    def _identify(self, dry_run: bool = False) -> None:
        """One batch for each policy; there are mostly no two."""
        groups: dict[Policy | None, list[tuple[Vif, VfReport]]] = {}
        for one in self._ready():
            for index, identity in one.identities.items():
                report = self.vfs.get((one.pf.pci, index))
                if report is not None and report.pci is not None:
                    groups.setdefault(identity.policy, []).append(
                        (one.vif(index), report)
                    )
        for policy, group in groups.items():
            vifs, reports = zip(*group, strict=True)
            plug = partial(
                self.host.plug,
                vifs,
                policy=policy,
                on_error=OnError.CONTINUE,
                dry_run=dry_run,
                progress=self.progress,
            )
            self._run(plug, vifs, reports)
            for report in reports if dry_run else ():
                report.after = None

    def _run(
        self,
        call: Callable[[], BatchResult],
        vifs: Sequence[Vif],
        reports: Iterable[VfReport],
    ) -> None:
        """A batch, and what became of each of its VFs."""
        try:
            result = call()
        except BatchFailed as error:
            result = error.result
        except IbHostdevError as error:
            for report in reports:
                report.error = error
            return
        self.warnings += result.warnings
        self.moves += moves(vifs, result)
        for report, one in zip(reports, result.results, strict=True):
            # One that was made idle first has two parts.
            if report.before is None:
                report.before = one.before
            report.after = one.after
            report.changed = report.changed or one.changed
            report.verified = one.verified
            report.mechanism, report.error = one.mechanism, one.error

    def _set_autoprobe(self) -> None:
        for one in self.found:
            pci = one.pf.pci
            mark = self.marked.get(pci)
            wanted = one.wish.autoprobe
            if wanted is None and mark is not None:
                wanted = mark.autoprobe
            if wanted is not None and self.pfs[pci].error is None:
                self._finally(pci, wanted)
            elif mark is not None:
                self._finally(pci, mark.autoprobe)

    def _finally(self, pci: PciAddress, autoprobe: bool) -> None:
        report = self.pfs[pci]
        try:
            self._write(pci, "sriov_drivers_autoprobe", autoprobe)
        except IbHostdevError as error:
            report.error = report.error or error
        else:
            report.autoprobe = autoprobe

    def _write(self, pci: PciAddress, file: str, on: bool) -> None:
        """A truth value to a PF's file, unless it is there already."""
        path = f"{DEVICES}/{pci}/{file}"
        value = b"1" if on else b"0"
        if self.host.sysfs.read([path]) == [value]:
            return
        (code,) = self.host.sysfs.write([(path, value)])
        if code:
            denied = code in (EACCES, EPERM, EROFS)
            raise (AccessDenied if denied else CommandFailed)(
                "refused",
                pci,
                file,
                code,
                cure="run as root" if denied else "look into the kernel log",
            )

    def _bind(self) -> None:
        """One whose identity could not be had stays on no driver."""
        wishes = []
        for one in self._ready():
            now = {vf.index: vf for vf in self.host.vfs(one.pf)}
            for index in range(one.pf.numvfs):
                report = self.vfs.get((one.pf.pci, index))
                if report is None or report.error is not None:
                    continue
                vf = now.get(index)
                if vf is None:
                    report.error = DeviceNotFound(
                        "the VF vanished",
                        report.pci,
                        cure="try again when its PF's driver is bound",
                    )
                    continue
                if self._is_others(vf):
                    continue
                wish = self._driver(one, vf)
                if wish is not None:
                    wishes.append((report, wish))
        outcomes = self.host.drive(
            [(vf, driver, guid) for _, (vf, driver, guid) in wishes],
            self.progress,
        )
        for (report, _), outcome in zip(wishes, outcomes, strict=True):
            report.bound, report.error = outcome.changed, outcome.error
        bound = {report.pci for report, _ in wishes if report.bound}
        for one in self._ready() if bound else ():
            for vf in self.host.vfs(one.pf):
                report = self.vfs.get((one.pf.pci, vf.index))
                if report is not None:
                    report.driver = vf.driver or ""

    def _is_others(self, vf: Vf) -> bool:
        return vf.in_use or vf.pci in self.claims.vfs

    def _driver(
        self, one: Found, vf: Vf
    ) -> tuple[PciAddress, str | None, Guid | None] | None:
        """What the engine is to be asked of a VF; None: nothing."""
        new = self._is_new(one, vf.index)
        identity = one.identities.get(vf.index)
        guid = identity.guids[-1] if identity else None
        if guid is None and new:
            guid = IDLE
        if one.pf.family is Family.MLX4:
            guid = None  # node GUIDs are not ours to give
        if one.wish.driver is not None:
            driver = "" if one.wish.driver == NO_DRIVER else one.wish.driver
            return vf.pci, driver, guid
        if new or (vf.driver and guid is not None):
            return vf.pci, None, guid
        return None

    def _finish(self) -> None:
        for pci, mark in self.marked.items():
            if self.pfs[pci].error is not None:
                continue
            left = [
                index
                for (pf, index), report in self.vfs.items()
                if pf == pci and report.error and mark.has(index)
            ]
            if left:
                self.marks.put(pci, mark._replace(vfs=left))
            else:
                self.marks.drop(pci)

    # -- what would be done -------------------------------------------

    def foresee(self) -> None:
        for one in self._ready():
            report = self.pfs[one.pf.pci]
            report.vfs = one.vfs
            mark = self.marked.get(one.pf.pci)
            if one.wish.autoprobe is not None:
                report.autoprobe = one.wish.autoprobe
            elif mark is not None:
                report.autoprobe = mark.autoprobe
            if one.makes:
                self._foresee_made(one)
            else:
                self._look_at_vfs(one)
        self._identify(dry_run=True)
        for one in self._ready():
            if not one.makes:
                self._foresee_drivers(one)

    def _foresee_made(self, one: Found) -> None:
        driver = one.wish.driver
        if driver is None:
            driver = one.pf.driver if one.pf.autoprobe else NO_DRIVER
        for index in range(one.vfs):
            identity = one.identities.get(index)
            self.vfs[one.pf.pci, index] = VfReport(
                one.pf.pci,
                index,
                None,
                identity.guid if identity else None,
                changed=identity is not None,
                driver="" if driver == NO_DRIVER else driver,
                bound=driver != NO_DRIVER,
                pkey=identity.pkey if identity else None,
            )

    def _foresee_drivers(self, one: Found) -> None:
        """But for those that will show an old identity, if they do."""
        for vf in self.host.vfs(one.pf):
            report = self.vfs[one.pf.pci, vf.index]
            if self._is_others(vf) or one.wish.driver is None:
                continue
            wanted = one.wish.driver
            report.driver = "" if wanted == NO_DRIVER else wanted
            report.bound = report.driver != report.driver_before
