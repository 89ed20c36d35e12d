# SPDX-License-Identifier: Apache-2.0
"""host.yaml, and what else says how a host is to be."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from ibhostdev.errors import InvalidInput
from ibhostdev.guid import Guid, shortened
from ibhostdev.host import document
from ibhostdev.host.document import Listing, Mapping, Node, Scalar
from ibhostdev.host.networks import normal
from ibhostdev.inventory import Policy
from ibhostdev.pci import PciAddress
from ibhostdev.pkey import PKey
from ibhostdev.provision.wish import (
    NO_DRIVER,
    Derived,
    Given,
    Guids,
    Identity,
    Idle,
    PfWish,
    Place,
    Range,
)

KEYS = (
    "pf",
    "vfs",
    "driver",
    "autoprobe",
    "policy",
    "guids",
    "physical_network",
    "pkey",
)
"""Of an entry of host.yaml."""
DRIVERS = ("vfio-pci", "mlx5_vfio_pci", "mlx5_core", "mlx4_core", NO_DRIVER)

_FORM = (
    "write a list of entries with pf, vfs, driver, autoprobe, policy, guids, "
    "physical_network, pkey, or give what 'ibhostdev list --json' writes"
)
_GUIDS = (
    "write idle, derived, a list of GUIDs, {from: GUID, to: GUID} or "
    "{map: FILE}"
)
_TRUE = ("yes", "true", "on", "1")
_FALSE = ("no", "false", "off", "0")
_MOST = 1024  # VFs of a PF


class _Value(NamedTuple):
    """A value, with its key, where it stands, and where its key does."""

    key: str
    node: Node
    place: Place

    def refuse(self, message: str, cure: str = "") -> NoReturn:
        raise self.place.refuse(message, self.key, cure)

    def text(self) -> str:
        if not isinstance(self.node, Scalar) or self.node.text is None:
            self.refuse("is no text")
        assert self.node.text is not None
        return self.node.text

    def parsed(self, parse: Callable[[str], Any]) -> Any:
        """What a parser makes of the text, whose refusal gets the place."""
        try:
            return parse(self.text())
        except InvalidInput as error:
            if error.device == str(self.place):
                raise
            raise InvalidInput(
                error.message, str(self.place), self.key, cure=error.cure
            ) from None


class _Source(NamedTuple):
    """The folder that files are named from, and who is told of a GUID that is
    taken from something longer."""

    folder: str
    note: Callable[[str], None]


def _noted(node: Node, note: Callable[[str], None]) -> None:
    if isinstance(node, Scalar):
        told = None if node.text is None else shortened(node.text)
        if told is not None:
            note(told)
    elif isinstance(node, Listing):
        for item in node.items:
            _noted(item, note)
    else:
        for _, value in node.items:
            _noted(value, note)


def from_file(
    name: str, note: Callable[[str], None] = lambda _: None
) -> list[PfWish]:
    """What a file wants of the host's PFs, ``-`` being standard input:
    host.yaml, or what ``list --json`` has written. ``note`` gets a sentence
    for each GID, or address of a network device, in the place of a GUID.

    :raises InvalidInput: naming the bad places, by line and column; see
        document.each()
    """
    text, shown = document.read(
        name,
        _FORM,
        absent="'ibhostdev save --file' writes one that says what is there; "
        "or name one that is there",
    )
    folder = "." if name == "-" else os.path.dirname(name)
    source = _Source(folder, note)
    root = document.parse(text, shown, _FORM)
    if isinstance(root, Mapping) and _keys(root) == {"pfs"}:
        return _listed(root, shown)
    if not isinstance(root, Listing):
        raise InvalidInput("is no list of PFs", shown, "file", cure=_FORM)
    wishes = document.each(
        root.items, lambda entry: _wish(entry, shown, source)
    )
    _once(wishes)
    _noted(root, note)
    return wishes


def _once(wishes: list[PfWish]) -> None:
    seen = set()

    def look(wish: PfWish) -> None:
        if wish.pf in seen:
            raise wish.place.refuse(
                f"{wish.pf} is there twice", "pf", "one entry for each PF"
            )
        seen.add(wish.pf)

    document.each(wishes, look)


def _keys(node: Mapping) -> set[str | None]:
    return {
        key.text if isinstance(key, Scalar) else None for key, _ in node.items
    }


def _place(node: Node, shown: str) -> Place:
    return Place(shown, node.line, node.column)


def _values(
    entry: Node, shown: str, keys: tuple[str, ...] | None, form: str
) -> dict[str, _Value]:
    """The values of a mapping that are not null; with ``keys`` others are
    refused."""
    if not isinstance(entry, Mapping):
        raise _place(entry, shown).refuse("is no mapping", cure=form)
    found: dict[str, _Value] = {}
    seen: set[str] = set()
    for key, value in entry.items:
        place = _place(key, shown)
        name = key.text if isinstance(key, Scalar) else None
        if name is None or (keys is not None and name not in keys):
            what = "what is no text" if name is None else repr(name)
            cure = f"the keys are {', '.join(keys)}" if keys else form
            raise place.refuse(f"{what} is no key here", cure=cure)
        if name in seen:
            raise place.refuse(f"{name} is there twice", name)
        seen.add(name)
        if not (isinstance(value, Scalar) and value.text is None):
            found[name] = _Value(name, value, _place(value, shown))
    return found


# -- host.yaml ------------------------------------------------------------


def _wish(entry: Node, shown: str, source: _Source) -> PfWish:
    given = _values(entry, shown, KEYS, _FORM)
    place = _place(entry, shown)
    if "pf" not in given:
        raise place.refuse(
            "has no pf",
            "pf",
            "name the PF by its PCI address, IB device, network device or "
            "port GUID",
        )
    pf = given["pf"]
    name = _name(pf.text())
    parsers: dict[str, Callable[[_Value], Any]] = {
        "vfs": _vfs,
        "driver": _driver,
        "autoprobe": _truth,
        "policy": _policy,
        "physical_network": _Value.text,
        "guids": lambda value: _guids(value, name, source),
        "pkey": _pkey,
    }
    optional = document.each(
        [key for key in given if key in parsers],
        lambda key: (key, parsers[key](given[key])),
    )
    return PfWish(name, pf.place, **dict(optional))


def _name(text: str) -> str:
    """In the form in which it can be compared: of a PCI address or a GUID,
    the kernel's; names of devices are what they are."""
    try:
        return str(Guid.parse(text))
    except InvalidInput:
        return normal(text)


