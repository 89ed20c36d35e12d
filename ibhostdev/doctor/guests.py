# SPDX-License-Identifier: Apache-2.0
"""Whether VFs can be given to guests."""

from collections.abc import Iterator

from ibhostdev.doctor.findings import (
    Finding,
    Patient,
    Severity,
    attribute,
    some,
)
from ibhostdev.host.document import causes


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
                + some(without),
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
            some(members),
            "use a slot or a board with ACS (Access Control Services)",
        )
    if groups and not shared:
        yield Finding(
            "IOMMU", Severity.OK, "each VF has an IOMMU group of its own"
        )


def metadata(patient: Patient) -> Iterator[Finding]:
    """Identities in the metadata of libvirt's domains that are malformed, or
    more than one that is meant."""
    for error in patient.malformed:
        for one in causes(error):
            yield Finding(
                "metadata",
                Severity.PROBLEM,
                one.message,
                one.device,
                one.cure,
            )
    for note in patient.notes:
        yield Finding(
            "metadata",
            Severity.WARNING,
            note,
            cure="write that GUID, by 'virsh edit'",
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
            "if nobody wants it so: "
            f"'echo {which} > /sys/bus/pci/drivers_probe'"
        )
        if not pf.autoprobe:
            file = attribute(pf, "sriov_drivers_autoprobe")
            cure += f", after 'echo 1 > {file}'"
        yield Finding(
            "own driver",
            Severity.WARNING,
            f"VFs without a driver, and in no guest's hands: {some(left)}",
            pf.pci,
            cure,
        )
