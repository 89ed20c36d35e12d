# SPDX-License-Identifier: Apache-2.0
"""``ibhostdev doctor``, and what it does of VFs that nobody claims."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from ibhostdev.batch import BatchFailed, BatchResult
from ibhostdev.cli import options, outcome, sources, terminal
from ibhostdev.cli.listing import text
from ibhostdev.cli.outcome import Exit
from ibhostdev.cli.terminal import Line, filled, table
from ibhostdev.guid import Guid
from ibhostdev.pci import PciAddress
from ibhostdev.privilege.plain import error_to_plain
from ibhostdev.privilege.request import Request

if TYPE_CHECKING:
    from ibhostdev.provision.restoring import Stale


@click.command()
@click.option(
    "--sweep",
    is_flag=True,
    help="Find VFs instead with an identity that neither host.yaml nor a "
    "libvirt domain claims, and that no guest has.",
)
@click.option("--fix", is_flag=True, help="With --sweep: make them idle.")
@click.option(
    "--host-yaml", metavar="FILE", help="With --sweep: another host.yaml."
)
@click.option(
    "--connect",
    "uri",
    metavar="URI",
    help="The libvirt to ask what its domains want; none: not to ask any.  "
    "[default: the local one, if it is there]",
)
@options.privilege
@options.json
@options.everywhere(first=False)
@click.pass_obj
def doctor(
    settings: options.Settings,
    sweep: bool,
    fix: bool,
    host_yaml: str | None,
    uri: str | None,
    as_json: bool,
) -> int:
    """Find what would keep a plug from working, or make it slow.

    Each finding comes with its cure. Exit code 1 says that there is a
    problem; warnings and notes are none. With --privilege the rights are
    those of who is asked to plug.
    """
    if (fix or host_yaml) and not sweep:
        raise click.UsageError(
            "--fix and --host-yaml go with --sweep.",
            click.get_current_context(),
        )
    if sweep:
        return _sweep(settings, host_yaml, uri, fix, as_json)
    from ibhostdev import doctor as doctors
    from ibhostdev.cli import doctor as reports

    privileged = None
    if settings.privilege != "none":
        settings.require_privilege()
        privileged = partial(settings.ask, Request("plug", ()))
    domains = sources.ask_domains(settings, uri)
    findings = doctors.examine(
        settings.connect(),
        settings.locks,
        simulated=settings.host is not None,
        privileged=privileged,
        notes=[note for one in domains for note in one.notes],
        malformed=[one.error for one in domains if one.error is not None],
    )
    if as_json:
        outcome.write_json(reports.as_json(findings))
    else:
        terminal.show(reports.as_lines(findings))
    return Exit.FAILED if doctors.problems(findings) else Exit.DONE


def _sweep(
    settings: options.Settings,
    file: str | None,
    uri: str | None,
    fix: bool,
    as_json: bool,
) -> int:
    """VFs with an identity that nobody claims."""
    from ibhostdev.provision import restoring
    from ibhostdev.provision.report import Claims

    host = settings.connect()
    wanted = {
        vif.pci: vif.guid
        for one in sources.found(settings, host, file)
        for vif in map(one.vif, one.identities)
        if vif.pci is not None
    }
    guids: dict[Guid, str] = {}
    devices: dict[PciAddress, str] = {}
    for domain in sources.domains(settings, uri):
        name = f"domain {domain.domain}"
        devices |= dict.fromkeys(domain.devices, name)
        for vif in domain.vifs:
            guids[vif.guid] = name
            if vif.pci is not None:
                wanted[vif.pci] = vif.guid
    stale = restoring.stale(host, wanted, Claims(guids, devices))
    if stale and not sources.host_yaml(settings, file):
        terminal.warn(f"{sources.NO_FILE}, which could claim identities")
    result = BatchResult(())
    if fix:
        try:
            result = restoring.sweep(host, stale)
        except BatchFailed as error:
            result = error.result
    failed = {one.pci: one.error for one in result.results}
    if as_json:
        outcome.write_json(
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
    terminal.warn(*result.warnings)
    return outcome.failed(result) if fix or not stale else Exit.FAILED


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
