# SPDX-License-Identifier: Apache-2.0
"""Making a host what it is to be, on days that only a simulated one has."""

import errno

import pytest

from ibhostdev.errors import AccessDenied, InvalidInput
from ibhostdev.inventory import Endpoint
from ibhostdev.pci import PciAddress
from ibhostdev.provision.apply import apply
from ibhostdev.provision.health import is_dead
from ibhostdev.provision.reading import from_file
from tests.flavours import guid
from tests.testbed import Hca

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


def numbers(bed):
    """Of each PF's VFs, and whether new ones are bound by themselves."""
    return [(pf.numvfs, pf.autoprobe) for pf in bed.connect().pfs]


def test_no_rights_to_write(bed, wishes):
    bed.host.deny(sysfs=errno.EACCES)
    report = apply(bed.connect(), wishes)
    assert {type(error) for error in report.errors} == {AccessDenied}
    bed.host.deny()
    assert numbers(bed) == [(0, True), (0, True)]
    assert apply(bed.connect(), wishes).errors == []


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
    assert [vfs for vfs, _ in numbers(bed)] == [0, 2]
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
    assert [vfs for vfs, _ in numbers(bed)] == [0, 0]
