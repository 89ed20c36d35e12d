# SPDX-License-Identifier: Apache-2.0
"""Plugging: what a batch does to the kernel, and what it leaves alone."""

import pytest

from ibhostdev import BatchFailed, Guid, Link, Policy, Vif
from ibhostdev.errors import (
    DeviceInUse,
    DeviceNotFound,
    GuidConflict,
    InvalidInput,
    NoMechanism,
    WrongPhysicalNetwork,
)
from tests.flavours import guid, mac, vifs
from tests.testbed import Hca, Seen


def test_each_vf_gets_its_identity_and_no_other_vf_is_touched(bed, flavour):
    before = bed.seen(0)
    result = bed.connect().plug(vifs(bed, 1, 2, 3))
    assert bed.seen(0) == [flavour.seen(guid(n)) for n in (1, 2, 3)] + [
        before[3]
    ]
    assert result.ok
    assert [r.pci for r in result.results] == [bed.vf(0, n) for n in range(3)]
    for number, one in enumerate(result.results, 1):
        assert one.changed
        assert one.verified
        assert one.mechanism == flavour.mechanism
        assert one.after.port_guid == Guid.parse(guid(number))


def test_it_costs_three_firmware_commands_a_vf_and_two_questions(bed, flavour):
    host = bed.connect()
    host.pfs  # noqa: B018  the topology is read once in a host's life
    bed.reset_counts()
    host.plug(vifs(bed, 1, 2, 3, 4))
    counts = bed.counts()
    assert counts.modify == 4 * flavour.commands
    assert counts.getlink <= flavour.getlinks(2)
    assert counts.probe == 0


def test_again_it_writes_nothing(bed, flavour):
    host = bed.connect()
    host.plug(vifs(bed, 1, 2, 3, 4))
    bed.reset_counts()
    result = host.plug(vifs(bed, 1, 2, 3, 4))
    counts = bed.counts()
    assert counts.modify == 0
    assert counts.getlink <= flavour.getlinks(1)
    assert not any(one.changed for one in result.results)
    assert bed.seen(0) == [flavour.seen(guid(n)) for n in (1, 2, 3, 4)]


def test_only_what_is_not_right_yet_is_written(bed):
    bed.build(Hca("mlx5", vfs=2))
    bed.seed(0, 0, node=guid(1), policy="follow")
    bed.reset_counts()
    bed.connect().plug(vifs(bed, 1))
    assert bed.counts().modify == 1
    assert bed.seen(0)[0].port == guid(1)


@pytest.mark.parametrize("policy", ["up", "down", "follow"])
def test_a_policy_that_was_asked_for(bed, policy):
    bed.build(Hca("mlx5", vfs=2))
    bed.connect().plug(vifs(bed, 1), policy=Policy(policy))
    assert bed.seen(0)[0].policy == policy


def test_the_neutron_agents_policy_is_left_alone(bed, flavour):
    host = bed.connect()
    host.plug(vifs(bed, 1, 2))
    if flavour.mlx4:
        with pytest.raises(BatchFailed, match="mlx4 VFs have no policy"):
            host.plug(vifs(bed, 3), policy=Policy.UP)
        return
    bed.seed(0, 0, policy="up")
    bed.seed(0, 1, policy="down")
    host.plug(vifs(bed, 1, 2))
    # one that is down belongs to nobody's wish: the link is raised
    assert [seen.policy for seen in bed.seen(0)[:2]] == ["up", "follow"]


def test_a_link_is_lowered_until_the_next_plug(bed, flavour):
    """As before and after a live migration; and no reason to fail where VFs
    have no policy."""
    host = bed.connect()
    for start in (None, "follow"):
        if start and not flavour.mlx4:
            bed.seed(0, 0, policy=start)
        lowered = host.plug(vifs(bed, 1), link=Link.LOWERED).results[0]
        assert lowered.verified
        assert bed.seen(0)[0].port == guid(1)
        if not flavour.mlx4:
            assert bed.seen(0)[0].policy == "down"
            assert lowered.wanted.policy == Policy.DOWN
    host.plug(vifs(bed, 1))
    assert bed.seen(0)[0] == flavour.seen(guid(1))


