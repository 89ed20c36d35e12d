# SPDX-License-Identifier: Apache-2.0
"""The rig does what the real drivers do.

Hands and witnesses are ``ip``, sysfs and pyroute2: nothing of ours.
"""

import errno
import os
import re
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from pyroute2 import IPRoute, NetlinkError

from tests.kernel.testbed import (
    DEVICES,
    PCI,
    driver,
    identity,
    knob,
    load_module,
    read,
    run,
    unload_module,
    until,
    write,
)
from tests.testbed import Counts, Hca, Seen

ZERO = "00:00:00:00:00:00:00:00"
ONES = "ff:ff:ff:ff:ff:ff:ff:ff"
FRESH = Seen(ZERO, ZERO, "down")


def guid(n: int) -> str:
    return f"fa:16:3e:00:00:00:00:{n:02x}"


@pytest.fixture(scope="module")
def netlink():
    with IPRoute() as sockets:
        yield sockets


@pytest.fixture
def mlx5(bed):
    """One mlx5 HCA without MLNX_OFED's files; its netdev's name."""
    bed.build(Hca("mlx5", vfs=4))
    return netdev(bed)


@pytest.fixture
def ofed(bed):
    """One mlx5 HCA with MLNX_OFED's files; their folder."""
    bed.build(Hca("mlx5-ofed", vfs=4))
    return DEVICES / bed.pfs[0] / "sriov"


@pytest.fixture
def iov(bed):
    """One mlx4 HCA with two ports; its folder iov."""
    bed.build(Hca("mlx4", vfs=4, ports=2))
    return next((DEVICES / bed.pfs[0]).glob("infiniband/*/iov"))


def netdev(bed, pf=0):
    return min(os.listdir(DEVICES / bed.pfs[pf] / "net"))


def ip(*words):
    """Run ip; what it complains of, or nothing."""
    done = subprocess.run(
        ["ip", *words], capture_output=True, text=True, check=False
    )
    assert bool(done.returncode) == bool(done.stderr)
    return done.stderr


def set_vf(dev, index, *words):
    return ip("link", "set", "dev", dev, "vf", str(index), *words)


def refused(path, value):
    """The errno that a write meets."""
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        write(path, value)
    return caught.value.errno


def rebind(vf):
    name = driver(vf)
    write(PCI / "drivers" / name / "unbind", vf)
    write(PCI / "drivers" / name / "bind", vf)


# ---- what a host shows of its HCAs ---------------------------------------


def test_a_pf_looks_like_an_hca(bed, mlx5):
    pf = DEVICES / bed.pfs[0]
    assert read(pf / "vendor") == "0x15b3"
    assert driver(bed.pfs[0]) == "mlx5_core"
    (ibdev,) = (pf / "infiniband").iterdir()
    link = Path("/sys/class/infiniband") / ibdev.name
    assert link.resolve() == ibdev.resolve()
    port = ibdev / "ports/1"
    assert read(port / "state") == "4: ACTIVE"
    assert read(port / "link_layer") == "InfiniBand"
    assert read(port / "pkeys/0") == "0xffff"
    assert read(port / "pkeys/1") == "0x7fff"
    assert read(port / "sm_lid") == "0x1"
    knob("sm_lid", 0)
    assert read(port / "sm_lid") == "0x0"


def test_a_netdev_looks_like_ipoib(bed, mlx5, netlink):
    net = DEVICES / bed.pfs[0] / "net" / mlx5
    assert read(net / "type") == "32"
    assert read(net / "iflink") == read(net / "ifindex")
    assert read(net / "dev_port") == "0"
    info = run("ethtool", "-i", mlx5)
    assert "driver: mlx5_core[ib_ipoib]\n" in info
    assert f"bus-info: {bed.pfs[0]}\n" in info
    (link,) = netlink.get_links(ifname=mlx5, ext_mask=1)
    assert link.get_attr("IFLA_PARENT_DEV_NAME") == bed.pfs[0]
    assert link.get_attr("IFLA_NUM_VF") == 4


