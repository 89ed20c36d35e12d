# SPDX-License-Identifier: Apache-2.0
"""Trees that are not quite what the drivers of today make."""

import errno
import fcntl
import logging
import shutil
import time
from contextlib import ExitStack

import pytest
from inotify_simple import INotify, flags

from ibhostdev import BatchFailed, Family, Vif
from ibhostdev.errors import (
    DeviceInUse,
    DeviceNotFound,
    IbHostdevError,
    InvalidInput,
    NoMechanism,
    TimedOut,
)
from tests.flavours import guid, mac, vifs
from tests.simulated.trees import pf_folder, put
from tests.testbed import Hca


def ib_device(bed, name, folder):
    """What class/infiniband has of a device in that folder."""
    (folder / "infiniband" / name / "ports/1").mkdir(parents=True)
    (bed.sys / "class/infiniband" / name).symlink_to(
        folder / "infiniband" / name
    )


def test_who_is_served_is_seen_without_asking_ports(two):
    """Firmware is asked for their states."""
    host = two.connect(ebrctl=lambda _: None)
    with INotify() as watch:
        for state in two.sys.glob("bus/pci/devices/*/infiniband/*/ports/1"):
            watch.add_watch(state, flags.OPEN)
        assert host.serves("mlx5_netlink")
        assert not host.serves("ebrctl")
        assert "state" not in {event.name for event in watch.read(timeout=0)}
        assert host.pfs[0].ports[0].state == "ACTIVE"
        assert "state" in {event.name for event in watch.read(timeout=0)}
    with pytest.raises(InvalidInput, match="no mechanism"):
        host.serves("magic")


def pcis(host):
    return [pf.pci for pf in host.pfs]


def test_software_devices_are_no_pfs(two):
    """rxe and siw have no PCI function behind them."""
    for name, folder in (
        ("rxe0", two.sys / "devices/virtual"),
        ("siw0", two.sys / "devices/virtual/net/eth0"),
        ("abc0", two.sys),
    ):
        ib_device(two, name, folder)
    link = two.sys / "class/infiniband/dangling"
    link.symlink_to("x")
    assert pcis(two.connect()) == two.pfs


def test_a_second_device_of_a_pf_is_the_same_pf(two):
    """Representors and sub-functions have devices of their own."""
    ib_device(two, "zzz5_9", pf_folder(two))
    host = two.connect()
    assert pcis(host) == two.pfs
    assert host.pfs[0].ib_device.startswith("mlx5_")


@pytest.mark.parametrize("layer", ["Ethernet", "InfiniBand", None])
@pytest.mark.parametrize("name", ["aaa5_9", "smi1"])
def test_an_smi_device_is_not_its_pf_s_device(two, name, layer):
    """Nor is a plane of a ConnectX-8: its ports have no GUID, if they are
    InfiniBand's at all."""
    shown = two.connect().pfs
    ib_device(two, name, pf_folder(two))
    ports = pf_folder(two) / "infiniband" / name / "ports"
    if layer:
        put(ports / "1/link_layer", layer)
        put(ports / "1/gids/0", "fe80:0000:0000:0000:0000:0000:0000:0000")
    else:
        (ports / "1").rmdir()
    host = two.connect()
    assert host.pfs == shown
    host.plug(vifs(two, 1))
    assert two.seen(0)[0].port == guid(1)
    host.unplug(vifs(two, 1))


def test_a_lone_device_need_not_show_a_guid(two):
    """The first by name of several, if none does."""
    (device,) = (pf_folder(two) / "infiniband").iterdir()
    (device / "ports/1/gids/0").unlink()
    host = two.connect()
    assert host.pfs[0].ib_device == device.name
    ib_device(two, "zzz5_9", pf_folder(two))
    put(device.with_name("zzz5_9") / "ports/1/link_layer", "InfiniBand")
    assert two.connect().pfs[0].ib_device == device.name


def test_a_device_that_shows_its_guid_late(two):
    """Until then it is one of several, and may not be the first."""
    (device,) = (pf_folder(two) / "infiniband").iterdir()
    gid = device / "ports/1/gids/0"
    gid.rename(two.sys / "later")
    ib_device(two, "aaa5_9", pf_folder(two))
    put(device.with_name("aaa5_9") / "ports/1/link_layer", "InfiniBand")
    host = two.connect()
    assert host.vf(two.vf(0, 0)).pf.ib_device == "aaa5_9"
    (two.sys / "later").rename(gid)
    assert host.vf(two.vf(0, 0)).pf.ib_device == device.name


