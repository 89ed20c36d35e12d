# SPDX-License-Identifier: Apache-2.0
"""Bad days that the rig's kernel cannot be made to have."""

import errno
import os

import pytest

from ibhostdev import BatchFailed, Vif
from ibhostdev.errors import (
    AccessDenied,
    IbHostdevError,
    NoMechanism,
    NotVerified,
    RebindFailed,
    TimedOut,
)
from ibhostdev.inventory import Policy
from tests.flavours import ONES, guid, mac, vifs
from tests.testbed import Hca


@pytest.fixture(autouse=True)
def _simulated(bed):
    if bed.kind != "simulated":
        pytest.fail("these tests make faults that a real kernel does not have")


def back(bed, vf):
    """From its guest: the host's driver takes the identity that it has."""
    bed.bind(vf, None)
    bed.bind(vf, "mlx5_core")


@pytest.mark.parametrize("flavour", ["netlink", "ofed"], indirect=True)
def test_no_right_to_write_by_netlink(bed, flavour):
    bed.host.deny(netlink=errno.EPERM)
    before = bed.seen(0)
    with pytest.raises(BatchFailed) as caught:
        bed.connect().plug(vifs(bed, 1, 2))
    for one in caught.value.result.failures:
        assert isinstance(one, AccessDenied)
        assert one.errno == errno.EPERM
        assert "CAP_NET_ADMIN" in one.cure
    assert bed.seen(0) == before


@pytest.mark.parametrize("flavour", ["files", "mlx4"], indirect=True)
@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_no_right_to_write_files(bed, flavour, number):
    bed.host.deny(sysfs=number)
    before = bed.seen(0)
    with pytest.raises(BatchFailed) as caught:
        bed.connect().plug(vifs(bed, 1, 2))
    for one in caught.value.result.failures:
        assert isinstance(one, AccessDenied)
        assert one.errno == number
        assert bed.pfs[0] in str(one)
    assert bed.seen(0) == before


def test_no_right_to_take_the_locks(bed, tmp_path):
    bed.build(Hca("mlx5", vfs=2))
    (tmp_path / "file").touch()
    before = bed.seen(0)
    with pytest.raises(Exception, match="lock") as caught:
        bed.connect(run_dir=str(tmp_path / "file")).plug(vifs(bed, 1))
    assert str(tmp_path) in str(caught.value)
    if os.geteuid():
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(AccessDenied) as denied:
            bed.connect(run_dir=str(tmp_path / "closed")).plug(vifs(bed, 1))
        assert "--run-dir" in denied.value.cure
        assert "--privilege" not in denied.value.cure
    assert bed.seen(0) == before


@pytest.mark.parametrize("fault", ["namespace", "other"])
def test_a_netdev_in_another_namespace(bed, fault):
    """sysfs still lists it, and by its index ours may have another device
    of that index, which must not be written to."""
    bed.build(Hca("mlx5", vfs=2))
    host = bed.connect()
    bed.host.netdev(host.pfs[0].netdev.name, fault)
    with pytest.raises(NoMechanism, match="namespace") as caught:
        host.plug(vifs(bed, 1))
    if fault == "other":
        assert "is another device (0000:" in str(caught.value)
    bed.build(Hca("mlx5-ofed", vfs=2))
    host = bed.connect()
    bed.host.netdev(host.pfs[0].netdev.name, fault)
    result = host.plug(vifs(bed, 1))
    assert result.results[0].mechanism == "mlx5_sysfs"


def test_a_subnet_manager_that_is_silent(bed):
    """mlx4 asks it for each GUID. The VFs go back to what they were, and
    unplugging does not depend on it."""
    bed.build(Hca("mlx4", vfs=3))
    host = bed.connect(settle_seconds=0.05)
    bed.connect().plug(vifs(bed, 1))
    bed.host.sm_silent()
    with pytest.raises(BatchFailed) as caught:
        host.plug([Vif.parse(bed.vf(0, 1), mac(2))])
    (error,) = caught.value.result.failures
    assert isinstance(error, TimedOut)
    assert "subnet manager" in str(error)
    assert bed.seen(0)[1].port in ("ff:ff:ff:ff:ff:ff:ff:ff", guid(0)) or (
        bed.seen(0)[1] == bed.seen(0)[2]
    )
    # What the subnet manager did not take is not called done the next time.
    for _ in range(2):
        with pytest.raises(BatchFailed):
            host.plug([Vif.parse(bed.vf(0, 1), mac(2))], on_error="continue")
    host.unplug(vifs(bed, 1))
    assert bed.seen(0)[0].port == "ff:ff:ff:ff:ff:ff:ff:ff"


