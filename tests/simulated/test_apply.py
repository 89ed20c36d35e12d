# SPDX-License-Identifier: Apache-2.0
"""Making a host what it is to be, on its bad days."""

import errno
import itertools
import os
import signal
import subprocess
import threading

import pytest

from ibhostdev import Vif
from ibhostdev.errors import (
    AccessDenied,
    CommandFailed,
    InvalidInput,
    TimedOut,
)
from ibhostdev.inventory import Endpoint
from ibhostdev.pci import PciAddress
from ibhostdev.process.parallel import each
from ibhostdev.provision.apply import apply
from ibhostdev.provision.health import is_dead
from ibhostdev.provision.reading import from_file
from ibhostdev.simulate.model import FOLLOW
from tests.flavours import ONES, guid
from tests.testbed import Hca, Seen

EMPTY = Hca("mlx5", vfs=0, total=4)


@pytest.fixture
def wishes(bed, tmp_path):
    """Of two PFs with 3 VFs and 2."""
    bed.build(EMPTY, EMPTY)
    path = tmp_path / "host.yaml"
    path.write_text(
        f"- {{pf: {bed.pfs[0]}, vfs: 3, driver: mlx5_core, "
        f"guids: ['{guid(1)}', '{guid(2)}']}}\n"
        f"- {{pf: {bed.pfs[1]}, vfs: 2, driver: vfio-pci, guids: derived}}\n"
    )
    return from_file(str(path))


def state(bed):
    """All that a user can see."""
    host = bed.connect()
    return [
        (
            pf.numvfs,
            pf.autoprobe,
            [vf.driver for vf in host.vfs(pf)],
            [vf.override for vf in bed.host.machine.pfs[number].vfs],
            [(one.port, one.policy) for one in bed.seen(number)],
            [bed.identity(vf.pci) for vf in host.vfs(pf)],
        )
        for number, pf in enumerate(host.pfs)
    ]


def forget(bed):
    """No VFs again; the PFs' drivers remember what these had, which are
    tenants of other hosts by now."""
    for pf in (0, 1):
        bed.numvfs(pf, 0)
        path = f"bus/pci/devices/{bed.pfs[pf]}/sriov_drivers_autoprobe"
        bed.write(path, 1)
        for index, memory in enumerate(bed.host.machine.pfs[pf].contexts):
            memory.node = memory.port = 0xFA163E0000000100 + index + 16 * pf
            memory.policy = FOLLOW
            memory.node_valid = memory.port_valid = True


class Killer:
    """Kills a process when it is about to write for the ``at``-th time."""

    def __init__(self, bed, command, at):
        self.steps, self.at, self.lock = 0, at, threading.Lock()
        self.host, self.command = bed.host, command

    def run(self, monkeypatch):
        """The exit code."""
        kernel, rtnetlink = self.host.kernel, self.host._rtnetlink
        write, answer = kernel.write, rtnetlink.answer

        def written(path, value):
            self.step()
            write(path, value)

        def asked(data):
            if data[4:6] == b"\x13\0":  # RTM_SETLINK
                self.step()
            return answer(data)

        with monkeypatch.context() as patch:
            patch.setattr(kernel, "write", written)
            patch.setattr(rtnetlink, "answer", asked)
            with self.lock:
                self.victim = subprocess.Popen(
                    self.command, stdout=subprocess.DEVNULL
                )
            return self.victim.wait(600)

    def step(self):
        with self.lock:
            self.steps += 1
            if self.steps == self.at:
                self.victim.kill()
                self.victim.wait()


def test_killed_at_every_step_and_called_again(bed, wishes, monkeypatch):
    command = [*bed.command, "apply", "--file", wishes[0].place.file]
    forget(bed)
    assert apply(bed.connect(), wishes).errors == []
    wanted = state(bed)
    assert wanted[0][4][2] == (ONES, "down")
    for at in itertools.count(1):
        forget(bed)
        code = Killer(bed, command, at).run(monkeypatch)
        report = apply(bed.connect(), wishes)
        assert report.errors == [], f"after step {at}"
        assert state(bed) == wanted, f"after step {at}"
        assert not apply(bed.connect(), wishes).changed, f"after step {at}"
        if code != -signal.SIGKILL:
            break
    assert code == 0
    assert at > 15


def test_numvfs_that_fails(bed, wishes):
    """The others go on, and nothing of this one is left behind."""
    for number in (errno.EBUSY, errno.ENOMEM, errno.ETIMEDOUT):
        forget(bed)
        bed.host.fail_numvfs(bed.pfs[0], number, after=2)
        report = apply(bed.connect(), wishes)
        (error,) = report.errors
        kind = TimedOut if number == errno.ETIMEDOUT else CommandFailed
        assert isinstance(error, kind)
        assert (error.device, error.errno) == (bed.pfs[0], number)
        assert error.cure
        assert [one[0] for one in state(bed)] == [0, 2]
        assert [one[1] for one in state(bed)] == [True, True]
        assert apply(bed.connect(), wishes).errors == []
        assert [one[0] for one in state(bed)] == [3, 2]
        assert bed.seen(0)[0] == Seen(guid(1), guid(1), "follow")


