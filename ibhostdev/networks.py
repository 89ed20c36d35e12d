# SPDX-License-Identifier: Apache-2.0
"""Physical networks, Neutron's names for fabrics, and the PFs behind them."""

from collections.abc import Iterable, Mapping, Sequence

from ibhostdev._native.host import read_mappings
from ibhostdev.errors import printable
from ibhostdev.inventory import Pf


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


def doubts(
    networks: Mapping[str, Iterable[str]], pfs: Sequence[Pf]
) -> list[str]:
    """Of a mapping; see Host.doubts()."""
    here = {
        name
        for pf in pfs
        for name in (pf.pci, pf.ib_device, *(n.name for n in pf.netdevs))
    }
    return [
        f"physical network {network!r} is mapped to {printable(device)}, "
        "which is no InfiniBand PF here"
        for network, devices in networks.items()
        for device in sorted(set(devices) - here)
    ]
