# SPDX-License-Identifier: Apache-2.0
"""``ibhostdev metrics`` and ``ibhostdev fabric``."""

import gc
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ibhostdev.cli import options, outcome, terminal
from ibhostdev.cli.outcome import Exit
from ibhostdev.errors import InvalidInput
from ibhostdev.pkey import PKey

if TYPE_CHECKING:
    from ibhostdev.batch import Vif
    from ibhostdev.fabric.audit import Finding
    from ibhostdev.fabric.members import Member

_F = TypeVar("_F", bound=Callable[..., Any])
_EXIT_CODES = """\b
Exit codes:
  0    done
  1    it could not be done; of a subnet manager that does not run, all that
       can be done without it was
  2    bad input; nothing was touched
  3    no rights"""


@click.command()
@click.option(
    "--textfile",
    metavar="FILE",
    help="Write it to this file, as a whole or not at all.",
)
@click.option(
    "--statistics",
    is_flag=True,
    help="Tell what VFs send and receive, too: it costs firmware a query for "
    "each.",
)
@options.everywhere(first=False)
@click.pass_obj
def metrics(
    settings: options.Settings, textfile: str | None, statistics: bool
) -> int:
    """Show what there is to watch, as Prometheus reads it.

    \b
    ibhostdev metrics --textfile /var/lib/node_exporter/ibhostdev.prom

    For the textfile collector of node_exporter. The kernel is asked once for
    each PF, with --statistics twice. Exit code 1 says that some VFs could not
    be asked about; the others are there all the same.
    """
    from ibhostdev.fabric import files
    from ibhostdev.fabric import metrics as page

    text, errors = page.of_host(settings.connect(), statistics)
    if textfile is None:
        terminal.write(text)
    else:
        files.replace(
            textfile,
            text,
            "name a file in the folder that node_exporter has with "
            "--collector.textfile.directory",
        )
    code = Exit.DONE
    for error in errors:
        terminal.explain(error)
        code = max(code, outcome.exit_code(error))
    return code


# -- fabric ---------------------------------------------------------------


@click.group()
def fabric() -> None:
    """Tell the subnet manager who is in which partition.

    A VF's GUID is in the default partition until the subnet manager puts it
    into another: on mlx5 nothing of that is on the host.
    """


def _members(function: _F) -> _F:
    """The options that say whose GUIDs, and which partition each is to be
    in."""
    for option in reversed(
        (
            click.argument("exports", nargs=-1, metavar="[EXPORT]…"),
            click.option(
                "--merge",
                is_flag=True,
                help="Take the exports of hosts, in JSON, and not this host.",
            ),
            click.option(
                "--file",
                metavar="FILE",
                help="VIFs with their pkey, as in 0x8001 or 1:full; YAML or "
                "JSON, - for standard input.",
            ),
            click.option(
                "--connect",
                "uri",
                metavar="URI",
                help="The libvirt whose domains have VIFs with their pkey in "
                "their metadata.",
            ),
            options.host_yaml,
            click.option(
                "--host-name",
                metavar="NAME",
                help="Of this host.  [default: as the system has it]",
            ),
        )
    ):
        function = option(function)
    return function


def _merged(exports: Sequence[str]) -> "list[Member]":
    """Of many thousand VFs, among which Python need not look for cycles: that
    takes a quarter of the time."""
    from ibhostdev.fabric import members

    collects = gc.isenabled()
    gc.disable()
    try:
        return members.merge(map(members.read, exports))
    finally:
        if collects:
            gc.enable()


def _found(
    settings: options.Settings,
    exports: Sequence[str],
    merge: bool,
    file: str | None,
    uri: str | None,
    host_yaml: str | None,
    host_name: str | None,
) -> "list[Member]":
    from ibhostdev.fabric import members

    if merge != bool(exports):
        raise click.UsageError(
            "Name exports of hosts together with --merge.",
            click.get_current_context(),
        )
    if merge:
        for option, given in (
            ("--file", file),
            ("--connect", uri),
            ("--host-yaml", host_yaml),
            ("--host-name", host_name),
        ):
            if given is not None:
                raise InvalidInput(
                    f"{option} and --merge do not go together",
                    attribute="merge",
                    cure=f"give {option} where the exports are made",
                )
        return _merged(exports)
    from ibhostdev.cli import partitions

    host = settings.connect()
    found, warnings = members.of_host(
        host,
        host_name or os.uname().nodename,
        partitions.known(
            settings,
            host,
            host_yaml,
            () if uri is None else _of_domains(uri),
            file,
            # Without it guests would be taken off their partition.
            needed=True,
        ),
    )
    terminal.warn(*warnings)
    return found


