# SPDX-License-Identifier: Apache-2.0
"""The stand-in, on whichever host the tests run."""

import os
import subprocess
from collections.abc import Callable

import pytest

from ibhostdev.ebrctl import PROGRAM
from tests.flavours import mac
from tests.testbed import Testbed

Run = Callable[..., subprocess.CompletedProcess[str]]
DEVICE_ID = "e0ad4f4c-2f8b-4a5e-9a3a-6f6d3a1f0b52"


def environment(bed: Testbed, **variables: str) -> dict[str, str]:
    kept = {n: v for n, v in os.environ.items() if "IBHOSTDEV" not in n}
    if bed.kind == "simulated":
        kept["IBHOSTDEV_HOST"] = bed.command[-1]
    return kept | variables


@pytest.fixture
def ebrctl(bed: Testbed) -> Run:
    def run(
        *arguments: str, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, *arguments],
            env=environment(bed, **variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def add_port(bed: Testbed, ebrctl: Run) -> Run:
    """The VF of an index gets the identity of a number."""

    def run(
        number: int,
        index: int,
        pf: int = 0,
        fabric: str = "default",
        **variables: str,
    ) -> subprocess.CompletedProcess[str]:
        return ebrctl(
            "add-port",
            mac(number),
            DEVICE_ID,
            fabric,
            "ib_hostdev",
            bed.vf(pf, index),
            **variables,
        )

    return run


@pytest.fixture
def del_port(ebrctl: Run) -> Run:
    def run(
        number: int, fabric: str = "default", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return ebrctl("del-port", fabric, mac(number), **variables)

    return run
