# SPDX-License-Identifier: Apache-2.0
"""``ibhostdev metrics`` and ``ibhostdev fabric``."""

import click

from ibhostdev.cli import options, outcome, terminal
from ibhostdev.cli.outcome import Exit


@click.command()
@click.option(
    "--textfile",
    metavar="FILE",
    help="Have this file say it, at once or not at all.",
)
@options.everywhere(first=False)
@click.pass_obj
def metrics(settings: options.Settings, textfile: str | None) -> int:
    """Show what there is to watch, as Prometheus reads it.

    \b
    ibhostdev metrics --textfile /var/lib/node_exporter/ibhostdev.prom

    For the textfile collector of node_exporter. The kernel is asked once for
    each PF. Exit code 1 says that some VFs could not be asked about; the
    others are there all the same.
    """
    from ibhostdev.fabric import files
    from ibhostdev.fabric import metrics as page

    text, errors = page.of_host(settings.connect())
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
