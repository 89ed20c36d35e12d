# SPDX-License-Identifier: Apache-2.0
"""Adapters, what sets the identities of their VFs, and whether those are
enabled."""

from collections.abc import Iterator

from ibhostdev.doctor.findings import (
    LINK,
    SRIOV,
    Finding,
    Patient,
    Severity,
    attribute,
    firmware,
    problems,
    some,
)
from ibhostdev.errors import IbHostdevError
from ibhostdev.host.vendor import require_daemon
from ibhostdev.host.views import View
from ibhostdev.inventory import DEVICES, EBRCTL, Family, Pf, base_name

_MELLANOX = b"0x15b3"
# Classes of PCI functions (include/linux/pci_ids.h). NVIDIA's bridges and the
# management function of a BlueField are of others.
_NETWORK = b"0x02"
_INFINIBAND = b"0x0207"
_DRIVERS = ("mlx5_core", "mlx4_core")


def adapters(patient: Patient) -> Iterator[Finding]:
    """PFs with an InfiniBand port; adapters that are none, and why."""
    check = "adapters"
    if patient.views:
        names = [view.pf.pci for view in patient.views]
        yield Finding(
            check,
            Severity.OK,
            f"{len(names)} PFs with an InfiniBand port"
            if len(names) > 1
            else "a PF with an InfiniBand port",
            some(names),
        )
    others = [*_ill(patient), *_other_adapters(patient)]
    yield from others
    if not patient.views and not problems(others):
        yield Finding(
            check,
            Severity.PROBLEM,
            "this host has no adapter with InfiniBand ports and SR-IOV to "
            "share among guests",
            cure="check the card with 'lspci -d 15b3:', and that firmware has "
            f"SR-IOV on: {firmware('ADDRESS', SRIOV)}",
        )


def _ill(patient: Patient) -> Iterator[Finding]:
    for error in patient.host.left_out():
        what = IbHostdevError(
            error.message, None, error.attribute, error.errno
        )
        yield Finding(
            "adapters",
            Severity.PROBLEM,
            f"cannot be looked at: {what}",
            error.device,
            error.cure,
        )


def _other_adapters(patient: Patient) -> Iterator[Finding]:
    sysfs = patient.host.sysfs
    known = {str(view.pf.pci) for view in patient.views}
    (devices,) = sysfs.listdir([DEVICES])
    if isinstance(devices, int):
        return
    vendors = sysfs.read([f"{DEVICES}/{pci}/vendor" for pci in devices])
    kinds = sysfs.read([f"{DEVICES}/{pci}/class" for pci in devices])
    # Beside PFs at work, an adapter that is for Ethernet is meant to be.
    wanted = _INFINIBAND if patient.views else _NETWORK
    ours = [
        pci
        for pci, vendor, kind in zip(devices, vendors, kinds, strict=True)
        if vendor == _MELLANOX
        and pci not in known
        and isinstance(kind, bytes)
        and kind.startswith(wanted)
    ]
    physfns = sysfs.readlink([f"{DEVICES}/{pci}/physfn" for pci in ours])
    totals = sysfs.read([f"{DEVICES}/{pci}/sriov_totalvfs" for pci in ours])
    drivers = sysfs.readlink([f"{DEVICES}/{pci}/driver" for pci in ours])
    for pci, physfn, total, driver in zip(
        ours, physfns, totals, drivers, strict=True
    ):
        if isinstance(physfn, str):
            continue
        if isinstance(driver, str) and base_name(driver) not in _DRIVERS:
            yield Finding(
                "adapters",
                Severity.OK,
                f"is on {base_name(driver)}: as a whole for a guest",
                pci,
            )
            continue
        if isinstance(total, int):
            what = "has no SR-IOV capability"
            cure = firmware(pci, SRIOV)
        elif isinstance(driver, int):
            what = "has no driver"
            cure = "'modprobe mlx5_core' (ConnectX-3: 'modprobe mlx4_core')"
        else:
            what = f"is on {base_name(driver)}, but shows no InfiniBand port"
            cure = (
                "'modprobe mlx5_ib' (ConnectX-3: 'modprobe mlx4_ib'); if its "
                f"ports are Ethernet and are not to be: "
                f"{firmware(pci, LINK)}"
            )
        # With other PFs at work it may be meant that way.
        severity = Severity.NOTE if patient.views else Severity.PROBLEM
        yield Finding("adapters", severity, what, pci, cure)


