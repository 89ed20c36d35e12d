# SPDX-License-Identifier: Apache-2.0
"""VFs that are made again what they were, for who only borrowed them."""

import errno
import fcntl
import os
import threading
import time

import pytest

from ibhostdev import BatchFailed, Guid, Policy, VfState, Vif
from ibhostdev.errors import (
    CommandFailed,
    DeviceInUse,
    DeviceNotFound,
    InvalidInput,
    NotVerified,
)
from tests.flavours import ONES, ZERO, guid, mac, vifs
from tests.testbed import Hca, Seen


def befores(result):
    return [one.before for one in result.results]


@pytest.fixture
def lent(bed):
    """Four VFs of an HCA that shows all, each in a state of its own, and
    what they were before they were plugged."""
    bed.build(Hca("mlx5-ofed", vfs=4))
    bed.seed(0, 0, ONES, ONES, "up")
    bed.seed(0, 1, ZERO, ZERO, "down")
    bed.seed(0, 2, ONES, ONES, "down")
    bed.seed(0, 3, ONES, ONES, "follow")
    before = bed.seen(0)
    host = bed.connect()
    batch = vifs(bed, 1, 2, 3, 4)
    states = befores(host.plug(batch))
    bed.reset_counts()
    return host, batch, states, before


def test_each_is_what_it_was(bed, lent):
    host, batch, states, before = lent
    result = host.restore(batch, states)
    assert bed.seen(0) == before
    assert all(one.changed and one.verified for one in result.results)
    assert [one.wanted for one in result.results] == states
    assert [str(one.before.port_guid) for one in result.results] == [
        guid(n) for n in (1, 2, 3, 4)
    ]
    # of the last one the policy never changed
    assert bed.counts().modify == 3 * 3 + 2


def test_again_it_writes_nothing(bed, lent):
    host, batch, states, before = lent
    host.restore(batch, states)
    bed.reset_counts()
    result = host.restore(batch, states)
    assert bed.counts().modify == 0
    assert not any(one.changed for one in result.results)
    assert bed.seen(0) == before


def test_what_another_has_by_now_is_left_alone(bed, lent):
    host, batch, states, before = lent
    host.plug([Vif.parse(bed.vf(0, 1), mac(9))])
    with pytest.raises(BatchFailed) as caught:
        host.restore(batch, states)
    results = caught.value.result.results
    assert [one.error is None for one in results] == [True, False, True, True]
    assert isinstance(results[1].error, DeviceInUse)
    assert results[1].error.device == bed.vf(0, 1)
    assert guid(9) in str(results[1].error)
    assert results[1].wanted == states[1]
    seen = bed.seen(0)
    assert seen[1] == Seen(guid(9), guid(9), "follow")
    assert seen[:1] + seen[2:] == before[:1] + before[2:]


def test_what_a_guest_has_by_now_is_left_alone(bed, lent):
    host, batch, states, before = lent
    with bed.hold(bed.vf(0, 0)):
        with pytest.raises(BatchFailed) as caught:
            host.restore(batch, states)
        assert bed.seen(0)[0] == Seen(guid(1), guid(1), "follow")
    assert isinstance(caught.value.result.results[0].error, DeviceInUse)
    assert bed.seen(0)[1:] == before[1:]
    host.restore(batch, states)
    # a guest's VF that is right already fails nobody
    with bed.hold(bed.vf(0, 0)):
        bed.reset_counts()
        host.restore(batch, states)
        assert bed.counts().modify == 0


