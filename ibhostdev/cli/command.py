# SPDX-License-Identifier: Apache-2.0
"""The command line: options, subcommands, exit codes, signals."""

import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ibhostdev.batch import BatchFailed, BatchResult, OnError, Progress, Vif
from ibhostdev.cli import listing, outcome, terminal, vifs
from ibhostdev.cli.outcome import Exit
from ibhostdev.errors import CommandFailed, IbHostdevError, InvalidInput
from ibhostdev.host import Host
from ibhostdev.interruption import Interrupted, interruptible
from ibhostdev.inventory import Family, Policy
from ibhostdev.networks import parse_mappings
from ibhostdev.plain import error_to_plain
from ibhostdev.privilege.request import Request

if TYPE_CHECKING:
    from ibhostdev.guest.guests import Guests
    from ibhostdev.guest.results import GuestsResult

_F = TypeVar("_F", bound=Callable[..., Any])
_RUN_DIR = "/run/ibhostdev"


@dataclass
class Settings:
    """The options that every command takes."""

    host: str | None = None
    physical_device_mappings: dict[str, tuple[str, ...]] | None = None
    run_dir: str | None = None
    privilege: str = "none"

    def connect(self) -> Host:
        if self.host is None:
            return Host(
                run_dir=self.locks,
                physical_networks=self.physical_device_mappings,
            )
        from ibhostdev import simulate

        options: dict[str, Any] = {}
        if self.physical_device_mappings is not None:
            options["physical_networks"] = self.physical_device_mappings
        return simulate.connect(self.host, run_dir=self.locks, **options)

    def run(self, asked: Request, progress: Progress | None) -> BatchResult:
        """Do a batch, in this process or with the rights of another."""
        if self.privilege == "none":
            return asked.run(self.connect(), progress)
        for option, given in (
            ("--host", self.host),
            ("--run-dir", self.run_dir),
        ):
            if given is not None:
                raise InvalidInput(
                    f"{option} and --privilege do not go together",
                    attribute="privilege",
                    cure="leave one out: the privileged side goes by its own "
                    "configuration",
                )
        try:
            from ibhostdev.privilege.rootwrap import Rootwrap
        except ImportError as error:
            raise CommandFailed(
                f"cannot be used ({error})",
                f"--privilege {self.privilege}",
                cure="install the package with its extra 'rootwrap'",
            ) from None
        mappings = self.physical_device_mappings
        if mappings is not None:
            asked = asked._replace(physical_networks=mappings)
        return Rootwrap(daemon=self.privilege == "rootwrap-daemon").call(asked)

    @property
    def locks(self) -> str:
        if self.run_dir is not None:
            return self.run_dir
        if self.host is not None:
            return os.path.join(self.host, "run")
        return _RUN_DIR


# -- options --------------------------------------------------------------


def _settle(
    context: click.Context, parameter: click.Parameter, value: Any
) -> None:
    """Keep what was given; the later place on the command line wins."""
    settings = context.ensure_object(Settings)
    if value is None:
        return
    if parameter.name == "physical_device_mappings":
        value = parse_mappings(filter(str.strip, value.split(",")))
    assert parameter.name is not None
    setattr(settings, parameter.name, value)


def _log(context: click.Context, _: click.Parameter, verbose: bool) -> None:
    """The package's log goes to standard error if that is asked for. Its
    warnings are in the results too, so they are told anyway."""
    log = logging.getLogger("ibhostdev")
    if verbose:
        logging.basicConfig(format="%(name)s: %(message)s")
        log.setLevel(logging.DEBUG)
    elif not log.handlers:
        log.addHandler(logging.NullHandler())


def _version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if not asked:
        return
    from importlib import metadata

    try:
        version = metadata.version("ibhostdev")
    except metadata.PackageNotFoundError:
        version = "(not installed)"
    terminal.write(f"ibhostdev {version}\n")
    context.exit()


