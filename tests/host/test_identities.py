# SPDX-License-Identifier: Apache-2.0
"""Which GUIDs a VF can have, and what is said of those that are odd."""

import pytest

from ibhostdev import Guid, Vif
from tests.flavours import guid, mac, vifs

# The lowest bit of the first octet makes a MAC a group's; a GUID has no such
# thing, and hosts are full of these.
GROUP = "11:22:33:44:77:66:77:90"


def odd(bed, index, text=GROUP):
    return Vif.parse(bed.vf(0, index), text)


def test_what_others_set_can_be_taken_off(bed, flavour):
    if flavour.mlx4:
        bed.seed(0, 1, port=GROUP)
    else:
        bed.seed(0, 1, node=GROUP, port=GROUP, policy="follow")
    result = bed.connect().unplug([odd(bed, 1)])
    assert result.ok
    assert result.results[0].changed
    assert bed.seen(0)[1] == flavour.idle


def test_a_guid_of_a_group_is_given_with_a_warning(bed, flavour):
    result = bed.connect().plug([odd(bed, 0)])
    assert bed.seen(0)[0] == flavour.seen(GROUP)
    assert [GROUP in one for one in result.warnings] == [True]
    assert bed.connect().plug([odd(bed, 0)]).warnings == ()


def test_that_an_identity_is_written_over_is_told(bed, flavour):
    host = bed.connect()
    host.plug(vifs(bed, 1, 2))
    result = host.plug([Vif.parse(bed.vf(0, 1), mac(3))])
    (warning,) = result.warnings
    for told in bed.vf(0, 1), guid(2), guid(3):
        assert told in warning
    assert [one.port for one in bed.seen(0)[:2]] == [guid(1), guid(3)]


@pytest.mark.parametrize("number", [0, 2**64 - 1])
def test_zero_and_all_ones_are_nobodys(bed, flavour, number):
    with pytest.raises(Exception, match="cannot identify a VF"):
        bed.connect().plug([Vif(bed.vf(0, 0), Guid(number))])
