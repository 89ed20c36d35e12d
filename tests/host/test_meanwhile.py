# SPDX-License-Identifier: Apache-2.0
"""Somebody else at work between two steps of a batch."""

import errno
import fcntl
import os
import threading
import time

import pytest

from ibhostdev import BatchFailed, Policy, Vif
from ibhostdev.errors import (
    DeviceNotFound,
    NotVerified,
    RebindFailed,
    RollbackFailed,
    RolledBack,
    TimedOut,
)
from tests.flavours import ONES, guid, mac, vifs
from tests.testbed import Hca, Seen


def at(stage, act):
    """As progress: ``act`` is called once, after that stage."""
    due = [act]

    def progress(told, *_):
        if told == stage and due:
            due.pop()()

    return progress


class Impatience(BaseException):
    """As Ctrl-C raises it."""


def stop():
    raise Impatience


# -- the time limit ---------------------------------------------------------


def test_who_is_late_undoes(bed, flavour):
    host = bed.connect()
    host.plug(vifs(bed, 1))
    before = bed.seen(0)
    until = time.monotonic() + 1

    def wait():
        while time.monotonic() <= until:
            time.sleep(0.1)

    batch = vifs(bed, 1, 2, 3)
    with pytest.raises(TimedOut) as caught:
        host.plug(batch, progress=at("write", wait), until=until)
    assert caught.value.cure
    identities = [(seen.node, seen.port) for seen in bed.seen(0)]
    assert identities[0] == (before[0].node, before[0].port)
    assert not {guid(2), guid(3)} & {port for _, port in identities}
    assert host.plug(batch, until=time.monotonic() + 600).ok


def test_who_is_late_while_waiting_for_a_lock_is_told_for_which(bed):
    bed.build(Hca("mlx5", vfs=2))
    host = bed.connect()
    host.plug(vifs(bed, 1))
    bed.reset_counts()
    lock = os.open(f"{host.run_dir}/{bed.pfs[0]}.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with pytest.raises(TimedOut, match="nothing was written") as caught:
            host.plug(vifs(bed, 2), until=time.monotonic() + 0.2)
    finally:
        os.close(lock)
    assert bed.pfs[0] in caught.value.device
    assert bed.counts().modify == 0


# -- between writing and verifying ------------------------------------------


@pytest.mark.parametrize(
    "flavour", ["netlink", "ofed", "files"], indirect=True
)
def test_a_link_that_the_neutron_agent_raises(bed, flavour):
    """It does wherever it sees the GUID of a port."""
    (result,) = (
        bed.connect()
        .plug(
            vifs(bed, 1),
            progress=at("write", lambda: bed.seed(0, 0, policy="up")),
        )
        .results
    )
    assert result.error is None
    assert result.verified
    assert result.after.policy is Policy.UP
    assert bed.seen(0)[0] == flavour.seen(guid(1), "up")


@pytest.mark.parametrize(
    "flavour", ["netlink", "ofed", "files"], indirect=True
)
@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"node": guid(9)}, "node GUID"),
        ({"port": guid(9)}, "port GUID"),
        ({"policy": "down"}, "policy"),
    ],
)
def test_a_vf_that_somebody_else_writes(bed, flavour, change, word):
    """What was accepted and does not read back takes the batch back."""
    before = bed.seen(0)[2:]
    with pytest.raises(BatchFailed) as caught:
        bed.connect().plug(
            vifs(bed, 1, 2),
            progress=at("write", lambda: bed.seed(0, 0, **change)),
        )
    first, second = (one.error for one in caught.value.result.results)
    assert isinstance(first, NotVerified)
    assert first.device == bed.vf(0, 0)
    assert f"{word} reads {next(iter(change.values()))}" in str(first)
    assert first.cure
    assert isinstance(second, RolledBack)
    assert {seen.policy for seen in bed.seen(0)[:2]} == {"down"}
    assert guid(9) not in {bed.seen(0)[0].node, bed.seen(0)[0].port}
    assert bed.seen(0)[2:] == before


