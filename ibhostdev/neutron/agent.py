# SPDX-License-Identifier: Apache-2.0
"""The agent as Neutron knows it: its RPC, its reports and its program.

To Neutron it is networking-mlnx's agent: of the same type, with the same
mapping in its report, listening to the same topics, and to those of bindings
besides.
"""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Sequence
import signal
import socket
import sys
import threading
from typing import Any

from neutron.agent import rpc as agent_rpc
from neutron.common import config as common_config
from neutron.conf.agent import common as agent_config
from neutron.conf import service as service_config
from neutron_lib.agent import constants as agent_constants
from neutron_lib.agent import topics
from neutron_lib.api.definitions import portbindings
from neutron_lib import constants
from neutron_lib import context
from neutron_lib import rpc as lib_rpc
from oslo_config import cfg
from oslo_log import log as logging
import oslo_messaging

from ibhostdev import batch
from ibhostdev import errors
from ibhostdev import host
from ibhostdev.host import networks
from ibhostdev.host import vendor
from ibhostdev.neutron import loop
from ibhostdev.neutron import options
from ibhostdev.neutron import ports
from ibhostdev.neutron import program
import ibhostdev.privilege.privsep
from ibhostdev.privilege import request

LOG = logging.getLogger(__name__)
CONF = cfg.CONF

# networking_mlnx/plugins/ml2/drivers/mlnx/mech_mlnx.py, AGENT_TYPE_MLNX
AGENT_TYPE = "Mellanox plugin agent"
# The server takes some ten milliseconds for a device, and has a minute for an
# answer ([DEFAULT] rpc_response_timeout).
_AT_ONCE = 256


class Callbacks:
    """What Neutron's server says to all agents."""

    target = oslo_messaging.Target(version="1.5")

    def __init__(self, agent: "Agent") -> None:
        self._agent = agent

    def port_update(self, context: Any, **kwargs: Any) -> None:
        mac = (kwargs.get("port") or {}).get("mac_address")
        if mac:
            self._agent.ports.port_updated(mac)
            self._agent.loop.wake()

    def network_delete(self, context: Any, **kwargs: Any) -> None:
        network_id = kwargs.get("network_id")
        if network_id:
            self._agent.ports.network_deleted(network_id)
            self._agent.loop.wake()

    def binding_activate(self, context: Any, **kwargs: Any) -> None:
        self._binding(kwargs)

    def binding_deactivate(self, context: Any, **kwargs: Any) -> None:
        self._binding(kwargs)

    def _binding(self, kwargs: dict[str, Any]) -> None:
        port_id = kwargs.get("port_id")
        if port_id and kwargs.get("host") == self._agent.host:
            self._agent.ports.binding_changed(port_id)
            self._agent.loop.wake()


class Server:
    """Neutron's server, as ports.Plugin has it."""

    def __init__(self, agent_id: str, host: str) -> None:
        self._api = agent_rpc.PluginApi(topics.PLUGIN)
        self._context = context.get_admin_context_without_session()
        self._agent_id = agent_id
        self._host = host

    def details(self, devices: Sequence[ports.Name]) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = []
        for at in range(0, len(devices), _AT_ONCE):
            answers += self._api.get_devices_details_list(
                self._context,
                list(devices[at : at + _AT_ONCE]),
                self._agent_id,
                self._host,
            )
        return answers

    def report(
        self, up: Sequence[ports.Name], down: Sequence[ports.Name]
    ) -> Collection[str]:
        answer = self._api.update_device_list(
            self._context, up, down, self._agent_id, self._host
        )
        return {
            name if isinstance(name, str) else name[0]
            for name in (
                *answer["failed_devices_up"],
                *answer["failed_devices_down"],
            )
        }

    def ports(self) -> list[dict[str, Any]]:
        found = self._api.get_ports_by_vnic_type_and_host(
            self._context, portbindings.VNIC_DIRECT, self._host
        )
        # Not those that have an inactive binding here.
        return [
            port
            for port in found
            if port.get(portbindings.HOST_ID) == self._host
        ]


