# SPDX-License-Identifier: Apache-2.0
"""``ibhostdev attach`` and ``detach``, and what libvirt calls."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from ibhostdev.batch import Progress
from ibhostdev.cli import options, outcome, terminal
from ibhostdev.cli.outcome import EXIT_CODES, Exit
from ibhostdev.errors import IbHostdevError
from ibhostdev.process import descriptors

if TYPE_CHECKING:
    from ibhostdev.guest.guests import Guests
    from ibhostdev.guest.results import GuestsResult


@click.command(epilog=EXIT_CODES)
@click.argument("words", nargs=-1, metavar="DOMAIN PCI=MAC…")
@click.option(
    "--physical-network",
    metavar="NAME",
    help="The physical network of VIFs that name none.",
)
@options.guests
@click.pass_obj
def attach(
    settings: options.Settings,
    words: Sequence[str],
    physical_network: str | None,
    file: str | None,
    live: bool,
    config: bool,
    uri: str,
    as_json: bool,
) -> int:
    """Plug VIFs, and attach their VFs to domains of libvirt.

    \b
    ibhostdev attach web1 0000:3b:00.2=fa:16:3e:12:34:56 --live --config
    ibhostdev attach --file guests.yaml

    All are plugged or none. A VF that then cannot be attached is made idle
    again. A GUID may stand for the MAC.
    """
    from ibhostdev.cli import guests

    _need_guests(words, file)
    wanted = guests.attachments(words, file, physical_network)
    return _guests_run(
        settings,
        uri,
        len(wanted),
        "attached",
        "plugged",
        as_json,
        lambda hands, progress: hands.attach(
            wanted, live=live, config=config, progress=progress
        ),
    )


@click.command(epilog=EXIT_CODES)
@click.argument("words", nargs=-1, metavar="DOMAIN PCI…")
@click.option(
    "--timeout",
    type=click.FloatRange(0),
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="For a running guest to let go of its VFs.",
)
@click.option(
    "--no-rebind",
    is_flag=True,
    help="Leave a VF alone whose driver on this host shows its old identity.",
)
@options.guests
@click.pass_obj
def detach(
    settings: options.Settings,
    words: Sequence[str],
    timeout: float,
    no_rebind: bool,
    file: str | None,
    live: bool,
    config: bool,
    uri: str,
    as_json: bool,
) -> int:
    """Detach VFs from domains of libvirt, and make them idle.

    \b
    ibhostdev detach web1 0000:3b:00.2 --live --config
    ibhostdev detach --file guests.yaml

    A VF that its guest does not let go of stays as it is.
    """
    from ibhostdev.cli import guests

    _need_guests(words, file)
    wanted = guests.detachments(words, file)
    return _guests_run(
        settings,
        uri,
        len(wanted),
        "detached",
        "unplugged",
        as_json,
        lambda hands, progress: hands.detach(
            wanted,
            live=live,
            config=config,
            timeout=timeout,
            rebind=not no_rebind,
            progress=progress,
        ),
    )


def _need_guests(words: Sequence[str], file: str | None) -> None:
    if len(words) > 1 if file is not None else len(words) < 2:
        raise click.UsageError(
            "Name a domain and VFs, or VFs by --file.",
            click.get_current_context(),
        )


def _guests_run(
    settings: options.Settings,
    uri: str,
    total: int,
    done: str,
    event: str,
    as_json: bool,
    call: "Callable[[Guests, Progress | None], GuestsResult]",
) -> int:
    from ibhostdev.cli import guests
    from ibhostdev.guest.guests import Guests
    from ibhostdev.guest.results import GuestsFailed

    code = Exit.DONE
    with Guests(settings.connect(), uri) as hands:
        try:
            with terminal.progress(total) as progress:
                result = call(hands, progress)
        except GuestsFailed as error:
            result, code = error.result, guests.exit_code(error)
    try:
        if as_json:
            outcome.write_json(guests.as_json(result))
        else:
            terminal.show(guests.as_lines(result, done))
    finally:
        if any(one.error is None for one in result.results):
            told = partial(guests.as_json, result)
            terminal.warn(*settings.hooks.tell(event, told, result.moves))
    terminal.warn(*result.warnings)
    for cause in result.failures:
        terminal.explain(cause)
    return code


@click.command("libvirt-hook", hidden=True)
@click.argument("domain")
@click.argument("operation")
@click.argument("suboperation")
@click.argument("extra", default="-")
@options.everywhere(first=False)
@click.pass_obj
def libvirt_hook(
    settings: options.Settings,
    domain: str,
    operation: str,
    suboperation: str,
    extra: str,
) -> int:
    """As libvirt runs its hooks, with a domain's XML on standard input."""
    from ibhostdev.cli import guests
    from ibhostdev.guest import hook

    try:
        host = settings.connect()
        xml = sys.stdin.buffer.read()
        with descriptors.held_back():
            result = hook.run(
                host,
                operation,
                suboperation,
                xml,
                lambda *done: terminal.warn(*settings.hooks.batch(*done)),
                terminal.warn,
            )
            terminal.warn(*result.warnings)
    except IbHostdevError as error:
        # All on one line each: libvirt puts it into its own message.
        for cause in guests.hook_failures(error):
            terminal.write(f"ibhostdev: {cause}\n", sys.stderr)
        return Exit.FAILED
    return Exit.DONE
