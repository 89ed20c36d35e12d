# SPDX-License-Identifier: Apache-2.0
"""VFs that are unplugged while the host's own driver has them: it goes on
showing the identity that it took, until it is bound anew."""

import errno

import pytest

from ibhostdev import BatchFailed, Vif
from ibhostdev.errors import CommandFailed, RebindFailed, RolledBack
from tests.flavours import ONES, guid, mac, vifs
from tests.testbed import Hca


def back(bed, index, pf=0):
    """From its guest: libvirt has bound it to the host's driver."""
    vf = bed.vf(pf, index)
    bed.bind(vf, None)
    bed.bind(vf, "mlx5_core")


@pytest.fixture
def returned(bed):
    """Three VFs, each on the host's driver with its guest's identity."""
    bed.build(Hca("mlx5", vfs=3))
    host = bed.connect()
    host.plug(vifs(bed, 1, 2, 3))
    for index in range(3):
        back(bed, index)
    assert [bed.identity(bed.vf(0, n)) for n in range(3)] == [
        guid(n) for n in (1, 2, 3)
    ]
    bed.reset_counts()
    return host


def test_progress_counts_them(bed, returned):
    seen = []
    returned.unplug(vifs(bed, 1, 2), progress=lambda *one: seen.append(one))
    assert [one for one in seen if one[0] == "rebind"] == [
        ("rebind", 1, 2), ("rebind", 2, 2),
    ]  # fmt: skip


def test_with_autoprobe_off_they_would_not_come_back(bed, returned):
    """The kernel would refuse to bind them, so they are not unbound."""
    file = f"bus/pci/devices/{bed.pfs[0]}/sriov_drivers_autoprobe"
    bed.write(file, 0)
    try:
        result = returned.unplug(vifs(bed, 1))
        assert result.results[0].changed
        (warning,) = result.warnings
        assert bed.vf(0, 0) in warning
        assert "sriov_drivers_autoprobe" in warning
        assert bed.counts().probe == 0
        assert bed.identity(bed.vf(0, 0)) == guid(1)
        assert bed.driver(bed.vf(0, 0)) == "mlx5_core"
    finally:
        bed.write(file, 1)
    # what was left out is made up for
    assert returned.unplug(vifs(bed, 1)).warnings == ()
    assert bed.identity(bed.vf(0, 0)) == ONES


def test_who_failed_is_not_bound_anew(bed, returned):
    """Nor who was put back for it."""
    bed.fail(bed.vf(0, 1), errno.EIO)
    with pytest.raises(BatchFailed):
        returned.unplug(vifs(bed, 1, 2))
    assert bed.counts().probe == 0
    with pytest.raises(BatchFailed) as caught:
        returned.unplug(vifs(bed, 1, 2, 3), on_error="continue")
    bed.heal()
    errors = [one.error for one in caught.value.result.results]
    assert [type(error) for error in errors] == [
        type(None), CommandFailed, type(None),
    ]  # fmt: skip
    assert bed.counts().probe == 2
    assert [bed.identity(bed.vf(0, n)) for n in range(3)] == [
        ONES, guid(2), ONES,
    ]  # fmt: skip


def test_what_was_cut_off_is_not_made_up_for_beside_a_failure(bed, returned):
    """All or nothing."""
    returned.unplug(vifs(bed, 1), rebind=False)
    bed.fail(bed.vf(0, 1), errno.EIO)
    with pytest.raises(BatchFailed) as caught:
        returned.unplug(vifs(bed, 1, 2))
    bed.heal()
    assert caught.value.result.results[0].error is None
    assert bed.counts().probe == 0
    assert bed.identity(bed.vf(0, 0)) == guid(1)
    with bed.hold(bed.vf(0, 1)), pytest.raises(BatchFailed):
        returned.unplug(vifs(bed, 1, 2))
    assert bed.identity(bed.vf(0, 0)) == guid(1)


def test_another_identity_that_the_driver_shows_is_not_ours(bed, returned):
    """A VF that is idle by now, and shows somebody else's."""
    returned.unplug(vifs(bed, 1), rebind=False)
    returned.unplug([Vif.parse(bed.vf(0, 0), mac(9))])
    assert bed.counts().probe == 0
    assert bed.identity(bed.vf(0, 0)) == guid(1)
    # nor has it lost what another was given since
    returned.plug([Vif.parse(bed.vf(0, 0), mac(8))])
    returned.unplug(vifs(bed, 1))
    assert bed.counts().probe == 0
    assert bed.seen(0)[0].port == guid(8)


