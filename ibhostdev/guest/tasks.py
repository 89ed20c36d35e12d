# SPDX-License-Identifier: Apache-2.0
"""The VFs of a call, domain by domain, and what came of them."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ibhostdev.batch import Move, Progress, Vif
from ibhostdev.errors import IbHostdevError
from ibhostdev.guest import connection
from ibhostdev.guest.results import GuestResult, GuestsFailed, GuestsResult
from ibhostdev.guest.survey import Guest
from ibhostdev.host import Host
from ibhostdev.pci import PciAddress


@dataclass(slots=True)
class Task:
    """A VF of a call, and what came of it so far."""

    domain: str
    pci: PciAddress
    vif: Vif | None
    changed: bool = False
    done: bool = False
    error: IbHostdevError | None = None

    @property
    def result(self) -> GuestResult:
        vif = self.vif
        return GuestResult(
            self.domain,
            self.pci,
            None if vif is None else vif.guid,
            self.changed,
            self.error,
            None if vif is None else vif.pkey,
        )


def of(guest: Guest, tasks: Iterable[Task]) -> list[Task]:
    return [task for task in tasks if task.domain == guest.name]


@contextmanager
def explained(task: Task, host: Host) -> Iterator[None]:
    """What libvirt objects to becomes the error of the task."""
    try:
        yield
    except connection.libvirt().libvirtError as error:
        task.error = connection.explain(error, task.domain, task.pci, host)


def in_parallel(
    guests: Sequence[Guest], work: Callable[[Guest, threading.Event], None]
) -> None:
    """Domains at once, as many as libvirt's daemon has threads for by
    default. An interruption lets each of them end its step."""
    stop = threading.Event()
    if len(guests) < 2:
        for guest in guests:
            work(guest, stop)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(len(guests), 16)) as pool:
        jobs = [pool.submit(work, guest, stop) for guest in guests]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            stop.set()
            raise


class Teller:
    """Progress of a stage, told by several threads."""

    def __init__(
        self, progress: Progress | None, stage: str, total: int
    ) -> None:
        self._progress = progress
        self._stage = stage
        self._total = total
        self._done = 0
        self._lock = threading.Lock()

    def one(self) -> None:
        with self._lock:
            self._done += 1
            if self._progress is not None:
                self._progress(self._stage, self._done, self._total)


def notes(guests: Iterable[Guest]) -> list[str]:
    return [
        note
        for guest in guests
        for xml in (guest.live, guest.config)
        if xml is not None
        for note in xml.notes
    ]


def report(
    tasks: Sequence[Task],
    warnings: Iterable[str],
    moved: Iterable[Move] = (),
) -> GuestsResult:
    """The result, or GuestsFailed with it inside."""
    done = {task.pci for task in tasks if task.done}
    result = GuestsResult(
        tuple(task.result for task in tasks),
        tuple(dict.fromkeys(warnings)),
        tuple(move for move in moved if move.target in done),
    )
    if not result.ok:
        raise GuestsFailed.of(result)
    return result
