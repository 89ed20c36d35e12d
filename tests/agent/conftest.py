# SPDX-License-Identifier: Apache-2.0
"""The agent's work on a simulated host, with a server that is played."""

import threading
from collections.abc import Collection, Sequence
from typing import Any

import pytest

from ibhostdev.batch import BatchResult
from ibhostdev.neutron.ports import Name, Ports
from ibhostdev.neutron.vnics import Vnics
from ibhostdev.privilege.request import Request
from tests.flavours import mac, vifs
from tests.testbed import Hca, Testbed

NETWORK = "default"


class Server:
    """What of Neutron the agent talks to."""

    def __init__(self) -> None:
        self.ports: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, int]] = []
        self.away = False
        self.refuses: set[str] = set()
        self.changed = threading.Condition()

    def bind(self, number: int, slot: str, **what: object) -> None:
        """A port of this host's, with the MAC of a number."""
        self.ports[f"port-{number}"] = {
            "port_id": f"port-{number}",
            "mac": mac(number),
            "slot": slot,
            "admin_state_up": True,
            "network_id": "net",
            "network_type": "flat",
            "segmentation_id": None,
            "status": "DOWN",
            "inactive": False,
        } | what

    def up(self) -> set[str]:
        return {
            name
            for name, port in self.ports.items()
            if port["status"] == "ACTIVE"
        }

    # -- as the agent has it

    def _find(self, name: Name) -> dict[str, Any] | None:
        for port in self.ports.values():
            if name in (port["port_id"], port["mac"]):
                return port
            if list(name) == [port["mac"], port["slot"]]:
                return port
        return None

    def _answer(self, name: Name) -> dict[str, Any]:
        device = name if isinstance(name, str) else name[0]
        port = self._find(name)
        if port is None:
            return {"device": device}
        if port["inactive"]:
            return {"device": device, "no_active_binding": True}
        port["status"] = "BUILD" if port["admin_state_up"] else "DOWN"
        keys = (
            "port_id",
            "admin_state_up",
            "network_id",
            "network_type",
            "segmentation_id",
        )
        return {
            "device": device,
            "profile": {"pci_slot": port["slot"]},
        } | {key: port[key] for key in keys}

    def _call(self, what: str, names: Sequence[Name]) -> None:
        self.asked.append((what, len(names)))
        if self.away:
            raise TimeoutError("no server")

    def details(self, devices: Sequence[Name]) -> list[dict[str, Any]]:
        self._call("details", devices)
        return [self._answer(one) for one in devices]

    def report(
        self, up: Sequence[Name], down: Sequence[Name]
    ) -> Collection[str]:
        self._call("report", [*up, *down])
        failed: set[str] = set()
        for names, status in ((up, "ACTIVE"), (down, "DOWN")):
            for name in names:
                port = self._find(name)
                if port and port["port_id"] in self.refuses:
                    failed.add(name if isinstance(name, str) else name[0])
                elif port:
                    port["status"] = status
        with self.changed:
            self.changed.notify_all()
        return failed

    def list_ports(self) -> list[dict[str, Any]]:
        self._call("ports", [])
        return [
            {
                "id": port["port_id"],
                "status": port["status"],
                "mac_address": port["mac"],
                "binding:profile": {"pci_slot": port["slot"]},
            }
            for port in self.ports.values()
        ]


class Plugin:
    """The server, as ports.Plugin has it."""

    def __init__(self, server: Server) -> None:
        self.details = server.details
        self.report = server.report
        self.ports = server.list_ports


class Node:
    """A host with PFs that are all on one physical network."""

    def __init__(self, bed: Testbed, *hcas: Hca) -> None:
        bed.build(*(hcas or (Hca(vfs=4),)))
        self.bed = bed
        self.host = bed.connect(physical_networks={NETWORK: bed.pfs})
        self.server = Server()
        self.batches: list[int] = []
        self.restart()

    def restart(self) -> None:
        self.vnics = Vnics(self.host)
        self.ports = Ports(self.vnics, Plugin(self.server), self.run)

    def run(self, asked: Request) -> BatchResult:
        self.batches.append(len(asked.vifs))
        return asked.run(self.host)

    def plug(self, *numbers: int, pf: int = 0, **how: Any) -> None:
        """Identities for VFs 0, 1, …, bound where they are plugged."""
        for index, number in enumerate(numbers):
            if f"port-{number}" not in self.server.ports:
                self.server.bind(number, self.bed.vf(pf, index))
        self.host.plug(vifs(self.bed, *numbers, pf=pf), **how)

    def unplug(self, *numbers: int) -> None:
        self.host.unplug(
            [vif._replace(pci=None) for vif in vifs(self.bed, *numbers)]
        )

    def work(self) -> bool:
        self.vnics.look()
        return self.ports.work()

    def links(self, pf: int = 0) -> list[str | None]:
        return [seen.policy for seen in self.bed.seen(pf)]


@pytest.fixture
def node(bed: Testbed) -> Node:
    return Node(bed)
