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
        *_privsep(results),
        *_others(results),
        *_instructions(results),
        *_standin(results),
        *_delays(results),
        *_made(results),
        *_neutron(results),
        *_memory(results),
        *_start(results),
    ]


def _bare(results: Results, **which: object) -> list[Case]:
    return _cases(results, family="mlx5", delays=False, scaled=False, **which)


def _ratios(
    results: Results, cases: list[Case], operation: str, name: str, to: str
) -> dict[int, float]:
    """By the number of VFs."""
    return {
        case.asked: ratio
        for case in _with(cases, operation)
        if (ratio := results.ratio(case.name, operation, name, to))
    }


def _told(ratios: dict[int, float]) -> str:
    return ", ".join(
        f"{three(r)} ({n} VF{'s' if n > 1 else ''})" for n, r in ratios.items()
    )


def _at_most(
    goal: str, ratios: dict[int, float], limit: float, between: str = ""
) -> Goal:
    return _judge(
        f"{goal} ≤ {limit:g}",
        _told(ratios),
        max(ratios.values()) <= limit if ratios else None,
        between,
    )


def _floor(results: Results) -> Iterator[Goal]:
    """To the floor with the same questions."""
    cases = _bare(results)
    bulk = [case for case in cases if case.asked >= 8]
    single = [case for case in cases if case.asked == 1]
    for goal, which, limit, operation in (
        ("bulk plug, bare, to the floor with the same questions", bulk, 1.2,
         plan.PLUG),
        ("a single plug to it", single, 1.5, plan.PLUG),
        ("plug again to it", bulk, 1.2, plan.REPEAT),
        ("unplug to it", bulk, 1.2, plan.UNPLUG),
    ):  # fmt: skip
        yield _at_most(
            goal,
            _ratios(results, which, operation, "bulk", "safe"),
            limit,
            _between(results, which, operation),
        )
    yield _at_most(
        "survey of a PF from Python to the floor's list",
        _ratios(results, cases, plan.LIST, "survey", "floor"),
        1.5,
    )


def _between(results: Results, cases: list[Case], operation: str) -> str:
    """The difference to the floor, in time and in system calls: these are
    counted in cases of their own, of the same name."""
    parts = []
    for case in _with(cases, operation):
        ours, floor = (
            results.summary(case.name, name, operation)
            for name in ("bulk", "safe")
        )
        if not (ours and floor):
            continue
        counts = {
            one["contender"]: one["counts"]["system calls"]
            for one in results.of(
                "counts", case=case.name, operation=operation
            )
        }
        calls = (
            f" ({counts['bulk']:.0f} system calls to {counts['safe']:.0f})"
            if {"bulk", "safe"} <= counts.keys()
            else ""
        )
        parts.append(
            f"{case.asked} VF{'s' if case.asked > 1 else ''}: "
            f"{duration(ours.median - floor.median)} more{calls}"
        )
    return "; ".join(parts)


def _privsep(results: Results) -> Iterator[Goal]:
    yield _at_most(
        "plug through privsep, to the direct call",
        _ratios(
            results, _bare(results, asked=64), plan.PLUG, "privsep", "bulk"
        ),
        2,
        "a price for each call, of 1 VF as of 64: a thread that waits for "
        "no longer than the time limit, oslo.privsep's that reads answers, "
        "and the daemon's two; what makes the direct call faster makes this "
        "ratio worse",
    )


def _instructions(results: Results) -> Iterator[Goal]:
    found = [one["each"] for one in results.of("instructions")]
    yield _judge(
        "instructions for each VF of a plug, Python to system call ≤ 10,000",
        ", ".join(f"{each:,.0f}" for each in found),
        max(found) <= 10_000 if found else None,
    )


def _standin(results: Results) -> Iterator[Goal]:
    yield _at_most(
        "a plug by the stand-in for `ebrctl`, to a floor that is started as "
        "a process",
        _ratios(
            results, _bare(results, asked=1), plan.PLUG, "standin",
            "floor-process",
        ),
        1.1,
        "it knows nothing when it starts: the mapping of networks, its "
        "limits and signals, which PFs there are, with their ports, network "
        "devices and GUIDs; the floor takes its VF's PF for the only one",
    )  # fmt: skip


def _others(results: Results) -> Iterator[Goal]:
    for name, times, what in (
        ("ip-batch", 40, "`ip -batch`"),
        ("pyroute2-best", 250, "pyroute2 at its best"),
        ("ebrctl", 40_000, "the real `ebrctl`"),
    ):
        seen = []
        for case in _with(_bare(results, asked=64), plan.PLUG):
            ours = results.summary(case.name, "bulk", plan.PLUG)
            seconds = other(results, case, name, plan.PLUG)
            if ours and seconds:
                seen.append(seconds / ours.median)
        yield _judge(
            f"plug of 64 VFs ahead of {what} ≥ {times:,}",
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
        if one.delays == case.delays
        and one.scaled == case.scaled
        and operation in one.operations
    ]
    for one in single:
        if found := results.summary(one.name, name, operation):
            return found.median / one.asked * case.asked
    return None


