# SPDX-License-Identifier: Apache-2.0
"""What a PF that is stuck, or that no mapping leads to, does to the others."""

import fcntl
import os
from contextlib import contextmanager

import pytest

from ibhostdev import BatchFailed, Guid, OnError, Vif
from ibhostdev.errors import TimedOut
from tests.flavours import ONES, guid, mac, vifs
from tests.testbed import Seen

IDLE = Seen(ONES, ONES, "down")


@contextmanager
def locked(host, pf):
    """As by a batch that hangs in firmware."""
    os.makedirs(host.run_dir, exist_ok=True)
    lock = os.open(f"{host.run_dir}/{pf}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def test_a_locked_pf_does_not_stop_another(two):
    host = two.connect(lock_seconds=0.2)
    wanted = vifs(two, 1, pf=1)
    with locked(host, two.pfs[0]):
        plugged = host.plug(wanted)
        assert two.seen(1)[0] == Seen(guid(1), guid(1), "follow")
        again = host.plug(wanted)
        gone = host.unplug(wanted)
    assert two.seen(1)[0] == IDLE
    assert not again.results[0].changed
    for result in plugged, again, gone:
        assert result.ok
        (told,) = result.warnings
        assert two.pfs[0] in told


def test_its_own_vfs_wait_for_it(two):
    host = two.connect(lock_seconds=0.2)
    before = two.seen(0), two.seen(1)
    with locked(host, two.pfs[0]), pytest.raises(TimedOut) as caught:
        host.plug([*vifs(two, 1), *vifs(two, 2, pf=1)])
    assert two.pfs[0] in str(caught.value)
    assert (two.seen(0), two.seen(1)) == before


def test_a_guid_that_may_be_on_a_locked_pf_is_not_called_unplugged(two):
    host = two.connect(lock_seconds=0.2)
    (vif,) = vifs(two, 1)
    host.plug([vif])
    missing = [Vif(None, vif.guid), *vifs(two, 2, pf=1)]
    host.plug(missing[1:])
    with locked(host, two.pfs[0]), pytest.raises(BatchFailed) as caught:
        host.unplug(missing, on_error=OnError.CONTINUE)
    results = caught.value.result.results
    assert isinstance(results[0].error, TimedOut)
    assert results[1].error is None
    assert two.seen(0)[0].port == guid(1)
    assert two.seen(1)[0] == IDLE
    assert host.unplug(missing).ok
    assert two.seen(0)[0] == IDLE


def test_an_unplug_tells_where_no_mapping_leads(bed, flavour):
    """The device of the mapping is gone. On another fabric the GUID may be
    somebody else's, but not on the VF that was named with it."""
    bed.connect().plug(vifs(bed, 1))
    host = bed.connect(physical_networks={"default": ["ib77"]})
    result = host.unplug([Vif.parse(None, mac(1), "default")])
    assert not result.results[0].verified
    assert any("'default'" in one for one in result.warnings)
    assert bed.seen(0)[0] == flavour.seen(guid(1))
    (one,) = host.unplug([Vif.parse(bed.vf(0, 0), mac(1), "default")]).results
    assert one.changed
    assert bed.seen(0)[0] == flavour.idle


def test_an_unplug_takes_what_guid_and_address_agree_on(two):
    two.connect().plug(vifs(two, 1))
    host = two.connect(physical_networks={"default": [two.pfs[1]]})
    (one,) = host.unplug([Vif.parse(two.vf(0, 0), mac(1), "default")]).results
    assert one.changed
    assert two.seen(0)[0] == IDLE


def test_what_is_given_back_is_not_given_twice(two):
    """Somebody else got the GUID that a VF had before its plug."""
    old = Guid.parse(guid(8))
    host = two.connect()
    host.plug([Vif(two.vf(0, 0), old)])
    wanted = vifs(two, 1)
    result = host.plug(wanted)
    host.plug([Vif(two.vf(1, 0), old)])
    back = host.restore(wanted, [one.before for one in result.results])
    assert back.ok
    assert any(str(old) in one for one in back.warnings)
    assert two.seen(0)[0] == IDLE
    assert two.seen(1)[0].port == str(old)


def test_a_guest_that_has_it_all_again_is_left_alone(two):
    """Though another VF has its GUID, too."""
    old = Guid.parse(guid(8))
    host = two.connect()
    host.plug([Vif(two.vf(0, 0), old)])
    wanted = vifs(two, 1)
    before = host.plug(wanted).results[0].before
    two.seed(0, 0, str(old), str(old), "follow")
    two.seed(1, 0, str(old), str(old), "follow")
    with two.hold(two.vf(0, 0)):
        assert host.restore(wanted, [before]).ok
        assert two.seen(0)[0] == Seen(str(old), str(old), "follow")