def test_a_vf_is_a_pci_function_of_its_pf(bed, mlx5):
    pf = DEVICES / bed.pfs[0]
    for index in range(4):
        vf = DEVICES / bed.vf(0, index)
        assert (vf / "physfn").resolve() == pf.resolve()
        assert driver(vf.name) == "mlx5_core"
        assert read(vf / "device") == "0x101c"
        bus, dev, fn = re.split("[:.]", vf.name)[1:]
        rid = int(bus, 16) << 8 | int(dev, 16) << 3 | int(fn)
        first = int(bed.pfs[0].split(":")[1], 16) << 8
        assert rid == (
            first
            + int(read(pf / "sriov_offset"))
            + index * int(read(pf / "sriov_stride"))
        )


def test_each_vf_has_its_iommu_group(bed, mlx5):
    groups = [
        (DEVICES / bed.vf(0, n) / "iommu_group").resolve() for n in range(4)
    ]
    for n, group in enumerate(groups):
        assert os.listdir(group / "devices") == [bed.vf(0, n)]


def test_three_hcas_of_any_kind(bed):
    bed.build(Hca("mlx4", 3, 2), Hca("mlx5", 16), Hca("mlx5-ofed", 2))
    assert [driver(pf) for pf in bed.pfs] == [
        "mlx4_core", "mlx5_core", "mlx5_core",
    ]  # fmt: skip
    assert [len(bed.seen(n)) for n in range(3)] == [3, 16, 2]
    bed.build(Hca("mlx5", 5, netdev=False))
    assert not (DEVICES / bed.pfs[0] / "net").exists()
    shown = {
        (path / "device").resolve().name
        for path in Path("/sys/class/infiniband").iterdir()
    }
    assert shown == {*bed.pfs, *(bed.vf(0, n) for n in range(5))}


# ---- mlx5 by netlink -----------------------------------------------------


def test_fresh_vfs_have_no_guid_and_are_down(bed, mlx5):
    assert bed.seen(0) == [FRESH] * 4


def test_ip_sets_and_shows(bed, mlx5):
    assert not set_vf(mlx5, 1, "node_guid", guid(1))
    assert not set_vf(mlx5, 1, "port_guid", guid(2))
    for state, policy in (
        ("auto", "follow"), ("enable", "up"), ("disable", "down"),
    ):  # fmt: skip
        assert not set_vf(mlx5, 1, "state", state)
        assert bed.seen(0)[1] == Seen(guid(1), guid(2), policy)
    assert bed.seen(0)[0] == bed.seen(0)[2] == FRESH
    assert bed.seen(0)[3] == FRESH


def test_two_guids_in_one_nest_lose_the_second(bed, mlx5):
    assert not set_vf(mlx5, 0, "node_guid", guid(1), "port_guid", guid(2))
    assert bed.seen(0)[0] == Seen(guid(1), ZERO, "down")


def test_the_state_goes_with_one_guid(bed, mlx5):
    assert not set_vf(mlx5, 0, "state", "auto", "node_guid", guid(1))
    assert bed.seen(0)[0] == Seen(guid(1), ZERO, "follow")


def test_many_vfs_in_one_message(bed, mlx5, netlink):
    (index,) = netlink.link_lookup(ifname=mlx5)
    bed.reset_counts()
    netlink.link(
        "set",
        index=index,
        vf=[
            {"vf": vf, kind: guid(vf)}
            for vf in range(4)
            for kind in ("ib_node_guid", "ib_port_guid")
        ],
    )
    assert bed.counts() == Counts(modify=8, query=0, getlink=0, probe=0)
    assert bed.seen(0) == [Seen(guid(n), guid(n), "down") for n in range(4)]


def test_a_bad_vf_stops_a_message_in_the_middle(bed, mlx5, netlink):
    (index,) = netlink.link_lookup(ifname=mlx5)
    with pytest.raises(NetlinkError) as caught:
        netlink.link(
            "set",
            index=index,
            vf=[{"vf": vf, "ib_node_guid": guid(1)} for vf in (0, 1, 999, 2)],
        )
    assert caught.value.code == errno.EINVAL
    assert [seen.node for seen in bed.seen(0)] == [
        guid(1), guid(1), ZERO, ZERO,
    ]  # fmt: skip


