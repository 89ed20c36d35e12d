# SPDX-License-Identifier: Apache-2.0
"""Text for people: aligned rows, errors, progress.

rich draws on terminals only. It takes longer to import than most commands
take to run, and its tables longer to lay out than 1000 VFs take to read; so
rows are laid out here, and where nobody is watching rich is not imported.
"""

import errno
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from ibhostdev import descriptors
from ibhostdev.batch import Progress
from ibhostdev.errors import CommandFailed, IbHostdevError, printable

if TYPE_CHECKING:
    from rich.progress import TaskID

Cell = tuple[str, str]
"""Text and its rich style, "" for none."""
Line = Sequence[Cell]

_PATIENCE = 1.0
_FRAME = 0.1
_STAGES = {
    "write": "writing",
    "verify": "verifying",
    "rebind": "binding anew",
    "attach": "attaching",
    "detach": "detaching",
    "measure": "measuring",
}


def aligned(rows: Sequence[Line], indent: str = "") -> list[Line]:
    """The rows with their cells in columns two blanks apart."""
    widths: list[int] = []
    for row in rows:
        widths.extend([0] * (len(row) - len(widths)))
        for column, (text, _) in enumerate(row):
            widths[column] = max(widths[column], len(text))
    lines: list[Line] = []
    for row in rows:
        cells: list[Cell] = [(indent, "")]
        for (text, style), width in zip(row, widths, strict=False):
            cells += (text, style), (" " * (width - len(text) + 2), "")
        while cells and not cells[-1][0].strip():
            cells.pop()
        lines.append(cells)
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


def width() -> int | None:
    """Columns of the terminal; None if there is none."""
    if not sys.stdout.isatty():
        return None
    import shutil

    return shutil.get_terminal_size().columns


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
    show([[("ibhostdev: ", "bold red"), (message, "")]], sys.stderr)


def warn(message: str) -> None:
    show([[("warning: ", "bold yellow"), (message, "")]], sys.stderr)


def explain(error: IbHostdevError) -> None:
    """An error with all it knows, to standard error."""
    device = f"{error.device}: " if error.device else ""
    lines: list[Line] = [
        [
            ("ibhostdev: ", "bold red"),
            (device, "bold"),
            (error.message, ""),
        ]
    ]
    if error.attribute:
        lines.append([("  attribute  ", "dim"), (error.attribute, "")])
    if error.errno:
        name = errno.errorcode.get(error.errno, str(error.errno))
        text = f"{name}: {os.strerror(error.errno)}"
        lines.append([("  errno      ", "dim"), (text, "")])
    if error.cure:
        lines.append([("  cure       ", "dim"), (error.cure, "green")])
    show(lines, sys.stderr)


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