def test_a_guest_that_takes_it_while_the_lock_is_waited_for(bed, lent):
    host, batch, states, _ = lent
    failed = []
    lock = os.open(f"{host.run_dir}/{bed.pfs[0]}.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)

    def late():
        try:
            host.restore(batch[:1], states[:1])
        except BatchFailed as error:
            failed.append(error)

    thread = threading.Thread(target=late)
    thread.start()
    time.sleep(0.5)
    with bed.hold(bed.vf(0, 0)):
        os.close(lock)
        thread.join()
    assert isinstance(failed[0].result.failures[0], DeviceInUse)
    assert bed.seen(0)[0].port == guid(1)


@pytest.fixture
def swapped(bed):
    """A VF that had what another one of the batch is given."""
    bed.build(Hca("mlx5-ofed", vfs=4))
    bed.seed(0, 0, guid(2), guid(2), "down")
    bed.seed(0, 1, ONES, ONES, "down")
    host = bed.connect()
    batch = vifs(bed, 1, 2)
    return host, batch, befores(host.plug(batch)), bed.seen(0)


def test_a_guid_that_goes_back_and_forth(bed, swapped):
    host, batch, states, _ = swapped
    host.restore(batch, states)
    assert bed.seen(0)[0] == Seen(guid(2), guid(2), "down")
    assert bed.seen(0)[1] == Seen(ONES, ONES, "down")


@pytest.mark.parametrize(
    "flavour", ["netlink", "ofed", "files", "mlx4"], indirect=True
)
def test_two_vfs_that_swap_their_guids(bed, flavour):
    """Each is relieved of the other's before it gets its own: no two have
    one at any time."""
    host = bed.connect()
    batch = vifs(bed, 1, 2)
    host.plug(vifs(bed, 2, 1))
    before = bed.seen(0)
    states = befores(host.plug(batch))
    assert bed.seen(0)[:2] == [flavour.seen(guid(1)), flavour.seen(guid(2))]
    bed.reset_counts()
    result = host.restore(batch, states)
    assert bed.seen(0) == before
    assert before[:2] == [flavour.seen(guid(2)), flavour.seen(guid(1))]
    assert all(one.changed and one.verified for one in result.results)
    assert result.warnings == ()
    bed.reset_counts()
    host.restore(batch, states)
    assert bed.counts().modify == 0


@pytest.mark.parametrize("flavour", ["netlink", "ofed"], indirect=True)
def test_a_swap_of_which_one_cannot_let_go(bed, flavour):
    """The other is not given what it still has."""
    host = bed.connect()
    batch = vifs(bed, 1, 2)
    host.plug(vifs(bed, 2, 1))
    before = bed.seen(0)
    states = befores(host.plug(batch))
    bed.fail(bed.vf(0, 0), errno.EIO)
    with pytest.raises(BatchFailed) as caught:
        host.restore(batch, states)
    bed.heal()
    assert all(one.error for one in caught.value.result.results)
    assert [seen.port for seen in bed.seen(0)[:2]] == [guid(1), ONES]
    host.restore(batch, states)
    assert bed.seen(0) == before


def test_a_guid_that_two_are_to_have_again(bed):
    """Whatever somebody has kept of them: the first gets it."""
    bed.build(Hca("mlx5-ofed", vfs=2))
    host = bed.connect()
    host.plug(vifs(bed, 1, 2))
    was = VfState(Guid.parse(guid(3)), Guid.parse(guid(3)), Policy.UP)
    result = host.restore(vifs(bed, 1, 2), [was, was])
    assert [seen.port for seen in bed.seen(0)] == [guid(3), ONES]
    assert any("is left idle" in text for text in result.warnings)


def test_a_guid_that_a_third_vf_has_by_now(bed, swapped):
    """No two may have it."""
    host, batch, states, _ = swapped
    host.plug([Vif.parse(bed.vf(0, 2), mac(2))])
    result = host.restore(batch, states)
    assert [seen.port for seen in bed.seen(0)[:3]] == [ONES, ONES, guid(2)]
    assert any("is left idle" in text for text in result.warnings)


def test_a_guid_that_a_guest_of_the_batch_keeps(bed, swapped):
    host, batch, states, _ = swapped
    with bed.hold(bed.vf(0, 1)), pytest.raises(BatchFailed) as caught:
        host.restore(batch, states)
    first, second = caught.value.result.results
    assert first.error is None
    assert isinstance(second.error, DeviceInUse)
    assert [seen.port for seen in bed.seen(0)[:2]] == [ONES, guid(2)]


def test_one_that_fails_does_not_stop_the_others(bed, lent):
    host, batch, states, before = lent
    bed.fail(bed.vf(0, 0), errno.EIO)
    with pytest.raises(BatchFailed) as caught:
        host.restore(batch, states)
    bed.heal()
    results = caught.value.result.results
    assert isinstance(results[0].error, CommandFailed)
    assert [one.error for one in results[1:]] == [None] * 3
    assert bed.seen(0)[1:] == before[1:]
    host.restore(batch, states)
    assert bed.seen(0) == before


def test_one_that_is_gone_does_not_stop_the_others(bed, lent):
    host, batch, states, before = lent
    batch = [Vif.parse(bed.pfs[0], mac(1)), *batch[1:]]
    with pytest.raises(BatchFailed) as caught:
        host.restore(batch, states)
    error = caught.value.result.results[0].error
    assert isinstance(error, DeviceNotFound)
    assert caught.value.result.results[0].wanted == states[0]
    assert bed.seen(0)[1:] == before[1:]


def test_one_that_cannot_be_asked_does_not_stop_the_others(bed, lent):
    host, batch, states, before = lent
    bed.fail_queries(bed.vf(0, 0), errno.EIO)
    with pytest.raises(BatchFailed) as caught:
        host.restore(batch, states)
    bed.heal()
    error = caught.value.result.results[0].error
    assert isinstance(error, NotVerified)
    assert error.device == bed.vf(0, 0)
    assert bed.seen(0)[0].port == guid(1)
    assert bed.seen(0)[1:] == before[1:]


def test_bad_input_is_refused_whole(bed, lent):
    host, batch, states, _ = lent
    for bad in (
        [batch[0], Vif(None, batch[1].guid)],
        [batch[0], Vif(batch[0].pci, batch[1].guid)],
    ):
        with pytest.raises(InvalidInput):
            host.restore(bad, states[:2])
    assert bed.counts().modify == 0


def test_what_the_kernel_could_not_show_is_made_idle(bed):
    """A fresh VF's GUIDs, by netlink; what it cannot show now either was
    not touched."""
    bed.build(Hca("mlx5", vfs=2))
    bed.seed(0, 0, policy="up")
    host = bed.connect()
    states = befores(host.plug(vifs(bed, 1)))
    assert states == [VfState(None, None, Policy.UP)]
    host.restore(vifs(bed, 1), states)
    assert bed.seen(0)[0] == Seen(ONES, ONES, "up")
    bed.reset_counts()
    blank = VfState(None, None, Policy.DOWN)
    host.restore([Vif.parse(bed.vf(0, 1), mac(2))], [blank])
    assert bed.counts().modify == 0
    assert bed.seen(0)[1] == Seen(ZERO, ZERO, "down")


@pytest.mark.parametrize("field", ["node_guid", "port_guid", "policy"])
def test_a_part_that_was_lost(bed, lent, field):
    """Each is compared by itself."""
    host, batch, states, before = lent
    host.restore(batch, states)
    lost = {"node_guid": "node", "port_guid": "port", "policy": "policy"}
    value = "follow" if field == "policy" else guid(1)
    bed.seed(0, 0, **{lost[field]: value})
    bed.reset_counts()
    (result,) = host.restore(batch[:1], states[:1]).results
    assert result.changed
    assert bed.counts().modify == 1
    assert bed.seen(0) == before


# -- mlx4 -------------------------------------------------------------------


def place(bed, index, number):
    """The file with a place in a VF's P_Key table."""
    (ports,) = (bed.sys / "bus/pci/devices" / bed.pfs[0]).glob(
        f"infiniband/*/iov/{bed.pfs[0].rpartition(':')[0]}:00.{index + 1}"
    )
    return ports / f"ports/1/pkey_idx/{number}"


def pkeys(bed, index):
    return [place(bed, index, n).read_text().strip() for n in (0, 1)]


def partition(bed, index, number, value):
    file = place(bed, index, number).relative_to(bed.sys)
    bed.write(str(file), value)


def test_a_plug_keeps_the_vf_out_of_partitions_but_the_default(bed):
    """The Neutron agent puts the network's own into the first place, and
    expects the default one in the second."""
    bed.build(Hca("mlx4", vfs=2))
    host = bed.connect()
    for index in (0, 1):
        partition(bed, index, 0, 2)
    host.plug(vifs(bed, 1))
    assert pkeys(bed, 0) == ["none", "0"]
    assert pkeys(bed, 1)[0] == "2"
    partition(bed, 0, 0, 1)
    host.plug(vifs(bed, 1))
    assert pkeys(bed, 0) == ["1", "0"]
    host.unplug(vifs(bed, 1))
    assert pkeys(bed, 0) == ["none", "0"]
    assert bed.seen(0)[0].port == ONES


def test_pkeys_are_given_back(bed):
    bed.build(Hca("mlx4", vfs=3))
    partition(bed, 0, 0, 1)
    partition(bed, 0, 1, 2)
    partition(bed, 1, 0, "none")
    bed.seed(0, 0, port=ONES)
    bed.seed(0, 1, port=ONES)
    host = bed.connect()
    batch = vifs(bed, 1, 2)
    states = befores(host.plug(batch))
    assert [state.pkeys for state in states] == [("1", "2"), ("none", "none")]
    result = host.restore(batch, states)
    assert all(one.verified for one in result.results)
    assert [pkeys(bed, n) for n in (0, 1)] == [["1", "2"], ["none", "none"]]
    assert [one.port for one in bed.seen(0)[:2]] == [ONES, ONES]
    # the GUID is right, a P_Key is not
    partition(bed, 0, 0, "none")
    host.restore(batch, states)
    assert pkeys(bed, 0) == ["1", "2"]
    assert bed.seen(0)[0].port == ONES


def test_pkeys_that_are_right_stay_with_a_guid_that_is_not(bed):
    """A GUID is written without any partition, which then comes back."""
    bed.build(Hca("mlx4", vfs=2))
    bed.seed(0, 0, port=ONES)
    for number, value in enumerate((1, 0)):
        partition(bed, 0, number, value)
    host = bed.connect()
    states = befores(host.plug(vifs(bed, 1)))
    partition(bed, 0, 0, 1)
    host.restore(vifs(bed, 1), states)
    assert pkeys(bed, 0) == ["1", "0"]
    assert bed.seen(0)[0].port == ONES


def test_pkeys_alone(bed):
    """The GUID is written with them, and neither if both are right."""
    bed.build(Hca("mlx4", vfs=2))
    host = bed.connect()
    host.plug(vifs(bed, 1))
    state = VfState(port_guid=Guid.parse(guid(1)), pkeys=("1", "0"))
    host.restore(vifs(bed, 1), [state])
    assert pkeys(bed, 0) == ["1", "0"]
    assert bed.seen(0)[0].port == guid(1)
    bed.reset_counts()
    (result,) = host.restore(vifs(bed, 1), [state]).results
    assert not result.changed
    assert bed.counts().modify == 0


def test_a_policy_that_mlx4_has_not(bed):
    bed.build(Hca("mlx4", vfs=2))
    host = bed.connect()
    with pytest.raises(BatchFailed, match="policy to set to down") as caught:
        host.plug(vifs(bed, 1), policy="down")
    assert caught.value.cure
    # to follow the fabric is all that it can
    host.plug(vifs(bed, 1), policy="follow")
    (result,) = host.plug(vifs(bed, 1)).results
    assert result.after == result.before
    assert result.after.port_guid == Guid.parse(guid(1))
    assert (result.after.node_guid, result.after.policy) == (None, None)
