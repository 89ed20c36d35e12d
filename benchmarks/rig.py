# SPDX-License-Identifier: Apache-2.0
"""Runs cases inside the virtual machine: ``python -m benchmarks.rig PLAN``.

What it finds is written to standard output, a line of JSON behind a mark for
each sample.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import contenders, emulation, plan
from benchmarks.calls import BEGIN, END, counted, traced
from benchmarks.contenders import (
    BUILD,
    REPO,
    CannotList,
    Contender,
    Place,
    Target,
)
from benchmarks.contenders.agents import Agent
from benchmarks.contenders.floor import Write
from benchmarks.contenders.iproute2 import ONES, rebind
from benchmarks.contenders.makers import NONE, OWN, Maker
from benchmarks.plan import Case
from tests.kernel.testbed import KernelTestbed, knob
from tests.testbed import Hca

MARK = "@@"
_HCAS = {
    "mlx5": Hca("mlx5"),
    "mlx5-files": Hca("mlx5-ofed", netdev=False),
    "mlx4": Hca("mlx4"),
}


def tell(kind: str, **what: Any) -> None:
    print(MARK, json.dumps({"kind": kind} | what), flush=True)


class Bench:
    """The machine, with the host of the present cases on it."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.bed = KernelTestbed()
        self.place: Place | None = None
        self.open: dict[str, Contender] = {}
        self._numbers = itertools.count(1)

    # -- the host ---------------------------------------------------------

    def build(self, case: Case) -> None:
        self.close()
        hca = _HCAS[case.family]
        ports = Hca(hca.family, case.vfs, 1, hca.netdev)
        self.bed.build(*[ports] * case.pfs)
        netdevs = tuple(
            os.listdir(f"/sys/bus/pci/devices/{pf}/net")[0]
            for pf in self.bed.pfs
            if hca.netdev
        )
        self.place = Place(case.family, tuple(self.bed.pfs), netdevs, case.vfs)
        self._hand = Write()
        self._hand.open(self.place)
        self.everything = self._targets(case.pfs, case.vfs)

    def _targets(self, pfs: int, each: int) -> list[Target]:
        return [
            Target(self.bed.vf(pf, n), self.bed.pfs[pf], n, "")
            for pf in range(pfs)
            for n in range(each)
        ]

    def targets(self, asked: int) -> list[Target]:
        """VFs of as few PFs as have them, with new identities: nobody's
        memory of the last ones is of use."""
        number = next(self._numbers) * 4096
        return [
            Target(one.pci, one.pf, one.index, _mac(number + n))
            for n, one in enumerate(self.everything[:asked])
        ]

    def clear(self) -> None:
        """All VFs idle, by a hand that is nobody's in particular."""
        self.delays(0.0)
        self._hand.unplug(self.everything)

    def delays(self, times: float) -> None:
        """As a real card's, so many times longer."""
        self.bed.delay(plan.COMMAND * times, plan.PROBE * times)

    def times(self, case: Case) -> float:
        if not case.delays:
            return 0.0
        return self.factor if case.scaled else 1.0

    def bind_anew(self, targets: Sequence[Target]) -> None:
        """The VFs' own driver shows what they are now."""
        self.delays(0.0)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(rebind, targets))

    # -- contenders -------------------------------------------------------

    def opened(self, name: str, case: Case) -> Contender | None:
        """Ready to work; None if it cannot, which is told."""
        if name in self.open:
            return self.open[name]
        assert self.place
        contender = contenders.make(name)
        why = contender.obstacle(self.place)
        if why is None:
            try:
                contender.open(self.place)
                self._warm(contender)
            except Exception:
                why = traceback.format_exc()
        if why is not None:
            _absent(case, name, why)
            return None
        self.open[name] = contender
        return contender

    def _warm(self, contender: Contender) -> None:
        """Once for nothing: what is imported, started or read by the first
        call only is none of a plug's cost."""
        if isinstance(contender, Maker):
            return  # seconds are what it takes
        self.clear()
        if contender.looks_only:
            contender.list()
            return
        targets = self.targets(1)
        contender.plug(targets)
        contender.unplug(targets)

    def close(self) -> None:
        for contender in self.open.values():
            contender.close()
        self.open = {}
        if self.place:
            self._hand.close()
            self.place = None

    def vanish(self, probe: bool) -> None:
        """No VFs, and what the PFs remember of them is gone, too."""
        self.delays(0.0)
        for number, pf in enumerate(self.bed.pfs):
            self.bed.numvfs(number, 0)
            knob("reset", pf)
            autoprobe = f"bus/pci/devices/{pf}/sriov_drivers_autoprobe"
            self.bed.write(autoprobe, int(probe))

    def misdriven(
        self, targets: Sequence[Target], driver: str, shows: bool
    ) -> str | None:
        """What a driver, or its lack, has to do with it."""
        for target in targets:
            seen = self.bed.driver(target.pci)
            if seen != (None if driver == NONE else driver):
                return f"{target.pci} is on {seen}, not {driver}"
            if driver == OWN and shows:
                shown = self.bed.identity(target.pci)
                if shown != target.octets:
                    return f"{target.pci} shows {shown}, not {target.octets}"
        return None

    def wrong(self, targets: Sequence[Target], plugged: bool) -> str | None:
        """What a witness sees that is not as it should be."""
        for pf in {target.pf for target in targets}:
            seen = self.bed.seen(self.bed.pfs.index(pf))
            for target in targets:
                if target.pf != pf:
                    continue
                port = seen[target.index].port
                if port != (target.octets if plugged else ONES):
                    return f"{target.pci} has {port}, not {target.octets}"
        return None


