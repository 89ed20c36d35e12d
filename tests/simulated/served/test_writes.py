# SPDX-License-Identifier: Apache-2.0
"""Batches of writes."""

import errno

import pytest

from tests.simulated.served.bed import PF, TEXT, Bed


def test_a_batch_of_writes_goes_on_or_stops(ofed: Bed) -> None:
    base = f"bus/pci/devices/{PF}"
    items = [
        (f"{base}/sriov/0/node", TEXT.encode()),
        (f"{base}/sriov/7/node", TEXT.encode()),
        (f"{base}/sriov_totalvfs", b"9"),
        ("class/infiniband/mlx5_0/device/sriov/1/node", TEXT.encode()),
    ]
    expected = [0, errno.ENOENT, errno.EACCES, 0]
    assert ofed.tree.write(items) == expected
    assert ofed.tree.write(items, stop=True) == [0, errno.ENOENT, -1, -1]
    assert ofed.tree.write([]) == []
    assert ofed.read(PF, "sriov/1/node") == TEXT


@pytest.mark.parametrize(
    "path", ["../host.json", "/etc/passwd", "bus/../../run", "nothing"]
)
def test_nothing_outside_the_tree_is_written(bed: Bed, path: str) -> None:
    assert bed.write(path, "x") == errno.ENOENT
