# SPDX-License-Identifier: Apache-2.0
"""``ibhostdev save`` and ``restore``: the host as it is, and as it was."""

import click

from ibhostdev.cli import options, outcome, sources, terminal
from ibhostdev.cli.outcome import EXIT_CODES, Exit
from ibhostdev.cli.terminal import filled


@click.command(epilog=EXIT_CODES)
@click.option(
    "--file",
    metavar="FILE",
    default="-",
    help="A new file to write to.  [default: standard output]",
)
@options.connect
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
    vifs = [vif for one in sources.domains(settings, uri) for vif in one.vifs]
    text = saving.as_yaml(host, known(settings, host, host_yaml, vifs))
    if file == "-":
        terminal.write(text)
    else:
        saving.write(text, file)
    return Exit.DONE


@click.command(epilog=EXIT_CODES)
@click.option(
    "--host-yaml",
    metavar="FILE",
    help=f"As apply has it.  [default: {options.HOST_YAML}, if it is there]",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show what would be written, write nothing.",
)
@options.connect
@options.json
@options.everywhere(first=False)
@click.pass_obj
def restore(
    settings: options.Settings,
    host_yaml: str | None,
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
    asked = sources.domains(settings, uri)
    vifs = [vif for one in asked if one.runs or one.starts for vif in one.vifs]
    theirs = {pci for one in asked if one.runs for pci in one.devices}
    wishes = sources.found(settings, host, host_yaml)
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
            outcome.write_json(outcome.as_json(restored.vifs, result))
        elif not restored.vifs:
            why = (
                "neither host.yaml nor a libvirt domain"
                if sources.host_yaml(settings, host_yaml)
                else f"{sources.NO_FILE}, and no libvirt domain"
            )
            end = f"nothing to restore: {why} wants an identity"
            terminal.show(filled([(end, "")], []))
        else:
            terminal.show(
                outcome.as_lines(restored.vifs, result, "restored", dry_run)
            )
    finally:
        if not dry_run:
            told = settings.hooks.batch("plugged", restored.vifs, result)
            terminal.warn(*told)
    terminal.warn(*(*restored.notes, *result.warnings))
    return outcome.failed(result)
