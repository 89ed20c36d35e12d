# SPDX-License-Identifier: Apache-2.0
"""A VIF that says which partition it is to be in."""

import threading
import time
from contextlib import contextmanager

import pytest

from ibhostdev import BatchFailed, Guid, PKey, Vif
from ibhostdev.errors import InvalidInput, RolledBack, TimedOut
from tests.flavours import FLAVOURS, ONES, guid, mac, vifs
from tests.host.test_marks import marked, unmark
from tests.testbed import Hca

PKEY = PKey.parse("0x8001")
OTHER = PKey.parse("0x8005")


def asking(bed, *numbers, pkey=PKEY, pf=0):
    return [vif._replace(pkey=pkey) for vif in vifs(bed, *numbers, pf=pf)]


def iov(bed, pf=0):
    (folder,) = bed.sys.glob(f"bus/pci/devices/{bed.pfs[pf]}/infiniband/*/iov")
    return folder


def entries(bed, index, pf=0, port=1):
    """The first two P_Keys that a VF has, by their places in the table of
    the PF's port, as sysfs shows them."""
    slave = index + 1
    name = f"{bed.pfs[pf][:8]}{slave // 8:02}.{slave % 8}"
    folder = iov(bed, pf) / name / f"ports/{port}/pkey_idx"
    return [(folder / n).read_text().strip() for n in "01"]


@contextmanager
def once_asked_for(bed, number, act):
    """`act` is done when the subnet manager is asked for a GUID of VF 0."""
    ended = threading.Event()
    file = iov(bed) / "ports/1/admin_guids/1"

    def watch():
        while not ended.is_set():
            if int(file.read_text(), 16) == Guid.parse(guid(number)):
                act()
                return
            time.sleep(0.005)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


# -- mlx5 -----------------------------------------------------------------


@pytest.mark.parametrize(
    "flavour",
    [name for name, one in FLAVOURS.items() if not one.mlx4],
    indirect=True,
)
def test_on_mlx5_it_changes_nothing_that_is_written(flavour, bed):
    """The subnet manager gives it."""
    host = bed.connect()
    batch = asking(bed, 1, 2)
    bed.reset_counts()
    results = host.plug(batch).results
    assert all(one.verified for one in results)
    assert [one.after.pkey for one in results] == [None, None]
    counts = bed.counts()
    assert counts.modify == 2 * flavour.commands
    assert counts.getlink <= flavour.getlinks(2)
    bed.reset_counts()
    host.plug(vifs(bed, 1, 2))
    assert bed.counts().modify == 0
    host.unplug(batch)
    assert bed.seen(0)[:2] == [flavour.idle] * 2


def test_where_it_is_the_hosts_to_give_and_where_not_in_one_batch(bed):
    bed.build(Hca("mlx5", vfs=1), Hca("mlx4", vfs=1))
    first, second = (
        bed.connect().plug([*asking(bed, 1), *asking(bed, 2, pf=1)]).results
    )
    assert (first.verified, first.after.pkey) == (True, None)
    assert (second.verified, second.after.pkey) == (True, PKEY)
    assert entries(bed, 0, pf=1) == ["2", "0"]


# -- mlx4 -----------------------------------------------------------------


@pytest.fixture
def mlx4(bed):
    bed.build(Hca("mlx4", vfs=4))
    return bed


def test_it_is_first_and_the_default_partition_behind_it(mlx4):
    host = mlx4.connect()
    mlx4.reset_counts()
    results = host.plug(asking(mlx4, 1, 2)).results
    assert [(one.verified, one.changed) for one in results] == [
        (True, True)
    ] * 2
    assert [one.wanted.pkey for one in results] == [PKEY] * 2
    assert [one.after.pkey for one in results] == [PKEY] * 2
    assert [entries(mlx4, n) for n in range(3)] == [
        ["2", "0"],
        ["2", "0"],
        ["0", "none"],
    ]
    assert mlx4.counts().modify == 2


def test_plugged_again_nothing_is_written(mlx4):
    host = mlx4.connect()
    host.plug(asking(mlx4, 1, 2))
    unmark(host)
    mlx4.reset_counts()
    results = host.plug(asking(mlx4, 1, 2)).results
    assert [(one.verified, one.changed) for one in results] == [
        (True, False)
    ] * 2
    assert [one.before.pkey for one in results] == [PKEY] * 2
    assert mlx4.counts().modify == 0
    assert marked(host) == set()


def test_unplugged_it_is_none(mlx4):
    host = mlx4.connect()
    host.plug(asking(mlx4, 1))
    host.unplug(asking(mlx4, 1))
    assert entries(mlx4, 0)[0] == "none"
    assert mlx4.seen(0)[0].port == ONES


