# SPDX-License-Identifier: Apache-2.0
"""VIFs as a shell user writes them: arguments, and files of them."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ibhostdev import document
from ibhostdev.batch import Vif
from ibhostdev.cli import terminal
from ibhostdev.errors import IbHostdevError, InvalidInput
from ibhostdev.guid import Guid, shortened
from ibhostdev.pci import PciAddress
from ibhostdev.pkey import PKey

_GUIDS = ("guid", "node_guid", "port_guid")
_KEYS = ("pci", "mac", *_GUIDS, "physical_network", "pkey")
_FORM = (
    "write a list of entries with pci, mac or guid (or node_guid and "
    "port_guid), physical_network, pkey, or give what 'ibhostdev list --json' "
    "writes"
)

_Entry = list[tuple[Any, Any]]
"""Keys and values as they stand there, a key maybe twice."""
_Entries = Iterator[tuple[str, _Entry | None]]
"""With the place of each; None for what is no mapping."""


def from_arguments(
    words: Sequence[str], network: str | None, need_pci: bool
) -> list[Vif]:
    """From PCI=MAC, or MAC alone where the VF need not be named.

    :raises InvalidInput: for the first that is malformed
    """
    vifs = []
    for word in words:
        pci, equals, identity = word.rpartition("=")
        if not equals and not need_pci and _is_pci(word):
            raise InvalidInput(
                f"{word!r} is an address, no identity",
                attribute="vif",
                cure="unplug by MAC or GUID: 'ibhostdev list' shows whose the "
                "VF is",
            )
        if need_pci and not equals:
            raise InvalidInput(
                f"{word!r} is not of the form PCI=MAC",
                attribute="vif",
                cure="write as in 0000:3b:00.2=fa:16:3e:12:34:56",
            )
        vifs.append(Vif.parse(pci if equals else None, identity, network))
        _note(identity)
    return vifs


def _is_pci(word: str) -> bool:
    try:
        PciAddress.parse(word)
    except InvalidInput:
        return False
    return True


def from_file(name: str, network: str | None, need_pci: bool) -> list[Vif]:
    """From a YAML or JSON file, ``-`` for standard input, or what ``list
    --json`` has written; VIFs that name no physical network get this one.

    :raises InvalidInput: naming the first bad entry
    """
    return [
        _vif(given, where, network, need_pci)
        for where, given in _read(name, _KEYS)
    ]


def with_domains(
    name: str, network: str | None, domain: str | None
) -> list[tuple[str, Vif]]:
    """Likewise, each with a libvirt domain: the entry's, or this one."""
    return [
        (
            _domain(given, where, domain),
            _vif(given, where, network, need_pci=True),
        )
        for where, given in _read(name, (*_KEYS, "domain"))
    ]


def addresses(name: str, domain: str | None) -> list[tuple[str, PciAddress]]:
    """The VFs that such a file names; whose they are does not matter."""
    found = []
    for where, given in _read(name, (*_KEYS, "domain")):
        pci = _pci(given, where)
        whose = _domain(given, where, domain)
        try:
            found.append((whose, PciAddress.parse(pci)))
        except IbHostdevError as error:
            error.device = where
            raise
    return found


def pkeys(name: str | None, others: Iterable[Vif] = ()) -> dict[Guid, PKey]:
    """The P_Keys that such a file and other VIFs have, by GUID; those without
    one do not matter, nor whether a VF is named.

    :raises InvalidInput: naming the first bad entry, or a GUID that is to be
        in two partitions
    """
    found: dict[Guid, PKey] = {}
    entries = () if name is None else _read(name, (*_KEYS, "domain"))
    for vif in (
        *(_vif(given, at, None, need_pci=False) for at, given in entries),
        *others,
    ):
        pkey = vif.pkey
        if pkey is not None and found.setdefault(vif.guid, pkey) != pkey:
            raise InvalidInput(
                f"is to be in {pkey} and in {found[vif.guid]}",
                f"GUID {vif.guid}",
                "pkey",
                cure="write one of them",
            )
    return found


