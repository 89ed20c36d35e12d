# SPDX-License-Identifier: Apache-2.0
"""The agent's work, without Neutron: what is seen is told, what is told is
done.

A port is reported up when a VF has its identity where Neutron has bound it,
its administrative state is up and its link and P_Key are as they have to be;
never before, and not when its identity is elsewhere, or twice.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ibhostdev.batch import BatchFailed, BatchResult, Vif
from ibhostdev.errors import IbHostdevError
from ibhostdev.inventory import Policy, VfState
from ibhostdev.neutron.vnics import Device, Side, Vnic, Vnics, is_mlx4
from ibhostdev.privilege.request import MAX_VIFS, Request

LOG = logging.getLogger(__name__)

_DEFAULT_PKEY = 0x7FFF
_HIGHEST_PKEY = 0x7FFE

#: A device as it goes over RPC: MAC and address, or the id of a port.
Name = list[str] | str


class Plugin(Protocol):
    """Neutron's server. Any exception means that it was not reached."""

    def details(self, devices: Sequence[Name]) -> list[dict[str, Any]]:
        """What the server knows of each, in this order."""

    def report(
        self, up: Sequence[Name], down: Sequence[Name]
    ) -> Collection[str]:
        """The MACs and ids of those for which it could not be done."""

    def ports(self) -> list[dict[str, Any]]:
        """All ports for VFs that are bound to this host."""


@dataclass
class Port:
    """What Neutron has said of a device. ``port_id`` is None for one that it
    does not know, and for one that is ``inactive``: bound to another host
    for now, as in a live migration."""

    port_id: str | None = None
    network_id: str | None = None
    inactive: bool = False
    admin_up: bool = False
    misplaced: bool = False
    pkey: int | None = None
    reported: bool | None = None  # up, down, nothing yet