def _absent(case: Case, name: str, why: str) -> None:
    """Who could not take part, without the paths of this machine."""
    tell(
        "absent", case=case.name, contender=name,
        why=why.replace(str(REPO), "."),
    )  # fmt: skip


def _mac(number: int) -> str:
    return "fa:16:3e:" + (number % (1 << 24)).to_bytes(3).hex(":")


def timed(call: Callable[[], float | None]) -> float:
    gc.collect()
    start = time.perf_counter()
    told = call()
    return time.perf_counter() - start if told is None else told


# -- cases -----------------------------------------------------------------


def run_case(bench: Bench, case: Case) -> None:
    """Rounds of all contenders in turn, each beginning with another."""
    names = [n for n in case.contenders if bench.opened(n, case)]
    spent = dict.fromkeys(names, 0.0)
    for number in range(case.rounds):
        if not names:
            return
        at = number % len(names)
        for name in names[at:] + names[:at]:
            if number and spent[name] * (number + 1) / number > case.seconds:
                continue
            start = time.monotonic()
            try:
                _turn(bench, case, name, number)
            except Exception:
                _absent(case, name, traceback.format_exc())
                names.remove(name)
                break
            spent[name] += time.monotonic() - start
    if case.operations[0] not in _DRIVERS:
        bench.clear()


def _turn(bench: Bench, case: Case, name: str, number: int) -> None:
    contender = bench.open[name]
    every = bench.targets(case.asked)
    targets = every[: contender.most]
    if isinstance(contender, Maker):
        _make(bench, case, name, targets)
        return
    bench.clear()

    def sample(operation: str, call: Callable[[], float | None]) -> None:
        bench.delays(bench.times(case))
        bench.bed.reset_counts()
        seconds = timed(call)
        counts = asdict(bench.bed.counts())
        bench.delays(0.0)
        scale = 1.0 if operation == plan.LIST else len(every) / len(targets)
        tell(
            "sample", case=case.name, contender=name, operation=operation,
            seconds=seconds * scale, measured=len(targets),
            counts={k: v * scale for k, v in counts.items()},
        )  # fmt: skip

    def check(plugged: bool) -> None:
        if number == 0 and (wrong := bench.wrong(targets, plugged)):
            raise AssertionError(wrong)

    wanted = case.operations
    if contender.looks_only:
        if plan.LIST in wanted:
            sample(plan.LIST, contender.list)
        return
    if plan.RTNL in wanted:
        _rtnl(bench, case, name, targets)
        return
    if plan.COUNTS in wanted:
        _system_calls(bench, case, name)
        return
    if isinstance(contender, Agent):
        _seen(bench, case, name, targets)
        return
    sample(plan.PLUG, lambda: contender.plug(targets))
    check(True)
    if plan.REPEAT in wanted:
        sample(plan.REPEAT, lambda: contender.plug(targets))
    if plan.LIST in wanted:
        with suppress(CannotList):
            sample(plan.LIST, contender.list)
    if plan.REFRESH in wanted:
        bench.bind_anew(targets)
        contender.refresh = True
        sample(plan.REFRESH, lambda: contender.unplug(targets))
        contender.refresh = False
    elif plan.UNPLUG in wanted:
        sample(plan.UNPLUG, lambda: contender.unplug(targets))
    else:
        return
    check(False)


# -- makers ---------------------------------------------------------------

_DRIVERS = {plan.MADE: NONE, plan.BOUND: OWN}


