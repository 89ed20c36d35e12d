# SPDX-License-Identifier: Apache-2.0
"""Text of the sources as Markdown."""

import inspect
import re
from typing import Any


def prose(text: str) -> str:
    """click's help as Markdown: what it is not to wrap is a block of its
    own."""
    parts = []
    for part in inspect.cleandoc(text).split("\n\n"):
        if part.startswith("\b\n"):
            lines = part.removeprefix("\b\n")
            if lines.startswith("Exit codes:\n"):
                lines = lines.removeprefix("Exit codes:\n")
                parts.append("## Exit codes")
            elif ":\n" in lines and not lines.startswith("- "):
                head, _, lines = lines.partition("\n")
                parts.append(escaped(head))
            parts.append(f"```text\n{inspect.cleandoc(lines)}\n```")
        else:
            parts.append(escaped(part))
    return "\n\n".join(parts)


def escaped(text: str) -> str:
    """Text in which Markdown finds nothing but the options and commands
    that are in it, told from the words around them."""
    found = re.split(
        r"((?<!\w)'[^'\n]+'(?!\w)|(?<![\w-])--?[a-z][a-z-]*)", text
    )
    return "".join(
        f"`{one.strip(chr(39))}`"
        if number % 2
        else re.sub(r"([\\`*_{}\[\]<>#|~$])", r"\\\1", one)
        for number, one in enumerate(found)
    )


def docstring(one: type) -> str:
    text = inspect.getdoc(one) or ""
    return escaped(text.partition("\n\n")[0])


def table(head: tuple[str, ...], rows: list[Any]) -> str:
    lines = [head, ("---",) * len(head)]
    lines += [
        tuple("" if cell is None else _cell(cell) for cell in row)
        for row in rows
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    text = re.sub(r"'?\{\d\}'?", "…", text)
    return escaped(" ".join(text.split()))
