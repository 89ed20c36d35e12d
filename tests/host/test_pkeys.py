# SPDX-License-Identifier: Apache-2.0
"""A VIF that says which partition it is to be in."""

import pytest

from ibhostdev import PKey
from ibhostdev.errors import InvalidInput
from tests.flavours import vifs
from tests.testbed import Hca

PKEY = PKey.parse("0x8001")


def test_on_mlx5_it_changes_nothing_that_is_written(flavour, bed):
    """The subnet manager gives it; on mlx4 nobody does so far."""
    host = bed.connect()
    batch = [vif._replace(pkey=PKEY) for vif in vifs(bed, 1, 2)]
    before = bed.seen(0)
    bed.reset_counts()
    if flavour.mlx4:
        with pytest.raises(InvalidInput, match="0x8001") as caught:
            host.plug(batch)
        assert caught.value.device == bed.vf(0, 0)
        assert bed.counts().modify == 0
        assert bed.seen(0) == before
        return
    assert all(one.verified for one in host.plug(batch).results)
    counts = bed.counts()
    assert counts.modify == 2 * flavour.commands
    assert counts.getlink <= flavour.getlinks(2)
    bed.reset_counts()
    host.plug(vifs(bed, 1, 2))
    assert bed.counts().modify == 0
    host.unplug(batch)
    assert bed.seen(0)[:2] == [flavour.idle] * 2


def test_one_on_mlx4_is_enough_for_none(bed):
    bed.build(Hca("mlx5", vfs=1), Hca("mlx4", vfs=1))
    (first,), (second,) = vifs(bed, 1), vifs(bed, 2, pf=1)
    with pytest.raises(InvalidInput, match="mlx4"):
        bed.connect().plug([first, second._replace(pkey=PKEY)])
    assert bed.seen(0)[0].policy == "down"
    # What is plugged there without one can be unplugged with one.
    host = bed.connect()
    host.plug([second])
    (result,) = host.unplug([second._replace(pkey=PKEY)]).results
    assert result.changed
