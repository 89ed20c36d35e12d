# SPDX-License-Identifier: Apache-2.0
"""The simulated host behaves as kernel and drivers do: hosts for these
tests."""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from ibhostdev.simulate.model import HcaSpec
from tests.simulated.served.bed import Bed
from tests.simulated.testbed import MEMORY


@pytest.fixture
def scratch() -> Iterator[Path]:
    with TemporaryDirectory(dir=MEMORY, prefix="ibhostdev-") as folder:
        yield Path(folder)


@pytest.fixture
def make(scratch: Path) -> Iterator[Callable[..., Bed]]:
    beds: list[Bed] = []

    def build(family: str = "mlx5", vfs: int = 4, **more: Any) -> Bed:
        count, iommu = more.pop("pfs", 1), more.pop("iommu", True)
        spec = HcaSpec(family, vfs, **more)
        folder = scratch / f"host{len(beds)}"
        beds.append(Bed(folder, *[spec] * count, iommu=iommu))
        return beds[-1]

    yield build
    for bed in beds:
        bed.host.close()


@pytest.fixture
def bed(make: Callable[..., Bed]) -> Bed:
    return make()


@pytest.fixture
def ofed(make: Callable[..., Bed]) -> Bed:
    return make("mlx5-ofed")


@pytest.fixture
def mlx4(make: Callable[..., Bed]) -> Bed:
    return make("mlx4")
