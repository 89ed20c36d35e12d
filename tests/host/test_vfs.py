# SPDX-License-Identifier: Apache-2.0
"""VFs that are made, and given to drivers."""

import errno

import pytest

from ibhostdev import Guid
from ibhostdev.errors import (
    CommandFailed,
    DeviceInUse,
    DeviceNotFound,
    InvalidInput,
)
from ibhostdev.pci import PciAddress
from tests.flavours import guid, vifs
from tests.testbed import Hca

HAS_SOME = [Hca("mlx5", vfs=0, total=8), Hca("mlx5-ofed", vfs=4, total=8)]


@pytest.fixture
def autoprobe(bed):
    """Sets whether the kernel binds new VFs to their driver; on again in the
    end."""
    told = set()

    def tell(pf, on):
        told.add(pf)
        file = f"bus/pci/devices/{bed.pfs[pf]}/sriov_drivers_autoprobe"
        bed.write(file, on)

    yield tell
    for pf in list(told):
        tell(pf, 1)


def there(bed, pf):
    folder = bed.sys / "bus/pci/devices" / bed.pfs[pf]
    return len(list(folder.glob("virtfn*")))


def test_they_are_made_and_made_again(bed):
    bed.build(*HAS_SOME)
    host = bed.connect()
    told = []
    wanted = [(pf, 6) for pf in bed.pfs]
    done = host.make(wanted, lambda *one: told.append(one))
    assert done == [(True, None), (True, None)]
    assert [there(bed, pf) for pf in (0, 1)] == [6, 6]
    assert [pf.numvfs for pf in host.pfs] == [6, 6]
    assert told[-1] == ("make", 12, 12)
    assert host.make(wanted) == [(False, None), (False, None)]
    assert host.make([(bed.pfs[0], 2)]) == [(True, None)]
    assert host.make([(bed.pfs[1], 0)]) == [(True, None)]
    assert [there(bed, pf) for pf in (0, 1)] == [2, 0]


def test_a_number_that_there_cannot_be(bed):
    bed.build(*HAS_SOME)
    host = bed.connect()
    most = host.pfs[0].totalvfs
    done = host.make([(bed.pfs[0], most + 1), (bed.pfs[1], 5)])
    assert [one.changed for one in done] == [True, True]
    assert isinstance(done[0].error, CommandFailed)
    assert done[0].error.errno == errno.ERANGE
    assert done[0].error.device == bed.pfs[0]
    assert done[1].error is None
    assert there(bed, 1) == 5


def test_no_pf_of_that_address(bed):
    bed.build(*HAS_SOME)
    with pytest.raises(DeviceNotFound):
        bed.connect().make([(bed.pfs[1], 0), (bed.vf(1, 0), 3)])
    assert there(bed, 1) == 4


def test_a_guest_keeps_its_vf(bed):
    bed.build(Hca("mlx5", vfs=4))
    host = bed.connect()
    with bed.hold(bed.vf(0, 2)):
        for number in (0, 3):
            ((changed, error),) = host.make([(bed.pfs[0], number)])
            assert not changed
            assert isinstance(error, DeviceInUse)
            assert bed.vf(0, 2) in error.message
        assert there(bed, 0) == 4
        ((changed, error),) = host.drive([(bed.vf(0, 2), "mlx5_core", None)])
        assert not changed
        assert isinstance(error, DeviceInUse)
        assert bed.driver(bed.vf(0, 2)) == "vfio-pci"


def test_so_does_a_container(bed):
    """On the vendor's driver, its network device in another namespace: the
    sign is weak, but the container would lose its device."""
    bed.build(Hca("mlx5", vfs=3))
    host = bed.connect()
    vf = PciAddress(bed.vf(0, 1))
    with bed.vf_netdevs(0), bed.away(vf):
        ((changed, error),) = host.make([(bed.pfs[0], 2)])
        assert not changed
        assert isinstance(error, DeviceInUse)
        assert f"{vf} may be a container's" in error.message
        ((changed, error),) = host.drive([(vf, "", None)])
        assert not changed
        assert isinstance(error, DeviceInUse)
        assert bed.driver(vf) == "mlx5_core"
    assert host.make([(bed.pfs[0], 2)]) == [(True, None)]