@pytest.mark.parametrize("flavour", ["netlink", "files"], indirect=True)
def test_the_others_stay_when_told_to(bed, flavour):
    with pytest.raises(BatchFailed) as caught:
        bed.connect().plug(
            vifs(bed, 1, 2),
            on_error="continue",
            progress=at("write", lambda: bed.seed(0, 0, port=guid(9))),
        )
    first, second = caught.value.result.results
    assert isinstance(first.error, NotVerified)
    assert str(first.after.port_guid) == guid(9)
    assert not first.verified
    assert second.error is None
    assert bed.seen(0)[0].port == guid(9)
    assert bed.seen(0)[1] == flavour.seen(guid(2))


def test_a_vf_that_cannot_be_asked_any_more(bed):
    """It is put back, though nothing can show that."""
    bed.build(Hca("mlx5", vfs=3))
    with pytest.raises(BatchFailed) as caught:
        bed.connect().plug(
            vifs(bed, 1, 2),
            progress=at(
                "write", lambda: bed.fail_queries(bed.vf(0, 0), errno.EIO)
            ),
        )
    bed.heal()
    first, second = (one.error for one in caught.value.result.results)
    assert isinstance(first, (NotVerified, RollbackFailed))
    assert "cannot tell" in str(first)
    assert isinstance(second, RolledBack)
    assert bed.seen(0)[:2] == [Seen(ONES, ONES, "down")] * 2


# -- interruptions ----------------------------------------------------------


@pytest.mark.parametrize("stage", ["write", "verify"])
def test_an_interruption_takes_everything_back(bed, flavour, stage):
    host = bed.connect()
    host.plug(vifs(bed, 8))
    before = bed.seen(0)[0]
    with pytest.raises(Impatience):
        host.plug(vifs(bed, 1, 2), progress=at(stage, stop))
    assert bed.seen(0)[0] == before
    if not flavour.mlx4:
        assert bed.seen(0)[1].policy == "down"
    assert bed.seen(0)[1].port != guid(2)
    host.plug(vifs(bed, 1, 2))
    assert bed.seen(0)[:2] == [flavour.seen(guid(n)) for n in (1, 2)]


def test_an_interruption_leaves_what_is_done_when_told_to(bed, flavour):
    with pytest.raises(Impatience):
        bed.connect().plug(
            vifs(bed, 1), on_error="continue", progress=at("write", stop)
        )
    assert bed.seen(0)[0] == flavour.seen(guid(1))


def test_an_interruption_gives_a_moved_guid_back(bed, flavour):
    host = bed.connect()
    host.plug(vifs(bed, 1))
    before = bed.seen(0)[0]
    with pytest.raises(Impatience):
        host.plug(
            [Vif.parse(bed.vf(0, 1), mac(1))], progress=at("verify", stop)
        )
    assert bed.seen(0)[0] == before
    assert bed.seen(0)[1].port != guid(1)


@pytest.mark.parametrize(
    "flavour", ["netlink", "ofed", "files"], indirect=True
)
@pytest.mark.parametrize("policy", ["follow", "up"])
def test_vfs_that_nobody_named_get_their_links_back(bed, flavour, policy):
    """One that a GUID is taken from, and one that is unplugged by it."""
    host = bed.connect()
    host.plug(vifs(bed, 1, 2), policy=policy)
    before = bed.seen(0)[:2]
    bed.fail(bed.vf(0, 2), errno.EIO)
    with pytest.raises(BatchFailed):
        host.plug([Vif.parse(bed.vf(0, 2), mac(1))])
    assert bed.seen(0)[:2] == before
    bed.heal()
    bed.fail(bed.vf(0, 1), errno.EIO)
    with pytest.raises(BatchFailed) as caught:
        host.unplug([Vif.parse(None, mac(n)) for n in (1, 2)])
    assert bed.seen(0)[:2] == before
    for one in caught.value.result.results:
        assert one.before.policy == policy


def test_an_interruption_tells_what_could_not_be_put_back(bed):
    bed.build(Hca("mlx5", vfs=2))

    def fail():
        bed.fail(bed.vf(0, 0), errno.EIO)
        raise Impatience

    with pytest.raises(Impatience) as caught:
        bed.connect().plug(vifs(bed, 1, 2), progress=at("write", fail))
    bed.heal()
    (note,) = caught.value.__notes__
    assert bed.vf(0, 0) in note
    assert "could not be put back" in note
    assert "interruption" in note
    assert bed.seen(0)[0] == Seen(guid(1), guid(1), "follow")
    assert bed.seen(0)[1] == Seen(ONES, ONES, "down")


