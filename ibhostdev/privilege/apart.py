# SPDX-License-Identifier: Apache-2.0
"""A process of root's that somebody else has started: nothing of his but the
request has a say in it."""

import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from ibhostdev.errors import TimedOut
from ibhostdev.process import descriptors

# Whatever the caller's is: sudo keeps it where it has no secure_path.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What a terminal sends to all that run on it; stopped, this process would
# keep everybody else waiting for its locks.
_TERMINAL = (signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
# All others: as much as may be had.
_LIMITS = {resource.RLIMIT_NOFILE: 4096, resource.RLIMIT_CORE: 0}
_STACK = 1 << 20  # of threads; it would be the caller's limit


def stand_apart() -> None:
    """Descriptors, limits, priority, signals and all else that a process
    inherits, as they are to be."""
    descriptors.open_closed()
    os.environ["PATH"] = _PATH
    os.chdir("/")
    os.umask(0o022)
    if os.getpgrp() != os.getpid():
        os.setsid()
    for number in _TERMINAL:
        signal.signal(number, signal.SIG_IGN)
    # Ignored, it makes every program that is run a success.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for name in dir(resource):
        if name.startswith("RLIMIT_"):
            _limit(getattr(resource, name))
    threading.stack_size(_STACK)
    # Who is not root may not in each case: then they are his own.
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    with suppress(OSError):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("0")


def _limit(which: int) -> None:
    wanted = _LIMITS.get(which, resource.RLIM_INFINITY)
    _, most = resource.getrlimit(which)
    try:
        resource.setrlimit(which, (wanted, wanted))
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            resource.setrlimit(which, (most, most))


@contextmanager
def in_time(seconds: float, what: str) -> Iterator[None]:
    """
    :raises TimedOut: if what is done meanwhile takes longer
    """

    def late(number: int, frame: FrameType | None) -> None:
        raise TimedOut(
            f"did not {what} within {seconds:g} s",
            "who asked",
            cure="see what has started this program, and whether it hangs",
        )

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def give(answer: str, seconds: float) -> None:
    """Write an answer to standard output.

    :raises TimedOut: if nobody takes it
    :raises OSError: if it cannot be written
    """
    with in_time(seconds, "take the answer"):
        sys.stdout.write(answer)
        sys.stdout.flush()
