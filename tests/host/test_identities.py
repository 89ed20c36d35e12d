# SPDX-License-Identifier: Apache-2.0
"""Which GUIDs a VF can have, and what is said of those that are odd."""

import pytest

from ibhostdev import BatchFailed, Guid, Vif
from ibhostdev.errors import GuidConflict
from tests.flavours import guid, mac, vifs
from tests.testbed import Hca

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


def own_guids(bed, pf=0):
    """A PF's, as the kernel shows them: of the node and of its ports."""
    folder = bed.sys / "bus/pci/devices" / bed.pfs[pf] / "infiniband"
    (device,) = folder.iterdir()
    files = [device / "node_guid", *sorted(device.glob("ports/*/gids/0"))]
    texts = [file.read_text().strip() for file in files]
    return [Guid.parse(text.replace(":", "")[-16:]) for text in texts]


@pytest.mark.parametrize("which", [0, 1], ids=["node", "port"])
def test_a_pf_keeps_its_guids_to_itself(bed, flavour, which):
    taken = own_guids(bed)[which]
    before = bed.seen(0)
    bed.reset_counts()
    with pytest.raises(BatchFailed) as caught:
        bed.connect().plug([*vifs(bed, 1), Vif(bed.vf(0, 1), taken)])
    error = caught.value.result.results[1].error
    assert isinstance(error, GuidConflict)
    assert bed.pfs[0] in str(error)
    assert str(taken) in str(error)
    assert bed.seen(0) == before
    assert bed.counts().modify == 0


def test_so_do_its_other_ports_and_other_pfs(bed):
    bed.build(Hca("mlx5", vfs=2), Hca("mlx4", vfs=2, ports=2))
    node, *ports = own_guids(bed, 1)
    assert len(ports) == 2
    host = bed.connect()
    for taken in (node, *ports):
        for pf in (0, 1):
            with pytest.raises(BatchFailed) as caught:
                host.plug([Vif(bed.vf(pf, 0), taken)])
            (error,) = caught.value.result.failures
            assert isinstance(error, GuidConflict)
            assert bed.pfs[1] in str(error)


def test_another_tenants_identity_is_none_of_an_unplugs_business(bed, flavour):
    bed.connect().plug(vifs(bed, 1))
    result = bed.connect().unplug([Vif.parse(bed.vf(0, 0), mac(9))])
    (one,) = result.results
    assert (one.error, one.changed, one.verified) == (None, False, True)
    assert (one.before, one.after) == (None, None)
    assert bed.seen(0)[0] == flavour.seen(guid(1))
