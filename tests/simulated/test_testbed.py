# SPDX-License-Identifier: Apache-2.0
"""The testbed shows what was done, whoever did it."""

import errno
from collections.abc import Iterator

import pytest

from tests.simulated.testbed import SimulatedTestbed
from tests.testbed import Counts, Hca, Seen
from tests.testbed import Testbed as Bed  # pytest collects Test…

GUID = "fa:16:3e:00:00:0a:0b:0c"
ZERO = "00:00:00:00:00:00:00:00"


@pytest.fixture
def bed() -> Iterator[Bed]:
    bed = SimulatedTestbed()
    yield bed
    bed.close()


def test_fresh_hosts_follow_one_another(bed: Bed) -> None:
    bed.build(Hca("mlx5", vfs=2), Hca("mlx4", vfs=3, ports=2))
    assert bed.pfs == ["0000:3b:00.0", "0000:5e:00.0"]
    assert bed.vf(1, 2) == "0000:5e:00.3"
    assert bed.seen(0) == [Seen(ZERO, ZERO, "down")] * 2
    assert bed.seen(1) == [Seen(None, ZERO, None)] * 3
    assert len(bed.connect().pfs) == 2
    bed.build(Hca("mlx5-ofed", vfs=1, netdev=False))
    assert bed.pfs == ["0000:3b:00.0"]
    assert bed.seen(0) == [Seen(ZERO, ZERO, "down")]
    assert bed.counts() == Counts(0, 0, 0, 0)


@pytest.mark.parametrize(
    "hca", [Hca("mlx5"), Hca("mlx5-ofed"), Hca("mlx5-ofed", netdev=False)]
)
def test_what_is_seeded_is_seen(bed: Bed, hca: Hca) -> None:
    bed.build(hca)
    bed.seed(0, 1, node=GUID, policy="follow")
    assert bed.seen(0)[:3] == [
        Seen(ZERO, ZERO, "down"),
        Seen(GUID, ZERO, "follow"),
        Seen(ZERO, ZERO, "down"),
    ]
    assert bed.counts() == Counts(0, 0, 0, 0)
    vf = bed.vf(0, 1)
    assert bed.identity(vf) == ZERO
    bed.bind(vf, None)
    assert bed.identity(vf) is None
    bed.bind(vf, "mlx5_core")
    assert bed.identity(vf) == GUID
    bed.numvfs(0, 0)
    assert bed.seen(0) == []
    bed.numvfs(0, 2)
    assert bed.seen(0)[1] == Seen(GUID, ZERO, "follow")


def test_what_no_witness_can_tell(bed: Bed) -> None:
    bed.build(Hca("mlx5", vfs=2), Hca("mlx5", vfs=1, netdev=False))
    bed.fail_queries(bed.vf(0, 1), errno.EIO)
    nothing = Seen(None, None, None)
    assert bed.seen(0) == [Seen(ZERO, ZERO, "down"), nothing]
    assert bed.seen(1) == [nothing]
    bed.heal()
    assert bed.seen(0)[1] == Seen(ZERO, ZERO, "down")


def test_a_held_vf_is_in_use(bed: Bed) -> None:
    bed.build(Hca("mlx4"))
    vf = bed.vf(0, 3)
    with bed.hold(vf):
        assert bed.driver(vf) == "vfio-pci"
        assert bed.identity(vf) is None
        assert bed.connect().vf(vf).in_use
    assert bed.driver(vf) == "mlx4_core"
    assert not bed.connect().vf(vf).in_use
