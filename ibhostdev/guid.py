# SPDX-License-Identifier: Apache-2.0
"""GUIDs and the MACs that OpenStack derives them from."""

import re
from typing import Self

from ibhostdev._native import text as _text
from ibhostdev.errors import InvalidInput

_ALL_ONES = 0xFFFFFFFFFFFFFFFF
_ONE = "write one of them"


class Guid(int):
    """A 64-bit InfiniBand GUID; the first octet is the most significant.

    As a number it is what rtnetlink carries in host byte order; as text,
    ``fa:16:3e:00:00:12:34:56``, what MLNX_OFED's sysfs shows.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """As tools and the kernel print it, in either case: eight octets,
        four groups of four digits (``fa16:3e00:0012:3456``), or 13 to 16
        digits with or without ``0x`` (mlx4 leaves out zeros in front; with
        12 it would be a MAC). Of a GID or an IPoIB device's address, the
        last half; see shortened().

        :raises InvalidInput: for anything else
        """
        number = _number(text.strip())
        if number is None:
            raise InvalidInput(
                f"{text!r} is a MAC address and not a GUID"
                if _text.guid_of_mac(text.strip()) is not None
                else f"{text!r} is not a GUID",
                attribute="guid",
                cure="write eight octets as in fa:16:3e:00:00:12:34:56, or a "
                "MAC address as mac",
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
                f"{text!r} is a GUID and not a MAC address"
                if _number(text.strip()) is not None
                else f"{text!r} is not a MAC address",
                attribute="mac",
                cure="write six octets as in fa:16:3e:12:34:56, or a GUID as "
                "guid",
            )
        return cls(number)

    @classmethod
    def parse_identity(cls, text: str) -> Self:
        """The identity of a VIF, given as its MAC or as a GUID: where no
        key says which.

        :raises InvalidInput: for what is neither form, and for what cannot
            be an identity
        """
        stripped = text.strip()
        number = _text.guid_of_mac(stripped)
        if number is None:
            number = _number(stripped)
        if number is None:
            raise InvalidInput(
                f"{text!r} is neither a MAC address nor a GUID",
                attribute="mac",
                cure="write fa:16:3e:12:34:56 or fa:16:3e:00:00:12:34:56",
            )
        guid = cls(number)
        guid._require_identity(text)
        return guid

    @classmethod
    def parse_keyed(cls, mac: str | None, guid: str | None) -> Self:
        """The identity of a VIF, given under one of these names.

        :raises InvalidInput: for none or both of them, for what is not of
            the form that the name says, and for what cannot be an identity
        """
        if mac is not None and guid is not None:
            raise InvalidInput("has both mac and guid", cure=_ONE)
        if mac is not None:
            identity, text = cls.from_mac(mac), mac
        elif guid is not None:
            identity, text = cls.parse(guid), guid
        else:
            raise InvalidInput("has neither mac nor guid", cure=_ONE)
        identity._require_identity(text)
        return identity

    def require_identity(self) -> None:
        """Refuse what can be nobody's identity and no driver checks.

        The lowest bit of the first octet, which makes a MAC a group's, has
        no meaning in a GUID: hosts have VFs with such ones.

        :raises InvalidInput: for zero, all ones, and what has more than 64
            bits
        """
        self._require_identity(None)

    def _require_identity(self, text: str | None) -> None:
        if 0 < self < _ALL_ONES:
            return
        if self == 0:
            what = "zero"
        elif self == _ALL_ONES:
            what = "all ones"
        else:
            what = "no 64-bit number"
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

# Compiled when it is needed, which takes longer than to import the rest.
_ADDRESS = (
    # QPN and flags, and a GID (drivers/infiniband/ulp/ipoib)
    r"(?:[0-9a-f]{2}:){4}(?P<octets>(?:[0-9a-f]{2}:){15}[0-9a-f]{2})"
    # in full, or as it is abridged where it is link-local
    r"|(?P<gid>(?:[0-9a-f]{4}:){7}[0-9a-f]{4}|fe80:[0-9a-f:]*)"
)


def shortened(text: str) -> str | None:
    """A sentence for whoever gave a GID or an IPoIB device's address where a
    GUID is due; None for all else."""
    number = _last_half(text.strip())
    if number is None:
        return None
    return f"{text.strip()} is taken for its last half, GUID {Guid(number)}"


def _number(text: str) -> int | None:
    number = _text.guid(text)
    return _last_half(text) if number is None else number


def _last_half(text: str) -> int | None:
    """Of a GID, alone or in the address of an IPoIB device."""
    found = re.fullmatch(_ADDRESS, text, re.ASCII | re.IGNORECASE)
    if found is None:
        return None
    if found["octets"]:
        gid = int(found["octets"].replace(":", ""), 16)
    else:
        # Python's own takes 20 ms to load, and is rarely needed.
        from ipaddress import AddressValueError, IPv6Address

        try:
            gid = int(IPv6Address(found["gid"]))
        except AddressValueError:
            return None
    # One that begins with ff is a group's, without a GUID.
    return None if gid >> 120 == 0xFF else gid & _ALL_ONES