def test_vfs_are_no_pfs(two):
    """They have IB devices, too, but no sriov_totalvfs."""
    assert len(list((two.sys / "class/infiniband").iterdir())) == 6
    assert pcis(two.connect()) == two.pfs


@pytest.mark.parametrize("driver", [None, "hfi1"])
def test_adapters_of_other_drivers_are_left_out(two, driver):
    drivers = two.sys / "bus/pci/drivers"
    link = drivers / "mlx5_core" / two.pfs[0]
    (pf_folder(two) / "driver").unlink()
    link.unlink()
    if driver:
        (drivers / driver).mkdir()
        (drivers / driver / link.name).symlink_to(pf_folder(two))
        (pf_folder(two) / "driver").symlink_to(drivers / driver)
    assert pcis(two.connect()) == two.pfs[1:]


def port(bed, number=1):
    (folder,) = pf_folder(bed).glob("infiniband/*/ports")
    return folder / str(number)


def test_ethernet_ports_do_not_count(bed):
    bed.build(Hca("mlx4", vfs=2, ports=2), Hca("mlx5", vfs=2))
    put(port(bed, 1) / "link_layer", "Ethernet")
    host = bed.connect()
    (one,) = host.pfs[0].ports
    assert (one.number, host.pfs[0].port) == (2, 2)
    put(port(bed, 2) / "link_layer", "Ethernet")
    assert pcis(host) == bed.pfs[1:]
    with pytest.raises(DeviceNotFound, match="no InfiniBand port") as caught:
        host.plug(vifs(bed, 1))
    assert bed.pfs[0] in str(caught.value)
    assert caught.value.device == bed.vf(0, 0)
    assert caught.value.cure


def test_what_a_port_cannot_tell(two):
    folder = port(two)
    put(folder / "sm_lid", "lots")
    (folder / "state").unlink()
    host = two.connect()
    (one,) = host.pfs[0].ports
    assert (one.sm_lid, one.state) == (0, "unknown")
    # and what it can tell is as of now
    put(folder / "sm_lid", "0x1f")
    put(folder / "state", "2: INIT")
    (one,) = host.pfs[0].ports
    assert (one.sm_lid, one.state) == (31, "INIT")


@pytest.mark.parametrize("text", ["0x1f garbage", "31", "0x100000000"])
def test_a_lid_that_is_none(two, text):
    put(port(two) / "sm_lid", text)
    (one,) = two.connect().pfs[0].ports
    assert one.sm_lid == 0


def test_folders_that_are_no_ports(two):
    shutil.copytree(port(two), port(two).with_name("gsi"))
    (one,) = two.connect().pfs[0].ports
    assert one.number == 1


def netdev(bed, name, **files):
    folder = pf_folder(bed) / "net" / name
    defaults = {"type": 32, "ifindex": 99, "iflink": 99, "dev_port": 0}
    for file, text in (defaults | files).items():
        put(folder / file, text)


def test_children_and_ethernet_are_no_netdevs_of_the_pf(two):
    """ib0.8001 is a P_Key child: it shows its parent's index in iflink."""
    own = [one.name for one in two.connect().pfs[0].netdevs]
    netdev(two, f"{own[0]}.8001", iflink=4)
    netdev(two, "aaa0", type=1)
    host = two.connect()
    assert [one.name for one in host.pfs[0].netdevs] == own
    host.plug(vifs(two, 1))
    assert two.seen(0)[0].port == guid(1)


def test_netdevs_are_in_the_order_of_their_ports(bed):
    """Whatever their names are."""
    bed.build(Hca("mlx4", vfs=1, ports=2))
    for name, port in (("ib0", 1), ("ib1", 0)):
        put(pf_folder(bed) / "net" / name / "dev_port", str(port))
    (pf,) = bed.connect().pfs
    assert [(one.name, one.port) for one in pf.netdevs] == [
        ("ib1", 1), ("ib0", 2),
    ]  # fmt: skip