def _make(
    bench: Bench, case: Case, name: str, targets: Sequence[Target]
) -> None:
    maker = bench.open[name]
    assert isinstance(maker, Maker)
    (operation,) = case.operations
    driver = _DRIVERS[operation]
    if driver not in maker.drivers:
        return
    bench.vanish(probe=driver != NONE)
    bench.delays(bench.times(case))
    bench.bed.reset_counts()
    seconds = timed(lambda: maker.make(targets, driver))
    counts = asdict(bench.bed.counts())
    bench.delays(0.0)
    wrong = bench.wrong(targets, True) or bench.misdriven(
        targets, driver, maker.shows
    )
    if wrong:
        raise AssertionError(wrong)
    tell(
        "sample", case=case.name, contender=name, operation=operation,
        seconds=seconds, measured=len(targets), counts=counts,
    )  # fmt: skip


# -- agents ---------------------------------------------------------------


def _seen(
    bench: Bench, case: Case, name: str, targets: Sequence[Target]
) -> None:
    agent = bench.open[name]
    assert isinstance(agent, Agent)

    def sample(operation: str, seconds: float) -> None:
        counts = asdict(bench.bed.counts())
        bench.delays(0.0)
        tell(
            "sample", case=case.name, contender=name, operation=operation,
            seconds=seconds, measured=len(targets), counts=counts,
            factor=bench.factor,
        )  # fmt: skip

    if plan.REST in case.operations:
        agent.rest(bench.bed.reset_counts, plan.MINUTE)
        sample(plan.REST, plan.MINUTE)
        return
    for operation, plugged in ((plan.SEEN, True), (plan.GONE, False)):
        agent.change(targets, plugged)
        if wrong := bench.wrong(targets, plugged):
            raise AssertionError(wrong)
        bench.delays(bench.times(case))
        bench.bed.reset_counts()
        sample(operation, agent.see(targets, plugged))


# -- others meanwhile ------------------------------------------------------


@contextmanager
def _watched(found: dict[str, float]) -> Iterator[None]:
    """How long another process's link operations take meanwhile."""
    process = subprocess.Popen(
        [BUILD / "rtnl"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    process.stdout.readline()
    time.sleep(0.05)
    yield
    process.stdin.close()
    operations, median, longest = process.stdout.readline().split()
    process.wait()
    found |= {
        "operations": int(operations),
        "median": int(median) / 1e9,
        "longest": int(longest) / 1e9,
    }


def _rtnl(
    bench: Bench, case: Case, name: str, targets: Sequence[Target]
) -> None:
    contender = bench.open[name]
    bench.delays(bench.times(case))
    found: dict[str, float] = {}
    with _watched(found):
        contender.plug(targets)
    quiet: dict[str, float] = {}
    with _watched(quiet):
        time.sleep(0.2)
    bench.delays(0.0)
    tell(
        "rtnl", case=case.name, contender=name, seconds=found["longest"],
        found=found, quiet=quiet,
    )  # fmt: skip


# -- counts ----------------------------------------------------------------


def _system_calls(bench: Bench, case: Case, name: str) -> None:
    """Of this process while the contender works, of its daemon, and of all
    that they start."""
    contender = bench.open[name]
    every = bench.targets(case.asked)
    targets = every[: contender.most]
    traces = []
    with tempfile.TemporaryDirectory() as folder:
        for operation, call in (
            (plan.PLUG, contender.plug),
            (plan.REPEAT, contender.plug),
            (plan.UNPLUG, contender.unplug),
        ):
            trace = Path(folder, operation)
            with traced(trace, [os.getpid(), *contender.daemons()]):
                os.path.exists(BEGIN)
                call(targets)
                os.path.exists(END)
            traces.append((operation, trace.read_text(errors="replace")))
    scale = len(every) / len(targets)
    for operation, text in traces:
        tell(
            "counts", case=case.name, contender=name, operation=operation,
            counts={k: v * scale for k, v in counted(text).items()},
        )  # fmt: skip


# --------------------------------------------------------------------------


def main(argument: str) -> int:
    task = json.loads(Path(argument).read_text())
    cases = [Case.of(one) for one in task["cases"]]
    factor = emulation.loop() / task["loop"]
    bench = Bench(factor)
    tell(
        "machine", kernel=platform.release(), python=sys.version.split()[0],
        processors=os.cpu_count(), factor=round(factor, 1),
    )  # fmt: skip
    knob("sm_delay", 0)
    host = None
    for case in cases:
        start = time.monotonic()
        if case.host != host:
            bench.build(case)
            host = case.host
        run_case(bench, case)
        tell("case", case=case.name, took=time.monotonic() - start)
    bench.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
