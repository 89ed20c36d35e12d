# SPDX-License-Identifier: Apache-2.0
# mypy: ignore-errors
# (what it is made of, Neutron and its agents, has no types)
"""An agent of Neutron's, and as much of Neutron's server as it asks, in one
process: further than that oslo.messaging's fake transport does not go.

``python -m benchmarks.neutron ibhostdev|networking-mlnx CONFIGURATION PORTS``,
in an environment with both. PORTS is a file of JSON, read at each question:
the ports that are bound to VFs of this host, PCI addresses by MAC. What the
agent says comes as a line of JSON: what it was, of which port, and when.
"""

import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

_PORT_ID = "port-"
# Neutron's log goes to standard output, too.
_OUT = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def tell(what, port, at):
    line = json.dumps([what, port.removeprefix(_PORT_ID), at])
    print(line, file=_OUT, flush=True)


def hurry():
    """The fake transport's server looks for messages every 50 ms; another
    one would be told."""
    import threading

    from oslo_messaging._drivers import impl_fake

    told = threading.Condition()
    deliver = impl_fake.FakeExchange.deliver_message

    def deliver_message(*args, **kwargs):
        deliver(*args, **kwargs)
        with told:
            told.notify_all()

    def sleep(seconds):
        with told:
            told.wait(seconds)

    impl_fake.FakeExchange.deliver_message = deliver_message
    impl_fake.time = SimpleNamespace(time=time.time, sleep=sleep)


def serve(ports):
    """Once messages can be sent; agents are of no interest before that."""
    import oslo_messaging
    from neutron_lib import constants, rpc
    from neutron_lib.agent import constants as agent_constants
    from neutron_lib.agent import topics

    class Plugin:
        """neutron.plugins.ml2.rpc.RpcCallbacks, of whatever version."""

        target = oslo_messaging.Target(version="1.99")

        def get_devices_details_list(self, context, devices, **_):
            bound = json.loads(ports.read_text())
            return [details(device, bound) for device in devices]

        def get_ports_by_vnic_type_and_host(self, context, **_):
            return []

        def update_device_up(self, context, device, **_):
            tell("up", device, time.monotonic())

        def update_device_down(self, context, device, **_):
            tell("down", device, time.monotonic())
            return {"device": device, "exists": True}

        def update_device_list(self, context, devices_up, devices_down, **_):
            at = time.monotonic()
            for mac, _slot in devices_up:
                tell("up", mac, at)
            for device in devices_down:
                tell("down", device, at)
            return {
                "devices_up": devices_up,
                "failed_devices_up": [],
                "devices_down": devices_down,
                "failed_devices_down": [],
            }

    class Reports:
        """neutron.db.agents_db.AgentExtRpcCallback"""

        target = oslo_messaging.Target(
            version="1.99", namespace=constants.RPC_NAMESPACE_STATE
        )

        def report_state(self, context, **_):
            tell("alive", "", time.monotonic())
            return agent_constants.AGENT_ALIVE

    for topic, endpoint in (
        (topics.PLUGIN, Plugin()),
        (topics.REPORTS, Reports()),
    ):
        target = oslo_messaging.Target(topic=topic, server="controller")
        rpc.get_server(target, [endpoint]).start()


def details(device, bound):
    """The one agent names a port by its MAC, the other by MAC and VF."""
    mac, slot = (device, None) if isinstance(device, str) else device
    if mac not in bound or slot not in (None, bound[mac]):
        return {"device": device}
    return {
        "device": device,
        "port_id": f"{_PORT_ID}{mac}",
        "network_id": "network",
        "mac_address": mac,
        "admin_state_up": True,
        "network_type": "vlan",
        "segmentation_id": 42,
        "physical_network": "default",
        "profile": {"pci_slot": bound[mac]},
    }


def vendors():
    """networking-mlnx's agent. Its report of its state has a turn when its
    loop sleeps, and where a look takes longer than polling_interval that is
    never: here it is alive when it begins to look."""
    # It has eventlet change Python before anything else is imported.
    from networking_mlnx.cmd.eventlet.agents import mlnx_agent
    from networking_mlnx.plugins.ml2.drivers.mlnx.agent import (
        mlnx_eswitch_neutron_agent,
    )

    agent = mlnx_eswitch_neutron_agent.MlnxEswitchNeutronAgent
    own = agent.run

    def run(self):
        tell("alive", "", time.monotonic())
        own(self)

    agent.run = run
    return mlnx_agent


def main():
    name, settings, ports = sys.argv[1:]
    sys.argv[1:] = ["--config-file", settings]
    if name == "ibhostdev":
        from ibhostdev.neutron import agent
    else:
        agent = vendors()
    from neutron.common import config

    own = config.init

    def init(*args, **kwargs):
        own(*args, **kwargs)
        hurry()
        serve(Path(ports))

    config.init = init
    agent.main()


if __name__ == "__main__":
    main()