def test_no_guid_and_no_vf_below_the_total_is_too_silly(bed, mlx5):
    for value in (ZERO, ONES, "01:00:00:00:00:00:00:00"):
        assert not set_vf(mlx5, 0, "node_guid", value)
        assert not set_vf(mlx5, 1, "node_guid", value)
        assert [seen.node for seen in bed.seen(0)[:2]] == [value] * 2
    # There is no VF 5; it is remembered all the same.
    assert not set_vf(mlx5, 5, "node_guid", guid(5))
    bed.numvfs(0, 0)
    bed.numvfs(0, 6)
    assert bed.seen(0)[5].node == guid(5)


def test_wrong_netdev(bed, mlx5):
    assert "not supported" in set_vf("lo", 0, "node_guid", guid(1))


# ---- mlx5 by MLNX_OFED's files -------------------------------------------


def test_the_files_are_there_with_the_vfs(bed, ofed):
    assert sorted(os.listdir(ofed)) == ["0", "1", "2", "3"]
    assert sorted(os.listdir(ofed / "0")) == ["node", "policy", "port"]
    for path in (ofed / "0").iterdir():
        assert path.stat().st_mode & 0o777 == 0o644
    bed.numvfs(0, 0)
    assert os.listdir(ofed) == []
    knob("ofed", 0)
    bed.numvfs(0, 2)
    assert not ofed.exists()
    bed.numvfs(0, 0)
    knob("ofed", 1)
    bed.numvfs(0, 2)
    assert sorted(os.listdir(ofed)) == ["0", "1"]


def test_no_files_without_ofed(bed, mlx5):
    assert not (DEVICES / bed.pfs[0] / "sriov").exists()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("fa:16:3e:00:00:01:02:03", "fa:16:3e:00:00:01:02:03"),
        ("FA:16:3E:00:00:01:02:03", "fa:16:3e:00:00:01:02:03"),
        ("f:1:3:0:0:1:2:3", "0f:01:03:00:00:01:02:03"),
        ("fa: 16:3e:00:00:01:02:03", "fa:16:3e:00:00:01:02:03"),
        ("fa:16:3e:00:00:01:02:03 and more", "fa:16:3e:00:00:01:02:03"),
        (ONES, ONES),
    ],
)
def test_forms_that_the_files_take(bed, ofed, text, value):
    for name in ("node", "port"):
        write(ofed / "2" / name, text)
        assert read(ofed / "2" / name) == value


def test_forms_that_the_files_refuse(bed, ofed):
    for text in (
        "", "fa163e0000010203", "0xfa163e0000010203", "fa:16:3e:00:00:01:02",
        "0xfa:16:3e:00:00:01:02:03", "gg:16:3e:00:00:01:02:03",
        "fa-16-3e-00-00-01-02-03", "fa16:3e00:0001:0203",
    ):  # fmt: skip
        assert refused(ofed / "0/node", text) == errno.EINVAL
        assert refused(ofed / "0/port", text) == errno.EINVAL
    for text in ("down", "FOLLOW", "auto", "Follow ", "Foll", "1", ""):
        assert refused(ofed / "0/policy", text) == errno.EINVAL
    assert bed.counts().modify == 0


def test_policies_in_the_files(bed, ofed):
    assert read(ofed / "1/policy") == "Down"
    for word in ("Up", "Follow", "Down"):
        write(ofed / "1/policy", word)
        assert read(ofed / "1/policy") == word
        assert bed.seen(0)[1].policy == word.lower()


def test_netlink_knows_only_the_guids_that_it_set(bed, ofed):
    write(ofed / "0/node", guid(1))
    write(ofed / "0/port", guid(1))
    assert bed.seen(0)[0] == FRESH
    bed.seed(0, 0, node=guid(2), port=guid(2))
    assert read(ofed / "0/node") == read(ofed / "0/port") == guid(2)
    write(ofed / "0/node", guid(3))
    assert bed.seen(0)[0] == Seen(guid(3), guid(2), "down")


# ---- what survives what --------------------------------------------------


