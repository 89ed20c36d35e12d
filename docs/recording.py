# SPDX-License-Identifier: Apache-2.0
"""The demo as a picture of text, docs/demo.svg, made of what it prints on a
terminal; for ./dev docs recording.

A browser plays it. What plays nothing, or whose reader has asked for less
motion, shows one screen of it: the plug. Fonts are the reader's own, and the
background is the picture's, so that it can be read on light pages and dark.
"""

import os
import pty
import re
import subprocess
import sys
import termios
from html import escape
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console
from rich.text import Text

FILE = Path(__file__).with_name("demo.svg")
DEMO = [sys.executable, "-m", "ibhostdev.simulate.demo"]
COLUMNS, ROWS = 80, 30
STILL = "VFs have their identities after"
"""In the last line of what is shown where nothing moves."""

# Of a letter, of a line, and round the text.
_WIDE, _HIGH, _MARGIN = 8.4, 18, 16
# Seconds until the next line, of a command, and at the end of its output.
_LINE, _COMMAND, _OUTPUT = 0.06, 1.0, 4.0

# As terminals number them.
_COLOURS = (
    *("black", "red", "green", "yellow"),
    *("blue", "magenta", "cyan", "white"),
)
_STYLE = """\
rect{fill:#0d1117;stroke:#3d444d}
text{font:14px ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;\
fill:#d1d7e0}
.bold{font-weight:bold}
.dim{fill:#9198a1}
.green{fill:#3fb950}
.cyan{fill:#39c5cf}
.yellow{fill:#d29922}
.red{fill:#f85149}
"""


def played() -> str:
    """What the demo prints on a terminal.

    :raises subprocess.CalledProcessError: if it fails
    """
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (ROWS, COLUMNS))
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("COLUMNS", "COLORTERM", "FORCE_COLOR", "NO_COLOR")
    }
    process = subprocess.Popen(
        DEMO,
        env={**environment, "TERM": "xterm-256color"},
        stdin=subprocess.DEVNULL,
        stdout=its,
    )
    os.close(its)
    said = b""
    try:
        while some := os.read(ours, 65536):
            said += some
    except OSError:  # EIO: nobody writes there any more
        pass
    os.close(ours)
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, DEMO, said)
    return said.decode().replace("\r\n", "\n")


def drawn(said: str) -> str:
    """The picture of what was printed."""
    lines = [Text.from_ansi(line) for line in said.splitlines()]
    plain = [line.plain for line in lines]
    still = 1 + max(
        (number for number, line in enumerate(plain) if STILL in line),
        default=len(plain) - 1,
    )
    wide, high = COLUMNS * _WIDE, ROWS * _HIGH
    shown = "\n".join(_line(*one) for one in enumerate(lines, 1))
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" \
viewBox="0 0 {wide + 2 * _MARGIN:g} {high + 2 * _MARGIN}">
<title>What ./dev demo prints</title>
<style>
{_STYLE}{_motion(plain)}</style>
<rect width="100%" height="100%" rx="8"/>
<svg x="{_MARGIN}" y="{_MARGIN}" width="{wide:g}" height="{high}">
<g id="lines" xml:space="preserve" transform="translate(0 {_place(still)})">
{shown}
</g>
</svg>
</svg>
"""


def _line(number: int, line: Text) -> str:
    """One line; that of a terminal is a grid, whatever the font."""
    if not line.plain:
        return "<text/>"
    parts = []
    for text, style, _ in line.render(Console()):
        names = [
            name for name in ("bold", "dim") if getattr(style, name, None)
        ]
        if style is not None and style.color is not None:
            names.append(_COLOURS[(style.color.number or 0) % 8])
        shown = escape(text, quote=False)
        parts.append(
            f'<tspan class="{" ".join(names)}">{shown}</tspan>'
            if names
            else shown
        )
    return (
        f'<text y="{number * _HIGH - 5}" '
        f'textLength="{len(line.plain) * _WIDE:g}">{"".join(parts)}</text>'
    )


def _place(number: int) -> int:
    """Where the lines begin if this one is the last that is seen."""
    return (ROWS - number) * _HIGH


def _motion(plain: list[str]) -> str:
    """Line after line comes up from below, and rests where there is something
    to read."""
    moments: list[float] = []
    now = 0.0
    for number, line in enumerate(plain, 1):
        moments.append(now)
        following = plain[number : number + 2]
        if line.startswith("$ "):
            now += _COMMAND
        elif not following or following[-1].startswith("$ "):
            now += _OUTPUT
        else:
            now += _LINE
    steps = "".join(
        f"{100 * moment / now:.2f}%"
        f"{{transform:translate(0,{_place(number)}px)}}\n"
        for number, moment in enumerate(moments, 1)
    )
    return (
        "@media (prefers-reduced-motion:no-preference){\n"
        f"#lines{{animation:play {now:.0f}s step-end infinite}}}}\n"
        f"@keyframes play{{\n{steps}}}\n"
    )


def text_of(picture: str) -> str:
    """What is to be read in a picture."""
    root = ElementTree.fromstring(picture)
    return "".join(
        f"{''.join(line.itertext())}\n"
        for line in root.iter("{http://www.w3.org/2000/svg}text")
    )


def steady(text: str) -> str:
    """Without what is another one each time: how long it took."""
    return re.sub(r"\b\d+\.\d+ s\b", "… s", text)


def main() -> None:
    FILE.write_text(drawn(played()), encoding="utf-8")
    print(f"ibhostdev: docs/{FILE.name}")


if __name__ == "__main__":
    main()
