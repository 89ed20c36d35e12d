# SPDX-License-Identifier: Apache-2.0
"""Files that people write, YAML or JSON, with the place of everything in
them: what is wrong is said with its line and column.

All is text: YAML takes 52:54:00:12:34:56 for a number to the base of 60.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from errno import ENOENT
from typing import Any, NamedTuple, Self, TypeVar

from ibhostdev.errors import IbHostdevError, InvalidInput

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")

_LIMIT = 1 << 20  # bytes of a file; 10 000 VIFs
DEPTH = 16  # of what is in what is in …
_TOLD = 20  # bad entries; who has more has given another file


class Scalar(NamedTuple):
    """A text; None is YAML's null."""

    text: str | None
    line: int
    column: int


class Listing(NamedTuple):
    items: "tuple[Node, ...]"
    line: int
    column: int


class Mapping(NamedTuple):
    """Keys and values as they stand there, a key maybe twice."""

    items: "tuple[tuple[Node, Node], ...]"
    line: int
    column: int


Node = Scalar | Listing | Mapping


class BadEntries(InvalidInput):
    """Several things are wrong, each of which is in ``errors``."""

    errors: tuple[IbHostdevError, ...]

    @classmethod
    def of(cls, errors: Iterable[IbHostdevError]) -> Self:
        several = tuple(errors)
        error = cls.of_several(several)
        error.errors = several
        return error

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self).of, (self.errors,))


def causes(error: IbHostdevError) -> tuple[IbHostdevError, ...]:
    """All that is wrong, be it one thing."""
    return error.errors if isinstance(error, BadEntries) else (error,)


def told(error: IbHostdevError) -> tuple[Sequence[IbHostdevError], int]:
    """What to tell of it, and how many others there are: who has so many
    bad entries has given another file."""
    all_of_them = causes(error)
    return all_of_them[:_TOLD], max(0, len(all_of_them) - _TOLD)


def each(
    items: Iterable[_Item], make: Callable[[_Item], _Made]
) -> list[_Made]:
    """What is made of each. One that is bad does not keep the others from
    being looked at, so that all that is wrong is told at once.

    :raises IbHostdevError: what ``make``, or the iteration, has raised
    :raises BadEntries: if that was more than one thing
    """
    made: list[_Made] = []
    errors: list[IbHostdevError] = []
    try:
        for item in items:
            try:
                made.append(make(item))
            except IbHostdevError as error:
                errors += causes(error)
    except IbHostdevError as error:  # behind it nothing can be read
        errors += causes(error)
    if len(errors) > 1:
        raise BadEntries.of(errors)
    if errors:
        raise errors[0]
    return made


def read(name: str, cure: str, absent: str | None = None) -> tuple[str, str]:
    """A file's text, ``-`` being standard input, and its name for people.
    ``absent`` is the cure where there is no such file.

    :raises InvalidInput: if it cannot be read, is no text or too long
    """
    shown = "standard input" if name == "-" else name
    try:
        if name == "-":
            data = sys.stdin.buffer.read(_LIMIT + 1)
        else:
            with open(name, "rb") as file:
                data = file.read(_LIMIT + 1)
    except OSError as error:
        missing = absent if error.errno == ENOENT else None
        raise InvalidInput(
            "cannot be read",
            shown or "''",
            "file",
            error.errno,
            missing
            or "name a file that is there and that you may read, or - for "
            "standard input",
        ) from None
    if len(data) > _LIMIT:
        raise InvalidInput(
            f"has more than {_LIMIT >> 20} MiB",
            shown,
            "file",
            cure="split it: one batch at a time",
        )
    try:
        return data.decode("utf-8-sig"), shown
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"is not UTF-8 at byte {error.start}", shown, "file", cure=cure
        ) from None


def parse(text: str, shown: str, cure: str) -> Node:
    """The one document of a text; an empty one is null.

    :raises InvalidInput: for what is neither YAML nor JSON, is nested too
        deep, has references, or several documents
    """
    import yaml

    if text.lstrip()[:1] in ("{", "["):
        # JSON may have tabs between its parts, and only there.
        text = text.replace("\t", " ")
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        events = yaml.parse(text, loader)
        for event in events:
            if isinstance(event, yaml.StreamEndEvent):
                return Scalar(None, 1, 1)
            if isinstance(event, yaml.DocumentStartEvent):
                break
        node = _node(next(events), events, shown, cure, DEPTH)
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                raise _several(event, shown)
        return node
    except yaml.YAMLError as error:
        raise malformed(error, text, shown, cure) from None


def _node(
    event: Any, events: Iterator[Any], shown: str, cure: str, depth: int
) -> Node:
    import yaml

    mark = event.start_mark
    line, column = mark.line + 1, mark.column + 1
    if is_text(event):
        return Scalar(plain(event), line, column)
    if isinstance(event, yaml.AliasEvent) or not depth:
        raise InvalidInput(
            "refers to another place" if depth else "is nested too deep",
            f"{shown}, line {line}, column {column}",
            "file",
            cure=cure,
        )

    def inner(event: Any) -> Node:
        return _node(event, events, shown, cure, depth - 1)

    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(inner(event))
        return Listing(tuple(items), line, column)
    pairs = []
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        key = inner(event)
        pairs.append((key, inner(next(events))))
    return Mapping(tuple(pairs), line, column)


def _several(event: Any, shown: str) -> InvalidInput:
    return InvalidInput(
        "has several documents",
        f"{shown}, line {event.start_mark.line + 1}",
        "file",
        cure="write all entries into one list",
    )


def malformed(error: Any, text: str, shown: str, cure: str) -> InvalidInput:
    """What a YAMLError says, with its place."""
    # What is no character at all has a reason, the rest a problem.
    what = getattr(error, "problem", None) or getattr(error, "reason", None)
    return InvalidInput(
        f"is neither YAML nor JSON: {what or 'it is no text'}",
        f"{shown}{_place(error, text)}",
        "file",
        cure=cure,
    )


def _place(error: Any, text: str) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return f", line {mark.line + 1}, column {mark.column + 1}"
    position = getattr(error, "position", None)
    if position is None:
        return ""
    # libyaml counts octets.
    *lines, last = text.encode()[:position].split(b"\n")
    column = len(last.decode(errors="replace"))
    return f", line {len(lines) + 1}, column {column + 1}"


def is_text(event: Any) -> bool:
    return isinstance(getattr(event, "value", None), str)


def plain(event: Any) -> str | None:
    """The text of a scalar, None for YAML's null."""
    value: str = event.value
    if not event.style and value in ("", "~", "null", "Null", "NULL"):
        return None
    return value
