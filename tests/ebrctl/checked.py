# SPDX-License-Identifier: Apache-2.0
"""The stand-in, built to end at the first misuse of memory.

tests/kernel/run has it made before the rig boots, in which a compiler takes
minutes.
"""

from tests.engine.programs import CHECKED, build


def program() -> str:
    """Its path; from the root of the work tree."""
    return str(build("ebrctl", CHECKED).resolve())


if __name__ == "__main__":
    program()
