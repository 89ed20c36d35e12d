# SPDX-License-Identifier: Apache-2.0
"""Plots of a run, as PNG and SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import contenders, goals, plan
from benchmarks.plan import Case
from benchmarks.results import Results, duration, line

SERIES = {
    "asked": "VFs asked for",
    "present": "VFs present, one asked for",
    "PFs": "PFs, 16 VFs asked for on each",
}
_OURS, _OTHERS, _FLOOR = "#1f6f8b", "#b0b7bd", "#222222"


def points(
    results: Results,
    cases: Sequence[Case],
    series: str,
    name: str,
    operation: str,
) -> list[tuple[float, float]]:
    """x and median seconds of a contender in a series."""
    found = []
    for case in cases:
        if case.series != series:
            continue
        told = results.summary(case.name, name, operation)
        if told:
            x = {
                "asked": case.asked,
                "present": case.vfs,
                "PFs": case.asked // case.vfs,
            }[series]
            found.append((float(x), told.median))
    return found


def draw(results: Results, cases: Sequence[Case], out: Path) -> Iterator[str]:
    """Draw all that there are samples for; yields the names."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams |= {
        "font.size": 9,
        "svg.hashsalt": "ibhostdev",
        "axes.spines.top": False,
        "axes.spines.right": False,
    }

    def keep(figure: Any, name: str) -> str:
        for kind in ("png", "svg"):
            figure.savefig(
                out / f"{name}.{kind}",
                dpi=110,
                bbox_inches="tight",
                metadata={"Date": None} if kind == "svg" else None,
            )
        pyplot.close(figure)
        return name

    case = _shown(cases)
    if case is not None:
        yield keep(_bars(pyplot, results, case), "contenders")
    for series, what in SERIES.items():
        figure = _lines(pyplot, results, cases, series, what)
        if figure is not None:
            yield keep(figure, f"growth-{series.lower()}")


def _shown(cases: Sequence[Case]) -> Case | None:
    """The one for everybody: 64 VFs of mlx5, bare, or what is nearest."""
    fitting = [
        case
        for case in cases
        if case.series == "table"
        and case.family == "mlx5"
        and case.pfs == 1
        and plan.LIST in case.operations
        and not case.delays
    ]
    return min(fitting, key=lambda c: abs(c.asked - 64), default=None)


def _bars(pyplot: Any, results: Results, case: Case) -> Any:
    bars = [
        (name, seconds)
        for name in contenders.NAMES
        if (seconds := goals.other(results, case, name, plan.PLUG))
    ]
    bars.sort(key=lambda bar: -bar[1])
    figure, axes = pyplot.subplots(figsize=(7.5, 0.32 * len(bars) + 1.2))
    colours = [
        _FLOOR
        if name in ("floor", "safe", "floor-process", "write")
        else _OURS
        if "ibhostdev" in contenders.make(name).title
        else _OTHERS
        for name, _ in bars
    ]
    drawn = axes.barh(
        [contenders.make(name).title for name, _ in bars],
        [seconds for _, seconds in bars],
        color=colours,
        log=True,
    )
    axes.bar_label(
        drawn, [duration(seconds) for _, seconds in bars], padding=3
    )
    axes.margins(x=0.15)
    axes.set_xlabel("seconds, log scale, in emulation (10 to 20 times slow)")
    axes.set_title(
        f"Plug of {case.asked} VFs ({case.vfs} present), mlx5 by netlink"
    )
    return figure


def _lines(
    pyplot: Any,
    results: Results,
    cases: Sequence[Case],
    series: str,
    what: str,
) -> Any:
    found = {
        name: told
        for name in contenders.NAMES
        if len(
            told := points(results, cases, series, name, plan.PLUG)
        ) > 1
    }  # fmt: skip
    if not found:
        return None
    figure, axes = pyplot.subplots(figsize=(6, 3.6))
    for name, told in found.items():
        xs, ys = zip(*told, strict=True)
        (drawn,) = axes.plot(
            xs, ys, "o", markersize=4,
            label=contenders.make(name).title,
        )  # fmt: skip
        slope, intercept, _ = line(told)
        ends = [min(xs), max(xs)]
        axes.plot(
            ends, [intercept + slope * x for x in ends],
            color=drawn.get_color(), linewidth=1,
        )  # fmt: skip
    axes.set_xlabel(what)
    axes.set_ylabel("seconds to plug, in emulation")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure
