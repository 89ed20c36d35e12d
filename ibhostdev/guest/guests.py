# SPDX-License-Identifier: Apache-2.0
"""VFs handed to guests, and taken back: plug and attach as one act.

What a user waits for here is libvirt, which works on a domain one thing at a
time, and the guest's own driver. So domains are served in parallel, libvirt
is asked for all of them at once, and plugging is one batch.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from ibhostdev.batch import (
    BatchFailed,
    Move,
    OnError,
    Progress,
    Vif,
    moves,
)
from ibhostdev.errors import IbHostdevError, InvalidInput
from ibhostdev.guest import connection
from ibhostdev.guest.connection import URI, Connection
from ibhostdev.guest.errors import (
    AttachedElsewhere,
    NotAttached,
    NotReleased,
    ReleaseRefused,
)
from ibhostdev.guest.events import Removals
from ibhostdev.guest.results import (
    Attachment,
    Detachment,
    GuestResult,
    GuestsFailed,
    GuestsResult,
    Use,
)
from ibhostdev.guest.survey import Guest, Survey, uses
from ibhostdev.guest.xml import (
    NAMESPACE,
    PREFIX,
    DomainXml,
    hostdev,
    read_hostdevs,
    write_vifs,
)
from ibhostdev.guid import Guid
from ibhostdev.host import Host
from ibhostdev.inventory import Pf, Vf
from ibhostdev.pci import PciAddress

PATIENCE = 30.0
# libvirt's own wait for a guest's answer (src/qemu/qemu_hotplug.c), and then
# some for the event to arrive.
_LIBVIRT_WAITS = 5.0
_EVENT_LAG = 1.0


@dataclass(slots=True)
class _Task:
    """A VF of a call, and what came of it so far."""

    domain: str
    pci: PciAddress
    vif: Vif | None
    changed: bool = False
    done: bool = False
    error: IbHostdevError | None = None

    @property
    def result(self) -> GuestResult:
        vif = self.vif
        return GuestResult(
            self.domain,
            self.pci,
            None if vif is None else vif.guid,
            self.changed,
            self.error,
            None if vif is None else vif.pkey,
        )


class Guests:
    """A host's VFs and the domains of a libvirt.

    ``libvirt`` is a URI, or a connection of the caller's, who runs libvirt's
    event loop then. Threads may share an instance.
    """

    def __init__(self, host: Host, libvirt: str | Connection = URI) -> None:
        self._host = host
        self._own = isinstance(libvirt, str)
        self._conn: Connection = (
            connection.connect(libvirt) if self._own else libvirt
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave libvirt; a connection of the caller's stays open."""
        if self._own and self._conn is not None:
            self._conn.close()
        self._conn = None

    def uses(self) -> dict[PciAddress, Use]:
        """Which domain has which VF; see uses()."""
        return uses(self._conn)

    # -- attach -------------------------------------------------------

    def attach(
        self,
        attachments: Sequence[Attachment],
        *,
        live: bool = False,
        config: bool = False,
        mechanism: str | None = None,
        progress: Progress | None = None,
    ) -> GuestsResult:
        """Plug VIFs, and give their VFs to domains: to the running guest
        (``live``), to its definition (``config``) or to both; if neither is
        said, to what there is, the running guest first.

        All VIFs are plugged, or none and nothing is attached. A VF that
        libvirt then fails to attach is made idle again; the others stay. A
        VF that the domain has already is plugged, and that is all. The
        identities are noted in the domains' metadata, for the hook.

        :raises InvalidInput: for a bad call, with the domain's name if it
            is not there or not in a state for it; nothing was touched
        :raises AttachedElsewhere: if another running domain has a VF;
            nothing was touched
        :raises GuestsFailed: when a VIF could not be plugged, or a VF could
            not be attached
        """
        tasks = []
        for one in attachments:
            if one.vif.pci is None:
                raise InvalidInput(
                    f"no VF was named for GUID {one.vif.guid}",
                    attribute="pci",
                    cure="name the VF by its PCI address",
                )
            tasks.append(_Task(one.domain, one.vif.pci, one.vif))
        survey = Survey(self._conn)
        guests = survey.guests(
            [(task.domain, task.pci) for task in tasks], live, config
        )
        warnings = _notes(guests)
        for task in tasks:
            use = survey.uses.get(task.pci)
            if use is None or use.domain == task.domain:
                continue
            if use.running:
                raise AttachedElsewhere(
                    f"domain {use.domain} has the VF",
                    task.pci,
                    cure=f"ibhostdev detach {use.domain} {task.pci}",
                    domain=task.domain,
                )
            warnings.append(
                f"{task.pci} is in the definition of domain {use.domain} "
                "too: only one of them can run"
            )
        vifs = [one.vif for one in attachments]
        try:
            plugged = self._host.plug(
                vifs, mechanism=mechanism, progress=progress
            )
        except BatchFailed as failed:
            answers = failed.result.results
            for task, answer in zip(tasks, answers, strict=True):
                task.error = answer.error
            return _report(tasks, [*warnings, *failed.result.warnings])
        warnings += plugged.warnings
        tell = _Teller(progress, "attach", len(tasks))
        try:
            _in_parallel(
                guests,
                lambda guest, stop: self._attach(
                    guest, _of(guest, tasks), tell, warnings, stop
                ),
            )
        finally:
            # Also after an interruption: what is not attached is nobody's.
            lost = [task for task in tasks if not task.done]
            self._make_idle(lost, warnings)
        return _report(tasks, warnings, moves(vifs, plugged))

    def _attach(
        self,
        guest: Guest,
        tasks: Sequence[_Task],
        tell: "_Teller",
        warnings: list[str],
        stop: threading.Event,
    ) -> None:
        module = connection.libvirt()
        try:
            for task in tasks:
                if stop.is_set():
                    break
                flags = 0
                if guest.on_live and not _has(guest.live, task.pci):
                    flags |= module.VIR_DOMAIN_AFFECT_LIVE
                if guest.on_config and not _has(guest.config, task.pci):
                    flags |= module.VIR_DOMAIN_AFFECT_CONFIG
                with _explained(task, self._host):
                    if flags:
                        guest.domain.attachDeviceFlags(
                            hostdev(task.pci), flags
                        )
                        task.changed = True
                    task.done = True
                tell.one()
        finally:
            vifs = [task.vif for task in tasks if task.done and task.vif]
            pcis = {vif.pci for vif in vifs}
            _note(
                guest,
                lambda noted: [v for v in noted if v.pci not in pcis] + vifs,
                warnings,
            )

    # -- detach -------------------------------------------------------

    def detach(
        self,
        detachments: Sequence[Detachment],
        *,
        live: bool = False,
        config: bool = False,
        timeout: float = PATIENCE,
        rebind: bool = True,
        progress: Progress | None = None,
    ) -> GuestsResult:
        """Take VFs back from domains and make them idle. ``live`` and
        ``config`` as for attach().

        A running guest has ``timeout`` seconds to let go of its VFs. What
        it keeps stays plugged and in its definition; the request stays too,
        so that calling again waits on. A VF that only the domain's metadata
        still names is made idle: so a call that was cut off is finished.

        :raises InvalidInput: as attach() does, and NotAttached for a VF
            that the domain neither has nor was to have; nothing was touched
        :raises GuestsFailed: when a VF was not released or not made idle
        """
        tasks = [_Task(one.domain, one.pci, None) for one in detachments]
        survey = Survey(self._conn)
        guests = survey.guests(
            [(task.domain, task.pci) for task in tasks], live, config
        )
        self._identify(tasks, guests)
        for guest in guests:
            for task in _of(guest, tasks):
                _require_attached(guest, task.pci)
        warnings = _notes(guests)
        deadline = time.monotonic() + timeout
        tell = _Teller(progress, "detach", len(tasks))
        try:
            running = any(guest.on_live for guest in guests)
            with Removals.listen(self._conn, running) as removals:
                _in_parallel(
                    guests,
                    lambda guest, stop: self._detach(
                        guest,
                        _of(guest, tasks),
                        removals,
                        deadline,
                        tell,
                        warnings,
                        stop,
                    ),
                )
        finally:
            self._make_idle(
                [
                    task
                    for guest in guests
                    for task in _of(guest, tasks)
                    if task.done and not survey.keeps(guest, task.pci)
                ],
                warnings,
                rebind,
                progress,
            )
        return _report(tasks, warnings)

    def _detach(
        self,
        guest: Guest,
        tasks: Sequence[_Task],
        removals: Removals,
        deadline: float,
        tell: "_Teller",
        warnings: list[str],
        stop: threading.Event,
    ) -> None:
        module = connection.libvirt()
        try:
            if guest.on_live and guest.live is not None:
                self._release(guest, tasks, removals, deadline, stop)
            for task in tasks:
                if task.error is not None or stop.is_set():
                    continue
                with _explained(task, self._host):
                    if guest.on_config and _has(guest.config, task.pci):
                        guest.domain.detachDeviceFlags(
                            hostdev(task.pci), module.VIR_DOMAIN_AFFECT_CONFIG
                        )
                        task.changed = True
                    task.done = True
                tell.one()
        finally:
            gone = {task.pci for task in tasks if task.done}
            _note(
                guest,
                lambda noted: [vif for vif in noted if vif.pci not in gone],
                warnings,
            )

    def _release(
        self,
        guest: Guest,
        tasks: Sequence[_Task],
        removals: Removals,
        deadline: float,
        stop: threading.Event,
    ) -> None:
        """Have the running guest let go of VFs, and wait until it has.

        A call that waits for the guest's answer has libvirt give the VF back
        to its driver there and then, domains in parallel; after one that does
        not wait, a single thread of libvirt's does it for all domains
        (src/qemu/qemu_driver.c). But a guest that is slow, as one with native
        PCIe hot-plug is that blinks its attention indicator for 5 s, or that
        is dead, would be waited for VF by VF: the first such answer has the
        others asked all at once.
        """
        assert guest.live is not None
        module = connection.libvirt()
        live = module.VIR_DOMAIN_AFFECT_LIVE
        slow = False
        asked: dict[PciAddress, str] = {}
        for task in tasks:
            if stop.is_set():
                break
            if task.pci not in guest.live.hostdevs:
                continue
            alias = guest.live.hostdevs[task.pci] or ""
            slow = slow or deadline - time.monotonic() < _LIBVIRT_WAITS
            try:
                if slow:
                    guest.domain.detachDeviceAlias(alias, live)
                else:
                    guest.domain.detachDeviceFlags(hostdev(task.pci), live)
                    soon = time.monotonic() + _EVENT_LAG
                    slow = not removals.wait(guest.name, [alias], soon, stop)
            except module.libvirtError as error:
                # Else it is an earlier request, still unanswered; or the VF,
                # or the whole guest, went before it could be asked.
                if not connection.is_pending(error) and task.pci in self._held(
                    guest
                ):
                    task.error = connection.explain(
                        error, guest.name, task.pci, self._host
                    )
                    continue
            asked[task.pci] = alias
        removals.wait(guest.name, asked.values(), deadline, stop)
        # The last word is the domain's own: events can be lost.
        held = self._held(guest)
        for task in tasks:
            if task.pci in asked and task.pci not in held:
                task.changed = True
            elif task.pci in asked:
                task.error = _kept(
                    guest.name,
                    task.pci,
                    removals.refused(guest.name, asked[task.pci]),
                )

    def _held(self, guest: Guest) -> Mapping[PciAddress, str | None]:
        """What the running guest has of VFs at this moment; everything if
        nobody can tell."""
        assert guest.live is not None
        module = connection.libvirt()
        try:
            if not guest.domain.isActive():
                return {}
            return read_hostdevs(guest.domain.XMLDesc(0))
        except module.libvirtError as error:
            if error.get_error_code() == module.VIR_ERR_NO_DOMAIN:
                return {}
            return guest.live.hostdevs

    # -- identities ---------------------------------------------------

    def _identify(
        self, tasks: Sequence[_Task], guests: Iterable[Guest]
    ) -> None:
        """Which identities the VFs have while they are attached: afterwards
        a VF that another one was given must not be made idle. The kernel's
        word, else the domain's metadata."""
        for guest in guests:
            for task in _of(guest, tasks):
                for side in (guest.live, guest.config):
                    if side is not None and task.vif is None:
                        task.vif = side.vif(task.pci)
        located = self._host.locate([task.pci for task in tasks])
        indices: dict[PciAddress, list[int]] = {}
        pfs: dict[PciAddress, Pf] = {}
        for vf in located:
            if isinstance(vf, Vf):
                pfs[vf.pf.pci] = vf.pf
                indices.setdefault(vf.pf.pci, []).append(vf.index)
        shown: dict[PciAddress, Guid] = {}
        for pci, pf in pfs.items():
            for port in pf.ports:
                try:
                    states = self._host.survey(
                        pf.on_port(port.number), indices[pci]
                    )
                except IbHostdevError:
                    continue  # unplug will tell
                for index in indices[pci]:
                    if index in states and (owner := states[index].owner):
                        shown.setdefault(pf.vf_address(index), owner)
        for task in tasks:
            guid = shown.get(task.pci)
            if guid is not None and (
                task.vif is None or task.vif.guid != guid
            ):
                task.vif = Vif(task.pci, guid)

    def _make_idle(
        self,
        tasks: Sequence[_Task],
        warnings: list[str],
        rebind: bool = True,
        progress: Progress | None = None,
    ) -> None:
        """Unplug, the rest going on where one fails. A VF that a guest has
        the engine refuses to make idle."""
        due = {task.vif.guid: task for task in tasks if task.vif is not None}
        if not due:
            return
        try:
            outcome = self._host.unplug(
                [task.vif for task in due.values() if task.vif is not None],
                rebind=rebind,
                on_error=OnError.CONTINUE,
                progress=progress,
            )
        except BatchFailed as failed:
            outcome = failed.result
        except IbHostdevError as error:
            for task in due.values():
                task.error = task.error or error
            return
        warnings += outcome.warnings
        for task, one in zip(due.values(), outcome.results, strict=True):
            if one.error is None:
                continue
            if task.error is None:
                task.error = one.error
            else:
                warnings.append(f"{task.pci} is not idle: {one.error}")


