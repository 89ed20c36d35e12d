# SPDX-License-Identifier: Apache-2.0
"""Two runs side by side: what changed by more than the spread."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.results import Results, Summary, duration, three

Key = tuple[str, str, str]


def cells(results: Results) -> list[Key]:
    """Every case, contender and operation with samples, in their order."""
    keys = (
        (one["case"], one["contender"], one["operation"])
        for one in results.of("sample")
    )
    return list(dict.fromkeys(keys))


def apart(before: Summary, after: Summary) -> bool:
    """Whether the middle halves do not meet, and a tenth is between."""
    if before.low <= after.high and after.low <= before.high:
        return False
    return abs(after.median / before.median - 1) > 0.1


def changes(
    before: Results, after: Results
) -> Iterator[tuple[Key, Summary, Summary]]:
    for key in cells(after):
        old, new = before.summary(*key), after.summary(*key)
        if old and new and apart(old, new):
            yield key, old, new


def counts(results: Results) -> dict[Key, dict[str, float]]:
    """Firmware commands and system calls, which no noisy machine blurs."""
    found: dict[Key, dict[str, float]] = {}
    for kind in ("sample", "counts"):
        for one in results.of(kind):
            key = one["case"], one["contender"], one["operation"]
            found.setdefault(key, {}).update(one["counts"])
    return found


def text(before: Results, after: Results) -> str:
    """For people: as times depend on the machine, each is also shown as a
    multiple of the same run's floor."""
    lines = []
    for key, old, new in changes(before, after):
        case, contender, operation = key
        ratios = [
            ratio
            for results in (before, after)
            if (ratio := results.ratio(case, operation, contender, "floor"))
        ]
        by_floor = " -> ".join(three(ratio) for ratio in ratios)
        lines.append(
            f"{case}: {contender}, {operation}: {duration(old.median)} -> "
            f"{duration(new.median)} (x {three(new.median / old.median)}; "
            f"of the floor: {by_floor})"
        )
    old_counts = counts(before)
    for key, now in counts(after).items():
        for name, value in now.items():
            was = old_counts.get(key, {}).get(name)
            if was is not None and was != value:
                case, contender, operation = key
                lines.append(
                    f"{case}: {contender}, {operation}: {name} "
                    f"{was:g} -> {value:g}"
                )
    missing = [key for key in cells(before) if key not in cells(after)]
    lines += [f"no longer there: {', '.join(key)}" for key in missing]
    return "\n".join(lines) or "nothing differs by more than its spread"
