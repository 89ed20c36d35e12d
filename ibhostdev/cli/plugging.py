# SPDX-License-Identifier: Apache-2.0
"""``ibhostdev plug`` and ``unplug``."""

from collections.abc import Sequence

import click

from ibhostdev.batch import BatchFailed, OnError, Vif
from ibhostdev.cli import options, outcome, terminal, vifs
from ibhostdev.cli.outcome import EXIT_CODES, Exit
from ibhostdev.inventory import Policy
from ibhostdev.privilege.request import Request

BATCH_EXIT_CODES = EXIT_CODES + ", unless it had --on-error continue"


@click.command(epilog=BATCH_EXIT_CODES)
@click.argument("words", nargs=-1, metavar="[PCI=MAC]…")
@click.option(
    "--policy",
    type=click.Choice([str(policy) for policy in Policy]),
    help="The VFs' link; follow: as that of the adapter.  [default: follow]",
)
@options.batch
@click.pass_obj
def plug(
    settings: options.Settings,
    words: Sequence[str],
    policy: str | None,
    file: str | None,
    physical_network: str | None,
    on_error: str,
    mechanism: str | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Give VFs the identities of VIFs, all in one batch.

    \b
    ibhostdev plug 0000:3b:00.2=fa:16:3e:12:34:56
    ibhostdev plug --file vifs.yaml

    A GUID may stand for the MAC. What is right already is not written.
    """
    batch = _vifs(words, file, physical_network, need_pci=True)
    asked = Request(
        "plug",
        tuple(batch),
        policy=None if policy is None else Policy(policy),
        on_error=OnError(on_error),
        mechanism=mechanism,
        dry_run=dry_run,
    )
    return _run(settings, asked, "plugged", as_json)


@click.command(epilog=BATCH_EXIT_CODES)
@click.argument("words", nargs=-1, metavar="[[PCI=]MAC]…")
@click.option(
    "--no-rebind",
    is_flag=True,
    help="Leave a VF alone whose driver on this host shows its old identity.",
)
@options.batch
@click.pass_obj
def unplug(
    settings: options.Settings,
    words: Sequence[str],
    no_rebind: bool,
    file: str | None,
    physical_network: str | None,
    on_error: str,
    mechanism: str | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Make the VFs idle that have the identities of VIFs.

    \b
    ibhostdev unplug 0000:3b:00.2=fa:16:3e:12:34:56
    ibhostdev unplug fa:16:3e:12:34:56

    The PCI address is a hint: a VF with another identity is left alone, and
    the one that has this is looked for. None having it is success.
    """
    batch = _vifs(words, file, physical_network, need_pci=False)
    asked = Request(
        "unplug",
        tuple(batch),
        on_error=OnError(on_error),
        rebind=not no_rebind,
        mechanism=mechanism,
        dry_run=dry_run,
    )
    return _run(settings, asked, "unplugged", as_json)


def _vifs(
    words: Sequence[str],
    file: str | None,
    network: str | None,
    need_pci: bool,
) -> list[Vif]:
    if (file is None) == (not words):
        raise click.UsageError(
            "Name VIFs either as arguments or by --file.",
            click.get_current_context(),
        )
    if file is None:
        return vifs.from_arguments(words, network, need_pci)
    return vifs.from_file(file, network, need_pci)


def _run(
    settings: options.Settings,
    asked: Request,
    done: str,
    as_json: bool,
) -> int:
    batch = asked.vifs
    code = Exit.DONE
    try:
        with terminal.progress(len(batch)) as progress:
            result = settings.run(asked, progress)
    except BatchFailed as error:
        result, code = error.result, outcome.exit_code(error)
    try:
        if as_json:
            outcome.write_json(outcome.as_json(batch, result))
        else:
            terminal.show(outcome.as_lines(batch, result, done, asked.dry_run))
    finally:
        # Whether or not anybody has been told: it is done.
        if not asked.dry_run:
            terminal.warn(*settings.hooks.batch(done, batch, result))
    if code is Exit.DONE and any(map(outcome.not_searched, result.results)):
        code = Exit.FAILED
    terminal.warn(*result.warnings)
    if code is not Exit.DONE:
        for cause in result.failures:
            terminal.explain(cause)
    return code
