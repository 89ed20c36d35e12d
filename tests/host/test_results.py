# SPDX-License-Identifier: Apache-2.0
"""What is told of a batch: each VF's result, warnings, progress, the log."""

import errno
import logging

import pytest

from ibhostdev import IDLE, BatchFailed, Guid, Policy, VfState, Vif
from ibhostdev.errors import (
    DeviceInUse,
    DeviceNotFound,
    InvalidInput,
    RolledBack,
)
from ibhostdev.process import log
from tests.flavours import ONES, ZERO, guid, mac, vifs
from tests.testbed import Hca


def told(number):
    return Guid.parse(guid(number))


def test_before_after_and_wanted(bed):
    bed.build(Hca("mlx5-ofed", vfs=2))
    bed.seed(0, 0, guid(8), guid(8), "up")
    host = bed.connect()
    old = VfState(told(8), told(8), Policy.UP)
    new = VfState(told(1), told(1), Policy.FOLLOW)
    idle = VfState(IDLE, IDLE, Policy.DOWN)

    def states(result):
        (one,) = result.results
        return one.before, one.wanted, one.after

    assert states(host.plug(vifs(bed, 1), dry_run=True)) == (old, new, None)
    assert states(host.plug(vifs(bed, 1))) == (old, new, new)
    (again,) = host.plug(vifs(bed, 1)).results
    assert (again.before, again.after) == (new, new)
    assert (again.changed, again.verified) == (False, True)
    assert states(host.unplug(vifs(bed, 1), dry_run=True)) == (
        new, idle, None,
    )  # fmt: skip
    assert states(host.unplug(vifs(bed, 1))) == (new, idle, idle)
    (again,) = host.unplug(vifs(bed, 1)).results
    assert (again.before, again.after) == (idle, idle)
    assert again.wanted == idle
    assert (again.changed, again.verified) == (False, True)


def test_a_plan_is_verified_where_nothing_is_to_do(bed, flavour):
    host = bed.connect()
    host.plug(vifs(bed, 1))
    same, new = host.plug(vifs(bed, 1, 2), dry_run=True).results
    assert (same.verified, new.verified) == (True, False)
    held, other = host.unplug(vifs(bed, 1, 2), dry_run=True).results
    assert (held.verified, held.after) == (False, None)
    assert not other.changed


def test_a_half_is_written_and_the_whole_is_told(bed):
    """What was right already is in the result too."""
    bed.build(Hca("mlx5-ofed", vfs=2))
    bed.seed(0, 0, guid(1), ONES, "up")
    (one,) = bed.connect().plug(vifs(bed, 1)).results
    assert one.changed
    assert one.after == VfState(told(1), told(1), Policy.FOLLOW)


@pytest.mark.parametrize("half", ["node", "port"])
def test_what_netlink_does_not_tell_the_files_do(bed, half):
    """One GUID was set by netlink, the other by the files."""
    bed.build(Hca("mlx5-ofed", vfs=2))
    bed.seed(0, 0, **{half: guid(1)}, policy="follow")
    other = "port" if half == "node" else "node"
    pf = f"bus/pci/devices/{bed.pfs[0]}"
    bed.write(f"{pf}/sriov/0/{other}", guid(1))
    assert {bed.seen(0)[0].node, bed.seen(0)[0].port} == {ZERO, guid(1)}
    bed.reset_counts()
    (one,) = bed.connect().plug(vifs(bed, 1)).results
    assert one.before == VfState(told(1), told(1), Policy.FOLLOW)
    assert not one.changed
    assert bed.counts().modify == 0


@pytest.mark.parametrize("flavour", ["ofed"], indirect=True)
def test_firmware_is_asked_of_the_batch_alone(bed, flavour):
    """After writing, where there are files; netlink would ask of all."""
    host = bed.connect()
    for operation in (host.plug, host.unplug):
        bed.reset_counts()
        operation(vifs(bed, 1, 2))
        assert bed.counts().getlink == 1


