# SPDX-License-Identifier: Apache-2.0
"""The command line: subcommands, exit codes, signals."""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ibhostdev.batch import BatchFailed, OnError, Progress, Vif
from ibhostdev.cli import (
    fabric,
    listing,
    options,
    outcome,
    provisioning,
    terminal,
    vifs,
)
from ibhostdev.cli.outcome import EXIT_CODES, Exit
from ibhostdev.cli.outcome import write_json as _write_json
from ibhostdev.errors import (
    CommandFailed,
    IbHostdevError,
    InvalidInput,
)
from ibhostdev.host import document
from ibhostdev.host.views import View, views
from ibhostdev.inventory import Family, Policy
from ibhostdev.privilege.plain import error_to_plain
from ibhostdev.privilege.request import Request
from ibhostdev.process import descriptors
from ibhostdev.process.interruption import Interrupted, interruptible

if TYPE_CHECKING:
    from ibhostdev.guest.guests import Guests
    from ibhostdev.guest.results import GuestsResult

BATCH_EXIT_CODES = EXIT_CODES + ", unless it had --on-error continue"


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


# -- list -----------------------------------------------------------------


@cli.command("list")
@click.argument("names", nargs=-1, metavar="[PF]…")
@click.option(
    "--connect", "uri", metavar="URI", help="The libvirt to ask who has a VF."
)
@options.host_yaml
@options.json
@options.everywhere(first=False)
@click.pass_obj
def list_(
    settings: options.Settings,
    names: Sequence[str],
    uri: str | None,
    host_yaml: str | None,
    as_json: bool,
) -> int:
    """Show PFs and their VFs as they are now.

    A PF is named by its PCI address, IB device or IPoIB network device; the
    PCI address of a VF shows only that one. Exit code 1 says that the state
    of some VFs could not be read, 3 that this was for want of rights.

    libvirt is asked which domain has a VF if --connect names it, or if some
    VF is in a guest's hands and libvirt is there.

    \b
    The words, here and in all commands:
      PF         an InfiniBand adapter, or one port of it: the Physical
                 Function that its VFs (Virtual Functions) are of
      VIF        a port of a guest: the identity it is to have, and its VF
      GUID       InfiniBand's address: 64 bits, as fa:16:3e:00:00:12:34:56
      MAC        what OpenStack calls a port by: 48 bits; the GUID is made
                 of it, with 00:00 put into the middle
      identity   the GUID that a VF shows to the fabric; the MAC stands for
                 it if it is made of one
      idle       nobody's: the VF has no identity, its policy is down
      not known  what the driver does not tell, as of a VF that nobody has
                 had since it was made
      its own    of a plug or unplug: the identity that is named in the row;
                 half its own: one of the VF's two GUIDs, node's and port's
      policy     the VF's link: down, up, or follow (that of the adapter)
      P_Key      the partition that comes first, on ConnectX-3; on others,
                 where the subnet manager alone knows, the one that host.yaml
                 or the metadata of libvirt's domains wants
      group      the IOMMU group: VFs of one go to the same guest
      in …       the guest (domain) that has it
      by …       the mechanism: how identities are written to the PF's VFs
      network    the physical network: what OpenStack calls a fabric
    """
    from ibhostdev.cli.partitions import known

    host = settings.connect()
    shown = views(host, names, pkeys=True)
    for left_out in host.left_out():
        terminal.warn(f"not shown: {left_out}")
    uses, vifs = _of_domains(shown, uri, local=settings.host is None)
    partitions = known(settings, host, host_yaml, vifs)
    if as_json:
        _write_json(listing.as_json(shown, uses, partitions))
    elif not shown:
        terminal.write(
            "no PF with an InfiniBand port: see 'ibhostdev doctor'\n"
        )
    else:
        terminal.show(listing.as_lines(shown, uses, partitions))
    code = Exit.DONE
    for view in shown:
        if view.error is not None:
            terminal.explain(view.error)
            code = max(code, outcome.exit_code(view.error))
    return code


