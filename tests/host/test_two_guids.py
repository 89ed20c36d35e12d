# SPDX-License-Identifier: Apache-2.0
"""VFs whose node GUID and port GUID differ, by somebody's choice."""

import errno

import pytest

from ibhostdev import BatchFailed, Guid, Vif
from ibhostdev.errors import (
    DeviceInUse,
    GuidConflict,
    InvalidInput,
    RolledBack,
)
from ibhostdev.inventory import Policy, VfState
from tests.flavours import ONES, guid, mac, vifs
from tests.testbed import Hca, Seen

mlx5 = pytest.mark.parametrize(
    "flavour", ["netlink", "dump", "ofed", "files"], indirect=True
)
IDLE = Seen(ONES, ONES, "down")


def two(bed, node, port, index=0, pf=0):
    """A VIF with GUIDs of these numbers."""
    return Vif.parse(bed.vf(pf, index), mac(port), node_guid=guid(node))


def seen(node, port, policy="follow"):
    return Seen(guid(node), guid(port), policy)


@mlx5
def test_both_are_given(bed, flavour):
    bed.reset_counts()
    (one,) = bed.connect().plug([two(bed, 1, 2)]).results
    assert bed.seen(0)[0] == seen(1, 2)
    assert (one.changed, one.verified) == (True, True)
    for state in one.wanted, one.after:
        assert str(state.node_guid) == guid(1)
        assert str(state.port_guid) == guid(2)
    counts = bed.counts()
    assert counts.modify == flavour.commands
    assert counts.getlink <= flavour.getlinks(2)


@mlx5
def test_given_again_they_are_not_written(bed, flavour):
    host = bed.connect()
    host.plug([two(bed, 1, 2)])
    bed.reset_counts()
    result = host.plug([two(bed, 1, 2)])
    assert bed.counts().modify == 0
    assert not result.results[0].changed
    assert result.warnings == ()


@mlx5
@pytest.mark.parametrize("before", [(9, 2), (1, 9)], ids=["node", "port"])
def test_only_the_half_that_differs_is_written(bed, flavour, before):
    host = bed.connect()
    host.plug([two(bed, *before)])
    bed.reset_counts()
    result = host.plug([two(bed, 1, 2)])
    assert bed.counts().modify == 1
    assert bed.seen(0)[0] == seen(1, 2)
    (warning,) = result.warnings
    assert guid(9) in warning
    assert guid(1 if before[0] == 9 else 2) in warning


def test_one_guid_over_two_of_which_it_is_one(bed):
    bed.build(Hca("mlx5", vfs=1))
    host = bed.connect()
    host.plug([two(bed, 1, 2)])
    bed.reset_counts()
    (warning,) = host.plug(vifs(bed, 2)).warnings
    assert bed.counts().modify == 1
    assert bed.seen(0)[0] == seen(2, 2)
    assert guid(1) in warning


@mlx5
@pytest.mark.parametrize("number", [1, 2], ids=["node", "port"])
@pytest.mark.parametrize("hinted", [True, False])
def test_either_takes_both_off(bed, flavour, number, hinted):
    host = bed.connect()
    host.plug([two(bed, 1, 2, index=1)])
    hint = bed.vf(0, 1) if hinted else None
    (one,) = host.unplug([Vif.parse(hint, mac(number))]).results
    assert (one.pci, one.changed) == (bed.vf(0, 1), True)
    assert bed.seen(0)[1] == IDLE


@mlx5
def test_both_in_one_batch_take_a_vf_off_once(bed, flavour):
    host = bed.connect()
    host.plug([two(bed, 1, 2), two(bed, 3, 4, index=1)])
    bed.reset_counts()
    result = host.unplug([*vifs(bed, 1, 4), Vif.parse(None, mac(2))])
    assert bed.counts().modify == 2 * flavour.commands
    assert all(one.changed for one in result.results)
    assert bed.seen(0)[:2] == [IDLE, IDLE]


def test_a_vif_of_two_takes_off_what_has_one_of_them(bed, flavour):
    """It was plugged with one GUID, or only one was written."""
    host = bed.connect()
    host.plug(vifs(bed, 1, 2, 3))
    host.unplug([two(bed, 2, 1, index=3)])
    assert bed.seen(0)[:3] == [
        flavour.idle, flavour.idle, flavour.seen(guid(3)),
    ]  # fmt: skip


@pytest.mark.parametrize("others", [(1, 4), (4, 1), (2, 4), (4, 2)], ids=str)
def test_neither_may_be_named_twice(bed, others):
    bed.build(Hca("mlx5", vfs=2))
    host = bed.connect()
    before = bed.seen(0)
    batch = [two(bed, 1, 2), two(bed, *others, index=1)]
    for call in host.plug, host.unplug:
        with pytest.raises(InvalidInput, match="twice"):
            call(batch)
    assert bed.seen(0) == before


