# SPDX-License-Identifier: Apache-2.0
"""PCI addresses."""

import re
from typing import Self

from ibhostdev._native import text as _text
from ibhostdev.errors import InvalidInput

# VMD and Hyper-V give domains of up to eight digits. A function is 0-7, a
# device 0-1f.
_LONG_FORM = re.compile(
    r"(?:[0-9a-f]{4}|[1-9a-f][0-9a-f]{4,7}):[0-9a-f]{2}:[01][0-9a-f]\.[0-7]",
    re.ASCII,
)


class PciAddress(str):
    """``domain:bus:device.function`` in the kernel's own form,
    ``0000:3b:00.2`` (drivers/pci/probe.c), so it is safe in a sysfs path."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """From long or short form (``3b:00.2``), in either case.

        :raises InvalidInput: for anything else
        """
        address = _text.pci_address(text.strip())
        if address is None:
            raise InvalidInput(
                f"{text!r} is not a PCI address",
                attribute="pci",
                cure="write domain:bus:device.function as in 0000:3b:00.2",
            )
        return cls(address)

    @property
    def is_long(self) -> bool:
        """Whether it is in the kernel's form, as parse() makes them."""
        return _LONG_FORM.fullmatch(self) is not None

    @property
    def rid(self) -> int:
        """Routing identifier: bus, device and function in 16 bits."""
        bus, device, function = self[-7:-5], self[-4:-2], self[-1]
        return int(bus, 16) << 8 | int(device, 16) << 3 | int(function)