def _of_domains(
    shown: Sequence[View], uri: str | None, local: bool
) -> tuple[listing.Uses, Sequence[Vif]]:
    """Which domain has which VF, and what is noted of them. Where nobody has
    asked for it, nothing that is wrong with libvirt is worth more than a
    word."""
    held = any(vf.in_use for view in shown for vf in view.vfs)
    if uri is None and not (local and held):
        return {}, ()
    from ibhostdev.guest import connection
    from ibhostdev.guest.survey import seen

    uses, found, complaints = connection.ask(uri, seen) or ({}, (), ())
    for complaint in complaints:
        terminal.warn(complaint)
    return uses, found


# -- plug, unplug ---------------------------------------------------------


@cli.command(epilog=BATCH_EXIT_CODES)
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


@cli.command(epilog=BATCH_EXIT_CODES)
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
            _write_json(outcome.as_json(batch, result))
        else:
            terminal.show(outcome.as_lines(batch, result, done, asked.dry_run))
    finally:
        # Whether or not anybody has been told: it is done.
        if not asked.dry_run:
            _warn(settings.hooks.batch(done, batch, result))
    if code is Exit.DONE and any(map(outcome.not_searched, result.results)):
        code = Exit.FAILED
    for warning in result.warnings:
        terminal.warn(warning)
    if code is not Exit.DONE:
        for cause in result.failures:
            terminal.explain(cause)
    return code


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        terminal.warn(warning)


# -- attach, detach -------------------------------------------------------


@cli.command(epilog=EXIT_CODES)
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


@cli.command(epilog=EXIT_CODES)
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
            _write_json(guests.as_json(result))
        else:
            terminal.show(guests.as_lines(result, done))
    finally:
        if any(one.error is None for one in result.results):
            told = partial(guests.as_json, result)
            _warn(settings.hooks.tell(event, told, result.moves))
    for warning in result.warnings:
        terminal.warn(warning)
    for cause in result.failures:
        terminal.explain(cause)
    return code


@cli.command("libvirt-hook", hidden=True)
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
                lambda *done: _warn(settings.hooks.batch(*done)),
                terminal.warn,
            )
            _warn(result.warnings)
    except IbHostdevError as error:
        # All on one line each: libvirt puts it into its own message.
        for cause in guests.hook_failures(error):
            terminal.write(f"ibhostdev: {cause}\n", sys.stderr)
        return Exit.FAILED
    return Exit.DONE


# -- doctor, bench, simulate ----------------------------------------------


@cli.command()
@click.option(
    "--sweep",
    is_flag=True,
    help="Find VFs instead with an identity that neither host.yaml nor a "
    "libvirt domain claims, and that no guest has.",
)
@click.option("--fix", is_flag=True, help="With --sweep: make them idle.")
@click.option(
    "--file", metavar="FILE", help="With --sweep: another host.yaml."
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
    file: str | None,
    uri: str | None,
    as_json: bool,
) -> int:
    """Find what would keep a plug from working, or make it slow.

    Each finding comes with its cure. Exit code 1 says that there is a
    problem; warnings and notes are none. With --privilege the rights are
    those of who is asked to plug.
    """
    if (fix or file) and not sweep:
        raise click.UsageError(
            "--fix and --file go with --sweep.",
            click.get_current_context(),
        )
    if sweep:
        return provisioning.sweep(settings, file, uri, fix, as_json)
    from ibhostdev import doctor as doctors
    from ibhostdev.cli import doctor as reports

    privileged = None
    if settings.privilege != "none":
        settings.require_privilege()
        privileged = partial(settings.ask, Request("plug", ()))
    domains = provisioning.domains(settings, uri)
    findings = doctors.examine(
        settings.connect(),
        settings.locks,
        simulated=settings.host is not None,
        privileged=privileged,
        notes=[note for one in domains for note in one.notes],
        malformed=[one.error for one in domains if one.error is not None],
    )
    if as_json:
        _write_json(reports.as_json(findings))
    else:
        terminal.show(reports.as_lines(findings))
    return Exit.FAILED if doctors.problems(findings) else Exit.DONE


