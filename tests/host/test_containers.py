# SPDX-License-Identifier: Apache-2.0
"""VFs of containers: on the vendor's driver, with their network device in
another namespace. The sign is too weak to refuse a plug or an unplug for
it."""

import pytest

from ibhostdev import Vif
from tests.flavours import guid, mac, vifs
from tests.testbed import Hca


def told(result):
    """The VFs that may be a container's."""
    return [
        one.partition(" ")[0]
        for one in result.warnings
        if "may be a container's" in one
    ]


@pytest.fixture
def neighbours(bed):
    """A PF all of whose VFs have a network device, a GUID each."""
    bed.build(Hca("mlx5", vfs=3))
    with bed.vf_netdevs(0):
        assert told(bed.connect().plug(vifs(bed, 1, 2))) == []
        yield


def test_a_plug_that_changes_it_says_so(bed, neighbours):
    host = bed.connect()
    with bed.away(bed.vf(0, 0)):
        assert told(host.plug(vifs(bed, 1, 2))) == []
        assert told(host.plug(vifs(bed, 3, 4), dry_run=True)) == [bed.vf(0, 0)]
        result = host.plug(vifs(bed, 3, 4))
        assert told(result) == [bed.vf(0, 0)]
        assert [one.port for one in bed.seen(0)[:2]] == [guid(3), guid(4)]
    assert told(host.plug(vifs(bed, 1, 2))) == []


def test_one_that_loses_its_guid_to_another_is_told_of(bed, neighbours):
    with bed.away(bed.vf(0, 0)):
        result = bed.connect().plug([Vif.parse(bed.vf(0, 2), mac(1))])
        assert told(result) == [bed.vf(0, 0)]
        assert bed.seen(0)[2].port == guid(1)


def test_an_unplug_says_so_too(bed, neighbours):
    with bed.away(bed.vf(0, 1)):
        result = bed.connect().unplug(vifs(bed, 1, 2), rebind=False)
        assert told(result) == [bed.vf(0, 1)]


def test_on_another_driver_it_is_no_container_s(bed, neighbours):
    bed.bind(bed.vf(0, 0), None)
    assert told(bed.connect().plug(vifs(bed, 3, 4))) == []


def test_where_no_vf_has_a_network_device_nothing_tells(bed):
    """As without ib_ipoib."""
    bed.build(Hca("mlx5", vfs=2))
    assert bed.connect().plug(vifs(bed, 1, 2)).warnings == ()
