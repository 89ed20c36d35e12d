# SPDX-License-Identifier: Apache-2.0
"""Write-only files of a simulated host."""

import os
from pathlib import Path

from ibhostdev.simulate.netlink import MAXIMUM


class Fifo:
    """A write-only file, whose writers do not wait to be read.

    Each line is taken when inotify tells that its writer has closed, so that
    it keeps its place among the writes to other files. Writers that write
    more than one line, or do not close, are read as they come.
    """

    def __init__(self, root: Path, path: str) -> None:
        self.path = path
        self._file = root / path
        # Read and write, so that there is no end of file in between
        self.fd = os.open(self._file, os.O_RDWR | os.O_NONBLOCK)
        os.chmod(self._file, 0o200)
        self._unclosed: list[str] = []
        self._ahead = 0  # taken, and not known to be closed

    def close(self) -> None:
        # A shell that writes to it later fails instead of waiting
        self._file.unlink(missing_ok=True)
        os.close(self.fd)

    def closed(self) -> str:
        """The line of a writer that has closed."""
        if self._ahead:
            self._ahead -= 1
            return ""
        if self._unclosed:
            return self._unclosed.pop(0)
        line = b""
        # No more than that: what is left in it is told by poll().
        while not line.endswith(b"\n") and (more := self._read(1)):
            line += more
        return line.decode("latin-1")

    def look(self) -> None:
        self._unclosed += self._read(MAXIMUM).decode("latin-1").splitlines()

    def unclosed(self) -> list[str]:
        """What look() has seen and closed() has not given."""
        lines, self._unclosed = self._unclosed, []
        self._ahead += len(lines)
        return lines

    def _read(self, most: int) -> bytes:
        try:
            return os.read(self.fd, most)
        except BlockingIOError:
            return b""
