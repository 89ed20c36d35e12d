# SPDX-License-Identifier: Apache-2.0
"""``ibhostdev bench``: how long plugging takes on this machine.

In each round all ways to plug are gone by turns on the same VFs, so that what
slows the machine down slows all of them. The first round warms up, and is
where operations are counted.
"""

import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ibhostdev.batch import BatchResult, Progress, Vif
from ibhostdev.cli import firmware, terminal
from ibhostdev.cli.borrowing import Loan, borrow
from ibhostdev.cli.terminal import Cell, Line, filled, table
from ibhostdev.errors import InvalidInput, RollbackFailed
from ibhostdev.guid import IDLE
from ibhostdev.host import Host
from ibhostdev.host.views import views
from ibhostdev.privilege.plain import error_to_plain

if TYPE_CHECKING:
    from ibhostdev.simulate.model import Counts

A = TypeVar("A")
B = TypeVar("B")

# 127 is what most adapters are set up for at most.
_SIZES = (1, 8, 64, 127)
_TITLES = {
    "bulk": "one call",
    "single": "call each",
    "ip_batch": "ip -batch",
}


@dataclass(frozen=True)
class Subject:
    """An operation on so many VFs."""

    operation: str
    vfs: int


@dataclass
class Report:
    """What was measured: by subject and way, the seconds of each round, and
    what firmware was asked where the host can tell; ``commands`` is what a
    real driver counted meanwhile. ``absent`` are the ways
    that could not take part, and why; ``error`` is about VFs that could not
    be given back."""

    loan: Loan
    sizes: Sequence[int]
    rounds: int
    simulated: bool
    seconds: dict[Subject, dict[str, list[float]]] = field(
        default_factory=dict
    )
    counts: dict[Subject, dict[str, "Counts"]] = field(default_factory=dict)
    commands: firmware.Counters = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    error: RollbackFailed | None = None


def on_vfs(
    host: Host,
    names: Sequence[str],
    wanted: str | None,
    rounds: int,
    simulated: bool,
) -> Report:
    """Measure with these VFs of a host.

    :raises IbHostdevError: when it cannot be measured. Nothing was written,
        or the VFs are again what they were; or it is a RollbackFailed
    """
    loan = borrow(host, names)
    report = Report(loan, _sizes(wanted, len(loan.vfs)), rounds, simulated)
    # What is simulated may have the address of a real PF.
    pfs = [] if simulated else [pf.pci for pf in loan.pfs]
    before = firmware.read(pfs)
    _Bench(report).run()
    report.commands = firmware.between(before, firmware.read(pfs))
    return report


def on_own_host(
    run_dir: str | None, wanted: str | None, rounds: int
) -> Report:
    """Measure on a simulated host that is there for this only."""
    import tempfile

    from ibhostdev import simulate
    from ibhostdev.simulate import apart

    most = max(_SIZES)
    chosen = _sizes(wanted, most)
    options = {} if run_dir is None else {"run_dir": run_dir}
    with (
        tempfile.TemporaryDirectory(prefix="ibhostdev-bench-") as folder,
        apart.served(folder, most) as server,
    ):
        loan = borrow(simulate.connect(folder, **options))
        report = Report(loan, chosen, rounds, simulated=True)
        _Bench(report, server.counts).run()
    return report


def _sizes(text: str | None, most: int) -> list[int]:
    if text is None:
        return sorted({size for size in _SIZES if size < most} | {most})
    try:
        found = sorted({int(word) for word in text.split(",")})
    except ValueError:
        found = [0]
    if found[0] < 1 or found[-1] > most:
        raise InvalidInput(
            f"{text!r} is not a list of numbers from 1 to {most}",
            attribute="sizes",
            cure="write as in 1,8,64; there must be as many VFs",
        )
    return found


# -- ways to plug ---------------------------------------------------------


class _Way(Protocol):
    name: str

    def plug(self, vifs: Sequence[Vif]) -> list[BatchResult]:
        """Gives what tells whose the VFs were, as far as the way knows."""

    def unplug(self, vifs: Sequence[Vif]) -> None: ...


class _Bulk:
    name = "bulk"

    def __init__(self, host: Host) -> None:
        self._host = host

    def plug(self, vifs: Sequence[Vif]) -> list[BatchResult]:
        return [self._host.plug(vifs)]

    def unplug(self, vifs: Sequence[Vif]) -> None:
        # The VFs' own drivers have never seen these identities.
        self._host.unplug(vifs, rebind=False)


class _Single(_Bulk):
    name = "single"

    def plug(self, vifs: Sequence[Vif]) -> list[BatchResult]:
        return [self._host.plug([vif]) for vif in vifs]

    def unplug(self, vifs: Sequence[Vif]) -> None:
        for vif in vifs:
            self._host.unplug([vif], rebind=False)


class _Unfit(Exception):
    """Why a way cannot take part."""


