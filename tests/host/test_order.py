# SPDX-License-Identifier: Apache-2.0
"""In which order a VF's identity is written: it is never up with one that is
only half its own."""

import errno

import pytest

from ibhostdev import BatchFailed
from ibhostdev.errors import CommandFailed
from tests.flavours import ONES, guid, vifs
from tests.testbed import Seen

MLX5 = ["netlink", "ofed", "files"]


@pytest.mark.parametrize("flavour", MLX5, indirect=True)
@pytest.mark.parametrize(
    ("first", "left"),
    [
        (1, Seen(guid(1), guid(1), "follow")),
        (2, Seen(guid(1), guid(1), "down")),
        (3, Seen(ONES, guid(1), "down")),
    ],
)
def test_an_unplug_begins_with_the_link(bed, flavour, first, left):
    host = bed.connect()
    host.plug(vifs(bed, 1, 2))
    bed.fail(bed.vf(0, 0), errno.EIO, first)
    with pytest.raises(BatchFailed) as caught:
        host.unplug(vifs(bed, 1, 2), on_error="continue")
    bed.heal()
    assert bed.seen(0)[:2] == [left, Seen(ONES, ONES, "down")]
    failed, done = caught.value.result.results
    assert isinstance(failed.error, CommandFailed)
    assert failed.error.device == bed.vf(0, 0)
    assert failed.error.errno == errno.EIO
    assert done.error is None
    host.unplug(vifs(bed, 1))
    assert bed.seen(0)[0] == Seen(ONES, ONES, "down")


@pytest.mark.parametrize("flavour", MLX5, indirect=True)
@pytest.mark.parametrize(
    ("first", "left"),
    [
        (1, Seen(ONES, ONES, "down")),
        (2, Seen(guid(1), ONES, "down")),
        (3, Seen(guid(1), guid(1), "down")),
    ],
)
def test_a_plug_ends_with_the_link(bed, flavour, first, left):
    bed.seed(0, 0, ONES, ONES, "down")
    bed.fail(bed.vf(0, 0), errno.EIO, first)
    host = bed.connect()
    with pytest.raises(BatchFailed) as caught:
        host.plug(vifs(bed, 1, 2), on_error="continue")
    bed.heal()
    assert bed.seen(0)[:2] == [left, flavour.seen(guid(2))]
    failed, done = caught.value.result.results
    assert isinstance(failed.error, CommandFailed)
    assert failed.error.device == bed.vf(0, 0)
    assert done.error is None
    host.plug(vifs(bed, 1))
    assert bed.seen(0)[0] == flavour.seen(guid(1))


@pytest.mark.parametrize("flavour", MLX5, indirect=True)
@pytest.mark.parametrize(
    ("first", "words"),
    [(1, ("NODE", "node")), (2, ("PORT", "port")), (3, ("LINK", "policy"))],
)
def test_what_failed_is_named(bed, flavour, first, words):
    """And nothing that had gone well."""
    bed.seed(0, 0, ONES, ONES, "down")
    bed.fail(bed.vf(0, 0), errno.EIO, first)
    with pytest.raises(BatchFailed) as caught:
        bed.connect().plug(vifs(bed, 1), on_error="continue")
    files = flavour.mechanism == "mlx5_sysfs"
    attribute = caught.value.attribute
    if files:
        assert attribute.endswith(f"/sriov/0/{words[1]}")
    else:
        # The message is written again one by one, when all of it fails.
        assert "IFLA_VF" in attribute
        assert "of VF 0 on" in attribute
    assert caught.value.cure


@pytest.mark.parametrize("flavour", MLX5, indirect=True)
def test_the_policy_down_comes_first_in_a_plug_too(bed, flavour):
    bed.seed(0, 0, ONES, ONES, "up")
    bed.fail(bed.vf(0, 0), errno.EIO, 2)
    with pytest.raises(BatchFailed):
        bed.connect().plug(vifs(bed, 1), policy="down", on_error="continue")
    bed.heal()
    assert bed.seen(0)[0] == Seen(ONES, ONES, "down")
