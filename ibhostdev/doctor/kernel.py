# SPDX-License-Identifier: Apache-2.0
"""What a kernel, or its drivers on this host, have peculiarities of."""

import os
import re
from collections.abc import Iterator

from ibhostdev.doctor.findings import Finding, Patient, Severity, some


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


def own_drivers(patient: Patient) -> Iterator[Finding]:
    """VFs whose driver on this host goes on showing what they were. That it
    does not show what was plugged is as it should be: a guest will."""
    for view in patient.views:
        stale = []
        here = [vf for vf in view.vfs if vf.driver == "mlx5_core"]
        own = patient.host.own_identities(here)
        for vf, shown in zip(here, own, strict=True):
            admin = view.state(vf).node_guid
            if admin is None or shown is None:
                continue
            if admin.is_idle and not shown.is_idle:
                stale.append(vf.pci)
        if stale:
            yield Finding(
                "own driver",
                Severity.WARNING,
                "idle VFs still show an identity on this host: " + some(stale),
                view.pf.pci,
                "unbind them from mlx5_core and bind them again",
            )