@pytest.mark.parametrize("number", [0, 2**64 - 1, 2**64])
def test_the_node_guid_has_to_be_somebodys(bed, number):
    bed.build(Hca("mlx5", vfs=1))
    vif = Vif(bed.vf(0, 0), Guid.parse(guid(1)), None, Guid(number))
    with pytest.raises(InvalidInput, match="cannot identify a VF"):
        bed.connect().plug([vif])


def test_a_pf_keeps_its_guid_to_itself(bed):
    bed.build(Hca("mlx5", vfs=1))
    (device,) = (
        bed.sys / "bus/pci/devices" / bed.pfs[0] / "infiniband"
    ).iterdir()
    own = Guid.parse((device / "node_guid").read_text())
    before = bed.seen(0)
    with pytest.raises(BatchFailed) as caught:
        bed.connect().plug([Vif(bed.vf(0, 0), Guid.parse(guid(1)), None, own)])
    (failure,) = caught.value.result.failures
    assert isinstance(failure, GuidConflict)
    assert str(own) in str(failure)
    assert bed.seen(0) == before


def test_the_node_guid_may_be_a_groups_with_a_warning(bed):
    bed.build(Hca("mlx5", vfs=1))
    odd = "11:22:33:44:77:66:77:90"
    vif = Vif.parse(bed.vf(0, 0), mac(1), node_guid=odd)
    (warning,) = bed.connect().plug([vif]).warnings
    assert odd in warning
    assert bed.seen(0)[0] == Seen(odd, guid(1), "follow")


# -- who else has them ------------------------------------------------------


@mlx5
@pytest.mark.parametrize("number", [1, 2], ids=["node", "port"])
def test_who_has_either_loses_it(bed, flavour, number):
    host = bed.connect()
    host.plug([Vif.parse(bed.vf(0, 3), mac(number))])
    (warning,) = host.plug([two(bed, 1, 2)]).warnings
    assert guid(number) in warning
    assert bed.vf(0, 3) in warning
    assert [bed.seen(0)[n] for n in (0, 3)] == [seen(1, 2), IDLE]


def test_one_guid_is_taken_from_who_has_it_for_either(bed):
    bed.build(Hca("mlx5", vfs=3))
    host = bed.connect()
    host.plug([two(bed, 1, 2), two(bed, 3, 4, index=1)])
    host.plug([Vif.parse(bed.vf(0, 2), mac(1))])
    assert bed.seen(0) == [IDLE, seen(3, 4), seen(1, 1)]


@mlx5
def test_guids_that_change_places(bed, flavour):
    host = bed.connect()
    host.plug([two(bed, 1, 2), two(bed, 3, 4, index=1)])
    host.plug([two(bed, 4, 1), two(bed, 2, 3, index=1)])
    assert bed.seen(0)[:2] == [seen(4, 1), seen(2, 3)]


@pytest.mark.parametrize("number", [1, 2], ids=["node", "port"])
def test_neither_is_taken_from_a_guest(bed, number):
    bed.build(Hca("mlx5", vfs=2))
    host = bed.connect()
    host.plug([Vif.parse(bed.vf(0, 1), mac(number))])
    with bed.hold(bed.vf(0, 1)):
        before = bed.seen(0)
        bed.reset_counts()
        with pytest.raises(BatchFailed) as caught:
            host.plug([two(bed, 1, 2)])
        assert bed.counts().modify == 0
        assert bed.seen(0) == before
    (failure,) = caught.value.result.failures
    assert isinstance(failure, GuidConflict)
    assert guid(number) in str(failure)


def test_what_a_guest_has_is_not_taken_off_by_either(bed):
    bed.build(Hca("mlx5", vfs=1))
    host = bed.connect()
    host.plug([two(bed, 1, 2)])
    with bed.hold(bed.vf(0, 0)):
        for vif in (two(bed, 1, 2), *vifs(bed, 1), *vifs(bed, 2)):
            with pytest.raises(BatchFailed) as caught:
                host.unplug([vif])
            (failure,) = caught.value.result.failures
            assert isinstance(failure, DeviceInUse)
        assert bed.seen(0)[0] == seen(1, 2)


def test_a_guests_node_guid_is_not_changed(bed):
    """Nova plugs the one GUID that it knows whenever it restarts."""
    bed.build(Hca("mlx5", vfs=1))
    host = bed.connect()
    host.plug([two(bed, 1, 2)])
    with bed.hold(bed.vf(0, 0)):
        bed.reset_counts()
        assert host.plug([two(bed, 1, 2)]).warnings == ()
        result = host.plug(vifs(bed, 2))
        assert bed.counts().modify == 0
        assert bed.seen(0)[0] == seen(1, 2)
    (one,) = result.results
    assert (one.changed, one.verified) == (False, False)
    (warning,) = result.warnings
    for told in bed.vf(0, 0), guid(1), guid(2):
        assert told in warning


