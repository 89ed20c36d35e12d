# SPDX-License-Identifier: Apache-2.0
"""The folder is shaped like sysfs."""

import os
from collections.abc import Callable

from tests.simulated.served.bed import PF, PF2, VF0, VF1, Bed


def test_tree_is_shaped_like_sysfs(make: Callable[..., Bed]) -> None:
    bed = make(pfs=2)
    for pf, ibdev, netdev in ((PF, "mlx5_0", "ib0"), (PF2, "mlx5_1", "ib1")):
        device = bed.path(f"bus/pci/devices/{pf}").resolve()
        assert bed.path(f"class/infiniband/{ibdev}").resolve() == (
            device / "infiniband" / ibdev
        )
        assert bed.path(f"class/net/{netdev}/device").resolve() == device
        assert bed.read(pf, f"net/{netdev}/type") == "32"
        assert bed.read(pf, f"net/{netdev}/dev_port") == "0"
        assert bed.read(pf, "vendor") == "0x15b3"
        assert bed.read(pf, "sriov_numvfs") == "4"
        assert bed.read(pf, "sriov_totalvfs") == "4"
        port = f"infiniband/{ibdev}/ports/1"
        assert bed.read(pf, f"{port}/state") == "4: ACTIVE"
        assert bed.read(pf, f"{port}/sm_lid") == "0x1"
        assert bed.read(pf, f"{port}/link_layer") == "InfiniBand"
    assert (bed.path("bus/pci/devices") / PF).readlink().parts[:3] == (
        ("..",) * 3
    )
    assert os.readlink(bed.pci(PF, "virtfn1")) == f"../{VF1}"
    assert os.readlink(bed.pci(VF1, "physfn")) == f"../{PF}"
    group = bed.pci(VF1, "iommu_group").resolve()
    assert group.parent == bed.path("kernel/iommu_groups").resolve()
    assert [d.name for d in (group / "devices").iterdir()] == [VF1]
    bound = bed.path("bus/pci/drivers/mlx5_core")
    assert (bound / VF1).resolve() == bed.pci(VF1, "").resolve()
    assert bed.read(VF1, "enable") == "1"
    assert bed.read(VF1, "driver_override") == "(null)"
    assert bed.identity(VF1) == "0000:0000:0000:0000"
    assert not bed.pci(PF, "sriov").exists()


def test_every_link_leads_somewhere(make: Callable[..., Bed]) -> None:
    for family in ("mlx5-ofed", "mlx4"):
        bed = make(family)
        assert bed.unbind(VF0, bed.driver(VF0) or "") == 0
        for folder, folders, files in os.walk(bed.folder / "sys"):
            for name in folders + files:
                assert os.path.exists(os.path.join(folder, name)), name


def test_vf_addresses_run_on_through_devices_and_buses(
    make: Callable[..., Bed],
) -> None:
    bed = make(vfs=300)
    for index, address in (
        (0, "0000:3b:00.1"),
        (6, "0000:3b:00.7"),
        (7, "0000:3b:01.0"),
        (254, "0000:3b:1f.7"),
        (255, "0000:3c:00.0"),
        (299, "0000:3c:05.4"),
    ):
        assert os.readlink(bed.pci(PF, f"virtfn{index}")) == f"../{address}"
        assert os.readlink(bed.pci(address, "physfn")) == f"../{PF}"


def test_without_iommu_there_are_no_groups(make: Callable[..., Bed]) -> None:
    bed = make(iommu=False)
    assert not bed.pci(VF0, "iommu_group").exists()
    assert list(bed.path("kernel/iommu_groups").iterdir()) == []


def test_port_state_and_sm_can_change(bed: Bed) -> None:
    bed.host.port(PF, state="1: DOWN", sm_lid=0)
    port = "infiniband/mlx5_0/ports/1"
    assert bed.read(PF, f"{port}/state") == "1: DOWN"
    assert bed.read(PF, f"{port}/sm_lid") == "0x0"
