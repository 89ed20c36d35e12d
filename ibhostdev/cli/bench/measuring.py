# SPDX-License-Identifier: Apache-2.0
"""How long plugging takes on this machine.

In each round all ways to plug are gone by turns on the same VFs, so that what
slows the machine down slows all of them. The first round warms up, and is
where operations are counted.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from ibhostdev.batch import BatchResult, Progress, Vif
from ibhostdev.cli import terminal
from ibhostdev.cli.bench import firmware
from ibhostdev.cli.bench.borrowing import Loan, borrow
from ibhostdev.cli.bench.ways import Bulk, IpBatch, Single, Unfit, Way
from ibhostdev.errors import InvalidInput, RollbackFailed
from ibhostdev.host import Host
from ibhostdev.host.views import views

if TYPE_CHECKING:
    from ibhostdev.simulate.model import Counts

A = TypeVar("A")
B = TypeVar("B")

# 127 is what most adapters are set up for at most.
_SIZES = (1, 8, 64, 127)


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


class _Bench:
    """``count`` gives what the host was asked since it last gave that."""

    def __init__(
        self, report: Report, count: "Callable[[], Counts] | None" = None
    ) -> None:
        self._report = report
        self._count = count
        self._loan = report.loan
        self._ways: list[Way] = [
            Bulk(self._loan.host),
            Single(self._loan.host),
        ]
        try:
            if report.simulated:
                raise Unfit("there is no kernel behind a simulated host")
            self._ways.append(IpBatch(self._loan))
        except Unfit as why:
            report.absent[IpBatch.name] = str(why)

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
                if len(vifs) > 1 or not isinstance(way, Single):
                    self._turn(number, way, vifs)
            if at == 0:
                self._list(number)

    def _turn(self, number: int, way: Way, vifs: Sequence[Vif]) -> None:
        count = len(vifs)
        try:
            if isinstance(way, IpBatch):
                self._loan.require_idle()
            for operation in ("plug", "plug again"):
                results = self._time(
                    number, Subject(operation, count), way, way.plug, vifs
                )
                self._loan.look(vifs, results)
                self._warn(results)
            self._time(number, Subject("unplug", count), way, way.unplug, vifs)
        except Unfit as why:
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
        way: Way,
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
