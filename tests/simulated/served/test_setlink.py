# SPDX-License-Identifier: Apache-2.0
"""What netlink sets."""

import errno
import os
import struct
from collections.abc import Callable

import pytest

from tests.simulated.served.bed import (
    GUID,
    NODE,
    OTHER,
    PF,
    PORT,
    TEXT,
    VF1,
    Bed,
    ack,
    guid,
    info,
    message,
    nla,
    refused,
    setlink,
    state,
    vfs_of,
)


@pytest.mark.parametrize("kind", [16, 19])
def test_setlink_sets_what_is_asked(ofed: Bed, kind: int) -> None:
    request = setlink(
        info(guid(NODE, 1, GUID)),
        info(guid(PORT, 1, OTHER)),
        info(state(1, 0)),
        info(state(2, 1)),
        kind=kind,
    )
    assert ack(ofed.talk(request)[0]) == 0
    nothing = (0, 0, 2)
    assert ofed.vfs() == {
        0: nothing,
        1: (GUID, OTHER, 0),
        2: (0, 0, 1),
        3: nothing,
    }
    assert ofed.read(PF, "sriov/1/node") == TEXT
    assert ofed.read(PF, "sriov/1/port") == "02:11:22:00:00:33:44:55"
    assert ofed.read(PF, "sriov/1/policy") == "Follow"
    assert ofed.read(PF, "sriov/2/policy") == "Up"
    assert ofed.host.counts().modify == 4


def test_port_guid_beside_a_node_guid_is_dropped_with_success(
    bed: Bed,
) -> None:
    both = info(guid(PORT, 0, GUID), guid(NODE, 0, GUID), state(0, 0))
    assert bed.set_vfs(both) == 0
    assert bed.vfs()[0] == (GUID, 0, 0)
    assert bed.set_vfs(info(guid(PORT, 0, OTHER), state(0, 1))) == 0
    assert bed.vfs()[0] == (GUID, OTHER, 1)


def test_first_error_ends_a_message_and_what_was_done_stays(
    bed: Bed,
) -> None:
    code = bed.set_vfs(
        info(guid(NODE, 0, GUID)),
        info(guid(NODE, 9, GUID)),
        info(guid(NODE, 1, GUID)),
    )
    assert code == errno.EINVAL
    assert [node for node, _, _ in bed.vfs().values()] == [GUID, 0, 0, 0]


def test_each_message_of_a_datagram_is_served_and_acknowledged(
    bed: Bed,
) -> None:
    answers = bed.talk(
        setlink(info(guid(NODE, 0, GUID)), seq=21)
        + setlink(info(guid(NODE, 9, GUID)), seq=22)
        + setlink(info(guid(NODE, 2, GUID)), seq=23),
        answers=3,
    )
    assert [ack(answer) for answer in answers] == [0, errno.EINVAL, 0]
    sequences = [struct.unpack_from("=I", a, 8)[0] for a in answers]
    assert sequences == [21, 22, 23]
    assert [node for node, _, _ in bed.vfs().values()] == [GUID, 0, GUID, 0]


def test_only_errors_are_acknowledged_unasked(bed: Bed) -> None:
    answers = bed.talk(
        setlink(info(guid(NODE, 0, GUID)), flags=1, seq=1)
        + setlink(info(guid(NODE, 9, GUID)), flags=1, seq=2)
    )
    assert [ack(answer) for answer in answers] == [errno.EINVAL]
    assert bed.vfs()[0] == (GUID, 0, 2)


@pytest.mark.parametrize(
    ("nests", "index", "code"),
    [
        ([], 3, 0),
        ([info(guid(NODE, 0, GUID))], 99, errno.ENODEV),
        ([info(guid(NODE, 0, GUID))], 0, errno.EINVAL),
        ([info(guid(NODE, 0, GUID))], 1, errno.EOPNOTSUPP),
        ([info(guid(NODE, 1 << 31, GUID))], 3, errno.EINVAL),
        ([info(state(0, 3))], 3, errno.EINVAL),
        ([info()], 3, errno.EINVAL),
        ([nla(2, state(0, 1))], 3, errno.EINVAL),
        ([info(nla(NODE, bytes(8)))], 3, errno.ERANGE),
        ([info(nla(1, bytes(36)))], 3, errno.EOPNOTSUPP),
        ([info(nla(9, bytes(8)))], 3, errno.EOPNOTSUPP),
        ([info(nla(NODE, struct.pack("=IIQ20x", 0, 0, 1)))], 3, 0),
    ],
)
def test_setlink_errors(
    bed: Bed, nests: list[bytes], index: int, code: int
) -> None:
    assert bed.set_vfs(*nests, index=index) == code


def test_setlink_by_name_and_of_nothing_known(bed: Bed) -> None:
    head = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + nla(3, b"ib0\0")
    nests = nla(22, info(guid(PORT, 3, GUID)))
    assert ack(bed.talk(message(19, 5, head + nests))[0]) == 0
    assert bed.vfs()[3] == (0, GUID, 2)
    assert ack(bed.talk(message(50, 5, head))[0]) == errno.EOPNOTSUPP


def test_mlx4_has_no_vf_data_on_netlink(mlx4: Bed) -> None:
    assert mlx4.set_vfs(info(guid(NODE, 0, GUID))) == errno.EOPNOTSUPP
    link = mlx4.link()
    assert link.get_attr("IFLA_NUM_VF") == 4
    assert vfs_of(link) == {}


def test_rights_can_be_denied(ofed: Bed) -> None:
    ofed.host.deny(netlink=errno.EPERM, sysfs=errno.EACCES)
    assert ofed.set_vfs() == errno.EPERM
    assert ofed.set(PF, "sriov/0/node", TEXT) == errno.EACCES
    assert ofed.vfs()[0] == (0, 0, 2)
    ofed.host.deny()
    assert ofed.set(PF, "sriov/0/node", TEXT) == 0


def test_firmware_fails_from_the_chosen_command_on(bed: Bed) -> None:
    bed.host.fail(VF1, errno.EBUSY, first=2)
    assert bed.set_vfs(info(guid(NODE, 1, GUID))) == 0
    for _ in range(2):
        assert bed.set_vfs(info(guid(PORT, 1, GUID))) == errno.EBUSY
    assert bed.set_vfs(info(guid(PORT, 0, GUID))) == 0
    bed.host.heal()
    assert bed.vfs()[1] == (GUID, 0, 2)
    assert bed.set_vfs(info(guid(PORT, 1, GUID))) == 0
    assert bed.host.counts() == (5, 4, 1, 0)


def test_a_netdev_elsewhere(bed: Bed) -> None:
    identify = bed.identify
    assert identify("ib0") == (3, PF)
    bed.host.netdev("ib0", "other")
    index, parent = identify("ib0")
    assert parent != PF
    assert bed.set_vfs(info(state(0, 0)), index=index) == errno.EOPNOTSUPP
    bed.host.netdev("ib0", "namespace")
    assert bed.pci(PF, "net/ib0").exists()
    with refused(errno.ENODEV):
        identify("ib0")
    assert bed.set_vfs(info(state(0, 0))) == errno.ENODEV
    bed.host.netdev("ib0", "absent")
    assert not bed.pci(PF, "net/ib0").exists()
    assert not os.path.lexists(bed.path("class/net/ib0"))
    bed.host.netdev("ib0")
    assert identify("ib0") == (3, PF)


def test_hca_without_netdev(make: Callable[..., Bed]) -> None:
    bed = make("mlx5-ofed", netdev=False)
    assert not bed.pci(PF, "net").exists()
    with refused(errno.ENODEV):
        bed.link()
