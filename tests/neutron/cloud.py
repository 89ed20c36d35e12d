# SPDX-License-Identifier: Apache-2.0
# mypy: ignore-errors
# (what it is made of, Neutron's tests, has no types)
"""A Neutron for tests: its own ML2 plugin with networking-mlnx's mechanism
driver, its own RPC, and the agent on a simulated host.

Messages go by oslo.messaging's fake transport, from and to threads of the
server's and of the agent's. Neutron's tests have one connection to their
database, which is in memory, so that one of these threads is in it at a time.
"""

import contextlib
from functools import wraps
import inspect
import json
import threading
import time

# First of all: up to Neutron 27 its tests change Python by eventlet unless
# that is done already, and the agent is not made for that; it never is when
# it is run.
with contextlib.suppress(ImportError):
    from neutron.common import eventlet_utils

    eventlet_utils.IS_MONKEY_PATCHED = True

import fixtures
from neutron.conf.agent import common as agent_config
from neutron.conf import service as service_config
from neutron.db import agents_db
from neutron.plugins.ml2 import rpc as ml2_rpc
from neutron.tests.unit.plugins.ml2 import test_plugin
from neutron_lib.agent import topics
from neutron_lib import constants
from neutron_lib import context
from neutron_lib import rpc as lib_rpc
from oslo_config import cfg
import oslo_messaging

from ibhostdev import batch
from ibhostdev import guid
from ibhostdev.neutron import agent as ib_agent
from ibhostdev.neutron import options
from ibhostdev.privilege import conf
from ibhostdev.privilege import request
from ibhostdev import simulate
from ibhostdev.simulate import model
from ibhostdev.simulate import server

CONF = cfg.CONF
HOST = "node-1"
OTHER_HOST = "node-2"
NETWORK = "physnet1"
VLAN = 42
# Whoever waits for something waits so long for it at most.
SECONDS = 600


class Killed(BaseException):
    pass


class Node:
    """A compute node: a simulated host, what plugs on it, and the agent."""

    def __init__(self, test, vfs, family="mlx5"):
        self._test = test
        self.folder = test.useFixture(fixtures.TempDir()).path + "/host"
        self.hardware = server.SimulatedHost(
            self.folder, [model.HcaSpec(family, vfs=vfs)]
        ).start()
        test.addCleanup(self.hardware.close)
        (self.pf,) = self.hardware.machine.pfs
        self.slots = [vf.address for vf in self.pf.vfs]
        self.mappings = {NETWORK: (self.pf.address,)}
        self.host = self.connect()
        self.batches = 0
        self.agent = None
        test.addCleanup(self.stop_agent)

    def connect(self):
        return simulate.connect(self.folder, physical_networks=self.mappings)

    def _run(self, asked):
        """As it crosses to the privileged daemon."""
        self.batches += 1
        plain = json.loads(json.dumps(asked.to_plain()))
        answer = request.run(plain, lambda _: self.host)
        return request.read_answer(json.loads(json.dumps(answer)))

    def start_agent(self):
        self.agent = ib_agent.Agent(self.connect(), self._run, self.mappings)
        # Neutron binds no port before it knows the agent.
        self.agent.report_state()
        self._thread = threading.Thread(target=run, args=[self.agent])
        self._thread.start()

    def kill_agent(self):
        """It ends where it next talks to the server, in whatever it is."""

        def die(*args):
            raise Killed()

        for name in ("details", "report", "ports"):
            setattr(self.agent.ports._plugin, name, die)
        self.agent.ports.resync()
        self.agent.loop.wake()
        self._thread.join()
        self.agent = None

    def stop_agent(self):
        if self.agent:
            self.agent.stop()
            self._thread.join()
        self.agent = None

    @contextlib.contextmanager
    def guest(self, slot):
        """Has the VF."""
        write = self.hardware.kernel.write
        write("bus/pci/drivers/mlx5_core/unbind", f"{slot}\n")
        write(f"bus/pci/devices/{slot}/driver_override", "vfio-pci\n")
        write("bus/pci/drivers/vfio-pci/bind", f"{slot}\n")
        with self.hardware.hold(slot):
            yield

    def plug(self, *ports):
        self.host.plug([vif_of(port) for port in ports])

    def unplug(self, *ports):
        self.host.unplug([vif_of(port) for port in ports])

    def link(self, port):
        slot = port["binding:profile"]["pci_slot"]
        return {model.FOLLOW: "follow", model.DOWN: "down", model.UP: "up"}[
            self.hardware.kernel.vf(slot).policy
        ]

    def identities(self):
        """MACs by slot."""
        return {
            vf.address: guid.Guid(vf.port).mac
            for vf in self.pf.vfs
            if guid.Guid(vf.port).mac
        }


def run(agent):
    with contextlib.suppress(Killed):
        agent.run()


def vif_of(port):
    return batch.Vif.parse(
        port["binding:profile"]["pci_slot"], port["mac_address"], NETWORK
    )


