# SPDX-License-Identifier: Apache-2.0
"""What the stand-in is told: fabrics, and arguments, right and wrong."""

import pytest

from ibhostdev import Vif
from tests.ebrctl.conftest import DEVICE_ID
from tests.flavours import ONES, ZERO, guid, mac
from tests.testbed import Hca, Seen

MAPPINGS = "IBHOSTDEV_PHYSICAL_DEVICE_MAPPINGS"


def plugged(bed, number, index, pf=0):
    bed.connect().plug([Vif.parse(bed.vf(pf, index), mac(number))])


def test_a_mapping_keeps_fabrics_apart(bed, add_port, del_port):
    bed.build(Hca("mlx5", vfs=2), Hca("mlx5", vfs=2))
    mapping = {MAPPINGS: f"red:{bed.pfs[0]},\n blue:{bed.pfs[1]} # all"}
    assert add_port(1, 0, 0, "red", **mapping).returncode == 0
    assert add_port(1, 0, 1, "blue", **mapping).returncode == 0
    same = Seen(guid(1), guid(1), "follow")
    assert (bed.seen(0)[0], bed.seen(1)[0]) == (same, same)
    assert del_port(1, "red", **mapping).returncode == 0
    assert bed.seen(0)[0].port == ONES
    assert bed.seen(1)[0] == same


def test_a_fabric_that_is_mapped_no_more_may_be_anywhere(
    bed, add_port, del_port
):
    bed.build(Hca("mlx5", vfs=2))
    assert add_port(1, 0).returncode == 0
    done = del_port(1, **{MAPPINGS: f"red:{bed.pfs[0]}"})
    assert (done.returncode, done.stderr) == (0, "")
    assert bed.seen(0)[0].port == ONES


def test_a_vf_of_another_fabric_is_refused(bed, add_port):
    bed.build(Hca("mlx5", vfs=2), Hca("mlx5", vfs=2))
    mapping = {MAPPINGS: f"red:{bed.pfs[0]} blue:{bed.pfs[1]}"}
    done = add_port(1, 0, 0, "blue", **mapping)
    assert done.returncode == 1
    assert f"PF {bed.pfs[0]} is not on physical network 'blue'" in done.stderr
    done = add_port(1, 0, 0, "green", **mapping)
    assert done.returncode == 1
    assert "'green' is mapped to no PF" in done.stderr
    assert bed.seen(0)[0].port == ZERO


def test_a_mapping_by_device_names(bed, add_port):
    bed.build(Hca("mlx5", vfs=2))
    (pf,) = bed.connect().pfs
    for name in (pf.ib_device, pf.netdev.name):
        done = add_port(1, 0, fabric="red", **{MAPPINGS: f"red:{name}"})
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("form", ["'red:{}'", '"red:{}",', " red : {} # x"])
def test_a_mapping_as_eswitchd_has_it(bed, add_port, form):
    """networking-mlnx's sample of eswitchd.conf has quotes."""
    bed.build(Hca("mlx5", vfs=2))
    mapping = {MAPPINGS: form.format(bed.pfs[0].upper())}
    assert add_port(1, 0, fabric="red", **mapping).returncode == 0
    assert add_port(1, 0, fabric="blue", **mapping).returncode == 1


def test_a_device_as_libvirt_names_it(bed, add_port):
    bed.build(Hca("mlx5", vfs=2))
    name = "pci_" + bed.pfs[0].replace(":", "_").replace(".", "_")
    assert add_port(1, 0, fabric="red", **{MAPPINGS: f"red:{name}"}).stdout


def test_a_device_that_eswitchd_would_find_is_to_be_named(bed, add_port):
    bed.build(Hca("mlx5", vfs=2))
    done = add_port(1, 0, **{MAPPINGS: "default:autoib"})
    assert done.returncode == 1
    assert "autoib is eswitchd's word" in done.stderr
    assert MAPPINGS in done.stderr


@pytest.mark.parametrize("name", ["-h", "a;b", "'red'", "a[0]"])
def test_what_is_no_name_of_a_network(bed, add_port, del_port, name):
    bed.build(Hca("mlx5", vfs=2))
    for done in (add_port(1, 0, fabric=name), del_port(1, name)):
        assert done.returncode == 1
        assert "is no name of a physical network" in done.stderr
    assert bed.seen(0)[0].port == ZERO


