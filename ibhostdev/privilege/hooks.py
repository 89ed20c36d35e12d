# SPDX-License-Identifier: Apache-2.0
"""Programs of the operator's that are told what a batch has changed.

They are run when the result is final and no lock is held, as who has asked
for the batch, never by the process that has the rights for it. What they do
changes nothing about the result: one that fails is a warning.
"""

import errno
import os
import re
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from ibhostdev.batch import BatchResult, Move, Vif, moves
from ibhostdev.errors import printable
from ibhostdev.host import counters
from ibhostdev.privilege.plain import moves_to_plain, results_to_plain

FOLDER = "/etc/ibhostdev/hooks.d"
VERSION = 1
SECONDS = 10.0
"""That each of them has."""

_PATIENCE = 60.0  # for those of other batches
_PAUSE = 0.02
_SAID = 2000
# What one may say; more of it is refused to him (EPERM).
_ROOM = 1 << 20
# As run-parts does: what package managers and editors leave there has a dot
# or a tilde in its name.
_NAME = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_one_batch = threading.Lock()


class Hooks:
    """Those of a host. ``variables`` are for their environment, in which
    nothing is of who has started this process."""

    def __init__(
        self,
        run_dir: str,
        folder: str = FOLDER,
        variables: Mapping[str, str] | None = None,
        seconds: float = SECONDS,
    ) -> None:
        self._run_dir, self._folder = run_dir, folder
        self._variables, self._seconds = variables or {}, seconds

    def batch(
        self, event: str, vifs: Sequence[Vif], result: BatchResult
    ) -> list[str]:
        """Tell of a batch, if it has changed something: ``event`` is plugged
        or unplugged; and of the GUIDs that it has moved. Gives warnings."""

        def told() -> Mapping[str, Any] | None:
            if any(one.changed and not one.error for one in result.results):
                return results_to_plain(vifs, result)
            return None

        def gone() -> Iterator[Move]:
            yield from moves(vifs, result)

        return self.tell(event, told, gone())

    def tell(
        self,
        event: str,
        told: Callable[[], Mapping[str, Any] | None],
        gone: Iterable[Move] = (),
    ) -> list[str]:
        """Run them all, one after the other, and if GUIDs are ``gone`` from
        one VF to another, once more for that. What they are told is only made
        if there are any; None is nothing to be told. Gives warnings; raises
        nothing but what ends the process."""
        try:
            return self._tell(event, told, gone)
        # Whatever it is, the batch is done: it is a warning.
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            return [printable(f"hooks in {self._folder} were not run: {why}")]

    def _tell(
        self,
        event: str,
        told: Callable[[], Mapping[str, Any] | None],
        gone: Iterable[Move],
    ) -> list[str]:
        if os.getuid() != os.geteuid():
            return []
        try:
            names = sorted(filter(_NAME.fullmatch, os.listdir(self._folder)))
        except (FileNotFoundError, NotADirectoryError):
            return []
        if not names or (what := told()) is None:
            return []
        events = {event: what}
        if (moved := moves_to_plain(gone)) is not None:
            events["moved"] = moved
        with self._alone() as alone:
            if not alone:
                return [
                    f"hooks of other batches have run for {_PATIENCE:g} s: "
                    f"nothing in {self._folder} was told"
                ]
            warnings = [
                warning
                for event, what in events.items()
                for warning in self._run_all(names, event, what)
            ]
        # What is wrong with one is wrong with it both times.
        return list(dict.fromkeys(warnings))

    def _run_all(
        self, names: Iterable[str], event: str, what: Mapping[str, Any]
    ) -> Iterator[str]:
        """Gives warnings."""
        # Rarely needed, and loaded for that: it costs more than a plug.
        import json

        whole = {
            "version": VERSION,
            "event": event,
            "host": os.uname().nodename,
            **what,
        }
        text = json.dumps(whole).encode()
        for name in names:
            path = os.path.join(self._folder, name)
            if not os.path.isfile(path):
                continue
            try:
                why = _distrusted(self._folder) or _distrusted(path)
                if why is None and os.access(path, os.X_OK):
                    why = self._run(path, event, text)
                    self._count(name, why is not None)
            except OSError as error:
                why = f"cannot be run: {error.strerror}"
                if error.errno in (errno.ENOEXEC, errno.ENOENT):
                    why += (
                        "; its first line has to name a program that is "
                        "there to run it, as in #!/bin/sh"
                    )
            # Whatever it is, the batch is done: it is a warning.
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
            if why is not None:
                yield printable(f"hook {path}: {why}")

    def _run(self, path: str, event: str, text: bytes) -> str | None:
        """None, or what went wrong."""
        import signal
        import subprocess

        # Files, so that nobody waits for who does not read or write.
        with _file(text) as given, _file(room=_ROOM) as said:
            process = subprocess.Popen(
                [path],
                stdin=given,
                stdout=said,
                stderr=said,
                cwd="/",
                env={
                    "PATH": _PATH,
                    "LANG": "C.UTF-8",
                    "IBHOSTDEV_EVENT": event,
                    **self._variables,
                },
                umask=0o022,
                # A process group of its own, to be ended as a whole.
                start_new_session=True,
            )
            try:
                code = process.wait(self._seconds)
            except subprocess.TimeoutExpired:
                return f"was ended, for it took more than {self._seconds:g} s"
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            if code == 0:
                return None
            words = os.pread(said, _SAID, 0).rstrip(b"\0").split()
        ended = f"ended with {code}"
        if code < 0:
            ended = f"was ended by {signal.Signals(-code).name}"
        if not words:
            return ended
        return f"{ended}: {b' '.join(words).decode(errors='replace')}"

    def _count(self, name: str, failed: bool) -> None:
        labels = (("hook", name),)
        runs = ("ibhostdev_hook_runs_total", labels)
        failures = ("ibhostdev_hook_failures_total", labels)
        counters.add(self._run_dir, {runs: 1, failures: int(failed)})

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """One batch's at a time: of this process, and of all of root's. What
        ordinary users may lock is no matter to root."""
        import fcntl
        import time

        end = time.monotonic() + _PATIENCE
        if not _one_batch.acquire(timeout=_PATIENCE):
            yield False
            return
        lock = None
        try:
            with suppress(OSError):
                lock = os.open(
                    os.path.join(self._run_dir, "hooks"),
                    os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW,
                    0o600,
                )
            while lock is not None:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        yield False
                        return
                    time.sleep(_PAUSE)
            yield True
        finally:
            _one_batch.release()
            if lock is not None:
                os.close(lock)


def of(simulated: str | None, run_dir: str) -> Hooks:
    """Those of this machine, or of the simulated host in a folder, which has
    its own: what is plugged there is no matter to this machine's."""
    if simulated is None:
        return Hooks(run_dir)
    root = os.path.realpath(simulated)
    folder = os.path.join(root, "hooks.d")
    return Hooks(run_dir, folder, {"IBHOSTDEV_HOST": root})


def _distrusted(path: str) -> str | None:
    """Why it is not run: somebody else than root and who runs it could have
    written it."""
    there = os.stat(path)
    if there.st_uid not in (0, os.geteuid()):
        return "was not run: its owner is neither root nor who would run it"
    if there.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "was not run: others than its owner can write to it"
    return None


@contextmanager
def _file(text: bytes = b"", room: int = 0) -> Iterator[int]:
    """One in memory that begins with this and has so much room, and no more:
    whoever writes to it would have all memory."""
    import fcntl

    file = os.memfd_create("hook", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(file, max(room, len(text)))
        os.pwrite(file, text, 0)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
        yield file
    finally:
        os.close(file)
