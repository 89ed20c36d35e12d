# SPDX-License-Identifier: Apache-2.0
"""The stand-in for the vendor's ``ebrctl``: a native program in ``bin/``.

It is not in PATH by itself, for the vendor's may be. With the folder that
``ibhostdev-ebrctl-path`` prints put first in the PATH of nova-compute's
privileged daemon, it serves a Nova that nobody has touched::

    PATH=$(ibhostdev-ebrctl-path):$PATH
"""

import os

PROGRAM = os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "bin/ebrctl"
)

# What ebrctl.c answers to --version.
_MARK = b"ibhostdev's stand-in for ebrctl"


def is_ours(path: str) -> bool:
    """Whether a program is the stand-in, wherever it was copied or linked
    to: what is ours must not be taken for the vendor's.

    :raises OSError: if it cannot be read
    """
    with open(path, "rb") as program:
        return _MARK in program.read()


def main() -> None:
    """Print the folder to put first in PATH."""
    print(os.path.dirname(PROGRAM))
