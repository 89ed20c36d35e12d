# SPDX-License-Identifier: Apache-2.0
"""When the agent looks, and when it works: on a mark, on Neutron's word, and
every now and then to be safe."""

from __future__ import annotations

import logging
import os
import select
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from ibhostdev.batch import BatchResult
from ibhostdev.host import Host
from ibhostdev.neutron.ports import Plugin, Ports
from ibhostdev.neutron.vnics import Vnics
from ibhostdev.neutron.watch import Watch
from ibhostdev.privilege.request import Request

LOG = logging.getLogger(__name__)

# Where inotify does not serve and the safety net is off.
_DEAF_SECONDS = 2.0
# Between tries to do what could not be done.
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 16.0


class Loop:
    """``polling_interval`` is in seconds; 0 is never."""

    def __init__(
        self,
        host: Host,
        plugin: Plugin,
        run: Callable[[Request], BatchResult],
        polling_interval: float,
    ) -> None:
        self.vnics = Vnics(host)
        self.ports = Ports(self.vnics, plugin, run)
        self._interval = polling_interval
        self._stopped = False
        self._trouble = ""
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._watch: Watch | None = None
        try:
            self._watch = Watch(host.run_dir)
        except OSError as error:
            self._interval = polling_interval or _DEAF_SECONDS
            LOG.warning(
                "inotify is not to be had (%s): changes are seen every %g s",
                error,
                self._interval,
            )

    def close(self) -> None:
        if self._watch:
            self._watch.close()
        os.close(self._bell)

    # -- from any thread ----------------------------------------------

    def wake(self) -> None:
        """After something was said to the ports."""
        os.eventfd_write(self._bell, 1)

    def stop(self) -> None:
        self._stopped = True
        self.wake()

    # -- in the agent's own -------------------------------------------

    def run(self) -> None:
        """Until stop()."""
        marked: Collection[str] | None = None
        pause = 0.0
        looked = time.monotonic()
        while not self._stopped:
            if marked is None:
                looked = time.monotonic()
            pause = 0.0 if self._step(marked) else _next(pause)
            marked = self._wait(looked, pause)

    def _step(self, marked: Collection[str] | None) -> bool:
        try:
            self.vnics.look(marked)
            done = self.ports.work()
        except Exception as error:  # told, and tried again
            told = f"{type(error).__name__}: {error}"
            # A server that is away fails every try in the same way.
            LOG.error(
                "Neutron is not told of ports for now: %s",
                told,
                exc_info=told != self._trouble,
            )
            self._trouble = told
            return False
        if self._trouble:
            LOG.info("Neutron is told of ports again")
        self._trouble = ""
        return done

    def _wait(self, looked: float, pause: float) -> Collection[str] | None:
        """The PFs to be looked at then; None for all."""
        left = []
        if self._interval:
            left.append(looked + self._interval - time.monotonic())
        if pause:
            left.append(pause)
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        if self._watch:
            poll.register(self._watch, select.POLLIN)
        poll.poll(max(0.0, min(left)) * 1000 if left else None)
        with suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        marked: Collection[str] | None = ()
        if self._watch:
            try:
                marks = self._watch.take()
                marked = None if marks.missed else marks.pfs
            except OSError as error:
                LOG.warning("The folder of locks is not watched: %s", error)
                self._watch.close()
                self._watch = None
                self._interval = self._interval or _DEAF_SECONDS
                marked = None
        if self._interval and time.monotonic() >= looked + self._interval:
            marked = None
        return marked


def _next(pause: float) -> float:
    return min(pause * 2 or _FIRST_PAUSE, _LONGEST_PAUSE)
