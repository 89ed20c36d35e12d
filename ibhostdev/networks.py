# SPDX-License-Identifier: Apache-2.0
"""Physical networks, Neutron's names for fabrics, and the PFs behind them."""

from collections.abc import Iterable, Mapping, Sequence, Set

from ibhostdev.batch import Vif
from ibhostdev.errors import InvalidInput, WrongPhysicalNetwork
from ibhostdev.inventory import Pf, Vf

_MAPPINGS = "the physical device mappings"


def parse_mappings(mappings: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """``default:ib0``, ``default:ib1``, ``storage:0000:3b:00.0`` and so on,
    as eswitchd's ``fabrics`` has them.

    :raises InvalidInput: for an entry that is no mapping
    """
    networks: dict[str, tuple[str, ...]] = {}
    for mapping in mappings:
        # The first colon: a PCI address has some of its own.
        name, _, device = (part.strip() for part in mapping.partition(":"))
        if len(name.split()) != 1 or len(device.split()) != 1:
            raise InvalidInput(
                f"{mapping!r} is not of the form NETWORK:DEVICE",
                attribute="physical_device_mappings",
                cure="write as in default:ib0,default:ib1,storage:mlx5_2",
            )
        networks[name] = (*networks.get(name, ()), device)
    return networks


class PhysicalNetworks:
    """Which PFs, on which of their ports, are behind which network. A device
    is named by its network device, IB device or PCI address. Where nothing is
    mapped, or a VIF names no network, any PF will do."""

    def __init__(self, mappings: Mapping[str, Iterable[str]]) -> None:
        self._devices = {
            name: frozenset(devices) for name, devices in mappings.items()
        }

    def check(self, vif: Vif) -> None:
        """
        :raises WrongPhysicalNetwork: if the VIF's network is not mapped
            where others are
        """
        network = vif.physical_network
        if not self._devices or network is None or network in self._devices:
            return
        raise WrongPhysicalNetwork(
            f"physical network {network!r} is mapped to no PF",
            vif.pci,
            "physical_network",
            cure=f"add it to {_MAPPINGS}, which have "
            + ", ".join(sorted(self._devices)),
        )

    def place(self, vif: Vif, vf: Vf) -> Vf | WrongPhysicalNetwork:
        """The VF, on the port that its VIF's network is behind."""
        network = vif.physical_network
        if network not in self._devices:
            return vf
        port = self._port(vf.pf, network)
        if port is None:
            return WrongPhysicalNetwork(
                f"PF {vf.pf.pci} is not on physical network {network!r}, "
                "which is mapped to "
                + ", ".join(sorted(self._devices[network])),
                vf.pci,
                "physical_network",
                cure=f"correct the port's binding or {_MAPPINGS}",
            )
        return vf._replace(pf=vf.pf.on_port(port))

    def apart(self, vif: Vif, pf: Pf) -> bool:
        """Whether a PF, on its port, is not behind the VIF's network."""
        network = vif.physical_network
        return network in self._devices and (
            self._port(pf, network) != pf.port
        )

    def ports(self, pf: Pf, networks: Set[str | None]) -> list[int]:
        """The PF's ports on the fabrics of these networks: all of them, if
        one of the networks is not known to be behind any."""
        if not networks <= self._devices.keys():
            return [port.number for port in pf.ports]
        found = (self._port(pf, name) for name in networks if name)
        return [port for port in found if port is not None]

    def doubts(self, pfs: Sequence[Pf]) -> list[str]:
        """Of the mapping; see Host.doubts()."""
        here = {
            name
            for pf in pfs
            for name in (pf.pci, pf.ib_device, *(n.name for n in pf.netdevs))
        }
        return [
            f"physical network {network!r} is mapped to {device}, which is "
            "no InfiniBand PF here"
            for network, devices in self._devices.items()
            for device in sorted(devices - here)
        ]

    def _port(self, pf: Pf, network: str) -> int | None:
        devices = self._devices[network]
        for netdev in pf.netdevs:
            if netdev.name in devices:
                return netdev.port
        return pf.port if devices & {pf.pci, pf.ib_device} else None
