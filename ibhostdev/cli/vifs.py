# SPDX-License-Identifier: Apache-2.0
"""VIFs as a shell user writes them: arguments, and files of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from ibhostdev.batch import Vif
from ibhostdev.cli import terminal
from ibhostdev.errors import IbHostdevError, InvalidInput
from ibhostdev.guid import Guid, shortened
from ibhostdev.host import document
from ibhostdev.pci import PciAddress
from ibhostdev.pkey import PKey

_T = TypeVar("_T")

_GUIDS = ("guid", "node_guid", "port_guid")
_KEYS = ("pci", "mac", *_GUIDS, "physical_network", "pkey")
_FORM = (
    "write a list of entries with pci, mac or guid (or node_guid and "
    "port_guid), physical_network, pkey, or give what 'ibhostdev list --json' "
    "writes"
)

_Entry = list[tuple[Any, Any]]
"""Keys and values as they stand there, a key maybe twice."""
_Entries = Iterator[tuple[str, _Entry | InvalidInput | None]]
"""With the place of each; None for what is no mapping, an error for what no
VIF can be made of."""


def from_arguments(
    words: Sequence[str], network: str | None, need_pci: bool
) -> list[Vif]:
    """From PCI=MAC, or MAC alone where the VF need not be named.

    :raises InvalidInput: for what is malformed; see document.each()
    """

    def parse(word: str) -> Vif:
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
        vif = Vif.parse(pci if equals else None, identity, network)
        _note(identity)
        return vif

    return document.each(words, parse)


def _is_pci(word: str) -> bool:
    try:
        PciAddress.parse(word)
    except InvalidInput:
        return False
    return True


def from_file(name: str, network: str | None, need_pci: bool) -> list[Vif]:
    """From a YAML or JSON file, ``-`` for standard input, or what ``list
    --json`` has written; VIFs that name no physical network get this one.

    :raises InvalidInput: naming the bad entries; see document.each()
    """
    return _read(
        name,
        _KEYS,
        lambda given, where: _vif(given, where, network, need_pci),
    )


def with_domains(
    name: str, network: str | None, domain: str | None
) -> list[tuple[str, Vif]]:
    """Likewise, each with a libvirt domain: the entry's, or this one."""
    return _read(
        name,
        (*_KEYS, "domain"),
        lambda given, where: (
            _domain(given, where, domain),
            _vif(given, where, network, need_pci=True),
        ),
    )


def addresses(name: str, domain: str | None) -> list[tuple[str, PciAddress]]:
    """The VFs that such a file names; whose they are does not matter."""

    def parse(given: dict[str, str], where: str) -> tuple[str, PciAddress]:
        pci = _pci(given, where)
        whose = _domain(given, where, domain)
        try:
            return whose, PciAddress.parse(pci)
        except IbHostdevError as error:
            error.device = where
            raise

    return _read(name, (*_KEYS, "domain"), parse)


def pkeys(name: str | None, others: Iterable[Vif] = ()) -> dict[Guid, PKey]:
    """The P_Keys that such a file and other VIFs have, by GUID; those without
    one do not matter, nor whether a VF is named.

    :raises InvalidInput: naming the bad entries, or a GUID that is to be in
        two partitions
    """
    found: dict[Guid, PKey] = {}
    vifs: list[Vif] = []
    if name is not None:
        vifs = _read(
            name,
            (*_KEYS, "domain"),
            lambda given, where: _vif(given, where, None, need_pci=False),
        )
    for vif in (*vifs, *others):
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
    name: str, keys: Sequence[str], make: Callable[[dict[str, str], str], _T]
) -> list[_T]:
    """What is made of each entry and the place where it stands."""
    text, shown = document.read(name, _FORM)
    return document.each(
        _entries(text, shown),
        lambda one: make(_given(one[1], one[0], keys), one[0]),
    )


