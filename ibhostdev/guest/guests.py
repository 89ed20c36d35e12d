# SPDX-License-Identifier: Apache-2.0
"""VFs handed to guests, and taken back: plug and attach as one act.

What a user waits for here is libvirt, which works on a domain one thing at a
time, and the guest's own driver. So domains are served in parallel, libvirt
is asked for all of them at once, and plugging is one batch.
"""

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from ibhostdev.batch import BatchFailed, Progress, moves
from ibhostdev.errors import InvalidInput
from ibhostdev.guest import connection
from ibhostdev.guest.connection import URI, Connection
from ibhostdev.guest.errors import AttachedElsewhere, NotAttached
from ibhostdev.guest.events import Removals
from ibhostdev.guest.identities import identify, make_idle, note
from ibhostdev.guest.releasing import release
from ibhostdev.guest.results import (
    Attachment,
    Detachment,
    GuestsResult,
    Use,
)
from ibhostdev.guest.survey import Guest, Survey, uses
from ibhostdev.guest.tasks import (
    Task,
    Teller,
    explained,
    in_parallel,
    notes,
    of,
    report,
)
from ibhostdev.guest.xml import DomainXml, hostdev
from ibhostdev.host import Host
from ibhostdev.pci import PciAddress

PATIENCE = 30.0


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
            tasks.append(Task(one.domain, one.vif.pci, one.vif))
        survey = Survey(self._conn)
        guests = survey.guests(
            [(task.domain, task.pci) for task in tasks], live, config
        )
        warnings = notes(guests)
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
            return report(tasks, [*warnings, *failed.result.warnings])
        warnings += plugged.warnings
        tell = Teller(progress, "attach", len(tasks))
        try:
            in_parallel(
                guests,
                lambda guest, stop: self._attach(
                    guest, of(guest, tasks), tell, warnings, stop
                ),
            )
        finally:
            # Also after an interruption: what is not attached is nobody's.
            lost = [task for task in tasks if not task.done]
            make_idle(self._host, lost, warnings)
        return report(tasks, warnings, moves(vifs, plugged))

    def _attach(
        self,
        guest: Guest,
        tasks: Sequence[Task],
        tell: "Teller",
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
                with explained(task, self._host):
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
            note(
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
        tasks = [Task(one.domain, one.pci, None) for one in detachments]
        survey = Survey(self._conn)
        guests = survey.guests(
            [(task.domain, task.pci) for task in tasks], live, config
        )
        identify(self._host, tasks, guests)
        for guest in guests:
            for task in of(guest, tasks):
                _require_attached(guest, task.pci)
        warnings = notes(guests)
        deadline = time.monotonic() + timeout
        tell = Teller(progress, "detach", len(tasks))
        try:
            running = any(guest.on_live for guest in guests)
            with Removals.listen(self._conn, running) as removals:
                in_parallel(
                    guests,
                    lambda guest, stop: self._detach(
                        guest,
                        of(guest, tasks),
                        removals,
                        deadline,
                        tell,
                        warnings,
                        stop,
                    ),
                )
        finally:
            make_idle(
                self._host,
                [
                    task
                    for guest in guests
                    for task in of(guest, tasks)
                    if task.done and not survey.keeps(guest, task.pci)
                ],
                warnings,
                rebind,
                progress,
            )
        return report(tasks, warnings)

    def _detach(
        self,
        guest: Guest,
        tasks: Sequence[Task],
        removals: Removals,
        deadline: float,
        tell: "Teller",
        warnings: list[str],
        stop: threading.Event,
    ) -> None:
        module = connection.libvirt()
        try:
            if guest.on_live and guest.live is not None:
                release(self._host, guest, tasks, removals, deadline, stop)
            for task in tasks:
                if task.error is not None or stop.is_set():
                    continue
                with explained(task, self._host):
                    if guest.on_config and _has(guest.config, task.pci):
                        guest.domain.detachDeviceFlags(
                            hostdev(task.pci), module.VIR_DOMAIN_AFFECT_CONFIG
                        )
                        task.changed = True
                    task.done = True
                tell.one()
        finally:
            gone = {task.pci for task in tasks if task.done}
            note(
                guest,
                lambda noted: [vif for vif in noted if vif.pci not in gone],
                warnings,
            )


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