class Agent:
    """All of it, for a host and with a way to have batches done there."""

    def __init__(
        self,
        here: host.Host,
        run: Callable[[request.Request], batch.BatchResult],
        mappings: dict[str, tuple[str, ...]],
    ) -> None:
        self.host = CONF.host
        agent_id = f"ibhostdev-agent.{socket.gethostname()}"
        self._context = context.get_admin_context_without_session()
        self._reports = agent_rpc.PluginReportStateAPI(topics.REPORTS)
        self._state: dict[str, Any] = {
            "binary": program.BINARY,
            "host": self.host,
            "topic": constants.L2_AGENT_TOPIC,
            "configurations": {
                "interface_mappings": {
                    name: list(devices) for name, devices in mappings.items()
                },
                "devices": 0,
            },
            "agent_type": AGENT_TYPE,
            "start_flag": True,
        }
        self._lost = False
        self._ended = threading.Event()
        self.loop = loop.Loop(
            here,
            Server(agent_id, self.host),
            run,
            CONF.ibhostdev_agent.polling_interval,
        )
        self.ports = self.loop.ports
        self._servers = [
            self._listen(topic)
            for topic in (
                (topics.PORT, topics.UPDATE),
                (topics.NETWORK, topics.DELETE),
                (topics.PORT_BINDING, topics.ACTIVATE),
                (topics.PORT_BINDING, topics.DEACTIVATE),
            )
        ]
        self._heart = threading.Thread(
            target=self._beat, name="heartbeat", daemon=True
        )

    def _listen(self, topic: tuple[str, str]) -> Any:
        target = oslo_messaging.Target(
            topic=topics.get_topic_name(topics.AGENT, *topic),
            server=self.host,
            fanout=True,
        )
        return lib_rpc.get_server(target, [Callbacks(self)])

    def run(self) -> None:
        """Until stop()."""
        for server in self._servers:
            server.start()
        self._heart.start()
        try:
            self.loop.run()
        finally:
            self._ended.set()
            for server in self._servers:
                server.stop()
            for server in self._servers:
                server.wait()
            self._heart.join(timeout=1)
            self.loop.close()

    def stop(self) -> None:
        """From any thread, or a handler of signals."""
        self._ended.set()
        self.loop.stop()

    def _beat(self) -> None:
        while True:
            self.report_state()
            if self._ended.wait(CONF.AGENT.report_interval or None):
                return

    def report_state(self) -> None:
        """That it lives. A server that has missed that is told all again."""
        try:
            self._state["configurations"]["devices"] = len(self.loop.vnics)
            status = self._reports.report_state(
                self._context, self._state, use_call=True
            )
        except Exception as error:  # an agent outlives any server
            if not self._lost:
                LOG.error("Neutron's server does not answer: %s", error)
            self._lost = True
            return
        self._state.pop("start_flag", None)
        if self._lost or status == agent_constants.AGENT_REVIVED:
            LOG.info("Neutron's server answers again: it is told everything")
            self._lost = False
            self.ports.resync()
            self.loop.wake()


def refuse_eswitchd() -> None:
    """Where it runs the other agent may, too.

    :raises IbHostdevError: if eswitchd runs on this host
    """
    if CONF.ibhostdev_agent.beside_eswitchd:
        return
    try:
        vendor.require_daemon()
    except errors.NotRunning:
        return
    raise errors.CommandFailed(
        "runs on this host, and networking-mlnx's agent may, too",
        "eswitchd",
        cure="stop both (systemctl disable --now neutron-mlnx-agent "
        "eswitchd), or set [ibhostdev_agent] beside_eswitchd",
    )


def make() -> Agent:
    """As Neutron's files and [ibhostdev] say.

    :raises IbHostdevError: if it cannot work
    """
    mappings = networks.parse_mappings(CONF.ibhostdev.physical_device_mappings)
    if not mappings:
        raise errors.InvalidInput(
            "names no device, and Neutron binds no port here without",
            attribute="[ibhostdev] physical_device_mappings",
            cure="set it as in default:ib0, or to the value that [ESWITCH] "
            "physical_interface_mappings has",
        )
    refuse_eswitchd()
    here = ibhostdev.privilege.privsep.host()
    for doubt in here.doubts():
        LOG.warning("%s", doubt)
    return Agent(here, ibhostdev.privilege.privsep.call, mappings)


def start_daemon() -> None:
    """Before it is needed; what is in its way may have passed by then."""
    try:
        ibhostdev.privilege.privsep.call(request.Request("plug", ()))
    except errors.IbHostdevError as error:
        LOG.error("Links of ports cannot be set for now: %s", error)


def main() -> None:
    """The program ``ibhostdev-neutron-agent``."""
    common_config.register_common_config_options()
    agent_config.register_root_helper(CONF)
    agent_config.register_agent_state_opts_helper(CONF)
    service_config.register_service_opts(service_config.RPC_EXTRA_OPTS, CONF)
    options.register_opts(CONF)
    common_config.init(sys.argv[1:])
    common_config.setup_logging()
    agent_config.setup_privsep()
    ibhostdev.privilege.privsep.mend()
    try:
        agent = make()
    except errors.IbHostdevError as error:
        LOG.error("The agent does not start: %s", error)
        sys.exit(f"{program.BINARY}: {error}")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.stop())
    threading.Thread(target=start_daemon, name="daemon", daemon=True).start()
    LOG.info("The agent runs")
    agent.run()
