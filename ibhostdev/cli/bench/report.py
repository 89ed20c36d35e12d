# SPDX-License-Identifier: Apache-2.0
"""What was measured, as figures: for programs and for people."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ibhostdev.cli.bench.measuring import Report, Subject
from ibhostdev.cli.bench.ways import TITLES, Bulk, IpBatch, Single
from ibhostdev.cli.terminal import Cell, Line, filled, table
from ibhostdev.privilege.plain import error_to_plain

if TYPE_CHECKING:
    from ibhostdev.simulate.model import Counts


@dataclass(frozen=True)
class Figure:
    """Seconds: the median, and the quartiles around it."""

    median: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """Half of what is between the quartiles, of the median."""
        return (self.high - self.low) / 2 / self.median

    @classmethod
    def of(cls, samples: Sequence[float]) -> "Figure":
        if len(samples) == 1:
            return cls(samples[0], samples[0], samples[0])
        low, median, high = statistics.quantiles(samples, method="inclusive")
        return cls(median, low, high)


def _rows(report: Report) -> Iterator[tuple[Subject, dict[str, list[float]]]]:
    """An operation after the other, from few VFs to many."""
    order = list(dict.fromkeys(one.operation for one in report.seconds))
    order.sort(key="list".__eq__)
    for operation in order:
        for subject, ways in report.seconds.items():
            if subject.operation == operation:
                yield subject, ways


def _ratio(ways: dict[str, list[float]]) -> float | None:
    """How many times as long as one call the calls for each VF take."""
    if Single.name not in ways:
        return None
    bulk, single = ways[Bulk.name], ways[Single.name]
    return Figure.of(single).median / Figure.of(bulk).median


# -- for programs ---------------------------------------------------------


def as_json(report: Report) -> dict[str, Any]:
    """Times in seconds."""
    return {
        "ok": report.error is None,
        "simulated": report.simulated,
        "pfs": [
            {
                "pci": pf.pci,
                "family": pf.family,
                "mechanism": report.loan.mechanisms[pf.pci],
                "numvfs": pf.numvfs,
            }
            for pf in report.loan.pfs
        ],
        "vfs": [vf.pci for vf in report.loan.vfs],
        "rounds": report.rounds,
        "results": [
            {
                "operation": subject.operation,
                "vfs": subject.vfs,
                **{
                    name: _way_json(
                        ways.get(name),
                        report.counts.get(subject, {}).get(name),
                    )
                    for name in TITLES
                },
                "ratio": _ratio(ways),
            }
            for subject, ways in _rows(report)
        ],
        "firmware": [
            {"pf": pf, "command": command, **asdict(counter)}
            for (pf, command), counter in report.commands.items()
        ],
        "absent": report.absent,
        "warnings": report.warnings,
        "error": error_to_plain(report.error),
    }


def _way_json(
    samples: Sequence[float] | None, counts: "Counts | None"
) -> dict[str, Any] | None:
    if not samples:
        return None
    figure = Figure.of(samples)
    return {
        "median": figure.median,
        "quartiles": [figure.low, figure.high],
        "samples": samples,
        "counts": None if counts is None else counts._asdict(),
    }


# -- for people -----------------------------------------------------------


def as_lines(report: Report) -> list[Line]:
    """A row for each subject, and what there is to say about them."""
    ways = [name for name in TITLES if name not in report.absent]
    head = ["", "VFs"]
    for name in ways:
        head += [TITLES[name], "±"]
        head += {Bulk.name: ["µs/VF"], Single.name: ["times"]}.get(name, [])
    if report.counts:
        head += ["writes", "reads"]
    rows = [
        _row(report, ways, subject, seconds)
        for subject, seconds in _rows(report)
    ]
    for row in rows:
        row += [("", "")] * (len(head) - len(row))
    lines = [*_heading(report), [], *table(*_to_the_right(head, rows)), []]
    for remark in _remarks(report):
        lines += filled([remark])
    return lines


def _heading(report: Report) -> Iterator[Line]:
    for pf in report.loan.pfs:
        count = sum(vf.pf.pci == pf.pci for vf in report.loan.vfs)
        yield [
            (pf.pci, "bold cyan"),
            (f"  {pf.family}  {count} of {pf.numvfs} VFs", ""),
            (f"  by {report.loan.mechanisms[pf.pci]}", ""),
        ]


def _row(
    report: Report,
    ways: Sequence[str],
    subject: Subject,
    seconds: dict[str, list[float]],
) -> list[Cell]:
    row: list[Cell] = [(subject.operation, "bold"), (str(subject.vfs), "")]
    for name in ways:
        if name in seconds:
            figure = Figure.of(seconds[name])
            row += [
                (_ms(figure.median), "bold" if name == Bulk.name else ""),
                (f"{figure.spread:.0%}", "dim"),
            ]
        else:
            row += [("", "")] * 2
        if name == Bulk.name:
            row.append((f"{figure.median / subject.vfs * 1e6:.0f}", ""))
        elif name == Single.name:
            ratio = _ratio(seconds)
            row.append(("" if ratio is None else f"{ratio:.1f}", "green"))
    if counts := report.counts.get(subject):
        row += [
            ("/".join(str(one.modify) for one in counts.values()), ""),
            ("/".join(str(one.getlink) for one in counts.values()), ""),
        ]
    return row


def _ms(seconds: float) -> str:
    """Three digits, or all before the point."""
    value = seconds * 1e3
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def _to_the_right(
    head: Sequence[str], rows: Sequence[Sequence[Cell]]
) -> tuple[list[str], list[Line]]:
    """All columns but the first."""
    widths = [
        max(len(title), *(len(row[column][0]) for row in rows))
        for column, title in enumerate(head)
    ]
    widths[0] = 0
    return (
        [
            title.rjust(width)
            for title, width in zip(head, widths, strict=True)
        ],
        [
            [
                (text.rjust(width), style)
                for (text, style), width in zip(row, widths, strict=True)
            ]
            for row in rows
        ],
    )


def _remarks(report: Report) -> Iterator[Cell]:
    told = [
        f"Milliseconds, medians of {report.rounds} rounds; ± is half of what "
        "lies between the quartiles, of the median."
        if report.rounds > 1
        else "Milliseconds, of one round."
    ]
    if report.counts:
        told.append(
            "Writes and reads, of one call/of a call each: commands that "
            "change something in firmware, and questions to a PF."
        )
    for text in told:
        yield text, "dim"
    for (pf, command), counter in report.commands.items():
        mean = f", {counter.mean * 1e6:.0f} µs each" if counter.count else ""
        said = f"{pf}'s driver counted {counter.count} {command}{mean}."
        yield said, "dim"
    if report.simulated:
        yield (
            "The host is simulated: its share of the time is that of a "
            "program, not of a kernel and an adapter.",
            "yellow",
        )
    if IpBatch.name not in report.absent:
        yield "ip neither looks first nor reads back.", "dim"
    for name, why in report.absent.items():
        yield f"Without {TITLES[name]}: {why}.", "dim"
    if report.error is None and not report.counts:
        vfs = len(report.loan.vfs)
        yield f"{vfs} VF{'s' * (vfs > 1)} given back.", "green"
