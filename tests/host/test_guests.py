# SPDX-License-Identifier: Apache-2.0
"""VFs in a guest's hands: what may be done to them, and what is known."""

import pytest

from ibhostdev import BatchFailed, Guid, Vif
from ibhostdev.errors import DeviceInUse, GuidConflict, RolledBack
from tests.flavours import ONES, ZERO, guid, mac, vifs
from tests.testbed import Hca, Seen


@pytest.mark.parametrize("flavour", ["ofed", "files", "mlx4"], indirect=True)
def test_a_lost_identity_is_given_back(bed, flavour):
    """Where it is known to be lost; the link, if somebody has it up."""
    bed.seed(0, 0, ONES, ONES, "up")
    with bed.hold(bed.vf(0, 0)):
        result = bed.connect().plug(vifs(bed, 1))
        assert bed.seen(0)[0] == flavour.seen(guid(1), "up")
    (one,) = result.results
    assert one.changed
    assert one.verified
    assert result.warnings == ()


@pytest.mark.parametrize(
    "flavour", ["netlink", "ofed", "files"], indirect=True
)
@pytest.mark.parametrize(
    ("how", "policy"),
    [
        ({}, "follow"),
        ({"link": "kept"}, "follow"),
        ({"link": "lowered"}, "down"),
        ({"policy": "up"}, "up"),
        ({"policy": "down"}, "down"),
    ],
    ids=str,
)
def test_a_link_that_was_lost_too_comes_back(bed, flavour, how, policy):
    """A PF's driver makes VFs that are nobody's, and down."""
    bed.seed(0, 0, ONES, ONES, "down")
    with bed.hold(bed.vf(0, 0)):
        (one,) = bed.connect().plug(vifs(bed, 1), **how).results
        assert bed.seen(0)[0] == flavour.seen(guid(1), policy)
    assert (one.changed, one.verified) == (True, True)


@pytest.mark.parametrize("flavour", ["ofed", "files"], indirect=True)
@pytest.mark.parametrize("half", ["node", "port"])
@pytest.mark.parametrize(
    ("policy", "becomes"), [("down", "follow"), ("up", "up")]
)
def test_half_of_a_lost_identity_is_given_back(
    bed, flavour, half, policy, becomes
):
    """As a plug leaves it that is cut off: the link comes last."""
    bed.seed(0, 0, **{"node": ONES, "port": ONES, half: guid(1)})
    bed.seed(0, 0, policy=policy)
    with bed.hold(bed.vf(0, 0)):
        bed.reset_counts()
        bed.connect().plug(vifs(bed, 1))
        assert bed.counts().modify == (2 if policy == "down" else 1)
        assert bed.seen(0)[0] == flavour.seen(guid(1), becomes)


@pytest.mark.parametrize("half", ["node", "port"])
def test_half_of_an_identity_that_is_known_is_left_alone(bed, half):
    """By netlink GUID 0 is "not known"."""
    bed.build(Hca("mlx5", vfs=2))
    bed.seed(0, 0, **{half: guid(1)}, policy="follow")
    before = bed.seen(0)
    assert ZERO in (before[0].node, before[0].port)
    with bed.hold(bed.vf(0, 0)):
        bed.reset_counts()
        result = bed.connect().plug(vifs(bed, 1))
        assert bed.counts().modify == 0
        assert bed.seen(0) == before
    (one,) = result.results
    assert one.error is None
    assert not one.changed
    assert not one.verified
    (warning,) = result.warnings
    assert bed.vf(0, 0) in warning
    assert guid(1) in warning


@pytest.mark.parametrize("half", [None, "node", "port"])
def test_what_is_not_known_is_written_anew_if_it_is_lost(bed, half):
    """As a reset of the PF leaves it: one write, then it is known."""
    bed.build(Hca("mlx5", vfs=3))
    bed.seed(0, 0, policy="up")
    if half is not None:
        bed.seed(0, 0, **{half: guid(1)})
    host = bed.connect()
    anew = {"renew": True, "on_error": "continue"}
    with bed.hold(bed.vf(0, 0)):
        bed.reset_counts()
        result = host.plug(vifs(bed, 1), dry_run=True, **anew)
        assert result.results[0].changed
        assert bed.counts().modify == 0
        result = host.plug(vifs(bed, 1), **anew)
        assert bed.counts().modify == (2 if half is None else 1)
        assert bed.seen(0)[0] == Seen(guid(1), guid(1), "up")
        (one,) = result.results
        assert (one.changed, one.verified) == (True, True)
        assert result.warnings == ()
        bed.reset_counts()
        result = host.plug(vifs(bed, 1), **anew)
        assert bed.counts().modify == 0
        assert not result.results[0].changed


def test_a_link_is_not_known_to_be_lost_where_no_guid_is(bed):
    """But by who says so; and then it is, with the identity."""
    bed.build(Hca("mlx5", vfs=2))
    host = bed.connect()
    with bed.hold(bed.vf(0, 0)):
        before = bed.seen(0)
        assert before[0].policy == "down"
        host.plug(vifs(bed, 1))
        assert bed.seen(0) == before
        bed.reset_counts()
        host.plug(vifs(bed, 1), renew=True, on_error="continue")
        assert bed.counts().modify == 3
        assert bed.seen(0)[0] == Seen(guid(1), guid(1), "follow")