def test_a_mapping_that_is_none(bed, add_port):
    bed.build(Hca("mlx5", vfs=2))
    done = add_port(1, 0, **{MAPPINGS: "default"})
    assert done.returncode == 1
    assert "'default' is not of the form NETWORK:DEVICE" in done.stderr


@pytest.mark.parametrize("form", ["'default:{}", 'default:{}"'])
def test_a_quote_alone_in_a_mapping(bed, add_port, form):
    bed.build(Hca("mlx5", vfs=2))
    done = add_port(1, 0, **{MAPPINGS: form.format(bed.pfs[0])})
    assert done.returncode == 1
    assert "a quote is none of a pair" in done.stderr
    assert MAPPINGS in done.stderr
    assert bed.seen(0)[0].port == ZERO


def test_each_port_of_mlx4_has_identities_of_its_own(bed, add_port):
    bed.build(Hca("mlx4", vfs=2, ports=2))
    (pf,) = bed.connect().pfs
    names = {netdev.port: netdev.name for netdev in pf.netdevs}
    mapping = {MAPPINGS: f"one:{names[1]},two:{names[2]}"}
    assert add_port(1, 0, fabric="two", **mapping).returncode == 0
    first = bed.seen(0)[0].port
    assert first != guid(1)
    networks = {"two": [names[2]]}
    bed.reset_counts()
    bed.connect(physical_networks=networks).plug(
        [Vif.parse(bed.vf(0, 0), mac(1), "two")]
    )
    assert bed.counts().modify == 0


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("add-port",),
        ("add-port", mac(1), DEVICE_ID, "default", "ib_hostdev"),
        ("del-port", "default"),
        ("del-port", "default", mac(1), "more"),
        ("allocate-port", "default", mac(1)),
    ],
)
def test_wrong_use(bed, ebrctl, arguments):
    bed.build(Hca("mlx5", vfs=1))
    done = ebrctl(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("usage: ebrctl ")


def test_help(bed, ebrctl):
    bed.build(Hca("mlx5", vfs=1))
    done = ebrctl("--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: ebrctl ")


@pytest.mark.parametrize(
    ("number", "value", "told"),
    [
        (0, "fa:16:3e:00:00", "is not a MAC address"),
        (0, "fa:16:3e:00:00:01:02:03", "is not a MAC address"),
        (0, "00:00:00:00:00:00", "is zero"),
        (3, "direct", "is no type of port"),
        (4, "../../../etc", "is not a PCI address"),
        (4, "0000:3b:20.0", "is not a PCI address"),
        (4, "0000:3b:00.8", "is not a PCI address"),
        (4, "", "is not a PCI address"),
        (4, "0000:3b:00.0\n", "is not a PCI address"),
        (4, "00ff:00:1f.7", "there is no such PCI device"),
    ],
)
def test_bad_input(bed, ebrctl, number, value, told):
    bed.build(Hca("mlx5", vfs=1))
    arguments = [mac(1), DEVICE_ID, "default", "ib_hostdev", bed.vf(0, 0)]
    arguments[number] = value
    done = ebrctl("add-port", *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Error in add-port command ")
    assert told in done.stderr
    assert bed.seen(0)[0].port == ZERO


def test_a_bad_mac_to_del_port(bed, ebrctl):
    bed.build(Hca("mlx5", vfs=1))
    done = ebrctl("del-port", "default", "ib0")
    assert done.returncode == 1
    assert done.stderr.startswith("Error in del-port command ")


def test_a_pf_is_no_vf(bed, ebrctl):
    bed.build(Hca("mlx5", vfs=1))
    done = ebrctl(
        "add-port", mac(1), DEVICE_ID, "default", "ib_hostdev", bed.pfs[0]
    )
    assert done.returncode == 1
    assert "is a PF: it has no physfn" in done.stderr


def test_a_vf_that_is_not_enabled(bed, ebrctl):
    bed.build(Hca("mlx5", vfs=4))
    slot = bed.vf(0, 3)
    bed.numvfs(0, 0)
    done = ebrctl("add-port", mac(1), DEVICE_ID, "default", "ib_hostdev", slot)
    assert done.returncode == 1
    assert f"{slot}: there is no such PCI device" in done.stderr


def test_nothing_serves(bed, add_port):
    bed.build(Hca("mlx5", vfs=2, netdev=False))
    done = add_port(1, 0)
    assert done.returncode == 1
    assert "nothing can set the identities of its VFs" in done.stderr
    assert "ib_ipoib" in done.stderr