def test_why_a_vf_could_not_be_put_back(bed):
    """With the error that came first."""
    bed.build(Hca("mlx5", vfs=2))
    bed.fail(bed.vf(0, 1), errno.EIO, first=2)
    with pytest.raises(BatchFailed) as caught:
        bed.connect().plug(vifs(bed, 1, 2))
    bed.heal()
    first, second = caught.value.result.results
    assert isinstance(first.error, RolledBack)
    error = second.error
    assert isinstance(error, RollbackFailed)
    assert (error.device, error.errno) == (bed.vf(0, 1), errno.EIO)
    assert "EIO" in str(error)
    assert "could not be put back" in str(error)
    assert f"after {bed.vf(0, 1)} IFLA_VF_IB_NODE_GUID" in str(error)
    assert error.cure
    assert str(second.after.node_guid) == guid(2) == bed.seen(0)[1].node
    assert second.changed
    assert not second.verified


# -- VFs that go ------------------------------------------------------------


def test_vfs_that_vanish_between_two_looks(bed):
    """The driver told of the VF and its GUID; then it is gone."""
    bed.build(Hca("mlx5", vfs=4))
    host = bed.connect()
    host.plug(vifs(bed, 1))
    bed.delay(command=0.5)
    bed.reset_counts()
    failed = []

    def unplug():
        try:
            host.unplug([Vif.parse(None, mac(1))])
        except BatchFailed as error:
            failed.append(error)

    thread = threading.Thread(target=unplug)
    thread.start()
    while not bed.counts().query:
        time.sleep(0.01)
    bed.numvfs(0, 0)
    thread.join()
    bed.delay()
    (failure,) = failed[0].result.failures
    assert isinstance(failure, DeviceNotFound)
    assert "vanished" in str(failure)
    assert failure.device is not None
    assert failure.cure


@pytest.mark.parametrize("operation", ["plug", "unplug"])
def test_vfs_that_vanish_while_the_lock_is_waited_for(bed, operation):
    bed.build(Hca("mlx5", vfs=2))
    host = bed.connect()
    host.plug(vifs(bed, 1))
    batch = vifs(bed, 2)
    ended = []

    def late():
        try:
            ended.append(getattr(host, operation)(batch).results[0])
        except BatchFailed as error:
            ended.append(error.result.results[0])

    lock = os.open(f"{host.run_dir}/{bed.pfs[0]}.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    thread = threading.Thread(target=late)
    thread.start()
    time.sleep(0.5)
    bed.numvfs(0, 0)
    bed.reset_counts()
    os.close(lock)
    thread.join()
    (result,) = ended
    assert bed.counts().modify == 0
    if operation == "plug":
        assert isinstance(result.error, DeviceNotFound)
        assert result.error.device == batch[0].pci
    else:
        assert result.error is None
        assert not result.changed


def test_a_vf_that_vanishes_before_it_is_bound_anew(bed):
    """Who has its address by then is not ours to unbind."""
    bed.build(Hca("mlx5", vfs=2))
    host = bed.connect()
    host.plug(vifs(bed, 1))
    vf = bed.vf(0, 0)
    bed.bind(vf, None)
    bed.bind(vf, "mlx5_core")
    with pytest.raises(BatchFailed) as caught:
        host.unplug(
            vifs(bed, 1), progress=at("verify", lambda: bed.numvfs(0, 0))
        )
    (failure,) = caught.value.result.failures
    assert isinstance(failure, RebindFailed)
    assert (failure.device, failure.attribute) == (vf, "physfn")
    assert bed.pfs[0] in str(failure)


@pytest.mark.parametrize("driver", [None, "vfio-pci"])
def test_a_vf_that_is_taken_before_it_is_bound_anew(bed, driver):
    """Its new driver sees it idle."""
    bed.build(Hca("mlx5", vfs=2))
    host = bed.connect()
    host.plug(vifs(bed, 1))
    vf = bed.vf(0, 0)
    bed.bind(vf, None)
    bed.bind(vf, "mlx5_core")
    bed.reset_counts()
    (result,) = host.unplug(
        vifs(bed, 1), progress=at("verify", lambda: bed.bind(vf, driver))
    ).results
    assert result.error is None
    assert bed.driver(vf) == driver
    assert bed.counts().probe == 0
