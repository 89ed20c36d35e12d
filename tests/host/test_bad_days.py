# SPDX-License-Identifier: Apache-2.0
"""Firmware that fails, VFs that vanish, programs that are killed: nothing is
lost, and nothing half-done stays unreported."""

import errno
import fcntl
import os
import threading
import time

import pytest

from ibhostdev import BatchFailed, Link, OnError, Vif
from ibhostdev.errors import (
    CommandFailed,
    DeviceInUse,
    DeviceNotFound,
    NotVerified,
    RollbackFailed,
    RolledBack,
    TimedOut,
)
from tests.flavours import ONES, guid, mac, vifs
from tests.testbed import Hca, Seen

# mlx4's files report success whatever happens, so there is nothing to fail.
MLX5 = ["netlink", "ofed", "files"]


@pytest.mark.parametrize("flavour", MLX5, indirect=True)
@pytest.mark.parametrize("first", [1, 2, 3])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_vf_that_fails_takes_the_others_back(bed, flavour, index, first):
    """The first, the middle and the last VF, at each of its commands."""
    host = bed.connect()
    bed.seed(0, 1, node=guid(8), port=guid(8))
    before = bed.seen(0)
    bed.fail(bed.vf(0, index), errno.EIO, first)
    bed.reset_counts()
    with pytest.raises(BatchFailed) as caught:
        host.plug(vifs(bed, 1, 2, 3))
    bed.heal()
    results = caught.value.result.results
    error = results[index].error
    # A VF whose commands all fail cannot be put back either, if one had been
    # taken before.
    untouched = bed.seen(0)[index] == before[index]
    kind = CommandFailed if untouched else RollbackFailed
    assert untouched == (first == 1)
    assert isinstance(error, kind)
    assert error.errno == errno.EIO
    assert bed.vf(0, index) in str(error)
    assert "EIO" in str(error)
    for other in {0, 1, 2} - {index}:
        assert isinstance(results[other].error, RolledBack)
        assert not results[other].changed
        assert same(bed.seen(0)[other], before[other])
    assert bed.seen(0)[3] == before[3]
    # and nothing stands in the way of another try
    host.plug(vifs(bed, 1, 2, 3))
    assert bed.seen(0)[:3] == [flavour.seen(guid(n)) for n in (1, 2, 3)]


def same(seen, before):
    """Equal, where the netlink GUID 0, "not known", came back as idle."""
    blank = {"00:00:00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff:ff:ff"}
    return seen.policy == before.policy and all(
        now == then or {now, then} <= blank
        for now, then in ((seen.node, before.node), (seen.port, before.port))
    )


@pytest.mark.parametrize("flavour", MLX5, indirect=True)
def test_the_others_go_on_when_told_to(bed, flavour):
    bed.fail(bed.vf(0, 1), errno.EIO)
    with pytest.raises(BatchFailed) as caught:
        bed.connect().plug(vifs(bed, 1, 2, 3), on_error="continue")
    bed.heal()
    results = caught.value.result.results
    assert [one.error is None for one in results] == [True, False, True]
    assert isinstance(results[1].error, CommandFailed)
    assert [results[0].changed, results[2].changed] == [True, True]
    assert bed.seen(0)[0] == flavour.seen(guid(1))
    assert bed.seen(0)[2] == flavour.seen(guid(3))


def test_bad_and_good_addresses_when_the_good_are_to_go_on(bed, flavour):
    with pytest.raises(BatchFailed) as caught:
        bed.connect().plug(
            [Vif.parse(bed.pfs[0], mac(7)), *vifs(bed, 1)],
            on_error="continue",
        )
    bad, good = caught.value.result.results
    assert isinstance(bad.error, DeviceNotFound)
    assert good.error is None
    assert bed.seen(0)[0] == flavour.seen(guid(1))


