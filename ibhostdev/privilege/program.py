# SPDX-License-Identifier: Apache-2.0
"""The programs ``ibhostdev-rootwrap`` and ``ibhostdev-rootwrap-daemon``:
oslo.rootwrap's own, under names by which sudoers lets nothing else be run.
The scripts are always there, oslo.rootwrap is not."""

import os
import sys

from ibhostdev.errors import CommandFailed


def not_installed(told: str, program: str) -> CommandFailed:
    """What is to be said where oslo.rootwrap or oslo.config is missing;
    ``told`` is Python's word for it."""
    return CommandFailed(
        f"cannot be used ({told})",
        "oslo.rootwrap",
        cure=f"where {program} is, install the package with its extra "
        "'rootwrap'; on Debian python3-oslo.rootwrap and "
        "python3-oslo.config",
    )


def rootwrap(daemon: bool = False) -> None:
    """Run what the filters let be run. Ends with 1 without oslo.rootwrap,
    else with a code of oslo.rootwrap's or of what it has run."""
    try:
        from oslo_rootwrap import cmd
    except ImportError as error:
        name = os.path.basename(sys.argv[0])
        sys.exit(f"{name}: {not_installed(str(error), sys.argv[0])}")
    cmd.main(run_daemon=daemon)


def rootwrap_daemon() -> None:
    """The same, for one program after another, until nobody asks."""
    rootwrap(daemon=True)