def test_the_netdev_of_the_second_port_is_not_the_first_s(two):
    """Its dev_port says so."""
    (name,) = [one.name for one in two.connect().pfs[0].netdevs]
    put(pf_folder(two) / "net" / name / "dev_port", "1")
    host = two.connect()
    assert [(one.name, one.port) for one in host.pfs[0].netdevs] == [(name, 2)]
    assert host.pfs[0].netdev is None
    with pytest.raises(NoMechanism, match="no IPoIB network device"):
        host.plug(vifs(two, 1))


@pytest.mark.parametrize("text", ["many", "-1", "65536"])
def test_a_pf_that_is_ill_does_not_stop_the_others(two, caplog, text):
    put(pf_folder(two) / "sriov_numvfs", text)
    with caplog.at_level(logging.WARNING, "ibhostdev"):
        assert pcis(two.connect()) == two.pfs[1:]
    (message,) = set(caplog.messages)
    assert two.pfs[0] in message
    assert "sriov" in message


def test_a_file_that_cannot_be_read(two, caplog):
    file = pf_folder(two) / "sriov_stride"
    file.unlink()
    file.mkdir()
    with caplog.at_level(logging.WARNING, "ibhostdev"):
        assert pcis(two.connect()) == two.pfs[1:]
    (message,) = set(caplog.messages)
    assert two.pfs[0] in message
    assert "EISDIR" in message


def test_a_kernel_that_always_probes(two):
    """Before 4.15 there is no sriov_drivers_autoprobe."""
    (pf_folder(two) / "sriov_drivers_autoprobe").unlink()
    host = two.connect()
    host.plug(vifs(two, 1))
    host.plug(vifs(two, 2))
    assert two.seen(0)[0].port == guid(2)
    assert not host.pfs[0].autoprobe


def test_a_number_of_vfs_is_hex_too(two):
    put(pf_folder(two) / "sriov_stride", "0x1")
    put(pf_folder(two) / "sriov_drivers_autoprobe", "0")
    host = two.connect()
    assert (host.pfs[0].stride, host.pfs[0].autoprobe) == (1, False)
    assert host.pfs[1].autoprobe
    assert host.vf(two.vf(0, 1)).index == 1


@pytest.mark.parametrize("missing", ["sriov_offset", "sriov_stride"])
def test_files_that_older_kernels_lack(two, missing):
    """Without them the VFs' addresses are not known, and none is taken for
    a VF that is something else."""
    (pf_folder(two) / missing).unlink()
    host = two.connect()
    assert pcis(host) == two.pfs
    with pytest.raises(DeviceNotFound):
        host.plug([Vif.parse(two.vf(0, 1), mac(1))])
    assert two.counts().modify == 0


def test_a_virtfn_that_leads_elsewhere(two):
    """No driver checks an index, so the kernel's own links do."""
    link = pf_folder(two) / "virtfn1"
    link.unlink()
    link.symlink_to(f"../{two.vf(0, 0)}")
    two.seed(0, 1, guid(5), guid(5), "follow")
    host = two.connect()
    with pytest.raises(BatchFailed, match="vanished") as caught:
        host.unplug([Vif.parse(None, mac(5))])
    assert caught.value.device == two.vf(0, 1)
    with pytest.raises(DeviceNotFound, match="does not list it") as caught:
        host.plug([Vif.parse(two.vf(0, 1), mac(1))])
    assert caught.value.device == two.vf(0, 1)
    assert two.pfs[0] in str(caught.value)
    link.unlink()
    with pytest.raises(DeviceNotFound, match="does not list it"):
        host.plug([Vif.parse(two.vf(0, 1), mac(1))])
    # the others are where they were
    good, bad = (
        Vif.parse(two.vf(0, 0), mac(1)),
        Vif.parse(two.vf(1, 1), mac(2)),
    )
    host.plug([good, bad])
    assert (two.seen(0)[0].port, two.seen(1)[1].port) == (guid(1), guid(2))


def test_a_vf_beyond_those_that_are_enabled(two):
    """Its folder is still there, and says whose it is."""
    put(pf_folder(two) / "sriov_numvfs", "1")
    with pytest.raises(DeviceNotFound, match="below the 1 that") as caught:
        two.connect().plug([Vif.parse(two.vf(0, 1), mac(1))])
    assert caught.value.attribute == "sriov_numvfs"
    assert two.pfs[0] in str(caught.value)


