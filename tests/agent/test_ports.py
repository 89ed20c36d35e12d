# SPDX-License-Identifier: Apache-2.0
"""What Neutron is told of ports, and what is done to their links."""

import pytest

from ibhostdev import BatchFailed, BatchResult, PKey, Vif
from tests.agent.conftest import Node
from tests.flavours import mac
from tests.testbed import Hca


def test_a_port_is_up_while_it_is_plugged(node):
    assert node.work()
    node.plug(1, 2)
    assert node.server.up() == set()
    assert node.work()
    assert node.server.up() == {"port-1", "port-2"}
    node.unplug(1)
    assert node.work()
    assert node.server.up() == {"port-2"}


def test_a_start_asks_once_for_all(bed):
    node = Node(bed, Hca(vfs=127))
    node.plug(*range(1, 128))
    bed.reset_counts()
    assert node.work()
    assert node.server.asked == [
        ("details", 127),
        ("ports", 0),
        ("report", 127),
    ]
    assert len(node.server.up()) == 127
    assert node.batches == []
    counts = bed.counts()
    assert (counts.getlink, counts.modify) == (1, 0)


def test_nothing_new_asks_nobody(node):
    node.plug(1)
    node.work()
    node.server.asked.clear()
    assert node.work()
    assert node.server.asked == []


def test_the_administrators_word_is_done_to_a_guest_that_runs(node, bed):
    node.plug(1, 2)
    node.work()
    with bed.hold(bed.vf(0, 0)):
        node.server.ports["port-1"]["admin_state_up"] = False
        node.ports.port_updated(mac(1).upper())
        assert node.work()
        assert node.links()[:2] == ["down", "follow"]
        assert node.server.up() == {"port-2"}
        node.server.ports["port-1"]["admin_state_up"] = True
        node.ports.port_updated(mac(1))
        assert node.work()
        assert node.links()[:2] == ["follow", "follow"]
        assert node.server.up() == {"port-1", "port-2"}
    assert node.batches == [1, 1]


def test_all_that_changed_is_one_batch(node):
    node.plug(1, 2, 3)
    node.work()
    for port in node.server.ports.values():
        port["admin_state_up"] = False
        node.ports.port_updated(port["mac"])
    assert node.work()
    assert node.batches == [3]
    assert node.links()[:3] == ["down"] * 3


def test_a_link_that_was_raised_behind_the_administrators_back(node, bed):
    node.plug(1)
    node.server.ports["port-1"]["admin_state_up"] = False
    node.work()
    bed.seed(0, 0, policy="follow")
    node.server.asked.clear()
    assert node.work()
    assert node.links()[0] == "down"
    assert node.server.asked == []


def test_one_that_was_forced_up_stays_so(node, bed):
    node.plug(1, policy="up")
    assert node.work()
    assert node.links()[0] == "up"
    assert node.server.up() == {"port-1"}


def test_an_inactive_binding_keeps_the_link_down(node):
    node.plug(1)
    port = node.server.ports["port-1"]
    port["inactive"] = True
    assert node.work()
    assert node.links()[0] == "down"
    assert node.server.up() == set()
    port["inactive"] = False
    node.ports.binding_changed("port-1")
    assert node.work()
    assert node.links()[0] == "follow"
    assert node.server.up() == {"port-1"}


def test_an_identity_that_is_no_ports_is_left_alone(node):
    node.plug(1)
    node.server.ports.clear()
    assert node.work()
    assert node.links()[0] == "follow"
    assert node.batches == []


def test_a_port_that_is_made_after_its_plug(node, bed):
    node.plug(1)
    node.server.ports.clear()
    node.work()
    node.server.bind(1, bed.vf(0, 0))
    node.ports.port_updated(mac(1))
    assert node.work()
    assert node.server.up() == {"port-1"}


