# SPDX-License-Identifier: Apache-2.0
"""The way to libvirt: its module, a connection, its errors as ours.

libvirt-python is optional, and takes as long to import as a plug takes; only
what is called here imports it.
"""

import contextlib
import errno
import os
import re
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from ibhostdev.errors import IbHostdevError
from ibhostdev.guest.errors import (
    AttachedElsewhere,
    DomainNotFound,
    GuestError,
    IommuGroupShared,
    LibvirtDenied,
    LibvirtMissing,
    LibvirtUnreachable,
    NoFreePort,
    NoIommu,
    NotAttached,
    WrongDomainState,
)
from ibhostdev.host import Host
from ibhostdev.inventory import DEVICES, base_name
from ibhostdev.pci import PciAddress
from ibhostdev.process import log

URI = "qemu:///system"

Connection = Any  # libvirt.virConnect; libvirt-python has no types
Domain = Any  # libvirt.virDomain
_T = TypeVar("_T")

_IN_USE = re.compile(r"in use by driver \w+, domain (.+)$", re.MULTILINE)

_LOCK = threading.Lock()
_serving = False


def libvirt() -> Any:
    """libvirt-python.

    :raises LibvirtMissing: if it is not installed
    """
    try:
        import libvirt as module
    except ImportError as error:
        raise LibvirtMissing(
            f"libvirt-python cannot be imported ({error})",
            cure="install the package's extra 'libvirt', with pkg-config, "
            "a C compiler and libvirt's headers (libvirt-dev, "
            "libvirt-devel); with the Debian package python3-libvirt",
        ) from None
    return module


def connect(uri: str = URI, read_only: bool = False) -> Connection:
    """A connection to libvirt, with its events delivered by a thread.

    :raises LibvirtMissing, LibvirtUnreachable, LibvirtDenied:
    """
    module = libvirt()
    _serve_events(module)
    try:
        opened = module.openReadOnly(uri) if read_only else module.open(uri)
    except module.libvirtError as error:
        raise _unopened(error, uri) from error
    # A daemon that hangs is found out within 15 s; drivers that run in this
    # process have nothing to keep alive.
    with contextlib.suppress(module.libvirtError):
        opened.setKeepAlive(5, 3)
    return opened


def ask(uri: str | None, question: Callable[[Connection], _T]) -> _T | None:
    """What a libvirt says that is only read. Where nobody has named one,
    nothing that is wrong with it is worth more than a word: None.

    :raises GuestError: for one that was named
    """
    if uri is None and not at_hand():
        return None
    try:
        conn = connect(uri or URI, read_only=True)
        try:
            return question(conn)
        finally:
            conn.close()
    except IbHostdevError as error:
        if uri is not None:
            raise
        log.logger("ibhostdev").debug("not asked: %s", error)
        return None


def _serve_events(module: Any) -> None:
    """libvirt delivers events, and learns that a daemon hangs, only while
    somebody runs its event loop; one thread does for all connections."""
    global _serving
    with _LOCK:
        if _serving:
            return
        _serving = True
        # It would print each error to standard error, besides raising it.
        module.registerErrorHandler(lambda *_: None, None)
        module.virEventRegisterDefaultImpl()

    def serve() -> None:
        while True:
            module.virEventRunDefaultImpl()

    threading.Thread(target=serve, name="libvirt", daemon=True).start()


def _unopened(error: Any, uri: str) -> GuestError:
    module = libvirt()
    text = said(error)
    if error.get_error_code() in _denials(module) or (
        # Then libvirt's first number is an errno.
        error.get_error_code() == module.VIR_ERR_SYSTEM_ERROR
        and error.get_int1() in (errno.EACCES, errno.EPERM)
    ):
        return LibvirtDenied(
            f"libvirt refuses the connection: {text}",
            uri,
            "connect",
            cure="run as root, or as a member of the group libvirt",
        )
    return LibvirtUnreachable(
        f"no libvirt there: {text}",
        uri,
        "connect",
        cure="start its daemon (systemctl start libvirtd, or virtqemud), or "
        "name another one by --connect",
    )


def _denials(module: Any) -> tuple[int, ...]:
    return (
        module.VIR_ERR_AUTH_FAILED,
        module.VIR_ERR_AUTH_CANCELLED,
        module.VIR_ERR_AUTH_UNAVAILABLE,
        module.VIR_ERR_OPERATION_DENIED,
        module.VIR_ERR_ACCESS_DENIED,
    )


