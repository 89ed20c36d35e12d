# SPDX-License-Identifier: Apache-2.0
"""The lower parts of the engine, each tested by a program in tests/engine/
that is built to end at the first misuse of memory."""

import os
import re
import shlex
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.engine.programs import PARTS

ENGINE = Path("ibhostdev/_native/engine")
PROGRAMS = Path("tests/engine")

# Where memory is to be short, as a test wants it, no sanitizer can run.
UNCHECKED = {"parallel"}


def cases():
    for name in PARTS:
        text = (PROGRAMS / f"test_{name}.c").read_text()
        for test in re.findall(r"^TEST\((\w+)\)$", text, re.MULTILINE):
            yield pytest.param(name, test, id=f"{name}-{test}")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    built = {}
    folder = tmp_path_factory.mktemp("engine")
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC")
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

    def build(name):
        if name not in built:
            built[name] = folder / name
            subprocess.run(
                [
                    *shlex.split(compiler),
                    *("-std=gnu11", "-g", "-O1", "-Wall", "-Wextra"),
                    *("-Werror", "-Iinclude", f"-I{ENGINE}", "-pthread"),
                    *([] if name in UNCHECKED else sanitizers),
                    *("-o", built[name], PROGRAMS / f"test_{name}.c"),
                    *(ENGINE / f"{file}.c" for file in PARTS[name]),
                ],
                check=True,
            )
        return built[name]

    return build


@pytest.mark.parametrize(("name", "test"), list(cases()))
def test_a_part(program, name, test, tmp_path):
    done = subprocess.run(
        [program(name), test],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
