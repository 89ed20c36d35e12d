# SPDX-License-Identifier: Apache-2.0
"""Text for people: aligned rows, errors, progress.

rich draws on terminals only. It takes longer to import than most commands
take to run, and its tables longer to lay out than 1000 VFs take to read; so
rows are laid out here, and where nobody is watching rich is not imported.
"""

import errno
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from ibhostdev.batch import Progress
from ibhostdev.errors import CommandFailed, IbHostdevError, printable
from ibhostdev.host import document
from ibhostdev.process import descriptors

if TYPE_CHECKING:
    from rich.progress import TaskID

Cell = tuple[str, str]
"""Text and its rich style, "" for none."""
Line = Sequence[Cell]

_COLUMNS = 80
_DEEPER = " " * 4

_PATIENCE = 1.0
_FRAME = 0.1
_STAGES = {
    "write": "writing",
    "verify": "verifying",
    "rebind": "binding anew",
    "make": "making VFs",
    "bind": "binding",
    "attach": "attaching",
    "detach": "detaching",
    "measure": "measuring",
}


def width(stream: TextIO | None = None) -> int:
    """Columns to fill: 80, or those of a terminal that has more."""
    stream = stream or sys.stdout
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal():
        columns = int(told)
    elif stream.isatty():
        columns = os.get_terminal_size(stream.fileno()).columns
    else:
        columns = 0
    return max(columns, _COLUMNS)


def table(
    head: Sequence[str],
    rows: Sequence[Line],
    indent: str = "",
    common: Sequence[str] = (),
    below: int = 0,
) -> list[Line]:
    """Titles, and rows of a cell for each, in columns two blanks apart. The
    last ones, ``below`` in number, have a line of their own in any case.

    If that is too wide, those of the ``common`` columns in which all rows say
    the same are told once, above, one after the other until it fits. What has
    no room even then is on a line of its own below its row: no cell is ever
    cut, nor broken.
    """
    full = width()
    widths = [
        max(len(title), *(len(row[column][0]) for row in rows))
        for column, title in enumerate(head)
    ]
    columns = [column for column, wide in enumerate(widths) if wide]
    last = [column for column in columns if column >= len(head) - below]
    columns = columns[: len(columns) - len(last)]
    said: list[Cell] = []
    for title in common:
        if len(indent) + sum(widths[c] + 2 for c in columns) - 2 <= full:
            break
        column = head.index(title)
        if column in columns and len({row[column][0] for row in rows}) == 1:
            columns.remove(column)
            said.append((f"{'; ' if said else ''}{title}: ", "dim"))
            said.append(rows[0][column])
    lines = filled(said, [(indent, "")]) if said else []
    parts = _parts(columns, widths, full - len(indent))
    parts += [[column] for column in last]
    titles: Line = [(title, "dim") for title in head]
    for row in (titles, *rows):
        for number, part in enumerate(parts):
            cells: list[Cell] = [(indent + _DEEPER * bool(number), "")]
            for column in part:
                text, style = row[column]
                blanks = " " * (widths[column] - len(text) + 2)
                cells += (text, style), (blanks, "")
            while cells and not cells[-1][0].strip():
                cells.pop()
            if cells or not number:
                lines.append(cells)
    return lines


def _parts(
    columns: Sequence[int], widths: Sequence[int], full: int
) -> list[list[int]]:
    """The columns that each line of a row has."""
    parts: list[list[int]] = [[]]
    used = 0
    for column in columns:
        if parts[-1] and used + widths[column] > full:
            parts.append([])
            used = len(_DEEPER)
        parts[-1].append(column)
        used += widths[column] + 2
    return parts


# A command in quotes is one word, for somebody may copy it.
_WORD = r"\(?'[^']+'\S*|\S+"


def filled(
    text: Line, lead: Line = (), stream: TextIO | None = None
) -> list[Line]:
    """Text behind a ``lead``, in lines that fit, the following ones as far
    in as the first. A word that is too long has a line of its own, further
    out."""
    words: list[list[Cell]] = []
    joined = False
    for part, style in text:
        for number, word in enumerate(re.findall(_WORD, part)):
            if not number and joined and not part[0].isspace():
                words[-1].append((word, style))
            else:
                words.append([(word, style)])
        if part:
            joined = not part[-1].isspace()
    full = width(stream)
    margin = used = sum(len(part) for part, _ in lead)
    line: list[Cell] = list(lead)
    lines: list[Line] = []
    for number, cells in enumerate(words):
        long = sum(len(part) for part, _ in cells)
        if number and used + 1 + long > full:
            lines.append(line)
            used = max(0, min(margin, full - long))
            line = [(" " * used, "")]
        elif number:
            line.append((" ", ""))
            used += 1
        line += cells
        used += long
    return [*lines, line]


