# SPDX-License-Identifier: Apache-2.0
"""The host that the common suite runs on: simulated, or in the kernel rig."""

import gc
import os
import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.flavours import FLAVOURS, Flavour
from tests.testbed import Hca, Testbed

# Where it is not installed there is none of its tests. How long an example
# takes says more of the machine than of the code.
with suppress(ImportError):
    from hypothesis import HealthCheck, settings

    settings.register_profile(
        "ours", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("ours")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden",
        action="store_true",
        help="make tests/cli/golden anew, of what commands print now",
    )


def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "large: builds PFs of 127 VFs, in the rig's large shape",
        "boot: on a host that systemd has booted, in the rig's shape boot",
    ):
        config.addinivalue_line("markers", line)
    # A shell starts what is to run behind it with Ctrl-C ignored, and nohup
    # with SIGHUP, which the programs under test would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


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


@pytest.fixture
def two(bed: Testbed) -> Testbed:
    """A host of two mlx5 HCAs with 2 VFs each."""
    bed.build(Hca("mlx5", vfs=2), Hca("mlx5", vfs=2))
    return bed


@pytest.fixture(params=list(FLAVOURS))
def flavour(request: pytest.FixtureRequest, bed: Testbed) -> Flavour:
    """A host with one HCA of each flavour in turn, 4 fresh VFs."""
    chosen = FLAVOURS[request.param]
    bed.build(chosen.hca)
    if chosen.dump:
        bed.underestimate()
    return chosen


def descriptors() -> set[tuple[str, str]]:
    """The process's open descriptors, with what they lead to."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # listdir's own
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return found


@pytest.fixture
def nothing_left_open() -> Iterator[None]:
    """The test opens nothing that outlives it. What others close meanwhile
    does not count: a thread of an earlier test may."""
    before = descriptors()
    yield
    gc.collect()
    assert descriptors() - before == set()
