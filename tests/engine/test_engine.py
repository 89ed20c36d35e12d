# SPDX-License-Identifier: Apache-2.0
"""The engine in C on a host in memory: whatever goes wrong at any step, it
ends where it began, where it was to end, or says so; and threads do not get
in each other's way.

The short form; ``./dev enumerate`` and ``./dev fuzz`` are the long ones.
"""

import re

from tests.engine.programs import FAST, THREADS, build, run, works


def test_every_fault_of_every_batch():
    done = run([build("enumerate", FAST), "short"])
    counted = re.search(
        r"^(\d+) runs, (\d+) failed, .*; (\d+) of them by two callers$",
        done.stdout,
        re.M,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert counted
    assert int(counted[1]) > 100_000
    assert int(counted[2]) == 0
    assert int(counted[3]) > 1000


def test_one_host_and_eight_threads():
    way = THREADS if works(THREADS) else FAST
    program = build("threads", way)
    done = run([*way.before, program], TSAN_OPTIONS="halt_on_error=1")
    counted = re.search(
        r"^(\d+) calls by 8 threads, (\d+) failed", done.stdout, re.M
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert counted
    assert int(counted[1]) > 1000
    assert int(counted[2]) == 0
