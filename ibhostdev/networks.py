# SPDX-License-Identifier: Apache-2.0
"""Physical networks, Neutron's names for fabrics, and the PFs behind them."""

from collections.abc import Iterable, Mapping, Sequence

from ibhostdev.errors import InvalidInput, printable
from ibhostdev.inventory import Pf


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
