# SPDX-License-Identifier: Apache-2.0
"""The lower parts of the engine, each tested by a program in tests/engine/
that is built to end at the first misuse of memory."""

import re
import subprocess

import pytest

from tests.engine.programs import CHECKED, FAST, HERE, PARTS, build

# Where memory is to be short, as a test wants it, no sanitizer can run.
UNCHECKED = {"parallel"}


def cases():
    for name in PARTS:
        text = (HERE / f"test_{name}.c").read_text()
        for test in re.findall(r"^TEST\((\w+)\)$", text, re.MULTILINE):
            yield pytest.param(name, test, id=f"{name}-{test}")


@pytest.mark.parametrize(("name", "test"), list(cases()))
def test_a_part(name, test, tmp_path):
    program = build(name, FAST if name in UNCHECKED else CHECKED)
    done = subprocess.run(
        [program.resolve(), test],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