# -- back -------------------------------------------------------------------


@mlx5
def test_both_come_back_when_another_vf_fails(bed, flavour):
    host = bed.connect()
    host.plug([two(bed, 8, 9), two(bed, 6, 7, index=1)])
    before = bed.seen(0)
    bed.fail(bed.vf(0, 1), errno.EIO)
    with pytest.raises(BatchFailed) as caught:
        host.plug([two(bed, 1, 2), two(bed, 3, 4, index=1)], policy="up")
    bed.heal()
    assert bed.seen(0) == before
    good, bad = caught.value.result.results
    assert isinstance(good.error, RolledBack)
    assert bad.error.errno == errno.EIO


@mlx5
@pytest.mark.parametrize("half", ["node", "port"])
def test_either_is_told_that_is_not_as_it_was_written(bed, flavour, half):
    """Somebody else was faster."""

    def meddle(stage, *_):
        if stage == "write":
            bed.seed(0, 0, **{half: guid(9)})

    with pytest.raises(BatchFailed) as caught:
        bed.connect().plug([two(bed, 1, 2)], progress=meddle)
    (failure,) = caught.value.result.failures
    for told in f"{half} GUID", guid(9), guid(1 if half == "node" else 2):
        assert told in str(failure)


@mlx5
def test_they_are_put_back_for_who_borrowed_the_vf(bed, flavour):
    host = bed.connect()
    host.plug([two(bed, 8, 9)])
    before = bed.seen(0)
    result = host.plug([two(bed, 1, 2)])
    host.restore([two(bed, 1, 2)], [one.before for one in result.results])
    assert bed.seen(0) == before


def test_a_node_guid_that_another_has_by_now_is_not_put_back(bed):
    bed.build(Hca("mlx5", vfs=2))
    host = bed.connect()
    host.plug([two(bed, 8, 9)])
    before = [one.before for one in host.plug([two(bed, 1, 2)]).results]
    host.plug([Vif.parse(bed.vf(0, 1), mac(8))])
    (warning,) = host.restore([two(bed, 1, 2)], before).warnings
    assert guid(8) in warning
    assert bed.seen(0) == [IDLE, seen(8, 8)]


def test_what_was_cut_off_is_put_back_by_the_next(bed):
    """The node GUID was there again already."""
    bed.build(Hca("mlx5", vfs=1))
    bed.seed(0, 0, guid(8), ONES, "down")
    before = VfState(Guid.parse(guid(8)), Guid.parse(guid(9)), Policy.FOLLOW)
    bed.connect().restore([two(bed, 1, 2)], [before])
    assert bed.seen(0)[0] == seen(8, 9)


def test_its_own_driver_shows_neither_after_what_was_cut_off(bed):
    """Only the VIF still tells which node GUID it took."""
    bed.build(Hca("mlx5", vfs=1))
    host = bed.connect()
    host.plug([two(bed, 1, 2)])
    bed.bind(bed.vf(0, 0), None)
    bed.bind(bed.vf(0, 0), "mlx5_core")
    bed.seed(0, 0, node=ONES, policy="down")
    host.unplug([two(bed, 1, 2)])
    assert bed.identity(bed.vf(0, 0)) == ONES


def test_who_does_not_know_the_node_guid_has_it_taken_off_the_driver(bed):
    """Nova knows the port's MAC address alone."""
    bed.build(Hca("mlx5", vfs=1))
    host = bed.connect()
    host.plug([two(bed, 1, 2)])
    bed.bind(bed.vf(0, 0), None)
    bed.bind(bed.vf(0, 0), "mlx5_core")
    assert bed.identity(bed.vf(0, 0)) == guid(1)
    host.unplug(vifs(bed, 2))
    assert bed.seen(0)[0] == IDLE
    assert bed.identity(bed.vf(0, 0)) == ONES


# -- who cannot -------------------------------------------------------------


def test_mlx4_has_no_node_guid_to_be_set(bed):
    bed.build(Hca("mlx4", vfs=2))
    host = bed.connect()
    before = bed.seen(0)
    bed.reset_counts()
    with pytest.raises(BatchFailed) as caught:
        host.plug([two(bed, 1, 2), Vif.parse(bed.vf(0, 1), mac(3))])
    (failure,) = caught.value.result.failures
    assert isinstance(failure, InvalidInput)
    assert (failure.device, failure.attribute) == (bed.vf(0, 0), "node_guid")
    assert failure.cure
    assert bed.counts().modify == 0
    assert bed.seen(0) == before