def test_a_function_that_is_neither(two):
    folder = two.sys / "devices/0000:00:1f.0"
    folder.mkdir()
    (two.sys / "bus/pci/devices" / folder.name).symlink_to(folder)
    host = two.connect()
    with pytest.raises(DeviceNotFound, match="is no VF"):
        host.plug([Vif.parse(folder.name, mac(1))])
    put(folder / "sriov_totalvfs", 4)
    with pytest.raises(DeviceNotFound, match="is a PF"):
        host.plug([Vif.parse(folder.name, mac(1))])


def test_a_vf_whose_state_of_use_cannot_be_read(two):
    """It may be in a guest's hands."""
    two.bind(two.vf(0, 0), "vfio-pci")
    file = two.sys / "bus/pci/devices" / two.vf(0, 0) / "enable"
    host = two.connect()
    assert not host.vf(two.vf(0, 0)).in_use
    file.unlink()
    assert host.vf(two.vf(0, 0)).in_use


def test_a_driver_of_vfio_s_kind(two):
    """mlx5_vfio_pci is one, too; the vendor's own with enable at 1 is
    not."""
    folder = two.sys / "bus/pci/devices" / two.vf(0, 0)
    host = two.connect()
    assert not host.vf(two.vf(0, 0)).in_use
    (folder / "driver").unlink()
    (folder / "driver").symlink_to("../drivers/mlx5_vfio_pci")
    put(folder / "enable", 1)
    vf = host.vf(two.vf(0, 0))
    assert (vf.driver, vf.in_use) == ("mlx5_vfio_pci", True)


@pytest.mark.parametrize(
    "driver", ["pciback", "pci-stub", "uio_pci_generic", "igb_uio"]
)
def test_whoever_enabled_it_has_it(two, driver):
    """Xen's guests, and programs that drive a device from user space."""
    folder = two.sys / "bus/pci/devices" / two.vf(0, 0)
    host = two.connect()
    host.plug(vifs(two, 1, 2))
    (folder / "driver").unlink()
    (folder / "driver").symlink_to(f"../drivers/{driver}")
    put(folder / "enable", 1)
    before = two.seen(0)
    two.reset_counts()
    with pytest.raises(BatchFailed) as caught:
        host.plug(vifs(two, 3))
    assert isinstance(caught.value.result.failures[0], DeviceInUse)
    with pytest.raises(BatchFailed):
        host.plug([Vif.parse(two.vf(0, 1), mac(1))])
    with pytest.raises(BatchFailed):
        host.unplug(vifs(two, 1))
    assert (two.seen(0), two.counts().modify) == (before, 0)
    put(folder / "enable", 0)
    host.plug(vifs(two, 3))
    assert two.seen(0)[0].port == guid(3)


@pytest.mark.parametrize("loaded", [True, False])
def test_no_infiniband_at_all(two, loaded):
    """The IB core is not loaded, be the adapters' own driver or not."""
    shutil.rmtree(two.sys / "class/infiniband")
    for folder in (two.sys / "bus/pci/devices").glob("*/infiniband"):
        shutil.rmtree(folder)
    if not loaded:
        shutil.rmtree(two.sys / "bus/pci/drivers/mlx5_core")
    host = two.connect()
    assert host.pfs == []
    with pytest.raises(DeviceNotFound):
        host.plug(vifs(two, 1))


def test_a_driver_s_folder_that_cannot_be_listed(two):
    folder = two.sys / "bus/pci/drivers/mlx5_core"
    folder.rename(folder.with_name("other"))
    folder.touch()
    with pytest.raises(IbHostdevError) as caught:
        two.connect().plug(vifs(two, 1))
    assert caught.value.errno == errno.ENOTDIR
    assert "bus/pci/drivers/mlx5_core" in str(caught.value)
    folder.unlink()
    folder.with_name("other").rename(folder)


def test_ib_devices_that_cannot_be_listed(two, caplog):
    """There may be one, so its VFs may hold any GUID."""
    folder = pf_folder(two) / "infiniband"
    folder.rename(folder.with_name("other"))
    folder.touch()
    with caplog.at_level(logging.WARNING, "ibhostdev"):
        assert pcis(two.connect()) == two.pfs[1:]
    (message,) = set(caplog.messages)
    assert two.pfs[0] in message
    assert "ENOTDIR" in message
    with pytest.raises(IbHostdevError) as caught:
        two.connect().plug(vifs(two, 1))
    assert caught.value.device == two.vf(0, 0)
    assert two.pfs[0] in str(caught.value)
    assert caught.value.errno == errno.ENOTDIR


