# SPDX-License-Identifier: Apache-2.0
"""The standard descriptors, which are whoever's who started the process."""

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

PATIENCE = 60.0  # seconds, for who does not read what is written to him


def open_closed() -> None:
    """Have those that are closed lead nowhere; else what is opened first
    would be taken for one of them."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            stream = open(number, mode, closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


@contextmanager
def held_back() -> Iterator[TextIO]:
    """What this process writes to standard error meanwhile, a warning of
    Python's or a line of a log, is written when it is over: whoever has the
    other end may let it fill up, and with locks held nobody is to wait for
    him. Gives standard error itself, for who does not wait for it either."""
    sys.stderr.flush()
    kept = os.memfd_create("stderr")
    with open(os.dup(2), "w", errors="replace") as own:
        os.dup2(kept, 2)
        try:
            yield own
        finally:
            sys.stderr.flush()
            os.dup2(own.fileno(), 2)
            _tell(kept)


def _tell(kept: int) -> None:
    """As far as somebody takes it."""
    room = select.poll()
    room.register(2, select.POLLOUT)
    with open(kept, "rb") as text, suppress(OSError):
        text.seek(0)
        while part := text.read(select.PIPE_BUF):
            while part:
                if not room.poll(PATIENCE * 1000):
                    return
                part = part[os.write(2, part) :]
