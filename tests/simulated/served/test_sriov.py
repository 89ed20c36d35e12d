# SPDX-License-Identifier: Apache-2.0
"""VFs are made and unmade."""

import errno
from collections.abc import Callable

import pytest

from ibhostdev.simulate.model import HcaSpec
from tests.simulated.served.bed import (
    GUID,
    NODE,
    PF,
    TEXT,
    VF0,
    ZERO,
    Bed,
    guid,
    info,
    refused,
    state,
    virtfns,
)


def test_numvfs_errors(bed: Bed) -> None:
    for text, code in (
        ("2", errno.EBUSY),
        ("5", errno.ERANGE),
        ("65536", errno.EINVAL),
        ("-1", errno.EINVAL),
        ("many", errno.EINVAL),
        ("", errno.EINVAL),
        ("4\n", 0),
        ("0x4", 0),
        ("04", 0),
    ):
        assert bed.set(PF, "sriov_numvfs", text) == code
    assert bed.read(PF, "sriov_numvfs") == "4"
    assert bed.host.counts().probe == 0


def test_numvfs_and_back_restores_what_is_not_zero(ofed: Bed) -> None:
    assert ofed.set_vfs(info(guid(NODE, 0, GUID)), info(state(0, 0))) == 0
    assert ofed.set(PF, "sriov/1/port", TEXT) == 0
    assert ofed.set(PF, "sriov_numvfs", "0") == 0
    assert ofed.read(PF, "sriov_numvfs") == "0"
    assert virtfns(ofed) == []
    assert not ofed.pci(VF0, "").exists()
    assert not ofed.pci(PF, "sriov/0").exists()
    assert ofed.link().get_attr("IFLA_NUM_VF") == 0
    ofed.host.reset_counts()
    assert ofed.set(PF, "sriov_numvfs", "3") == 0
    assert len(virtfns(ofed)) == 3
    assert ofed.host.counts() == (3, 0, 0, 3)
    assert ofed.vfs()[0] == (GUID, 0, 0)
    assert ofed.read(PF, "sriov/1/port") == TEXT
    assert ofed.identity(VF0) == "fa16:3e00:000a:0b0c"


def test_a_failing_restore_does_not_keep_the_vfs_away(bed: Bed) -> None:
    assert bed.set_vfs(info(guid(NODE, 0, GUID))) == 0
    assert bed.set(PF, "sriov_numvfs", "0") == 0
    bed.host.fail(VF0, errno.EIO)
    assert bed.set(PF, "sriov_numvfs", "4") == 0
    assert bed.identity(VF0) == "0000:0000:0000:0000"
    assert bed.vfs()[0] == (GUID, 0, 2)  # the driver's memory, not firmware


def test_more_vfs_than_at_boot(make: Callable[..., Bed]) -> None:
    bed = make(vfs=0, total_vfs=6)
    assert bed.read(PF, "sriov_numvfs") == "0"
    assert bed.read(PF, "sriov_totalvfs") == "6"
    assert virtfns(bed) == []
    assert bed.set(PF, "sriov_numvfs", "7") == errno.ERANGE
    assert bed.set(PF, "sriov_numvfs", "6") == 0
    assert len(virtfns(bed)) == 6
    assert bed.set_vfs(info(guid(NODE, 5, GUID))) == 0
    assert bed.vfs()[5] == (GUID, 0, 2)


def test_vfs_that_cannot_be_made(make: Callable[..., Bed]) -> None:
    """What was made of them goes again, as in sriov_enable()."""
    bed = make(vfs=0, total_vfs=4)
    bed.host.fail_numvfs(PF, errno.ENOMEM, after=2)
    assert bed.set(PF, "sriov_numvfs", "4") == errno.ENOMEM
    assert virtfns(bed) == []
    assert bed.read(PF, "sriov_numvfs") == "0"
    assert bed.set(PF, "sriov_numvfs", "4") == 0
    assert len(virtfns(bed)) == 4


def test_making_a_vf_takes_time(
    make: Callable[..., Bed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They appear one after the other."""
    bed = make(vfs=0, total_vfs=3)
    bed.host.delay(birth=1.0)
    seen: list[int] = []
    monkeypatch.setattr(
        "ibhostdev.simulate.kernel.time.sleep",
        lambda seconds: seen.append(len(virtfns(bed))),
    )
    assert bed.set(PF, "sriov_numvfs", "3") == 0
    assert seen == [0, 1, 2]


@pytest.mark.parametrize(
    "spec", [{"vfs": 5, "total_vfs": 4}, {"vfs": 0, "total_vfs": 1025}]
)
def test_adapters_that_there_are_not(spec: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="an HCA"):
        HcaSpec(**spec)


def test_pf_unbind_loses_all(ofed: Bed) -> None:
    assert ofed.set_vfs(info(guid(NODE, 0, GUID))) == 0
    assert ofed.unbind(PF) == 0
    for gone in ("infiniband", "net", "sriov", "virtfn0"):
        assert not ofed.pci(PF, gone).exists()
    assert ofed.set(PF, "sriov_numvfs", "4") == errno.ENOENT
    with refused(errno.ENODEV):
        ofed.link()
    assert ofed.bind(PF) == 0
    assert ofed.read(PF, "sriov_numvfs") == "0"
    assert ofed.set(PF, "sriov_numvfs", "4") == 0
    assert ofed.vfs()[0] == (0, 0, 2)
    assert ofed.read(PF, "sriov/0/node") == ZERO