def test_one_that_is_plugged_without_gets_it_later(mlx4):
    """The subnet manager is not asked for the GUID again."""
    host = mlx4.connect()
    host.plug(vifs(mlx4, 1))
    assert entries(mlx4, 0) == ["none", "0"]
    mlx4.reset_counts()
    (one,) = host.plug(asking(mlx4, 1)).results
    assert (one.changed, one.verified) == (True, True)
    assert (one.before.pkey, one.after.pkey) == (None, PKEY)
    assert entries(mlx4, 0) == ["2", "0"]
    assert mlx4.counts().modify == 0


def test_a_vif_that_names_none_leaves_it(mlx4):
    """As Nova's do, which are plugged again and again: the first entry is
    Neutron's agent's then."""
    host = mlx4.connect()
    host.plug(asking(mlx4, 1))
    (one,) = host.plug(vifs(mlx4, 1)).results
    assert (one.changed, one.after.pkey) == (False, None)
    assert entries(mlx4, 0) == ["2", "0"]


def test_another_takes_its_place(mlx4):
    mlx4.pkeys(0xFFFF, 0x8001, 0x7FFF, 0x8005)
    host = mlx4.connect()
    host.plug(asking(mlx4, 1))
    (one,) = host.plug(asking(mlx4, 1, pkey=OTHER)).results
    assert (one.before.pkey, one.after.pkey) == (PKEY, OTHER)
    assert entries(mlx4, 0) == ["3", "0"]


def test_the_next_tenant_has_none_of_the_last_ones(mlx4):
    host = mlx4.connect()
    host.plug(asking(mlx4, 1))
    host.plug(vifs(mlx4, 2))
    assert entries(mlx4, 0) == ["none", "0"]


@pytest.mark.parametrize(
    ("text", "place"),
    [("1:full", "3"), ("1:limited", "1"), ("1:both", "3"), ("0xffff", "2")],
)
def test_members_of_one_kind_do_not_become_the_other(mlx4, text, place):
    """A limited one would reach fewer, and a full one more than it may."""
    mlx4.pkeys(0x7FFF, 0x0001, 0xFFFF, 0x8001)
    mlx4.connect().plug(asking(mlx4, 1, pkey=PKey.parse(text)))
    assert entries(mlx4, 0) == [place, "0"]


def test_it_is_put_on_the_port_of_its_network(bed):
    bed.build(Hca("mlx4", vfs=1, ports=2))
    first, second = (n.name for n in bed.connect().pfs[0].netdevs)
    host = bed.connect(physical_networks={"one": [first], "two": [second]})
    (vif,) = asking(bed, 1)
    host.plug([vif._replace(physical_network="two")])
    assert entries(bed, 0, port=2) == ["2", "0"]
    assert entries(bed, 0, port=1) == ["0", "none"]


def test_to_look_only_writes_nothing(mlx4):
    host = mlx4.connect()
    host.plug(vifs(mlx4, 1))
    (one,) = host.plug(asking(mlx4, 1), dry_run=True).results
    assert one.changed
    assert entries(mlx4, 0) == ["none", "0"]


def test_a_reserved_one_is_refused(mlx4):
    """Whoever makes it; PKey makes none."""

    class Reserved:
        values = (0x8000,)

    before = mlx4.seen(0)
    with pytest.raises(InvalidInput, match="0x8000 is reserved"):
        mlx4.connect().plug(asking(mlx4, 1, pkey=Reserved()))
    assert mlx4.seen(0) == before


# -- the subnet manager's turn --------------------------------------------


def test_one_that_comes_late_is_waited_for(mlx4):
    """A subnet manager may have to see the GUID first."""
    mlx4.pkeys(0xFFFF)
    host = mlx4.connect(settle_seconds=60)
    with once_asked_for(mlx4, 1, lambda: mlx4.pkeys(0xFFFF, 0x8001)):
        (one,) = host.plug(asking(mlx4, 1)).results
    assert (one.verified, one.after.pkey) == (True, PKEY)
    assert entries(mlx4, 0) == ["1", "0"]


