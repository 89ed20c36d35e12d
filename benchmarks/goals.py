# SPDX-License-Identifier: Apache-2.0
"""What the project wants to reach, and what a run has seen of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks import contenders, plan
from benchmarks.plan import Case
from benchmarks.results import Results, duration, summary, three


@dataclass(frozen=True)
class Goal:
    """``met`` is None where the run has nothing to judge it by; ``between``
    is what stands between where it is missed."""

    goal: str
    seen: str
    met: bool | None
    between: str = ""


def _cases(results: Results, **which: object) -> list[Case]:
    cases = [Case.of(one) for one in results.cases]
    which = {"series": "table", "pfs": 1} | which
    return [
        case
        for case in cases
        if all(getattr(case, k) == v for k, v in which.items())
    ]


def _with(cases: list[Case], operation: str) -> list[Case]:
    return [case for case in cases if operation in case.operations]


def all_of(results: Results) -> list[Goal]:
    return [
        *_floor(results),
        *_others(results),
        *_delays(results),
        *_start(results),
    ]


def _floor(results: Results) -> Iterator[Goal]:
    cases = _with(_cases(results, family="mlx5"), plan.PLUG)
    for delays in (False, True):
        ratios = {
            case.asked: ratio
            for case in cases
            if case.delays is delays
            if (ratio := results.ratio(case.name, plan.PLUG, "bulk", "floor"))
        }
        how = "with delays" if delays else "bare"
        bulk = {n: ratio for n, ratio in ratios.items() if n >= 8}
        yield _judge(
            f"bulk plug within 1.1 of the floor from 8 VFs on, {how}",
            ", ".join(f"{three(r)} ({n} VFs)" for n, r in bulk.items()),
            max(bulk.values()) <= 1.1 if bulk else None,
            _between(results, cases, delays),
        )
        single = ratios.get(1)
        yield _judge(
            f"single call within 1.5 of the floor, {how}",
            three(single) if single else "",
            single <= 1.5 if single else None,
            _between(results, cases, delays),
        )


def _between(results: Results, cases: list[Case], delays: bool) -> str:
    """The difference to the floor, in time and in system calls, and what the
    Python between takes."""
    parts = []
    for case in cases:
        if case.delays is not delays:
            continue
        ours, floor = (
            results.summary(case.name, name, plan.PLUG)
            for name in ("bulk", "floor")
        )
        if not (ours and floor):
            continue
        counts = {
            one["contender"]: one["counts"]["system calls"]
            for one in results.of(
                "counts", case=case.name, operation=plan.PLUG
            )
        }
        calls = (
            f" ({counts['bulk']:.0f} system calls to {counts['floor']:.0f})"
            if {"bulk", "floor"} <= counts.keys()
            else ""
        )
        parts.append(
            f"{case.asked} VFs: {duration(ours.median - floor.median)} "
            f"more{calls}"
        )
    parts += [
        f"Python takes {one['each']:,.0f} instructions for each VF"
        for one in results.of("instructions")
    ]
    return "; ".join(parts)


def _others(results: Results) -> Iterator[Goal]:
    for name, times, what in (
        ("ip-batch", 20, "`ip -batch`"),
        ("pyroute2-usual", 100, "pyroute2 as networking-mlnx uses it"),
        ("pyroute2-best", 100, "pyroute2 at its best"),
        ("ebrctl", 5000, "the real `ebrctl`"),
    ):
        seen = []
        for case in _with(
            _cases(results, family="mlx5", asked=64, delays=False), plan.PLUG
        ):
            ours = results.summary(case.name, "bulk", plan.PLUG)
            seconds = other(results, case, name, plan.PLUG)
            if ours and seconds:
                seen.append(seconds / ours.median)
        yield _judge(
            f"plug of 64 VFs ahead of {what} by {times:,}",
            ", ".join(map(three, seen)),
            min(seen) >= times if seen else None,
            _floor_against(results, name),
        )


def other(
    results: Results, case: Case, name: str, operation: str
) -> float | None:
    """Its median; for who makes a call for each VF and was measured with
    few, as many times that as there are VFs, one after another."""
    if found := results.summary(case.name, name, operation):
        return found.median
    if contenders.make(name).most is None:
        return None
    single = [
        one
        for one in _cases(results, family=case.family, vfs=case.vfs)
        if one.delays == case.delays and operation in one.operations
    ]
    for one in single:
        if found := results.summary(one.name, name, operation):
            return found.median / one.asked * case.asked
    return None


def _floor_against(results: Results, name: str) -> str:
    """How far ahead the floor itself is: nobody can be further."""
    for case in _with(
        _cases(results, family="mlx5", asked=64, delays=False), plan.PLUG
    ):
        floor = results.summary(case.name, "floor", plan.PLUG)
        seconds = other(results, case, name, plan.PLUG)
        if floor and seconds:
            return f"the floor itself is ahead by {three(seconds / floor[0])}"
    return ""


def _delays(results: Results) -> Iterator[Goal]:
    goal = (
        "with delays, unplug of 64 VFs bound anew 10 times faster than "
        "eswitchd's way"
    )
    seen = [
        ratio
        for case in _with(_cases(results), plan.REFRESH)
        if (ratio := results.ratio(case.name, plan.REFRESH, "ebrctl", "bulk"))
    ]
    yield _judge(
        goal, ", ".join(map(three, seen)), min(seen) >= 10 if seen else None
    )
    ratios: dict[str, dict[int, float]] = {"bulk": {}, "floor": {}}
    for case in _with(_cases(results, family="mlx5", delays=True), plan.PLUG):
        for name, found in ratios.items():
            told = results.of(
                "sample", case=case.name, contender=name, operation=plan.PLUG
            )
            if told:
                counts = told[-1]["counts"]
                least = (counts["modify"] + counts["query"]) * plan.COMMAND
                median = summary([one["seconds"] for one in told]).median
                found[case.asked] = median / least
    ours, floor = ratios["bulk"], ratios["floor"]
    yield _judge(
        "with delays, plug no slower than its firmware commands",
        ", ".join(f"{three(r)} ({n} VFs)" for n, r in ours.items()),
        all(r <= 1.1 for n, r in ours.items() if n >= 8) if ours else None,
        "the floor has "
        + ", ".join(f"{three(r)} ({n} VFs)" for n, r in floor.items())
        + ": a sleep of the kernel's is longer than asked for, and longer "
        "still in emulation",
    )


def _start(results: Results) -> Iterator[Goal]:
    for goal, start, limit in (
        ("`ibhostdev list` under 150 ms for 8 PFs of 127 VFs",
         "ibhostdev list, 8 x 127", 0.15),
        ("import under 30 ms", "import", 0.03),
        ("a plug by the stand-in for `ebrctl` at most 5 ms more than `true`",
         "stand-in, plug", 0.005),
    ):  # fmt: skip
        found = [
            one["seconds"]
            for one in results.of("host")
            if one["what"].startswith(start)
        ]
        if not found:
            yield _judge(goal, "", None)
            continue
        median = summary(found).median
        yield _judge(goal, duration(median), median < limit)


def _judge(goal: str, seen: str, met: bool | None, between: str = "") -> Goal:
    return Goal(goal, seen or "not measured", met, "" if met else between)
