# SPDX-License-Identifier: Apache-2.0
"""``ibhostdev bench``."""

from collections.abc import Sequence

import click

from ibhostdev.cli import options, outcome, terminal
from ibhostdev.cli.outcome import EXIT_CODES, Exit
from ibhostdev.errors import InvalidInput


@click.command(epilog=EXIT_CODES)
@click.argument("names", nargs=-1, metavar="[PCI]…")
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="How often each is measured.",
)
@click.option(
    "--sizes",
    metavar="N,…",
    help="VFs in a batch.  [default: 1,8,64,127 as far as there are so "
    "many, and all]",
)
@options.json
@options.everywhere(first=False)
@click.pass_obj
def bench(
    settings: options.Settings,
    names: Sequence[str],
    rounds: int,
    sizes: str | None,
    as_json: bool,
) -> int:
    """Measure how long it takes to plug VFs, unplug and list them.

    \b
    ibhostdev bench
    ibhostdev bench 0000:3b:00.2 0000:3b:00.3

    One call for many VFs is compared with a call for each, and where there
    is a kernel behind with ip -batch. Without VFs it is on a simulated host
    of its own, and needs neither root nor hardware.

    VFs that are named must be idle, and nobody else may plug them meanwhile.
    They get random identities, and are given back as they were, also after
    Ctrl-C; the link of one goes up and down.
    """
    from ibhostdev.cli.bench import measuring
    from ibhostdev.cli.bench import report as reports

    if names:
        host = settings.connect()
        # Identities that nobody ever had.
        host.journal, host.counted = None, False
        report = measuring.on_vfs(
            host,
            names,
            sizes,
            rounds,
            simulated=settings.host is not None,
        )
    elif settings.host is not None:
        raise InvalidInput(
            "no VF of this host was named",
            settings.host,
            "--host",
            cure="name idle VFs by their PCI addresses, or leave --host (and "
            "IBHOSTDEV_HOST) out to have a simulated host made",
        )
    else:
        report = measuring.on_own_host(settings.run_dir, sizes, rounds)
    if as_json:
        outcome.write_json(reports.as_json(report))
    else:
        terminal.show(reports.as_lines(report))
    terminal.warn(*report.warnings)
    if report.error is None:
        return Exit.DONE
    terminal.explain(report.error)
    return outcome.exit_code(report.error)