def test_a_pf_that_vanishes_meanwhile(bed, wishes, monkeypatch):
    kernel = bed.host.kernel
    write = kernel.write

    def written(path, value):
        write(path, value)
        if path.endswith(f"{bed.pfs[0]}/sriov_numvfs"):
            write("bus/pci/drivers/mlx5_core/unbind", bed.pfs[0])

    monkeypatch.setattr(kernel, "write", written)
    report = apply(bed.connect(), wishes)
    (error,) = report.errors
    assert error.device == bed.pfs[0]
    assert [vf.pf for vf in report.vfs] == [bed.pfs[1]] * 2
    monkeypatch.undo()
    bed.write("bus/pci/drivers/mlx5_core/bind", bed.pfs[0])
    assert apply(bed.connect(), wishes).errors == []
    assert not apply(bed.connect(), wishes).changed


def test_no_rights_to_write(bed, wishes):
    bed.host.deny(sysfs=errno.EACCES)
    report = apply(bed.connect(), wishes)
    assert {type(error) for error in report.errors} == {AccessDenied}
    bed.host.deny()
    assert [one[:2] for one in state(bed)] == [(0, True), (0, True)]
    assert apply(bed.connect(), wishes).errors == []


def test_firmware_that_fails_for_one_vf(bed, wishes):
    """It stays on no driver, so that nobody takes it for its tenant's."""
    forget(bed)
    vf = bed.vf(1, 1)
    bed.host.fail(vf, errno.EIO, first=2)  # the first makes it
    report = apply(bed.connect(), wishes)
    assert [error.device for error in report.errors] == [vf]
    assert [bed.driver(bed.vf(1, n)) for n in (0, 1)] == ["vfio-pci", None]
    bed.heal()
    # who was plugged meanwhile is no old tenant
    bed.connect().plug([Vif.parse(bed.vf(0, 2), guid(9))])
    report = apply(bed.connect(), wishes)
    assert report.errors == []
    assert bed.driver(vf) == "vfio-pci"
    assert bed.seen(0)[2].port == guid(9)
    assert os.listdir(bed.connect().run_dir) == [
        name
        for name in os.listdir(bed.connect().run_dir)
        if not name.endswith(".making")
    ]


def test_several_calls_at_once(bed, wishes):
    """As at boot, for the host and for each PF: one after the other."""
    bed.host.delay(birth=0.01, probe=0.01)
    bed.reset_counts()
    reports = each(range(4), lambda _: apply(bed.connect(), wishes))
    assert [report.errors for report in reports] == [[]] * 4
    assert sum(report.changed for report in reports) == 1
    assert bed.counts().probe == 3
    assert [one[1] for one in state(bed)] == [True, True]
    assert not apply(bed.connect(), wishes).changed


def test_a_folder_of_locks_that_is_not_to_be_had(bed, wishes, tmp_path):
    (tmp_path / "file").touch()
    host = bed.connect(run_dir=str(tmp_path / "file" / "run"))
    with pytest.raises(CommandFailed, match=r"apply\.lock"):
        apply(host, wishes)
    assert [one[0] for one in state(bed)] == [0, 0]


def test_firmware_that_is_dead_is_not_asked(bed, wishes):
    """A command takes it two minutes, and VFs take one each."""
    bed.host.die(bed.pfs[0])
    for dry_run in (True, False):
        report = apply(bed.connect(), wishes, dry_run=dry_run)
        (error,) = report.errors
        assert error.device == bed.pfs[0]
        assert "firmware is dead" in error.message
        assert error.cure
        assert {vf.pf for vf in report.vfs} == {bed.pfs[1]}
    assert [one[0] for one in state(bed)] == [0, 2]
    bed.host.die(bed.pfs[0], False)
    assert apply(bed.connect(), wishes).errors == []


def test_nor_for_the_guids_of_others(bed, wishes, monkeypatch):
    bed.numvfs(0, 2)
    bed.host.die(bed.pfs[0])
    bed.reset_counts()
    report = apply(bed.connect(), wishes[1:], dry_run=True)
    assert (report.errors, report.warnings) == ([], [])
    assert bed.counts().getlink == 0


def test_where_nothing_tells_firmware_is_well():
    """devlink of this machine has no such device."""
    assert not is_dead(Endpoint(), PciAddress("0000:00:00.7"))


def test_a_driver_that_is_not_loaded(bed, wishes):
    (bed.sys / "bus/pci/drivers/vfio-pci").rename(bed.sys / "gone")
    with pytest.raises(InvalidInput, match="modprobe vfio-pci"):
        apply(bed.connect(), wishes)
    assert [one[0] for one in state(bed)] == [0, 0]
