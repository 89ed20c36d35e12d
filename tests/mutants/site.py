# SPDX-License-Identifier: Apache-2.0
"""One place of a source where it can be made wrong, and how."""

import re
from dataclasses import dataclass

#: Each comparison with what it says when it is turned.
TURNED = {
    "==": "!=",
    "<": ">=",
    ">": "<=",
    "is": "is not",
    "in": "not in",
}
TURNED |= {turned: plain for plain, turned in TURNED.items()}
_INTEGER = re.compile(r"(0[xX][0-9a-fA-F]+|\d+)([uUlL]*)")


def off_by_one(text: str) -> str | None:
    """The next integer, with what stands behind it; None if it is none."""
    number = _INTEGER.fullmatch(text)
    if not number:
        return None
    digits, suffix = number.groups()
    octal = digits.isdigit() and digits[0] == "0"
    return f"{int(digits, 8 if octal else 0) + 1}{suffix}"


@dataclass(frozen=True)
class Site:
    """``new`` in the place of ``text[start:end]``, all of them bytes; ``what``
    says in two words what that does. ``within`` is the function's name."""

    path: str
    text: bytes
    start: int
    end: int
    new: bytes
    what: str
    within: str

    @property
    def line(self) -> int:
        return self.text.count(b"\n", 0, self.start) + 1

    @property
    def mutant(self) -> bytes:
        return self.text[: self.start] + self.new + self.text[self.end :]

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.within}: {self.what}"

    @property
    def difference(self) -> tuple[str, ...]:
        """The lines that differ, with - and + in front, without their
        indents: what a mutant is known by when lines above it change."""
        first = self.text.rfind(b"\n", 0, self.start) + 1
        last = self.text.index(b"\n", self.end)
        old = self.text[first:last]
        new = old[: self.start - first] + self.new + self.text[self.end : last]
        return tuple(
            f"{sign} {line.strip()}"
            for sign, part in (("-", old), ("+", new))
            for line in part.decode().splitlines()
        )
