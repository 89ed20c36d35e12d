# SPDX-License-Identifier: Apache-2.0
# mypy: ignore-errors
# (what it is made of, Neutron's tests, has no types)
"""Neutron for a cloud of Nova's: its REST API, its ML2 plugin with
networking-mlnx's mechanism driver, its messages to Nova, and the agent.

``server.py HOST FOLDER PF NETWORK``: the agent is on the simulated host that
somebody else serves in that folder. It tells lines of JSON: "answer" to what
it is asked on standard input, and "events" as they are for Nova.
"""

import json
import os
import sys
import threading
from wsgiref import simple_server

import fixtures
from neutron.api import extensions
from neutron.conf import policies
from neutron import policy
from neutron_lib import context
from oslo_config import cfg
import testtools

import cloud

# Neutron's log goes to standard output, too.
_OUT = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
HOST, FOLDER, PF, NETWORK = sys.argv[1:]
# Of a cloud with one node.
cloud.HOST, cloud.NETWORK = HOST, NETWORK


def tell(what, value):
    print(json.dumps([what, value]), file=_OUT, flush=True)


class Node(cloud.Node):
    """Whose hardware is another process's."""

    def __init__(self, test):
        self.folder = FOLDER
        self.mappings = {NETWORK: (PF,)}
        self.batches = 0
        self.agent = None
        self.host = self.connect()
        test.addCleanup(self.stop_agent)


class Handler(simple_server.WSGIRequestHandler):
    def log_message(self, *args):
        pass


class Cloud(cloud.NeutronTestCase):
    def setUp(self):
        self.useFixture(
            fixtures.MonkeyPatch(
                "neutron.notifiers.nova.Notifier.send_events",
                lambda _, events: tell("events", events),
            )
        )
        super().setUp()
        # Neutron's tests tell Nova nothing.
        self.patch_notifier.stop()
        cfg.CONF.set_override("send_events_interval", 1)

    def setup_parent(self):
        cfg.CONF.set_override(
            "network_vlan_ranges", [f"{NETWORK}:1:100"], "ml2_type_vlan"
        )
        super().setup_parent()

    def setup_coreplugin(self, *args, **kwargs):
        cfg.CONF.set_override("notify_nova_on_port_status_changes", True)
        super().setup_coreplugin(*args, **kwargs)

    def make_node(self):
        return Node(self)

    # -- the API

    def serve_api(self):
        """With all extensions, and for nobody but the administrator."""
        made = extensions.plugin_aware_extension_middleware_factory({})
        self.app = made(self.api)
        policy.reset()
        policies.reload_default_policies()
        policy.init()
        server = simple_server.make_server(
            "127.0.0.1", 0, self.answer, handler_class=Handler
        )
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        threading.Thread(target=server.serve_forever).start()
        return server.server_port

    def answer(self, environ, start_response):
        environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix("/v2.0")
        environ["neutron.context"] = context.Context(
            "nova", "service", is_admin=True, roles=["admin", "service"]
        )
        with self.db:
            return self.app(environ, start_response)

    # -- what is asked on standard input

    def runTest(self):
        asked = {
            "stop agent": self.node.stop_agent,
            "start agent": self.node.start_agent,
        }
        tell("answer", {"port": self.serve_api(), "network": self.net["id"]})
        for line in sys.stdin:
            asked[json.loads(line)]()
            tell("answer", None)


if __name__ == "__main__":
    result = testtools.TestResult()
    Cloud("runTest").run(result)
    for _, told in result.errors + result.failures:
        print(told, file=sys.stderr)
