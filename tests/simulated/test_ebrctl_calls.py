# SPDX-License-Identifier: Apache-2.0
"""What ebrctl is asked for, in which words: it goes by GUID and network, and
whatever it is told it says OK to."""

import errno

import pytest

from ibhostdev import BatchFailed, OnError, Vif
from ibhostdev.errors import (
    CommandFailed,
    DeviceInUse,
    InvalidInput,
    NotRunning,
    RollbackFailed,
    RolledBack,
)
from ibhostdev.host.vendor import Answer
from tests.flavours import ONES, guid, mac
from tests.simulated.eswitchd import Eswitchd, named
from tests.testbed import Hca, Seen


def add(bed, index, number, network="default"):
    vf = bed.vf(0, index)
    return ["add-port", mac(number), "ibhostdev", network, "ib_hostdev", vf]


def delete(number, network="default"):
    return ["del-port", network, mac(number)]


@pytest.fixture
def unseen(bed):
    """A PF of which nobody here can tell anything."""
    bed.build(Hca("mlx5", vfs=4, netdev=False))
    return Eswitchd(bed)


@pytest.fixture
def watched(bed):
    """One of which the kernel can tell, though ebrctl is to write."""
    bed.build(Hca("mlx5", vfs=4))
    return Eswitchd(bed)


@pytest.fixture
def host(bed, watched):
    return bed.connect(ebrctl=watched, ebrctl_at_once=1)


def test_a_plug_and_an_unplug(bed, unseen):
    host = bed.connect(ebrctl=unseen, ebrctl_at_once=1)
    first, second = host.plug(named(bed, 1, 2)).results
    assert unseen.calls == [add(bed, 0, 1), add(bed, 1, 2)]
    # by its own word
    assert [str(one.after.port_guid) for one in (first, second)] == [
        guid(1), guid(2),
    ]  # fmt: skip
    assert str(first.after.node_guid) == guid(1)
    unseen.calls.clear()
    host.unplug(named(bed, 1, 2))
    assert unseen.calls == [delete(1), delete(2)]


def test_the_network_is_the_vif_s(bed, unseen):
    host = bed.connect(ebrctl=unseen, physical_networks={"red": [bed.pfs[0]]})
    vif = Vif.parse(bed.vf(0, 0), mac(1), "red")
    host.plug([vif])
    host.unplug([vif])
    host.plug([Vif.parse(bed.vf(0, 1), mac(2))])
    assert unseen.calls == [
        add(bed, 0, 1, "red"), delete(1, "red"), add(bed, 1, 2),
    ]  # fmt: skip


def test_a_rollback_names_what_was_added(bed, unseen):
    unseen.refuse.add(bed.vf(0, 1))
    host = bed.connect(ebrctl=unseen, ebrctl_at_once=1)
    with pytest.raises(BatchFailed) as caught:
        host.plug(named(bed, 1, 2))
    assert unseen.calls[:2] == [add(bed, 0, 1), add(bed, 1, 2)]
    assert sorted(unseen.calls[2:]) == [delete(1), delete(2)]
    first, second = caught.value.result.results
    assert isinstance(first.error, RolledBack)
    assert isinstance(second.error, CommandFailed)
    assert second.error.device == bed.vf(0, 1)
    assert not first.changed


def test_a_rollback_gives_back_whom_it_replaced(bed, watched, host):
    """By the identity that the VF had, under the VIF's network."""
    host.plug(named(bed, 8), mechanism="ebrctl")
    watched.calls.clear()
    watched.refuse.add(bed.vf(0, 1))
    with pytest.raises(BatchFailed):
        host.plug(named(bed, 1, 2), mechanism="ebrctl")
    assert watched.calls[:3] == [
        add(bed, 0, 1),
        add(bed, 1, 2),
        add(bed, 0, 8),
    ]
    assert bed.seen(0)[0].port == guid(8)


def test_a_rollback_gives_a_moved_guid_back(bed, watched, host):
    host.plug(named(bed, 1), mechanism="ebrctl")
    watched.calls.clear()
    watched.refuse.add(bed.vf(0, 3))
    with pytest.raises(BatchFailed):
        host.plug(
            [Vif.parse(bed.vf(0, 3), mac(1), "default")], mechanism="ebrctl"
        )
    assert watched.calls[:2] == [delete(1), add(bed, 3, 1)]
    assert watched.calls[-1] == add(bed, 0, 1)
    assert bed.seen(0)[0].port == guid(1)


