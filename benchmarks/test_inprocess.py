# SPDX-License-Identifier: Apache-2.0
"""Calls in one process, on a simulated host: for pytest-benchmark."""

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.host import simulated
from ibhostdev import Host, Vif, simulate

VFS = 64


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with simulated(1, VFS) as folder:
        yield simulate.connect(folder)


def _vifs(host: Host, count: int, number: int) -> list[Vif]:
    (pf,) = host.pfs
    return [
        Vif.parse(pf.vf_address(n), f"fa:16:3e:{number:02x}:00:{n:02x}")
        for n in range(count)
    ]


@pytest.mark.parametrize("count", [1, 8, 64])
def test_plug(benchmark: Any, host: Host, count: int) -> None:
    numbers = iter(range(1, 1 << 30))

    def fresh() -> tuple[tuple[list[Vif]], dict[str, Any]]:
        """Another identity each time, so that there is always to write."""
        return (_vifs(host, count, next(numbers) % 256),), {}

    result = benchmark.pedantic(host.plug, setup=fresh, rounds=30)
    assert result.ok


@pytest.mark.parametrize("count", [1, 8, 64])
def test_plug_repeated(benchmark: Any, host: Host, count: int) -> None:
    vifs = _vifs(host, count, 0)
    host.plug(vifs)
    result = benchmark(host.plug, vifs)
    assert not any(one.changed for one in result.results)


def test_list(benchmark: Any, host: Host) -> None:
    from ibhostdev.host.views import views

    (view,) = benchmark(views, host)
    assert len(view.vfs) == VFS