def test_what_cannot_be_put_back_is_not_written_anew(bed):
    """If the batch failed, a guest that has its identity would lose it."""
    bed.build(Hca("mlx5", vfs=2))
    with bed.hold(bed.vf(0, 0)):
        bed.reset_counts()
        result = bed.connect().plug(vifs(bed, 1), renew=True)
        assert bed.counts().modify == 0
    assert not result.results[0].changed
    assert "is left alone" in result.warnings[0]


def test_who_is_known_to_have_another_is_not_lost(bed):
    bed.build(Hca("mlx5", vfs=2))
    bed.seed(0, 0, guid(2), guid(2), "follow")
    with bed.hold(bed.vf(0, 0)):
        bed.reset_counts()
        with pytest.raises(BatchFailed) as caught:
            bed.connect().plug(vifs(bed, 1), renew=True, on_error="continue")
        assert bed.counts().modify == 0
    assert isinstance(caught.value.result.failures[0], DeviceInUse)


@pytest.mark.parametrize("half", ["node", "port"])
def test_half_of_another_identity_is_another(bed, half):
    bed.build(Hca("mlx5", vfs=2))
    bed.seed(0, 0, **{half: guid(9)}, policy="follow")
    with bed.hold(bed.vf(0, 0)):
        before = bed.seen(0)
        with pytest.raises(BatchFailed) as caught:
            bed.connect().plug(vifs(bed, 1))
        assert bed.seen(0) == before
    (failure,) = caught.value.result.failures
    assert isinstance(failure, DeviceInUse)
    assert failure.device == bed.vf(0, 0)
    assert guid(9) in str(failure)
    assert failure.cure


def test_a_policy_is_not_raised_for_a_guest(bed):
    bed.build(Hca("mlx5", vfs=2))
    host = bed.connect()
    host.plug(vifs(bed, 1))
    bed.seed(0, 0, policy="down")
    with bed.hold(bed.vf(0, 0)):
        for policy in (None, "up"):
            (one,) = host.plug(vifs(bed, 1), policy=policy).results
            assert (one.changed, one.verified) == (False, True)
            assert one.after == one.before
        assert bed.seen(0)[0] == Seen(guid(1), guid(1), "down")


def test_the_free_go_on_where_a_guests_may_not(bed, flavour):
    host = bed.connect()
    host.plug(vifs(bed, 1, 2, 3))
    with bed.hold(bed.vf(0, 0)), pytest.raises(BatchFailed) as caught:
        host.plug(
            [
                Vif.parse(bed.vf(0, 3), mac(1)),  # a guest's
                Vif.parse(bed.vf(0, 0), mac(4)),  # on a guest's
                Vif.parse(bed.vf(0, 1), mac(3)),  # nobody's
            ],
            on_error="continue",
        )
    conflict, in_use, moved = caught.value.result.results
    assert isinstance(conflict.error, GuidConflict)
    assert conflict.error.device == bed.vf(0, 3)
    assert bed.vf(0, 0) in str(conflict.error)
    assert conflict.wanted.port_guid == Guid.parse(guid(1))
    assert isinstance(in_use.error, DeviceInUse)
    assert in_use.error.device == bed.vf(0, 0)
    assert moved.error is None
    seen = bed.seen(0)
    assert seen[0] == flavour.seen(guid(1))
    assert seen[1] == flavour.seen(guid(3))
    assert seen[2] == flavour.idle
    assert seen[3].port not in [guid(n) for n in range(5)]


@pytest.mark.parametrize("operation", ["plug", "unplug"])
def test_nothing_is_moved_where_a_guests_may_not(bed, operation, caplog):
    """Not even for a moment."""
    bed.build(Hca("mlx5", vfs=4))
    host = bed.connect()
    host.plug(vifs(bed, 1, 2))
    bed.seed(0, 3, guid(2), guid(2), "follow")
    batch = [
        Vif.parse(bed.vf(0, 0), mac(9 if operation == "plug" else 1)),
        Vif.parse(bed.vf(0, 2), mac(2)),
    ]
    with bed.hold(bed.vf(0, 0)):
        before = bed.seen(0)
        bed.reset_counts()
        with pytest.raises(BatchFailed) as caught:
            getattr(host, operation)(batch)
        assert bed.counts().modify == 0
        assert bed.seen(0) == before
    refused, other = caught.value.result.results
    assert isinstance(refused.error, DeviceInUse)
    assert isinstance(other.error, RolledBack)
    assert bed.vf(0, 0) in str(other.error)
    # what did not happen is not logged
    assert not [one for one in caplog.messages if guid(2) in one]


def test_one_of_two_holders_that_a_guest_has(bed):
    """The other keeps the GUID too: half an unplug helps nobody."""
    bed.build(Hca("mlx5", vfs=3))
    for index in (0, 1):
        bed.seed(0, index, guid(1), guid(1), "follow")
    host = bed.connect()
    with bed.hold(bed.vf(0, 1)):
        before = bed.seen(0)
        for on_error in ("rollback", "continue"):
            with pytest.raises(BatchFailed) as caught:
                host.unplug(vifs(bed, 1), on_error=on_error)
            (failure,) = caught.value.result.failures
            assert isinstance(failure, DeviceInUse)
            assert failure.device == bed.vf(0, 1)
            assert failure.cure
            with pytest.raises(BatchFailed):
                host.plug([Vif.parse(bed.vf(0, 2), mac(1))], on_error=on_error)
        assert bed.seen(0) == before
