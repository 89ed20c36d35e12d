# SPDX-License-Identifier: Apache-2.0
"""``ibhostdev apply`` and what else is about the host as it is to be."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ibhostdev.batch import BatchFailed, BatchResult
from ibhostdev.cli import options, terminal
from ibhostdev.cli.listing import identity, text
from ibhostdev.cli.outcome import (
    EXIT_CODES,
    Exit,
    as_lines,
    exit_code,
    write_json,
)
from ibhostdev.cli.outcome import as_json as as_json_
from ibhostdev.cli.terminal import Cell, Line, filled, table
from ibhostdev.errors import AccessDenied
from ibhostdev.guid import Guid
from ibhostdev.pci import PciAddress
from ibhostdev.privilege.plain import error_to_plain, state_to_plain

if TYPE_CHECKING:
    from ibhostdev.guest.claims import Wanted
    from ibhostdev.host import Host
    from ibhostdev.provision.found import Found
    from ibhostdev.provision.report import (
        Claims,
        PfReport,
        Report,
        VfReport,
    )
    from ibhostdev.provision.restoring import Stale

FILE = options.HOST_YAML
NO_LIBVIRT = "none"

_connect = click.option(
    "--connect",
    "uri",
    metavar="URI",
    help="The libvirt to ask what its domains have; none: not to ask any.  "
    "[default: the local one, if it is there]",
)


@click.command(epilog=EXIT_CODES)
@click.option(
    "--file",
    metavar="FILE",
    default=FILE,
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
@_connect
@options.json
@options.everywhere(first=False)
@click.pass_obj
def apply(
    settings: options.Settings,
    file: str,
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

    wishes = from_file(file, terminal.warn)
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
            _claims(settings, uri),
            dry_run=dry_run,
            progress=progress,
        )
    try:
        if as_json:
            write_json(report_json(report))
        else:
            terminal.show(report_lines(report, dry_run, names))
    finally:
        # Whether or not anybody has been told: it is done.
        if not dry_run:
            _tell_hooks(settings, report)
    return _tell(report)


@click.command(epilog=EXIT_CODES)
@click.option(
    "--file",
    metavar="FILE",
    default="-",
    help="A new file to write to.  [default: standard output]",
)
@_connect
@options.host_yaml
@options.everywhere(first=False)
@click.pass_obj
def save(
    settings: options.Settings,
    file: str,
    uri: str | None,
    host_yaml: str | None,
) -> int:
    """Write a host.yaml that says what is there.

    \b
    ibhostdev save --file /etc/ibhostdev/host.yaml

    'ibhostdev apply' of it changes nothing. P_Keys, of which mlx5's driver
    knows nothing, are those of libvirt's domains and of the host.yaml that is
    there.
    """
    from ibhostdev.cli.partitions import known
    from ibhostdev.provision import saving

    host = settings.connect()
    vifs = [vif for one in _domains(settings, uri) for vif in one.vifs]
    text = saving.as_yaml(host, known(settings, host, host_yaml, vifs))
    if file == "-":
        terminal.write(text)
    else:
        saving.write(text, file)
    return Exit.DONE


@click.command(epilog=EXIT_CODES)
@click.option(
    "--file",
    metavar="FILE",
    help=f"As apply has it.  [default: {FILE}, if it is there]",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show what would be written, write nothing.",
)
@_connect
@options.json
@options.everywhere(first=False)
@click.pass_obj
def restore(
    settings: options.Settings,
    file: str | None,
    dry_run: bool,
    uri: str | None,
    as_json: bool,
) -> int:
    """Give VFs the identities back that this host is known to want.

    After a PF was reset, its driver reloaded or its firmware updated: what
    host.yaml says, and the metadata of libvirt's domains that run or start by
    themselves, is compared with what is there, and mended in one batch. What
    is right already is not written; what a guest has, and the kernel does not
    know, is written anew. Nova's guests get theirs by a restart of
    nova-compute.
    """
    from ibhostdev.provision.restoring import restore as restore_

    host = settings.connect()
    asked = _domains(settings, uri)
    vifs = [vif for one in asked if one.runs or one.starts for vif in one.vifs]
    theirs = {pci for one in asked if one.runs for pci in one.devices}
    wishes = found(settings, host, file)
    total = len(vifs) + sum(len(one.identities) for one in wishes)
    with terminal.progress(total) as progress:
        restored = restore_(
            host,
            wishes,
            vifs,
            theirs,
            dry_run=dry_run,
            progress=progress,
        )
    result = restored.result
    try:
        if as_json:
            write_json(as_json_(restored.vifs, result))
        elif not restored.vifs:
            why = (
                "neither host.yaml nor a libvirt domain"
                if host_yaml(settings, file)
                else f"{_NO_FILE}, and no libvirt domain"
            )
            end = f"nothing to restore: {why} wants an identity"
            terminal.show(filled([(end, "")], []))
        else:
            terminal.show(as_lines(restored.vifs, result, "restored", dry_run))
    finally:
        if not dry_run:
            told = settings.hooks.batch("plugged", restored.vifs, result)
            for warning in told:
                terminal.warn(warning)
    for warning in (*restored.notes, *result.warnings):
        terminal.warn(warning)
    return _failures(result)


COMMANDS = (apply, save, restore)
_NO_FILE = "no host.yaml was read (--file names one)"


def sweep(
    settings: options.Settings,
    file: str | None,
    uri: str | None,
    fix: bool,
    as_json: bool,
) -> int:
    """Of doctor: VFs with an identity that nobody claims."""
    from ibhostdev.provision import restoring
    from ibhostdev.provision.report import Claims

    host = settings.connect()
    wanted = {
        vif.pci: vif.guid
        for one in found(settings, host, file)
        for vif in map(one.vif, one.identities)
        if vif.pci is not None
    }
    guids: dict[Guid, str] = {}
    devices: dict[PciAddress, str] = {}
    for domain in _domains(settings, uri):
        name = f"domain {domain.domain}"
        devices |= dict.fromkeys(domain.devices, name)
        for vif in domain.vifs:
            guids[vif.guid] = name
            if vif.pci is not None:
                wanted[vif.pci] = vif.guid
    stale = restoring.stale(host, wanted, Claims(guids, devices))
    if stale and not host_yaml(settings, file):
        terminal.warn(f"{_NO_FILE}, which could claim identities")
    result = BatchResult(())
    if fix:
        try:
            result = restoring.sweep(host, stale)
        except BatchFailed as error:
            result = error.result
    failed = {one.pci: one.error for one in result.results}
    if as_json:
        write_json(
            {
                "stale": [
                    {
                        "pci": one.vf.pci,
                        "guid": text(one.guid),
                        "claimed_by": one.note or None,
                        "fixed": fix and failed.get(one.vf.pci) is None,
                        "error": error_to_plain(failed.get(one.vf.pci)),
                    }
                    for one in stale
                ]
            }
        )
    else:
        terminal.show(_stale_lines(stale, fix))
    for warning in result.warnings:
        terminal.warn(warning)
    return _failures(result) if fix or not stale else Exit.FAILED


def _stale_lines(found: "Sequence[Stale]", fix: bool) -> list[Line]:
    if not found:
        return [[("no VF has an identity that nobody claims", "green")]]
    rows: list[Line] = [
        [
            (one.vf.pci, ""),
            (one.guid.mac or str(one.guid), "bold"),
            (f"claimed by {one.note} for another VF" if one.note else "", ""),
        ]
        for one in found
    ]
    vfs = f"{len(found)} VF" + "s" * (len(found) > 1)
    end = (
        f"{vfs}: made idle"
        if fix
        else f"{vfs} with an identity that nobody claims: --fix makes them "
        "idle. What Nova's guests want is not known here: first restart "
        "nova-compute where there is one"
    )
    head = ("PCI address", "identity", "claims")
    return [*table(head, rows), *filled([(end, "")], [])]


def _failures(result: BatchResult) -> Exit:
    if result.ok:
        return Exit.DONE
    for cause in result.failures:
        terminal.explain(cause)
    return exit_code(BatchFailed.of(result))


def found(
    settings: options.Settings, host: "Host", file: str | None
) -> "list[Found]":
    """What a file wants; without one, host.yaml if it is there."""
    from ibhostdev.provision.found import find
    from ibhostdev.provision.reading import from_file

    file = host_yaml(settings, file)
    return [] if file is None else find(host, from_file(file, terminal.warn))


def host_yaml(settings: options.Settings, file: str | None) -> str | None:
    """The file that is read; without one, host.yaml if it is there. That is
    about this machine."""
    if file is None and settings.host is None and os.path.exists(FILE):
        return FILE
    return file


def _domains(
    settings: options.Settings, uri: str | None
) -> "Sequence[Wanted]":
    """What libvirt's domains want, and warnings of what cannot be read."""
    found = domains(settings, uri)
    for one in found:
        for note in one.notes:
            terminal.warn(note)
        if one.error is not None:
            terminal.warn(str(one.error))
    return found