def _floor_against(results: Results, name: str) -> str:
    """How far ahead the floor itself is: nobody can be further."""
    for case in _with(_bare(results, asked=64), plan.PLUG):
        floor = results.summary(case.name, "safe", plan.PLUG)
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
    for scaled, limit in ((True, 1.02), (False, None)):
        cases = _cases(results, family="mlx5", delays=True, scaled=scaled)
        if limit:
            cases = [case for case in cases if case.asked == 64]
        ratios = _ratios(results, cases, plan.PLUG, "bulk", "safe")
        if limit:
            factor = results.machine.get("guest", {}).get("factor", "?")
            yield _at_most(
                "plug with delays, as long beside software as on a real "
                f"host ({factor} times), to the floor with the same "
                "questions",
                ratios, limit,
            )  # fmt: skip
        else:
            yield _judge(
                "the same with delays that are not scaled (no goal: a sleep "
                "is not slowed by emulation and software is)",
                _told(ratios), None,
            )  # fmt: skip


def _made(results: Results) -> Iterator[Goal]:
    """``ibhostdev apply``, from no VFs to VFs with identities."""
    made, bound = (
        _cases(results, series=series, pfs=2, scaled=scaled)
        for series, scaled in (("made", True), ("bound", False))
    )
    yield _at_most(
        "`ibhostdev apply` of 2 x 64 VFs, with scaled delays, to "
        "`sriov_numvfs` alone and one batch",
        _ratios(results, made, plan.MADE, "make-command", "make-numvfs"),
        1.1,
    )
    twice = {
        case.asked: max(one["counts"]["probe"] for one in told) - case.asked
        for case in bound
        if (
            told := results.of(
                "sample", case=case.name, contender="make-command"
            )
        )
    }
    yield _judge(
        "VFs that it binds twice = 0",
        ", ".join(f"{more:g} of {vfs}" for vfs, more in twice.items()),
        not any(twice.values()) if twice else None,
    )
    ahead = _ratios(results, bound, plan.BOUND, "make-vendor", "make-command")
    yield _judge(
        "ahead of the vendor's restore, with delays, ≥ 50",
        _told(ahead),
        min(ahead.values()) >= 50 if ahead else None,
    )


def _neutron(results: Results) -> Iterator[Goal]:
    """``ibhostdev-neutron-agent``, from the end of a plug to its report."""
    cases = _cases(results, series="Neutron")
    real: dict[int, float] = {}
    for case in _with(cases, plan.SEEN):
        told = results.of(
            "sample", case=case.name, contender="agent", operation=plan.SEEN
        )
        if told and case.scaled:
            seconds = summary([one["seconds"] for one in told]).median
            real[case.asked] = seconds / told[0]["factor"]
    yield _judge(
        "ports reported to Neutron as up, with delays, on a real host's "
        "clock < 100 ms",
        ", ".join(f"{duration(s)} ({n} VFs)" for n, s in real.items()),
        max(real.values()) < 0.1 if real else None,
    )
    bare = [case for case in cases if not case.delays]
    ahead = _ratios(results, bare, plan.SEEN, "agent-mlnx", "agent")
    yield _judge(
        "16 of them reported ≥ 100 times sooner than by networking-mlnx's "
        "agent with eswitchd",
        _told(ahead),
        ahead[16] >= 100 if 16 in ahead else None,
    )
    asked: dict[int, float] = {}
    for case in _with(cases, plan.SEEN):
        if (most := _getlinks(results, case, "agent")) is not None:
            asked[case.asked] = max(most, asked.get(case.asked, 0))
    yield _judge(
        "GETLINKs for VFs of a PF that was changed ≤ 1",
        _told(asked),
        max(asked.values()) <= 1 if asked else None,
    )
    for name, polls, net in (
        ("agent", plan.MINUTE / 10, "looking every 10 s"),
        ("agent-marks", 0, "not looking unasked"),
    ):
        found = [
            seen
            for case in _with(cases, plan.REST)
            if (seen := _getlinks(results, case, name)) is not None
        ]
        yield _judge(
            f"GETLINKs for VFs of a PF in an idle minute, {net}, ≤ {polls:g}",
            ", ".join(map(three, found)),
            max(found) <= polls if found else None,
        )


def _getlinks(results: Results, case: Case, name: str) -> float | None:
    """The most in any of a case's operations."""
    told = results.of("sample", case=case.name, contender=name)
    return max((one["counts"]["getlink"] for one in told), default=None)


def _memory(results: Results) -> Iterator[Goal]:
    found = [
        one["peak"] - one["before"]
        for one in results.of("memory")
        if one["vifs"] >= 1000
    ]
    yield _judge(
        "peak memory of a batch of 1,000 VFs over import ≤ 2 MiB",
        ", ".join(f"{three(more / 2**20)} MiB" for more in found),
        max(found) <= 2 << 20 if found else None,
    )


def _start(results: Results) -> Iterator[Goal]:
    for goal, start, limit in (
        ("`import ibhostdev` over a bare Python ≤ 20 ms", "import", 0.02),
        ("`ibhostdev list` of 2 x 16 VFs over `python -c pass` ≤ 60 ms",
         plan.LISTED, 0.06),
    ):  # fmt: skip
        found = results.of("host", what=start)
        if not found:
            yield _judge(goal, "", None)
            continue
        median = summary([one["seconds"] for one in found]).median
        yield _judge(goal, duration(median), median <= limit)


def _judge(goal: str, seen: str, met: bool | None, between: str = "") -> Goal:
    return Goal(goal, seen or "not measured", met, "" if met else between)
