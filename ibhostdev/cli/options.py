# SPDX-License-Identifier: Apache-2.0
"""What commands have in common on the command line."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ibhostdev.batch import BatchFailed, BatchResult, OnError, Progress
from ibhostdev.cli import terminal
from ibhostdev.errors import InvalidInput
from ibhostdev.host import Host, say
from ibhostdev.host.journal import SOCKET
from ibhostdev.host.networks import parse_mappings
from ibhostdev.privilege.request import Request
from ibhostdev.process import log

if TYPE_CHECKING:
    from ibhostdev.privilege.hooks import Hooks

_F = TypeVar("_F", bound=Callable[..., Any])
_RUN_DIR = "/run/ibhostdev"


class Settings:
    """The options that every command takes."""

    def __init__(
        self,
        host: str | None = None,
        physical_device_mappings: dict[str, tuple[str, ...]] | None = None,
        run_dir: str | None = None,
        privilege: str = "none",
    ) -> None:
        self.host = host
        self.physical_device_mappings = physical_device_mappings
        self.run_dir = run_dir
        self.privilege = privilege

    def connect(self) -> Host:
        if self.host is None:
            return Host(
                run_dir=self.locks,
                physical_networks=self.physical_device_mappings,
                journal=SOCKET,
                counted=True,
            )
        from ibhostdev import simulate

        options: dict[str, Any] = {"counted": True}
        if self.run_dir is not None:
            options["run_dir"] = self.run_dir
        if self.physical_device_mappings is not None:
            options["physical_networks"] = self.physical_device_mappings
        return simulate.connect(self.host, **options)

    def run(self, asked: Request, progress: Progress | None) -> BatchResult:
        """Do a batch, in this process or with the rights of another."""
        if self.privilege == "none":
            return asked.run(self.connect(), progress)
        self.require_privilege()
        return self.ask(asked)

    def require_privilege(self) -> None:
        """
        :raises InvalidInput: if options do not go together
        """
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

    def ask(self, asked: Request) -> BatchResult:
        """Have a batch done with the rights of another."""
        from ibhostdev.privilege.rootwrap import Rootwrap

        mappings = self.physical_device_mappings
        if mappings is not None:
            asked = asked._replace(physical_networks=mappings)
        rootwrap = Rootwrap(daemon=self.privilege == "rootwrap-daemon")
        try:
            result = rootwrap.call(asked)
        except BatchFailed as error:
            say(error.result)
            raise
        if not asked.dry_run:
            say(result)
        return result

    @property
    def hooks(self) -> "Hooks":
        from ibhostdev.privilege import hooks

        return hooks.of(self.host, self.locks)

    @property
    def locks(self) -> str:
        if self.run_dir is not None:
            return self.run_dir
        if self.host is not None:
            return os.path.join(self.host, "run")
        return _RUN_DIR


def _settle(
    context: click.Context, parameter: click.Parameter, value: Any
) -> None:
    """Keep what was given; the later place on the command line wins."""
    settings = context.ensure_object(Settings)
    if value is None:
        return
    if parameter.name == "run_dir" and not value:
        raise InvalidInput(
            "no folder for the locks is named",
            attribute="--run-dir",
            cure=f"name it, or leave it out for {_RUN_DIR}",
        )
    if parameter.name == "physical_device_mappings":
        value = parse_mappings([value])
    assert parameter.name is not None
    setattr(settings, parameter.name, value)


def _log(context: click.Context, _: click.Parameter, verbose: bool) -> None:
    """The package's log goes to standard error if that is asked for. Its
    warnings are in the results too, so they are told anyway."""
    log.quiet = True
    if verbose and not context.resilient_parsing:  # for completion
        import logging

        logging.basicConfig(format="%(name)s: %(message)s")
        logging.getLogger("ibhostdev").setLevel(logging.DEBUG)


def show_version(
    context: click.Context, _: click.Parameter, asked: bool
) -> None:
    if not asked or context.resilient_parsing:
        return
    from importlib import metadata

    try:
        version = metadata.version("ibhostdev")
    except metadata.PackageNotFoundError:
        version = "(not installed)"
    terminal.write(f"ibhostdev {version}\n")
    context.exit()


def _together(*options: Callable[[_F], _F]) -> Callable[[_F], _F]:
    """Options as one, in the order in which --help is to have them."""

    def decorate(function: _F) -> _F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


class _Host(click.Option):
    """Set but empty is given, too: an empty IBHOSTDEV_HOST is a slip of the
    pen, and does not mean this machine."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        given = super().resolve_envvar_value(ctx)
        if given is None and isinstance(self.envvar, str):
            return os.environ.get(self.envvar)
        return given


def everywhere(first: bool) -> Callable[[_F], _F]:
    """The options of every command. They are taken before and behind its
    name; the environment counts as the first place."""

    def option(*names: str, variable: str = "", **how: Any) -> Any:
        if variable and first:
            how |= {"envvar": variable, "show_envvar": True}
        how.setdefault("callback", _settle)
        return click.option(*names, expose_value=False, **how)

    return _together(
        option(
            "--host",
            cls=_Host,
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
            help="Say on standard error what is done, and what was written "
            "to which VF.",
        ),
    )


HOST_YAML = "/etc/ibhostdev/host.yaml"

host_yaml = click.option(
    "--host-yaml",
    metavar="FILE",
    help="A host.yaml with P_Keys for VIFs that name none.  [default: "
    f"{HOST_YAML}, if it is there]",
)


connect = click.option(
    "--connect",
    "uri",
    metavar="URI",
    help="The libvirt to ask what its domains have; none: not to ask any.  "
    "[default: the local one, if it is there]",
)


json = click.option(
    "--json", "as_json", is_flag=True, help="Write JSON, for programs."
)


privilege = click.option(
    "--privilege",
    type=click.Choice(["none", "rootwrap", "rootwrap-daemon"]),
    envvar="IBHOSTDEV_PRIVILEGE",
    show_envvar=True,
    expose_value=False,
    callback=_settle,
    help="How to get the rights: none but those of this process, or "
    "by oslo.rootwrap under sudo.  [default: none]",
)


batch = _together(
    click.option(
        "--file",
        metavar="FILE",
        help="YAML or JSON list of entries with pci, mac or guid (or "
        "node_guid and port_guid), physical_network, pkey, or what 'list "
        "--json' has written; - for standard input.",
    ),
    click.option(
        "--physical-network",
        metavar="NAME",
        help="The physical network of VIFs that name none.",
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
    privilege,
    click.option(
        "--dry-run",
        is_flag=True,
        help="Show what would be written, write nothing.",
    ),
    json,
    everywhere(first=False),
)
"""What plug and unplug share."""


guests = _together(
    click.option(
        "--file",
        metavar="FILE",
        help="YAML or JSON list of entries with domain, pci, mac or guid (or "
        "node_guid and port_guid), physical_network, pkey; - for standard "
        "input.",
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
    json,
    everywhere(first=False),
)
"""What attach and detach share."""
