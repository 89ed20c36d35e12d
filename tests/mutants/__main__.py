# SPDX-License-Identifier: Apache-2.0
"""Makes the sources wrong, one place at a time, and runs the tests: where
none fails, they do not hold what is said there."""

import argparse
import math
import os
import queue
import random
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants import c, cython, equal, python
from tests.mutants.scratch import (
    REPO,
    Broken,
    Killers,
    Scratch,
    is_native,
    scratches,
)
from tests.mutants.site import Site

#: What plugs and unplugs, and what binds it to Python.
ENGINE = ["ibhostdev/_native/engine"]
ENGINE += [
    f"ibhostdev/_native/{name}.pyx"
    for name in ("arguments", "host", "results", "sysfs", "text")
]
#: First the contract; then the rest of the tests, but for the tools'.
TESTS = ["tests/host", "tests/unit", "tests/simulated", "tests/ebrctl"]
TESTS += ["tests/cli", "tests/engine", "--ignore=tests/unit/test_mutants.py"]
TESTS += ["--ignore=tests/unit/test_benchmarks.py"]
TESTS += ["--ignore=tests/cli/test_bench.py"]
_READERS = {
    ".py": python.sites,
    ".c": c.sites,
    ".h": c.sites,
    ".pyx": cython.sites,
}


def find(names: Sequence[str]) -> list[Site]:
    """The sites of files, of folders, or of FILE:LINE."""
    found: list[Site] = []
    for name in names:
        file, _, line = name.partition(":")
        path = REPO / file
        if not path.exists():
            raise ValueError(f"there is no {file}")
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        for one in files:
            if one.suffix in _READERS:
                text = one.read_bytes()
                sites = _READERS[one.suffix](str(one.relative_to(REPO)), text)
                found += [
                    site for site in sites if line in ("", str(site.line))
                ]
    return found


class Trial:
    """All mutants, each tried in one of the copies, by their numbers; none is
    begun any more when so many seconds are over."""

    def __init__(
        self, sites: dict[int, Site], seconds: float | None = None
    ) -> None:
        self._sites = sites
        self._due: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in sites:
            self._due.put(number)
        self._end = time.monotonic() + (
            math.inf if seconds is None else seconds
        )
        self._lock = threading.Lock()
        self._killers = Killers()
        self._broken: Broken | None = None
        self._stopped = False
        self.tried = self.unbuilt = 0
        self.alive: list[Site] = []

    @property
    def next(self) -> int | None:
        """The number of the first that was not begun, if there is one."""
        try:
            return self._due.get_nowait()
        except queue.Empty:
            return None

    def run(self, copies: Sequence[Scratch]) -> None:
        """
        :raises Broken: if the sources cannot be compiled as they are, or a
            test fails without any mutant
        """
        if any(is_native(site) for site in self._sites.values()):
            with ThreadPoolExecutor() as pool:
                list(pool.map(Scratch.prepare, copies))
        threads = [
            threading.Thread(target=self._work, args=(copy,))
            for copy in copies
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        finally:
            self._stopped = True
            for thread in threads:
                thread.join()
        if self._broken:
            raise self._broken

    def _work(self, copy: Scratch) -> None:
        while not self._stopped and time.monotonic() < self._end:
            try:
                number = self._due.get_nowait()
            except queue.Empty:
                return
            site = self._sites[number]
            killer = copy.try_out(site, self._killers)
            try:
                if killer:
                    copy.confirm(killer)
            except Broken as error:
                self._broken = error
                self._stopped = True
                return
            with self._lock:
                self._note(number, site, killer)

    def _note(self, number: int, site: Site, killer: str | None) -> None:
        self.tried += 1
        if killer is None:
            self.alive.append(site)
            print(f"{number:4} LIVES  {site}", flush=True)
        elif not killer:
            self.unbuilt += 1
            print(f"{number:4} no     {site}: does not compile", flush=True)
        else:
            if "::" in killer:
                self._killers.add(site.path, killer)
            print(f"{number:4} killed {site} by {killer}", flush=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev mutants", description=__doc__)
    add = parser.add_argument
    add(
        "sources",
        nargs="*",
        metavar="SOURCE",
        default=ENGINE,
        help="files, folders or FILE:LINE; what plugs and unplugs if none",
    )
    add(
        "--tests",
        action="append",
        metavar="PATH",
        help="what pytest is to run; most of ./dev test if nothing is named",
    )
    add("--list", action="store_true", help="only show the places")
    add("--sample", type=int, metavar="N", help="N of them, by chance")
    add("--seed", type=int, default=1, help="of the chance (%(default)s)")
    add(
        "--from",
        dest="first",
        type=int,
        default=1,
        metavar="N",
        help="leave out those before the Nth of them",
    )
    add("--minutes", type=float, help="begin none any more after that")
    add(
        "--allow",
        type=int,
        default=0,
        metavar="N",
        help="so many may live (%(default)s)",
    )
    add(
        "--limit",
        type=float,
        default=300,
        metavar="SECONDS",
        help="a test that takes longer has failed (%(default)s)",
    )
    add("--workers", type=int, choices=(1, 2), default=2)
    add(
        "--equal",
        type=Path,
        default=Path(__file__).with_name("equal.txt"),
        metavar="FILE",
        help="mutants that change nothing (%(default)s)",
    )
    return parser.parse_args(arguments)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if no more live than may, 1 if they do, 2 if nothing was tried."""
    given = parse(arguments)
    try:
        sites, known = find(given.sources), equal.read(given.equal)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    names = {equal.name(site) for site in sites}
    gone = [head[0] for head in known if head not in names]
    if gone and given.sources is ENGINE:
        print(f"{given.equal}: no such mutants: {gone}", file=sys.stderr)
        return 2
    if given.sample is not None and given.sample < len(sites):
        sites = random.Random(given.seed).sample(sites, given.sample)
    chosen = dict(list(enumerate(sites, 1))[given.first - 1 :])
    due = {n: one for n, one in chosen.items() if equal.name(one) not in known}
    if given.list:
        for number, site in due.items():
            print(f"{number:4} {site}")
        print(f"{len(due)} places")
        return 0
    seconds = None if given.minutes is None else 60 * given.minutes
    trial = Trial(due, seconds)
    os.chdir(REPO)
    try:
        tests = given.tests or TESTS
        with scratches(given.workers, tests, given.limit) as copies:
            trial.run(copies)
    except Broken as error:
        print(error, file=sys.stderr)
        return 2
    for site in trial.alive:
        print("", f"{site.path}:{site.line}", *equal.name(site), sep="\n")
    built = trial.tried - trial.unbuilt
    print(
        f"\n{built} mutants, {len(trial.alive)} alive; besides, "
        f"{len(chosen) - len(due)} equal, {trial.unbuilt} that do not compile"
    )
    if following := trial.next:
        print(f"The time is over; the rest: --from {following}")
    return int(len(trial.alive) > given.allow)


if __name__ == "__main__":
    sys.exit(main())
