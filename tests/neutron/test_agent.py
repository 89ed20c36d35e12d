# SPDX-License-Identifier: Apache-2.0
# mypy: ignore-errors
"""Ports of Neutron's, from their binding to their end."""

import logging
import random

import fixtures
from neutron_lib import context

from ibhostdev import batch

import cloud
from cloud import HOST
from cloud import NETWORK
from cloud import OTHER_HOST


class PortTest(cloud.NeutronTestCase):
    """What Neutron shows of ports, and what becomes of their links."""

    timeout = 5  # a server that is away is not to be waited for for long

    def setUp(self):
        super().setUp()
        self.log = self.useFixture(
            fixtures.FakeLogger("ibhostdev", level=logging.WARNING)
        )

    def plugged(self, index, **what):
        port = self.make_port(self.node.slots[index], **what)
        self.node.plug(port)
        self.await_status("ACTIVE", port)
        return port

    def test_a_port_is_bound_and_up_while_it_is_plugged(self):
        port = self.make_port(self.node.slots[0])
        self.assertEqual("ib_hostdev", port["binding:vif_type"])
        self.assertEqual(
            NETWORK, port["binding:vif_details"]["physical_network"]
        )
        self.assertEqual("DOWN", self.status(port))
        self.node.plug(port)
        self.await_status("ACTIVE", port)
        self.node.unplug(port)
        self.await_status("DOWN", port)

    def test_neutron_knows_the_agent(self):
        self.plugged(0)
        self.node.agent.report_state()
        with self.db:
            (agent,) = self.driver.get_agents(
                context.get_admin_context(),
                {"agent_type": ["Mellanox plugin agent"]},
            )
        self.assertTrue(agent["alive"])
        self.assertEqual(HOST, agent["host"])
        self.assertEqual(
            {NETWORK: [self.node.pf.address]},
            agent["configurations"]["interface_mappings"],
        )
        self.assertEqual(1, agent["configurations"]["devices"])

    def test_the_administrative_state(self):
        port, other = self.plugged(0), self.plugged(1)
        with self.node.guest(self.node.slots[0]):
            self.update_port(port, admin_state_up=False)
            self.await_status("DOWN", port)
            self.await_that(
                "the link goes down", lambda: self.node.link(port) == "down"
            )
            self.assertEqual("follow", self.node.link(other))
            self.update_port(port, admin_state_up=True)
            self.await_status("ACTIVE", port)
            self.assertEqual("follow", self.node.link(port))
        self.assertEqual("ACTIVE", self.status(other))

    def test_a_port_that_is_down_from_its_first_day(self):
        port = self.make_port(self.node.slots[0], admin_state_up=False)
        self.node.plug(port)
        self.await_that(
            "the link goes down", lambda: self.node.link(port) == "down"
        )
        self.assertEqual("DOWN", self.status(port))

    def test_ports_and_their_network_are_deleted(self):
        port, other = self.plugged(0), self.plugged(1)
        self.node.unplug(port)
        self.delete_port(port)
        self.delete_port(other)
        self.delete_network()
        self.node.unplug(other)
        self.net = self.make_network(vlan=43)
        self.plugged(0)
        self.assertEqual("", self.log.output)

    def test_a_server_that_was_away(self):
        port, other = self.plugged(0), self.make_port(self.node.slots[1])
        self.stop_server()
        self.node.unplug(port)
        self.node.plug(other)
        self.start_server()
        self.await_status("DOWN", port)
        self.await_status("ACTIVE", other)

    def test_an_agent_that_was_away(self):
        port, other = self.plugged(0), self.make_port(self.node.slots[1])
        stays = self.plugged(2)
        self.node.stop_agent()
        self.node.unplug(port)
        self.node.plug(other)
        self.update_port(stays, admin_state_up=False)
        self.node.start_agent()
        self.await_status("DOWN", port, stays)
        self.await_status("ACTIVE", other)
        self.assertEqual("down", self.node.link(stays))
        self.assertIn("no Virtual Function has its identity", self.log.output)

    def test_the_destination_of_a_live_migration(self):
        self.make_host(OTHER_HOST)
        slot = self.node.slots[0]
        port = self.make_port("0000:41:00.2", host=OTHER_HOST)
        self.make_binding(port, slot)
        self.node.host.plug(
            [batch.Vif.parse(slot, port["mac_address"], NETWORK)],
            link=batch.Link.LOWERED,
        )
        self.calls.clear()
        self.node.agent.ports.resync()
        self.node.agent.loop.wake()
        self.await_that(
            "the agent asks",
            lambda: "get_ports_by_vnic_type_and_host" in dict(self.calls),
        )
        self.assertEqual("down", self.link_of(slot))
        self.activate(port)
        self.await_status("ACTIVE", port)
        self.assertEqual("follow", self.link_of(slot))

    def link_of(self, slot):
        return self.node.link({"binding:profile": {"pci_slot": slot}})

    def test_an_identity_that_is_elsewhere(self):
        port = self.make_port(self.node.slots[0])
        wrong = self.node.slots[3]
        self.node.host.plug(
            [batch.Vif.parse(wrong, port["mac_address"], NETWORK)]
        )
        self.await_that("it is told", lambda: wrong in self.log.output)
        self.assertIn(self.node.slots[0], self.log.output)
        self.assertIn(port["id"], self.log.output)
        self.assertNotEqual("ACTIVE", self.status(port))
        self.node.unplug(port)
        self.node.plug(port)
        self.await_status("ACTIVE", port)


class ManyTest(cloud.NeutronTestCase):
    vfs = 127

    def test_an_agent_that_is_restarted_asks_once(self):
        ports = [self.make_port(slot) for slot in self.node.slots]
        self.node.stop_agent()
        self.node.plug(*ports)
        self.calls.clear()
        self.node.hardware.reset_counts()
        self.node.start_agent()
        self.await_status("ACTIVE", *ports)
        self.assertEqual(
            [("get_devices_details_list", 127)],
            [call for call in self.calls if call[1]],
        )
        calls = [name for name, _ in self.calls]
        self.assertEqual(1, calls.count("get_ports_by_vnic_type_and_host"))
        counts = self.node.hardware.counts()
        self.assertEqual(0, counts[0], "commands that change something")
        self.assertEqual(1, counts[2], "GETLINKs")
        self.assertEqual(0, self.node.batches)


class LongTest(cloud.NeutronTestCase):
    vfs = 8
    timeout = 5

    def test_a_thousand_plugs_and_unplugs_with_kills(self):
        dice = random.Random(1)
        ports = [self.make_port(slot) for slot in self.node.slots]
        plugged = set()
        for number in range(1, 1001):
            port = dice.choice(ports)
            if port["id"] in plugged:
                self.node.unplug(port)
            else:
                self.node.plug(port)
            plugged ^= {port["id"]}
            if number % 40 == 0:
                self.node.kill_agent()
            elif number % 40 == 5:
                if not self.node.agent:
                    self.node.start_agent()
            if number % 100 == 50:
                self.stop_server()
            elif number % 100 == 55:
                self.start_server()
            if number % 100 == 90:
                self.check(ports, plugged)
        self.node.start_agent()
        self.check(ports, plugged)

    def check(self, ports, plugged):
        for port in ports:
            up = port["id"] in plugged
            self.await_status("ACTIVE" if up else "DOWN", port)
            slot = port["binding:profile"]["pci_slot"]
            self.assertEqual(
                up, self.node.identities().get(slot) == port["mac_address"]
            )
            self.assertEqual("follow" if up else "down", self.node.link(port))
