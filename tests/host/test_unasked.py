# SPDX-License-Identifier: Apache-2.0
"""PFs and VFs of whom nobody can tell what they are."""

import errno

import pytest

from ibhostdev import BatchFailed, Vif
from ibhostdev.errors import NotVerified
from tests.flavours import ONES, guid, mac, vifs
from tests.testbed import Hca, Seen


def test_who_could_be_asked_is_verified(bed):
    bed.build(Hca("mlx5-ofed", vfs=2), Hca("mlx5-ofed", vfs=2, netdev=False))
    host = bed.connect(physical_networks={})
    for address in (None, bed.vf(0, 0), "0000:ff:1f.7"):
        (nowhere,) = host.unplug([Vif.parse(address, mac(1))]).results
        assert nowhere.verified
        assert not nowhere.changed


def test_a_link_that_is_up_for_somebody_unknown(bed):
    """The kernel does not tell whose GUID it is: maybe this one."""
    bed.build(Hca("mlx5", vfs=3))
    bed.seed(0, 0, policy="up")
    before = bed.seen(0)
    host = bed.connect()
    with pytest.raises(BatchFailed) as caught:
        host.unplug(vifs(bed, 1))
    (failure,) = caught.value.result.failures
    assert isinstance(failure, NotVerified)
    assert failure.device == bed.vf(0, 0)
    assert "link up" in str(failure)
    assert failure.cure
    for hint in (None, bed.vf(0, 1)):
        (nowhere,) = host.unplug([Vif.parse(hint, mac(1))]).results
        assert not nowhere.verified
    assert bed.seen(0) == before
    bed.seed(0, 0, policy="down")
    (nowhere,) = host.unplug(vifs(bed, 1)).results
    assert nowhere.verified


def test_a_vf_that_cannot_be_asked_has_its_reason(bed):
    bed.build(Hca("mlx5", vfs=2))
    bed.fail_queries(bed.vf(0, 0), errno.EIO)
    host = bed.connect()
    for operation in (host.plug, host.unplug):
        with pytest.raises(BatchFailed, match="cannot tell") as caught:
            operation(vifs(bed, 1))
        (failure,) = caught.value.result.failures
        assert isinstance(failure, NotVerified)
        assert failure.device == bed.vf(0, 0)
        assert "mlx5_netlink" in failure.attribute
        assert failure.cure


@pytest.mark.parametrize("flavour", ["files"], indirect=True)
def test_files_that_cannot_be_read(bed, flavour):
    """Of the batch, and of a neighbour that may hold the GUID."""
    bed.fail_queries(bed.vf(0, 0), errno.EIO)
    host = bed.connect()
    before = bed.seen(0)
    with pytest.raises(BatchFailed, match="cannot tell"):
        host.plug(vifs(bed, 1))
    assert bed.seen(0) == before
    (elsewhere,) = host.unplug([Vif.parse(bed.vf(0, 1), mac(9))]).results
    assert not elsewhere.verified
    host.plug([Vif.parse(bed.vf(0, 1), mac(2))])
    assert bed.seen(0)[1] == flavour.seen(guid(2))
    bed.heal()
    host.unplug([Vif.parse(None, mac(2))])
    assert bed.seen(0)[1] == Seen(ONES, ONES, "down")