def test_a_link_is_kept_where_the_identity_is_right(bed, flavour):
    host = bed.connect()
    host.plug(vifs(bed, 1))
    if not flavour.mlx4:
        bed.seed(0, 0, policy="down")
    bed.reset_counts()
    host.plug(vifs(bed, 1), link=Link.KEPT)
    assert bed.counts().modify == 0
    # Another identity comes with a link.
    host.plug(vifs(bed, 2), link=Link.KEPT)
    assert bed.seen(0)[0] == flavour.seen(guid(2))


def test_a_running_guest_notices_nothing_of_a_repeated_plug(bed, flavour):
    host = bed.connect()
    host.plug(vifs(bed, 1))
    with bed.hold(bed.vf(0, 0)):
        if not flavour.mlx4:
            bed.seed(0, 0, policy="down")
        bed.reset_counts()
        result = host.plug(vifs(bed, 1))
        assert bed.counts().modify == bed.counts().probe == 0
        assert not result.results[0].changed
        assert bed.driver(bed.vf(0, 0)) == "vfio-pci"


def test_a_running_guests_vf_is_not_given_to_another(bed, flavour):
    host = bed.connect()
    host.plug(vifs(bed, 1, 2))
    with bed.hold(bed.vf(0, 0)):
        before = bed.seen(0)
        with pytest.raises(BatchFailed) as caught:
            host.plug(vifs(bed, 7, 8))
        assert bed.seen(0) == before
    in_use, other = caught.value.result.results
    assert isinstance(in_use.error, DeviceInUse)
    assert guid(1) in str(in_use.error)
    assert other.error is not None
    assert not other.changed


def test_a_running_guests_lost_identity_is_given_back(bed):
    """Where it is known to be lost, and its link with it."""
    bed.build(Hca("mlx5-ofed", vfs=2))
    with bed.hold(bed.vf(0, 0)):
        bed.connect().plug(vifs(bed, 1))
        assert bed.seen(0)[0] == Seen(guid(1), guid(1), "follow")


def test_a_running_guest_of_whom_nothing_is_known_is_left_alone(bed):
    """A GUID of 0 by netlink is "not known": it may be this one, or another
    tenant's."""
    bed.build(Hca("mlx5", vfs=2))
    bed.seed(0, 0, policy="up")
    before = bed.seen(0)
    with bed.hold(bed.vf(0, 0)):
        bed.reset_counts()
        result = bed.connect().plug(vifs(bed, 1))
        assert bed.counts().modify == 0
        assert bed.seen(0) == before
    assert not result.results[0].verified
    assert bed.vf(0, 0) in result.warnings[0]


def test_a_policy_that_is_asked_for_again(bed):
    bed.build(Hca("mlx5", vfs=2))
    host = bed.connect()
    host.plug(vifs(bed, 1))
    host.plug(vifs(bed, 1), policy=Policy.DOWN)
    assert bed.seen(0)[0].policy == "down"


def test_a_vf_on_vfio_that_nobody_has_open_is_free(bed, flavour):
    bed.bind(bed.vf(0, 0), "vfio-pci")
    host = bed.connect()
    host.plug(vifs(bed, 1))
    assert not host.vf(bed.vf(0, 0)).in_use
    host.plug(vifs(bed, 2))
    assert bed.seen(0)[0] == flavour.seen(guid(2))
    assert bed.driver(bed.vf(0, 0)) == "vfio-pci"


def test_a_vf_without_a_driver_is_plugged_as_well(bed, flavour):
    bed.bind(bed.vf(0, 1), None)
    bed.connect().plug(vifs(bed, 1, 2))
    assert bed.seen(0)[1] == flavour.seen(guid(2))
    assert bed.driver(bed.vf(0, 1)) is None


