# SPDX-License-Identifier: Apache-2.0
"""The page about errors, of their classes and the engine's table of words."""

import errno
import inspect
import json
import os
import re
from pathlib import Path

from docs.generated.markdown import docstring, table
from ibhostdev import errors
from ibhostdev.cli.outcome import exit_code
from ibhostdev.guest import errors as guest_errors
from ibhostdev.host import document

ENGINE = Path(__file__).parents[2] / "ibhostdev/_native/engine/words.c"
_KINDS = {
    "WRONG_NETWORK": "WrongPhysicalNetwork",
    "OTHER": "IbHostdevError",
}


def error_classes() -> list[type[errors.IbHostdevError]]:
    found = []
    for module in (errors, document, guest_errors):
        for one in vars(module).values():
            if (
                inspect.isclass(one)
                and issubclass(one, errors.IbHostdevError)
                and one.__module__ == module.__name__
            ):
                found.append(one)
    return found


def engine_words() -> list[tuple[str, str, str | None]]:
    """Class, message and cure of all that the engine says; the class is
    empty where the errno decides."""
    source = ENGINE.read_text(encoding="utf-8")
    names = dict(re.findall(r'^#define (\w+) "(.*)"$', source, re.MULTILINE))
    for name in ("DEVICES", "DRIVERS"):  # of host.h
        names[name] = f"bus/pci/{name.lower()}"
    table = source[source.index("words[T_LAST] = {") :]
    table = table[: table.index("\n};")]
    found = []
    for entry in re.split(r"\n\t\[T_\w+\] = ", table)[1:]:
        kind, message, cure = _fields(entry.strip().rstrip(",")[1:-1])
        name = "" if kind == "BY_ERRNO" else _class_name(kind)
        text = _literal(message, names)
        assert text is not None
        found.append((name, text, _literal(cure, names)))
    return found


def errno_cures() -> list[tuple[str, str]]:
    source = ENGINE.read_text(encoding="utf-8")
    names = dict(re.findall(r'^#define (\w+) "(.*)"$', source, re.MULTILINE))
    body = source[source.index("*usual_cure(") :]
    body = body[: body.index("default:")]
    return [
        (name, _literal(text, names) or "")
        for name, text in re.findall(
            r"case (\w+):\s+return (.*?);\n(?=\tcase|\t$)", body, re.DOTALL
        )
    ]


def _fields(text: str) -> list[str]:
    """At the commas that are outside strings."""
    parts = re.findall(r'(?:"(?:\\.|[^"\\])*"|[^",])+', text)
    return [part.strip() for part in parts]


def _literal(text: str, names: dict[str, str]) -> str | None:
    if text.strip() == "NULL":
        return None
    return "".join(
        names[name] if name else json.loads(f'"{quoted}"')
        for quoted, name in re.findall(r'"((?:\\.|[^"\\])*)"|(\w+)', text)
    )


def _class_name(kind: str) -> str:
    name = kind.removeprefix("IBH_")
    return _KINDS.get(name) or "".join(
        part.capitalize() for part in name.split("_")
    )


_ERRORS_HEAD = """\
# Errors and cures

An error has a type, and tells what happened, on which device (a PCI address,
a network device or a file), to which attribute, what the kernel answered
(errno), and what would likely cure it. The command writes that to standard
error; `--json` has it under `error`, with the keys `type`, `message`,
`device`, `attribute`, `errno` and `cure`; in Python it is an exception of
`ibhostdev.errors` with these attributes. In the tables below, `…` stands for
what is filled in.

Where a type has no exit code of its own, what counts is given under
[Exit codes](../exit-codes.md).
"""


def errors_page() -> str:
    parts = [_ERRORS_HEAD]
    words = engine_words()
    for one in error_classes():
        code = exit_code(one("", None, None))
        parts.append(
            f"## {one.__name__}\n\n{docstring(one)}\n\nExit code {code:d}."
        )
        listed = [(m, c) for name, m, c in words if name == one.__name__]
        if listed:
            parts.append(table(("message", "cure"), listed))
    parts.append(
        "## What the errno decides\n\nThese are an `AccessDenied` for EPERM, "
        "EACCES and EROFS, a `TimedOut` for ETIMEDOUT, else a "
        "`CommandFailed`. Where no cure is given it is that of the errno."
    )
    parts.append(
        table(
            ("message", "cure"), [(m, c) for name, m, c in words if not name]
        )
    )
    parts.append(
        table(
            ("errno", "means", "cure"),
            [
                (name, os.strerror(getattr(errno, name)), cure)
                for name, cure in errno_cures()
            ],
        )
    )
    return "\n\n".join(parts) + "\n"