def _read(
    name: str, keys: Sequence[str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Entries, each with the place where it stands."""
    text, shown = document.read(name, _FORM)
    for where, entry in _entries(text, shown):
        yield where, _given(entry, where, keys)


def _given(
    entry: _Entry | None, where: str, keys: Sequence[str]
) -> dict[str, str]:
    if entry is None:
        raise InvalidInput("is no mapping", where, cure=_FORM)
    given: dict[str, str] = {}
    seen = set()
    for key, value in entry:
        if key not in keys:
            what = "a list or a mapping" if key is ... else repr(key)
            raise InvalidInput(
                f"{what} is no key of a VIF",
                where,
                cure=f"the keys are {', '.join(keys)}",
            )
        if key in seen:
            raise InvalidInput(
                f"{key} is there twice", where, key, cure="leave one out"
            )
        seen.add(key)
        if value is None:
            continue
        if not isinstance(value, str):
            raise InvalidInput("is no text", where, key, cure="quote it")
        given[key] = value
    return given


def _pci(given: dict[str, str], where: str) -> str:
    if "pci" not in given:
        raise InvalidInput(
            "has no pci", where, "pci", cure="name the VF by its PCI address"
        )
    return given["pci"]


def _domain(given: dict[str, str], where: str, default: str | None) -> str:
    domain = given.get("domain", default)
    if domain is None:
        raise InvalidInput(
            "names no domain",
            where,
            "domain",
            cure="give each entry a domain, or name one for all",
        )
    return domain


def _vif(
    given: dict[str, str], where: str, network: str | None, need_pci: bool
) -> Vif:
    if need_pci:
        _pci(given, where)
    try:
        vif = Vif.parse_keyed(given)
    except IbHostdevError as error:
        error.device = where
        raise
    for key in _GUIDS:
        _note(given.get(key))
    if vif.physical_network is None and network is not None:
        vif = vif._replace(physical_network=network)
    return vif


def _note(identity: str | None) -> None:
    note = None if identity is None else shortened(identity)
    if note is not None:
        terminal.warn(note)


def _entries(text: str, shown: str) -> _Entries:
    try:
        # Most JSON is YAML too, but not all: tabs.
        given = json.loads(text, object_pairs_hook=_Pairs)
    except ValueError:
        for number, (line, entry) in enumerate(_yaml_entries(text, shown), 1):
            yield f"{shown}, line {line}, entry {number}", entry
        return
    except RecursionError:
        raise _no_list(shown) from None
    if isinstance(given, _Pairs):
        yield from _listed(given, shown)
        return
    if not isinstance(given, list):
        raise _no_list(shown)
    for number, (line, entry) in enumerate(
        zip(_json_lines(text), given, strict=True), 1
    ):
        yield (
            f"{shown}, line {line}, entry {number}",
            list(entry) if isinstance(entry, _Pairs) else None,
        )


class _Pairs(list[tuple[str, Any]]):
    """A JSON object, told from an array."""


def _json_lines(text: str) -> Iterator[int]:
    """Of the members of an array that has been read: where each begins."""
    read = json.JSONDecoder().raw_decode
    line, seen, at = 1, 0, text.index("[") + 1
    while True:
        while text[at] in " \t\r\n,":
            at += 1
        if text[at] == "]":
            return
        line += text.count("\n", seen, at)
        seen = at
        yield line
        _, at = read(text, at)


def _listed(document: _Pairs, shown: str) -> _Entries:
    """The VFs with an identity in what list has written."""
    for pf in _objects(document, "pfs", shown):
        port = dict(next(iter(_objects(pf, "ports", shown)), ()))
        networks = port.get("physical_networks")
        network = None
        if isinstance(networks, list) and len(networks) == 1:
            network = networks[0]
        for vf in _objects(pf, "vfs", shown):
            told = dict(vf)
            pci, sides = told.get("pci"), told.get("port_guids")
            where = f"{shown}, VF {pci}"
            # Of mlx4, the first port's again, and the second's.
            second = sides[1:] if isinstance(sides, list) else []
            node, owner, *others = [
                None if guid is None else _guid(guid, where)
                for guid in (
                    told.get("node_guid"),
                    told.get("port_guid"),
                    *second,
                )
            ]
            if any(other and not other.is_idle for other in others):
                raise InvalidInput(
                    "has an identity on a second port",
                    where,
                    cure="write a list of VIFs, each with the "
                    "physical_network of its port",
                )
            if owner is None or (
                owner.is_idle and (node is None or node.is_idle)
            ):
                continue
            if node is not None and node.is_idle != owner.is_idle:
                raise InvalidInput(
                    f"has node GUID {node} and port GUID {owner}: one of them "
                    "is nobody's",
                    where,
                    cure="leave it out, or plug or unplug it again first",
                )
            identity = [("guid", str(owner))]
            if node not in (None, owner):
                identity = [
                    ("node_guid", str(node)),
                    ("port_guid", str(owner)),
                ]
            yield (
                where,
                [("pci", pci), *identity, ("physical_network", network)],
            )


def _objects(given: _Pairs, key: str, shown: str) -> list[_Pairs]:
    found = dict(given).get(key)
    if type(found) is not list or not all(
        isinstance(one, _Pairs) for one in found
    ):
        raise _no_list(shown)
    return found


def _guid(value: object, where: str) -> Guid:
    if not isinstance(value, str):
        raise InvalidInput("is no text", where, "guid", cure=_FORM)
    try:
        return Guid.parse(value)
    except InvalidInput as error:
        error.device = where
        raise


def _yaml_entries(
    text: str, shown: str
) -> Iterator[tuple[int, _Entry | None]]:
    """Of the parser's events, in which all is text still, and nothing is
    nested deeper than it is expected: YAML takes 52:54:00:12:34:56 for a
    number to the base of 60, and the C loader overflows its stack."""
    import yaml

    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        events = yaml.parse(text, loader)
        for event in events:
            if not isinstance(
                event, (yaml.StreamStartEvent, yaml.DocumentStartEvent)
            ):
                break
        if not isinstance(event, yaml.SequenceStartEvent):
            raise _no_list(shown)
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            line = _line(event)
            if not isinstance(event, yaml.MappingStartEvent):
                yield line, None
                return
            entry: _Entry = []
            for key in events:
                if isinstance(key, yaml.MappingEndEvent):
                    break
                value = next(events) if document.is_text(key) else None
                entry.append((_plain(key), _plain(value)))
                if not document.is_text(value):
                    yield line, entry  # and it is refused
                    return
            yield line, entry
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                raise InvalidInput(
                    "has several documents",
                    f"{shown}, line {_line(event)}",
                    "file",
                    cure="write all entries into one list",
                )
    except yaml.YAMLError as error:
        raise document.malformed(error, text, shown, _FORM) from None


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _plain(event: Any) -> object:
    """What cannot be a key or a value here is neither text nor null."""
    return document.plain(event) if document.is_text(event) else ...


def _no_list(shown: str) -> InvalidInput:
    return InvalidInput("is no list of VIFs", shown, "file", cure=_FORM)
