# SPDX-License-Identifier: Apache-2.0
"""Which GUID is where, and in which partition it is to be: what a host knows
of its VFs and a subnet manager does not."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

from ibhostdev.errors import (
    GuidConflict,
    IbHostdevError,
    InvalidInput,
    NoMechanism,
)
from ibhostdev.guid import Guid
from ibhostdev.host import Host
from ibhostdev.inventory import Family, Pf, VfState
from ibhostdev.pci import PciAddress
from ibhostdev.pkey import Membership, Partitions, PKey
from ibhostdev.process.parallel import each

VERSION = 1
# Members have much in common: each distinct value is checked, and written,
# once. Refused values are not kept.
_once = lru_cache(1 << 16)
_LIMIT = 1 << 24  # bytes of an export; 60,000 VFs
_NAMED = 10
_FAMILIES = {str(family): family for family in Family}
_CURE = "give what 'ibhostdev fabric export --format json' has written"


class Member(NamedTuple):
    """A VF that has a GUID. ``pf`` and ``pci`` are the PCI addresses of PF
    and VF, ``pf_guid`` the GUID of the PF's port, None if it is not shown;
    without a ``pkey`` nobody has said which partition it is to be in.
    ``family`` is the driver's."""

    host: str
    pf: PciAddress
    pf_guid: Guid | None
    vf: int
    pci: PciAddress
    guid: Guid
    pkey: PKey | None = None
    family: Family = Family.MLX5

    @property
    def place(self) -> str:
        return f"{self.pci} of host {self.host}"


# -- of a host ------------------------------------------------------------


def of_host(
    host: Host, name: str, partitions: Partitions
) -> tuple[list[Member], list[str]]:
    """The host's members, and warnings. Of ``partitions``, GUIDs that no VF
    here has do not matter.

    :raises IbHostdevError: if a PF with VFs cannot be asked about them:
        without them the others would not be all, and who goes by that would
        take guests off their partition
    """
    found = each(host.pfs, lambda pf: _of_pf(host, name, pf, partitions))
    members = [member for some, _ in found for member in some]
    warnings = [warning for _, some in found for warning in some]
    _require_unique(members)
    return sorted(members, key=_order), warnings


def _of_pf(
    host: Host, name: str, pf: Pf, partitions: Partitions
) -> tuple[list[Member], list[str]]:
    if not pf.numvfs:
        return [], []
    mechanism, against = host.choose(pf)
    if mechanism is None:
        raise NoMechanism(
            "does not tell the GUIDs of its VFs ("
            + "; ".join(f"{one}: {why}" for one, why in against.items())
            + ")",
            pf.pci,
            cure="see 'ibhostdev doctor'",
        )
    sides = pf.ports if pf.family is Family.MLX4 else pf.ports[:1]
    vfs = host.vfs(pf)
    members: list[Member] = []
    known: set[int] = set()
    for side in sides:
        states = host.survey(pf.on_port(side.number), range(pf.numvfs))
        for vf in vfs:
            guid = states.get(vf.index, VfState()).port_guid
            if guid is None:
                continue
            known.add(vf.index)
            if not guid.is_idle:
                pkey = partitions.of(pf.pci, guid)
                members.append(
                    Member(
                        *(name, pf.pci, side.guid, vf.index, vf.pci),
                        *(guid, pkey, pf.family),
                    )
                )
    return members, [
        f"{vf.pci} is in a guest's hands, and its driver does not tell which "
        "GUID it has: it is left out"
        for vf in vfs
        if vf.in_use and vf.index not in known
    ]


# -- of many hosts --------------------------------------------------------


