# SPDX-License-Identifier: Apache-2.0
"""The report of a run: Markdown and plots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import contenders, goals, plan, plots
from benchmarks.plan import Case
from benchmarks.results import Results, duration, line, summary, three

_FAMILIES = {
    "mlx5": "mlx5, netlink",
    "mlx5-files": "mlx5, OFED files",
    "mlx4": "mlx4",
}
_HEAD = """\
# What a plug costs

Written by `./dev bench`; the samples are in `results.json`. All contenders
of a table took turns on the same VFs of the same virtual machine: a real
Linux kernel, with a module in place of the vendor's driver, in QEMU without
virtualisation of the processor. That makes everything about 10 to 20 times
slower than a real host, Python and C alike, so **ratios count, times do
not**. *Bare* is the cost of software alone; *with delays* a firmware command
takes 0.2 ms and a VF's probe 300 ms, as on real cards; *with scaled delays*
they take longer by the factor by which this run's emulation slows a loop in
C, so that they weigh beside software what they do on a real host.

- *floor* does what ibhostdev does (look first, write, read back) in C with
  the least system calls; with the *same questions* it also asks what safety
  asks: the kernel's word for each VF's place and driver, the locks of the
  PFs, and whether the VFs are still enabled when they are written. *Writing
  only* neither looks nor reads back, which is all that `ip` and pyroute2 do.
