# SPDX-License-Identifier: Apache-2.0
"""That VFs were made and are not yet what they are to be.

A call that is killed leaves VFs with what their last tenants had, and the
PF's autoprobe off; nothing in the kernel tells that from a host at work. So a
file beside the PF's lock says so until all is done. It is gone with a
reboot, as are the VFs.
"""

import json
import os
from collections.abc import Collection
from contextlib import suppress
from typing import NamedTuple

from ibhostdev.errors import AccessDenied, CommandFailed
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
            denied = isinstance(error, PermissionError)
            raise (AccessDenied if denied else CommandFailed)(
                "cannot be written",
                path,
                errno=error.errno,
                cure="the folder for locks has to be writable",
            ) from error

    def drop(self, pf: PciAddress) -> None:
        with suppress(OSError):
            os.unlink(self._path(pf))