# -- conflicts --------------------------------------------------------------


def test_a_guid_moves_from_a_stale_vf_with_a_warning(bed, flavour):
    """A resize to the same host plugs before it unplugs."""
    host = bed.connect()
    host.plug(vifs(bed, 1))
    result = host.plug([Vif.parse(bed.vf(0, 2), mac(1))])
    assert bed.seen(0)[0] == flavour.idle
    assert bed.seen(0)[2] == flavour.seen(guid(1))
    (warning,) = result.warnings
    assert bed.vf(0, 0) in warning
    assert bed.vf(0, 2) in warning


def test_two_vfs_swap_their_guids(bed, flavour):
    host = bed.connect()
    host.plug(vifs(bed, 1, 2))
    host.plug(vifs(bed, 2, 1))
    assert bed.seen(0)[:2] == [
        flavour.seen(guid(2)), flavour.seen(guid(1)),
    ]  # fmt: skip


def test_a_guid_that_a_guest_has_is_not_taken_from_it(bed, flavour):
    host = bed.connect()
    host.plug(vifs(bed, 1))
    with bed.hold(bed.vf(0, 0)):
        before = bed.seen(0)
        with pytest.raises(BatchFailed) as caught:
            host.plug([Vif.parse(bed.vf(0, 2), mac(1))])
        assert bed.seen(0) == before
    error = caught.value.result.results[0].error
    assert isinstance(error, GuidConflict)
    assert bed.vf(0, 0) in str(error)


def test_a_guid_moves_between_the_pfs_of_a_fabric(bed):
    bed.build(Hca("mlx5", vfs=2), Hca("mlx5-ofed", vfs=2))
    host = bed.connect(physical_networks={})
    host.plug(vifs(bed, 1))
    host.plug(vifs(bed, 1, pf=1))
    assert bed.seen(0)[0].port == "ff:ff:ff:ff:ff:ff:ff:ff"
    assert bed.seen(1)[0].port == guid(1)


def test_fabrics_do_not_share_guids(bed):
    bed.build(Hca("mlx5", vfs=2), Hca("mlx5", vfs=2))
    host = bed.connect(
        physical_networks={"red": [bed.pfs[0]], "blue": [bed.pfs[1]]}
    )
    for pf, network in enumerate(("red", "blue")):
        host.plug([Vif.parse(bed.vf(pf, 0), mac(1), network)])
    assert bed.seen(0)[0].port == bed.seen(1)[0].port == guid(1)


# -- several PFs, families, ports -------------------------------------------


def test_pfs_of_all_families_in_one_batch(bed):
    bed.build(
        Hca("mlx5", vfs=2), Hca("mlx5-ofed", vfs=2, netdev=False),
        Hca("mlx4", vfs=2),
    )  # fmt: skip
    result = bed.connect().plug(
        [Vif.parse(bed.vf(pf, n), mac(10 * pf + n + 1))
         for n in range(2) for pf in range(3)]
    )  # fmt: skip
    assert {one.mechanism for one in result.results} == {
        "mlx5_netlink", "mlx5_sysfs", "mlx4_sysfs",
    }  # fmt: skip
    for pf in range(3):
        assert [seen.port for seen in bed.seen(pf)] == [
            guid(10 * pf + 1), guid(10 * pf + 2),
        ]  # fmt: skip


def test_a_batch_of_two_fabrics_keeps_them_apart(bed):
    """MACs are unique in a network only: the same GUID on the other one is
    another tenant's."""
    bed.build(Hca("mlx5", vfs=2), Hca("mlx5", vfs=2))
    host = bed.connect(
        physical_networks={"red": [bed.pfs[0]], "blue": [bed.pfs[1]]}
    )
    host.plug([Vif.parse(bed.vf(1, 0), mac(1), "blue")])
    batch = [
        Vif.parse(bed.vf(0, 0), mac(1), "red"),
        Vif.parse(bed.vf(1, 1), mac(2), "blue"),
    ]
    host.plug(batch)
    assert bed.seen(0)[0].port == guid(1)
    assert [seen.port for seen in bed.seen(1)] == [guid(1), guid(2)]
    host.unplug(batch)
    idle = "ff:ff:ff:ff:ff:ff:ff:ff"
    assert bed.seen(0)[0].port == idle
    assert [seen.port for seen in bed.seen(1)] == [guid(1), idle]