- ≈ was reckoned from a few VFs: a contender that makes a call for each VF
  was measured with the first ones of a round (eswitchd's with one).
- Spread is between the quartiles. *×* is the ratio to the floor.
- A dash: it has no such operation, or cannot serve there (below).
"""


def title(name: str) -> str:
    return contenders.make(name).title


def write(results: Results, out: Path) -> None:
    """report.md and the plots, beside the results."""
    cases = [Case.of(one) for one in results.cases]
    parts = [_HEAD, *_goals(results)]
    for name in plots.draw(results, cases, out):
        parts.append(f"![{name}]({name}.svg)\n")
    parts += _tables(results, cases)
    parts += _made(results, cases)
    parts += _neutron(results, cases)
    parts += _refresh(results, cases)
    parts += _rtnl(results, cases)
    parts += _counts(results, cases)
    parts += _growth(results, cases)
    parts += _host(results)
    parts += _absent(results)
    parts += _machine(results)
    (out / "report.md").write_text("\n".join(parts))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    every = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in every) + "\n"


def _goals(results: Results) -> Iterator[str]:
    yield "## Goals\n"
    yield table(
        ["goal", "seen", "met", "what stands between"],
        [
            [
                goal.goal,
                goal.seen,
                {True: "yes", False: "**no**", None: "?"}[goal.met],
                goal.between,
            ]
            for goal in goals.all_of(results)
        ],
    )


def _cell(results: Results, case: Case, name: str, operation: str) -> str:
    found = results.summary(case.name, name, operation)
    if found is None:
        seconds = goals.other(results, case, name, operation)
        if seconds is None or operation == plan.LIST:
            return "–"
        text = f"≈ {duration(seconds)}"
    else:
        seconds = found.median
        told = results.of(
            "sample", case=case.name, contender=name, operation=operation
        )
        few = operation != plan.LIST and told[0]["measured"] < case.asked
        spread = (found.high - found.low) / 2 / seconds
        text = f"{'≈ ' if few else ''}{duration(seconds)} ±{spread:.0%}"
    floor = results.summary(case.name, "floor", operation)
    if floor and name != "floor":
        text += f" (×{three(seconds / floor.median)})"
    return text


def _side_by_side(
    results: Results, case: Case, operations: Sequence[str]
) -> str:
    rows = []
    for name in contenders.NAMES:
        cells = [_cell(results, case, name, one) for one in operations]
        if set(cells) != {"–"}:
            rows.append([title(name), *cells])
    return table(["", *operations], rows)


def _tables(results: Results, cases: Sequence[Case]) -> Iterator[str]:
    yield "## Side by side\n"
    for case in cases:
        if case.series == "table" and plan.PLUG in case.operations:
            yield f"### {_what(case)}\n"
            yield _side_by_side(results, case, plan.USUAL)
    yield "## The ports of an instance, by Nova\n"
    for case in cases:
        if case.series == "Nova":
            yield f"### {_what(case)}\n"
            yield _side_by_side(results, case, case.operations)


def _made(results: Results, cases: Sequence[Case]) -> Iterator[str]:
    yield "## From no VFs to VFs with identities\n"
    yield (
        "As at boot, or when the PFs' driver was loaded anew. A VF that is "
        "made costs one command here, where real firmware has more to do, so "
        "what comes after weighs more. With `sriov_numvfs` alone the kernel "
        "binds VFs while it makes them, one after the other, and their driver "
        "shows no identity. The scripts are in our own words "
        "(`contenders/usual.sh`). The vendor's waits 4 s for each VF: **these "
        "pauses were not slept, but added**; and it leaves links down. *×* is "
        "the ratio to `sriov_numvfs` and one batch.\n"
    )
    for case in cases:
        if case.series not in ("made", "bound"):
            continue
        (operation,) = case.operations
        base = results.summary(case.name, "make-numvfs", operation)
        rows = []
        for name in case.contenders:
            found = results.summary(case.name, name, operation)
            if found is None:
                continue
            text = duration(found.median)
            if base and name != "make-numvfs":
                text += f" (×{three(found.median / base.median)})"
            told = results.of("sample", case=case.name, contender=name)
            counts = [
                summary([one["counts"][kind] for one in told]).median
                for kind in ("modify", "query", "getlink", "probe")
            ]
            rows.append([title(name), text, *(f"{n:,.0f}" for n in counts)])
        yield f"### {operation}: {_what(case)}\n"
        head = ["", "", "modify", "query", "getlink", "probe"]
        yield table(head, rows)


def _neutron(results: Results, cases: Sequence[Case]) -> Iterator[str]:
    yield "## Until Neutron knows\n"
    yield (
        "From the end of a plug or unplug, by another's hand, until the agent "
        "of the host has told Neutron of the last of the ports; firmware "
        "commands and GETLINKs with data of VFs are the agent's alone. "
        "Neutron's server is played, in the agent's process, and answers at "
        "once. No VF has a network device, as is so in guests' hands, and "
        "eswitchd asks for each of these. networking-mlnx's agent looks every "
        "2 s here as everywhere, which weighs less in emulation.\n"
    )
    for case in cases:
        if case.series != "Neutron":
            continue
        rows = []
        for name in case.contenders:
            cells = [
                cell
                for operation in case.operations
                for cell in _reported(results, case, name, operation)
            ]
            if cells:
                rows.append([title(name), *cells])
        head = [
            cell
            for operation in case.operations
            for cell in (operation, "commands", "GETLINKs")
        ]
        if plan.REST in case.operations:
            head.remove(plan.REST)
            yield f"### In {plan.REST}, {_FAMILIES[case.family]}\n"
        else:
            yield f"### {_what(case)}\n"
        yield table(["", *head], rows)


def _reported(
    results: Results, case: Case, name: str, operation: str
) -> Iterator[str]:
    found = results.summary(case.name, name, operation)
    if found is None:
        return
    if operation != plan.REST:
        spread = (found.high - found.low) / 2 / found.median
        yield f"{duration(found.median)} ±{spread:.0%}"
    told = results.of(
        "sample", case=case.name, contender=name, operation=operation
    )
    for kinds in (("modify", "query"), ("getlink",)):
        numbers = [sum(one["counts"][kind] for kind in kinds) for one in told]
        yield f"{summary(numbers).median:,.0f}"


def _what(case: Case) -> str:
    host = f"{case.pfs} PFs of {case.vfs}" if case.pfs > 1 else f"{case.vfs}"
    return (
        f"{case.asked} of {host} VFs, {_FAMILIES[case.family]}, {_how(case)}"
    )


def _how(case: Case) -> str:
    if not case.delays:
        return "bare"
    return "with scaled delays" if case.scaled else "with delays"


def _refresh(results: Results, cases: Sequence[Case]) -> Iterator[str]:
    yield "## Unplug of VFs that the host's own driver has\n"
    yield (
        "The driver shows an identity until it is bound anew, 300 ms each. "
        "`ip` and pyroute2 are followed by unbind and bind, one VF after "
        "another, as scripts and eswitchd do it.\n"
    )
    for case in cases:
        if plan.REFRESH in case.operations:
            yield f"### {_what(case)}\n"
            yield _side_by_side(results, case, [plan.REFRESH])


def _rtnl(results: Results, cases: Sequence[Case]) -> Iterator[str]:
    yield "## How long others wait\n"
    yield (
        "The longest time that another process's link operation took while "
        "VFs were plugged (it needs the kernel's RTNL lock), of each round; "
        "and beside it when nothing was going on.\n"
    )
    for case in cases:
        if plan.RTNL not in case.operations:
            continue
        rows = []
        for name in case.contenders:
            told = results.of("rtnl", case=case.name, contender=name)
            if told:
                worst = max(one["found"]["longest"] for one in told)
                median = summary([one["seconds"] for one in told]).median
                quiet = max(one["quiet"]["longest"] for one in told)
                rows.append(
                    [title(name), *map(duration, (median, worst, quiet))]
                )
        yield f"### {_what(case)}\n"
        yield table(["", "median of longest", "worst", "at rest"], rows)


def _counts(results: Results, cases: Sequence[Case]) -> Iterator[str]:
    yield "## Counts of a plug\n"
    yield (
        "System calls of all processes that take part, messages sent by "
        "netlink and processes started by strace; commands to firmware, "
        "GETLINKs with data of VFs, and probes by the module in the kernel "
        "(of 127 VFs present each GETLINK asks firmware 127 times and "
        "more).\n"
    )
    for case in cases:
        if plan.COUNTS not in case.operations:
            continue
        head = [
            "system calls", "netlink messages", "processes", "modify",
            "query", "getlink", "probe",
        ]  # fmt: skip
        for operation in (plan.PLUG, plan.REPEAT, plan.UNPLUG):
            rows = []
            for name in case.contenders:
                found: dict[str, Any] = {}
                for kind in ("sample", "counts"):
                    for one in results.of(
                        kind, case=case.name, contender=name,
                        operation=operation,
                    ):  # fmt: skip
                        found |= one["counts"]
                if "system calls" in found:
                    cells = [
                        f"{found[k]:,.0f}" if k in found else "–" for k in head
                    ]
                    rows.append([title(name), *cells])
            yield f"### {operation}: {_what(case)}\n"
            yield table(["", *head], rows)


def _growth(results: Results, cases: Sequence[Case]) -> Iterator[str]:
    yield "## How it grows\n"
    yield "A straight line through the medians.\n"
    rows = []
    for series, what in plots.SERIES.items():
        for operation in (plan.PLUG, plan.REPEAT, plan.UNPLUG):
            for name in contenders.NAMES:
                points = plots.points(results, cases, series, name, operation)
                if len({x for x, _ in points}) < 2:
                    continue
                slope, intercept, fit = line(points)
                rows.append(
                    [
                        what, operation, title(name), duration(slope),
                        duration(intercept), f"{fit:.3f}",
                    ]
                )  # fmt: skip
    yield table(["by", "", "", "each more", "at none", "R²"], rows)


def _host(results: Results) -> Iterator[str]:
    yield "## On the machine itself, on a simulated host\n"
    found: dict[str, list[float]] = {}
    for one in results.of("host"):
        found.setdefault(one["what"], []).append(one["seconds"])
    rows = []
    for what, seconds in found.items():
        median, low, high, rounds = summary(seconds)
        rows.append(
            [what, duration(median), f"{duration(low)} to {duration(high)}",
             str(rounds)]
        )  # fmt: skip
    yield table(["", "median", "quartiles", "rounds"], rows)
    for one in results.of("memory"):
        yield (
            f"- Peak memory of a batch of {one['vifs']} VIFs: "
            f"{one['peak'] / 1e6:.1f} MB, {one['before'] / 1e6:.1f} MB of "
            "that before it.\n"
        )
    for one in results.of("instructions"):
        yield (
            "- Instructions for each VF more in a plug, from Python to the "
            f"kernel (callgrind): {one['each']:,.0f}; to make its Vif from "
            f"text: {one.get('parse', 0):,.0f}.\n"
        )


def _absent(results: Results) -> Iterator[str]:
    yield "## Left out\n"
    seen: dict[tuple[str, str], None] = {}
    for one in results.of("absent"):
        why = one["why"].strip().splitlines()[-1]
        family = one["case"].split(", ")[1]
        seen[title(one["contender"]) + f", on {family}", why] = None
    for name, why in seen:
        yield f"- {name}: {why}"
    yield ""


def _machine(results: Results) -> Iterator[str]:
    yield "## Where\n"
    for name, value in results.machine.items():
        yield f"- {name}: {value}"
    yield ""
