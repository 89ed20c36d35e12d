# SPDX-License-Identifier: Apache-2.0
"""What ``import ibhostdev`` brings along, which everybody waits for."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import ibhostdev

_HEADER = Path(ibhostdev.__file__).with_name("_native") / "limited.h"


def test_nothing_is_imported_that_takes_long():
    heavy = {"asyncio", "dataclasses", "inspect", "json", "logging", "socket"}
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; before = set(sys.modules); import ibhostdev; "
            "print(*sorted(set(sys.modules) - before))",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert "ibhostdev.host" in said
    assert not heavy & set(said)


def test_code_objects_have_the_flags_that_python_has():
    """In the modules that are compiled by the limited API."""
    flags = re.findall(r"^#define (CO_\w+) (\w+)$", _HEADER.read_text(), re.M)
    assert len(flags) == 7
    for name, value in flags:
        assert getattr(inspect, name) == int(value, 16), name