def test_a_vf_takes_its_identity_at_its_probe(bed, mlx5):
    vf = bed.vf(0, 1)
    bed.seed(0, 1, node=guid(1), port=guid(2))
    assert identity(vf) == ZERO
    rebind(vf)
    assert identity(vf) == guid(1)
    (gid,) = (DEVICES / vf).glob("infiniband/*/ports/1/gids/0")
    assert read(gid) == "fe80:0000:0000:0000:fa16:3e00:0000:0002"
    bed.seed(0, 1, node=guid(3))
    assert identity(vf) == guid(1)
    assert bed.seen(0)[1] == Seen(guid(3), guid(2), "down")


def test_values_are_given_back_after_numvfs(bed, ofed):
    bed.seed(0, 0, node=guid(1), port=guid(1), policy="follow")
    write(ofed / "1/node", guid(2))
    bed.numvfs(0, 0)
    bed.reset_counts()
    bed.numvfs(0, 4)
    # One command a VF, be there something to give back or not.
    assert bed.counts() == Counts(modify=4, query=0, getlink=0, probe=4)
    assert bed.seen(0) == [Seen(guid(1), guid(1), "follow"), *[FRESH] * 3]
    assert read(ofed / "1/node") == guid(2)
    assert identity(bed.vf(0, 0)) == guid(1)
    assert identity(bed.vf(0, 1)) == guid(2)


def test_values_are_lost_with_the_pfs_driver(bed, mlx5):
    bed.seed(0, 0, node=guid(1), port=guid(1), policy="follow")
    rebind(bed.pfs[0])
    assert read(DEVICES / bed.pfs[0] / "sriov_numvfs") == "0"
    bed.numvfs(0, 4)
    assert bed.seen(0) == [FRESH] * 4


def test_numvfs_refuses(bed, mlx5):
    numvfs = DEVICES / bed.pfs[0] / "sriov_numvfs"
    assert refused(numvfs, 3) == errno.EBUSY
    assert refused(numvfs, 1000) == errno.ERANGE
    assert refused(numvfs, "some") == errno.EINVAL


def test_a_driverless_vf_cannot_be_unbound(bed, mlx5):
    vf = bed.vf(0, 0)
    bed.bind(vf, None)
    assert driver(vf) is None
    unbind = PCI / "drivers/mlx5_core/unbind"
    assert refused(unbind, vf) == errno.ENODEV
    # without autoprobe not even bound, but for the override
    write(DEVICES / bed.pfs[0] / "sriov_drivers_autoprobe", 0)
    assert refused(PCI / "drivers/mlx5_core/bind", vf) == errno.ENODEV
    bed.bind(vf, "vfio-pci")
    assert driver(vf) == "vfio-pci"


def test_a_vf_in_a_guests_hands_is_enabled_on_vfio(bed, mlx5):
    vf = bed.vf(0, 2)
    enable = DEVICES / vf / "enable"
    bed.seed(0, 2, node=guid(1), port=guid(1), policy="follow")
    bed.bind(vf, "vfio-pci")
    assert identity(vf) is None
    assert read(enable) == "0"
    with bed.hold(vf):
        assert driver(vf) == "vfio-pci"
        assert read(enable) == "1"
        with pytest.raises(OSError, match="busy"), bed.hold(vf):
            pass
    assert read(enable) == "0"
    # The reset on the way did not touch what the PF set.
    assert bed.seen(0)[2] == Seen(guid(1), guid(1), "follow")
    bed.bind(vf, "mlx5_core")
    assert identity(vf) == guid(1)


# ---- mlx4 ----------------------------------------------------------------


def test_mlx4_has_two_netdevs_on_one_function(bed, iov):
    net = DEVICES / bed.pfs[0] / "net"
    names = sorted(os.listdir(net))
    assert [read(net / name / "dev_port") for name in names] == ["0", "1"]
    assert "driver: ib_ipoib\n" in run("ethtool", "-i", names[0])
    assert sorted(os.listdir(net.parent / iov.parent / "ports")) == ["1", "2"]


def test_mlx4_knows_nothing_of_vfs_by_netlink(bed, iov):
    dev = netdev(bed)
    for word, value in (
        ("node_guid", guid(1)), ("port_guid", guid(1)), ("state", "auto"),
    ):  # fmt: skip
        assert "not supported" in set_vf(dev, 0, word, value)
    assert "node guid" not in run("ip", "-d", "-j", "link", "show", dev)


