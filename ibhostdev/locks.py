# SPDX-License-Identifier: Apache-2.0
"""The locks of PFs, among all that plug on a host: a file for each."""

import errno
import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from ibhostdev.errors import from_errno
from ibhostdev.pci import PciAddress

# The driver gives up on a firmware command after 60 s (mlx5 core/cmd.c).
SECONDS = 180
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class Locks:
    """Those in a folder. The kernel drops the locks of a process that dies."""

    def __init__(self, folder: str, seconds: float = SECONDS) -> None:
        self._folder = folder
        self._seconds = seconds

    @contextmanager
    def hold(self, pfs: Iterable[PciAddress]) -> Iterator[bool]:
        """Have the locks of PFs, taken in the order of their addresses so
        that no two batches wait for each other. Tells whether any had to be
        waited for.

        :raises AccessDenied: if a lock may not be taken
        :raises IbHostdevError: if it cannot be, or is held for too long
        """
        waited = False
        with ExitStack() as stack:
            for pci in sorted(pfs):
                path = os.path.join(self._folder, f"{pci}.lock")
                try:
                    lock = self._open(path)
                    stack.callback(os.close, lock)
                    waited |= _take(lock, self._seconds)
                except OSError as error:
                    raise from_errno(
                        error.errno or errno.EIO,
                        path,
                        "lock",
                        "cannot be taken",
                    ) from error
            yield waited

    def _open(self, path: str) -> int:
        try:
            return os.open(path, _FLAGS, 0o600)
        except FileNotFoundError:
            os.makedirs(self._folder, mode=0o755, exist_ok=True)
            return os.open(path, _FLAGS, 0o600)


def _take(lock: int, seconds: float) -> bool:
    """Whether it had to be waited for."""
    deadline = time.monotonic() + seconds
    pause = 0.001
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return pause > 0.001
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)
                ) from None
        time.sleep(pause)
        pause = min(2 * pause, 0.02)