def _vfs(value: _Value) -> int:
    text = value.text()
    if not (text.isascii() and text.isdecimal() and int(text) <= _MOST):
        value.refuse(
            f"{text!r} is no number of VFs", f"write one from 0 to {_MOST}"
        )
    return int(text)


def _driver(value: _Value) -> str:
    if value.text() not in DRIVERS:
        value.refuse(
            f"{value.text()!r} is no driver that VFs can be given",
            f"choose from {', '.join(DRIVERS)}, or leave it out",
        )
    return value.text()


def _truth(value: _Value) -> bool:
    text = value.text().lower()
    if text not in _TRUE + _FALSE:
        value.refuse(f"{value.text()!r} is neither yes nor no", "write one")
    return text in _TRUE


def _policy(value: _Value) -> Policy:
    try:
        return Policy(value.text())
    except ValueError:
        value.refuse(
            f"{value.text()!r} is no policy",
            f"choose from {', '.join(Policy)}",
        )


def _pkey(value: _Value) -> PKey:
    pkey: PKey = value.parsed(PKey.parse)
    return pkey


def _guids(value: _Value, pf: str, source: _Source) -> Guids:
    node, shown = value.node, value.place.file
    if isinstance(node, Listing):
        return Given(
            tuple(
                document.each(
                    node.items,
                    lambda one: _identity(
                        _Value("guids", one, _place(one, shown))
                    ),
                )
            )
        )
    if isinstance(node, Mapping):
        given = _values(node, shown, ("from", "to", "map"), _GUIDS)
        if set(given) == {"map"}:
            return _mapped(source, pf, given["map"])
        return _range(given, "from", "to", value)
    if value.text() == "idle":
        return Idle()
    if value.text() == "derived":
        return Derived()
    value.refuse(f"{value.text()!r} is no list of GUIDs", _GUIDS)


def _range(
    given: dict[str, _Value], start: str, end: str, whole: _Value
) -> Range:
    if set(given) != {start, end}:
        whole.refuse(f"has not {start} and {end}", _GUIDS)
    first, last = given[start].parsed(_guid), given[end].parsed(_guid)
    if last < first:
        given[end].refuse(
            f"{last} is before {first}", f"write the lower one at {start}"
        )
    return Range(first, last)


def _guid(text: str) -> Guid:
    return Guid.parse_keyed(None, text)


def _mac(text: str) -> Guid:
    return Guid.parse_keyed(text, None)


def _identity(value: _Value) -> Identity | None:
    """An entry of a list: a GUID or MAC, idle, or a mapping."""
    if isinstance(value.node, Scalar):
        if value.node.text in ("idle", None):
            return None
        return Identity(value.parsed(Guid.parse_identity))
    keys = ("guid", "mac", "node_guid", "port_guid", "policy", "pkey")
    given = _values(value.node, value.place.file, keys, _GUIDS)
    policy = _policy(given.pop("policy")) if "policy" in given else None
    pkey = _pkey(given.pop("pkey")) if "pkey" in given else None
    guids = {
        key: given[key].parsed(_mac if key == "mac" else _guid)
        for key in given
    }
    if set(guids) not in (
        {"guid"},
        {"mac"},
        {"node_guid", "port_guid"},
    ):
        value.refuse(
            "has not one identity",
            "write guid or mac, or node_guid and port_guid",
        )
    node = guids.pop("node_guid", None)
    (guid,) = guids.values()
    return Identity(guid, policy, None if node == guid else node, pkey)


# -- a map in a file of its own -------------------------------------------