@pytest.mark.parametrize("on_error", ["rollback", "continue"])
def test_who_goes_with_a_failure_and_who_does_not(bed, on_error):
    """An unplug that finds one GUID nowhere, one with a guest, one free."""
    bed.build(Hca("mlx5", vfs=4))
    host = bed.connect()
    host.plug(vifs(bed, 1, 2, 3))
    batch = [Vif.parse(None, mac(n)) for n in (9, 2, 1)]
    bed.reset_counts()
    with bed.hold(bed.vf(0, 1)), pytest.raises(BatchFailed) as caught:
        host.unplug(batch, on_error=on_error)
    nowhere, held, free = caught.value.result.results
    assert nowhere.error is None
    assert isinstance(held.error, DeviceInUse)
    assert held.pci == held.error.device == bed.vf(0, 1)
    assert held.before == held.after == VfState(
        told(2), told(2), Policy.FOLLOW
    )  # fmt: skip
    assert held.mechanism == "mlx5_netlink"
    if on_error == "rollback":
        assert isinstance(free.error, RolledBack)
        assert bed.vf(0, 1) in str(free.error)
        assert free.error.device == bed.vf(0, 0)
        assert bed.counts().modify == 0
    else:
        assert free.error is None
        assert free.changed
        assert bed.seen(0)[0].port == ONES
    assert [one.port for one in bed.seen(0)[1:3]] == [guid(2), guid(3)]


def test_the_holder_of_a_guid_that_nobody_can_take(bed, flavour):
    """The VIF's address leads nowhere, so what has its GUID keeps it."""
    host = bed.connect()
    host.plug(vifs(bed, 1))
    with pytest.raises(BatchFailed) as caught:
        host.plug(
            [
                Vif.parse("0000:ff:1f.7", mac(1)),
                Vif.parse(bed.vf(0, 1), mac(2)),
            ],
            on_error="continue",
        )
    bad, good = caught.value.result.results
    assert isinstance(bad.error, DeviceNotFound)
    assert (bad.wanted.port_guid, bad.wanted.policy) == (
        told(1), Policy.FOLLOW,
    )  # fmt: skip
    assert good.error is None
    assert bed.seen(0)[:2] == [flavour.seen(guid(n)) for n in (1, 2)]


def test_a_policy_is_wanted_of_who_fails_too(bed):
    bed.build(Hca("mlx5", vfs=1))
    with pytest.raises(BatchFailed) as caught:
        bed.connect().plug(
            [Vif.parse("0000:ff:1f.7", mac(1))],
            policy="up",
            on_error="continue",
        )
    (bad,) = caught.value.result.results
    assert bad.wanted == VfState(told(1), told(1), Policy.UP)


def test_why_each_was_rolled_back(bed):
    bed.build(Hca("mlx5", vfs=3))
    bed.fail(bed.vf(0, 1), errno.EIO)
    with pytest.raises(BatchFailed) as caught:
        bed.connect().plug(vifs(bed, 1, 2, 3))
    first, _, third = (one.error for one in caught.value.result.results)
    for number, error in ((0, first), (2, third)):
        assert isinstance(error, RolledBack)
        assert error.device == bed.vf(0, number)
        assert bed.vf(0, 1) in str(error)


def test_a_failure_counts_the_others(bed):
    bed.build(Hca("mlx5", vfs=3))
    for index in range(3):
        bed.fail(bed.vf(0, index), errno.EIO)
    with pytest.raises(BatchFailed, match=r"\(and 2 more\)"):
        bed.connect().plug(vifs(bed, 1, 2, 3))