@pytest.mark.parametrize("flavour", MLX5, indirect=True)
@pytest.mark.parametrize("first", [1, 2, 3])
def test_an_unplug_that_fails_takes_the_others_back(bed, flavour, first):
    host = bed.connect()
    host.plug(vifs(bed, 1, 2, 3))
    before = bed.seen(0)
    bed.fail(bed.vf(0, 1), errno.EBUSY, first)
    with pytest.raises(BatchFailed) as caught:
        host.unplug(vifs(bed, 1, 2, 3))
    bed.heal()
    assert caught.value.errno == errno.EBUSY
    assert bed.seen(0)[0] == before[0]
    assert bed.seen(0)[2] == before[2]
    host.unplug(vifs(bed, 1, 2, 3))
    assert bed.seen(0)[:3] == [flavour.idle] * 3


def test_a_kernel_that_answers_emsgsize(bed):
    """Linux 5.5 to 6.14; the dump that is asked for then does answer, also
    about more VFs than it has room for by its own estimate."""
    bed.build(Hca("mlx5", vfs=16), Hca("mlx5", vfs=2))
    bed.underestimate()
    host = bed.connect()
    host.plug(vifs(bed, *range(1, 17)))
    assert [seen.port for seen in bed.seen(0)] == [
        guid(n) for n in range(1, 17)
    ]
    bed.reset_counts()
    assert not any(r.changed for r in host.plug(vifs(bed, 1)).results)
    assert bed.counts().modify == 0


def test_a_pf_that_fails_takes_the_other_pfs_back(bed):
    bed.build(Hca("mlx5", vfs=2), Hca("mlx5", vfs=2))
    bed.fail(bed.vf(1, 1), errno.EIO)
    with pytest.raises(BatchFailed):
        bed.connect().plug([*vifs(bed, 1, 2), *vifs(bed, 3, 4, pf=1)])
    bed.heal()
    for pf in (0, 1):
        for seen in bed.seen(pf):
            assert seen.policy == "down"
            assert seen.port in (
                "00:00:00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff:ff:ff",
            )  # fmt: skip


@pytest.mark.parametrize("flavour", MLX5, indirect=True)
def test_a_stale_holder_is_given_its_guid_back(bed, flavour):
    """And its link: it had been made idle for a plug that then failed."""
    host = bed.connect()
    host.plug(vifs(bed, 1))
    before = bed.seen(0)[0]
    bed.fail(bed.vf(0, 2), errno.EIO)
    with pytest.raises(BatchFailed):
        host.plug([Vif.parse(bed.vf(0, 2), mac(1))])
    assert bed.seen(0)[0] == before


@pytest.mark.parametrize("flavour", MLX5, indirect=True)
def test_a_vf_that_an_unplug_finds_elsewhere_is_given_its_guid_back(
    bed, flavour
):
    """And its link, when another VF of the batch fails."""
    host = bed.connect()
    host.plug(vifs(bed, 1, 2))
    before = bed.seen(0)[0]
    bed.fail(bed.vf(0, 1), errno.EIO)
    with pytest.raises(BatchFailed):
        host.unplug([Vif.parse(None, mac(1)), Vif.parse(bed.vf(0, 1), mac(2))])
    assert bed.seen(0)[0] == before


def test_a_first_vf_that_is_ill_leaves_the_others_their_files(bed):
    bed.build(Hca("mlx5-ofed", vfs=3, netdev=False))
    bed.fail_queries(bed.vf(0, 0), errno.EIO)
    host = bed.connect()
    assert host.pfs[0].family == "mlx5-ofed"
    (result,) = host.plug([Vif.parse(bed.vf(0, 1), mac(1))]).results
    assert (result.mechanism, result.verified) == ("mlx5_sysfs", True)
    assert bed.seen(0)[1].port == guid(1)


