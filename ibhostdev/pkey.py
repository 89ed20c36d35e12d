# SPDX-License-Identifier: Apache-2.0
"""P_Keys: which partition of a fabric a port is in, and how."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple, Self

from ibhostdev.errors import InvalidInput
from ibhostdev.guid import Guid
from ibhostdev.pci import PciAddress

_FULL = 0x8000
_CURE = "write 0x8001, or 1:full, 1:limited or 1:both; 1 to 0x7fff are P_Keys"
_FORM = (
    r"(?P<number>0x[0-9a-f]{1,4}|[1-9][0-9]{0,4}|0)"
    r"(?::(?P<membership>[a-z]+))?"
)


class Membership(StrEnum):
    """What a member of a partition may talk to: a full one to all members, a
    limited one to the full ones; BOTH has two entries in its table."""

    FULL = "full"
    LIMITED = "limited"
    BOTH = "both"


class _Fields(NamedTuple):
    number: int
    membership: Membership


class PKey(_Fields):
    """The partition's number, of 15 bits, and the membership in it.

    In a port's table (InfiniBand Architecture Specification, volume 1,
    10.9.1.1) the highest of 16 bits says that the member is a full one:
    0x8001 and 0x0001 are the same partition. The number 0 is no partition's.

    :raises InvalidInput: for any other number
    """

    __slots__ = ()

    def __new__(
        cls, number: int, membership: Membership = Membership.FULL
    ) -> Self:
        if not 0 < number < _FULL:
            raise InvalidInput(
                f"{number} is the number of no partition",
                attribute="pkey",
                cure=_CURE,
            )
        return super().__new__(cls, number, membership)

    @classmethod
    def parse(cls, text: str) -> Self:
        """From a table's entry, ``0x8001`` or ``0x1`` (which is a limited
        member: the highest bit is not set), or from number and membership,
        ``1:full``. Without 0x a number is decimal.

        :raises InvalidInput: for anything else, among it 0 and 0x8000, and a
            membership that the highest bit contradicts
        """
        found = re.fullmatch(_FORM, text.strip(), re.ASCII | re.IGNORECASE)
        if found is None:
            raise _wrong(text, "is not a P_Key")
        value = int(found["number"], 0)
        number = value & ~_FULL
        if value > 0xFFFF:
            raise _wrong(text, "has more than 16 bits and is no P_Key")
        if number == 0:
            raise _wrong(text, "is reserved and no partition's P_Key")
        word = found["membership"]
        if word is None:
            return cls._of(value)
        try:
            membership = Membership(word.lower())
        except ValueError:
            raise _wrong(text, "has a membership that there is not") from None
        if value & _FULL and membership is Membership.LIMITED:
            raise _wrong(text, "has a full member's bit, and says limited")
        return cls(number, membership)

    @classmethod
    def of_entry(cls, value: int) -> Self | None:
        """From an entry of a port's table; None for one that is none's."""
        return cls._of(value) if value & ~_FULL else None

    @classmethod
    def _of(cls, value: int) -> Self:
        full = value & _FULL
        return cls(
            value & ~_FULL, Membership.FULL if full else Membership.LIMITED
        )

    @property
    def values(self) -> tuple[int, ...]:
        """Its entries in a port's table, a full one first."""
        number, membership = self
        if membership is Membership.BOTH:
            return number | _FULL, number
        return (number | _FULL if membership is Membership.FULL else number,)

    def __str__(self) -> str:
        """What parse() reads: an entry of a table where one is enough."""
        if self.membership is Membership.BOTH:
            return f"0x{self.number:04x}:both"
        return f"0x{self.values[0]:04x}"


def _wrong(text: str, what: str) -> InvalidInput:
    return InvalidInput(f"{text!r} {what}", attribute="pkey", cure=_CURE)


DEFAULT = PKey(0x7FFF)
"""The default partition, in which a subnet manager is a full member and,
unless it is told otherwise, everybody is."""


class Partitions(NamedTuple):
    """Who is to be in which partition, as far as anybody has said it: GUIDs,
    and whatever else is on the VFs of a PF."""

    guids: Mapping[Guid, PKey] = {}
    pfs: Mapping[PciAddress, PKey] = {}

    def of(self, pf: PciAddress, guid: Guid | None) -> PKey | None:
        """For who has a GUID on a PF; None: nobody has, or has said it."""
        if guid is None or guid.is_idle:
            return None
        return self.guids.get(guid) or self.pfs.get(pf)