def merge(exports: Iterable[Sequence[Member]]) -> list[Member]:
    """The members of all hosts, each host being one export.

    :raises InvalidInput: for a host that is in two of them
    :raises GuidConflict: for a GUID that two hosts have, be it a VF's or that
        of a PF's port, with their names
    """
    members: list[Member] = []
    hosts: set[str] = set()
    pfs: dict[_PfPort, None] = {}
    for export in exports:
        ports = dict.fromkeys(map(_pf_port, export))
        here = {host for host, _, _ in ports}
        if twice := sorted(hosts & here):
            raise InvalidInput(
                f"host {twice[0]} is in two of the files",
                attribute="merge",
                cure="give each host's newest export, and --host-name to "
                "hosts of one name",
            )
        hosts |= here
        pfs |= ports
        members += export
    # First, for all VFs of a host that has two names are there twice.
    _require_unique_pfs(pfs, members)
    _require_unique(members)
    return sorted(members, key=_order)


_PfPort = tuple[str, PciAddress, Guid | None]
_pf_port: Callable[[Member], _PfPort] = attrgetter("host", "pf", "pf_guid")
_order = attrgetter("host", "pf", "vf", "guid")


def _require_unique(members: Iterable[Member]) -> None:
    """Each GUID belongs to one VF."""
    seen: dict[Guid, Member] = {}
    twins = []
    for member in members:
        other = seen.setdefault(member.guid, member)
        if other is not member:
            twins.append(
                f"{member.guid} is on {other.place} and on {member.place}"
            )
    _refuse(
        twins,
        "unplug it where it does not belong: a subnet manager takes both for "
        "one port",
    )


def _require_unique_pfs(
    pfs: Iterable[_PfPort], members: Iterable[Member]
) -> None:
    """The GUID of a PF's port belongs to nothing on another host."""
    vfs = {member.guid: member for member in members}
    seen: dict[Guid, tuple[str, PciAddress]] = {}
    twins = []
    for host, pf, guid in pfs:
        if guid is None or guid.is_idle:
            continue
        here = f"{guid} is the GUID of PF {pf} of host {host}"
        other, there = seen.setdefault(guid, (host, pf))
        if other != host:
            twins.append(f"{here} and of PF {there} of host {other}")
        vf = vfs.get(guid)
        if vf is not None and vf.host != host:
            twins.append(f"{here} and of VF {vf.place}")
    _refuse(
        twins,
        "if one host is there under two names, leave out the old name's "
        "export; if an adapter was moved, export the host anew that had it; "
        "if a VF has a PF's GUID, unplug the VF: a subnet manager takes both "
        "for one port",
    )


def _refuse(twins: Sequence[str], cure: str) -> None:
    if not twins:
        return
    more = len(twins) - _NAMED
    raise GuidConflict(
        "; ".join(twins[:_NAMED]) + (f"; and {more} more" if more > 0 else ""),
        attribute="guid",
        cure=cure,
    )


# -- ports ----------------------------------------------------------------


class Due(NamedTuple):
    """How a port is to be in a partition, and whether with its P_Key at index
    0 of its table."""

    membership: Membership
    index0: bool


def ports(members: Iterable[Member]) -> dict[int, dict[Guid, Due]]:
    """Which ports a subnet manager is to put into which partition: by the
    partition's number and the port's GUID, both in order.

    A VF of mlx5 is a port of its own. Those of mlx4 have their P_Keys out of
    the table of their PF's port (mlx4_pkeys.c), so that it is this port that
    has to be in the partition, and at index 0 of its table stays what the PF
    itself has there. Their GUIDs are aliases of it, which published versions
    of opensm pass over here (osm_prtn_add_port() of osm_prtn.c).
    """
    found: dict[int, dict[Guid, Due]] = {}
    first = {one: Due(one, True) for one in Membership}
    for member in members:
        if member.pkey is None:
            continue
        number, membership = member.pkey
        there = found.setdefault(number, {})
        if member.family is not Family.MLX4:
            there[member.guid] = first[membership]
            continue
        there[member.guid] = Due(membership, False)
        if member.pf_guid is not None:
            other = there.get(member.pf_guid)
            if other is not None and other.membership is not membership:
                membership = Membership.BOTH
            there[member.pf_guid] = Due(membership, False)
    return {
        number: dict(sorted(there.items()))
        for number, there in sorted(found.items())
    }