def _everywhere(first: bool) -> Callable[[_F], _F]:
    """The options of every command. They are taken before and behind its
    name; the environment counts as the first place."""

    def option(*names: str, variable: str = "", **how: Any) -> Any:
        if variable and first:
            how |= {"envvar": variable, "show_envvar": True}
        how.setdefault("callback", _settle)
        return click.option(*names, expose_value=False, **how)

    options = [
        option(
            "--host",
            metavar="DIR",
            variable="IBHOSTDEV_HOST",
            help="Work on the simulated host in DIR, not on this machine.",
        ),
        option(
            "--physical-device-mappings",
            metavar="NETWORK:DEVICE,…",
            variable="IBHOSTDEV_PHYSICAL_DEVICE_MAPPINGS",
            help="Which PFs are behind which physical network; repeat a "
            "network that has several.",
        ),
        option(
            "--run-dir",
            metavar="DIR",
            help=f"Where the PFs' locks are.  [default: {_RUN_DIR}]",
        ),
        option(
            "-v",
            "--verbose",
            is_flag=True,
            callback=_log,
            help="Say on standard error what is done.",
        ),
    ]

    def decorate(function: _F) -> _F:
        for one in reversed(options):
            function = one(function)
        return function

    return decorate


_json = click.option(
    "--json", "as_json", is_flag=True, help="Write JSON, for programs."
)