def test_mlx4_makes_its_vfs_at_probe(bed, iov):
    numvfs = DEVICES / bed.pfs[0] / "sriov_numvfs"
    assert read(numvfs) == "4"
    assert refused(numvfs, 0) == errno.ENOENT


def test_mlx4_vf_folders_are_named_by_the_slave(bed, iov):
    start = bed.pfs[0][:8]
    assert sorted(os.listdir(iov)) == [
        *(f"{start}00.{n}" for n in range(5)), "ports",
    ]  # fmt: skip
    for slave in range(5):
        ports = iov / f"{start}00.{slave}/ports"
        assert sorted(os.listdir(ports)) == ["1", "2"]
        assert read(ports / "2/gid_idx/0") == str(slave)


def test_mlx4_guids_are_asked_of_the_subnet_manager(bed, iov):
    knob("sm_delay", 300)
    admin = iov / "ports/2/admin_guids/3"
    gid = iov / "ports/2/gids/3"
    was = read(gid)
    write(admin, "0a163e0000010203")
    # no zero padding; the answer takes its time
    assert read(admin) == "a163e0000010203"
    assert read(gid) == was
    new = "fe80:0000:0000:0000:0a16:3e00:0001:0203"
    until(lambda: read(gid) == new)
    # the port beside it is another matter
    assert read(iov / "ports/1/admin_guids/3") == "0"
    # all ones: deleted; zero: the SM's choice
    knob("sm_delay", 0)
    write(admin, "f" * 16)
    until(lambda: read(gid).endswith(":0000:0000:0000:0000"))
    assert read(admin) == "f" * 16
    write(admin, "0")
    until(lambda: read(admin) not in ("0", "f" * 16))
    chosen = read(admin).rjust(16, "0")
    until(lambda: read(gid).replace(":", "").endswith(chosen))


def test_mlx4_subnet_manager_that_does_not_answer(bed, iov):
    knob("sm_silent", 1)
    admin = iov / "ports/1/admin_guids/1"
    gid = iov / "ports/1/gids/1"
    was = read(gid)
    write(admin, "fa163e0000010203")
    assert read(admin) == "fa163e0000010203"
    assert read(gid) == was
    knob("sm_silent", 0)
    new = "fe80:0000:0000:0000:fa16:3e00:0001:0203"
    until(lambda: read(gid) == new)
    # and one that refuses
    bed.fail(bed.vf(0, 0), errno.EIO)
    write(admin, "fa163e0000010204")
    assert read(gid) == new
    bed.heal()
    until(lambda: read(gid).endswith(":0204"))


def test_mlx4_takes_any_text_for_a_success(bed, iov):
    admin = iov / "ports/1/admin_guids"
    write(admin / "1", "0xfa163e0000010203")
    assert read(admin / "1") == "fa163e0000010203"
    write(admin / "1", "fa:16:3e:00:00:01:02:03")
    assert read(admin / "1") == "fa"
    write(admin / "1", "nonsense")
    assert read(admin / "1") not in ("fa", "0")
    own = read(admin / "0")
    write(admin / "0", "fa163e0000010203")
    assert read(admin / "0") == own


def test_mlx4_pkey_indexes(bed, iov):
    pf = iov / f"{bed.pfs[0][:8]}00.0/ports/1/pkey_idx"
    vf = iov / f"{bed.pfs[0][:8]}00.2/ports/1/pkey_idx"
    last = len(os.listdir(vf)) - 1
    assert read(iov / "ports/1/pkeys/0") == "0xffff"
    assert read(iov / "ports/1/pkeys/1") == "0x7fff"
    assert [read(vf / "0"), read(vf / "1")] == ["0", "none"]
    for text, shown in (
        ("1", "1"), ("0x2", "2"), ("none", "none"), ("NO", "none"),
        (str(last), str(last)),
    ):  # fmt: skip
        write(vf / "1", text)
        assert read(vf / "1") == shown
    for text in (str(last + 1), "-1", "some"):
        assert refused(vf / "0", text) == errno.EINVAL
    assert refused(pf / "0", "1") == errno.EINVAL
    assert bed.counts().modify == 0


