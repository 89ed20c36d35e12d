# SPDX-License-Identifier: Apache-2.0
"""``ibhostdev doctor``: what would keep a plug from working, or make it slow.

Each check is a function that yields findings; a problem keeps plugs or
guests' links from working, a warning is a matter to look into, a note is good
to know.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ibhostdev.batch import BatchResult
from ibhostdev.cli.listing import View, views
from ibhostdev.cli.terminal import Cell, Line, filled
from ibhostdev.errors import IbHostdevError
from ibhostdev.guid import Guid
from ibhostdev.host import Host
from ibhostdev.inventory import (
    DEVICES,
    EBRCTL,
    Family,
    Pf,
    Policy,
    Vf,
    base_name,
)
from ibhostdev.vendor import require_daemon

# include/uapi/linux/capability.h
_CAP_DAC_OVERRIDE = 1
_CAP_NET_ADMIN = 12
_MELLANOX = b"0x15b3"
# Classes of PCI functions (include/linux/pci_ids.h). NVIDIA's bridges and the
# management function of a BlueField are of others.
_NETWORK = b"0x02"
_INFINIBAND = b"0x0207"
_DRIVERS = ("mlx5_core", "mlx4_core")
_SRIOV = "SRIOV_EN=1 NUM_OF_VFS=16"
_LINK = "LINK_TYPE_P1=1"
_NAMED = 3


class Severity(StrEnum):
    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """What a check has found, on which device if on one, and its cure."""

    check: str
    severity: Severity
    message: str
    device: str | None = None
    cure: str | None = None


@dataclass(frozen=True)
class Patient:
    """The host, and what the checks have in common."""

    host: Host
    views: Sequence[View]
    locks: str
    simulated: bool
    privileged: Callable[[], BatchResult] | None = None

    @property
    def vfs(self) -> Iterator[tuple[View, Vf]]:
        for view in self.views:
            for vf in view.vfs:
                yield view, vf


Check = Callable[[Patient], Iterable[Finding]]


def examine(
    host: Host,
    locks: str,
    simulated: bool,
    privileged: Callable[[], BatchResult] | None = None,
) -> list[Finding]:
    """What all checks find, in their order. ``locks`` is the run directory;
    of a simulated host nothing is asked that is this machine's.
    ``privileged`` has somebody else do an empty batch, who has the rights."""
    patient = Patient(host, views(host), locks, simulated, privileged)
    found: list[Finding] = []
    for check in CHECKS:
        found += check(patient)
    return found


def problems(findings: Sequence[Finding]) -> bool:
    return any(one.severity is Severity.PROBLEM for one in findings)


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    shown = ", ".join(names[:_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown


def _firmware(pci: str, settings: str) -> str:
    """How to change them. Debian has one tool for it, NVIDIA's MFT another of
    the same arguments."""
    tools = ("mstconfig", "mlxconfig")
    tool = next(filter(shutil.which, tools), None)
    where = "" if tool else " (of package mstflint)"
    command = f"{tool or tools[0]} -d {pci} set {settings}"
    return f"'{command}'{where}, then reboot"


def _attribute(pf: Pf, name: str) -> str:
    """The shortest path to it, for people."""
    return f"/sys/{DEVICES}/{pf.pci}/{name}"


# -- adapters -------------------------------------------------------------


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
            _some(names),
        )
    others = list(_other_adapters(patient))
    yield from others
    if not patient.views and not problems(others):
        yield Finding(
            check,
            Severity.PROBLEM,
            "this host has no adapter with InfiniBand ports and SR-IOV to "
            "share among guests",
            cure="check the card with 'lspci -d 15b3:', and that firmware has "
            f"SR-IOV on: {_firmware('ADDRESS', _SRIOV)}",
        )


def mapping(patient: Patient) -> Iterator[Finding]:
    """Devices in the mapping of physical networks that are none, and PFs
    that are not in it."""
    for doubt in patient.host.doubts():
        yield Finding(
            "mapping",
            Severity.PROBLEM,
            doubt,
            cure="name a PF by IPoIB network device, IB device or PCI "
            "address; 'ibhostdev list' shows them",
        )
    for view in patient.views:
        if view.networks == {}:
            yield Finding(
                "mapping",
                Severity.WARNING,
                "no physical network is mapped to it: ports of any are "
                "refused on its VFs",
                view.pf.pci,
                "add it to the physical device mappings, if its VFs are for "
                "guests",
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
            cure = _firmware(pci, _SRIOV)
        elif isinstance(driver, int):
            what = "has no driver"
            cure = "'modprobe mlx5_core' (ConnectX-3: 'modprobe mlx4_core')"
        else:
            what = f"is on {base_name(driver)}, but shows no InfiniBand port"
            cure = (
                "'modprobe mlx5_ib' (ConnectX-3: 'modprobe mlx4_ib'); if its "
                f"ports are Ethernet and are not to be: "
                f"{_firmware(pci, _LINK)}"
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


def large_answers(patient: Patient) -> Iterator[Finding]:
    """Kernels 5.5 to 6.14 cannot put many VFs into the answer about one
    device (net/core/rtnetlink.c, rtnl_vfinfo_size), and no kernel more
    than 277."""
    for view in patient.views:
        pf = view.pf
        if view.mechanism != "mlx5_netlink" or pf.netdev is None:
            continue
        cure = "update the kernel to 6.15 or newer"
        if patient.host.asks_files(pf):
            yield Finding(
                "large answers",
                Severity.WARNING,
                f"the kernel's answer about {pf.numvfs} VFs of "
                f"{pf.netdev.name} cannot be used; MLNX_OFED's files are read "
                "instead, but the Neutron agent, which reads by netlink, does "
                "not see the GUIDs",
                pf.pci,
                "enable no more than 277 VFs of a PF, with a kernel of 6.15 "
                "or newer",
            )
        elif patient.host.asks_all(pf):
            yield Finding(
                "large answers",
                Severity.WARNING,
                f"this kernel refuses to tell about {pf.numvfs} VFs of "
                f"{pf.netdev.name} (EMSGSIZE); all network devices are asked "
                "about instead, which is slower and disturbs other PFs",
                pf.pci,
                cure,
            )
        elif pf.numvfs < 16 <= pf.totalvfs and not patient.simulated:
            release = re.match(r"(\d+)\.(\d+)", os.uname().release)
            if release and (5, 5) <= tuple(map(int, release.groups())) < (
                6,
                15,
            ):
                yield Finding(
                    "large answers",
                    Severity.NOTE,
                    f"with 16 VFs or more kernel {os.uname().release} may "
                    "refuse to tell about all of them at once (EMSGSIZE), "
                    "which makes plugging slower",
                    pf.pci,
                    cure,
                )


# -- rights ---------------------------------------------------------------


def rights(patient: Patient) -> Iterator[Finding]:
    """Whether this process may do what plugging takes, or who is asked to."""
    if patient.privileged is not None:
        yield from _others_rights(patient.privileged)
        return
    found = list(_lock_rights(patient.locks))
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


def _lock_rights(folder: str) -> Iterator[Finding]:
    # What there is of it; the rest is made when it is needed.
    there = os.path.abspath(folder)
    while not os.path.exists(there):
        there = os.path.dirname(there)
    own = "run as root"
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
            cure="run as root, or with that capability",
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
            "run as root, or with CAP_DAC_OVERRIDE",
        )


def _lacks(capability: int) -> bool:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("CapEff:"):
                return not int(line.split()[1], 16) >> capability & 1
    return False


# -- fabric, VFs ----------------------------------------------------------


def fabric(patient: Patient) -> Iterator[Finding]:
    """Ports that have no link or see no subnet manager."""
    for view in patient.views:
        pf = view.pf
        for port in pf.ports:
            if port.state != "ACTIVE":
                what = f"port {port.number} is {port.state}"
                cure = "check the cable and the subnet manager (ibstat)"
            elif not port.sm_lid:
                what = f"port {port.number} sees no subnet manager"
                cure = (
                    "start one on the fabric; for VFs of ConnectX-4 and later "
                    "it needs support for virtualization"
                )
            else:
                yield Finding(
                    "fabric",
                    Severity.OK,
                    f"port {port.number} is active, SM lid {port.sm_lid}",
                    pf.pci,
                )
                continue
            # A second port without a cable is common; so are PFs not in use.
            used = pf.numvfs and port.number == pf.port
            yield Finding(
                "fabric",
                Severity.PROBLEM if used else Severity.NOTE,
                f"{what}: links of VFs stay down" if used else what,
                pf.pci,
                cure,
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
                _firmware(pf.pci, _SRIOV),
            )
        elif not pf.numvfs:
            yield Finding(
                "VFs",
                severity,
                f"none of {pf.totalvfs} VFs is enabled",
                pf.pci,
                f"'echo {pf.totalvfs} > {_attribute(pf, 'sriov_numvfs')}'",
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
                f"'echo 0 > {_attribute(pf, 'sriov_drivers_autoprobe')}'",
            )


def iommu(patient: Patient) -> Iterator[Finding]:
    """VFs that cannot be given to a guest, or not to any guest alone."""
    host = patient.host
    groups: dict[int, list[str]] = {}
    for view in patient.views:
        without = [vf.pci for vf in view.vfs if view.groups[vf.pci] is None]
        if without:
            yield Finding(
                "IOMMU",
                Severity.PROBLEM,
                "VFs without IOMMU group cannot be given to guests: "
                + _some(without),
                view.pf.pci,
                "turn on VT-d or AMD-Vi in the BIOS, and boot with "
                "intel_iommu=on (Intel) and iommu=pt",
            )
        for number in view.groups.values():
            if number is not None:
                groups.setdefault(number, [])
    listed = host.sysfs.listdir(
        [f"kernel/iommu_groups/{number}/devices" for number in groups]
    )
    for number, members in zip(groups, listed, strict=True):
        if not isinstance(members, int):
            groups[number] = members
    shared = {n: m for n, m in groups.items() if len(m) > 1}
    for number, members in shared.items():
        yield Finding(
            "IOMMU",
            Severity.WARNING,
            f"share IOMMU group {number}, so they can only go to the same "
            "guest",
            _some(members),
            "use a slot or a board with ACS (Access Control Services)",
        )
    if groups and not shared:
        yield Finding(
            "IOMMU", Severity.OK, "each VF has an IOMMU group of its own"
        )


# -- identities -----------------------------------------------------------


def readable(patient: Patient) -> Iterator[Finding]:
    """PFs and VFs whose state cannot be read."""
    for view in patient.views:
        error = view.error
        if error is not None:
            what = IbHostdevError(
                error.message, None, error.attribute, error.errno
            )
            yield Finding(
                "state",
                Severity.PROBLEM,
                str(what),
                error.device or view.pf.pci,
                error.cure,
            )
        # A VF may have one port of two (mlx4).
        silent = [
            vf.pci
            for vf in view.vfs
            if not any(vf.index in states for states in view.states)
        ]
        if silent and view.states:
            yield Finding(
                "state",
                Severity.WARNING,
                f"the driver does not tell about {_some(silent)}",
                view.pf.pci,
                "look into the kernel log for the health of the HCA",
            )


def _held(view: View, vf: Vf) -> set[Guid]:
    """The GUIDs that a VF has."""
    return {
        guid
        for states in view.states
        if (state := states.get(vf.index)) is not None
        for guid in (state.node_guid, state.port_guid)
        if guid is not None and not guid.is_idle
    }


def duplicates(patient: Patient) -> Iterator[Finding]:
    """A GUID on two VFs: the fabric sends to either of them."""
    holders: dict[Guid, list[str]] = {}
    for view, vf in patient.vfs:
        for guid in _held(view, vf):
            holders.setdefault(guid, []).append(vf.pci)
    for guid, vfs in holders.items():
        if len(vfs) > 1:
            yield Finding(
                "GUIDs",
                Severity.PROBLEM,
                f"GUID {guid} is on all of them",
                _some(vfs),
                f"'ibhostdev unplug {guid}', then plug the VF that it "
                "belongs to",
            )


def pf_guids(patient: Patient) -> Iterator[Finding]:
    """A VF with a PF's own GUID, as a script makes it that counts upward
    from there."""
    own = {
        guid: view.pf.pci
        for view in patient.views
        for guid in (
            view.pf.node_guid,
            *(port.guid for port in view.pf.ports),
        )
    }
    for view, vf in patient.vfs:
        for guid in _held(view, vf):
            if guid in own:
                yield Finding(
                    "GUIDs",
                    Severity.PROBLEM,
                    f"has GUID {guid}, which is that of PF {own[guid]}",
                    vf.pci,
                    f"'ibhostdev unplug {guid}', then plug it with a GUID "
                    "that nobody else has",
                )


def halves(patient: Patient) -> Iterator[Finding]:
    """VFs of which a call that was cut off has set a part."""
    for view, vf in patient.vfs:
        state = view.state(vf)
        if state.owner is None:
            continue
        node, port = state.node_guid, state.port_guid
        # Two GUIDs that differ are somebody's choice.
        if (
            node is not None
            and port is not None
            and node.is_idle != port.is_idle
        ):
            yield Finding(
                "GUIDs",
                Severity.WARNING,
                f"has node GUID {node} and port GUID {port}: one of them is "
                "nobody's",
                vf.pci,
                "plug or unplug it again",
            )
        if state.policy is Policy.DOWN:
            yield Finding(
                "GUIDs",
                Severity.WARNING,
                f"has GUID {state.owner}, but its link is administratively "
                "down",
                vf.pci,
                "enable the port in Neutron; if no guest has the VF, plug it "
                "again",
            )


def leftovers(patient: Patient) -> Iterator[Finding]:
    """Identities that no running guest has. Those of stopped guests look
    alike, so it is only a note."""
    for view in patient.views:
        held = [
            vf.pci
            for vf in view.vfs
            if not vf.in_use
            and any(
                view.state(vf, side).owner is not None
                for side in range(len(view.states))
            )
        ]
        if held:
            yield Finding(
                "GUIDs",
                Severity.NOTE,
                f"VFs with an identity, but no running guest: {_some(held)}",
                view.pf.pci,
                "if no stopped guest owns them, unplug their identities",
            )


def own_drivers(patient: Patient) -> Iterator[Finding]:
    """VFs whose driver on this host goes on showing what they were."""
    for view in patient.views:
        before_plug, stale = [], []
        here = [vf for vf in view.vfs if vf.driver == "mlx5_core"]
        own = _own_identities(patient.host, here)
        for vf, shown in zip(here, own, strict=True):
            admin = view.state(vf).node_guid
            if admin is None:
                continue
            if shown is None or shown == admin:
                continue
            if not admin.is_idle:
                before_plug.append(vf.pci)
            elif not shown.is_idle:
                stale.append(vf.pci)
        if before_plug:
            yield Finding(
                "own driver",
                Severity.NOTE,
                "this host's driver shows another identity than was plugged "
                f"on {_some(before_plug)}; a guest will see the right one",
                view.pf.pci,
                "to use such a VF on this host, unbind it from mlx5_core and "
                "bind it again",
            )
        if stale:
            yield Finding(
                "own driver",
                Severity.WARNING,
                "idle VFs still show an identity on this host: "
                + _some(stale),
                view.pf.pci,
                "unbind them from mlx5_core and bind them again",
            )


def driverless(patient: Patient) -> Iterator[Finding]:
    """VFs that somebody has left without a driver, as an unplug does that is
    killed between unbinding a VF and binding it."""
    for view in patient.views:
        pf = view.pf
        # With autoprobe off a VF that comes back from a guest has none.
        own = pf.autoprobe or any(vf.driver == pf.driver for vf in view.vfs)
        left = [vf.pci for vf in view.vfs if vf.driver is None]
        if not own or not left:
            continue
        which = left[0] if len(left) == 1 else "ADDRESS"
        cure = (
            f"if nobody wants it so: echo {which} > /sys/bus/pci/drivers_probe"
        )
        if not pf.autoprobe:
            cure += f", after echo 1 > /sys/{pf.path}/sriov_drivers_autoprobe"
        yield Finding(
            "own driver",
            Severity.WARNING,
            f"VFs without a driver, and in no guest's hands: {_some(left)}",
            pf.pci,
            cure,
        )


def _own_identities(host: Host, vfs: Sequence[Vf]) -> list[Guid | None]:
    """The node GUID that each VF's own driver on this host took when it was
    bound; None if it shows none."""
    folders = [f"{DEVICES}/{vf.pci}/infiniband" for vf in vfs]
    devices = [
        # One, or none before the driver has it.
        names[0] if isinstance(names, list) and names else "none"
        for names in host.sysfs.listdir(folders)
    ]
    values = host.sysfs.read(
        [
            f"{folder}/{device}/node_guid"
            for folder, device in zip(folders, devices, strict=True)
        ]
    )
    return [_node_guid(value) for value in values]


def _node_guid(value: bytes | int) -> Guid | None:
    """From four groups of four digits."""
    if isinstance(value, int):
        return None
    try:
        return Guid(value.replace(b":", b""), 16)
    except ValueError:
        return None


CHECKS: tuple[Check, ...] = (
    adapters,
    mapping,
    mechanism,
    large_answers,
    rights,
    fabric,
    enabled,
    iommu,
    readable,
    duplicates,
    pf_guids,
    halves,
    leftovers,
    own_drivers,
    driverless,
)


# -- the report -----------------------------------------------------------


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    return {
        "ok": not problems(findings),
        "findings": [
            {
                "check": one.check,
                "severity": one.severity,
                "device": one.device,
                "message": one.message,
                "cure": one.cure,
            }
            for one in findings
        ],
    }


_STYLES = {
    Severity.OK: "green",
    Severity.NOTE: "cyan",
    Severity.WARNING: "yellow",
    Severity.PROBLEM: "bold red",
}


_MARGIN = (9, 15)


def as_lines(findings: Sequence[Finding]) -> list[Line]:
    lines: list[Line] = []
    for one in findings:
        severity, check = _MARGIN
        lead: list[Cell] = [
            (f"{one.severity:<{severity}}", _STYLES[one.severity]),
            (f"{one.check:<{check}}", ""),
        ]
        text = f"{one.device}: {one.message}" if one.device else one.message
        lines += filled([(text, "")], lead)
        if one.cure:
            lead = [(" " * severity + f"{'cure':<{check}}", "dim")]
            lines += filled([(one.cure, "green")], lead)
    counts = [
        (sum(one.severity is severity for one in findings), severity)
        for severity in (Severity.PROBLEM, Severity.WARNING, Severity.NOTE)
    ]
    told = ", ".join(
        f"{count} {severity}{'s' * (count > 1)}"
        for count, severity in counts
        if count
    )
    lines += [[], [(told or "nothing to complain about", "bold")]]
    return lines