def _given(
    entry: _Entry | InvalidInput | None, where: str, keys: Sequence[str]
) -> dict[str, str]:
    if isinstance(entry, InvalidInput):
        raise entry
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
    import json

    try:
        # Most JSON is YAML too, but not all: tabs.
        given = json.loads(text, object_pairs_hook=_Pairs)
    except ValueError:
        for number, (at, entry) in enumerate(_yaml_entries(text, shown), 1):
            yield f"{shown}{at}, entry {number}", entry
        return
    except RecursionError:
        raise _no_list(shown) from None
    if isinstance(given, _Pairs):
        yield from _listed(given, shown)
        return
    if not isinstance(given, list):
        raise _no_list(shown)
    for number, (at, entry) in enumerate(
        zip(_json_places(text), given, strict=True), 1
    ):
        yield (
            f"{shown}{at}, entry {number}",
            list(entry) if isinstance(entry, _Pairs) else None,
        )


class _Pairs(list[tuple[str, Any]]):
    """A JSON object, told from an array."""


def _json_places(text: str) -> Iterator[str]:
    """Of the members of an array that has been read: where each begins."""
    import json

    read = json.JSONDecoder().raw_decode
    line, seen, at = 1, 0, text.index("[") + 1
    while True:
        while text[at] in " \t\r\n,":
            at += 1
        if text[at] == "]":
            return
        line += text.count("\n", seen, at)
        seen = at
        yield _place(line, at - text.rfind("\n", 0, at))
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
            where = f"{shown}, VF {told.get('pci')}"
            try:
                identity = _listed_identity(told, where)
            except InvalidInput as error:
                yield where, error
                continue
            if identity:
                yield (
                    where,
                    [
                        ("pci", told.get("pci")),
                        *identity,
                        ("physical_network", network),
                        ("pkey", told.get("pkey")),
                    ],
                )


def _listed_identity(told: dict[str, Any], where: str) -> _Entry:
    """None of an idle VF's."""
    sides = told.get("port_guids")
    # Of mlx4, the first port's again, and the second's.
    second = sides[1:] if isinstance(sides, list) else []
    node, owner, *others = [
        None if guid is None else _guid(guid, where)
        for guid in (told.get("node_guid"), told.get("port_guid"), *second)
    ]
    if any(other and not other.is_idle for other in others):
        raise InvalidInput(
            "has an identity on a second port",
            where,
            cure="write a list of VIFs, each with the physical_network of "
            "its port",
        )
    if owner is None or (owner.is_idle and (node is None or node.is_idle)):
        return []
    if node is not None and node.is_idle != owner.is_idle:
        raise InvalidInput(
            f"has node GUID {node} and port GUID {owner}: one of them is "
            "nobody's",
            where,
            cure="leave it out, or plug or unplug it again first",
        )
    if node in (None, owner):
        return [("guid", str(owner))]
    return [("node_guid", str(node)), ("port_guid", str(owner))]


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
) -> Iterator[tuple[str, _Entry | None]]:
    """Of the parser's events, in which all is text still, and nothing is
    nested deeper than it is expected: YAML takes 52:54:00:12:34:56 for a
    number to the base of 60, and the C loader overflows its stack. Each with
    its place."""
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
            at = _place(_line(event), _column(event))
            if not isinstance(event, yaml.MappingStartEvent):
                yield at, None
                if not _passed(event, events):
                    return
                continue
            entry: _Entry = []
            for key in events:
                if isinstance(key, yaml.MappingEndEvent):
                    break
                passed = _passed(key, events)
                value = next(events) if passed else None
                entry.append((_plain(key), _plain(value)))
                if not passed or not _passed(value, events):
                    yield at, entry  # and it is refused
                    return
            yield at, entry
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


def _passed(event: Any, events: Iterator[Any]) -> bool:
    """Takes the events of what has begun, to its end; False if it is nested
    too deep for that."""
    import yaml

    depth = 0
    while True:
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if not 0 < depth < document.DEPTH:
            return not depth
        event = next(events)


def _place(line: int, column: int) -> str:
    return f", line {line}, column {column}"


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _column(event: Any) -> int:
    return int(event.start_mark.column) + 1


def _plain(event: Any) -> object:
    """What cannot be a key or a value here is neither text nor null."""
    return document.plain(event) if document.is_text(event) else ...


def _no_list(shown: str) -> InvalidInput:
    return InvalidInput("is no list of VIFs", shown, "file", cure=_FORM)
