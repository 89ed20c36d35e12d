# SPDX-License-Identifier: Apache-2.0
"""What is said of a host that is known."""

import json

import pytest

from ibhostdev import Family, Guid, PciAddress, Vif
from ibhostdev.cli import main
from ibhostdev.errors import DeviceNotFound, InvalidInput, NoMechanism
from ibhostdev.inventory import Traffic
from tests.testbed import Hca

# As the host counts of a VF; 6 is none (IFLA_VF_STATS_PAD).
COUNTERS = (0, 1, 2, 3, 4, 5, 7, 8)


@pytest.fixture
def listed(capsys):
    """What ``ibhostdev list`` says of the PFs."""

    def listed(bed):
        assert main([*bed.command[3:], "list", "--json"]) == 0
        return json.loads(capsys.readouterr().out)["pfs"]

    return listed


def test_the_pfs_and_what_serves_them(bed, listed):
    bed.build(
        Hca("mlx5", vfs=2), Hca("mlx5-ofed", vfs=3, netdev=False),
        Hca("mlx4", vfs=2, ports=2),
    )  # fmt: skip
    host = bed.connect()
    assert [pf.pci for pf in host.pfs] == bed.pfs
    netlink, files, mlx4 = host.pfs
    assert (netlink.family, files.family, mlx4.family) == (
        Family.MLX5, Family.MLX5_OFED, Family.MLX4,
    )  # fmt: skip
    assert [len(pf.ports) for pf in host.pfs] == [1, 1, 2]
    assert [len(pf.netdevs) for pf in host.pfs] == [1, 0, 2]
    assert [pf.numvfs for pf in host.pfs] == [2, 3, 2]
    assert all(pf.totalvfs >= pf.numvfs for pf in host.pfs)
    for pf in host.pfs:
        assert pf.ports[0].state == "ACTIVE"
        assert pf.ports[0].sm_lid > 0
    for pf, shown in zip(host.pfs, listed(bed), strict=True):
        assert shown["pci"] == pf.pci
        assert shown["ib_device"] == pf.ib_device
    first, second, third = listed(bed)
    assert [one["mechanism"] for one in (first, second, third)] == [
        "mlx5_netlink", "mlx5_sysfs", "mlx4_sysfs",
    ]  # fmt: skip
    assert first["mechanism_reasons"] == {}
    assert set(second["mechanism_reasons"]) == {"mlx5_netlink"}
    assert "ib_ipoib" in second["mechanism_reasons"]["mlx5_netlink"]
    assert set(third["mechanism_reasons"]) == {"mlx5_netlink", "mlx5_sysfs"}


def test_the_vfs_and_who_drives_them(bed, listed):
    bed.build(Hca("mlx5", vfs=4))
    bed.bind(bed.vf(0, 1), None)
    bed.bind(bed.vf(0, 2), "vfio-pci")
    host = bed.connect()
    with bed.hold(bed.vf(0, 3)):
        vfs = [host.vf(bed.vf(0, n)) for n in range(4)]
        (pf,) = listed(bed)
    assert [vf.pci for vf in vfs] == [bed.vf(0, n) for n in range(4)]
    assert [vf.index for vf in vfs] == [0, 1, 2, 3]
    assert [vf.driver for vf in vfs] == [
        "mlx5_core", None, "vfio-pci", "vfio-pci",
    ]  # fmt: skip
    assert [vf.in_use for vf in vfs] == [False, False, False, True]
    for vf, shown in zip(vfs, pf["vfs"], strict=True):
        assert (shown["pci"], shown["index"]) == (vf.pci, vf.index)
        assert shown["driver"] == vf.driver
        assert shown["in_use"] == vf.in_use
    groups = [shown["iommu_group"] for shown in pf["vfs"]]
    assert None not in groups
    assert len(set(groups)) == 4


def test_a_long_lived_host_sees_what_changes(bed):
    bed.build(Hca("mlx5", vfs=4))
    host = bed.connect()
    assert host.vf(bed.vf(0, 3)).index == 3
    last = bed.vf(0, 3)
    bed.numvfs(0, 0)
    with pytest.raises(DeviceNotFound):
        host.vf(last)
    assert host.pfs[0].numvfs == 0
    bed.numvfs(0, 2)
    assert host.vf(bed.vf(0, 1)).index == 1


def test_no_address_reaches_a_path_unparsed(bed):
    """A Vif can be made by hand, too."""
    bed.build(Hca("mlx5", vfs=1))
    for text in ("../../../etc", "3B:00.1", bed.vf(0, 0) + "/.."):
        with pytest.raises(InvalidInput):
            bed.connect().plug([Vif(PciAddress(text), Guid(2))])
    with pytest.raises(InvalidInput, match="64-bit"):
        bed.connect().plug([Vif(PciAddress(bed.vf(0, 0)), Guid(2**64 + 2))])


@pytest.mark.parametrize("text", ["", "../..", "0000:3b:00.2/physfn"])
def test_what_is_no_address_is_not_looked_up(bed, text):
    bed.build(Hca("mlx5", vfs=1))
    with pytest.raises(InvalidInput):
        bed.connect().vf(text)


@pytest.mark.parametrize("flavour", ["netlink", "dump", "ofed"], indirect=True)
def test_what_vfs_send_and_receive(bed, flavour):
    host = bed.connect()
    (pf,) = host.pfs
    bed.reset_counts()
    assert host.traffic(pf) == {
        index: Traffic(*(1000 * (index + 1) + i for i in COUNTERS))
        for index in range(4)
    }
    counts = bed.counts()
    assert counts.modify == 0
    assert counts.getlink <= flavour.getlinks(1)


def test_what_it_costs_to_know_what_vfs_send(bed):
    """Another query of each VF, and only for who asks for it."""
    bed.build(Hca("mlx5", vfs=4))
    host = bed.connect()
    (pf,) = host.pfs
    asked = []
    for question in (host.survey, host.traffic):
        bed.reset_counts()
        question(pf)
        counts = bed.counts()
        assert counts.getlink == 1
        asked.append(counts.query)
    assert asked == [4, 8]


@pytest.mark.parametrize("flavour", ["files", "mlx4"], indirect=True)
def test_where_nobody_tells_what_vfs_send(bed, flavour):
    host = bed.connect()
    (pf,) = host.pfs
    with pytest.raises(NoMechanism, match="what its VFs send") as caught:
        host.traffic(pf)
    assert caught.value.device == bed.pfs[0]
    assert caught.value.cure
