# SPDX-License-Identifier: Apache-2.0
"""Tests of the rig run inside it: ``tests/kernel/run``."""

import os
from pathlib import Path


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """On any other machine there is nothing here to collect."""
    if collection_path.name.startswith("test_"):
        return "IBHOSTDEV_RIG_MODULE" not in os.environ or None
    return None
