# SPDX-License-Identifier: Apache-2.0
"""PCI addresses."""

from typing import Self

from ibhostdev._native import text as _text
from ibhostdev.errors import InvalidInput


class PciAddress(str):
    """``domain:bus:device.function`` in the kernel's own form,
    ``0000:3b:00.2`` (drivers/pci/probe.c), so it is safe in a sysfs path."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """From long or short form (``3b:00.2``), in either case, or from
        libvirt's name of the device (``pci_0000_3b_00_2``).

        :raises InvalidInput: for anything else
        """
        address = _text.pci_address(text.strip())
        if address is None:
            raise InvalidInput(
                f"{text!r} is not a PCI address",
                attribute="pci",
                cure="write domain:bus:device.function as in 0000:3b:00.2; "
                "after 0000:3b:00.7 comes 0000:3b:01.0",
            )
        return cls(address)

    @property
    def rid(self) -> int:
        """Routing identifier: bus, device and function in 16 bits."""
        bus, device, function = self[-7:-5], self[-4:-2], self[-1]
        return int(bus, 16) << 8 | int(device, 16) << 3 | int(function)
