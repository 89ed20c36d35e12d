# SPDX-License-Identifier: Apache-2.0
"""Which VFs have the identities of ports: one look at each PF."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

from ibhostdev.errors import IbHostdevError
from ibhostdev.host import Host
from ibhostdev.inventory import Family, Pf, Policy, VfState

LOG = logging.getLogger(__name__)

# include/linux/mlx4/device.h, MLX4_MAX_PORT_PKEYS
_MOST_PKEYS = 128
# The top bit of a P_Key says full from limited members.
_PKEY = 0x7FFF


class Device(NamedTuple):
    """What Neutron calls a device: a port's MAC on a VF."""

    mac: str
    pci: str


class Side(NamedTuple):
    """A PF on the port with which it is on a physical network."""

    pf: Pf
    network: str

    @property
    def key(self) -> tuple[str, int]:
        return self.pf.pci, self.pf.port


class Vnic(NamedTuple):
    """A VF with the identity of a port."""

    side: Side
    policy: Policy | None
    pkeys: tuple[str, str] | None


class Vnics:
    """All of the PFs that are mapped to physical networks, as last seen."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._sides: dict[tuple[str, int], Side] = {}
        self._seen: dict[tuple[str, int], dict[Device, Vnic]] = {}
        self._unmapped: set[str] = set()
        self.ill: set[tuple[str, int]] = set()
        """Sides that could not be looked at."""

    def __len__(self) -> int:
        return sum(map(len, self._seen.values()))

    def all(self) -> dict[Device, Vnic]:
        found: dict[Device, Vnic] = {}
        for side in self._seen.values():
            found |= side
        return found

    def twins(self) -> set[Device]:
        """Those whose identity is on more than one VF of a network."""
        counts = Counter(
            (vnic.side.network, device.mac)
            for device, vnic in self.all().items()
        )
        return {
            device
            for device, vnic in self.all().items()
            if counts[vnic.side.network, device.mac] > 1
        }

    def addresses(self) -> set[str]:
        """Of all VFs of these PFs."""
        return {
            str(side.pf.vf_address(index))
            for side in self._sides.values()
            for index in range(side.pf.numvfs)
        }

    def settled(self, device: Device, state: VfState) -> None:
        """What has been made of one, until it is seen."""
        for side in self._seen.values():
            if vnic := side.get(device):
                side[device] = vnic._replace(
                    policy=vnic.policy and (state.policy or vnic.policy),
                    pkeys=vnic.pkeys and (state.pkeys or vnic.pkeys),
                )

    # -- looking ------------------------------------------------------

    def look(self, marked: Collection[str] | None = None) -> None:
        """At the PFs that were ``marked``, or at all. What cannot be seen is
        taken to be as it was; it is among ``ill`` then."""
        before = self._sides
        if marked is None or any(map(self._is_new, marked)):
            self._find_sides()
        for key, side in self._sides.items():
            if (
                marked is None
                or side.pf.pci in marked
                or key in self.ill
                or before.get(key) != side
            ):
                self._look(key, side)

    def _is_new(self, pci: str) -> bool:
        """Whether a PF is not what it was: VFs are enabled, and disabled."""
        for side in self._sides.values():
            if side.pf.pci == pci:
                return self._numvfs(side.pf) != side.pf.numvfs
        return pci not in self._unmapped

    def _numvfs(self, pf: Pf) -> int:
        (value,) = self._host.sysfs.read([f"{pf.path}/sriov_numvfs"])
        try:
            return int(value) if isinstance(value, bytes) else 0
        except ValueError:
            return 0

    def _find_sides(self) -> None:
        sides: dict[tuple[str, int], Side] = {}
        pfs = self._host.pfs
        for pf in pfs:
            for port, networks in (self._host.networks(pf) or {}).items():
                side = Side(pf.on_port(port), networks[0])
                sides[side.key] = side
        for key, side in self._sides.items():
            # One that is ill is not listed; its VFs may be well.
            if key not in sides and self._numvfs(side.pf):
                sides[key] = side
        self._sides = sides
        mapped = {pf for pf, _ in sides}
        self._unmapped = {str(pf.pci) for pf in pfs} - mapped
        self._seen = {key: self._seen.get(key, {}) for key in sides}
        self.ill &= sides.keys()

    def _look(self, key: tuple[str, int], side: Side) -> None:
        pf = side.pf
        try:
            states = (
                self._host.survey(pf, range(pf.numvfs)) if pf.numvfs else {}
            )
        except IbHostdevError as error:
            if key not in self.ill:
                LOG.error("The ports of PF %s are not seen: %s", pf.pci, error)
            self.ill.add(key)
            return
        if key in self.ill:
            LOG.info("The ports of PF %s are seen again", pf.pci)
        self.ill.discard(key)
        untold = {
            str(pf.vf_address(index))
            for index in range(pf.numvfs)
            if index not in states
        }
        seen = {
            device: vnic
            for device, vnic in self._seen[key].items()
            if device.pci in untold
        }
        for index, state in states.items():
            if mac := mac_of(state):
                device = Device(mac, str(pf.vf_address(index)))
                seen[device] = Vnic(side, state.policy, state.pkeys)
        self._seen[key] = seen

    def pkey_places(self, side: Side) -> dict[int, list[str]]:
        """mlx4: where in the port's table each P_Key is, without its top
        bit: as full member, or as limited, or both."""
        base = f"{side.pf.path}/infiniband/{side.pf.ib_device}"
        folder = f"{base}/iov/ports/{side.pf.port}/pkeys"
        values = self._host.sysfs.read(
            [f"{folder}/{place}" for place in range(_MOST_PKEYS)]
        )
        places: dict[int, list[str]] = {}
        for place, value in enumerate(values):
            if not isinstance(value, bytes):
                continue
            try:
                pkey = int(value, 16) & _PKEY
            except ValueError:
                continue
            if pkey:
                places.setdefault(pkey, []).append(str(place))
        return places


def mac_of(state: VfState) -> str | None:
    """Of the port that a VF has all of the identity of. GUIDs that were not
    made from a MAC are none of Neutron's."""
    if state.owner is None or state.pending:
        return None
    guids = {state.port_guid, state.node_guid} - {None}
    if len(guids) != 1:
        return None
    return state.owner.mac


def is_mlx4(side: Side) -> bool:
    return side.pf.family == Family.MLX4
