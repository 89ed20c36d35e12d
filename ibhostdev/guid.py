# SPDX-License-Identifier: Apache-2.0
"""GUIDs and the MACs that OpenStack derives them from."""

from typing import Self

from ibhostdev._native import text as _text
from ibhostdev.errors import InvalidInput

_ALL_ONES = 0xFFFFFFFFFFFFFFFF


class Guid(int):
    """A 64-bit InfiniBand GUID; the first octet is the most significant.

    As a number it is what rtnetlink carries in host byte order; as text,
    ``fa:16:3e:00:00:12:34:56``, what MLNX_OFED's sysfs shows.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """From eight colon-separated octets, or 16 hex digits with or
        without ``0x``, in either case.

        :raises InvalidInput: for anything else
        """
        number = _text.guid(text.strip())
        if number is None:
            raise InvalidInput(
                f"{text!r} is not a GUID",
                attribute="guid",
                cure="write eight octets as in fa:16:3e:00:00:12:34:56",
            )
        return cls(number)

    @classmethod
    def from_mac(cls, text: str) -> Self:
        """``aa:bb:cc:dd:ee:ff`` gives ``aa:bb:cc:00:00:dd:ee:ff``.

        No other mapping will do: Neutron makes the DHCP client identifier
        of an InfiniBand port by this one (networking-mlnx, mech_mlnx).

        :raises InvalidInput: unless text is six octets
        """
        number = _text.guid_of_mac(text.strip())
        if number is None:
            raise InvalidInput(
                f"{text!r} is not a MAC address",
                attribute="mac",
                cure="write six octets as in fa:16:3e:12:34:56",
            )
        return cls(number)

    @classmethod
    def parse_identity(cls, text: str) -> Self:
        """The identity of a VIF, given as its MAC or as a GUID.

        :raises InvalidInput: for what is neither form, and for what cannot
            be an identity
        """
        stripped = text.strip()
        number = _text.guid_of_mac(stripped)
        if number is None:
            number = _text.guid(stripped)
        if number is None:
            raise InvalidInput(
                f"{text!r} is neither a MAC address nor a GUID",
                attribute="mac",
                cure="write fa:16:3e:12:34:56 or fa:16:3e:00:00:12:34:56",
            )
        guid = cls(number)
        guid._require_identity(text)
        return guid

    def require_identity(self) -> None:
        """Refuse what can be nobody's identity and no driver checks.

        The lowest bit of the first octet, which makes a MAC a group's, has
        no meaning in a GUID: hosts have VFs with such ones.

        :raises InvalidInput: for zero, all ones, and what has more than 64
            bits
        """
        self._require_identity(None)

    def _require_identity(self, text: str | None) -> None:
        if not 0 <= self <= _ALL_ONES:
            what = "no 64-bit number"
        elif self == 0:
            what = "zero"
        elif self == _ALL_ONES:
            what = "all ones"
        else:
            return
        raise InvalidInput(
            f"{f'GUID {self}' if text is None else repr(text)} is {what} and "
            "cannot identify a VF",
            attribute="guid",
            cure="use the MAC address of the port",
        )

    @property
    def is_idle(self) -> bool:
        """Whether it says that the VF belongs to nobody: all ones, or zero
        as the driver leaves a fresh VF."""
        return self == 0 or self == _ALL_ONES

    @property
    def mac(self) -> str | None:
        """The MAC it was made from; None if it was not made from one."""
        if self.is_idle or (self >> 24) & 0xFFFF:
            return None
        mac = (self >> 40) << 24 | self & 0xFFFFFF
        return ":".join(f"{mac:012x}"[i : i + 2] for i in range(0, 12, 2))

    @property
    def octets(self) -> str:
        """Eight colon-separated octets in lower case."""
        if 0 <= self <= _ALL_ONES:
            return _text.octets(self)
        # No 64-bit number: to be shown in an error.
        digits = f"{self:016x}"
        return ":".join(digits[i : i + 2] for i in range(0, 16, 2))

    def __str__(self) -> str:
        return self.octets

    def __repr__(self) -> str:
        return f"Guid({self.octets!r})"

    def __format__(self, spec: str) -> str:
        return int(self).__format__(spec) if spec else self.octets


IDLE = Guid(_ALL_ONES)
"""What an idle VF is given: MLNX_OFED's convention for an invalid GUID, and
mlx4's request to delete the alias (drivers/infiniband/hw/mlx4/alias_GUID.c).
"""