class Ports:
    """``run`` has batches done, with the rights that they need."""

    def __init__(
        self,
        vnics: Vnics,
        plugin: Plugin,
        run: Callable[[Request], BatchResult],
    ) -> None:
        self._vnics = vnics
        self._plugin = plugin
        self._run = run
        self._ports: dict[Device, Port] = {}
        self._gone: set[str] = set()  # ids of ports to be reported down
        self._compare = True  # with all that Neutron takes for up
        self._told: set[tuple[object, ...]] = set()
        self._told_now: set[tuple[object, ...]] = set()
        # What Neutron says of itself, in other threads.
        self._lock = threading.Lock()
        self._updated: list[Callable[[Device, Port], bool]] = []
        self._deleted: set[str] = set()

    # -- from any thread ----------------------------------------------

    def port_updated(self, mac: str) -> None:
        """Something of the port with this MAC may be another."""
        self._ask_again(lambda device, _: device.mac == mac.lower())

    def binding_changed(self, port_id: str) -> None:
        """Those that have none that is active have no id, either."""
        self._ask_again(lambda _, port: port.port_id in (port_id, None))

    def network_deleted(self, network_id: str) -> None:
        """Its ports are gone, and nobody is to be told of them."""
        with self._lock:
            self._deleted.add(network_id)

    def resync(self) -> None:
        """The server may have missed anything."""
        with self._lock:
            self._compare = True
        self._ask_again(lambda *_: True)

    def _ask_again(self, which: Callable[[Device, Port], bool]) -> None:
        with self._lock:
            self._updated.append(which)

    # -- in the agent's own -------------------------------------------

    def work(self) -> bool:
        """Bring Neutron and the VFs to what is seen; whether all is done.

        After an exception nothing that Neutron was to be told is taken for
        told.
        """
        with self._lock:
            updated, self._updated = self._updated, []
            deleted, self._deleted = self._deleted, set()
            compare, self._compare = self._compare, False
        try:
            return self._work(updated, deleted, compare)
        except Exception:
            self.resync()
            raise

    def _work(
        self,
        updated: list[Callable[[Device, Port], bool]],
        deleted: set[str],
        compare: bool,
    ) -> bool:
        self._told_now = set()
        vnics = self._vnics.all()
        for device, port in list(self._ports.items()):
            if port.network_id in deleted:
                del self._ports[device]
            elif device not in vnics:
                del self._ports[device]
                if port.port_id:
                    LOG.info(
                        "Port %s: %s has its identity no more",
                        port.port_id,
                        device.pci,
                    )
                    self._gone.add(port.port_id)
        self._ask(
            [
                device
                for device in vnics
                if device not in self._ports
                or any(one(device, self._ports[device]) for one in updated)
            ]
        )
        if compare:
            self._compare_all()
        twins = self._vnics.twins()
        for device in twins:
            self._tell_twin(device, twins)
        undone = self._adjust(vnics, twins)
        done = self._report(twins, undone)
        self._told = self._told_now
        return done and not undone and not self._vnics.ill

    def _tell(self, key: tuple[object, ...], text: str, *args: object) -> None:
        """What is wrong is told once for as long as it is."""
        self._told_now.add(key)
        if key not in self._told:
            LOG.warning(text, *args)

    # -- what Neutron knows -------------------------------------------

    def _ask(self, devices: Sequence[Device]) -> None:
        if not devices:
            return
        answers = self._plugin.details([list(one) for one in devices])
        strangers = []
        for device, answer in zip(devices, answers, strict=True):
            self._ports[device] = port = _port(answer)
            if port.port_id is None and not port.inactive:
                strangers.append(device)
        if not strangers:
            return
        # Where else Neutron has bound their ports, if they are ports.
        answers = self._plugin.details([device.mac for device in strangers])
        for device, answer in zip(strangers, answers, strict=True):
            self._place(device, answer)

    def _place(self, device: Device, answer: Mapping[str, Any]) -> None:
        port = _port(answer)
        slot = (answer.get("profile") or {}).get("pci_slot")
        at = Device(device.mac, slot) if slot else None
        if port.port_id is None or slot == device.pci:
            LOG.info(
                "%s has the identity of MAC %s, which is no port of this "
                "host's: left alone",
                device.pci,
                device.mac,
            )
        elif at in self._ports:
            # To have asked is enough for Neutron to take it for not up yet.
            self._ports[at].reported = None
        else:
            port.misplaced = True
            self._ports[device] = port
        if port.misplaced:
            self._tell_misplaced(device, port, slot)

    def _tell_misplaced(
        self, device: Device, port: Port, slot: object
    ) -> None:
        self._tell(
            (port.port_id, device, slot),
            "Port %s is not up: its identity is on %s, and Neutron has bound "
            "it to %s; 'ibhostdev unplug %s', then hard reboot its server",
            port.port_id,
            device.pci,
            slot or "no device",
            device.mac,
        )

    def _tell_twin(self, device: Device, twins: Collection[Device]) -> None:
        port = self._ports[device]
        where = sorted(one.pci for one in twins if one.mac == device.mac)
        if port.port_id is not None:
            self._tell(
                (port.port_id, *where),
                "Port %s is not up: its identity is on %s at once; "
                "'ibhostdev unplug %s', then hard reboot its server",
                port.port_id,
                " and ".join(where),
                device.mac,
            )

    def _compare_all(self) -> None:
        """What was taken for up, and has no identity here: it was unplugged,
        or lost, while nobody looked."""
        if self._vnics.ill:
            with self._lock:
                self._compare = True  # when they can be seen
            return
        known = {port.port_id for port in self._ports.values()}
        ours = self._vnics.addresses()
        for port in self._plugin.ports():
            slot = (port.get("binding:profile") or {}).get("pci_slot")
            if port["id"] in known or slot not in ours:
                continue
            # To have been asked for it is enough to be in BUILD.
            if port.get("status") not in ("ACTIVE", "BUILD"):
                continue
            if port["status"] == "ACTIVE":
                self._tell(
                    (port["id"], slot),
                    "Port %s is not up: no Virtual Function has its identity "
                    "(MAC %s), which is to be on %s; if its server runs, "
                    "hard reboot it",
                    port["id"],
                    port.get("mac_address"),
                    slot,
                )
            self._gone.add(port["id"])

    # -- links and partitions -----------------------------------------

    def _adjust(
        self, vnics: Mapping[Device, Vnic], twins: Collection[Device]
    ) -> set[Device]:
        """Those that are not as they have to be. What is in doubt is left
        alone."""
        undone: set[Device] = set()
        wishes: dict[Device, VfState] = {}
        tables: dict[Side, dict[int, list[str]]] = {}
        for device, vnic in vnics.items():
            port = self._ports[device]
            if port.misplaced or device in twins:
                continue
            if port.port_id is None and not port.inactive:
                continue
            policy, pkeys = _policy(vnic, port), None
            if is_mlx4(vnic.side) and port.pkey is not None:
                if vnic.side not in tables:
                    tables[vnic.side] = self._vnics.pkey_places(vnic.side)
                places = tables[vnic.side].get(port.pkey)
                if places is None:
                    self._tell_no_pkey(port, port.pkey, vnic)
                    undone.add(device)
                elif vnic.pkeys and vnic.pkeys[0] not in places:
                    # Where a plug has put it, it stays.
                    pkeys = (places[0], "none")
            if policy or pkeys:
                wishes[device] = VfState(policy=policy, pkeys=pkeys)
        items = list(wishes.items())
        for at in range(0, len(items), MAX_VIFS):
            undone |= self._adjust_some(items[at : at + MAX_VIFS], vnics)
        return undone

    def _tell_no_pkey(self, port: Port, pkey: int, vnic: Vnic) -> None:
        self._tell(
            (port.port_id, pkey),
            "Port %s is not up: the subnet manager has not given P_Key "
            "0x%04x to PF %s; it is looked for again",
            port.port_id,
            pkey | 0x8000,
            vnic.side.pf.pci,
        )

    def _adjust_some(
        self,
        wishes: Sequence[tuple[Device, VfState]],
        vnics: Mapping[Device, Vnic],
    ) -> set[Device]:
        request = Request(
            "adjust",
            tuple(
                Vif.parse(device.pci, device.mac, vnics[device].side.network)
                for device, _ in wishes
            ),
            states=tuple(state for _, state in wishes),
        )
        try:
            result = self._run(request)
        except BatchFailed as error:
            result = error.result
        except IbHostdevError as error:
            self._tell(("batch", str(error)), "Links are not set: %s", error)
            return {device for device, _ in wishes}
        for warning in result.warnings:
            self._tell(("warning", warning), "%s", warning)
        undone = set()
        for (device, state), one in zip(wishes, result.results, strict=True):
            if one.error is None:
                self._vnics.settled(device, state)
                LOG.info(
                    "%s with MAC %s: link %s, P_Key %s",
                    device.pci,
                    device.mac,
                    state.policy or "left",
                    state.pkeys[0] if state.pkeys else "left",
                )
                continue
            self._tell(
                (device, str(one.error)), "A link is not set: %s", one.error
            )
            undone.add(device)
        return undone

    # -- reports ------------------------------------------------------

    def _report(
        self, twins: Collection[Device], undone: Collection[Device]
    ) -> bool:
        up: dict[Device, Port] = {}
        down: dict[Device, Port] = {}
        for device, port in self._ports.items():
            if port.port_id is None:
                continue
            if port.misplaced or device in twins or not port.admin_up:
                if port.reported is not False:
                    down[device] = port
            elif device not in undone and port.reported is not True:
                up[device] = port
        # One that has its identity again, elsewhere, is not gone.
        gone = self._gone - {
            port.port_id for port in self._ports.values() if port.port_id
        }
        if not (up or down or gone):
            self._gone = gone
            return True
        failed = self._plugin.report(
            [list(one) for one in up],
            [
                *(port.port_id for port in down.values() if port.port_id),
                *sorted(gone),
            ],
        )
        for device, port in up.items():
            if device.mac not in failed:
                port.reported = True
                LOG.info("Port %s is up on %s", port.port_id, device.pci)
        for port in down.values():
            if port.port_id not in failed:
                port.reported = False
                LOG.info("Port %s is down", port.port_id)
        for port_id in gone:
            if port_id not in failed:
                LOG.info("Port %s is down", port_id)
        self._gone = gone & set(failed)
        return not failed


def _policy(vnic: Vnic, port: Port) -> Policy | None:
    """What the link has to become; None if it is right. One that somebody
    has forced up is up."""
    if vnic.policy is None:
        return None
    if port.port_id is None or not port.admin_up:
        return None if vnic.policy == Policy.DOWN else Policy.DOWN
    return Policy.FOLLOW if vnic.policy == Policy.DOWN else None


def _port(answer: Mapping[str, Any]) -> Port:
    """As neutron.plugins.ml2.rpc answers."""
    if "port_id" not in answer:
        # neutron_lib.constants.NO_ACTIVE_BINDING
        return Port(inactive=bool(answer.get("no_active_binding")))
    pkey: int | None = None
    if answer.get("network_type") == "flat":
        pkey = _DEFAULT_PKEY
    elif answer.get("network_type") == "vlan":
        segment = answer.get("segmentation_id")
        if isinstance(segment, int) and 0 < segment <= _HIGHEST_PKEY:
            pkey = segment
    return Port(
        port_id=answer["port_id"],
        network_id=answer.get("network_id"),
        admin_up=bool(answer.get("admin_state_up")),
        pkey=pkey,
    )
