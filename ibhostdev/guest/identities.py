# SPDX-License-Identifier: Apache-2.0
"""The identities of VFs in guests: which they are, where that is noted, and
made idle."""

from collections.abc import Callable, Iterable, Sequence

from ibhostdev.batch import BatchFailed, OnError, Progress, Vif
from ibhostdev.errors import IbHostdevError
from ibhostdev.guest import connection
from ibhostdev.guest.survey import Guest
from ibhostdev.guest.tasks import Task, of
from ibhostdev.guest.xml import NAMESPACE, PREFIX, write_vifs
from ibhostdev.guid import Guid
from ibhostdev.host import Host
from ibhostdev.inventory import Pf, Vf
from ibhostdev.pci import PciAddress


def identify(
    host: Host, tasks: Sequence[Task], guests: Iterable[Guest]
) -> None:
    """Which identities the VFs have while they are attached: afterwards
    a VF that another one was given must not be made idle. The kernel's
    word, else the domain's metadata."""
    for guest in guests:
        for task in of(guest, tasks):
            for side in (guest.live, guest.config):
                if side is not None and task.vif is None:
                    task.vif = side.vif(task.pci)
    located = host.locate([task.pci for task in tasks])
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
                states = host.survey(pf.on_port(port.number), indices[pci])
            except IbHostdevError:
                continue  # unplug will tell
            for index in indices[pci]:
                if index in states and (owner := states[index].owner):
                    shown.setdefault(pf.vf_address(index), owner)
    for task in tasks:
        guid = shown.get(task.pci)
        if guid is not None and (task.vif is None or task.vif.guid != guid):
            task.vif = Vif(task.pci, guid)


def note(
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


def make_idle(
    host: Host,
    tasks: Sequence[Task],
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
        outcome = host.unplug(
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
