# SPDX-License-Identifier: Apache-2.0
"""VFs are made and unmade."""

import errno

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
