# SPDX-License-Identifier: Apache-2.0
"""Who changed a PF leaves a mark in the folder of the locks: inotify tells.

The mark is the time of modification of the PF's lock file, set when the
change is done (engine/lock.c).
"""

import os
from contextlib import suppress
from typing import NamedTuple

import inotify_simple
from inotify_simple import flags

_LOCK = ".lock"


class Marks(NamedTuple):
    """The PFs that were changed, by PCI address; ``missed`` says that others
    may have been, too."""

    pfs: frozenset[str]
    missed: bool


class Watch:
    """Of a folder, which need not be there yet.

    :raises OSError: where there is no inotify to be had
    """

    def __init__(self, folder: str) -> None:
        self._folder = os.path.abspath(folder)
        self._inotify = inotify_simple.INotify(nonblocking=True)
        self._watched: tuple[int, str] | None = None
        try:
            self._aim()
        except OSError:
            self._inotify.close()
            raise

    def fileno(self) -> int:
        """Readable when there is something to take()."""
        return int(self._inotify.fileno())

    def close(self) -> None:
        self._inotify.close()

    def take(self) -> Marks:
        """What was marked since the last time; does not wait."""
        pfs, missed = set(), False
        watched, folder = self._watched or (-1, "")
        aim = False
        for event in self._inotify.read(timeout=0):
            if event.mask & flags.Q_OVERFLOW:
                missed = True
            elif event.wd != watched:
                continue  # of a folder that was left
            elif event.mask & flags.MODIFY:
                if event.name.endswith(_LOCK):
                    pfs.add(event.name.removesuffix(_LOCK))
            else:
                aim = True
        if aim or folder != self._folder:
            self._aim()
            missed |= self._watched != (watched, folder)
        return Marks(frozenset(pfs), missed)

    def _aim(self) -> None:
        """At the folder, or the nearest above it: until it is made."""
        while True:
            path = self._folder
            while not os.path.isdir(path):
                path = os.path.dirname(path)
            mask = flags.DELETE_SELF | flags.MOVE_SELF
            mask |= (
                flags.MODIFY
                if path == self._folder
                else flags.CREATE | flags.MOVED_TO
            )
            try:
                new = self._inotify.add_watch(path, mask)
            except FileNotFoundError:
                continue
            if self._watched and self._watched[0] != new:
                with suppress(OSError):  # it went with its folder
                    self._inotify.rm_watch(self._watched[0])
            self._watched = new, path
            if path == self._folder or not os.path.isdir(self._folder):
                return