def test_an_unplug_that_fails_gives_the_others_back(bed, watched, host):
    host.plug(named(bed, 1, 2), mechanism="ebrctl")
    watched.calls.clear()
    del watched.vfs[bed.vf(0, 1)]
    with pytest.raises(BatchFailed) as caught:
        host.unplug(named(bed, 1, 2), mechanism="ebrctl")
    assert watched.calls[:3] == [delete(1), delete(2), add(bed, 0, 1)]
    assert [seen.port for seen in bed.seen(0)[:2]] == [guid(1), guid(2)]
    first, second = caught.value.result.results
    assert isinstance(first.error, RolledBack)
    assert isinstance(second.error, CommandFailed)


@pytest.mark.parametrize("half", ["node", "port"])
def test_half_an_identity(bed, watched, host, half):
    bed.seed(0, 0, **{"node": ONES, "port": ONES, half: guid(1)})
    (result,) = host.plug(named(bed, 1), mechanism="ebrctl").results
    assert watched.calls == [add(bed, 0, 1)]
    assert result.verified
    assert bed.seen(0)[0] == Seen(guid(1), guid(1), "down")
    bed.seed(0, 0, **{"node": ONES, "port": ONES, half: guid(1)})
    watched.calls.clear()
    watched.held[0] = guid(1)
    # The daemon finds it by the port's GUID alone.
    if half == "port":
        host.unplug(named(bed, 1), mechanism="ebrctl")
        assert bed.seen(0)[0] == Seen(ONES, ONES, "down")
        assert watched.calls == [delete(1)]


def test_a_vif_of_two_guids_is_refused_before_any_call(bed, watched, host):
    vif = Vif.parse(bed.vf(0, 0), mac(1), "default", node_guid=guid(2))
    with pytest.raises(BatchFailed) as caught:
        host.plug([vif, *named(bed, 3, 4)[1:]], mechanism="ebrctl")
    (failure,) = caught.value.result.failures
    assert isinstance(failure, InvalidInput)
    assert (failure.device, failure.attribute) == (bed.vf(0, 0), "node_guid")
    assert watched.calls == []


@pytest.mark.parametrize("number", [1, 2], ids=["node", "port"])
def test_either_of_two_guids_is_found_for_it(bed, watched, host, number):
    """The daemon finds it by the port's alone."""
    bed.seed(0, 1, guid(1), guid(2), "follow")
    watched.held[1] = guid(2)
    vif = Vif.parse(None, mac(number), "default")
    host.unplug([vif], mechanism="ebrctl")
    assert watched.calls == [delete(2)]
    assert bed.seen(0)[1].port == ONES


def test_a_policy_alone_is_not_its_business(bed, watched, host):
    """The Neutron agent raises the link."""
    host.plug(named(bed, 1), mechanism="ebrctl")
    watched.calls.clear()
    for policy in ("up", "down"):
        bed.seed(0, 0, policy=policy)
        (result,) = host.plug(named(bed, 1), mechanism="ebrctl").results
        assert (result.changed, result.verified) == (False, True)
    assert watched.calls == []


def test_mlx4_has_a_port_guid_alone(bed):
    bed.build(Hca("mlx4", vfs=2))
    eswitchd = Eswitchd(bed, vfs=2)
    host = bed.connect(ebrctl=eswitchd)
    (result,) = host.plug(named(bed, 1), mechanism="ebrctl").results
    assert (result.wanted.node_guid, result.wanted.policy) == (None, None)
    assert result.verified
    (result,) = host.unplug(named(bed, 1), mechanism="ebrctl").results
    assert (result.wanted.node_guid, result.wanted.policy) == (None, None)
    assert bed.seen(0)[0].port == ONES


# -- where nobody can tell who has a GUID -----------------------------------


