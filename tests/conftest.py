# SPDX-License-Identifier: Apache-2.0
"""The host that the common suite runs on: simulated, or in the kernel rig."""

import os
from collections.abc import Iterator

import pytest

from tests.testbed import Testbed


@pytest.fixture(scope="session")
def _bed() -> Iterator[Testbed]:
    bed: Testbed
    if os.environ.get("IBHOSTDEV_TESTBED") == "kernel":
        from tests.kernel.testbed import KernelTestbed

        bed = KernelTestbed()
    else:
        from tests.simulated.testbed import SimulatedTestbed

        bed = SimulatedTestbed()
    yield bed
    bed.close()


@pytest.fixture
def bed(_bed: Testbed) -> Iterator[Testbed]:
    """A host; build() makes it anew."""
    yield _bed
    _bed.heal()
    _bed.delay()
