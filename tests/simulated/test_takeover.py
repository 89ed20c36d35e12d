# SPDX-License-Identifier: Apache-2.0
"""VFs that somebody else takes between two steps that follow each other at
once: only a kernel that waits for the test can be made to show it."""

import errno

import pytest

from ibhostdev import BatchFailed, Vif
from ibhostdev.errors import RebindFailed
from tests.flavours import ONES, guid, mac, vifs
from tests.testbed import Hca, Seen


@pytest.fixture
def returned(bed):
    """A VF that came back from its guest, on the host's driver."""
    bed.build(Hca("mlx5", vfs=2), Hca("mlx5", vfs=2))
    host = bed.connect()
    host.plug([Vif.parse(bed.vf(0, 0), mac(1), "default")])
    bed.bind(bed.vf(0, 0), None)
    bed.bind(bed.vf(0, 0), "mlx5_core")
    return host


def between(bed, monkeypatch, driver):
    """Give the VF to a driver right after it was unbound."""
    kernel = bed.host.kernel
    release = kernel._release

    def taken(device):
        release(device)
        device.override = driver
        kernel._probe(device, driver)

    monkeypatch.setattr(kernel, "_release", taken)


def test_by_another_driver_between_unbind_and_bind(bed, returned, monkeypatch):
    between(bed, monkeypatch, "vfio-pci")
    (result,) = returned.unplug(vifs(bed, 1)).results
    assert result.error is None
    assert bed.driver(bed.vf(0, 0)) == "vfio-pci"


def lookalike(bed, change):
    """Calls ``change`` with the VF's folder before it is bound anew."""

    def progress(stage, *_):
        if stage == "verify":
            change(bed.sys / "bus/pci/devices" / bed.vf(0, 0))

    return progress


def no_physfn(folder):
    (folder / "physfn").unlink()


def another_physfn(folder):
    link = folder / "physfn"
    other = link.readlink().with_name("0000:5e:00.0")
    link.unlink()
    link.symlink_to(other)


@pytest.mark.parametrize("change", [no_physfn, another_physfn])
def test_what_is_no_vf_of_that_pf_is_not_unbound(bed, returned, change):
    """A PF has no physfn, and unbinding one takes the fabric from every
    guest of the host."""
    bed.reset_counts()
    with pytest.raises(BatchFailed) as caught:
        returned.unplug(vifs(bed, 1), progress=lookalike(bed, change))
    (failure,) = caught.value.result.failures
    assert isinstance(failure, RebindFailed)
    assert (failure.device, failure.attribute) == (bed.vf(0, 0), "physfn")
    assert bed.pfs[0] in str(failure)
    assert bed.counts().probe == 0
    assert bed.identity(bed.vf(0, 0)) == guid(1)
    assert bed.seen(0)[0] == Seen(ONES, ONES, "down")


def test_by_nobody_right_before_it_is_unbound(bed, returned, monkeypatch):
    kernel = bed.host.kernel
    write = kernel.write

    def late(path, value):
        if path.endswith("/unbind"):
            write(path, value)
        write(path, value)

    monkeypatch.setattr(kernel, "write", late)
    (result,) = returned.unplug(vifs(bed, 1)).results
    assert result.error is None
    assert bed.driver(bed.vf(0, 0)) is None


def refusing(bed, monkeypatch, times):
    """Probes that fail, as while firmware initialises the function."""
    kernel = bed.host.kernel
    probe = kernel._probe
    refused = []

    def late(device, driver):
        if len(refused) < times:
            refused.append(device.address)
            raise OSError(errno.EIO, "still initialising")
        probe(device, driver)

    monkeypatch.setattr(kernel, "_probe", late)
    return refused


def test_firmware_that_is_not_ready_yet(bed, returned, monkeypatch):
    refused = refusing(bed, monkeypatch, 4)
    returned.unplug(vifs(bed, 1))
    assert refused == [bed.vf(0, 0)] * 4
    assert bed.identity(bed.vf(0, 0)) == ONES


def test_firmware_that_is_never_ready(bed, returned, monkeypatch):
    refused = refusing(bed, monkeypatch, 100)
    with pytest.raises(BatchFailed) as caught:
        returned.unplug(vifs(bed, 1))
    (failure,) = caught.value.result.failures
    assert isinstance(failure, RebindFailed)
    assert (failure.attribute, failure.errno) == ("bind", errno.EIO)
    assert len(refused) == 5
    assert bed.driver(bed.vf(0, 0)) is None


def test_a_driver_that_lets_nobody_go(bed, returned, monkeypatch):
    def refuse(device):
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(bed.host.kernel, "_release", refuse)
    with pytest.raises(BatchFailed) as caught:
        returned.unplug(vifs(bed, 1))
    (result,) = caught.value.result.results
    assert isinstance(result.error, RebindFailed)
    assert bed.driver(bed.vf(0, 0)) == "mlx5_core"
    assert result.changed