def test_a_guest_s_vf_may_have_the_guid(bed, unseen):
    """Its VF is named, and nothing tells what it has: the daemon is not
    asked to take it away."""
    host = bed.connect(ebrctl=unseen)
    host.plug(named(bed, 1, 2))
    unseen.calls.clear()
    bed.bind(bed.vf(0, 0), "vfio-pci")
    for on_error in OnError:
        with bed.hold(bed.vf(0, 0)), pytest.raises(BatchFailed) as caught:
            host.unplug(named(bed, 1, 2), on_error=on_error)
        first, second = caught.value.result.results
        assert isinstance(first.error, DeviceInUse)
        assert first.error.device == bed.vf(0, 0)
        assert first.error.cure
        if on_error is OnError.ROLLBACK:
            assert isinstance(second.error, RolledBack)
            assert second.error.device == "ebrctl"
            assert unseen.calls == []
        else:
            assert (second.error, second.changed) == (None, True)
            assert unseen.calls == [delete(2)]


def test_a_daemon_that_fails_is_told_of_each(bed, unseen):
    host = bed.connect(ebrctl=unseen)
    host.plug(named(bed, 1))

    def gone(arguments):
        raise NotRunning("is not running", "eswitchd", cure="start it")

    host = bed.connect(ebrctl=gone)
    with pytest.raises(BatchFailed) as caught:
        host.unplug(named(bed, 1))
    (result,) = caught.value.result.results
    assert isinstance(result.error, NotRunning)
    assert (result.mechanism, result.changed, result.verified) == (
        "ebrctl", False, False,
    )  # fmt: skip
    with pytest.raises(BatchFailed) as caught:
        host.plug(named(bed, 1))
    (failure,) = caught.value.result.failures
    assert failure.device == bed.vf(0, 0)
    assert "eswitchd is not running" in str(failure)
    assert failure.cure == "start it"


@pytest.mark.parametrize("mechanism", [None, "ebrctl"])
def test_it_is_not_asked_where_the_kernel_tells(bed, watched, host, mechanism):
    """Though of some VF it does not."""
    bed.fail_queries(bed.vf(0, 1), errno.EIO)
    (result,) = host.unplug(
        [Vif.parse(None, mac(9), "default")], mechanism=mechanism
    ).results
    assert not result.verified
    assert watched.calls == []


def test_a_plan_asks_nobody(bed, unseen):
    host = bed.connect(ebrctl=unseen)
    host.plug(named(bed, 1), dry_run=True)
    host.unplug(named(bed, 1), dry_run=True)
    assert unseen.calls == []


def test_who_is_seen_is_not_looked_for_again(bed):
    """Of two PFs the kernel tells of one."""
    bed.build(Hca("mlx5", vfs=2), Hca("mlx5", vfs=2, netdev=False))
    eswitchd = Eswitchd(bed, pfs=2, vfs=2)
    host = bed.connect(ebrctl=eswitchd, physical_networks={})
    host.plug(named(bed, 1))
    (result,) = host.unplug(named(bed, 1)).results
    assert (result.mechanism, result.verified) == ("mlx5_netlink", True)
    assert eswitchd.calls == []
    (result,) = host.unplug(named(bed, 1)).results
    assert (result.mechanism, result.verified) == ("ebrctl", False)
    assert eswitchd.calls == [delete(1)]


def test_what_it_said_is_in_the_error(bed, unseen):
    host = bed.connect(ebrctl=lambda _: Answer(3, "out\n", "err  err\n"))
    with pytest.raises(BatchFailed) as caught:
        host.plug(named(bed, 1))
    assert "exit code 3: err err out" in str(caught.value)
    host = bed.connect(ebrctl=lambda _: Answer(1, "", ""))
    for operation, action in ((host.plug, "add"), (host.unplug, "del")):
        with pytest.raises(BatchFailed, match="no word why") as caught:
            operation(named(bed, 1))
        assert caught.value.attribute == f"ebrctl {action}-port"


def test_what_keeps_its_guid_by_its_own_word(bed, unseen):
    """Nothing shows what it is; it took what was written, and did not give
    it up."""
    unseen.refuse.add(bed.vf(0, 1))
    unseen.keeps = True
    host = bed.connect(ebrctl=unseen)
    with pytest.raises(BatchFailed) as caught:
        host.plug(named(bed, 1, 2))
    first, second = caught.value.result.results
    assert isinstance(first.error, RollbackFailed)
    assert str(first.after.port_guid) == guid(1)
    assert first.changed
    assert isinstance(second.error, CommandFailed)
    assert not second.changed
