# SPDX-License-Identifier: Apache-2.0
"""What netlink tells."""

import errno
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from tests.simulated.served.bed import (
    PF,
    TEXT,
    VF1,
    Bed,
    decode,
    getlink,
    refused,
    vfs_of,
)


@pytest.mark.parametrize("by", [{"index": 3}, {"index": 0, "name": "ib0"}])
def test_getlink_tells_of_the_vfs(bed: Bed, by: dict[str, Any]) -> None:
    link = bed.link(**by)
    assert link.get_attr("IFLA_IFNAME") == "ib0"
    assert link["index"] == 3
    assert link["ifi_type"] == 32
    assert link.get_attr("IFLA_PARENT_DEV_NAME") == PF
    assert link.get_attr("IFLA_NUM_VF") == 4
    address = bed.read(PF, "net/ib0/address")
    assert len(address.split(":")) == 20
    assert vfs_of(link) == dict.fromkeys(range(4), (0, 0, 2))


def test_getlink_takes_altnames_and_tells_them(bed: Bed) -> None:
    """One is given by udev, after the place of the device."""
    link = bed.link(index=0, name="ibp59s0", mask=0)
    assert link.get_attr("IFLA_IFNAME") == "ib0"
    altnames = link.get_attr("IFLA_PROP_LIST")
    assert altnames.get_attrs("IFLA_ALT_IFNAME") == ["ibp59s0"]
    assert bed.host.counts() == (0, 0, 0, 0)


def test_getlink_without_the_filter_has_no_vf_data(bed: Bed) -> None:
    link = bed.link(mask=0)
    assert link.get_attr("IFLA_NUM_VF") is None
    assert link.get_attr("IFLA_VFINFO_LIST") is None
    assert bed.host.counts() == (0, 0, 0, 0)


@pytest.mark.parametrize(("mask", "size"), [(9, 236), (1, 336)])
def test_a_vf_takes_as_much_room_as_in_the_kernel(
    bed: Bed, mask: int, size: int
) -> None:
    (full,) = bed.talk(getlink(3, mask))
    (bare,) = bed.talk(getlink(3, 0))
    assert len(full) - len(bare) == 4 * size + 4 + 8


def test_dump_has_all_links_in_parts(make: Callable[..., Bed]) -> None:
    bed = make(vfs=127, pfs=3)
    request = getlink(0, 9, flags=0x301)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 2) as sock:
        sock.bind((0, 0))
        sock.sendto(request, (bed.port, 0))
        first = sock.recv(1 << 18)
        assert len(first) <= 32768
    *links, done = bed.talk(request, answers=99)
    names = [decode(link).get_attr("IFLA_IFNAME") for link in links]
    assert names == ["lo", "ib0", "ib1", "ib2"]
    assert len(vfs_of(decode(links[2]))) == 127
    assert struct.unpack("=HHIIi", done[4:]) == (3, 2, 7, 0, 0)


def test_emsgsize_of_a_single_getlink_only(make: Callable[..., Bed]) -> None:
    bed = make(vfs=16)
    bed.host.emsgsize_from(16)
    with refused(errno.EMSGSIZE):
        bed.link()
    assert bed.link(mask=0).get_attr("IFLA_IFNAME") == "ib0"
    _, ib0, _ = bed.talk(getlink(0, 9, flags=0x301), answers=99)
    assert len(vfs_of(decode(ib0))) == 16


def test_a_vf_that_firmware_does_not_answer_for_is_left_out(
    ofed: Bed,
) -> None:
    ofed.host.fail_queries(VF1, errno.EIO)
    assert list(ofed.vfs()) == [0, 2, 3]
    with refused(errno.EIO):
        ofed.read(PF, "sriov/1/node")
    assert ofed.set(PF, "sriov/1/node", TEXT) == 0
    ofed.host.heal()
    assert list(ofed.vfs()) == [0, 1, 2, 3]
    assert ofed.read(PF, "sriov/1/node") == TEXT