def _of_domains(uri: str) -> "list[Vif]":
    from ibhostdev.guest import connection
    from ibhostdev.guest.claims import wanted

    found: list[Vif] = []
    for one in connection.ask(uri, wanted) or ():
        if one.error is not None:
            raise one.error
        terminal.warn(*one.notes)
        found += one.vifs
    return found


@fabric.command(epilog=_EXIT_CODES)
@_members
@click.option(
    "--format",
    "form",
    type=click.Choice(["opensm", "ufm", "csv", "json"]),
    default="json",
    show_default=True,
    help="A partitions file of opensm's; what would be posted to UFM; a "
    "table; JSON to be merged.",
)
@options.everywhere(first=False)
@click.pass_obj
def export(
    settings: options.Settings,
    exports: Sequence[str],
    merge: bool,
    file: str | None,
    uri: str | None,
    host_yaml: str | None,
    host_name: str | None,
    form: str,
) -> int:
    """Show which GUID is on which VF, and for which partition.

    \b
    ibhostdev fabric export --file vifs.yaml > node1.json
    ibhostdev fabric export --merge node*.json --format opensm

    A GUID that two hosts have is refused, with the names of both.
    """
    from ibhostdev.fabric import members, opensm, ufm

    found = _found(settings, exports, merge, file, uri, host_yaml, host_name)
    if form == "json":
        terminal.write(members.as_json(found))
    elif form == "csv":
        terminal.write(members.as_csv(found))
    elif form == "opensm":
        terminal.write(opensm.block(found))
    else:
        outcome.write_json(ufm.as_plain(found))
    return Exit.DONE


@fabric.command(epilog=_EXIT_CODES)
@_members
@click.option(
    "--opensm",
    "partitions",
    metavar="FILE",
    help="opensm's file of partitions, on the host that it runs on.",
)
@click.option(
    "--pid-file",
    metavar="FILE",
    help="A file with the process id of the opensm to tell.  [default: all "
    "that run here]",
)
@click.option(
    "--tell",
    is_flag=True,
    help="Have opensm read the file even if it was right already.",
)
@click.option("--ufm", "url", metavar="URL", help="UFM, as in https://ufm.")
@click.option(
    "--credentials",
    metavar="FILE",
    default="/etc/ibhostdev/ufm",
    show_default=True,
    help="With 'token = …', or 'username = …' and 'password = …'.",
)
@click.option(
    "--ca-file",
    metavar="FILE",
    help="The certificates of who has signed UFM's.  [default: those that "
    "the system trusts]",
)
@click.option(
    "--own",
    metavar="PKEY",
    multiple=True,
    help="A partition of UFM's that is for who is named alone: others are "
    "taken off. Repeat it for several.",
)
@click.option(
    "--dry-run", is_flag=True, help="Show what would be done, do nothing."
)
@options.everywhere(first=False)
@click.pass_obj
def apply(
    settings: options.Settings,
    exports: Sequence[str],
    merge: bool,
    file: str | None,
    uri: str | None,
    host_yaml: str | None,
    host_name: str | None,
    partitions: str | None,
    pid_file: str | None,
    tell: bool,
    url: str | None,
    credentials: str,
    ca_file: str | None,
    own: Sequence[str],
    dry_run: bool,
) -> int:
    """Have the subnet manager put GUIDs into their partitions.

    \b
    ibhostdev fabric apply --opensm /etc/opensm/partitions.conf \\
        --merge /srv/exports/*.json
    ibhostdev fabric apply --ufm https://ufm.example.net \\
        --own 0x8001 --merge /srv/exports/*.json

    Of opensm's file only what is between two markers is replaced, and opensm
    told to read it. Nobody who is not named stays in it: give the exports of
    all hosts.

    UFM is sent only what differs. Who is not named stays where he is, but in
    the partitions of --own.
    """
    if (partitions is None) == (url is None):
        raise click.UsageError(
            "Name the subnet manager either by --opensm or by --ufm.",
            click.get_current_context(),
        )

    def find() -> "list[Member]":
        return _found(
            settings, exports, merge, file, uri, host_yaml, host_name
        )

    if partitions is not None:
        _apply_opensm(partitions, find, pid_file, tell, dry_run)
    elif url is not None:
        _apply_ufm(url, find, credentials, ca_file, own, dry_run)
    return Exit.DONE


