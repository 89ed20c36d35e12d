# SPDX-License-Identifier: Apache-2.0
"""Running guests, made to let go of VFs."""

import threading
import time
from collections.abc import Mapping, Sequence

from ibhostdev.errors import IbHostdevError
from ibhostdev.guest import connection
from ibhostdev.guest.errors import NotReleased, ReleaseRefused
from ibhostdev.guest.events import Removals
from ibhostdev.guest.survey import Guest
from ibhostdev.guest.tasks import Task
from ibhostdev.guest.xml import hostdev, read_hostdevs
from ibhostdev.host import Host
from ibhostdev.pci import PciAddress

# libvirt's own wait for a guest's answer (src/qemu/qemu_hotplug.c), and then
# some for the event to arrive.
_LIBVIRT_WAITS = 5.0
_EVENT_LAG = 1.0


def release(
    host: Host,
    guest: Guest,
    tasks: Sequence[Task],
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
            if not connection.is_pending(error) and task.pci in _held(guest):
                task.error = connection.explain(
                    error, guest.name, task.pci, host
                )
                continue
        asked[task.pci] = alias
    removals.wait(guest.name, asked.values(), deadline, stop)
    # The last word is the domain's own: events can be lost.
    held = _held(guest)
    for task in tasks:
        if task.pci in asked and task.pci not in held:
            task.changed = True
        elif task.pci in asked:
            task.error = _kept(
                guest.name,
                task.pci,
                removals.refused(guest.name, asked[task.pci]),
            )


def _held(guest: Guest) -> Mapping[PciAddress, str | None]:
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