def mechanism(patient: Patient) -> Iterator[Finding]:
    """What sets the VFs' identities, the network device it needs, and what
    a second choice means."""
    for view in patient.views:
        pf = view.pf
        if view.mechanism is None:
            # Without VFs there is nothing to be served.
            if pf.family is Family.MLX4 and not pf.numvfs:
                continue
            yield Finding(
                "mechanism",
                Severity.PROBLEM,
                "nothing can set the identities of its VFs: "
                + "; ".join(f"{n}: {why}" for n, why in view.against.items()),
                pf.pci,
                _netdev_cure(pf),
            )
        elif view.mechanism == EBRCTL:
            yield from _last_resort(view)
        elif "mlx5_netlink" in view.against and pf.family is not Family.MLX4:
            yield Finding(
                "mechanism",
                Severity.WARNING,
                f"{view.mechanism} serves as second choice "
                f"(mlx5_netlink: {view.against['mlx5_netlink']}): plugging "
                "works, but the Neutron agent, which reads back by netlink, "
                "does not see the GUIDs",
                pf.pci,
                _netdev_cure(pf),
            )
        else:
            yield Finding(
                "mechanism",
                Severity.OK,
                f"{view.mechanism} sets the identities of its VFs",
                pf.pci,
            )


def _last_resort(view: View) -> Iterator[Finding]:
    pf = view.pf
    yield Finding(
        "mechanism",
        Severity.WARNING,
        "ebrctl serves as the last resort ("
        + "; ".join(f"{n}: {why}" for n, why in view.against.items())
        + "): each VF takes a process and its daemon's time, nothing shows "
        "whether it was done, and the link stays down until the Neutron "
        "agent raises it",
        pf.pci,
        _netdev_cure(pf),
    )
    try:
        require_daemon()
    except IbHostdevError as error:
        yield Finding(
            "mechanism",
            Severity.PROBLEM,
            f"{error.device} {error.message}",
            pf.pci,
            error.cure,
        )


def _netdev_cure(pf: Pf) -> str:
    if pf.netdev is None:
        return (
            "'modprobe ib_ipoib'; if the PF's network device is in another "
            "namespace, move it to this one ('ip link set … netns') or run "
            "there ('ip netns exec …')"
        )
    return (
        f"run in the network namespace of {pf.netdev.name}, or move it to "
        "this one ('ip link set … netns')"
    )


def enabled(patient: Patient) -> Iterator[Finding]:
    """VFs not enabled; drivers that delay it."""
    some = any(view.pf.numvfs for view in patient.views)
    for view in patient.views:
        pf = view.pf
        severity = Severity.WARNING if some else Severity.PROBLEM
        if not pf.totalvfs:
            yield Finding(
                "VFs",
                severity,
                "firmware offers no VFs",
                pf.pci,
                firmware(pf.pci, SRIOV),
            )
        elif not pf.numvfs:
            yield Finding(
                "VFs",
                severity,
                f"none of {pf.totalvfs} VFs is enabled",
                pf.pci,
                f"'echo {pf.totalvfs} > {attribute(pf, 'sriov_numvfs')}'",
            )
        elif len(view.vfs) < pf.numvfs:
            yield Finding(
                "VFs",
                Severity.PROBLEM,
                f"{pf.numvfs} VFs are enabled, but only {len(view.vfs)} are "
                "there",
                pf.pci,
                "look into the kernel log, and enable the VFs anew",
            )
        else:
            yield Finding(
                "VFs",
                Severity.OK,
                f"{pf.numvfs} of {pf.totalvfs} VFs are enabled",
                pf.pci,
            )
        if pf.totalvfs and not pf.numvfs and pf.autoprobe:
            yield Finding(
                "VFs",
                Severity.NOTE,
                "enabling VFs takes long: the host's own driver probes each "
                "(sriov_drivers_autoprobe is on)",
                pf.pci,
                "when all VFs are for guests, before enabling them: "
                f"'echo 0 > {attribute(pf, 'sriov_drivers_autoprobe')}'",
            )
