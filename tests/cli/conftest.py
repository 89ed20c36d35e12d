# SPDX-License-Identifier: Apache-2.0
"""The command, run as its users run it."""

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from ibhostdev.cli import main
from tests.testbed import Hca, Testbed


@dataclass(frozen=True)
class Done:
    """What a command has left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Done]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own host, whatever the user's environment says."""
    monkeypatch.delenv("IBHOSTDEV_HOST", raising=False)
    monkeypatch.delenv("IBHOSTDEV_PHYSICAL_DEVICE_MAPPINGS", raising=False)


@pytest.fixture
def host(bed: Testbed) -> Testbed:
    """Two mlx5 HCAs with 4 fresh VFs each."""
    bed.build(Hca(vfs=4), Hca(vfs=4))
    return bed


@pytest.fixture
def run(bed: Testbed, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process; its host is the bed's."""

    def run(*arguments: str) -> Done:
        code = main([*bed.command[3:], *arguments])
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return run


@pytest.fixture
def shell(bed: Testbed) -> Run:
    """Runs a command as a process of its own, with pipes for terminals."""

    def shell(
        *arguments: str, text: str = "", env: dict[str, str] | None = None
    ) -> Done:
        done = subprocess.run(
            [*bed.command, *arguments],
            input=text,
            env={**os.environ, **(env or {})},
            capture_output=True,
            encoding="utf-8",
            timeout=600,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return shell