def test_an_ib_device_in_another_rdma_namespace(two):
    """Its folder is there, and empty; what its VFs hold is not known."""
    host = two.connect()
    host.plug(vifs(two, 1))
    (device,) = (pf_folder(two) / "infiniband").iterdir()
    device.rename(two.sys / "away")
    (two.sys / "class/infiniband" / device.name).unlink()
    assert pcis(host) == two.pfs[1:]
    with pytest.raises(DeviceNotFound, match="RDMA namespace") as caught:
        host.plug(vifs(two, 2))
    assert caught.value.device == two.vf(0, 0)
    result = host.unplug([Vif.parse(None, mac(1))])
    assert not result.results[0].verified
    (warning,) = result.warnings
    assert two.pfs[0] in warning
    assert "RDMA namespace" in warning
    # and no VFs no doubt
    put(pf_folder(two) / "sriov_numvfs", 0)
    assert host.unplug([Vif.parse(None, mac(1))]).results[0].verified


def test_an_ofed_without_a_policy_is_stock(bed):
    """With an Ethernet port there are such folders, too."""
    bed.build(Hca("mlx5-ofed", vfs=2))
    assert bed.connect().pfs[0].family is Family.MLX5_OFED
    (pf_folder(bed) / "sriov/0/policy").unlink()
    assert bed.connect().pfs[0].family is Family.MLX5
    shutil.rmtree(pf_folder(bed) / "sriov/0")
    assert bed.connect().pfs[0].family is Family.MLX5


def node_guid(bed):
    (file,) = (bed.sys / "bus/pci/devices" / bed.vf(0, 0)).glob(
        "infiniband/*/node_guid"
    )
    return file


def test_a_vf_whose_driver_shows_no_identity(two):
    """Whatever it took, it is bound anew: nobody can tell that it need
    not."""
    host = two.connect()
    host.plug([Vif.parse(two.vf(0, 0), mac(1), "default")])
    file = node_guid(two)
    two.reset_counts()
    host.unplug(
        vifs(two, 1),
        progress=lambda stage, *_: (
            file.unlink() if stage == "verify" else None
        ),
    )
    assert two.counts().probe == 1
    # but not on suspicion alone
    node_guid(two).unlink()
    two.reset_counts()
    host.unplug(vifs(two, 1))
    assert two.counts().probe == 0


def test_a_vf_whose_driver_has_no_device(two):
    """Its IB driver is not loaded, or has not come to it yet."""
    host = two.connect()
    host.plug(vifs(two, 1))
    folder = node_guid(two).parents[1]
    two.reset_counts()
    host.unplug(
        vifs(two, 1),
        progress=lambda stage, *_: (
            shutil.rmtree(folder) if stage == "verify" else None
        ),
    )
    assert two.counts().probe == 1


@pytest.mark.parametrize("text", ["", "garbage"])
def test_an_identity_that_is_garbage(two, text):
    host = two.connect()
    host.plug(vifs(two, 1))
    put(node_guid(two), text)
    two.reset_counts()
    host.unplug(vifs(two, 1))
    assert two.counts().probe == 1


@pytest.mark.parametrize("order", [(0, 6), (6, 0)])
def test_locks_are_waited_for_in_one_order_over_all_domains(bed, order):
    """Whoever names which first: two batches would wait for each other."""
    bed.build(*[Hca("mlx5", vfs=1)] * 7)
    first, second = bed.pfs[0], bed.pfs[6]
    assert first[5:] == second[5:]
    host = bed.connect()
    host.plug(vifs(bed, 1))
    with ExitStack() as held:
        for pf in (first, second):
            lock = held.enter_context(open(f"{host.run_dir}/{pf}.lock", "a"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        late = time.monotonic() + 1
        batch = [Vif.parse(bed.vf(pf, 0), mac(pf + 1)) for pf in order]
        with pytest.raises(TimedOut) as caught:
            host.plug(batch, until=late)
    assert first in str(caught.value)
    assert second not in str(caught.value)
