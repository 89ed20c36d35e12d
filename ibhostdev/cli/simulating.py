# SPDX-License-Identifier: Apache-2.0
"""``ibhostdev simulate``."""

import click

from ibhostdev.cli import options, terminal
from ibhostdev.cli.outcome import Exit
from ibhostdev.errors import CommandFailed, IbHostdevError
from ibhostdev.inventory import Family


@click.command()
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
@click.option(
    "--serial",
    type=click.IntRange(0, 0xFFFF),
    default=0,
    show_default=True,
    metavar="N",
    help="The PFs' GUIDs are made of it; give each host of a fabric its own.",
)
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
    serial: int,
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
            serial=serial,
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