def test_one_that_does_not_come_leaves_all_as_it_was(bed):
    bed.build(Hca("mlx4", vfs=2), Hca("mlx4", vfs=1))
    bed.connect().plug(asking(bed, 1))
    host = bed.connect(settle_seconds=0.05)
    batch = [
        *asking(bed, 1, pkey=OTHER),
        Vif.parse(bed.vf(0, 1), mac(2)),
        *asking(bed, 3, pf=1),
    ]
    with pytest.raises(BatchFailed) as caught:
        host.plug(batch)
    first, *others = caught.value.result.results
    assert isinstance(first.error, TimedOut)
    assert first.error.device == bed.vf(0, 0)
    assert "P_Key 0x8005" in first.error.message
    assert "0.05 s" in first.error.message
    assert first.after.pkey == PKEY
    assert "subnet manager's turn" in first.error.cure
    assert "ibhostdev fabric export" in first.error.cure
    assert all(isinstance(one.error, RolledBack) for one in others)
    assert bed.seen(0)[0].port == guid(1)
    # Whose GUID was none may have got another by the subnet manager.
    assert bed.seen(0)[1].port != guid(2)
    assert bed.seen(1)[0].port != guid(3)
    assert entries(bed, 0) == ["2", "0"]
    assert entries(bed, 1) == ["0", "none"]
    assert entries(bed, 0, pf=1) == ["0", "none"]


def test_one_of_the_other_kind_is_named(mlx4):
    mlx4.pkeys(0xFFFF, 0x0001)
    host = mlx4.connect(settle_seconds=0.05)
    with pytest.raises(BatchFailed, match="only 0x0001, a limited member's"):
        host.plug(asking(mlx4, 1))


def test_the_others_go_on_and_it_can_be_made_up_for(mlx4):
    """What has been written of it stays, so that the subnet manager can be
    told of the GUID."""
    (first,) = asking(mlx4, 1, pkey=OTHER)
    second = Vif.parse(mlx4.vf(0, 1), mac(2))
    mlx4.connect().plug([second])
    second = second._replace(pkey=PKEY)
    host = mlx4.connect(settle_seconds=0.05)
    with pytest.raises(BatchFailed) as caught:
        host.plug([first, second], on_error="continue")
    one, other = caught.value.result.results
    assert isinstance(one.error, TimedOut)
    assert (other.error, other.after.pkey) == (None, PKEY)
    assert [seen.port for seen in mlx4.seen(0)[:2]] == [guid(1), guid(2)]
    assert entries(mlx4, 0) == ["none", "0"]
    assert entries(mlx4, 1) == ["2", "0"]
    mlx4.pkeys(0xFFFF, 0x7FFF, 0x8001, 0x8005)
    result = mlx4.connect().plug([first, second])
    assert [one.after.pkey for one in result.results] == [OTHER, PKEY]
    assert entries(mlx4, 0) == ["3", "0"]


def test_it_goes_back_when_another_vf_fails(mlx4):
    mlx4.pkeys(0xFFFF, 0x8001, 0x8005)
    mlx4.connect().plug(asking(mlx4, 1))
    host = mlx4.connect(settle_seconds=0.05)
    mlx4.fail(mlx4.vf(0, 1), 5)  # the subnet manager refuses its GUID
    with pytest.raises(BatchFailed):
        host.plug(asking(mlx4, 1, 2, pkey=OTHER))
    mlx4.heal()
    assert mlx4.seen(0)[0].port == guid(1)
    assert entries(mlx4, 0) == ["1", "0"]
    assert entries(mlx4, 1) == ["0", "none"]


# -- guests ---------------------------------------------------------------


def test_a_guest_is_given_it_in_the_place_of_none(mlx4):
    host = mlx4.connect()
    host.plug(vifs(mlx4, 1))
    with mlx4.hold(mlx4.vf(0, 0)):
        (one,) = host.plug(asking(mlx4, 1)).results
        assert (one.changed, one.verified) == (True, True)
        assert entries(mlx4, 0) == ["2", "0"]
        (one,) = host.plug(asking(mlx4, 1)).results
        assert (one.changed, one.verified) == (False, True)


def test_a_guest_whose_guid_is_not_agreed_to_is_left_without(mlx4):
    """The subnet manager may not want it there at all."""
    host = mlx4.connect(settle_seconds=0.05)
    mlx4.fail(mlx4.vf(0, 0), 5)
    with pytest.raises(BatchFailed):
        host.plug(vifs(mlx4, 1), on_error="continue")
    with mlx4.hold(mlx4.vf(0, 0)):
        (warning,) = host.plug(asking(mlx4, 1)).warnings
    mlx4.heal()
    assert "P_Key is none, not 0x8001" in warning
    assert entries(mlx4, 0) == ["none", "0"]


def test_a_guest_keeps_another(mlx4):
    mlx4.pkeys(0xFFFF, 0x8001, 0x8005)
    host = mlx4.connect()
    host.plug(asking(mlx4, 1))
    with mlx4.hold(mlx4.vf(0, 0)):
        result = host.plug(asking(mlx4, 1, pkey=OTHER))
    (one,) = result.results
    assert (one.changed, one.verified) == (False, False)
    (warning,) = result.warnings
    assert mlx4.vf(0, 0) in warning
    assert "P_Key is 0x8001, not 0x8005" in warning
    assert entries(mlx4, 0) == ["1", "0"]