def test_a_failed_plug_leaves_mlx4s_choice_of_guids(bed):
    """What the subnet manager gave, which it may do anew, is no failure to
    put a VF back."""
    bed.build(Hca("mlx4", vfs=2), Hca("mlx5", vfs=2))
    bed.fail(bed.vf(1, 0), errno.EIO)
    with pytest.raises(BatchFailed) as caught:
        bed.connect().plug([*vifs(bed, 1, 2), *vifs(bed, 3, pf=1)])
    *others, failed = caught.value.result.results
    assert all(isinstance(one.error, RolledBack) for one in others)
    assert isinstance(failed.error, CommandFailed)
    assert bed.seen(0)[0].port != guid(1)


def test_a_vf_that_its_driver_cannot_tell_of_is_not_done(bed):
    bed.build(Hca("mlx5", vfs=3))
    bed.fail_queries(bed.vf(0, 1), errno.EIO)
    with pytest.raises(BatchFailed) as caught:
        bed.connect().plug(vifs(bed, 1, 2, 3))
    error = caught.value.result.results[1].error
    assert isinstance(error, (NotVerified, RollbackFailed))
    assert "cannot tell" in str(error)


def test_an_unplug_that_could_not_look_is_not_done(bed):
    bed.build(Hca("mlx5", vfs=3))
    host = bed.connect()
    host.plug(vifs(bed, 1, 2))
    bed.fail_queries(bed.vf(0, 0), errno.EIO)
    with pytest.raises(BatchFailed) as caught:
        host.unplug(vifs(bed, 1))
    assert isinstance(caught.value.result.failures[0], NotVerified)
    (elsewhere,) = host.unplug([Vif.parse(None, mac(9))]).results
    assert not elsewhere.verified
    bed.heal()
    host.unplug(vifs(bed, 1))
    assert bed.seen(0)[0].port == "ff:ff:ff:ff:ff:ff:ff:ff"