def test_mlx4_pkeys_are_the_subnet_managers(bed, iov):
    """Who writes them in the real fabric; a VF's places stay as they are."""
    vf = iov / f"{bed.pfs[0][:8]}00.2/ports/1/pkey_idx"
    write(vf / "0", "2")
    bed.pkeys(0x7FFF, 0x0005)
    for port in (1, 2):
        table = iov / f"ports/{port}/pkeys"
        assert [read(table / str(n)) for n in range(3)] == [
            "0x7fff",
            "0x0005",
            "0x0000",
        ]
    assert read(iov.parent / "ports/1/pkeys/1") == "0x0005"
    assert read(vf / "0") == "2"
    bed.pkeys(0xFFFF, 0x7FFF, 0x8001)


def test_mlx4_vf_takes_the_admin_guid_at_its_probe(bed, iov):
    vf = bed.vf(0, 2)
    bed.seed(0, 2, port=guid(1))
    write(iov / "ports/2/admin_guids/3", guid(2).replace(":", ""))
    assert identity(vf) == ZERO
    rebind(vf)
    assert identity(vf) == guid(1)
    (gid,) = (DEVICES / vf).glob("infiniband/*/ports/2/gids/0")
    assert read(gid) == "fe80:0000:0000:0000:fa16:3e00:0000:0002"


def test_mlx4_starts_with_random_guids_as_the_real_one(bed, iov):
    knob("mlx4_random", 1)
    knob("reset", bed.pfs[0])
    knob("mlx4_random", 0)
    found = [int(seen.port[:2], 16) for seen in bed.seen(0)]
    assert all(octet & 3 == 2 for octet in found)
    assert len({seen.port for seen in bed.seen(0)}) == 4


# ---- counters, delays, failures ------------------------------------------


def test_counters(bed, ofed, netlink):
    dev = netdev(bed)
    (index,) = netlink.link_lookup(ifname=dev)
    bed.reset_counts()
    netlink.get_links(index, ext_mask=1)
    # policy and statistics of each VF are asked of the firmware
    assert bed.counts() == Counts(modify=0, query=8, getlink=1, probe=0)
    netlink.get_links(index)
    read(ofed / "0/node")
    assert bed.counts() == Counts(modify=0, query=9, getlink=1, probe=0)
    write(ofed / "0/node", guid(1))
    netlink.link("set", index=index, vf={"vf": 1, "ib_node_guid": guid(1)})
    rebind(bed.vf(0, 3))
    assert bed.counts() == Counts(modify=2, query=9, getlink=1, probe=1)
    bed.reset_counts()
    bed.seen(0)
    bed.seed(0, 0, node=guid(1))
    assert bed.counts() == Counts(0, 0, 0, 0)


def test_failing_commands(bed, ofed):
    bed.fail(bed.vf(0, 1), errno.EIO, first=2)
    bed.fail(bed.vf(0, 2), errno.EBUSY)
    write(ofed / "1/node", guid(1))
    assert refused(ofed / "1/port", guid(1)) == errno.EIO
    assert refused(ofed / "1/policy", "Up") == errno.EIO
    assert "busy" in set_vf(netdev(bed), 2, "node_guid", guid(2))
    write(ofed / "0/node", guid(3))
    assert bed.counts().modify == 5
    bed.heal()
    write(ofed / "1/port", guid(1))
    assert [read(ofed / str(n) / "node") for n in range(3)] == [
        guid(3), guid(1), ZERO,
    ]  # fmt: skip


def test_vfs_that_are_not_made(bed, mlx5):
    """Those that came go again; what is remembered stays."""
    pf = DEVICES / bed.pfs[0]
    bed.seed(0, 3, node=guid(1))
    bed.numvfs(0, 0)
    for after in (0, 2):
        bed.reset_counts()
        bed.fail_numvfs(0, errno.ENOMEM, after)
        assert refused(pf / "sriov_numvfs", 4) == errno.ENOMEM
        assert bed.counts().probe == after
        assert read(pf / "sriov_numvfs") == "0"
        assert list(pf.glob("virtfn*")) == []
    bed.fail_numvfs(0, errno.ENOMEM)
    bed.heal()
    bed.numvfs(0, 4)
    assert bed.seen(0)[3].node == guid(1)