@cli.command(epilog=EXIT_CODES)
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
    from ibhostdev.cli import bench as benches

    if names:
        host = settings.connect()
        # Identities that nobody ever had.
        host.journal, host.counted = None, False
        report = benches.on_vfs(
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
        report = benches.on_own_host(settings.run_dir, sizes, rounds)
    if as_json:
        _write_json(benches.as_json(report))
    else:
        terminal.show(benches.as_lines(report))
    for warning in report.warnings:
        terminal.warn(warning)
    if report.error is None:
        return Exit.DONE
    terminal.explain(report.error)
    return outcome.exit_code(report.error)


@cli.command()
@click.argument("folder", metavar="DIR")
@click.option(
    "--pfs",
    type=click.IntRange(1, 16),
    default=2,
    show_default=True,
    metavar="N",
    help="How many PFs the host has.",
)
@click.option(
    "--vfs",
    type=click.IntRange(0),
    default=16,
    show_default=True,
    metavar="N",
    help="How many VFs each PF has.",
)
@click.option(
    "--total-vfs",
    type=click.IntRange(0),
    metavar="N",
    help="How many VFs each PF can have.  [default: those it has]",
)
@click.option(
    "--family",
    type=click.Choice([str(family) for family in Family]),
    default=str(Family.MLX5),
    show_default=True,
    help="ConnectX-4 and later, by the kernel's driver (mlx5) or "
    "MLNX_OFED's (mlx5-ofed), or ConnectX-3 (mlx4).",
)
@click.option(
    "--ports",
    type=click.IntRange(1, 2),
    default=1,
    show_default=True,
    metavar="N",
    help="How many ports each PF has; only mlx4 has two.",
)
@click.option(
    "--no-netdev", is_flag=True, help="PFs without IPoIB network devices."
)
@click.option("--no-iommu", is_flag=True, help="VFs without IOMMU groups.")
@options.everywhere(first=False)
def simulate(
    folder: str,
    pfs: int,
    vfs: int,
    total_vfs: int | None,
    family: str,
    ports: int,
    no_netdev: bool,
    no_iommu: bool,
) -> int:
    """Serve a simulated host in the folder DIR until Ctrl-C.

    It needs neither root nor hardware. Every command takes --host DIR to
    work on it.
    """
    from ibhostdev import simulate

    def ready(_: object) -> None:
        terminal.write(
            f"Serving {pfs} PF{'s' * (pfs > 1)} with {vfs} VFs"
            f"{' each' * (pfs > 1)}; end it with Ctrl-C.\n"
            f"In another terminal: ibhostdev --host {folder} list\n"
        )

    try:
        simulate.serve(
            folder,
            pfs=pfs,
            vfs=vfs,
            total_vfs=total_vfs,
            family=family,
            ports=ports,
            netdev=not no_netdev,
            iommu=not no_iommu,
            ready=ready,
        )
    except OSError as error:
        if isinstance(error, IbHostdevError):
            raise
        raise CommandFailed(
            "no simulated host can be made there",
            folder,
            errno=error.errno,
            cure="choose another folder",
        ) from error
    return Exit.DONE


# -- completion -----------------------------------------------------------


@cli.command()
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


for command in provisioning.COMMANDS:
    cli.add_command(command)
cli.add_command(fabric.fabric)
cli.add_command(fabric.metrics)


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
            answer = outcome.failure_json(
                {
                    "type": "Interrupted",
                    "message": f"ended by {stop.name}",
                    "device": None,
                    "attribute": None,
                    "errno": None,
                    "cure": "repeat the call",
                }
            )
            with suppress(CommandFailed):
                _write_json(answer)
        for note in getattr(stop, "__notes__", ()):
            terminal.complain(note)
        terminal.complain(
            f"ended by {stop.name}; 'ibhostdev list' shows what is there now"
        )
        return int(stop.code or 1)


# What newer releases of click raise for a group without a command; older ones
# show the help themselves.
_HELP: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())


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
        named = (word for word in arguments if word in cli.commands)
        command = " ".join(["ibhostdev", *list(named)[:1]])
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
                _write_json(outcome.failure_json(*_plain(error)))
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
