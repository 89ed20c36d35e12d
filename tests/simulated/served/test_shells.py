# SPDX-License-Identifier: Apache-2.0
"""Shells, which write as an operator does."""

import os
import subprocess
from collections.abc import Callable

from tests.simulated.served.bed import (
    GUID,
    IOV,
    PF,
    TEXT,
    VF0,
    VF1,
    Bed,
    gid_is,
    virtfns,
    wait,
)


def shell(bed: Bed, script: str) -> None:
    subprocess.run(
        ["sh", "-ec", script], cwd=bed.folder / "sys/bus/pci", check=True
    )


def test_shell_binds_and_unbinds(make: Callable[..., Bed]) -> None:
    bed = make(vfs=32)
    vfs = [os.path.basename(p.readlink()) for p in virtfns(bed)]
    loop = f"for vf in {' '.join(vfs)}; do echo $vf > drivers/mlx5_core/"
    shell(bed, f"{loop}unbind; done")
    wait(lambda: not any(bed.driver(vf) for vf in vfs))
    shell(bed, f"{loop}bind; done")
    wait(lambda: all(bed.driver(vf) for vf in vfs))


def test_shell_gives_a_vf_to_vfio(bed: Bed) -> None:
    override = f"devices/{VF0}/driver_override"
    shell(bed, f"echo vfio-pci > {override}")
    shell(bed, f"echo {VF0} > drivers/mlx5_core/unbind")
    wait(lambda: bed.driver(VF0) is None)
    shell(bed, f"echo {VF0} > drivers_probe")
    wait(lambda: bed.driver(VF0) == "vfio-pci")
    shell(bed, f"echo > {override}")
    wait(lambda: bed.read(VF0, "driver_override") == "(null)")


def test_a_shell_s_writes_are_done_in_turn(make: Callable[..., Bed]) -> None:
    """It waits for none of them, as one that writes to a kernel would."""
    bed = make(vfs=16)
    vfs = [os.path.basename(p.readlink()) for p in virtfns(bed)]
    shell(
        bed,
        f"""for vf in {" ".join(vfs)}; do
            echo vfio-pci > devices/$vf/driver_override
            echo $vf > drivers/mlx5_core/unbind
            echo $vf > drivers_probe
        done""",
    )
    wait(lambda: {bed.driver(vf) for vf in vfs} == {"vfio-pci"})


def test_shell_changes_numvfs(bed: Bed) -> None:
    file = f"devices/{PF}/sriov_numvfs"
    shell(bed, f"echo 0 > {file}")
    wait(lambda: virtfns(bed) == [])
    shell(bed, f"echo 2 > {file}")
    wait(lambda: len(virtfns(bed)) == 2 and bed.driver(VF1) is not None)
    shell(bed, f"echo 4 > {file}")  # EBUSY: the file shows the truth again
    wait(lambda: bed.read(PF, "sriov_numvfs") == "2")
    assert len(virtfns(bed)) == 2


def test_shell_sets_ofed_files(ofed: Bed) -> None:
    folder = f"devices/{PF}/sriov/1"
    shell(ofed, f"echo Follow > {folder}/policy; echo {TEXT} > {folder}/node")
    wait(lambda: ofed.vfs()[1][2] == 0)
    wait(lambda: ofed.host.machine.pfs[0].vfs[1].node == GUID)
    shell(ofed, f"echo follow > {folder}/policy")
    wait(lambda: ofed.read(PF, "sriov/1/policy") == "Follow")


def test_shell_sets_mlx4_guids(mlx4: Bed) -> None:
    shell(mlx4, f"echo 0x{GUID:x} > devices/{PF}/{IOV}/ports/1/admin_guids/4")
    wait(lambda: gid_is(mlx4, 4, "fa16:3e00:000a:0b0c"))
    assert mlx4.read(PF, f"{IOV}/ports/1/admin_guids/4") == f"{GUID:x}"
