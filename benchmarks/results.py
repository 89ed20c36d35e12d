# SPDX-License-Identifier: Apache-2.0
"""A run's samples in a file, and what numbers they come to."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from benchmarks.plan import Case


class Summary(NamedTuple):
    """Of samples: ``low`` and ``high`` are the quartiles, the least and the
    greatest where there are fewer than four."""

    median: float
    low: float
    high: float
    rounds: int


def summary(values: Sequence[float]) -> Summary:
    """:raises ValueError: if there are none"""
    if not values:
        raise ValueError("no samples")
    if len(values) < 4:
        low, high = min(values), max(values)
    else:
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return Summary(statistics.median(values), low, high, len(values))


class Line(NamedTuple):
    """intercept + slope × x; ``fit`` is R², 1 for a straight line."""

    slope: float
    intercept: float
    fit: float


def line(points: Iterable[tuple[float, float]]) -> Line:
    """The straight line with the least squares through points.

    :raises ValueError: if fewer than two differ in x
    """
    xs, ys = zip(*points, strict=True)
    if len(set(xs)) < 2:
        raise ValueError("a line takes two points")
    slope, intercept = statistics.linear_regression(xs, ys)
    rest = sum(
        (y - intercept - slope * x) ** 2 for x, y in zip(xs, ys, strict=True)
    )
    mean = statistics.fmean(ys)
    spread = sum((y - mean) ** 2 for y in ys)
    return Line(slope, intercept, 1 - rest / spread if spread else 1.0)


@dataclass
class Results:
    """``samples`` are as benchmarks.rig and benchmarks.host tell them, each
    with its ``kind``."""

    machine: dict[str, Any] = field(default_factory=dict)
    cases: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls(**json.loads(path.read_text()))

    def write(self, path: Path) -> None:
        """One sample a line, so that a difference can be read."""
        rows = ",\n".join(json.dumps(sample) for sample in self.samples)
        path.write_text(
            f'{{"machine": {json.dumps(self.machine, indent=1)},\n'
            f'"cases": {json.dumps(self.cases)},\n"samples": [\n{rows}\n]}}\n'
        )

    def put(self, name: str, part: Self) -> None:
        """A part that was measured by itself, in the place of what there
        was of it. Where there is nothing yet it is all."""
        names = {Case.of(one).name for one in part.cases}
        self.cases = [
            one for one in self.cases if Case.of(one).name not in names
        ] + part.cases
        self.samples = [
            one for one in self.samples if one.get("case") not in names
        ] + part.samples
        if self.machine:
            self.machine[f"by itself: {name}"] = part.machine
        else:
            self.machine = part.machine

    def of(self, kind: str, **which: Any) -> list[dict[str, Any]]:
        return [
            one
            for one in self.samples
            if one["kind"] == kind
            and all(one.get(k) == v for k, v in which.items())
        ]

    def seconds(
        self, case: str, contender: str, operation: str
    ) -> list[float]:
        return [
            one["seconds"]
            for one in self.of(
                "sample", case=case, contender=contender, operation=operation
            )
        ]

    def summary(
        self, case: str, contender: str, operation: str
    ) -> Summary | None:
        found = self.seconds(case, contender, operation)
        return summary(found) if found else None

    def ratio(
        self, case: str, operation: str, contender: str, to: str
    ) -> float | None:
        """How many times longer a contender takes than another one."""
        one = self.summary(case, contender, operation)
        other = self.summary(case, to, operation)
        return one.median / other.median if one and other else None


def duration(seconds: float) -> str:
    """For people, in three digits."""
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if abs(seconds) < limit:
            return f"{three(seconds * factor)} {unit}"
    if seconds < 600:
        return f"{three(seconds)} s"
    return f"{three(seconds / 60)} min"


def three(value: float) -> str:
    """In three digits, and no exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
