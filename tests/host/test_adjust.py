# SPDX-License-Identifier: Apache-2.0
"""What Neutron's agent has done to ports that are plugged."""

import pytest

from ibhostdev import BatchFailed, Policy, Vif
from ibhostdev.errors import DeviceNotFound, NotVerified
from ibhostdev.inventory import VfState
from tests.flavours import guid, mac, vifs
from tests.testbed import Hca

DOWN = VfState(policy=Policy.DOWN)
FOLLOW = VfState(policy=Policy.FOLLOW)


def test_links_of_guests_that_run_follow_their_ports(bed):
    bed.build(Hca())
    host = bed.connect()
    ports = vifs(bed, 1, 2, 3)
    host.plug(ports)
    host.adjust([ports[2]], [DOWN])
    with bed.hold(bed.vf(0, 0)):
        result = host.adjust(ports, [DOWN, FOLLOW, FOLLOW])
        assert [one.changed for one in result.results] == [True, False, True]
        assert [seen.policy for seen in bed.seen(0)[:4]] == [
            "down",
            "follow",
            "follow",
            "down",
        ]
        assert [seen.port for seen in bed.seen(0)[:3]] == [
            guid(n) for n in (1, 2, 3)
        ]
        host.adjust(ports, [FOLLOW] * 3)
        assert bed.seen(0)[0].policy == "follow"


def test_it_costs_a_command_a_link_and_two_questions(bed, flavour):
    host = bed.connect()
    ports = vifs(bed, 1, 2, 3)
    host.plug(ports)
    bed.reset_counts()
    host.adjust(ports, [DOWN] * 3)
    counts = bed.counts()
    assert counts.modify == (0 if flavour.mlx4 else 3)
    assert counts.getlink <= flavour.getlinks(2)
    bed.reset_counts()
    host.adjust(ports, [DOWN] * 3)
    counts = bed.counts()
    assert counts.modify == 0
    assert counts.getlink <= flavour.getlinks(1)


def test_other_pfs_are_not_asked(bed):
    bed.build(Hca(vfs=2), Hca(vfs=2))
    host = bed.connect()
    host.plug(vifs(bed, 1))
    bed.reset_counts()
    host.adjust(vifs(bed, 1), [FOLLOW])
    assert bed.counts().getlink == 1


def test_a_vf_that_is_not_the_ports_is_left_alone(bed, flavour):
    host = bed.connect()
    host.plug(vifs(bed, 1, 2))
    wrong = Vif.parse(bed.vf(0, 0), mac(9))
    before = bed.seen(0)
    with pytest.raises(BatchFailed, match="does not have GUID") as caught:
        host.adjust([wrong, *vifs(bed, 0, 2)[1:]], [DOWN, DOWN])
    first, second = caught.value.result.results
    assert isinstance(first.error, DeviceNotFound)
    assert second.error is None
    assert bed.seen(0)[0] == before[0]
    assert bed.seen(0)[1] == flavour.seen(guid(2), "down")


def test_an_idle_vf_is_nobodys(bed, flavour):
    host = bed.connect()
    host.plug(vifs(bed, 1))
    host.unplug(vifs(bed, 1))
    before = bed.seen(0)
    with pytest.raises(BatchFailed):
        host.adjust(vifs(bed, 1), [FOLLOW])
    assert bed.seen(0) == before


def test_a_vf_that_cannot_be_told_is_left_alone(bed):
    bed.build(Hca())
    host = bed.connect()
    host.plug(vifs(bed, 1, 2))
    bed.fail_queries(bed.vf(0, 0), 5)
    with pytest.raises(BatchFailed) as caught:
        host.adjust(vifs(bed, 1, 2), [DOWN, DOWN])
    first, second = caught.value.result.results
    assert isinstance(first.error, NotVerified)
    assert second.error is None
    bed.heal()
    assert [seen.policy for seen in bed.seen(0)[:2]] == ["follow", "down"]


def test_one_that_is_refused_does_not_stop_the_others(bed):
    bed.build(Hca())
    host = bed.connect()
    host.plug(vifs(bed, 1, 2))
    bed.fail(bed.vf(0, 0), 5)
    with pytest.raises(BatchFailed) as caught:
        host.adjust(vifs(bed, 1, 2), [DOWN, DOWN])
    assert [one.error is None for one in caught.value.result.results] == [
        False,
        True,
    ]
    assert [seen.policy for seen in bed.seen(0)[:2]] == ["follow", "down"]


def test_the_first_partition_of_mlx4(bed):
    bed.build(Hca("mlx4", vfs=2))
    host = bed.connect()
    ports = vifs(bed, 1)
    host.plug(ports)

    def pkeys():
        (pf,) = host.pfs
        state = host.survey(pf, [0])[0]
        return state.port_guid, state.pkeys

    port, (first, second) = pkeys()
    assert first == "none"
    asked = VfState(policy=Policy.DOWN, pkeys=("0", "none"))
    (result,) = host.adjust(ports, [asked]).results
    assert result.changed
    assert pkeys() == (port, ("0", second))
    (result,) = host.adjust(ports, [asked]).results
    assert not result.changed
    host.adjust(ports, [VfState(pkeys=("none", "none"))])
    assert pkeys() == (port, ("none", second))
