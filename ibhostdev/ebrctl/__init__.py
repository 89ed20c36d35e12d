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


def main() -> None:
    """Print the folder to put first in PATH."""
    print(os.path.dirname(PROGRAM))
