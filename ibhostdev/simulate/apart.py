# SPDX-License-Identifier: Apache-2.0
"""A simulated host served by a process of its own, so that whoever works on
it does not share an interpreter with it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ibhostdev.errors import NotRunning
from ibhostdev.simulate import require_extra
from ibhostdev.simulate.model import Counts


class Apart:
    """The process; its host is worked on by simulate.connect()."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def counts(self) -> Counts:
        """Operations since this was last asked.

        :raises NotRunning: if the process has ended
        """
        assert self._process.stdin
        try:
            self._process.stdin.write(b"\n")
        except BrokenPipeError:
            raise _gone() from None
        return self.answer()

    def answer(self) -> Counts:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise _gone()
        return Counts(*json.loads(line))


def _gone() -> NotRunning:
    return NotRunning(
        "the process that serves the simulated host has ended",
        cure="it has written why to standard error",
    )


@contextmanager
def served(folder: str | os.PathLike[str], vfs: int) -> Iterator[Apart]:
    """A host of one mlx5 PF in the folder, until the block ends or this
    process does.

    :raises CommandFailed: if what that takes is not installed
    :raises NotRunning: if it does not start
    """
    require_extra()
    # The package need not be installed, nor what it needs be where Python
    # looks by itself.
    package = str(Path(__file__).resolve().parents[2])
    path = [package, *filter(None, sys.path)]
    with subprocess.Popen(
        [sys.executable, "-P", "-m", __name__, os.fspath(folder), str(vfs)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        # Ctrl-C is for who works on the host, and may have to tidy up on it.
        start_new_session=True,
    ) as process:
        apart = Apart(process)
        apart.answer()
        yield apart


def _main(folder: str, vfs: str) -> None:
    from ibhostdev.simulate.model import HcaSpec
    from ibhostdev.simulate.server import SimulatedHost

    with SimulatedHost(folder, [HcaSpec(vfs=int(vfs))]) as host:
        # Told once that it serves, then as often as there is a line; the
        # last one ends with the other side, however that ended.
        while True:
            counts = host.counts()
            host.reset_counts()
            try:
                os.write(1, json.dumps(counts).encode() + b"\n")
            except BrokenPipeError:
                return
            if not sys.stdin.readline():
                return


if __name__ == "__main__":
    _main(*sys.argv[1:])
