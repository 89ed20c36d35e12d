# SPDX-License-Identifier: Apache-2.0
"""The command line: subcommands, exit codes, signals."""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import click

from ibhostdev.cli import (
    applying,
    attaching,
    bench,
    examining,
    fabric,
    listing,
    options,
    outcome,
    plugging,
    restoring,
    simulating,
    terminal,
)
from ibhostdev.cli.outcome import EXIT_CODES, Exit
from ibhostdev.errors import CommandFailed, IbHostdevError, InvalidInput
from ibhostdev.host import document
from ibhostdev.privilege.plain import error_to_plain
from ibhostdev.process import descriptors
from ibhostdev.process.interruption import Interrupted, interruptible


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)
@options.everywhere(first=True)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=options.show_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Give InfiniBand SR-IOV Virtual Functions (VFs) their identities.

    'ibhostdev list --help' explains the words.
    """


# -- completion -----------------------------------------------------------


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Write the script that has a shell complete this command.

    \b
    eval "$(ibhostdev completion bash)"

    Tab then finds commands and options, and PFs, VFs, MACs and domains of
    this host.
    """
    from ibhostdev.cli import completion as completions

    completions.prepare(cli)
    terminal.write(completions.source(cli, shell))
    return Exit.DONE


for command in (
    listing.list_,
    plugging.plug,
    plugging.unplug,
    attaching.attach,
    attaching.detach,
    attaching.libvirt_hook,
    examining.doctor,
    bench.bench,
    simulating.simulate,
    completion,
    applying.apply,
    restoring.save,
    restoring.restore,
    fabric.fabric,
    fabric.metrics,
):
    cli.add_command(command)


# -- the process ----------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; gives its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    descriptors.open_closed()
    for stream in (sys.stdout, sys.stderr):
        # An arrow is no reason to fail where the locale has none.
        getattr(stream, "reconfigure", lambda **_: None)(errors="replace")
    as_json = "--json" in arguments
    if "_IBHOSTDEV_COMPLETE" in os.environ:
        from ibhostdev.cli import completion

        completion.prepare(cli)
    try:
        with interruptible():
            return _command(arguments, as_json)
    except Interrupted as stop:
        if as_json:
            answer = _failure(
                arguments,
                None,
                {
                    "type": "Interrupted",
                    "message": f"ended by {stop.name}",
                    "device": None,
                    "attribute": None,
                    "errno": None,
                    "cure": "repeat the call",
                },
            )
            with suppress(CommandFailed):
                outcome.write_json(answer)
        for note in getattr(stop, "__notes__", ()):
            terminal.complain(note)
        terminal.complain(
            f"ended by {stop.name}; 'ibhostdev list' shows what is there now"
        )
        return int(stop.code or 1)


# What newer releases of click raise for a group without a command; older ones
# show the help themselves.
_HELP: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())


def _named(arguments: Sequence[str]) -> str:
    """The command that was meant; empty if none was."""
    return next((word for word in arguments if word in cli.commands), "")


def _failure(
    arguments: Sequence[str],
    changed: bool | None,
    *errors: dict[str, Any] | None,
) -> dict[str, Any]:
    """Of a call that had no results, with all keys that one has that had.
    What apply has made until a signal came is not known: None."""
    answer = outcome.failure_json(*errors)
    if _named(arguments) != "apply":
        return answer
    from ibhostdev.provision.report import Report

    whole = applying.report_json(Report())
    return whole | {"changed": changed} | answer


def _misused(
    error: click.ClickException, arguments: Sequence[str]
) -> InvalidInput:
    """In the form of all errors."""
    # Some have a line for each choice.
    told = " ".join(error.format_message().split()).removesuffix(".")
    context = getattr(error, "ctx", None)
    if context is not None:
        command = context.command_path
    else:  # click has it not of an option without its argument
        command = f"ibhostdev {_named(arguments)}".rstrip()
    return InvalidInput(
        told[:1].lower() + told[1:], cure=f"see '{command} --help'"
    )


def _command(arguments: Sequence[str], as_json: bool) -> int:
    try:
        return int(
            cli.main(
                list(arguments), prog_name="ibhostdev", standalone_mode=False
            )
            or 0
        )
    except (click.ClickException, IbHostdevError, OSError) as error:
        if isinstance(error, click.ClickException):
            if isinstance(error, _HELP):
                error.show()
                return Exit.BAD_INPUT
            error = _misused(error, arguments)
        if not isinstance(error, IbHostdevError):
            error = _own(error)
        if as_json:
            # That it cannot be written there is not what went wrong.
            with suppress(CommandFailed):
                outcome.write_json(_failure(arguments, False, *_plain(error)))
        terminal.explain(error)
        return outcome.exit_code(error)


def _plain(error: IbHostdevError) -> list[dict[str, Any] | None]:
    """The error, and where it is several each of them."""
    errors, _ = document.told(error)
    several = errors if len(errors) > 1 else ()
    return [error_to_plain(one) for one in (error, *several)]


def _own(error: OSError) -> IbHostdevError:
    try:
        terminal.write("")  # is it the rest of the output, by click?
    except CommandFailed as full:
        return full
    # No /sys here, …
    return IbHostdevError(
        "could not go on",
        error.filename,
        None,
        error.errno,
        "'ibhostdev doctor' may tell why",
    )