def test_warnings_are_logged(bed, caplog, monkeypatch):
    monkeypatch.setattr(log, "quiet", False)
    bed.build(Hca("mlx5", vfs=2))
    host = bed.connect()
    host.plug(vifs(bed, 1))
    with caplog.at_level(logging.WARNING, "ibhostdev"):
        result = host.plug([Vif.parse(bed.vf(0, 1), mac(1))])
    assert caplog.messages == list(result.warnings)
    assert len(result.warnings) == 1
    # Once, where whoever runs the package tells them.
    monkeypatch.setattr(log, "quiet", True)
    caplog.clear()
    assert len(host.plug(vifs(bed, 1)).warnings) == 1
    assert caplog.messages == []


def test_warnings_of_who_was_ended_are_logged(bed, caplog, monkeypatch):
    """Nobody gets a result that they would be in."""
    monkeypatch.setattr(log, "quiet", True)
    bed.build(Hca("mlx5", vfs=2))
    host = bed.connect()
    host.plug(vifs(bed, 1))

    def end(*_):
        raise KeyboardInterrupt

    with (
        caplog.at_level(logging.WARNING, "ibhostdev"),
        pytest.raises(KeyboardInterrupt),
    ):
        host.plug([Vif.parse(bed.vf(0, 1), mac(1))], progress=end)
    (warning,) = caplog.messages
    assert bed.vf(0, 0) in warning


@pytest.mark.parametrize("operation", ["plug", "unplug"])
def test_progress_counts_to_its_end(bed, operation):
    """What is right already is in no stage."""
    bed.build(Hca("mlx5", vfs=3), Hca("mlx5", vfs=2))
    host = bed.connect(physical_networks={})
    plugged = [*vifs(bed, 1, 2), *vifs(bed, 3, 4, pf=1)]
    host.plug(plugged[:1] if operation == "plug" else plugged[1:])
    seen = []
    getattr(host, operation)(plugged, progress=lambda *one: seen.append(one))
    for stage in ("write", "verify"):
        assert [(done, of) for name, done, of in seen if name == stage] in (
            [(1, 3), (3, 3)], [(2, 3), (3, 3)],
        )  # fmt: skip
    seen.clear()
    getattr(host, operation)(plugged, progress=lambda *one: seen.append(one))
    assert seen == []


def test_what_is_nowhere_is_logged(bed, caplog):
    bed.build(Hca("mlx5", vfs=1))
    with caplog.at_level(logging.DEBUG, "ibhostdev"):
        bed.connect().unplug(vifs(bed, 1))
    assert [one for one in caplog.messages if guid(1) in one]


def test_the_folder_of_the_locks_is_made(bed, tmp_path):
    bed.build(Hca("mlx5", vfs=1))
    folder = tmp_path / "run/ibhostdev"
    bed.connect(run_dir=str(folder)).plug(vifs(bed, 1))
    locks = [file.name for file in folder.glob("*.lock")]
    assert locks == [f"{bed.pfs[0]}.lock"]
    for one in (folder, folder.parent):
        assert one.stat().st_mode & 0o777 == 0o755


def test_a_plan_takes_no_lock(bed, tmp_path):
    bed.build(Hca("mlx5", vfs=1))
    host = bed.connect(run_dir=str(tmp_path / "run"))
    host.plug(vifs(bed, 1), dry_run=True)
    host.unplug(vifs(bed, 1), dry_run=True)
    assert not (tmp_path / "run").exists()


def test_unplug_checks_its_input_as_well(bed):
    bed.build(Hca("mlx5", vfs=2))
    host = bed.connect()
    host.plug(vifs(bed, 1))
    bed.reset_counts()
    one, two = vifs(bed, 1, 2)
    for batch, word in (
        ([one, Vif(two.pci, one.guid)], "twice"),
        ([one, Vif(two.pci, Guid(0))], "GUID"),
    ):
        with pytest.raises(InvalidInput, match=word):
            host.unplug(batch)
    assert bed.counts().modify == 0
    # addresses are only hints, so two may be the same
    host.unplug([one, Vif(one.pci, two.guid)])
    assert bed.seen(0)[0].port == ONES
    assert bed.seen(0)[1].port == ZERO