def _apply_opensm(
    partitions: str,
    find: "Callable[[], list[Member]]",
    pid_file: str | None,
    tell: bool,
    dry_run: bool,
) -> None:
    from ibhostdev.fabric import opensm

    with opensm.locked(partitions):
        found = find()
        changed = opensm.apply(partitions, found, pid_file, tell, dry_run)
    count = sum(member.pkey is not None for member in found)
    said = "is right already"
    if changed:
        said = "would be changed" if dry_run else "changed, and opensm told"
    elif tell and not dry_run:
        said += ", and opensm told"
    terminal.write(f"{partitions}: {said}; {count} GUIDs in partitions\n")


def _apply_ufm(
    url: str,
    find: "Callable[[], list[Member]]",
    credentials: str,
    ca_file: str | None,
    own: Sequence[str],
    dry_run: bool,
) -> None:
    from ibhostdev.fabric import ufm

    owned = [PKey.parse(one).number for one in own]
    manager = ufm.Ufm(url, ufm.credentials(credentials), ca_file)
    found = find()
    requests = ufm.difference(found, manager.known(), owned)
    if dry_run:
        outcome.write_json([request._asdict() for request in requests])
        return
    for request in requests:
        manager.send(request)
    count = sum(member.pkey is not None for member in found)
    said = f"{len(requests)} requests" if requests else "is right already"
    terminal.write(f"{url}: {said}; {count} GUIDs in partitions\n")


@fabric.command(epilog=_EXIT_CODES)
@click.option(
    "--file",
    metavar="FILE",
    help="VIFs with their pkey, as export takes it.",
)
@click.option(
    "--connect", "uri", metavar="URI", help="libvirt, as export takes it."
)
@options.host_yaml
@click.option(
    "--ca",
    metavar="NAME",
    help="The IB device to ask by.  [default: the first that is active]",
)
@options.json
@options.everywhere(first=False)
@click.pass_obj
def audit(
    settings: options.Settings,
    file: str | None,
    uri: str | None,
    host_yaml: str | None,
    ca: str | None,
    as_json: bool,
) -> int:
    """Show what the subnet manager says of this host's GUIDs.

    A GUID that it does not know, whose port is not active, that is not in the
    partition of --file with its P_Key at index 0, or that is behind another
    host's port, is exit code 1. It takes infiniband-diags and a umad device.
    """
    from ibhostdev.fabric.audit import Diags, Verdict
    from ibhostdev.fabric.audit import audit as look

    found = _found(settings, (), False, file, uri, host_yaml, None)
    findings = look(found, Diags(ca))
    well = all(one.verdict is Verdict.WELL for one in findings)
    if as_json:
        outcome.write_json(
            {
                "ok": well,
                "findings": [
                    {
                        "pci": one.member.pci,
                        "guid": str(one.member.guid),
                        "pkey": None
                        if one.member.pkey is None
                        else str(one.member.pkey),
                        "verdict": one.verdict,
                        "detail": one.detail,
                        "pkeys": None
                        if one.pkeys is None
                        else [f"0x{pkey:04x}" for pkey in one.pkeys],
                    }
                    for one in findings
                ],
            }
        )
    elif not findings:
        terminal.write("no VF here has a GUID\n")
    else:
        terminal.show(_audit_lines(findings))
    return Exit.DONE if well else Exit.FAILED


def _audit_lines(findings: "Sequence[Finding]") -> list[terminal.Line]:
    from ibhostdev.fabric.audit import Verdict

    rows: list[terminal.Line] = []
    for one in findings:
        guid, pkey = one.member.guid, one.member.pkey
        well = one.verdict is Verdict.WELL
        rows.append(
            [
                (one.member.pci, ""),
                (guid.mac or str(guid), "bold"),
                ("-" if pkey is None else str(pkey), ""),
                (one.verdict, "green" if well else "bold red"),
                (one.detail, "dim"),
            ]
        )
    head = ("VF", "MAC or GUID", "P_Key", "it is", "")
    return terminal.table(head, rows)