def _mapped(source: _Source, pf: str, whole: _Value) -> Guids:
    """What a map has for a PF: entries with pf, and guids as above. That of
    sriov-network-operator is one, too (pkg/host/internal/infiniband/
    ib_guid_config.go; its documents spell the keys in another way)."""
    file = os.path.join(source.folder, whole.text())
    text, shown = document.read(file, _FORM)
    root = document.parse(text, shown, _GUIDS)
    if not isinstance(root, Listing):
        raise InvalidInput("is no list of PFs", shown, "file", cure=_GUIDS)
    found: list[Guids] = []
    for entry in root.items:
        names, guids = _map_entry(entry, shown, pf, source)
        if pf in names:
            found.append(guids)
            _noted(entry, source.note)
    if len(found) != 1:
        whole.refuse(
            f"{file} has {len(found) or 'no'} entries for {pf}",
            "give it one entry there, under the name that it has here",
        )
    return found[0]


_SPELLINGS = {
    "pciAddress": "pf",
    "pci_address": "pf",
    "pfGuid": "pf",
    "pf_guid": "pf",
    "rangeStart": "from",
    "range_start": "from",
    "rangeEnd": "to",
    "range_end": "to",
}


def _map_entry(
    entry: Node, shown: str, pf: str, source: _Source
) -> tuple[set[str], Guids]:
    keys = ("pf", "guids", "from", "to", *_SPELLINGS)
    given = _values(entry, shown, keys, _GUIDS)
    whole = _Value("guids", entry, _place(entry, shown))
    told: dict[str, _Value] = {}
    for key, value in given.items():
        name = _SPELLINGS.get(key, key)
        if name in told:
            value.refuse(f"says the same as {told[name].key}", _GUIDS)
        told[name] = value
    if "pf" not in told:
        whole.refuse("names no PF", "add pf")
    name = _name(told.pop("pf").text())
    if "guids" not in told:
        return {name}, _range(told, "from", "to", whole)
    if len(told) > 1:
        whole.refuse("has both guids and a range", "leave one out")
    if isinstance(told["guids"].node, Mapping) and _keys(
        told["guids"].node
    ) == {"map"}:
        told["guids"].refuse("leads to yet another file", _GUIDS)
    return {name}, _guids(told["guids"], pf, source)


# -- what list --json has written -----------------------------------------


def _listed(root: Mapping, shown: str) -> list[PfWish]:
    """Drivers and policies are taken over where all of a PF's VFs have the
    same."""
    pfs = root.items[0][1]
    if not isinstance(pfs, Listing):
        raise _place(pfs, shown).refuse("is no list of PFs", cure=_FORM)
    return document.each(pfs.items, lambda pf: _listed_pf(pf, shown))


def _listed_pf(entry: Node, shown: str) -> PfWish:
    given = _values(entry, shown, None, _FORM)
    for key in ("pci", "numvfs", "vfs"):
        if key not in given:
            raise _place(entry, shown).refuse(f"has no {key}", cure=_FORM)
    vfs = dict(_listed_vfs(given["vfs"]))
    if set(vfs) != set(range(_vfs(given["numvfs"]))):
        given["vfs"].refuse(
            "does not have all VFs of its PF",
            "list whole PFs: 'ibhostdev list --json' without names of VFs",
        )
    drivers = {driver for driver, _ in vfs.values()}
    return PfWish(
        given["pci"].parsed(PciAddress.parse),
        given["pci"].place,
        vfs=len(vfs),
        driver=drivers.pop() if len(drivers) == 1 else None,
        guids=Given(tuple(vfs[index][1] for index in sorted(vfs))),
    )


def _listed_vfs(
    value: _Value,
) -> list[tuple[int, tuple[str | None, Identity | None]]]:
    node, shown = value.node, value.place.file
    if not isinstance(node, Listing):
        value.refuse("is no list of VFs", _FORM)

    def parse(one: Node) -> tuple[int, tuple[str | None, Identity | None]]:
        given = _values(one, shown, None, _FORM)
        if "index" not in given:
            raise _place(one, shown).refuse("has no index", cure=_FORM)
        driver = given["driver"].text() if "driver" in given else NO_DRIVER
        return (
            _vfs(given["index"]),
            (driver if driver in DRIVERS else None, _listed_identity(given)),
        )

    return document.each(node.items, parse)


def _listed_identity(given: dict[str, _Value]) -> Identity | None:
    if "port_guids" in given and isinstance(given["port_guids"].node, Listing):
        _, *others = given["port_guids"].node.items
        place = given["port_guids"].place
        for one in others:
            second = _Value("port_guids", one, _place(one, place.file))
            if not second.parsed(Guid.parse).is_idle:
                second.refuse("is an identity on a second port")
    guids = {
        key: given[key].parsed(Guid.parse)
        for key in ("node_guid", "port_guid")
        if key in given
    }
    port = guids.get("port_guid")
    node = guids.get("node_guid", port)
    if port is None or node is None or (port.is_idle and node.is_idle):
        return None
    if port.is_idle or node.is_idle:
        given["port_guid"].refuse(
            f"has node GUID {node} and port GUID {port}",
            "give the VF both, or make it idle",
        )
    policy = _policy(given["policy"]) if "policy" in given else None
    pkey = _pkey(given["pkey"]) if "pkey" in given else None
    return Identity(port, policy, None if node == port else node, pkey)