EXIT_CODES = """\b
Exit codes:
  0    done
  1    a VF failed; the results tell what became of the others
  2    bad input; nothing was touched
  3    no rights
  129, 130, 143  ended by SIGHUP, SIGINT (Ctrl-C), SIGTERM; what a batch
       had written by then was put back, unless it had --on-error continue
"""


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)
@_everywhere(first=True)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Give InfiniBand SR-IOV Virtual Functions their vGUIDs."""


# -- list -----------------------------------------------------------------


@cli.command("list")
@click.argument("names", nargs=-1, metavar="[PF]…")
@click.option(
    "--connect", "uri", metavar="URI", help="The libvirt to ask who has a VF."
)
@_json
@_everywhere(first=False)
@click.pass_obj
def list_(
    settings: Settings, names: Sequence[str], uri: str | None, as_json: bool
) -> int:
    """Show PFs and their VFs as they are now.

    A PF is named by its PCI address, IB device or IPoIB network device; the
    PCI address of a VF shows only that one. Exit code 1 says that the state
    of some VFs could not be read.

    libvirt is asked which domain has a VF if --connect names it, or if some
    VF is in a guest's hands and libvirt is there.
    """
    shown = listing.views(settings.connect(), names)
    uses = _uses(shown, uri, local=settings.host is None)
    if as_json:
        _write_json(listing.as_json(shown, uses))
    elif not shown:
        terminal.write("no PF with an InfiniBand port: see ibhostdev doctor\n")
    else:
        terminal.show(listing.as_lines(shown, uses))
    code = Exit.DONE
    for view in shown:
        if view.error is not None:
            terminal.explain(view.error)
            code = max(code, outcome.exit_code(view.error))
    return code


def _uses(
    shown: Sequence[listing.View], uri: str | None, local: bool
) -> listing.Uses:
    """Which domain has which VF. Where nobody has asked for it, nothing that
    is wrong with libvirt is worth more than a word."""
    held = any(vf.in_use for view in shown for vf in view.vfs)
    if uri is None and not (local and held):
        return {}
    from ibhostdev.guest import connection
    from ibhostdev.guest.survey import uses

    if uri is None and not connection.at_hand():
        return {}

    try:
        conn = connection.connect(uri or connection.URI, read_only=True)
        try:
            return uses(conn)
        finally:
            conn.close()
    except IbHostdevError as error:
        if uri is not None:
            raise
        logging.getLogger("ibhostdev").debug("not asked: %s", error)
        return {}


# -- plug, unplug ---------------------------------------------------------


def _batch(function: _F) -> _F:
    """The options that plug and unplug share."""
    options: list[Callable[[_F], _F]] = [
        click.option(
            "--file",
            metavar="FILE",
            help="YAML or JSON list of entries with pci, mac or guid, "
            "physical_network; - for standard input.",
        ),
        click.option(
            "--physical-network",
            metavar="NAME",
            help="Of the VIFs that name none.",
        ),
        click.option(
            "--on-error",
            type=click.Choice([str(value) for value in OnError]),
            default=str(OnError.ROLLBACK),
            show_default=True,
            help="What becomes of the others when a VF fails.",
        ),
        click.option(
            "--mechanism",
            metavar="NAME",
            help="Force one: mlx5_netlink, mlx5_sysfs, mlx4_sysfs or ebrctl.",
        ),
        click.option(
            "--privilege",
            type=click.Choice(["none", "rootwrap", "rootwrap-daemon"]),
            envvar="IBHOSTDEV_PRIVILEGE",
            show_envvar=True,
            expose_value=False,
            callback=_settle,
            help="How to get the rights: none but those of this process, or "
            "by oslo.rootwrap under sudo.  [default: none]",
        ),
        click.option(
            "--dry-run",
            is_flag=True,
            help="Show what would be written, write nothing.",
        ),
        _json,
        _everywhere(first=False),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@cli.command(epilog=EXIT_CODES)
@click.argument("words", nargs=-1, metavar="[PCI=MAC]…")
@click.option(
    "--policy",
    type=click.Choice([str(policy) for policy in Policy]),
    help="Administrative link state.  [default: follow]",
)
@_batch
@click.pass_obj
def plug(
    settings: Settings,
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


@cli.command(epilog=EXIT_CODES)
@click.argument("words", nargs=-1, metavar="[[PCI=]MAC]…")
@click.option(
    "--no-rebind",
    is_flag=True,
    help="Leave a VF alone whose driver on this host shows its old identity.",
)
@_batch
@click.pass_obj
def unplug(
    settings: Settings,
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
    settings: Settings,
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
    if as_json:
        _write_json(outcome.as_json(batch, result))
    else:
        terminal.show(outcome.as_lines(batch, result, done, asked.dry_run))
    if code is Exit.DONE and any(map(outcome.not_searched, result.results)):
        code = Exit.FAILED
    for warning in result.warnings:
        terminal.warn(warning)
    if code is not Exit.DONE:
        for cause in result.failures:
            terminal.explain(cause)
    return code


# -- attach, detach -------------------------------------------------------


def _guests(function: _F) -> _F:
    """The options that attach and detach share."""
    options: list[Callable[[_F], _F]] = [
        click.option(
            "--file",
            metavar="FILE",
            help="YAML or JSON list of entries with domain, pci, mac or "
            "guid, physical_network; - for standard input.",
        ),
        click.option("--live", is_flag=True, help="Of the running guest."),
        click.option(
            "--config",
            is_flag=True,
            help="Of the domain's definition.  [default: the running guest, "
            "or the definition if it does not run]",
        ),
        click.option(
            "--connect",
            "uri",
            metavar="URI",
            envvar="LIBVIRT_DEFAULT_URI",
            show_envvar=True,
            default="qemu:///system",
            show_default=True,
            help="The libvirt.",
        ),
        _json,
        _everywhere(first=False),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@cli.command(epilog=EXIT_CODES)
@click.argument("words", nargs=-1, metavar="DOMAIN PCI=MAC…")
@click.option(
    "--physical-network",
    metavar="NAME",
    help="Of the VIFs that name none.",
)
@_guests
@click.pass_obj
def attach(
    settings: Settings,
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
@_guests
@click.pass_obj
def detach(
    settings: Settings,
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
    settings: Settings,
    uri: str,
    total: int,
    done: str,
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
    if as_json:
        _write_json(guests.as_json(result))
    else:
        terminal.show(guests.as_lines(result, done))
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
@_everywhere(first=False)
@click.pass_obj
def libvirt_hook(
    settings: Settings,
    domain: str,
    operation: str,
    suboperation: str,
    extra: str,
) -> int:
    """As libvirt runs its hooks, with a domain's XML on standard input."""
    from ibhostdev.cli import guests
    from ibhostdev.guest import hook

    try:
        hook.run(
            settings.connect(),
            operation,
            suboperation,
            sys.stdin.buffer.read(),
        )
    except IbHostdevError as error:
        # All on one line each: libvirt puts it into its own message.
        for cause in guests.hook_failures(error):
            terminal.write(f"ibhostdev: {cause}\n", sys.stderr)
        return Exit.FAILED
    return Exit.DONE


