# SPDX-License-Identifier: Apache-2.0
# mypy: ignore-errors
"""Nova and Neutron in one: a server boots with two InfiniBand ports, from
the API to the network-vif-plugged that it waits for.

Nova's services are as in tests/nova, with its own client of Neutron's API.
Neutron is another process, in an environment of its own: server.py.
"""

# First of all: they choose threads or eventlet.
import nova.monkey_patch
import nova.tests.unit  # noqa: F401

import json
import os
import queue
import select
import subprocess
import threading
import time

import fixtures
from neutronclient.v2_0 import client as neutron_client
from nova.network import neutron as nova_neutron
from nova.tests import fixtures as nova_fixtures

import cloud
from hardware import NETWORK

# Of Neutron's environment, and where its tests are.
PYTHON = os.environ["IBHOSTDEV_NEUTRON_PYTHON"]
TESTS = os.environ["IBHOSTDEV_NEUTRON_TESTS"]
SERVER = os.path.join(os.path.dirname(__file__), "server.py")
# Whoever waits for something waits so long for it at most.
SECONDS = 600


class Neutron(fixtures.Fixture):
    """The other process; ``post`` gives Nova its events."""

    def __init__(self, host, hardware, post):
        super().__init__()
        self._place = [host, hardware.folder, hardware.pf, NETWORK]
        self._post = post
        self._answers = queue.Queue()
        self.events = []

    def _setUp(self):
        self._process = subprocess.Popen(
            [PYTHON, SERVER, *self._place],
            env=os.environ | {"PYTHONPATH": TESTS},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.addCleanup(self._process.wait)
        self.addCleanup(self._process.stdin.close)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        told = self._answers.get(timeout=SECONDS)
        self.network = told["network"]
        self.client = neutron_client.Client(
            endpoint_url=f"http://127.0.0.1:{told['port']}",
            auth_strategy="noauth",
            token="token",
        )

    def _read(self):
        text = b""
        pipe = self._process.stdout.fileno()
        while True:
            # Under eventlet this lets others run, and a read does not.
            select.select([pipe], [], [])
            more = os.read(pipe, 65536)
            if not more:
                self._answers.put(None)
                return
            *lines, text = (text + more).split(b"\n")
            for line in lines:
                what, value = json.loads(line)
                if what == "answer":
                    self._answers.put(value)
                else:
                    self.events += value
                    self._post(value)

    def ask(self, what):
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        self._process.stdin.flush()
        self._answers.get(timeout=SECONDS)

    @property
    def told_plugged(self):
        """The ports that Nova was told of, which waits for that."""
        return {
            event["tag"]
            for event in self.events
            if event["name"] == "network-vif-plugged"
        }

    def port(self, port_id):
        return self.client.show_port(port_id)["port"]


class BootTest(cloud.CloudTestCase):
    """One host, with an agent on it."""

    def setUp(self):
        super().setUp()
        self.start_host("a", vfs=6)
        self.real = self.useFixture(
            Neutron("a", self.hardware["a"], self.tell_nova)
        )
        self.neutron = self.real.client
        self.stub_out(
            "nova.network.neutron.get_client",
            lambda context, admin=False: nova_neutron.ClientWrapper(
                self.real.client, admin=admin or context.is_admin
            ),
        )
        # As on a real cloud, and not as with Nova's fake of Neutron.
        self.flags(vif_plugging_timeout=SECONDS, vif_plugging_is_fatal=True)

    def tell_nova(self, events):
        self.admin_api.create_server_external_events(events)

    def _wait_for_server_parameter(self, server, expected, *_, **__):
        """Longer than Nova's tests do, for who answers is slower."""

        def state():
            found = self.admin_api.get_server(server["id"])
            self.assertNotEqual("ERROR", found["status"], found.get("fault"))
            return found

        self.await_that(expected, lambda: expected.items() <= state().items())
        return state()

    def create_port(self):
        port = {
            "network_id": self.real.network,
            "binding:vnic_type": "direct",
            "tenant_id": nova_fixtures.NeutronFixture.tenant_id,
        }
        return self.neutron.create_port({"port": port})["port"]["id"]

    def await_that(self, what, holds):
        end = time.monotonic() + SECONDS
        while not holds():
            self.assertLess(time.monotonic(), end, what)
            time.sleep(0.2)

    def await_status(self, status, ports):
        for port in ports:
            self.await_that(
                f"{port} is not {status}",
                lambda port=port: self.real.port(port)["status"] == status,
            )

    def test_boot_and_delete(self):
        server = self.boot()
        self.check([("a", server)], a=[server])
        for port in map(self.real.port, server["ports"]):
            self.assertEqual("ACTIVE", port["status"])
            self.assertEqual("ib_hostdev", port["binding:vif_type"])
            self.assertEqual("a", port["binding:host_id"])
            self.assertEqual(
                NETWORK, port["binding:vif_details"]["physical_network"]
            )
        self.assertEqual(set(server["ports"]), self.real.told_plugged)
        self._delete_server(server)
        self.await_status("DOWN", server["ports"])
        self.check(a=[])

    def test_a_boot_waits_for_the_agent(self):
        self.real.ask("stop agent")
        ports = [self.create_port() for _ in range(2)]
        server = self._create_server(
            networks=[{"port": port} for port in ports],
            expected_state="BUILD",
        )
        server["ports"] = ports
        self.await_that(
            "the ports are plugged", lambda: len(self.hardware["a"].seen) == 2
        )
        self.check(a=[server])
        self.assertEqual(set(), self.real.told_plugged)
        self.real.ask("start agent")
        self._wait_for_state_change(server, "ACTIVE")
        self.await_status("ACTIVE", ports)

    def test_attach_and_detach(self):
        server = self.boot(ports=1)
        port = self.create_port()
        self.api.attach_interface(
            server["id"], {"interfaceAttachment": {"port_id": port}}
        )
        server["ports"].append(port)
        self.await_status("ACTIVE", server["ports"])
        self.check([("a", server)], a=[server])
        self.api.detach_interface(server["id"], port)
        self.await_status("DOWN", [port])
        server["ports"].remove(port)
        self.check([("a", server)], a=[server])
        self.await_status("ACTIVE", server["ports"])
