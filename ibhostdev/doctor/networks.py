# SPDX-License-Identifier: Apache-2.0
"""The fabrics behind the adapters, and their names."""

from collections.abc import Iterator

from ibhostdev.doctor.findings import Finding, Patient, Severity


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
