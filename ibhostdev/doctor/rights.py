# SPDX-License-Identifier: Apache-2.0
"""Who may plug."""

import os
from collections.abc import Callable, Iterator

from ibhostdev.batch import BatchResult
from ibhostdev.doctor.findings import Finding, Patient, Severity
from ibhostdev.errors import IbHostdevError

# include/uapi/linux/capability.h
_CAP_DAC_OVERRIDE = 1
_CAP_NET_ADMIN = 12


def rights(patient: Patient) -> Iterator[Finding]:
    """Whether this process may do what plugging takes, or who is asked to."""
    if patient.privileged is not None:
        yield from _others_rights(patient.privileged)
        return
    found = list(_lock_rights(patient))
    if not patient.simulated:
        found += _process_rights(patient)
    yield from found
    if not found:
        yield Finding(
            "rights", Severity.OK, "this process may plug and unplug"
        )


def _others_rights(ask: Callable[[], BatchResult]) -> Iterator[Finding]:
    try:
        doubts = ask().warnings
    except IbHostdevError as error:
        what = error.message
        if error.errno:
            what += f": {os.strerror(error.errno)}"
        yield Finding(
            "rights", Severity.PROBLEM, what, error.device, error.cure
        )
        return
    yield Finding(
        "rights", Severity.OK, "the privileged side may be asked to plug"
    )
    for doubt in doubts:
        yield Finding(
            "rights",
            Severity.PROBLEM,
            f"of the privileged side: {doubt}",
            cure="correct the mapping in its configuration",
        )


def _as_root() -> str:
    """How to get rights: of who is not root, maybe by who may plug for him."""
    other = ", plug by '--privilege rootwrap'" if os.geteuid() else ""
    return f"run as root{other}"


def _lock_rights(patient: Patient) -> Iterator[Finding]:
    folder = patient.locks
    # What there is of it; the rest is made when it is needed.
    there = os.path.abspath(folder)
    while not os.path.exists(there):
        there = os.path.dirname(there)
    # Nobody is asked to plug on a simulated host.
    own = "run as root" if patient.simulated else _as_root()
    if not os.path.isdir(there):
        why, own = "is no folder", "make it one"
    elif os.statvfs(there).f_flag & os.ST_RDONLY:
        why = "is on a read-only file system"
        own = "mount a writable one there"
    elif not os.access(there, os.W_OK | os.X_OK, effective_ids=True):
        why = "is not writable"
    else:
        why = ""
    if why:
        yield Finding(
            "rights",
            Severity.PROBLEM,
            f"the locks of PFs cannot be made: {there} {why}",
            folder,
            f"{own}, or choose a folder with --run-dir that all users of "
            "ibhostdev on this host share",
        )


def _process_rights(patient: Patient) -> Iterator[Finding]:
    if _lacks(_CAP_NET_ADMIN) and any(
        view.mechanism == "mlx5_netlink" for view in patient.views
    ):
        yield Finding(
            "rights",
            Severity.PROBLEM,
            "this process lacks CAP_NET_ADMIN, which netlink takes",
            cure=f"{_as_root()}, or run with that capability",
        )
    sysfs = patient.host.sysfs.path
    if os.statvfs(sysfs).f_flag & os.ST_RDONLY:
        needed = any(
            view.mechanism in ("mlx5_sysfs", "mlx4_sysfs")
            for view in patient.views
        )
        yield Finding(
            "rights",
            Severity.PROBLEM if needed else Severity.WARNING,
            f"{sysfs} is mounted read-only"
            + ("" if needed else ": VFs cannot be bound anew after unplug"),
            sysfs,
            "mount it writable; of a container: run it privileged",
        )
    elif os.geteuid() != 0 and _lacks(_CAP_DAC_OVERRIDE):
        yield Finding(
            "rights",
            Severity.PROBLEM,
            "this process may not write to root's files in sysfs",
            sysfs,
            f"{_as_root()}, or run with CAP_DAC_OVERRIDE",
        )


def _lacks(capability: int) -> bool:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("CapEff:"):
                return not int(line.split()[1], 16) >> capability & 1
    return False