def _of(guest: Guest, tasks: Iterable[_Task]) -> list[_Task]:
    return [task for task in tasks if task.domain == guest.name]


def _has(side: DomainXml | None, pci: PciAddress) -> bool:
    return side is not None and pci in side.hostdevs


def _require_attached(guest: Guest, pci: PciAddress) -> None:
    sides = []
    if guest.on_live:
        sides.append(guest.live)
    if guest.on_config:
        sides.append(guest.config)
    for side in sides:
        if side is not None and (
            pci in side.hostdevs or side.vif(pci) is not None
        ):
            return
    raise NotAttached(
        f"domain {guest.name} does not have the VF",
        pci,
        cure="see who has it by 'ibhostdev list'; if nobody, make it idle by "
        "'ibhostdev unplug'",
        domain=guest.name,
    )


@contextmanager
def _explained(task: _Task, host: Host) -> Iterator[None]:
    """What libvirt objects to becomes the error of the task."""
    try:
        yield
    except connection.libvirt().libvirtError as error:
        task.error = connection.explain(error, task.domain, task.pci, host)


def _kept(domain: str, pci: PciAddress, refused: bool) -> IbHostdevError:
    """Why a guest still has a VF."""
    if refused:
        return ReleaseRefused(
            "the guest refuses to let go of the VF",
            pci,
            cure="see the guest's kernel log, or shut it down",
            domain=domain,
        )
    return NotReleased(
        "the guest did not let go of the VF in time and still has it",
        pci,
        cure="see that its system has booted and handles PCI hot-plug, then "
        "detach again; or shut it down",
        domain=domain,
    )