def domains(settings: options.Settings, uri: str | None) -> "Sequence[Wanted]":
    """What libvirt's domains want. Where nobody has asked for it, nothing
    that is wrong with libvirt is worth more than a word."""
    from ibhostdev.guest import connection

    if uri == NO_LIBVIRT or (uri is None and settings.host is not None):
        return ()
    from ibhostdev.guest.claims import wanted

    return connection.ask(uri, wanted) or ()


def _claims(settings: options.Settings, uri: str | None) -> "Claims":
    """Which domain an identity is for, whether it runs or not, and which
    running one has a VF."""
    from ibhostdev.provision.report import Claims

    guids: dict[Guid, str] = {}
    vfs: dict[PciAddress, str] = {}
    for one in _domains(settings, uri):
        name = f"domain {one.domain}"
        guids |= {vif.guid: name for vif in one.vifs}
        if one.runs:
            vfs |= dict.fromkeys(one.devices, name)
    return Claims(guids, vfs)


def _tell_hooks(settings: options.Settings, report: "Report") -> None:
    def told() -> dict[str, Any] | None:
        changed = any(vf.changed and not vf.error for vf in report.vfs)
        return report_json(report) if changed else None

    for warning in settings.hooks.tell("applied", told, report.moves):
        terminal.warn(warning)


def _tell(report: "Report") -> Exit:
    for warning in report.warnings:
        terminal.warn(warning)
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
