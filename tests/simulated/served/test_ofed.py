# SPDX-License-Identifier: Apache-2.0
"""MLNX_OFED's files."""

import errno

import pytest

from tests.simulated.served.bed import (
    GUID,
    NODE,
    OTHER,
    PF,
    TEXT,
    ZERO,
    Bed,
    guid,
    info,
)


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"{TEXT}\n",
        TEXT.upper(),
        "fa:16:3e:0:0:a:b:c",
        "fa: 16:3e:00: 00:0a:0b:0c and more",
    ],
)
def test_guid_forms_that_ofed_takes(ofed: Bed, text: str) -> None:
    assert ofed.set(PF, "sriov/2/port", text) == 0
    assert ofed.read(PF, "sriov/2/port") == TEXT


@pytest.mark.parametrize(
    "text",
    ["", "\n", TEXT[:-3], "0xfa163e00000a0b0c", "fa163e00000a0b0c", "fa:16"],
)
def test_guid_forms_that_ofed_refuses(ofed: Bed, text: str) -> None:
    assert ofed.set(PF, "sriov/2/node", text) == errno.EINVAL
    assert ofed.read(PF, "sriov/2/node") == ZERO


def test_policy_words(ofed: Bed) -> None:
    for word in ("Follow", "Up\n", "Down", "Follow\n"):
        assert ofed.set(PF, "sriov/0/policy", word) == 0
        assert ofed.read(PF, "sriov/0/policy") == word.strip()
    for word in ("follow", "UP", "Down ", "Auto", "Down\n\n", ""):
        assert ofed.set(PF, "sriov/0/policy", word) == errno.EINVAL
    assert ofed.vfs()[0] == (0, 0, 0)


def test_what_sysfs_set_netlink_reads_as_0(ofed: Bed) -> None:
    assert ofed.set(PF, "sriov/1/node", TEXT) == 0
    assert ofed.set(PF, "sriov/1/policy", "Up") == 0
    assert ofed.vfs()[1] == (0, 0, 1)
    assert ofed.set_vfs(info(guid(NODE, 1, OTHER))) == 0
    assert ofed.set(PF, "sriov/1/node", TEXT) == 0
    assert ofed.vfs()[1] == (GUID, 0, 1)


def test_reads_of_firmware_files_are_counted(ofed: Bed) -> None:
    for name in ("node", "port", "policy"):
        ofed.read(PF, f"sriov/1/{name}")
    assert ofed.host.counts() == (0, 3, 0, 0)
