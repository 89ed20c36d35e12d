# SPDX-License-Identifier: Apache-2.0
"""Drivers are bound and unbound."""

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.simulated.served.bed import (
    GUID,
    NODE,
    PF,
    VF0,
    Bed,
    guid,
    info,
    virtfns,
)


def test_identity_is_what_the_driver_read_at_its_probe(bed: Bed) -> None:
    assert bed.set_vfs(info(guid(NODE, 0, GUID))) == 0
    assert bed.identity(VF0) == "0000:0000:0000:0000"
    assert bed.unbind(VF0) == 0
    assert bed.driver(VF0) is None
    assert not bed.pci(VF0, "infiniband").exists()
    assert bed.read(VF0, "enable") == "0"
    assert bed.vfs()[0] == (GUID, 0, 2)
    assert bed.bind(VF0) == 0
    assert bed.identity(VF0) == "fa16:3e00:000a:0b0c"
    assert bed.host.counts().probe == 1


def test_bind_and_unbind_errors(bed: Bed) -> None:
    assert bed.bind(VF0) == errno.EBUSY
    assert bed.bind("0000:ff:00.0") == errno.ENODEV
    assert bed.bind(VF0, "vfio-pci") == errno.ENODEV
    assert bed.unbind(VF0, "vfio-pci") == errno.ENODEV
    assert bed.unbind(VF0) == 0
    assert bed.unbind(VF0) == errno.ENODEV
    assert bed.write("bus/pci/drivers_probe", "0000:ff:00.0") == errno.ENODEV


def test_vfio_takes_a_vf_by_driver_override(bed: Bed) -> None:
    assert bed.set(VF0, "driver_override", "vfio-pci\n") == 0
    assert bed.read(VF0, "driver_override") == "vfio-pci"
    assert bed.driver(VF0) == "mlx5_core"
    assert bed.unbind(VF0) == 0
    assert bed.bind(VF0) == errno.ENODEV
    assert bed.write("bus/pci/drivers_probe", VF0) == 0
    assert bed.driver(VF0) == "vfio-pci"
    with bed.host.hold(VF0):
        assert bed.read(VF0, "enable") == "1"
    assert bed.read(VF0, "enable") == "0"
    assert bed.unbind(VF0, "vfio-pci") == 0
    assert bed.set(VF0, "driver_override", "\n") == 0
    assert bed.write("bus/pci/drivers_probe", VF0) == 0
    assert bed.driver(VF0) == "mlx5_core"


def test_without_autoprobe_nothing_binds_but_by_override(bed: Bed) -> None:
    assert bed.set(PF, "sriov_drivers_autoprobe", "0") == 0
    assert bed.driver(VF0) == "mlx5_core"
    assert bed.unbind(VF0) == 0
    assert bed.write("bus/pci/drivers_probe", VF0) == 0
    assert bed.driver(VF0) is None
    assert bed.bind(VF0) == errno.ENODEV
    assert bed.set(VF0, "driver_override", "mlx5_core") == 0
    assert bed.bind(VF0) == 0
    assert bed.set(PF, "sriov_drivers_autoprobe", "maybe") == errno.EINVAL
    assert bed.set(PF, "sriov_numvfs", "0") == 0
    assert bed.set(PF, "sriov_numvfs", "2") == 0
    assert bed.driver(VF0) is None


def test_binds_overlap(
    make: Callable[..., Bed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All probes are under way at once, or the barrier breaks."""
    bed = make(vfs=16)
    vfs = [os.path.basename(p.readlink()) for p in virtfns(bed)]
    assert [bed.unbind(vf) for vf in vfs] == [0] * 16
    barrier = threading.Barrier(16)
    bed.host.delay(probe=1.0)
    monkeypatch.setattr(
        "ibhostdev.simulate.kernel.time.sleep",
        lambda seconds: barrier.wait(600) if seconds == 1.0 else None,
    )
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(bed.bind, vfs)) == [0] * 16
    assert {bed.driver(vf) for vf in vfs} == {"mlx5_core"}
    assert bed.host.counts().probe == 16