# -- text -----------------------------------------------------------------


def as_json(members: Iterable[Member]) -> str:
    """One line for each, so that it can be looked at and compared."""
    lines = ",\n".join(map(_line, members))
    lines = f"\n{lines}\n  " if lines else ""
    return f'{{\n  "version": {VERSION},\n  "members": [{lines}]\n}}\n'


def _line(member: Member) -> str:
    """Of its texts only a host's name may have what JSON has to escape."""
    host, pf, pf_guid, vf, pci, guid, pkey, family = _row(member)
    return (
        f'    {{"host": {_quoted(host)}, "pf": "{pf}", '
        f'"pf_guid": {_quoted(pf_guid)}, "vf": {vf}, "pci": "{pci}", '
        f'"guid": "{guid}", "pkey": {_quoted(pkey)}, "family": "{family}"}}'
    )


def as_csv(members: Iterable[Member]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Member._fields)
    writer.writerows(map(_row, members))
    return text.getvalue()


def _row(member: Member) -> tuple[Any, ...]:
    host, pf, pf_guid, vf, pci, guid, pkey, family = member
    return host, pf, _text(pf_guid), vf, pci, guid, _text(pkey), family


@_once
def _text(value: Guid | PKey | None) -> str | None:
    return None if value is None else str(value)


_quoted = _once(json.dumps)


def read(name: str) -> list[Member]:
    """What as_json() has written into a file.

    :raises InvalidInput: for all else
    """
    try:
        with open(name, "rb") as file:
            data = file.read(_LIMIT + 1)
    except OSError as error:
        raise InvalidInput(
            "cannot be read",
            name,
            "file",
            error.errno,
            "name files that 'ibhostdev fabric export' has written, one of "
            "each host",
        ) from None
    if len(data) > _LIMIT:
        raise _wrong(name, f"has more than {_LIMIT >> 20} MiB")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise _wrong(name, "is no JSON") from None
    if not isinstance(document, dict) or "members" not in document:
        raise _wrong(name, "is no export")
    version = document.get("version")
    if version != VERSION:
        raise _wrong(name, f"is of version {version!r}, not {VERSION}")
    if not isinstance(document["members"], list):
        raise _wrong(name, "is no export")
    return _members(document["members"], name)


def _members(entries: list[Any], name: str) -> list[Member]:
    members = []
    for number, entry in enumerate(entries, 1):
        try:
            guid = Guid.parse(entry["guid"])
            guid.require_identity()
            fields = (
                _host(entry["host"]),
                _pci(entry["pf"]),
                _pf_guid(entry["pf_guid"]),
                _index(entry["vf"]),
                _pci(entry["pci"]),
                guid,
                _pkey(entry["pkey"]),
                # Not in those that the first versions have written.
                _FAMILIES[entry.get("family", Family.MLX5)],
            )
        except IbHostdevError as error:
            error.device = f"{name}, member {number}"
            raise
        except (LookupError, TypeError, ValueError, AttributeError):
            raise _wrong(f"{name}, member {number}", "is none") from None
        # A NamedTuple's own constructor takes twice as long.
        members.append(tuple.__new__(Member, fields))
    return members


@_once
def _host(name: object) -> str:
    if not isinstance(name, str) or not name or not name.isprintable():
        raise TypeError("no name")
    return name


def _index(number: object) -> int:
    if type(number) is not int or number < 0:
        raise TypeError("no index")
    return number


@_once
def _pf_guid(text: str | None) -> Guid | None:
    return None if text is None else Guid.parse(text)


@_once
def _pkey(text: str | None) -> PKey | None:
    return None if text is None else PKey.parse(text)


_pci = _once(PciAddress.parse)


def _wrong(where: str, what: str) -> InvalidInput:
    return InvalidInput(what, where, "file", cure=_CURE)
