# SPDX-License-Identifier: Apache-2.0
"""System calls of processes, by strace."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

BEGIN, END = "/ibhostdev-bench-begin", "/ibhostdev-bench-end"
"""Files that nobody has: who looks for them has begun, and is done."""


@contextmanager
def traced(trace: Path, processes: Sequence[int]) -> Iterator[None]:
    tracer = subprocess.Popen(
        [
            "strace", "-f", "-qq", "-e", "signal=none", "-s", "128",
            "-o", trace, "-p", ",".join(map(str, processes)),
        ],
        stderr=subprocess.PIPE,
    )  # fmt: skip
    status = [Path(f"/proc/{one}/status") for one in processes]
    while any("TracerPid:\t0\n" in one.read_text() for one in status):
        if tracer.poll() is not None:
            assert tracer.stderr
            raise RuntimeError(tracer.stderr.read().decode())
        time.sleep(0.01)
    yield
    tracer.send_signal(signal.SIGINT)
    tracer.wait()


def counted(text: str) -> dict[str, int]:
    """System calls, netlink messages sent and processes started, between
    the marks in strace's output. What runs in several threads or processes
    has some calls on two lines; the second ones are not counted."""
    found = {"system calls": 0, "netlink messages": 0, "processes": 0}
    begun = False
    for line in text.splitlines():
        call = line.partition(" ")[2].strip()
        if BEGIN in call:
            begun = True
        elif END in call:
            break
        elif begun:
            if call[:1].isalpha() and "(" in call:
                found["system calls"] += 1
                if call.startswith(("sendto(", "sendmsg(", "sendmmsg(")):
                    found["netlink messages"] += call.count("nlmsg_len=")
            # Its end is on a line of its own while its parent waits for it.
            if call.startswith(("execve(", "<... execve ")):
                found["processes"] += call.endswith("= 0")
    return found
