# SPDX-License-Identifier: Apache-2.0
"""Physical networks, Neutron's names for fabrics, and the PFs behind them."""

from collections.abc import Iterable, Mapping, Sequence

from ibhostdev._native.host import read_mappings
from ibhostdev.errors import InvalidInput, printable
from ibhostdev.inventory import Pf
from ibhostdev.pci import PciAddress


def parse_mappings(mappings: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Of texts as eswitchd's ``fabrics`` is one:
    ``default:ib0,default:ib1,storage:0000:3b:00.0``.

    :raises InvalidInput: for an entry that is no mapping
    """
    networks: dict[str, tuple[str, ...]] = {}
    for mapping in mappings:
        for name, device in read_mappings(mapping):
            networks[name] = (*networks.get(name, ()), device)
    return networks


def normal(device: str) -> str:
    """A PCI address in the form in which PFs have it; other names as they
    are."""
    try:
        return PciAddress.parse(device)
    except InvalidInput:
        return device


def of_ports(
    networks: Mapping[str, Iterable[str]], pf: Pf
) -> dict[int, list[str]]:
    """The networks that each port of a PF is behind."""
    found: dict[int, list[str]] = {}
    for network, devices in networks.items():
        # By other names than a network device's, the first port is meant.
        ports = {
            name: netdev.port
            for netdev in pf.netdevs
            for name in (netdev.name, *netdev.altnames)
        }
        ports |= dict.fromkeys((pf.pci, pf.ib_device), pf.ports[0].number)
        for port in sorted({ports[one] for one in devices if one in ports}):
            found.setdefault(port, []).append(network)
    return found


def doubts(
    networks: Mapping[str, Iterable[str]], pfs: Sequence[Pf]
) -> list[str]:
    """Of a mapping; see Host.doubts()."""
    here = {
        name
        for pf in pfs
        for name in (
            pf.pci,
            pf.ib_device,
            *(n.name for n in pf.netdevs),
            *(altname for n in pf.netdevs for altname in n.altnames),
        )
    }
    named = ", ".join(
        name
        for pf in pfs
        for name in [n.name for n in pf.netdevs] or [pf.ib_device]
    )
    return [
        f"physical network {network!r} is mapped to {printable(device)}, and "
        f"no InfiniBand PF here has that name; there are: {named or 'none'}"
        for network, devices in networks.items()
        for device in sorted(set(devices) - here)
    ]