def test_a_guest_that_starts_while_the_lock_is_waited_for(bed):
    """Who has a VF is looked up again after the wait."""
    bed.build(Hca("mlx5", vfs=2))
    host = bed.connect()
    host.plug(vifs(bed, 1))
    failed = []
    lock = os.open(f"{host.run_dir}/{bed.pfs[0]}.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)

    def late():
        try:
            host.plug(vifs(bed, 2))
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


def test_a_lock_is_not_waited_for_for_ever(bed):
    bed.build(Hca("mlx5", vfs=2))
    host = bed.connect(lock_seconds=0.1)
    host.plug(vifs(bed, 1))
    path = f"{host.run_dir}/{bed.pfs[0]}.lock"
    lock = os.open(path, os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    bed.reset_counts()
    with pytest.raises(TimedOut, match="another batch") as caught:
        host.plug(vifs(bed, 2))
    os.close(lock)
    assert "0.1 s" in caught.value.message
    assert "lslocks" in str(caught.value.cure)
    assert (caught.value.device, caught.value.errno) == (path, errno.ETIMEDOUT)
    assert bed.counts().modify == 0


def test_vfs_that_vanish_in_the_middle(bed):
    bed.build(Hca("mlx5", vfs=4), Hca("mlx5", vfs=2))
    host = bed.connect()
    with pytest.raises(BatchFailed) as caught:
        host.plug(
            vifs(bed, 1, 2, 3, 4),
            progress=lambda stage, *_: (
                bed.numvfs(0, 0) if stage == "write" else None
            ),
        )
    for one in caught.value.result.results:
        assert one.error is not None
        assert isinstance(one.error, DeviceNotFound)
        assert "vanished" in str(one.error)
    bed.numvfs(0, 4)
    host.plug(vifs(bed, 1, 2, 3, 4))
    assert [s.port for s in bed.seen(0)] == [guid(n) for n in (1, 2, 3, 4)]


@pytest.mark.parametrize("pf", [0, 1])
def test_who_was_made_idle_stays_so_if_the_guid_may_be_taken(bed, pf):
    """The VF that was to get it can neither be finished nor put back: given
    back its GUID as well, both would have it."""
    bed.build(Hca("mlx5", vfs=2), Hca("mlx5", vfs=2))
    host = bed.connect()
    host.plug([Vif.parse(bed.vf(pf, 1), mac(5))])
    bed.fail(bed.vf(0, 0), errno.EIO, first=3)
    with pytest.raises(BatchFailed) as caught:
        host.plug(vifs(bed, 5))
    assert isinstance(caught.value.result.results[0].error, RollbackFailed)
    told = caught.value.result.warnings[-1]
    assert bed.vf(pf, 1) in told
    assert f"{bed.vf(0, 0)} may still have its GUID" in told
    assert bed.seen(0)[0].port == guid(5)
    assert bed.seen(pf)[1].port == ONES
    bed.heal()
    host.plug(vifs(bed, 5))
    assert bed.seen(0)[0] == Seen(guid(5), guid(5), "follow")


def test_who_was_made_idle_gets_its_guid_back_where_nobody_has_it(bed):
    """As the test above, but nothing was taken by the other."""
    bed.build(Hca("mlx5", vfs=2))
    host = bed.connect()
    host.plug([Vif.parse(bed.vf(0, 1), mac(5))])
    before = bed.seen(0)
    bed.fail(bed.vf(0, 0), errno.EIO)
    with pytest.raises(BatchFailed) as caught:
        host.plug(vifs(bed, 5))
    assert isinstance(caught.value.result.results[0].error, CommandFailed)
    assert bed.seen(0) == before


def test_who_was_made_idle_gets_its_guid_back_from_who_only_went_down(bed):
    """Put back it was not, but it has another GUID, as is seen."""
    bed.build(Hca("mlx5", vfs=2))
    host = bed.connect()
    host.plug([Vif.parse(bed.vf(0, 0), mac(7))])
    host.plug([Vif.parse(bed.vf(0, 1), mac(5))])
    bed.fail(bed.vf(0, 0), errno.EIO, first=2)
    with pytest.raises(BatchFailed) as caught:
        host.plug(vifs(bed, 5), link=Link.LOWERED)
    bed.heal()
    assert isinstance(caught.value.result.results[0].error, RollbackFailed)
    assert bed.seen(0) == [
        Seen(guid(7), guid(7), "down"), Seen(guid(5), guid(5), "follow"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "moved", "most"),
    [
        ("write", False, 2),
        ("verify", False, 3),
        ("write", True, 2),
        # Whether the first VF gave it up must be known before the second
        # gets it back, and then whether that did.
        ("verify", True, 4),
    ],
)
def test_an_undo_asks_a_pf_once_more(bed, stage, moved, most):
    """For the data of all its VFs, which firmware has to tell."""
    bed.build(Hca("mlx5", vfs=4))
    host = bed.connect()
    if moved:
        host.plug([Vif.parse(bed.vf(0, 3), mac(1))])
    before = bed.seen(0)

    def stop(now, done, total):
        if now == stage:
            raise ZeroDivisionError

    bed.reset_counts()
    with pytest.raises(ZeroDivisionError):
        host.plug(vifs(bed, 1, 2), progress=stop)
    assert bed.counts().getlink <= most
    for now, then in zip(bed.seen(0), before, strict=True):
        assert same(now, then)


def test_a_vf_is_not_raised_with_half_an_identity(bed):
    """What was refused ends what is written to that VF: of a batch that goes
    on, the link of one whose GUID was refused stays as it was."""
    bed.build(Hca("mlx5", vfs=3))
    host = bed.connect()
    host.pfs  # noqa: B018  the topology is read once in a host's life
    before = bed.seen(0)[1]
    bed.fail(bed.vf(0, 1), errno.EIO)
    bed.reset_counts()
    with pytest.raises(BatchFailed):
        host.plug(vifs(bed, 1, 2, 3), on_error=OnError.CONTINUE)
    # Of the whole batch 3 and the failure, then 2 * 3 and the failure alone.
    assert bed.counts().modify == 11
    bed.heal()
    assert bed.seen(0)[1] == before
    assert [bed.seen(0)[n].port for n in (0, 2)] == [guid(1), guid(3)]
