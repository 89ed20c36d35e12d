# SPDX-License-Identifier: Apache-2.0
"""A PF of whose VFs the kernel tells nothing at all, which no real one can be
made to do."""

import errno

import pytest

from ibhostdev import BatchFailed, Policy, Vif
from ibhostdev.doctor import examine
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


@pytest.fixture(params=["refused", "garbled"])
def unusable(bed, request):
    """A PF with MLNX_OFED and more VFs than the kernel's answer about them
    has room for, however it is asked."""
    if request.param == "refused":
        bed.build(Hca("mlx5-ofed", vfs=3))
        bed.host.deafen(bed.pfs[0], errno.EMSGSIZE)
        return "EMSGSIZE"
    bed.build(Hca("mlx5-ofed", vfs=278))
    return "EBADMSG"


def test_what_cannot_be_told_by_netlink_is_told_by_files(bed, unusable):
    """And written by netlink, where the Neutron agent may yet see it."""
    host = bed.connect()
    result = host.plug(vifs(bed, 1, 2))
    assert {one.mechanism for one in result.results} == {"mlx5_netlink"}
    assert all(one.verified for one in result.results)
    (warning,) = result.warnings
    assert "MLNX_OFED's files were read instead" in warning
    assert unusable in warning
    assert bed.pfs[0] in warning
    assert bed.seen(0)[:2] == [
        Seen(guid(n), guid(n), "follow") for n in (1, 2)
    ]
    bed.reset_counts()
    assert not any(one.changed for one in host.plug(vifs(bed, 1, 2)).results)
    assert bed.counts().modify == 0
    # a VF that the batch does not name gives the GUID up
    host.plug([Vif.parse(bed.vf(0, 2), mac(1))], policy=Policy.UP)
    assert bed.seen(0)[2] == Seen(guid(1), guid(1), "up")
    assert bed.seen(0)[0].policy == "down"
    assert host.unplug([Vif.parse(None, mac(1))]).results[0].verified
    assert bed.seen(0)[2].policy == "down"


def test_a_holder_that_files_told_of_gets_its_link_back(bed, unusable):
    host = bed.connect()
    host.plug(vifs(bed, 1), policy=Policy.UP)
    before = bed.seen(0)[0]
    bed.fail(bed.vf(0, 2), errno.EIO)
    with pytest.raises(BatchFailed):
        host.plug([Vif.parse(bed.vf(0, 2), mac(1))])
    assert bed.seen(0)[0] == before


def test_doctor_tells_that_files_are_read_instead(bed, unusable):
    host = bed.connect()
    (told,) = [
        one
        for one in examine(host, host.run_dir, simulated=True)
        if one.check == "large answers"
    ]
    assert (told.severity, told.device) == ("warning", bed.pfs[0])
    assert "MLNX_OFED's files are read instead" in told.message


def test_a_vf_that_netlink_leaves_out_is_told_of_by_its_files(bed):
    """Kernels of late tell of as many VFs as a message has room for, and
    leave out the others."""
    bed.build(Hca("mlx5-ofed", vfs=3))
    bed.seed(0, 2, guid(2), guid(2), "follow")
    bed.host.machine.failing_queries[bed.vf(0, 2)] = errno.EIO
    host = bed.connect()
    assert str(host.survey(host.pfs[0])[2].port_guid) == guid(2)
    (result,) = host.unplug([Vif.parse(None, mac(2))], dry_run=True).results
    assert (result.pci, result.changed) == (bed.vf(0, 2), True)