# -- doctor, bench, simulate ----------------------------------------------


@cli.command()
@_json
@_everywhere(first=False)
@click.pass_obj
def doctor(settings: Settings, as_json: bool) -> int:
    """Find what would keep a plug from working here, or make it slow.

    Each finding comes with its cure. Exit code 1 says that there is a
    problem; warnings and notes are none.
    """
    from ibhostdev.cli import doctor as doctors

    findings = doctors.examine(
        settings.connect(), settings.locks, simulated=settings.host is not None
    )
    if as_json:
        _write_json(doctors.as_json(findings))
    else:
        terminal.show(doctors.as_lines(findings, terminal.width()))
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
@_json
@_everywhere(first=False)
@click.pass_obj
def bench(
    settings: Settings,
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
        report = benches.on_vfs(
            settings.connect(),
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
    "--pfs", type=click.IntRange(1, 16), default=2, show_default=True
)
@click.option(
    "--vfs",
    type=click.IntRange(0),
    default=16,
    show_default=True,
    help="Of each PF.",
)
@click.option(
    "--family",
    type=click.Choice([str(family) for family in Family]),
    default=str(Family.MLX5),
    show_default=True,
)
@click.option(
    "--ports",
    type=click.IntRange(1, 2),
    default=1,
    show_default=True,
    help="Of each PF; only mlx4 has two.",
)
@click.option(
    "--no-netdev", is_flag=True, help="PFs without IPoIB network devices."
)
@click.option("--no-iommu", is_flag=True, help="VFs without IOMMU groups.")
@_everywhere(first=False)
def simulate(
    folder: str,
    pfs: int,
    vfs: int,
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
            f"Serving {pfs} PFs with {vfs} VFs each; end it with Ctrl-C.\n"
            f"In another terminal: ibhostdev --host {folder} list\n"
        )

    simulate.serve(
        folder,
        pfs=pfs,
        vfs=vfs,
        family=family,
        ports=ports,
        netdev=not no_netdev,
        iommu=not no_iommu,
        ready=ready,
    )
    return Exit.DONE


# -- the process ----------------------------------------------------------


def _write_json(value: dict[str, Any]) -> None:
    terminal.write(json.dumps(value, indent=2) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; gives its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        # An arrow is no reason to fail where the locale has none.
        getattr(stream, "reconfigure", lambda **_: None)(errors="replace")
    as_json = "--json" in arguments
    try:
        with interruptible():
            return _command(arguments, as_json)
    except Interrupted as stop:
        if as_json:
            _write_json(
                outcome.failure_json(
                    {
                        "type": "Interrupted",
                        "message": f"ended by {stop.name}",
                        "device": None,
                        "attribute": None,
                        "errno": None,
                        "cure": "repeat the call",
                    }
                )
            )
        for note in getattr(stop, "__notes__", ()):
            terminal.complain(note)
        terminal.complain(
            f"ended by {stop.name}; what is there now shows 'ibhostdev list'"
        )
        return int(stop.code or 1)


def _command(arguments: Sequence[str], as_json: bool) -> int:
    try:
        return int(
            cli.main(
                list(arguments), prog_name="ibhostdev", standalone_mode=False
            )
            or 0
        )
    except click.ClickException as error:
        if as_json:
            bad = InvalidInput(error.format_message())
            _write_json(outcome.failure_json(error_to_plain(bad)))
        error.show()
        return Exit.BAD_INPUT
    except (IbHostdevError, OSError) as error:
        if not isinstance(error, IbHostdevError):
            # No /sys here, no room for the output, …
            error = IbHostdevError(
                "could not go on", error.filename, None, error.errno
            )
        if as_json:
            _write_json(outcome.failure_json(error_to_plain(error)))
        terminal.explain(error)
        return outcome.exit_code(error)