def test_an_identity_on_another_vf_is_told_and_never_up(node, bed, caplog):
    node.server.bind(1, bed.vf(0, 3), status="ACTIVE")
    node.plug(1)
    assert node.work()
    assert node.server.up() == set()
    (told,) = [r.message for r in caplog.records if "not up" in r.message]
    assert bed.vf(0, 0) in told
    assert bed.vf(0, 3) in told
    assert "ibhostdev unplug" in told
    caplog.clear()
    assert node.work()
    assert [r for r in caplog.records if "not up" in r.message] == []
    node.unplug(1)
    node.host.plug([Vif.parse(bed.vf(0, 3), mac(1))])
    assert node.work()
    assert node.server.up() == {"port-1"}


def test_an_identity_that_is_there_twice_is_told(node, bed, caplog):
    node.plug(1, 2)
    node.work()
    twin = bed.seen(0)[0]
    bed.seed(0, 3, node=twin.node, port=twin.port, policy="follow")
    node.work()
    assert node.server.up() == {"port-2"}
    assert "at once" in caplog.text
    bed.seed(0, 3, node="ff:ff:ff:ff:ff:ff:ff:ff", port="ff:" * 7 + "ff")
    node.ports.resync()
    assert node.work()
    assert node.server.up() == {"port-1", "port-2"}


def test_half_an_identity_is_none(node, bed):
    node.plug(1)
    bed.seed(0, 0, node="00:11:22:00:00:33:44:55")
    assert node.work()
    assert node.server.up() == set()


def test_a_port_that_lost_its_identity_while_nobody_looked(node, bed, caplog):
    node.plug(1, 2)
    node.work()
    node.unplug(1)
    node.server.asked.clear()
    node.restart()
    assert node.work()
    assert node.server.up() == {"port-2"}
    assert "no Virtual Function has its identity" in caplog.text


def test_an_agent_that_ended_between_its_words(node):
    """It has asked for the port and not come to say that it is up."""
    node.plug(1)
    node.server.refuses = {"port-1"}
    node.work()
    assert node.server.ports["port-1"]["status"] == "BUILD"
    node.server.refuses = set()
    node.unplug(1)
    node.restart()
    assert node.work()
    assert node.server.ports["port-1"]["status"] == "DOWN"


def test_a_deleted_network_is_forgotten(node):
    node.plug(1)
    node.work()
    node.server.ports.clear()
    node.ports.network_deleted("net")
    node.server.asked.clear()
    node.unplug(1)
    assert node.work()
    assert node.server.asked == []


def test_a_server_that_is_away_is_told_later(node):
    node.server.away = True
    node.plug(1, 2)
    with pytest.raises(TimeoutError):
        node.work()
    node.server.away = False
    assert node.work()
    assert node.server.up() == {"port-1", "port-2"}
    node.server.away = True
    node.unplug(1)
    with pytest.raises(TimeoutError):
        node.work()
    node.server.away = False
    assert node.work()
    assert node.server.up() == {"port-2"}


def test_what_the_server_could_not_do_is_tried_again(node):
    node.plug(1, 2)
    node.server.refuses = {"port-1"}
    assert not node.work()
    assert node.server.up() == {"port-2"}
    node.server.refuses = set()
    assert node.work()
    assert node.server.up() == {"port-1", "port-2"}


def test_a_link_that_cannot_be_raised_is_not_up(node, bed, caplog):
    node.plug(1, 2, policy="down")
    bed.fail(bed.vf(0, 0), 5)
    assert not node.work()
    assert node.server.up() == {"port-2"}
    assert "Input/output error" in caplog.text
    bed.heal()
    assert node.work()
    assert node.server.up() == {"port-1", "port-2"}
    assert node.links()[:2] == ["follow", "follow"]


def test_a_warning_is_told_once_for_as_long_as_it_is(node, bed, caplog):
    """What cannot be done is tried again and again."""
    run = node.run

    def warned(asked):
        try:
            return run(asked)
        except BatchFailed as error:
            failed = BatchResult(error.result.results, ["a slip of the pen"])
            raise BatchFailed.of(failed) from None

    node.ports._run = warned
    node.plug(1, policy="down")
    bed.fail(bed.vf(0, 0), 5)
    for _ in range(3):
        assert not node.work()
    bed.heal()
    assert caplog.text.count("a slip of the pen") == 1