class _IpBatch:
    """iproute2 in one process: it neither looks first nor reads back."""

    name = "ip_batch"

    def __init__(self, loan: Loan) -> None:
        program = shutil.which("ip") or shutil.which("ip", path="/usr/sbin")
        if program is None:
            raise _Unfit("there is no program ip (iproute2)")
        for pf in loan.pfs:
            _, against = loan.host.choose(pf)
            if "mlx5_netlink" in against:
                raise _Unfit(f"{pf.pci}: {against['mlx5_netlink']}")
        self._program = program
        self._loan = loan

    def plug(self, vifs: Sequence[Vif]) -> list[BatchResult]:
        self._set(
            [
                [
                    f"node_guid {vif.guid}",
                    f"port_guid {vif.guid}",
                    "state auto",
                ]
                for vif in vifs
            ]
        )
        return []

    def unplug(self, vifs: Sequence[Vif]) -> None:
        idle = ["state disable", f"node_guid {IDLE}", f"port_guid {IDLE}"]
        self._set([idle] * len(vifs))

    def _set(self, settings: Sequence[Sequence[str]]) -> None:
        # A line for each: of two GUIDs in one message the kernel takes one.
        lines = [
            f"link set dev {vf.pf.netdev.name} vf {vf.index} {setting}\n"
            for vf, wanted in zip(self._loan.vfs, settings, strict=False)
            if vf.pf.netdev is not None
            for setting in wanted
        ]
        done = subprocess.run(
            [self._program, "-batch", "-"],
            input="".join(lines),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            said = done.stderr.strip() or f"exit code {done.returncode}"
            raise _Unfit(said.splitlines()[0])


# -- measuring ------------------------------------------------------------


class _Bench:
    """``count`` gives what the host was asked since it last gave that."""

    def __init__(
        self, report: Report, count: "Callable[[], Counts] | None" = None
    ) -> None:
        self._report = report
        self._count = count
        self._loan = report.loan
        self._ways: list[_Way] = [
            _Bulk(self._loan.host),
            _Single(self._loan.host),
        ]
        try:
            if report.simulated:
                raise _Unfit("there is no kernel behind a simulated host")
            self._ways.append(_IpBatch(self._loan))
        except _Unfit as why:
            report.absent[_IpBatch.name] = str(why)

    def run(self) -> None:
        report = self._report
        due = (report.rounds + 1) * len(report.sizes)
        finished = False
        try:
            with (
                terminal.progress(due, "measure") as progress,
                self._loan.held(),
            ):
                self._rounds(due, progress)
                finished = True
        except RollbackFailed as error:
            if not finished:
                raise
            report.error = error

    def _rounds(self, due: int, progress: Progress | None) -> None:
        sizes = self._report.sizes
        for step in range(due):
            number, at = divmod(step, len(sizes))
            if progress is not None:
                progress("measure", step, due)
            first = number % len(self._ways)
            vifs = self._loan.vifs[: sizes[at]]
            for way in self._ways[first:] + self._ways[:first]:
                # A call for the one VF that there is has been measured.
                if len(vifs) > 1 or not isinstance(way, _Single):
                    self._turn(number, way, vifs)
            if at == 0:
                self._list(number)

    def _turn(self, number: int, way: _Way, vifs: Sequence[Vif]) -> None:
        count = len(vifs)
        try:
            if isinstance(way, _IpBatch):
                self._loan.require_idle()
            for operation in ("plug", "plug again"):
                results = self._time(
                    number, Subject(operation, count), way, way.plug, vifs
                )
                self._loan.look(vifs, results)
                self._warn(results)
            self._time(number, Subject("unplug", count), way, way.unplug, vifs)
        except _Unfit as why:
            self._ways.remove(way)
            self._report.absent[way.name] = str(why)
            for ways in self._report.seconds.values():
                ways.pop(way.name, None)
            self._ways[0].unplug(vifs)

    def _warn(self, results: Sequence[BatchResult]) -> None:
        known = self._report.warnings
        for result in results:
            known += [one for one in result.warnings if one not in known]

    def _list(self, number: int) -> None:
        pfs = self._loan.pfs
        self._time(
            number,
            Subject("list", sum(pf.numvfs for pf in pfs)),
            self._ways[0],
            lambda names: views(self._loan.host, names),
            [pf.pci for pf in pfs],
        )

    def _time(
        self,
        number: int,
        subject: Subject,
        way: _Way,
        call: Callable[[A], B],
        what: A,
    ) -> B:
        if self._count and not number:
            self._count()
        start = time.perf_counter()
        result = call(what)
        took = time.perf_counter() - start
        if number:
            ways = self._report.seconds.setdefault(subject, {})
            ways.setdefault(way.name, []).append(took)
        elif self._count:
            counts = self._report.counts.setdefault(subject, {})
            counts[way.name] = self._count()
        return result


# -- figures --------------------------------------------------------------


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
    if _Single.name not in ways:
        return None
    bulk, single = ways[_Bulk.name], ways[_Single.name]
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
                    for name in _TITLES
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
    ways = [name for name in _TITLES if name not in report.absent]
    head = ["", "VFs"]
    for name in ways:
        head += [_TITLES[name], "±"]
        head += {_Bulk.name: ["µs/VF"], _Single.name: ["times"]}.get(name, [])
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
                (_ms(figure.median), "bold" if name == _Bulk.name else ""),
                (f"{figure.spread:.0%}", "dim"),
            ]
        else:
            row += [("", "")] * 2
        if name == _Bulk.name:
            row.append((f"{figure.median / subject.vfs * 1e6:.0f}", ""))
        elif name == _Single.name:
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
    if _IpBatch.name not in report.absent:
        yield "ip neither looks first nor reads back.", "dim"
    for name, why in report.absent.items():
        yield f"Without {_TITLES[name]}: {why}.", "dim"
    if report.error is None and not report.counts:
        vfs = len(report.loan.vfs)
        yield f"{vfs} VF{'s' * (vfs > 1)} given back.", "green"
