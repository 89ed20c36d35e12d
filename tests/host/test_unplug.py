# SPDX-License-Identifier: Apache-2.0
"""Unplugging: keyed by GUID, and nobody else's VF."""

import errno

import pytest

from ibhostdev import BatchFailed, Vif
from ibhostdev.errors import DeviceInUse, NoMechanism, RebindFailed
from tests.flavours import guid, mac, vifs
from tests.testbed import Hca


def test_each_vf_is_idle_and_no_other_is_touched(bed, flavour):
    host = bed.connect()
    host.plug(vifs(bed, 1, 2, 3, 4))
    result = host.unplug(vifs(bed, 1, 2))
    assert bed.seen(0) == [
        flavour.idle, flavour.idle,
        flavour.seen(guid(3)), flavour.seen(guid(4)),
    ]  # fmt: skip
    assert all(one.changed and one.verified for one in result.results)


def test_it_costs_three_firmware_commands_a_vf_and_two_questions(bed, flavour):
    host = bed.connect()
    host.plug(vifs(bed, 1, 2, 3, 4))
    bed.reset_counts()
    host.unplug(vifs(bed, 1, 2, 3, 4))
    counts = bed.counts()
    assert counts.modify == 4 * flavour.commands
    assert counts.getlink <= flavour.getlinks(2)


def test_again_it_writes_nothing(bed, flavour):
    host = bed.connect()
    host.plug(vifs(bed, 1))
    host.unplug(vifs(bed, 1))
    bed.reset_counts()
    (result,) = host.unplug(vifs(bed, 1)).results
    assert bed.counts().modify == bed.counts().probe == 0
    assert not result.changed
    assert result.error is None


def test_a_stale_address_does_not_harm_another_tenant(bed, flavour):
    """After an evacuation Nova unplugs on the old host with the new host's
    addresses."""
    host = bed.connect()
    host.plug(vifs(bed, 1, 2))
    (result,) = host.unplug([Vif.parse(bed.vf(0, 1), mac(1))]).results
    assert bed.seen(0)[:2] == [flavour.idle, flavour.seen(guid(2))]
    assert result.pci == bed.vf(0, 0)


@pytest.mark.parametrize("address", ["0000:ff:1f.7", None])
def test_an_address_of_another_host_is_only_a_hint(bed, flavour, address):
    host = bed.connect()
    host.plug(vifs(bed, 1, 2))
    host.unplug([Vif.parse(address, mac(2))])
    assert bed.seen(0)[:2] == [flavour.seen(guid(1)), flavour.idle]
    (result,) = host.unplug([Vif.parse(address, mac(9))]).results
    assert not result.changed
    assert result.error is None
    assert bed.seen(0)[0] == flavour.seen(guid(1))


def test_the_pfs_address_is_only_a_hint_too(bed, flavour):
    host = bed.connect()
    host.plug(vifs(bed, 1))
    host.unplug([Vif.parse(bed.pfs[0], mac(1))])
    assert bed.seen(0)[0] == flavour.idle


def test_the_guid_is_found_on_another_pf_of_the_fabric(bed):
    bed.build(Hca("mlx5", vfs=2), Hca("mlx5-ofed", vfs=2, netdev=False))
    host = bed.connect(physical_networks={})
    host.plug(vifs(bed, 1, pf=1))
    (result,) = host.unplug(vifs(bed, 1)).results
    assert result.pci == bed.vf(1, 0)
    assert bed.seen(1)[0].port == "ff:ff:ff:ff:ff:ff:ff:ff"


def test_a_network_that_is_no_longer_mapped_can_be_left(bed):
    bed.build(Hca("mlx5", vfs=2))
    bed.connect().plug(vifs(bed, 1))
    host = bed.connect(physical_networks={"other": ["ib77"]})
    host.unplug([Vif.parse(bed.vf(0, 0), mac(1), "gone")])
    assert bed.seen(0)[0].port == "ff:ff:ff:ff:ff:ff:ff:ff"