def row_of(cells: Line, indent: str = "") -> list[Line]:
    """Cells two blanks apart, on as many lines as they take."""
    widths = [len(text) for text, _ in cells]
    lines: list[Line] = []
    for part in _parts(range(len(cells)), widths, width() - len(indent)):
        line: list[Cell] = [(indent + _DEEPER * bool(lines), "")]
        for column in part:
            line += cells[column], ("  ", "")
        lines.append(line[:-1])
    return lines


def show(lines: Iterable[Line], stream: TextIO | None = None) -> None:
    """Write lines to standard output, or another stream; in colours if it is
    a terminal."""
    stream = stream or sys.stdout
    lines = [[(printable(text), how) for text, how in line] for line in lines]
    if not stream.isatty():
        write(
            "".join("".join(t for t, _ in line) + "\n" for line in lines),
            stream,
        )
        return
    from rich.console import Console
    from rich.segment import Segment, Segments
    from rich.style import Style

    segments: list[Segment] = []
    for line in lines:
        segments.extend(
            Segment(text, Style.parse(style)) for text, style in line
        )
        segments.append(Segment.line())
    # Neither wrapped nor cut off: addresses are there to be copied.
    Console(file=stream).print(Segments(segments), end="", crop=False)


def write(text: str, stream: TextIO | None = None) -> None:
    """Write lines. Nobody reading them (any more) does not change what the
    command has done, so that is no error; nor is that errors cannot be told.

    :raises CommandFailed: if standard output does not take it; what is
        written there from then on goes nowhere
    """
    stream = stream or sys.stdout
    try:
        stream.write("\n".join(map(printable, text.split("\n"))))
        stream.flush()
    except OSError as error:
        # What is left in the buffer is written again when Python ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        if isinstance(error, BrokenPipeError) or stream is sys.stderr:
            return
        raise CommandFailed(
            "cannot be written",
            "standard output",
            errno=error.errno,
            cure="make room; 'ibhostdev list' shows what is there now",
        ) from error


def complain(message: str) -> None:
    _tell([(message, "")], ("ibhostdev: ", "bold red"))


def warn(*messages: str) -> None:
    for message in messages:
        _tell([(message, "")], ("warning: ", "bold yellow"))


def explain(error: IbHostdevError) -> None:
    """An error with all it knows, to standard error; or several."""
    errors, more = document.told(error)
    for one in errors:
        _explain(one)
    if more:
        _tell([(f"and {more} more", "")], ("ibhostdev: ", "bold red"))


def _explain(error: IbHostdevError) -> None:
    device = f"{error.device}: " if error.device else ""
    _tell([(device, "bold"), (error.message, "")], ("ibhostdev: ", "bold red"))
    if error.attribute:
        _tell([(error.attribute, "")], ("  attribute  ", "dim"))
    if error.errno:
        name = errno.errorcode.get(error.errno, str(error.errno))
        text = f"{name}: {os.strerror(error.errno)}"
        _tell([(text, "")], ("  errno      ", "dim"))
    if error.cure:
        _tell([(error.cure, "green")], ("  cure       ", "dim"))


def _tell(text: Line, lead: Cell) -> None:
    """To standard error: what is no terminal's has it on one line, as a log
    or grep wants it."""
    if sys.stderr.isatty():
        show(filled(text, [lead], sys.stderr), sys.stderr)
    else:
        show([[lead, *text]], sys.stderr)


@contextmanager
def progress(total: int, first: str = "write") -> Iterator[Progress | None]:
    """Bars on standard error if that is a terminal and what is done
    meanwhile, to so many VFs, takes longer than a second. ``first`` is the
    stage that it begins with.

    Who reports waits for nothing: a terminal may be stopped (Ctrl-S), and
    there are locks. Anything else that would be written to standard error is
    held back.
    """
    with descriptors.held_back() as stream:
        # A dumb one cannot draw the next bar over the last.
        dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
        if dumb or not stream.isatty():
            yield None
            return
        # The first report may come late: something moves all the same.
        stages = {first: (0, total)}
        ended = threading.Event()

        def report(stage: str, done: int, due: int) -> None:
            # Called by several threads, so not always in order.
            before, _ = stages.get(stage, (0, 0))
            stages[stage] = max(done, before), due

        def draw() -> None:
            if not ended.wait(_PATIENCE):
                _draw(stages, ended, stream)

        artist = threading.Thread(target=draw, name="progress", daemon=True)
        artist.start()
        try:
            yield report
        finally:
            ended.set()
            artist.join()


def _draw(
    stages: dict[str, tuple[int, int]],
    ended: threading.Event,
    stream: TextIO,
) -> None:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.progress import Progress as Bars

    with Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(file=stream),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as bars:
        tasks: dict[str, TaskID] = {}
        while True:
            for stage, (done, due) in list(stages.items()):
                if stage not in tasks:
                    name = _STAGES.get(stage, stage)
                    tasks[stage] = bars.add_task(name, total=due)
                bars.update(tasks[stage], completed=done, total=due)
            bars.refresh()
            if ended.wait(_FRAME):
                return