def test_the_physical_network_tells_the_port_of_a_dual_port_mlx4(bed):
    bed.build(Hca("mlx4", vfs=2, ports=2))
    first, second = (n.name for n in bed.connect().pfs[0].netdevs)
    host = bed.connect(physical_networks={"one": [first], "two": [second]})
    host.plug([Vif.parse(bed.vf(0, 0), mac(1), "one")])
    assert bed.seen(0)[0].port == guid(1)
    host.plug([Vif.parse(bed.vf(0, 1), mac(2), "two")])
    assert bed.seen(0)[1].port != guid(2)  # the witness shows port 1
    (port,) = bed.sys.glob(
        f"bus/pci/devices/{bed.pfs[0]}/infiniband/*/iov/ports/2"
    )
    shown = (port / "admin_guids/2").read_text()
    assert int(shown, 16) == Guid.parse(guid(2))


def test_both_ports_of_a_vf_in_one_batch(bed):
    bed.build(Hca("mlx4", vfs=2, ports=2))
    first, second = (n.name for n in bed.connect().pfs[0].netdevs)
    host = bed.connect(physical_networks={"one": [first], "two": [second]})
    both = [
        Vif.parse(bed.vf(0, 0), mac(1), "one"),
        Vif.parse(bed.vf(0, 0), mac(2), "two"),
    ]
    assert host.plug(both).ok
    (pf,) = host.pfs
    for port, number in (1, 1), (2, 2):
        states = host.survey(pf.on_port(port))
        assert str(states[0].port_guid) == guid(number)
    assert host.unplug(both).ok
    # The same port twice is a slip still.
    with pytest.raises(InvalidInput, match="named twice"):
        host.plug([both[0], Vif.parse(bed.vf(0, 0), mac(3), "one")])


def test_netlink_and_files_agree_on_an_ofed_host(bed):
    """Where both are there netlink writes, since the Neutron agent reads
    back by netlink; the other way leaves its read-back at zero."""
    bed.build(Hca("mlx5-ofed", vfs=2))
    host = bed.connect()
    host.plug(vifs(bed, 1))
    assert bed.seen(0)[0].node == guid(1)
    host.plug([Vif.parse(bed.vf(0, 1), mac(2))], mechanism="mlx5_sysfs")
    assert bed.seen(0)[1].node == "00:00:00:00:00:00:00:00"
    bed.reset_counts()
    # known all the same: by the files
    assert not host.plug(vifs(bed, 1, 2)).results[1].changed
    assert bed.counts().modify == 0


# -- bad input: nothing is touched ------------------------------------------


@pytest.mark.parametrize(
    "make", [
    lambda one, two: [one, Vif(one.pci, two.guid)],
    lambda one, two: [one, Vif(two.pci, one.guid)],
    lambda one, two: [one, Vif(None, two.guid)],
    lambda one, two: [one, Vif(two.pci, Guid(0))],
    lambda one, two: [one, Vif(two.pci, Guid(2**64 - 1))],
]
)  # fmt: skip
def test_bad_batches_are_refused_whole(bed, make):
    bed.build(Hca("mlx5", vfs=4))
    before = bed.seen(0)
    bed.reset_counts()
    with pytest.raises(InvalidInput) as caught:
        bed.connect().plug(make(*vifs(bed, 1, 2)))
    assert caught.value.cure
    counts = bed.counts()
    assert (counts.modify, counts.query, counts.getlink) == (0, 0, 0)
    assert bed.seen(0) == before