def test_half_a_guid_is_found_and_removed(bed):
    """What a plug left that was killed between its writes."""
    bed.build(Hca("mlx5", vfs=3))
    bed.seed(0, 0, node=guid(1))
    bed.seed(0, 1, port=guid(2))
    bed.connect().unplug(vifs(bed, 1, 2))
    for seen in bed.seen(0)[:2]:
        assert {seen.node, seen.port} == {"ff:ff:ff:ff:ff:ff:ff:ff"}


@pytest.mark.parametrize("hint", [0, 2])
def test_duplicates_are_all_removed(bed, hint):
    bed.build(Hca("mlx5", vfs=3))
    for index in (0, 2):
        bed.seed(0, index, node=guid(1), port=guid(1), policy="follow")
    vif = Vif.parse(bed.vf(0, hint), mac(1))
    (result,) = bed.connect().unplug([vif]).results
    assert result.pci == bed.vf(0, hint)
    assert [seen.port for seen in bed.seen(0)] == [
        "ff:ff:ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00:00:00",
        "ff:ff:ff:ff:ff:ff:ff:ff",
    ]  # fmt: skip


def test_a_guests_vf_is_not_taken_from_it(bed, flavour):
    host = bed.connect()
    host.plug(vifs(bed, 1, 2))
    with bed.hold(bed.vf(0, 0)):
        before = bed.seen(0)
        with pytest.raises(BatchFailed) as caught:
            host.unplug(vifs(bed, 1, 2))
        assert bed.seen(0) == before
        assert bed.driver(bed.vf(0, 0)) == "vfio-pci"
    error = caught.value.result.results[0].error
    assert isinstance(error, DeviceInUse)
    host.unplug(vifs(bed, 1, 2))
    assert bed.seen(0)[0] == flavour.idle


def test_what_nobody_can_look_at_is_not_called_done(bed):
    bed.build(Hca("mlx5", vfs=2, netdev=False), Hca("mlx5", vfs=2))
    host = bed.connect(physical_networks={})
    with pytest.raises(BatchFailed) as caught:
        host.unplug(vifs(bed, 1))
    assert isinstance(caught.value.result.results[0].error, NoMechanism)
    # elsewhere it is, and what was not searched is said
    host.plug(vifs(bed, 1, pf=1))
    result = host.unplug(vifs(bed, 1))
    assert bed.seen(1)[0].port == "ff:ff:ff:ff:ff:ff:ff:ff"
    assert bed.pfs[0] in result.warnings[0]


def test_a_mechanism_that_serves_nothing_looks_for_no_guid(bed):
    """Whether the VIF names a VF or not; one PF that it serves is enough to
    look at."""
    bed.build(Hca("mlx5", vfs=2), Hca("mlx5-ofed", vfs=2))
    host = bed.connect(physical_networks={})
    for vif in (*vifs(bed, 1), Vif.parse(None, mac(1))):
        with pytest.raises(BatchFailed, match="mlx4_core") as caught:
            host.unplug([vif], mechanism="mlx4_sysfs")
        (failure,) = caught.value.result.failures
        assert isinstance(failure, NoMechanism)
    unsaid = Vif.parse(None, mac(1))
    result = host.unplug([unsaid], mechanism="mlx5_sysfs")
    assert not result.results[0].verified
    assert bed.pfs[0] in result.warnings[0]


def test_a_mechanism_that_serves_no_pf_of_the_network(bed):
    bed.build(Hca("mlx5", vfs=2), Hca("mlx5-ofed", vfs=2))
    host = bed.connect(
        physical_networks={"one": [bed.pfs[0]], "two": [bed.pfs[1]]}
    )
    with pytest.raises(BatchFailed, match="MLNX_OFED"):
        host.unplug([Vif.parse(None, mac(1), "one")], mechanism="mlx5_sysfs")
    assert host.unplug(
        [Vif.parse(None, mac(1), "two")], mechanism="mlx5_sysfs"
    ).ok


