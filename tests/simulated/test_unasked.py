# SPDX-License-Identifier: Apache-2.0
"""A PF of whose VFs the kernel tells nothing at all, which no real one can be
made to do."""

import errno

import pytest

from ibhostdev import BatchFailed, Vif
from ibhostdev.errors import IbHostdevError
from tests.flavours import guid, mac, vifs
from tests.testbed import Hca, Seen


@pytest.fixture
def deaf(bed):
    """A host whose first PF does not answer by netlink, whose second has
    files."""
    bed.build(Hca("mlx5", vfs=2), Hca("mlx5-ofed", vfs=2, netdev=False))
    bed.host.deafen(bed.pfs[0], errno.EIO)
    return bed.connect(physical_networks={})


@pytest.mark.parametrize("on_error", ["rollback", "continue"])
@pytest.mark.parametrize("operation", ["plug", "unplug"])
def test_a_pf_of_the_batch_that_cannot_be_asked(
    bed, deaf, operation, on_error
):
    """It may hold one of the GUIDs, so nothing is written anywhere."""
    bed.seed(1, 0, guid(2), guid(2), "follow")
    before = bed.seen(0), bed.seen(1)
    bed.reset_counts()
    batch = [*vifs(bed, 1), *vifs(bed, 2, pf=1)]
    with pytest.raises(IbHostdevError) as caught:
        getattr(deaf, operation)(batch, on_error=on_error)
    assert not isinstance(caught.value, BatchFailed)
    assert caught.value.device == bed.pfs[0]
    assert caught.value.errno == errno.EIO
    assert "RTM_GETLINK" in str(caught.value)
    assert bed.counts().modify == 0
    assert (bed.seen(0), bed.seen(1)) == before


def test_a_pf_beside_the_batch_that_cannot_be_asked(bed, deaf):
    """A GUID may be held there: that is said, and keeps nobody."""
    result = deaf.plug(vifs(bed, 1, pf=1))
    assert bed.seen(1)[0] == Seen(guid(1), guid(1), "follow")
    (warning,) = result.warnings
    assert warning.startswith("not searched for the GUIDs: ")
    assert bed.pfs[0] in warning
    result = deaf.unplug([Vif.parse(None, mac(1)), Vif.parse(None, mac(2))])
    found, nowhere = result.results
    assert (found.pci, found.changed, found.verified) == (
        bed.vf(1, 0), True, True,
    )  # fmt: skip
    assert (nowhere.changed, nowhere.verified, nowhere.error) == (
        False, False, None,
    )  # fmt: skip
    (warning,) = result.warnings
    assert bed.pfs[0] in warning