def test_a_pf_is_no_vf(bed, flavour):
    before = bed.seen(0)
    with pytest.raises(DeviceNotFound, match="is a PF"):
        bed.connect().plug([*vifs(bed, 1), Vif.parse(bed.pfs[0], mac(2))])
    assert bed.seen(0) == before


def test_a_missing_device(bed, flavour):
    before = bed.seen(0)
    with pytest.raises(DeviceNotFound, match="no such PCI device"):
        bed.connect().plug([*vifs(bed, 1), Vif.parse("00:1f.7", mac(2))])
    assert bed.seen(0) == before


def test_vfs_that_are_not_enabled(bed):
    bed.build(Hca("mlx5", vfs=4))
    host = bed.connect()
    host.plug(vifs(bed, 1))
    last = bed.vf(0, 3)
    bed.numvfs(0, 0)
    bed.numvfs(0, 2)
    with pytest.raises(DeviceNotFound):
        host.plug([Vif.parse(last, mac(2))])
    assert len(bed.seen(0)) == 2


def test_another_physical_network(bed, flavour):
    before = bed.seen(0)
    host = bed.connect(
        physical_networks={"here": [bed.pfs[0]], "there": ["ib77"]}
    )
    for name in ("there", "nowhere"):
        with pytest.raises(WrongPhysicalNetwork, match=name):
            host.plug([Vif.parse(bed.vf(0, 0), mac(1), name)])
    assert bed.seen(0) == before
    host.plug([Vif.parse(bed.vf(0, 0), mac(1), "here")])
    assert bed.seen(0)[0] == flavour.seen(guid(1))


@pytest.mark.parametrize("action", ["plug", "unplug"])
def test_a_mapping_that_leads_nowhere(bed, action):
    """Nobody else would find it out where no VIF names a network."""
    bed.build(Hca("mlx5", vfs=2))
    host = bed.connect(
        physical_networks={"here": [bed.pfs[0]], "there": ["ib77"]}
    )
    call = getattr(host, action)
    (warning,) = call(vifs(bed, 1)).warnings
    assert "'there' is mapped to ib77, and no InfiniBand PF" in warning
    assert "there are: " in warning
    assert call([Vif.parse(bed.vf(0, 1), mac(2), "here")]).warnings == ()


def test_a_folder_for_locks_without_a_name(bed):
    bed.build(Hca("mlx5", vfs=2))
    with pytest.raises(InvalidInput, match="no folder for the locks"):
        bed.connect(run_dir="")


def test_nothing_serves_the_pf(bed):
    bed.build(Hca("mlx5", vfs=2, netdev=False))
    with pytest.raises(NoMechanism) as caught:
        bed.connect().plug(vifs(bed, 1))
    text = str(caught.value)
    assert "ib_ipoib" in text
    assert "MLNX_OFED" in text


def test_a_mechanism_that_cannot_be_forced(bed):
    bed.build(Hca("mlx5", vfs=2))
    with pytest.raises(NoMechanism, match="MLNX_OFED"):
        bed.connect().plug(vifs(bed, 1), mechanism="mlx5_sysfs")
    with pytest.raises(InvalidInput, match="no mechanism"):
        bed.connect().plug(vifs(bed, 1), mechanism="magic")


def test_a_dry_run_tells_and_writes_nothing(bed, flavour):
    host = bed.connect()
    host.plug(vifs(bed, 1))
    before = bed.seen(0)
    bed.reset_counts()
    same, new = host.plug(vifs(bed, 1, 2), dry_run=True).results
    assert (same.changed, new.changed) == (False, True)
    assert new.after is None
    assert new.wanted.port_guid == Guid.parse(guid(2))
    assert bed.counts().modify == 0
    assert bed.seen(0) == before


def test_an_empty_batch_is_done(bed):
    bed.build(Hca("mlx5", vfs=2))
    assert bed.connect().plug([]).results == ()
    assert bed.connect().unplug([]).results == ()