def test_a_dry_run_tells_and_writes_nothing(bed, flavour):
    host = bed.connect()
    host.plug(vifs(bed, 1))
    before = bed.seen(0)
    held, other = host.unplug(vifs(bed, 1, 2), dry_run=True).results
    assert (held.changed, other.changed) == (True, False)
    assert bed.seen(0) == before


# -- the identity that the VF's own driver shows ----------------------------


@pytest.fixture
def returned(bed):
    """Four VFs that came back from their guests: libvirt has bound them to
    the host's driver, which took the guests' identities."""
    bed.build(Hca("mlx5", vfs=4))
    host = bed.connect()
    host.plug(vifs(bed, 1, 2, 3, 4))
    for index in range(4):
        bed.bind(bed.vf(0, index), None)
        bed.bind(bed.vf(0, index), "mlx5_core")
    assert bed.identity(bed.vf(0, 0)) == guid(1)
    bed.reset_counts()
    return host


def test_the_hosts_driver_does_not_go_on_showing_the_guest(bed, returned):
    returned.unplug(vifs(bed, 1, 2, 3))
    assert bed.counts().probe == 3
    assert [bed.identity(bed.vf(0, n)) for n in range(4)] == [
        "ff:ff:ff:ff:ff:ff:ff:ff"
    ] * 3 + [guid(4)]
    assert {bed.driver(bed.vf(0, n)) for n in range(4)} == {"mlx5_core"}


def test_unless_it_was_told_not_to(bed, returned):
    returned.unplug(vifs(bed, 1), rebind=False)
    assert bed.counts().probe == 0
    assert bed.identity(bed.vf(0, 0)) == guid(1)
    # what was left out can be made up for
    returned.unplug(vifs(bed, 1))
    assert bed.counts().probe == 1
    assert bed.identity(bed.vf(0, 0)) == "ff:ff:ff:ff:ff:ff:ff:ff"


def test_a_vf_whose_driver_never_took_the_identity_is_not_rebound(bed):
    bed.build(Hca("mlx5", vfs=2))
    host = bed.connect()
    host.plug(vifs(bed, 1))
    bed.reset_counts()
    host.unplug(vifs(bed, 1))
    assert bed.counts().probe == 0


@pytest.mark.parametrize("driver", [None, "vfio-pci"])
def test_a_vf_that_the_host_does_not_drive_is_not_rebound(
    bed, returned, driver
):
    bed.bind(bed.vf(0, 0), driver)
    bed.reset_counts()
    returned.unplug(vifs(bed, 1))
    assert bed.counts().probe == 0
    assert bed.driver(bed.vf(0, 0)) == driver


def test_vfs_are_rebound_at_the_same_time(bed, returned):
    """Overlap is seen in the order of events, not on a clock: while the
    first waits for its probe the others have been unbound."""
    bed.delay(probe=0.4)
    seen = []
    returned.unplug(
        vifs(bed, 1, 2, 3, 4),
        progress=lambda stage, done, _: seen.append(
            (
                stage,
                done,
                sum(
                    bed.identity(bed.vf(0, n)) == guid(n + 1) for n in range(4)
                ),
            )
        ),
    )
    assert ("rebind", 1, 0) in seen


def test_a_vf_that_its_driver_is_not_to_have_again(bed, returned):
    """Somebody has set driver_override meanwhile."""
    vf = bed.vf(0, 0)
    override = f"bus/pci/devices/{vf}/driver_override"
    bed.write(override, "vfio-pci")
    with pytest.raises(BatchFailed) as caught:
        returned.unplug(vifs(bed, 1))
    (failure,) = caught.value.result.failures
    assert isinstance(failure, RebindFailed)
    assert (failure.device, failure.errno) == (vf, errno.ENODEV)
    assert "/sys/bus/pci/drivers/mlx5_core/bind" in failure.cure
    assert bed.seen(0)[0].port == "ff:ff:ff:ff:ff:ff:ff:ff"
    bed.write(override, "")
