# SPDX-License-Identifier: Apache-2.0
"""host.json: how the processes of a simulated host find one another."""

import json
import os
import shlex
import stat
from pathlib import Path
from typing import Any

from ibhostdev.errors import AccessDenied, InvalidInput

_MAXIMUM = 1 << 20  # bytes; ebrctl/ebrctl.c has less
_PORTS = range(1 << 32)


def read_state(folder: Path) -> dict[str, Any]:
    """host.json.

    :raises InvalidInput: for a folder that is no simulated host
    :raises AccessDenied: for one that is somebody else's
    """
    if folder.is_dir():
        require_own(folder)
    try:
        state = json.loads(_read(folder / "host.json"))
        if _is_state(state):
            return dict(state)
    except (OSError, ValueError, RecursionError):
        pass
    what, makes = _what(folder)
    make = f"ibhostdev simulate {shlex.quote(str(folder))}"
    raise InvalidInput(
        what,
        device=str(folder),
        cure=f"make one: {make}"
        if makes
        else "name the folder of a simulated host, or one that is new or "
        "empty to 'ibhostdev simulate'",
    )


def require_own(folder: Path) -> None:
    """What is in it steers who works on it: to other processes, and to
    where locks are made.

    :raises AccessDenied: if it, or its folder of locks, is somebody else's,
        or that is elsewhere
    """
    locks = folder / "run"
    for path in (folder, locks):
        try:
            found = path.stat() if path is folder else path.lstat()
        except FileNotFoundError:
            continue
        # Root's is as good: it could do anything anyway.
        own = found.st_uid in (os.geteuid(), 0)
        if not own or not stat.S_ISDIR(found.st_mode):
            raise AccessDenied(
                "the simulated host is somebody else's"
                if path is folder
                else "is no folder of this simulated host's own",
                str(path),
                cure="make one of your own: ibhostdev simulate DIR",
            )


def _read(path: Path) -> bytes:
    """Of an ordinary file, so that nothing is waited for."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(file, "rb") as text:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise ValueError("no ordinary file")
        found = text.read(_MAXIMUM + 1)
    if len(found) > _MAXIMUM:
        raise ValueError("too long")
    return found


def _is_state(state: Any) -> bool:
    if type(state) is not dict or state.get("simulated_host") != 1:
        return False
    networks = state.get("physical_networks")
    return (
        all(
            type(state.get(key)) is int and state[key] in _PORTS
            for key in ("pid", "netlink_port", "sysfs_port")
        )
        and type(networks) is dict
        and all(
            type(devices) is list and all(type(one) is str for one in devices)
            for devices in networks.values()
        )
    )


def _what(folder: Path) -> tuple[str, bool]:
    """What is wrong with it, and whether a host can be made there."""
    try:
        if any(folder.iterdir()):
            return "not a simulated host, and not empty", False
        return "an empty folder, not a simulated host", True
    except FileNotFoundError:
        return "no such folder", True
    except OSError as error:
        return f"not a simulated host ({os.strerror(error.errno or 0)})", False
