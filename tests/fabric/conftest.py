# SPDX-License-Identifier: Apache-2.0
"""Witnesses of the fabric's side: programs of Debian's, nobody's here.

./dev fabric-test installs them. Elsewhere, what lacks one is skipped.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from tests.testbed import Hca, Testbed

SECONDS = 600.0
Run = Callable[..., subprocess.CompletedProcess[str]]


def program(name: str) -> str:
    """Its path."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        if os.environ.get("IBHOSTDEV_WITNESSES"):
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed: see ./dev fabric-test")
    return found


def until(what: Callable[[], object]) -> None:
    """Wait for something to be true."""
    end = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.02)


def free_port() -> int:
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def host(bed: Testbed) -> Testbed:
    """Two mlx5 HCAs with 4 fresh VFs each."""
    bed.build(Hca(vfs=4), Hca(vfs=4))
    return bed


# A hook's time is not for a machine that others keep busy.
_PATIENT = f"""
import runpy
from ibhostdev.privilege.hooks import FOLDER, Hooks
Hooks.__init__.__defaults__ = (FOLDER, None, {SECONDS})
runpy.run_module("ibhostdev", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def shell(bed: Testbed) -> Run:
    """Runs the command, on the bed."""

    def shell(*arguments: str, **how: Any) -> subprocess.CompletedProcess[str]:
        python, _, _, *of_bed = bed.command
        return subprocess.run(
            [python, "-c", _PATIENT, *of_bed, *arguments],
            capture_output=True,
            encoding="utf-8",
            timeout=3 * SECONDS,
            check=False,
            **how,
        )

    return shell


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts programs that run until the test is over."""
    with ExitStack() as stack:

        def start(*arguments: str, **how: Any) -> subprocess.Popen[bytes]:
            process: subprocess.Popen[bytes]
            process = subprocess.Popen(arguments, **how)

            def end() -> None:
                process.kill()
                process.wait()

            stack.callback(end)
            return process

        yield start