def test_a_guest_whose_guid_the_subnet_manager_has_not_agreed_to(bed):
    """It is left alone, and not said to have it."""
    bed.build(Hca("mlx4", vfs=2))
    host = bed.connect(settle_seconds=0.05)
    bed.host.sm_silent()
    with pytest.raises(BatchFailed):
        host.plug(vifs(bed, 1), on_error="continue")
    with bed.hold(bed.vf(0, 0)):
        bed.reset_counts()
        (vf,) = host.plug(vifs(bed, 1)).results
        assert (vf.error, vf.changed, vf.verified) == (None, False, False)
        assert bed.counts().modify == 0
    bed.host.sm_silent(False)
    host = bed.connect()
    host.plug(vifs(bed, 1))
    with bed.hold(bed.vf(0, 0)):
        assert host.plug(vifs(bed, 1)).results[0].verified


@pytest.mark.parametrize("flavour", ["files", "ofed", "mlx4"], indirect=True)
def test_guids_that_are_garbage(bed, flavour):
    host = bed.connect()
    for name in ("sriov/0/node", "admin_guids/1"):
        bed.host.garble(name, b"zz:garbage")
    before = bed.seen(0)[1:]
    bad = (BatchFailed, NotVerified)
    with pytest.raises(bad, match=r"garbage|cannot tell") as caught:
        host.plug(vifs(bed, 1, 2))
    assert bed.vf(0, 0) in str(caught.value)
    assert [seen.policy for seen in bed.seen(0)[1:]] == [
        seen.policy for seen in before
    ]


@pytest.mark.parametrize("flavour", ["files"], indirect=True)
def test_a_link_that_somebody_else_raises_meanwhile(bed, flavour):
    """Neutron's agent does, wherever it sees the GUID of a port."""
    host = bed.connect()
    bed.host.garble("sriov/0/policy", b"Up")
    (vf,) = host.plug(vifs(bed, 1)).results
    assert (vf.verified, vf.after.policy) == (True, Policy.UP)
    bed.host.garble("sriov/0/policy", b"Down")
    with pytest.raises(BatchFailed, match="policy reads down"):
        host.plug([Vif.parse(bed.vf(0, 0), mac(1))], policy=Policy.UP)


@pytest.mark.parametrize(
    "value", [b"", b"many", b"-1", b"1", b"99999999999999999999", b"\xff"]
)
def test_a_number_of_vfs_that_is_garbage(bed, value):
    bed.build(Hca("mlx5", vfs=2))
    host = bed.connect()
    bed.host.garble("sriov_numvfs", value)
    bed.reset_counts()
    with pytest.raises(IbHostdevError) as caught:
        host.plug([Vif.parse(bed.vf(0, 1), mac(1))])
    assert bed.pfs[0] in str(caught.value)
    assert bed.counts().modify == 0


def test_a_vf_that_another_driver_takes_meanwhile(bed):
    """While it is bound anew, so that it does not show what it was."""
    bed.build(Hca("mlx5", vfs=2))
    host = bed.connect()
    host.plug(vifs(bed, 1))
    vf = bed.vf(0, 0)
    back(bed, vf)
    bed.host.take(vf, "vfio-pci")
    (result,) = host.unplug(vifs(bed, 1)).results
    assert result.error is None
    assert bed.driver(vf) == "vfio-pci"


def test_a_vf_that_its_driver_does_not_let_go(bed):
    """It shows the old tenant's identity: that is not called done, nor is it
    the next time."""
    bed.build(Hca("mlx5", vfs=2))
    host = bed.connect()
    host.plug(vifs(bed, 1))
    vf = bed.vf(0, 0)
    back(bed, vf)
    bed.host.deny(sysfs=errno.EACCES)
    for _ in range(2):
        with pytest.raises(BatchFailed, match="shows its old id") as caught:
            host.unplug(vifs(bed, 1))
        (error,) = caught.value.result.failures
        assert isinstance(error, RebindFailed)
        assert (error.device, error.errno) == (vf, errno.EACCES)
        assert "/drivers/mlx5_core/unbind" in error.cure
        assert bed.identity(vf) == guid(1)
    bed.host.deny()
    host.unplug(vifs(bed, 1))
    assert bed.identity(vf) == ONES
