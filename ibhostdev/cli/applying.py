# SPDX-License-Identifier: Apache-2.0
"""``ibhostdev apply``: the host made what a file says."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ibhostdev.cli import options, outcome, sources, terminal
from ibhostdev.cli.listing import identity, text
from ibhostdev.cli.outcome import EXIT_CODES, Exit
from ibhostdev.cli.terminal import Cell, Line, filled, table
from ibhostdev.errors import AccessDenied
from ibhostdev.privilege.plain import error_to_plain, state_to_plain

if TYPE_CHECKING:
    from ibhostdev.provision.report import PfReport, Report, VfReport


@click.command(epilog=EXIT_CODES)
@click.option(
    "--host-yaml",
    "--file",
    metavar="FILE",
    default=options.HOST_YAML,
    show_default=True,
    help="YAML or JSON list of PFs, or what 'list --json' has written; - for "
    "standard input.",
)
@click.option(
    "--pf",
    "names",
    metavar="PF",
    multiple=True,
    help="Only this one of the file's PFs; repeat it for several.",
)
@click.option(
    "--wait",
    "seconds",
    type=click.FloatRange(0),
    default=0,
    metavar="SECONDS",
    help="For PFs that are not there yet, at boot.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show what would be done, write nothing.",
)
@options.connect
@options.json
@options.everywhere(first=False)
@click.pass_obj
def apply(
    settings: options.Settings,
    host_yaml: str,
    names: Sequence[str],
    seconds: float,
    dry_run: bool,
    uri: str | None,
    as_json: bool,
) -> int:
    """Make the host what a file says: VFs, identities, drivers.

    \b
    - pf: 0000:3b:00.0
      vfs: 16
      driver: vfio-pci
      guids: derived

    VFs are made with no driver on them, get their identities all in one
    batch, and are bound then. Applied again it writes nothing. What a guest
    has, and PFs that the file does not name, are left alone.
    """
    from ibhostdev.provision.apply import apply as apply_
    from ibhostdev.provision.found import pf_named, wait
    from ibhostdev.provision.reading import from_file

    wishes = from_file(host_yaml, terminal.warn)
    host = settings.connect()
    wait(host, names or [wish.pf for wish in wishes], seconds)
    if names:
        pfs = host.pfs
        chosen = {pf.pci for pf in pfs for name in names
                  if pf_named(host, [pf], name)}  # fmt: skip
        wishes = [
            wish
            for wish in wishes
            if (pf := pf_named(host, pfs, wish.pf)) and pf.pci in chosen
        ]
    total = sum(wish.vfs or 0 for wish in wishes)
    with terminal.progress(total, "make") as progress:
        report = apply_(
            host,
            wishes,
            sources.claims(settings, uri),
            dry_run=dry_run,
            progress=progress,
        )
    try:
        if as_json:
            outcome.write_json(report_json(report))
        else:
            terminal.show(report_lines(report, dry_run, names))
    finally:
        # Whether or not anybody has been told: it is done.
        if not dry_run:
            _tell_hooks(settings, report)
    return _tell(report)


def _tell_hooks(settings: options.Settings, report: "Report") -> None:
    def told() -> dict[str, Any] | None:
        changed = any(vf.changed and not vf.error for vf in report.vfs)
        return report_json(report) if changed else None

    terminal.warn(*settings.hooks.tell("applied", told, report.moves))


def _tell(report: "Report") -> Exit:
    terminal.warn(*report.warnings)
    errors = report.errors
    for error in errors:
        terminal.explain(error)
    if not errors:
        return Exit.DONE
    denied = all(isinstance(error, AccessDenied) for error in errors)
    return Exit.NO_RIGHTS if denied else Exit.FAILED


# -- for programs ---------------------------------------------------------


def report_json(report: "Report") -> dict[str, Any]:
    return {
        "ok": not report.errors,
        "changed": report.changed,
        "pfs": [_pf_json(pf) for pf in report.pfs],
        "results": [_vf_json(vf) for vf in report.vfs],
        "warnings": report.warnings,
        "notes": report.notes,
        "error": None,
    }


def _pf_json(pf: "PfReport") -> dict[str, Any]:
    return {
        "pci": pf.pci,
        "vfs_before": pf.vfs_before,
        "vfs": pf.vfs,
        "autoprobe_before": pf.autoprobe_before,
        "autoprobe": pf.autoprobe,
        "changed": pf.changed,
        "error": error_to_plain(pf.error),
    }


def _vf_json(vf: "VfReport") -> dict[str, Any]:
    return {
        "pf": vf.pf,
        "index": vf.index,
        "pci": vf.pci,
        "guid": text(vf.guid),
        "pkey": None if vf.pkey is None else str(vf.pkey),
        "ok": vf.error is None,
        "before": state_to_plain(vf.before),
        "after": state_to_plain(vf.after),
        "mechanism": vf.mechanism,
        "changed": vf.changed,
        "verified": vf.verified,
        "driver_before": vf.driver_before,
        "driver": vf.driver,
        "bound": vf.bound,
        "error": error_to_plain(vf.error),
    }


# -- for people -----------------------------------------------------------


_HEAD = ("VF", "PCI address", "before", "identity", "driver", "outcome")


def report_lines(
    report: "Report", dry_run: bool, names: Sequence[str] = ()
) -> list[Line]:
    """What changed, and a closing line."""
    lines: list[Line] = []
    for pf in report.pfs:
        vfs = [vf for vf in report.vfs if vf.pf == pf.pci]
        rows = [
            _row(vf, dry_run)
            for vf in vfs
            if vf.changed or vf.bound or vf.error or vf.pci is None
        ]
        lines.append(_heading(pf))
        if rows:
            lines += table(_HEAD, rows, "  ", ("driver", "before", "outcome"))
    for note in report.notes:
        lines += filled([(note, "")], [("note: ", "bold")])
    return [*lines, _summary(report, dry_run, names)]


def _heading(pf: "PfReport") -> Line:
    cells: list[Cell] = [(pf.pci, "bold cyan")]
    if pf.vfs_before == pf.vfs:
        cells.append((f"  {pf.vfs} VFs", ""))
    else:
        cells.append((f"  {pf.vfs_before} → {pf.vfs} VFs", "green"))
    if pf.autoprobe_before != pf.autoprobe:
        cells.append((f"  autoprobe {'on' if pf.autoprobe else 'off'}", ""))
    if pf.error is not None:
        cells.append(("  failed", "bold red"))
    return cells


def _row(vf: "VfReport", dry_run: bool) -> Line:
    # One that is not there yet has nothing; of one whose identity is nobody's
    # business here nothing is asked.
    before: Cell = ("-" if vf.pci is None else "not asked", "dim")
    if vf.before is not None:
        before = identity(vf.before)
    if vf.guid is not None:
        who: Cell = (vf.guid.mac or str(vf.guid), "bold")
    elif vf.changed or vf.pci is None:
        who = ("idle", "dim")
    else:
        who = ("as before", "dim")
    driver = vf.driver or "-"
    if vf.driver_before is not None and vf.driver_before != vf.driver:
        driver = f"{vf.driver_before or '-'} → {driver}"
    return [
        (f"{vf.index}", ""),
        (vf.pci or "to be made", ""),
        before,
        who,
        (driver, ""),
        _outcome(vf, dry_run),
    ]


def _outcome(vf: "VfReport", dry_run: bool) -> Cell:
    if vf.error is not None:
        return "failed", "bold red"
    if vf.pci is None:
        done = "made"
    elif vf.changed:
        done = "made idle" if vf.guid is None else "plugged"
    else:
        done = "bound" if vf.driver else "unbound"
    if dry_run:
        return f"would be {done}", "cyan"
    if not vf.verified:
        return f"{done}, unverified", "yellow"
    return done, "green"


def _summary(
    report: "Report", dry_run: bool, names: Sequence[str] = ()
) -> Line:
    if not report.pfs:
        asked = " or ".join(map(repr, names))
        told = f"the file has no PF {asked}" if asked else "no PF was named"
        return [(f"nothing to do: {told}", "")]
    failed = len(report.errors)
    if not report.changed and not failed:
        return [("all is as it is to be: nothing was written", "green")]
    good = [vf for vf in report.vfs if vf.error is None]
    counts = (
        (sum(vf.changed for vf in good), "identity", "identities"),
        (sum(vf.bound for vf in good), "driver", "drivers"),
    )
    told = ", ".join(
        f"{count} {one if count == 1 else many}"
        for count, one, many in counts
        if count
    )
    if told:
        told += " would be written" if dry_run else " written"
    elif any(pf.changed for pf in report.pfs):
        told = "would be changed" if dry_run else "changed"
    else:
        told = "nothing written"
    if failed:
        told += f", {failed} failed"
    pfs = f"{len(report.pfs)} PF" + "s" * (len(report.pfs) > 1)
    return [(f"{pfs}: {told}", "")]
