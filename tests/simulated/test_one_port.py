# SPDX-License-Identifier: Apache-2.0
"""VFs with one port of a two-port ConnectX-3: with num_vfs=1,1,0 the driver
makes no folder for the other (mlx4 sysfs.c, register_one_pkey_tree)."""

import shutil

import pytest

from ibhostdev import BatchFailed, Vif
from ibhostdev.errors import DeviceNotFound
from tests.flavours import guid, mac
from tests.simulated.trees import pf_folder
from tests.testbed import Hca


@pytest.fixture
def half(bed):
    """VF 0 has port 1, VF 1 has port 2."""
    bed.build(Hca("mlx4", vfs=2, ports=2))
    (iov,) = pf_folder(bed).glob("infiniband/*/iov")
    for folder in iov.glob("*/ports/[12]"):
        last = folder.parent.parent.name[-1]
        if last in "12" and folder.name != last:
            shutil.rmtree(folder)
    return bed


def identities(host, port):
    (pf,) = host.pfs
    return host.survey(pf.on_port(port))


def test_it_is_plugged_on_the_port_that_it_has(half):
    host = half.connect()
    vifs = [Vif.parse(half.vf(0, n), mac(n + 1)) for n in range(2)]
    assert host.plug(vifs).ok
    assert str(identities(host, 1)[0].port_guid) == guid(1)
    assert str(identities(host, 2)[1].port_guid) == guid(2)
    result = host.unplug(vifs)
    assert result.ok
    assert all(one.changed for one in result.results)


def test_a_network_on_the_other_port_is_refused_with_the_cause(half):
    first, second = sorted(
        path.name for path in (half.sys / "class/net").iterdir()
    )
    host = half.connect(physical_networks={"one": [first], "two": [second]})
    with pytest.raises(BatchFailed) as caught:
        host.plug([Vif.parse(half.vf(0, 1), mac(1), "one")])
    (error,) = caught.value.result.failures
    assert isinstance(error, DeviceNotFound)
    assert "has no port 1" in str(error)
    assert "health" not in error.cure


@pytest.mark.parametrize("hint", [None, 1])
def test_an_absent_guid_was_looked_for_on_each_port_that_is_there(half, hint):
    pci = None if hint is None else half.vf(0, hint)
    (one,) = half.connect().unplug([Vif.parse(pci, mac(9))]).results
    assert (one.error, one.changed, one.verified) == (None, False, True)


def test_who_has_no_port_is_not_told_of_there(half):
    host = half.connect()
    (pf,) = host.pfs
    assert sorted(host.survey(pf.on_port(1))) == [0]
    assert sorted(host.survey(pf.on_port(2))) == [1]