def test_one_that_does_not_come_back_fails_alone(bed, returned):
    override = f"bus/pci/devices/{bed.vf(0, 1)}/driver_override"
    bed.write(override, "vfio-pci")
    with pytest.raises(BatchFailed) as caught:
        returned.unplug(vifs(bed, 1, 2, 3))
    bed.write(override, "")
    first, second, third = caught.value.result.results
    assert (first.error, third.error) == (None, None)
    assert isinstance(second.error, RebindFailed)
    assert second.error.attribute == "bind"
    assert not second.verified
    assert bed.driver(bed.vf(0, 1)) is None
    assert [seen.port for seen in bed.seen(0)] == [ONES] * 3
    assert bed.identity(bed.vf(0, 0)) == bed.identity(bed.vf(0, 2)) == ONES


def test_who_does_not_come_back_is_told_of_in_any_order(bed, returned):
    overrides = [
        f"bus/pci/devices/{bed.vf(0, n)}/driver_override" for n in (0, 2)
    ]
    for override in overrides:
        bed.write(override, "vfio-pci")
    with pytest.raises(BatchFailed) as caught:
        returned.unplug(vifs(bed, 1, 2, 3)[::-1])
    for override in overrides:
        bed.write(override, "")
    third, second, first = caught.value.result.results
    assert second.error is None
    assert [first.error.device, third.error.device] == [
        bed.vf(0, 0), bed.vf(0, 2),
    ]  # fmt: skip
    assert bed.identity(bed.vf(0, 1)) == ONES


def test_one_that_is_made_up_for_and_does_not_come_back(bed, returned):
    returned.unplug(vifs(bed, 1), rebind=False)
    override = f"bus/pci/devices/{bed.vf(0, 0)}/driver_override"
    bed.write(override, "vfio-pci")
    with pytest.raises(BatchFailed) as caught:
        returned.unplug(vifs(bed, 1, 2))
    bed.write(override, "")
    first, second = caught.value.result.results
    assert isinstance(first.error, RebindFailed)
    assert first.error.device == bed.vf(0, 0)
    assert second.error is None
    assert not isinstance(second.error, RolledBack)


def test_duplicates_are_all_bound_anew(bed, returned):
    bed.seed(0, 2, guid(1), guid(1))
    back(bed, 2)
    bed.reset_counts()
    returned.unplug(vifs(bed, 1))
    assert bed.counts().probe == 2
    assert [bed.identity(bed.vf(0, n)) for n in range(3)] == [
        ONES, guid(2), ONES,
    ]  # fmt: skip


def test_a_vf_that_was_renamed_by_netlink_alone(bed):
    """Half an identity was taken: it counts by the half that is told."""
    bed.build(Hca("mlx5", vfs=1))
    bed.seed(0, 0, node=guid(1), policy="down")
    back(bed, 0)
    bed.reset_counts()
    bed.connect().unplug(vifs(bed, 1))
    assert bed.counts().probe == 1
    assert bed.identity(bed.vf(0, 0)) == ONES


def test_mlx4_is_not_bound_anew(bed):
    """Its driver shows a GUID of the host's choosing."""
    bed.build(Hca("mlx4", vfs=2))
    host = bed.connect()
    host.plug(vifs(bed, 1))
    bed.bind(bed.vf(0, 0), None)
    bed.bind(bed.vf(0, 0), "mlx4_core")
    bed.reset_counts()
    host.unplug(vifs(bed, 1))
    assert bed.counts().probe == 0
    assert bed.driver(bed.vf(0, 0)) == "mlx4_core"


def test_a_plug_binds_nothing(bed, returned):
    returned.plug(vifs(bed, 4, 5))
    assert bed.counts().probe == 0
    assert bed.identity(bed.vf(0, 0)) == guid(1)


def test_the_driver_shows_the_node_guid(bed):
    """… which is not the port GUID where somebody chose two."""
    bed.build(Hca("mlx5", vfs=2))
    vf = bed.vf(0, 0)
    bed.seed(0, 0, node=guid(1), port=guid(2), policy="follow")
    bed.bind(vf, None)
    bed.bind(vf, "mlx5_core")
    assert bed.identity(vf) == guid(1)
    bed.reset_counts()
    assert bed.connect().unplug([Vif.parse(None, mac(2))]).ok
    assert bed.identity(vf) != guid(1)
    assert bed.counts().probe == 1


def test_a_vf_that_was_left_without_its_driver_is_told_of(bed):
    """As by a kill between unbinding and binding it."""
    bed.build(Hca("mlx5", vfs=2))
    host = bed.connect()
    host.plug(vifs(bed, 1))
    host.unplug(vifs(bed, 1), rebind=False)
    bed.bind(bed.vf(0, 0), None)
    result = host.unplug(vifs(bed, 1))
    assert result.ok
    (warning,) = result.warnings
    assert f"echo {bed.vf(0, 0)} > " in warning
    bed.bind(bed.vf(0, 0), "mlx5_core")
    assert host.unplug(vifs(bed, 1)).warnings == ()