def said(error: Any) -> str:
    """libvirt's words. The text of the exception itself is whatever libvirt
    had to say last, and of another matter if it was made without libvirt."""
    return str(error.get_error_message() or error)


def explain(
    error: Any, domain: str, pci: PciAddress | None, host: Host | None
) -> GuestError:
    """Our error for a libvirtError that came of a domain, and maybe a VF of
    it. By libvirt's codes; by its words only where a code stands for many
    things. Those of QEMU are English everywhere, those of libvirt's daemon
    may be in the language of the machine: then they are told as they are.
    """
    module = libvirt()
    code, text = error.get_error_code(), said(error)
    origin = error.get_error_domain()
    kind: type[GuestError] = GuestError
    cure = "see the log of libvirt's daemon"
    message = text
    if code in _denials(module):
        kind = LibvirtDenied
        cure = "run as root, or as a member of the group libvirt"
    elif code == module.VIR_ERR_NO_DOMAIN:
        kind, cure = DomainNotFound, "see 'virsh list --all'"
        message = "libvirt has no such domain"
    elif code == module.VIR_ERR_DEVICE_MISSING:
        kind, message = NotAttached, "the domain does not have the VF"
    elif (code, origin) == (
        module.VIR_ERR_CONFIG_UNSUPPORTED,
        module.VIR_FROM_QEMU,
    ):
        kind = NoIommu
        message = f"the host cannot hand PCI devices to guests: {text}"
        cure = _iommu_cure(pci, host)
    elif (code, origin) == (
        module.VIR_ERR_OPERATION_INVALID,
        module.VIR_FROM_DOMAIN,
    ):
        kind = WrongDomainState
        cure = (
            "start it, or change its definition with --config; one without "
            "a definition can be changed only while it runs"
        )
    elif code == module.VIR_ERR_OPERATION_INVALID:
        if found := _IN_USE.search(text):
            kind = AttachedElsewhere
            message = f"domain {found[1]} has the VF"
            cure = f"ibhostdev detach {found[1]} {pci}"
    elif code == module.VIR_ERR_OPERATION_TIMEOUT:
        cure = "the domain is busy with another job: see 'virsh domjobinfo'"
    elif origin == module.VIR_FROM_RPC:
        kind = LibvirtUnreachable
        cure = "see whether libvirt's daemon still runs"
    elif code == module.VIR_ERR_INTERNAL_ERROR:
        if "No more available PCI" in text:
            kind = NoFreePort
            message = "the domain has no free PCI port for another device"
            cure = (
                "add <controller type='pci' model='pcie-root-port'/> to its "
                "definition, one for each VF to be attached while it runs, "
                "and start it anew"
            )
        elif "not viable" in text:
            kind = IommuGroupShared
            message = "other devices of its IOMMU group are the host's"
            cure = _group_cure(pci, host)
    return kind(message, pci, None, None, cure, domain)


def is_pending(error: Any) -> bool:
    """Whether QEMU says that it has asked the guest already to let go of the
    device, and waits for its answer."""
    code = error.get_error_code()
    return bool(
        code == libvirt().VIR_ERR_INTERNAL_ERROR
        and "already in the process of unplug" in said(error)
    )


def _iommu_cure(pci: PciAddress | None, host: Host | None) -> str:
    if pci is not None and host is not None and _group(pci, host) is not None:
        return "modprobe vfio-pci, then start libvirt's daemon anew"
    return (
        "enable the IOMMU (VT-d, AMD-Vi) in the firmware, and on Intel boot "
        "with intel_iommu=on"
    )


def _group_cure(pci: PciAddress | None, host: Host | None) -> str:
    cure = (
        "put the adapter into a slot behind ports with ACS, or give the "
        "other devices to the same guest"
    )
    if pci is None or host is None:
        return cure
    others = [device for device in _peers(pci, host) if device != pci]
    return f"beside {', '.join(others)}: {cure}" if others else cure


def _group(pci: PciAddress, host: Host) -> str | None:
    (link,) = host.sysfs.readlink([f"{DEVICES}/{pci}/iommu_group"])
    return base_name(link) if isinstance(link, str) else None


def _peers(pci: PciAddress, host: Host) -> list[str]:
    group = _group(pci, host)
    (members,) = host.sysfs.listdir([f"kernel/iommu_groups/{group}/devices"])
    return [] if isinstance(members, int) else members


def at_hand(run: str = "/run/libvirt") -> bool:
    """Whether a local daemon listens, without asking it anything."""
    return any(
        os.path.exists(f"{run}/{name}")
        for name in ("virtqemud-sock-ro", "libvirt-sock-ro")
    )