def test_who_is_killed_at_a_command(bed, ofed):
    """That one is carried out, and no more."""
    words = [f"echo Up > {ofed / str(n) / 'policy'}" for n in range(4)]
    command = ["sh", "-c", "; ".join(words)]
    assert bed.killed(command, 1) == -signal.SIGKILL
    assert [seen.policy for seen in bed.seen(0)] == ["up", *["down"] * 3]
    assert bed.killed(command, 9) == 0
    assert [seen.policy for seen in bed.seen(0)] == ["up"] * 4


def test_a_vf_that_cannot_be_asked_is_left_out(bed, mlx5, netlink):
    bed.fail_queries(bed.vf(0, 1), errno.EIO)
    (link,) = netlink.get_links(ifname=mlx5, ext_mask=1)
    found = [
        info.get_attr("IFLA_VF_MAC")["vf"]
        for info in link.get_attr("IFLA_VFINFO_LIST").get_attrs("IFLA_VF_INFO")
    ]
    assert found == [0, 2, 3]
    assert bed.seen(0) == [FRESH, Seen(None, None, None), FRESH, FRESH]


def test_slow_commands_hold_rtnl(bed, mlx5):
    """A change to any other device waits for the end of the message."""
    vfs = [{"vf": n, "ib_node_guid": guid(n)} for n in range(4)]

    def slow():
        with IPRoute() as sockets:
            (index,) = sockets.link_lookup(ifname=mlx5)
            sockets.link("set", index=index, vf=vfs)

    bed.delay(command=0.4)
    thread = threading.Thread(target=slow)
    thread.start()
    until(lambda: bed.counts().modify > 0)
    assert not ip("link", "set", "dev", "lo", "txqueuelen", "1001")
    assert bed.counts().modify == 4
    thread.join()


def test_a_slow_probe(bed, mlx5):
    """Of VFs that are bound at the same time the probes overlap."""
    bed.delay(probe=0.5)
    running = set()
    together = []

    def work(vf):
        running.add(vf)
        rebind(vf)
        together.append(len(running))
        running.discard(vf)

    threads = [
        threading.Thread(target=work, args=(bed.vf(0, n),)) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(together) > 1
    assert bed.counts().probe == 4


# ---- the module itself ---------------------------------------------------


def test_the_module_goes_and_comes_again(bed, iov):
    pf = DEVICES / bed.pfs[0]
    unload_module()
    assert driver(pf.name) is None
    assert read(pf / "vendor") != "0x15b3"
    assert read(pf / "sriov_numvfs") == "0"
    load_module()
    bed.build(Hca("mlx5", vfs=1))
    assert bed.seen(0) == [FRESH]


# ---- the large shape -----------------------------------------------------


def complaints():
    """What the kernel's log has that says of a bug in the module; a message
    that is too large is what tests have asked for."""
    log = re.sub(
        r"cut here.*\n.*WARNING: .* rtnl_getlink\+(?s:.*?)end trace",
        "",
        run("dmesg"),
    )
    return re.findall(r".*(?:BUG|WARNING|Oops|Call Trace|leak).*", log)


@pytest.mark.large
def test_three_pfs_of_127_vfs(bed, netlink):
    bed.build(Hca("mlx5", 127), Hca("mlx5-ofed", 127), Hca("mlx4", 127))
    for pf in range(3):
        assert len(bed.seen(pf)) == 127
        assert {driver(bed.vf(pf, n)) for n in (0, 126)} == {
            driver(bed.pfs[pf])
        }
    (index,) = netlink.link_lookup(ifname=netdev(bed))
    netlink.link(
        "set",
        index=index,
        vf=[{"vf": n, "ib_node_guid": guid(n)} for n in range(127)],
    )
    assert [seen.node for seen in bed.seen(0)] == [guid(n) for n in range(127)]
    # mlx4 writes the slave in decimal: 80 is not device 0x0a
    iov = next((DEVICES / bed.pfs[2]).glob("infiniband/*/iov"))
    address = bed.vf(2, 79)
    assert address.endswith(":0a.0")
    made_up = address.replace(":0a.0", ":10.0")
    assert read(iov / made_up / "ports/1/gid_idx/0") == "80"
    assert not (iov / address).exists()
    assert not complaints()


def test_the_kernel_has_nothing_to_complain_of():
    assert not complaints()
