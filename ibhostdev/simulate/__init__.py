# SPDX-License-Identifier: Apache-2.0
"""A host with InfiniBand adapters in a folder: no root, no hardware.

``serve`` lays out and serves one until it is told to stop, ``connect`` gives
the Host that works on it. Tests and programs that want to make bad things
happen to it use ``ibhostdev.simulate.server.SimulatedHost``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ibhostdev.host import Host
    from ibhostdev.simulate.server import SimulatedHost

__all__ = ["connect", "serve"]


def connect(folder: str | os.PathLike[str], **options: Any) -> Host:
    """The host that is served in a folder; ``options`` are those of Host.

    Raises InvalidInput if the folder is none, AccessDenied if it is somebody
    else's, NotRunning if nobody serves it (any more).
    """
    from pathlib import Path

    from ibhostdev.errors import InvalidInput
    from ibhostdev.host import Endpoint, Host
    from ibhostdev.simulate import netlink, tree
    from ibhostdev.simulate.state import read_state

    if not os.fspath(folder):  # not the one that we happen to be in
        raise InvalidInput(
            "no folder of a simulated host is named",
            attribute="IBHOSTDEV_HOST or --host",
            cure="name it, or leave it out for this machine",
        )
    root = Path(os.path.realpath(folder))
    state = read_state(root)
    if not tree.serves(state["sysfs_port"], root):
        raise tree.not_running(str(root))
    options.setdefault("physical_networks", state["physical_networks"])
    # The machine's own is about the machine's own VFs.
    options.setdefault("ebrctl", None)
    options.setdefault("run_dir", str(root / "run"))
    return Host(
        sysfs=tree.SimulatedTree(root / "sys", state["sysfs_port"]),
        netlink=Endpoint(netlink.USERSOCK, state["netlink_port"]),
        **options,
    )


def require_extra() -> None:
    """
    :raises CommandFailed: if what serving takes is not installed
    """
    from importlib.util import find_spec

    from ibhostdev.errors import CommandFailed

    if find_spec("inotify_simple") is None:
        raise CommandFailed(
            "cannot be served without inotify_simple",
            "a simulated host",
            cure="install the package with its extra 'simulate'",
        )


def serve(
    folder: str | os.PathLike[str],
    pfs: int = 2,
    vfs: int = 16,
    family: str = "mlx5",
    ports: int = 1,
    netdev: bool = True,
    iommu: bool = True,
    total_vfs: int | None = None,
    serial: int = 0,
    ready: Callable[[SimulatedHost], None] | None = None,
) -> None:
    """Serve a host of ``pfs`` equal adapters until SIGINT or SIGTERM. Each
    boots with ``vfs`` VFs, and can have ``total_vfs``; None: no more. Hosts
    of one fabric want different ``serial`` numbers, which GUIDs are made of.

    Call it from the main thread; ``ready`` is called when the host can be
    used. The folder stays when it ends. Raises InvalidInput for a folder
    with something else in it, or that is being served; CommandFailed where
    the package's extra ``simulate`` is not installed.
    """
    require_extra()
    from ibhostdev.errors import InvalidInput
    from ibhostdev.simulate.model import HcaSpec
    from ibhostdev.simulate.server import SimulatedHost

    if not os.fspath(folder):  # not the one that we happen to be in
        raise InvalidInput(
            "no folder is named",
            attribute="simulate",
            cure="name a new one for the simulated host",
        )
    try:
        specs = [
            HcaSpec(family, vfs, ports, netdev, total_vfs, serial)
            for _ in range(pfs)
        ]
    except ValueError as error:
        raise InvalidInput(
            str(error),
            attribute="simulate",
            cure="see 'ibhostdev simulate --help'",
        ) from None
    # Blocked before the first thread starts, so that none of them is hit
    stops = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    try:
        with SimulatedHost(folder, specs, iommu) as host:
            if ready:
                ready(host)
            signal.sigwait(stops)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