def test_vfs_that_cannot_be_told_keep_their_ports_up(node, bed):
    node.plug(1, 2)
    node.work()
    bed.fail_queries(bed.vf(0, 0), 5)
    assert node.work()
    assert node.server.up() == {"port-1", "port-2"}


def test_pfs_that_lose_their_vfs_lose_their_ports(node, bed):
    node.plug(1)
    node.work()
    bed.numvfs(0, 0)
    assert node.work()
    assert node.server.up() == set()
    bed.numvfs(0, 4)
    node.plug(1)
    node.vnics.look({bed.pfs[0]})
    assert node.ports.work()
    assert node.server.up() == {"port-1"}


def test_only_the_pf_that_was_marked_is_asked(bed):
    node = Node(bed, Hca(vfs=2), Hca(vfs=2))
    node.plug(1)
    node.work()
    node.plug(2, pf=1)
    bed.reset_counts()
    node.vnics.look({bed.pfs[1]})
    node.ports.work()
    assert bed.counts().getlink == 1
    assert node.server.up() == {"port-1", "port-2"}


# -- mlx4 -----------------------------------------------------------------


@pytest.fixture
def mlx4(bed):
    return Node(bed, Hca("mlx4", vfs=2))


def first_pkey(node):
    (pf,) = node.host.pfs
    return node.host.survey(pf, [0])[0].pkeys[0]


def test_a_flat_network_is_the_default_partition(mlx4):
    mlx4.plug(1)
    assert mlx4.work()
    assert mlx4.server.up() == {"port-1"}
    (pf,) = mlx4.host.pfs
    pkeys = mlx4.bed.sys / pf.path / "infiniband" / pf.ib_device
    place = pkeys / "iov/ports/1/pkeys" / first_pkey(mlx4)
    assert int(place.read_text(), 16) & 0x7FFF == 0x7FFF
    mlx4.unplug(1)
    assert first_pkey(mlx4) == "none"


def test_a_partition_that_was_plugged_is_left_alone(mlx4, bed):
    """In either of two entries; the agent would take the first."""
    bed.pkeys(0xFFFF, 0x0123, 0x8005, 0x8123)
    vf = bed.vf(0, 0)
    mlx4.server.bind(1, vf, network_type="vlan", segmentation_id=0x123)
    vif = Vif.parse(vf, mac(1))._replace(pkey=PKey(0x123))
    mlx4.host.plug([vif])
    assert first_pkey(mlx4) == "3"
    assert mlx4.work()
    assert first_pkey(mlx4) == "3"
    assert mlx4.batches == []
    assert mlx4.server.up() == {"port-1"}
    # Neutron's word is the last one on its ports, and no plug of Nova's
    # takes it back.
    mlx4.host.plug([vif._replace(pkey=PKey(5))])
    assert first_pkey(mlx4) == "2"
    assert mlx4.work()
    assert first_pkey(mlx4) == "1"
    mlx4.plug(1)
    assert first_pkey(mlx4) == "1"
    assert mlx4.work()
    assert mlx4.batches == [1]


def test_a_vlan_waits_for_its_partition(mlx4, bed, caplog):
    mlx4.server.bind(
        1, bed.vf(0, 0), network_type="vlan", segmentation_id=0x123
    )
    mlx4.plug(1)
    assert not mlx4.work()
    assert mlx4.server.up() == set()
    assert "P_Key 0x8123" in caplog.text
    (pf,) = mlx4.host.pfs
    table = bed.sys / pf.path / "infiniband" / pf.ib_device
    entry = table / "iov/ports/1/pkeys/5"
    entry.chmod(0o644)
    entry.write_text("0x8123\n")
    assert mlx4.work()
    assert first_pkey(mlx4) == "5"
    assert mlx4.server.up() == {"port-1"}