class NeutronTestCase(test_plugin.Ml2PluginV2TestCase):
    """One node, with an agent that runs."""

    _mechanism_drivers = ["mlnx_infiniband"]
    vfs = 6
    timeout = SECONDS  # of a call to the server

    def setUp(self):
        super().setUp()
        agent_config.register_agent_state_opts_helper(CONF)
        service_config.register_service_opts(
            service_config.RPC_EXTRA_OPTS, CONF
        )
        conf.register_opts(CONF)
        options.register_opts(CONF)
        CONF.set_override("host", HOST)
        # Reports are not awaited, and no busy machine makes the agent dead.
        CONF.set_override("report_interval", 3600, "AGENT")
        CONF.set_override("agent_down_time", 24 * 3600)
        CONF.set_override("polling_interval", 0, "ibhostdev_agent")
        CONF.set_override("rpc_response_timeout", self.timeout)
        self.ctx = context.get_admin_context()
        self.db = threading.RLock()
        self.calls = []
        self.servers = []
        self.start_server()
        self.addCleanup(self.stop_server)
        self.node = self.make_node()
        self.node.start_agent()
        self.net = self.make_network()

    def make_node(self):
        return Node(self, self.vfs)

    # -- Neutron's server

    def start_server(self):
        """Its RPC: plugin and reports."""
        for topic, endpoint in (
            (
                topics.PLUGIN,
                ml2_rpc.RpcCallbacks(
                    self.driver.notifier, self.driver.type_manager
                ),
            ),
            (topics.REPORTS, agents_db.AgentExtRpcCallback(self.driver)),
        ):
            one = lib_rpc.get_server(
                oslo_messaging.Target(topic=topic, server="controller"),
                [self._locked(endpoint)],
            )
            one.start()
            self.servers.append(one)

    def stop_server(self):
        while self.servers:
            one = self.servers.pop()
            one.stop()
            one.wait()

    def _locked(self, endpoint):
        for name in dir(type(endpoint)):
            method = getattr(endpoint, name)
            if not name.startswith("_") and inspect.ismethod(method):
                setattr(endpoint, name, self._in_turn(name, method))
        return endpoint

    def _in_turn(self, name, method):
        @wraps(method)
        def called(*args, **kwargs):
            with self.db:
                self.calls.append((name, len(kwargs.get("devices", ()))))
                return method(*args, **kwargs)

        return called

    # -- what Nova and users do

    def make_network(self, vlan=VLAN):
        with self.db:
            network = self.driver.create_network(
                self.ctx,
                {
                    "network": {
                        "name": "ib",
                        "tenant_id": "tenant",
                        "admin_state_up": True,
                        "shared": False,
                        "provider:network_type": "vlan",
                        "provider:physical_network": NETWORK,
                        "provider:segmentation_id": vlan,
                    }
                },
            )
            unset = constants.ATTR_NOT_SPECIFIED
            self.driver.create_subnet(
                self.ctx,
                {
                    "subnet": {
                        "name": "",
                        "tenant_id": "tenant",
                        "network_id": network["id"],
                        "ip_version": 4,
                        "cidr": "10.0.0.0/16",
                        "subnetpool_id": None,
                        "prefixlen": unset,
                        "gateway_ip": None,
                        "allocation_pools": unset,
                        "enable_dhcp": False,
                        "dns_nameservers": unset,
                        "host_routes": unset,
                        "ipv6_address_mode": unset,
                        "ipv6_ra_mode": unset,
                    }
                },
            )
        return network

    def make_port(self, slot=None, host=HOST, **what):
        """Bound to a VF as Nova does it, if there is a slot."""
        with self.db:
            port = self.driver.create_port(
                self.ctx,
                {
                    "port": {
                        "name": "",
                        "tenant_id": "tenant",
                        "network_id": self.net["id"],
                        "mac_address": constants.ATTR_NOT_SPECIFIED,
                        "fixed_ips": constants.ATTR_NOT_SPECIFIED,
                        "admin_state_up": True,
                        "device_id": "",
                        "device_owner": "",
                        "binding:vnic_type": "direct",
                    }
                    | what
                },
            )
        return self.bind(port, slot, host) if slot else port

    def update_port(self, port, **what):
        with self.db:
            return self.driver.update_port(
                self.ctx, port["id"], {"port": what}
            )

    def bind(self, port, slot, host=HOST):
        return self.update_port(
            port,
            **{
                "binding:host_id": host,
                "binding:profile": {
                    "pci_slot": slot,
                    "pci_vendor_info": "15b3:101e",
                },
                "device_id": "server",
                "device_owner": "compute:nova",
            },
        )

    def make_host(self, host):
        """Another one with an agent that is alive."""
        state = dict(self.node.agent._state, host=host)
        with self.db:
            self.driver.create_or_update_agent(self.ctx, state)

    def make_binding(self, port, slot):
        """To this host, of a port that is bound to another: not active."""
        binding = {
            "host": HOST,
            "vnic_type": "direct",
            "profile": {"pci_slot": slot},
        }
        with self.db:
            self.driver.create_port_binding(
                self.ctx, port["id"], {"binding": binding}
            )

    def activate(self, port):
        with self.db:
            self.driver.activate(self.ctx, HOST, port["id"])

    def delete_network(self):
        with self.db:
            self.driver.delete_network(self.ctx, self.net["id"])

    def delete_port(self, port):
        with self.db:
            self.driver.delete_port(self.ctx, port["id"])

    def status(self, port):
        with self.db:
            return self.driver.get_port(self.ctx, port["id"])["status"]

    # -- what is awaited

    def await_that(self, what, holds):
        end = time.monotonic() + SECONDS
        while not holds():
            self.assertLess(time.monotonic(), end, what)
            time.sleep(0.2)  # who asks all the time keeps the agent waiting

    def await_status(self, status, *ports):
        for port in ports:
            self.await_that(
                f"{port['id']} is not {status}",
                lambda port=port: self.status(port) == status,
            )
