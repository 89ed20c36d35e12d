# SPDX-License-Identifier: Apache-2.0
"""Making a host what it is to be, on its bad days."""

import errno
import itertools
import signal
from pathlib import Path

import pytest

from ibhostdev import Vif
from ibhostdev.errors import CommandFailed, TimedOut
from ibhostdev.process.parallel import each
from ibhostdev.provision.apply import apply
from ibhostdev.provision.reading import from_file
from tests.flavours import ONES, ZERO, guid
from tests.testbed import Hca, Seen

VFS = (3, 2)  # of the two PFs


@pytest.fixture
def wishes(bed, tmp_path):
    """Of two PFs that have no VFs."""
    bed.build(*(Hca("mlx5", vfs=vfs, total=4) for vfs in VFS))
    bed.bind(bed.vf(1, 0), "vfio-pci")  # loads it
    path = tmp_path / "host.yaml"
    path.write_text(
        f"- {{pf: {bed.pfs[0]}, vfs: {VFS[0]}, driver: mlx5_core, "
        f"guids: ['{guid(1)}', '{guid(2)}']}}\n"
        f"- {{pf: {bed.pfs[1]}, vfs: {VFS[1]}, driver: vfio-pci, "
        "guids: derived}\n"
    )
    forget(bed)
    yield from_file(str(path))
    for mark in marks(bed):
        mark.unlink()
    for pf in (0, 1):
        bed.write(f"{pf_folder(bed, pf)}/sriov_drivers_autoprobe", 1)


def forget(bed):
    """No VFs again; the PFs' drivers remember what these had, which are
    tenants of other hosts by now."""
    for pf, vfs in enumerate(VFS):
        if len(bed.seen(pf)) != vfs:
            bed.numvfs(pf, vfs)
        for index in range(vfs):
            old = guid(0x100 + index + 16 * pf)
            bed.seed(pf, index, old, old, "follow")
        bed.numvfs(pf, 0)
        bed.write(f"{pf_folder(bed, pf)}/sriov_drivers_autoprobe", 1)


def pf_folder(bed, pf):
    return f"bus/pci/devices/{bed.pfs[pf]}"


def marks(bed):
    """That VFs are not yet what they are to be."""
    return list(Path(bed.connect().run_dir).glob("*.making"))


def numbers(bed):
    """Of VFs of each PF, and whether new ones are bound by themselves."""
    return [
        (
            len(bed.seen(pf)),
            (bed.sys / pf_folder(bed, pf) / "sriov_drivers_autoprobe")
            .read_text()
            .strip(),
        )
        for pf in (0, 1)
    ]


def state(bed):
    """All that a user can see."""
    vfs = [bed.vf(pf, n) for pf in (0, 1) for n in range(len(bed.seen(pf)))]
    override = "bus/pci/devices/{}/driver_override"
    return (
        numbers(bed),
        bed.seen(0) + bed.seen(1),
        [bed.driver(vf) for vf in vfs],
        [bed.identity(vf) for vf in vfs],
        [(bed.sys / override.format(vf)).read_text() for vf in vfs],
    )


def is_done(bed, wishes):
    """The next call does all, and the one after it finds nothing to do."""
    assert apply(bed.connect(), wishes).errors == []
    assert [vfs for vfs, _ in numbers(bed)] == list(VFS)
    *plugged, idle = bed.seen(0)
    assert plugged == [Seen(guid(n), guid(n), "follow") for n in (1, 2)]
    assert idle in [Seen(one, one, "down") for one in (ONES, ZERO)]
    assert marks(bed) == []
    assert not apply(bed.connect(), wishes).changed


def test_killed_at_many_steps_and_called_again(bed, wishes):
    command = [*bed.command, "apply", "--file", wishes[0].place.file]
    is_done(bed, wishes)
    wanted = state(bed)
    for step in itertools.count(1):
        forget(bed)
        code = bed.killed(command, step)
        is_done(bed, wishes)
        assert state(bed) == wanted, f"after step {step}"
        if code != -signal.SIGKILL:
            break
    assert code == 0
    assert step > (15 if bed.kind == "simulated" else 3)


@pytest.mark.parametrize(
    ("number", "after"),
    [(errno.EBUSY, 0), (errno.ENOMEM, 2), (errno.ETIMEDOUT, 0)],
)
def test_numvfs_that_fails(bed, wishes, number, after):
    """The others go on, and nothing of this one is left behind."""
    bed.fail_numvfs(0, number, after)
    report = apply(bed.connect(), wishes)
    (error,) = report.errors
    kind = TimedOut if number == errno.ETIMEDOUT else CommandFailed
    assert isinstance(error, kind)
    assert (error.device, error.errno) == (bed.pfs[0], number)
    assert error.cure
    assert numbers(bed) == [(0, "1"), (2, "1")]
    is_done(bed, wishes)
    assert numbers(bed) == [(3, "1"), (2, "1")]


@pytest.mark.parametrize("stage", ["make", "write", "verify", "bind"])
def test_a_pf_that_vanishes_meanwhile(bed, wishes, stage):
    """The others go on, and it is made as it is to be when it is back."""
    due = [bed.pfs[0]]

    def progress(told, *_):
        if told == stage and due:
            bed.write("bus/pci/drivers/mlx5_core/unbind", due.pop())

    report = apply(bed.connect(), wishes, progress=progress)
    assert due == []
    gone = {bed.pfs[0], *(vf.pci for vf in report.vfs if vf.pf == bed.pfs[0])}
    assert {error.device for error in report.errors} <= gone
    told = {vf.pci: vf.error for vf in report.vfs if vf.pf == bed.pfs[0]}
    assert report.errors or stage == "bind"
    if stage == "verify":
        assert all(told.values())
    assert numbers(bed)[1] == (2, "1")
    assert [bed.driver(bed.vf(1, n)) for n in (0, 1)] == ["vfio-pci"] * 2
    bed.write("bus/pci/drivers/mlx5_core/bind", bed.pfs[0])
    is_done(bed, wishes)
    assert numbers(bed) == [(3, "1"), (2, "1")]


def test_firmware_that_fails_for_one_vf(bed, wishes):
    """It stays on no driver, so that nobody takes it for its tenant's."""
    bed.numvfs(1, VFS[1])
    vf = bed.vf(1, 1)
    bed.fail(vf, errno.EIO, first=2)  # the first makes it
    bed.numvfs(1, 0)
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
    assert marks(bed) == []


def test_several_calls_at_once(bed, wishes):
    """As at boot, for the host and for each PF: one after the other."""
    bed.delay(probe=0.01)
    bed.reset_counts()
    reports = each(range(4), lambda _: apply(bed.connect(), wishes))
    assert [report.errors for report in reports] == [[]] * 4
    assert sum(report.changed for report in reports) == 1
    assert bed.counts().probe == 3
    assert numbers(bed) == [(3, "1"), (2, "1")]
    is_done(bed, wishes)


def test_a_folder_of_locks_that_is_not_to_be_had(bed, wishes, tmp_path):
    (tmp_path / "file").touch()
    host = bed.connect(run_dir=str(tmp_path / "file" / "run"))
    with pytest.raises(CommandFailed, match=r"apply\.lock"):
        apply(host, wishes)
    assert numbers(bed) == [(0, "1"), (0, "1")]
