# SPDX-License-Identifier: Apache-2.0
"""Where a C source can be made wrong, by its tokens.

Only inside functions, and not in what the preprocessor reads; the size of an
array is left out, for it may be larger than what is put there. Some of what is
found does not compile; that is for the compiler to say.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from tests.mutants.site import TURNED, Site, off_by_one

_TOKEN = re.compile(
    rb"""
      (?P<skip> \s+ | /\*.*?\*/ | //[^\n]* | ^[ \t]*\#(?:[^\n\\]|\\.)* )
    | (?P<text> "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' )
    | (?P<name> [A-Za-z_]\w* )
    | (?P<number> \d[\w.]* )
    | (?P<operator> ->|\+\+|--|<<=|>>=|<<|>>|[-+*/%&|^=!<>]=|&&|\|\||\S )
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_SWAPPED = {"&&": "||", "||": "&&"}
_HEADS = ("if", "for", "while", "switch")
_DROPPED = ("return", "continue", "break", "goto")


class _Token(NamedTuple):
    text: str
    start: int
    end: int


def sites(path: str, text: bytes) -> list[Site]:
    """In the order of the source."""
    tokens = [
        _Token(match.group().decode(), match.start(), match.end())
        for match in _TOKEN.finditer(text)
        if match.lastgroup != "skip"
    ]
    found = []
    for name, first, last in _functions(tokens):
        body = _Body(text, tokens[first : last + 1])
        found += [
            Site(path, text, start, end, new.encode(), what, name)
            for start, end, new, what in body.edits()
        ]
    return sorted(found, key=lambda site: (site.start, site.end))


def _functions(tokens: list[_Token]) -> Iterator[tuple[str, int, int]]:
    """Name, opening and closing brace of each."""
    depth = opened = inside = 0
    name = ""
    for at, token in enumerate(tokens):
        if token.text == "{":
            if depth == 0:
                opened = at
            depth += 1
        elif token.text == "}":
            depth -= 1
            if depth == 0 and tokens[opened - 1].text == ")":
                yield name, opened, at
        elif depth == 0 and token.text == ")":
            inside -= 1
        elif depth == 0 and token.text == "(" and at:
            # Not those of a parameter that is a function itself.
            if inside == 0:
                name = tokens[at - 1].text
            inside += 1


_Edit = tuple[int, int, str, str]


class _Body:
    """A function's tokens, from brace to brace."""

    def __init__(self, text: bytes, tokens: list[_Token]) -> None:
        self._text = text
        self._tokens = tokens
        self._partner: dict[int, int] = {}
        opened: list[int] = []
        for at, token in enumerate(tokens):
            if token.text in ("(", "[", "{"):
                opened.append(at)
            elif token.text in (")", "]", "}"):
                start = opened.pop()
                self._partner |= {start: at, at: start}

    def edits(self) -> Iterator[_Edit]:
        sizes = set(self._sizes())
        for at, token in enumerate(self._tokens):
            if at not in sizes:
                yield from self._operator(token)
            if token.text in ("if", "while"):
                yield from self._negated(at + 1)
            if self._starts_statement(at):
                yield from self._dropped(at)

    def _sizes(self) -> Iterator[int]:
        """What is between the brackets of declared arrays: such a statement
        begins with two names, or a name and a star."""
        declares = False
        for at, token in enumerate(self._tokens):
            if self._starts_statement(at):
                names = [one.text for one in self._tokens[at : at + 2]]
                declares = names[0] != "return" and all(
                    name.isidentifier() or name == "*" for name in names
                )
            elif token.text == "=":
                declares = False
            elif token.text == "[" and declares:
                yield from range(at + 1, self._partner[at])

    def _operator(self, token: _Token) -> Iterator[_Edit]:
        text, start, end = token
        if text in TURNED and not text.isalpha():
            yield start, end, TURNED[text], f"{text} turned"
        elif text in _SWAPPED:
            yield start, end, _SWAPPED[text], f"{_SWAPPED[text]} for {text}"
        elif text == "!":
            yield start, end, "", "! dropped"
        elif new := off_by_one(text):
            yield start, end, new, "constant off by one"

    def _negated(self, opening: int) -> Iterator[_Edit]:
        """A condition in which no operator of its own can be turned."""
        closing = self._partner.get(opening)
        if closing is None:
            return
        inside = {one.text for one in self._tokens[opening + 1 : closing]}
        if not inside & {"!", *_SWAPPED, *TURNED}:
            start = self._tokens[opening].end
            end = self._tokens[closing].start
            old = self._text[start:end].decode()
            yield start, end, f"!({old})", "! added"

    def _starts_statement(self, at: int) -> bool:
        if self._tokens[at].text in ("{", "}"):
            return False
        before = self._tokens[at - 1].text if at else ""
        if before == ")":
            head = self._tokens[self._partner[at - 1] - 1].text
            return head in _HEADS
        return before in (";", "{", "}", ":", "else", "do")

    def _dropped(self, at: int) -> Iterator[_Edit]:
        """A jump or a call, up to its semicolon."""
        first = self._tokens[at].text
        last = at + 1
        if first in _DROPPED:
            while self._tokens[last].text != ";":
                last = self._partner.get(last, last) + 1
            if first == "return" and last + 2 == len(self._tokens):
                return  # the function's last: nothing would be defined
        else:
            while self._tokens[last].text in ("->", "."):
                last += 2
            if self._tokens[last].text != "(" or not first.isidentifier():
                return
            last = self._partner[last] + 1
            if self._tokens[last].text != ";" or first in _HEADS:
                return
            first = "call"
        start, end = self._tokens[at].start, self._tokens[last].start
        yield start, end, "", f"{first} dropped"
