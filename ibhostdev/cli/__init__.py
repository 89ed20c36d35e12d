# SPDX-License-Identifier: Apache-2.0
"""The ``ibhostdev`` command: the package for people and shell scripts."""

from ibhostdev.cli.command import main

__all__ = ["main"]