def test_old_tenants_come_back_with_them(bed):
    """What apply is to take away: the driver remembers."""
    bed.build(Hca("mlx5", vfs=3))
    host = bed.connect()
    host.plug(vifs(bed, 1, 2))
    host.make([(bed.pfs[0], 0)])
    host.make([(bed.pfs[0], 3)])
    assert [one.port for one in bed.seen(0)][:2] == [guid(1), guid(2)]


@pytest.mark.parametrize("on", [0, 1])
def test_drivers_whatever_autoprobe_says(bed, autoprobe, on):
    bed.build(Hca("mlx5", vfs=4))
    bed.bind(bed.vf(0, 3), "vfio-pci")  # loads it, where there are modules
    autoprobe(0, on)
    host = bed.connect()
    vfs = [bed.vf(0, index) for index in range(4)]
    drivers = ["vfio-pci", "mlx5_core", "", "mlx5_core"]
    told = []
    bed.reset_counts()
    wanted = list(zip(map(PciAddress, vfs), drivers, [None] * 4, strict=True))
    done = host.drive(wanted, lambda *one: told.append(one))
    assert [one.error for one in done] == [None] * 4
    assert [one.changed for one in done] == [True, False, True, True]
    assert [bed.driver(vf) or "" for vf in vfs] == drivers
    assert bed.counts().probe == 1
    assert [one[1] for one in told] == [1, 2, 3, 4]
    assert [one.changed for one in host.drive(wanted)] == [False] * 4
    assert [one.changed for one in host.drive([(vfs[1], None, None)])] == [
        False
    ]


@pytest.mark.parametrize("on", [0, 1])
def test_the_kernels_choice(bed, autoprobe, on):
    bed.build(Hca("mlx5", vfs=1))
    vf = PciAddress(bed.vf(0, 0))
    autoprobe(0, on)
    host = bed.connect()
    assert host.drive([(vf, "", None)]) == [(True, None)]
    assert host.drive([(vf, None, None)]) == [(bool(on), None)]
    assert bed.driver(vf) == ("mlx5_core" if on else None)


@pytest.mark.parametrize("on", [0, 1])
def test_one_that_shows_another_identity_is_bound_anew(bed, autoprobe, on):
    bed.build(Hca("mlx5", vfs=2))
    host = bed.connect()
    host.plug(vifs(bed, 1, 2))
    autoprobe(0, on)
    vfs = [PciAddress(bed.vf(0, index)) for index in range(2)]
    bed.reset_counts()
    ask = [
        (vfs[0], "mlx5_core", Guid.parse(guid(1))),
        (vfs[1], None, Guid.parse(guid(2))),
    ]
    assert host.drive(ask) == [(True, None)] * 2
    assert [bed.identity(vf) for vf in vfs] == [guid(1), guid(2)]
    assert bed.counts().probe == 2
    assert host.drive(ask) == [(False, None)] * 2


def test_a_driver_that_there_is_not(bed):
    bed.build(Hca("mlx5", vfs=2))
    host = bed.connect()
    vfs = [PciAddress(bed.vf(0, index)) for index in range(2)]
    done = host.drive([(vfs[0], "nobody", None), (vfs[1], "", None)])
    assert "modprobe nobody" in str(done[0].error)
    assert bed.driver(vfs[0]) == "mlx5_core"
    assert done[1] == (True, None)
    for name in ("../mlx5_core", ".", "-x"):
        with pytest.raises(InvalidInput):
            host.drive([(vfs[0], name, None)])


def test_what_is_no_vf_is_not_unbound(bed):
    bed.build(Hca("mlx5", vfs=1))
    ((changed, error),) = bed.connect().drive([(bed.pfs[0], "", None)])
    assert not changed
    assert isinstance(error, DeviceNotFound)
    assert bed.driver(bed.pfs[0]) == "mlx5_core"