def _note(
    guest: Guest,
    change: Callable[[list[Vif]], list[Vif]],
    warnings: list[str],
) -> None:
    """Change what the domain's metadata says of VIFs, where that is said."""
    module = connection.libvirt()
    for wanted, side, flag in (
        (guest.on_live, guest.live, module.VIR_DOMAIN_AFFECT_LIVE),
        (guest.on_config, guest.config, module.VIR_DOMAIN_AFFECT_CONFIG),
    ):
        if not wanted or side is None:
            continue
        noted = list(side.vifs)
        now = change(list(noted))
        if now == noted:
            continue
        try:
            guest.domain.setMetadata(
                module.VIR_DOMAIN_METADATA_ELEMENT,
                write_vifs(now),
                PREFIX,
                NAMESPACE,
                flag,
            )
        except module.libvirtError as error:
            # A guest that has ended meanwhile has taken it along.
            if error.get_error_code() not in (
                module.VIR_ERR_NO_DOMAIN,
                module.VIR_ERR_OPERATION_INVALID,
            ):
                warnings.append(
                    f"the metadata of domain {guest.name} could not be "
                    "changed, so the hook will not know of its VFs: "
                    f"{connection.said(error)}"
                )


def _in_parallel(
    guests: Sequence[Guest], work: Callable[[Guest, threading.Event], None]
) -> None:
    """Domains at once, as many as libvirt's daemon has threads for by
    default. An interruption lets each of them end its step."""
    stop = threading.Event()
    if len(guests) < 2:
        for guest in guests:
            work(guest, stop)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(len(guests), 16)) as pool:
        jobs = [pool.submit(work, guest, stop) for guest in guests]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            stop.set()
            raise


class _Teller:
    """Progress of a stage, told by several threads."""

    def __init__(
        self, progress: Progress | None, stage: str, total: int
    ) -> None:
        self._progress = progress
        self._stage = stage
        self._total = total
        self._done = 0
        self._lock = threading.Lock()

    def one(self) -> None:
        with self._lock:
            self._done += 1
            if self._progress is not None:
                self._progress(self._stage, self._done, self._total)


def _notes(guests: Iterable[Guest]) -> list[str]:
    return [
        note
        for guest in guests
        for xml in (guest.live, guest.config)
        if xml is not None
        for note in xml.notes
    ]


def _report(
    tasks: Sequence[_Task],
    warnings: Iterable[str],
    moved: Iterable[Move] = (),
) -> GuestsResult:
    """The result, or GuestsFailed with it inside."""
    done = {task.pci for task in tasks if task.done}
    result = GuestsResult(
        tuple(task.result for task in tasks),
        tuple(dict.fromkeys(warnings)),
        tuple(move for move in moved if move.target in done),
    )
    if not result.ok:
        raise GuestsFailed.of(result)
    return result
