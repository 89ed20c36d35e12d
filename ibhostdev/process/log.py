# SPDX-License-Identifier: Apache-2.0
"""The package's log. Loading the standard library's takes longer than a plug,
so that only who has a line to write does it."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logging import Logger

quiet = False
"""Whether whoever runs the package tells its users all that is in the log."""


def logger(name: str) -> "Logger":
    import logging

    root = logging.getLogger("ibhostdev")
    if quiet and not root.handlers:
        root.addHandler(logging.NullHandler())
    return logging.getLogger(name)


def debugging(name: str) -> bool:
    """Whether anybody wants to see what is of no matter. Who has not loaded
    the standard library's log does not."""
    return "logging" in sys.modules and logger(name).isEnabledFor(10)
