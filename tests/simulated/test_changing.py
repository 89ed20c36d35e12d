# SPDX-License-Identifier: Apache-2.0
"""Trees that change, between calls and while they are read."""

import os
import threading
from contextlib import contextmanager

import pytest

from ibhostdev import BatchFailed, Guid, Vif
from ibhostdev.errors import (
    DeviceNotFound,
    NoMechanism,
)
from ibhostdev.simulate.rtnetlink import Rtnetlink
from tests.flavours import guid, mac, vifs
from tests.simulated.trees import pf_folder, put


def test_a_long_lived_host_sees_each_change(two):
    """Of those that it goes by."""
    host = two.connect()
    name = host.pfs[0].netdev.name
    host.plug(vifs(two, 1))
    ifindex = pf_folder(two) / "net" / name / "ifindex"
    number = ifindex.read_text()
    put(ifindex, 99)
    put(ifindex.with_name("iflink"), 99)
    with pytest.raises(NoMechanism, match="another device"):
        host.plug(vifs(two, 2))
    put(ifindex, number)
    put(ifindex.with_name("iflink"), number)
    host.plug(vifs(two, 2))
    (pf_folder(two) / "net").rename(pf_folder(two) / "gone")
    with pytest.raises(NoMechanism, match="no IPoIB network device"):
        host.plug(vifs(two, 3))
    (pf_folder(two) / "gone").rename(pf_folder(two) / "net")
    link = two.sys / "class/infiniband" / host.pfs[0].ib_device
    target = link.readlink()
    link.unlink()
    (pf_folder(two) / "infiniband").rename(pf_folder(two) / "gone")
    with pytest.raises(DeviceNotFound):
        host.plug(vifs(two, 3))
    (pf_folder(two) / "gone").rename(pf_folder(two) / "infiniband")
    link.symlink_to(target)
    host.plug(vifs(two, 3))
    put(pf_folder(two) / "sriov_drivers_autoprobe", 0)
    two.bind(two.vf(0, 0), None)
    two.host.machine.pfs[0].autoprobe = True
    two.bind(two.vf(0, 0), "mlx5_core")
    (warning,) = host.unplug(vifs(two, 3)).warnings
    assert "sriov_drivers_autoprobe" in warning


def test_only_who_maps_an_altname_has_it_looked_up(two, monkeypatch):
    asked = []
    answer = Rtnetlink.answer

    def counted(self, datagram):
        asked.append(datagram)
        return answer(self, datagram)

    monkeypatch.setattr(Rtnetlink, "answer", counted)
    numbers = []
    pf = two.connect().pfs[1]
    for devices in [pf.pci], [pf.netdev.name, pf.ib_device], ["ibp94s0"]:
        host = two.connect(physical_networks={"red": devices})
        asked.clear()
        for number in (1, 2):
            host.plug([Vif.parse(two.vf(1, 0), mac(number), "red")])
        numbers.append(len(asked))
    assert two.seen(1)[0].port == guid(2)
    assert numbers[0] == numbers[1] < numbers[2]


@contextmanager
def refused_while_read(bed, pf):
    """What changes before this PF is read, while the PFs are, by a plug on
    the first; the same host plugs afterwards."""
    gate = pf_folder(bed, pf) / "sriov_totalvfs"
    number = gate.read_text()
    gate.unlink()
    os.mkfifo(gate)
    host = bed.connect()
    refused = []

    def plug():
        try:
            host.plug(vifs(bed, 1))
        except (DeviceNotFound, NoMechanism) as error:
            refused.append(error)

    thread = threading.Thread(target=plug)
    thread.start()
    with gate.open("w") as written:  # it is being read by now
        yield host
        gate.unlink()
        put(gate, number)
        written.write(number)
    thread.join()
    assert len(refused) == 1


def test_a_netdev_that_comes_while_the_pfs_are_read(two):
    """After its own PF's network devices were listed."""
    net = pf_folder(two) / "net"
    net.rename(net.with_name("gone"))
    with refused_while_read(two, 1) as host:
        net.with_name("gone").rename(net)
    host.plug(vifs(two, 1))
    assert two.seen(0)[0].port == guid(1)


def test_an_ib_device_that_goes_while_the_pfs_are_read(two):
    """And comes back under its name: a driver that is loaded anew."""
    folder = pf_folder(two) / "infiniband"
    (device,) = folder.iterdir()
    link = two.sys / "class/infiniband" / device.name
    with refused_while_read(two, 0) as host:
        link.rename(two.sys / "link")
        folder.rename(two.sys / "folder")
    (two.sys / "folder").rename(folder)
    (two.sys / "link").rename(link)
    host.plug(vifs(two, 1))
    assert two.seen(0)[0].port == guid(1)


@pytest.mark.parametrize("file", ["node_guid", "ports/1/gids/0"])
@pytest.mark.parametrize("text", [None, ""])
def test_a_pf_whose_guid_could_not_be_read_once(two, file, text):
    """Afterwards no VF is given it, all the same."""
    (device,) = (pf_folder(two) / "infiniband").iterdir()
    value = (device / file).read_text().strip()[-19:].replace(":", "")
    (device / file).rename(two.sys / "later")
    if text is not None:
        put(device / file, text)
    host = two.connect()
    host.plug(vifs(two, 1))
    (two.sys / "later").rename(device / file)
    before = two.seen(1)
    with pytest.raises(BatchFailed, match=f"is that of PF {two.pfs[0]}"):
        host.plug([Vif(two.vf(1, 0), Guid(int(value, 16)))])
    assert two.seen(1) == before


@pytest.mark.parametrize("text", [None, ""])
@pytest.mark.parametrize("file", ["type", "ifindex", "iflink", "dev_port"])
def test_a_netdev_that_goes_away_and_comes_back(two, file, text):
    """Under its name, and was looked at in between."""
    (netdev,) = (pf_folder(two) / "net").iterdir()
    (netdev / file).rename(two.sys / "later")
    if text is not None:
        put(netdev / file, text)
    host = two.connect()
    with pytest.raises(NoMechanism):
        host.plug(vifs(two, 1))
    (two.sys / "later").rename(netdev / file)
    host.plug(vifs(two, 1))
    assert two.seen(0)[0].port == guid(1)


@pytest.mark.parametrize("missing", ["ports", "ports/1", "ports/1/link_layer"])
def test_an_ib_device_that_is_only_being_registered(two, missing):
    """It is in class/infiniband before its folder is complete."""
    (device,) = (pf_folder(two) / "infiniband").iterdir()
    (device / missing).rename(two.sys / "later")
    host = two.connect()
    with pytest.raises(DeviceNotFound):
        host.plug(vifs(two, 1))
    (two.sys / "later").rename(device / missing)
    host.plug(vifs(two, 1))
    assert two.seen(0)[0].port == guid(1)
