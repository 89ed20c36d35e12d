# SPDX-License-Identifier: Apache-2.0
"""That VFs were made and are not yet what they are to be.

A call that is killed leaves VFs with what their last tenants had, and the
PF's autoprobe off; nothing in the kernel tells that from a host at work. So a
file beside the PF's lock says so until all is done. It is gone with a
reboot, as are the VFs.
"""

import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from errno import EACCES, EPERM, EROFS
from fcntl import LOCK_EX, flock
from typing import NamedTuple

from ibhostdev.errors import AccessDenied, CommandFailed, IbHostdevError
from ibhostdev.pci import PciAddress


class Mark(NamedTuple):
    """``autoprobe`` is what the PF had before, ``vfs`` are the indices of
    those VFs that are not done; None: all."""

    autoprobe: bool
    vfs: Collection[int] | None = None

    def has(self, index: int) -> bool:
        return self.vfs is None or index in self.vfs


class Marks:
    """Those of a host, in the folder of its locks."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps other calls out, which would take marks for left behind.

        :raises AccessDenied, CommandFailed: if the folder is not writable
        """
        path = os.path.join(self._folder, "apply.lock")
        try:
            os.makedirs(self._folder, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            lock = os.open(path, flags, 0o600)
        except OSError as error:
            raise _unwritable(error, path) from error
        try:
            flock(lock, LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _path(self, pf: PciAddress) -> str:
        return os.path.join(self._folder, f"{pf}.making")

    def get(self, pf: PciAddress) -> Mark | None:
        """What cannot be read, or is not ours, counts as none."""
        try:
            with open(self._path(pf), encoding="ascii") as file:
                autoprobe, vfs = json.load(file)
        except (OSError, ValueError, TypeError):
            return None
        return Mark(bool(autoprobe), vfs)

    def put(self, pf: PciAddress, mark: Mark) -> None:
        """
        :raises AccessDenied, CommandFailed: if it cannot be written
        """
        path = self._path(pf)
        vfs = None if mark.vfs is None else sorted(mark.vfs)
        try:
            os.makedirs(self._folder, exist_ok=True)
            with open(f"{path}.new", "w", encoding="ascii") as file:
                json.dump([mark.autoprobe, vfs], file)
            os.replace(f"{path}.new", path)
        except OSError as error:
            raise _unwritable(error, path) from error

    def drop(self, pf: PciAddress) -> None:
        with suppress(OSError):
            os.unlink(self._path(pf))


def _unwritable(error: OSError, path: str) -> IbHostdevError:
    denied = error.errno in (EACCES, EPERM, EROFS)
    return (AccessDenied if denied else CommandFailed)(
        "cannot be written",
        path,
        errno=error.errno,
        cure="run as root, or have a folder for locks that you may write to "
        "('--run-dir')",
    )
