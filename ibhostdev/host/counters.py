# SPDX-License-Identifier: Apache-2.0
"""What was done since boot, counted.

In a small file beside the locks, in /run: it begins anew with the machine,
as counters may. The journal would do only where there is one, is cut off at
its own time, so that sums of it fall, and takes longer to be read the more
there was to count. Nothing depends on the file: what cannot be counted in
time is not, and a batch never fails by it.
"""

import fcntl
import os
import time
from collections.abc import Mapping
from contextlib import suppress

NAME = "counters"
_LIMIT = 1 << 16  # bytes; some 1000 kinds of failure
_TRIES = 20
_PAUSE = 0.001

Series = tuple[str, tuple[tuple[str, str], ...]]
"""A metric's name and its labels."""


class Watch:
    """From the begin of a batch to its end."""

    def __init__(self, run_dir: str, action: str, vifs: int) -> None:
        self._run_dir, self._action, self._vifs = run_dir, action, vifs
        self._begin = time.monotonic()

    def end(self, reason: str | None = None) -> None:
        """Count the batch; ``reason`` is the class of what it failed with."""
        action = (("action", self._action),)
        more: dict[Series, float] = {
            ("ibhostdev_batches_total", action): 1,
            ("ibhostdev_batch_vifs_total", action): self._vifs,
            ("ibhostdev_batch_seconds_total", action): time.monotonic()
            - self._begin,
        }
        if reason is not None:
            labels = (*action, ("reason", reason))
            more["ibhostdev_batch_failures_total", labels] = 1
        add(self._run_dir, more)


def add(run_dir: str, more: Mapping[Series, float]) -> None:
    """Add to counters, as far as that can be done at once."""
    with suppress(OSError):
        # Nobody but its owner may open it: who can, could hold its lock.
        file = os.open(
            os.path.join(run_dir, NAME),
            os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW,
            0o600,
        )
        try:
            if not _locked(file, fcntl.LOCK_EX):
                return
            counted = _parse(os.pread(file, _LIMIT, 0))
            for series, value in more.items():
                counted[series] = counted.get(series, 0) + value
            text = "".join(map(_line, sorted(counted.items())))
            # In one call, so that who dies leaves it as it was or as it is.
            os.ftruncate(file, os.pwrite(file, text.encode(), 0))
        finally:
            os.close(file)


def read(run_dir: str) -> dict[Series, float]:
    """What was counted; nothing where nothing was, or where it cannot be
    read."""
    with suppress(OSError), open(os.path.join(run_dir, NAME), "rb") as file:
        if _locked(file.fileno(), fcntl.LOCK_SH):
            return _parse(file.read(_LIMIT))
    return {}


def _locked(file: int, how: int) -> bool:
    for _ in range(_TRIES):
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(_PAUSE)
    return False


def _line(one: tuple[Series, float]) -> str:
    """The value, the name, and each label: nothing of it has blanks."""
    (name, labels), value = one
    return " ".join([repr(value), name, *map("=".join, labels)]) + "\n"


def _parse(text: bytes) -> dict[Series, float]:
    """What is no line of ours counts for nothing."""
    counted: dict[Series, float] = {}
    for line in text.decode(errors="replace").splitlines():
        with suppress(ValueError):
            value, name, *words = line.split()
            labels = []
            for word in words:
                key, of = word.split("=")
                labels.append((key, of))
            counted[name, tuple(labels)] = float(value)
    return counted
