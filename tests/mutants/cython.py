# SPDX-License-Identifier: Apache-2.0
"""Where a Cython source can be made wrong, by its tokens.

Only inside functions. Some of what is found does not compile; that is for
Cython and the compiler to say.
"""

import keyword
import tokenize
from collections.abc import Iterator
from io import BytesIO

from tests.mutants.site import TURNED, Site, off_by_one

_DROPPED = ("raise", "continue", "break", "return")
_CONDITIONS = ("if", "elif", "while")
_SWAPPED = {"and": "or", "or": "and"}
_HEADERS = ("def", "cdef", "cpdef", "class")
_INDENT = 4
_OPENING, _CLOSING = ("(", "[", "{"), (")", "]", "}")
_BLANK = (tokenize.COMMENT, tokenize.NL, tokenize.ENCODING)

_Tokens = list[tokenize.TokenInfo]
_Edit = tuple[tokenize.TokenInfo, tokenize.TokenInfo, str, str]


def sites(path: str, text: bytes) -> list[Site]:
    """In the order of the source, which has to be ASCII."""
    lines = [0]
    for line in text.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))

    def at(position: tuple[int, int]) -> int:
        return lines[position[0] - 1] + position[1]

    found = [
        Site(path, text, at(a.start), at(b.end), new.encode(), what, name)
        for name, line in _statements(text)
        for a, b, new, what in _edits(line)
    ]
    return sorted(found, key=lambda site: (site.start, site.end))


def _statements(text: bytes) -> Iterator[tuple[str, _Tokens]]:
    """Those of functions, headers not, each with the function's name; the
    return that a function ends with is in it without its first word, for
    nothing would be returned."""
    within: list[tuple[int, str, bool]] = []
    lines = list(_lines(text))
    for line, following in zip(lines, [*lines[1:], None], strict=True):
        column, words = line[0].start[1], [token.string for token in line]
        while within and within[-1][0] >= column:
            within.pop()
        if words[0] in _HEADERS and words[-1] == ":":
            is_class = "class" in words[:2] or "(" not in words
            name = words[words.index("(" if "(" in words else ":") - 1]
            within.append((column, name, not is_class))
        elif within and within[-1][2]:
            body = within[-1][0] + _INDENT
            ends = following is None or following[0].start[1] < column
            if words[0] == "return" and column == body and ends:
                line = line[1:]
            if line:
                yield ".".join(name for _, name, _ in within), line


def _lines(text: bytes) -> Iterator[_Tokens]:
    line: _Tokens = []
    for token in tokenize.tokenize(BytesIO(text).readline):
        if token.type in (tokenize.INDENT, tokenize.DEDENT, *_BLANK):
            continue
        if token.type in (tokenize.NEWLINE, tokenize.ENDMARKER):
            if line:
                yield line
            line = []
        else:
            line.append(token)


def _edits(line: _Tokens) -> Iterator[_Edit]:
    own = list(_operators(line))
    yield from own
    first, last = line[0], line[-1]
    if first.string in _CONDITIONS and last.string == ":" and not own:
        start, end = line[1], line[-2]
        if start.start[0] == end.end[0]:
            old = start.line[start.start[1] : end.end[1]]
            yield start, end, f"not ({old})", "not added"
    elif first.string in _DROPPED:
        yield first, last, "pass", f"{first.string} dropped"
    elif _is_call(line):
        yield first, last, "pass", "call dropped"


def _is_call(line: _Tokens) -> bool:
    words = [token.string for token in line]
    if "(" not in words or keyword.iskeyword(words[0]):
        return False
    opening = words.index("(")
    if not all(
        word.isidentifier() if n % 2 == 0 else word == "."
        for n, word in enumerate(words[:opening])
    ):
        return False
    depth = 0
    for n, word in enumerate(words):
        depth += (word in _OPENING) - (word in _CLOSING)
        if n >= opening and depth == 0:
            return opening % 2 == 1 and n == len(words) - 1
    return False


def _operators(line: _Tokens) -> Iterator[_Edit]:
    loops = casts = 0
    skipped = False
    for n, token in enumerate(line):
        text, before = token.string, line[n - 1] if n else None
        after = line[n + 1] if n + 1 < len(line) else None
        if skipped:
            skipped = False
        elif text == "<" and not _ends_operand(before):
            casts += 1
        elif text == ">" and casts:
            casts -= 1
        elif text == "for":
            loops += 1
        elif text == "in" and loops:
            loops -= 1
        elif (
            text in ("not", "is")
            and after is not None
            and (after.string in ("in", "not") and text != after.string)
        ):
            skipped = True
            both = f"{text} {after.string}"
            yield token, after, TURNED[both], f"{both} turned"
        elif text == "not":
            yield token, token, "", "not dropped"
        elif text in TURNED:
            yield token, token, TURNED[text], f"{text} turned"
        elif text in _SWAPPED:
            new = _SWAPPED[text]
            yield token, token, new, f"{new} for {text}"
        elif token.type == tokenize.NUMBER and (next_ := off_by_one(text)):
            yield token, token, next_, "constant off by one"


def _ends_operand(token: tokenize.TokenInfo | None) -> bool:
    if token is None:
        return False
    return token.string in (")", "]") or (
        token.type in (tokenize.NAME, tokenize.NUMBER, tokenize.STRING)
        and not keyword.iskeyword(token.string)
    )
