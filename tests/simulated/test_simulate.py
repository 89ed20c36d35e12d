# SPDX-License-Identifier: Apache-2.0
"""The simulated host behaves as kernel and drivers do.

Seen through files, shells, sockets of the tests' own and pyroute2's decoder;
the package's native codec, its counterpart, is not used.
"""

import errno
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from ibhostdev import simulate
from ibhostdev.errors import IbHostdevError, InvalidInput, NotRunning
from ibhostdev.simulate.model import HcaSpec
from ibhostdev.simulate.server import SimulatedHost
from ibhostdev.simulate.state import read_state
from ibhostdev.simulate.tree import SimulatedTree
from tests.simulated.testbed import MEMORY

GUID = 0xFA163E00000A0B0C
TEXT = "fa:16:3e:00:00:0a:0b:0c"
OTHER = 0x0211220000334455
ZERO = "00:00:00:00:00:00:00:00"
PF = "0000:3b:00.0"
PF2 = "0000:5e:00.0"
VF0, VF1 = "0000:3b:00.1", "0000:3b:00.2"
NODE, PORT, STATE = 10, 11, 5


class Bed:
    """A served folder, and what a user could do to it."""

    def __init__(self, folder: Path, *specs: HcaSpec, iommu: bool = True):
        self.folder = folder
        self.host = SimulatedHost(folder, specs, iommu).start()
        state = read_state(folder)
        self.port: int = state["netlink_port"]
        self.tree = SimulatedTree(folder / "sys", state["sysfs_port"])

    def path(self, path: str) -> Path:
        return self.folder / "sys" / path

    def pci(self, device: str, path: str) -> Path:
        return self.path(f"bus/pci/devices/{device}/{path}")

    def read(self, device: str, path: str) -> str:
        return self.pci(device, path).read_text().removesuffix("\n")

    def write(self, path: str, value: str) -> int:
        (code,) = self.tree.write([(path, value.encode())])
        return code

    def set(self, device: str, path: str, value: str) -> int:
        return self.write(f"bus/pci/devices/{device}/{path}", value)

    def bind(self, device: str, driver: str = "mlx5_core") -> int:
        return self.write(f"bus/pci/drivers/{driver}/bind", device)

    def unbind(self, device: str, driver: str = "mlx5_core") -> int:
        return self.write(f"bus/pci/drivers/{driver}/unbind", device)

    def driver(self, device: str) -> str | None:
        with suppress(FileNotFoundError):  # it may vanish just now
            return self.pci(device, "driver").readlink().name
        return None

    def identity(self, device: str) -> str:
        (file,) = self.pci(device, "").glob("infiniband/*/node_guid")
        return file.read_text().strip()

    # ---- netlink --------------------------------------------------------

    def talk(self, request: bytes, answers: int = 1) -> list[bytes]:
        """The messages that come back, until so many or NLMSG_DONE."""
        messages: list[bytes] = []
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 2) as sock:
            sock.bind((0, 0))
            sock.settimeout(20)
            sock.sendto(request, (self.port, 0))
            while len(messages) < answers:
                data = sock.recv(1 << 18)
                while data:
                    length, kind = struct.unpack_from("=IH", data)
                    messages.append(data[:length])
                    data = data[(length + 3) & ~3 :]
                    if kind == 3:
                        return messages
        return messages

    def set_vfs(self, *nests: bytes, index: int = 3, flags: int = 5) -> int:
        (answer,) = self.talk(setlink(*nests, index=index, flags=flags))
        return ack(answer)

    def link(self, index: int = 3, mask: int = 9, name: str = "") -> Any:
        (answer,) = self.talk(getlink(index, mask, name))
        return decode(answer)

    def identify(self, name: str) -> tuple[int, str]:
        """What SIOCGIFINDEX and ETHTOOL_GDRVINFO would tell."""
        link = self.link(0, 0, name)
        return link["index"], link.get_attr("IFLA_PARENT_DEV_NAME")

    def vfs(self, index: int = 3) -> dict[int, tuple[int, int, int]]:
        """node, port and state by VF, as netlink tells."""
        return vfs_of(self.link(index))


def nla(kind: int, payload: bytes) -> bytes:
    data = struct.pack("=HH", 4 + len(payload), kind) + payload
    return data + bytes(-len(data) % 4)


def info(*attributes: bytes) -> bytes:
    return nla(1 | 0x8000, b"".join(attributes))


def guid(kind: int, vf: int, value: int) -> bytes:
    return nla(kind, struct.pack("=IIQ", vf, 0, value))


def state(vf: int, value: int) -> bytes:
    return nla(STATE, struct.pack("=II", vf, value))


def message(kind: int, flags: int, payload: bytes, seq: int = 7) -> bytes:
    return struct.pack("=IHHII", 16 + len(payload), kind, flags, seq, 0) + (
        payload
    )


def setlink(
    *nests: bytes, index: int = 3, flags: int = 5, kind: int = 19, seq: int = 7
) -> bytes:
    head = struct.pack("=BxHiII", 0, 0, index, 0, 0)
    listed = nla(22 | 0x8000, b"".join(nests))
    return message(kind, flags, head + listed, seq)


def getlink(index: int, mask: int, name: str = "", flags: int = 1) -> bytes:
    payload = struct.pack("=BxHiII", 0, 0, index, 0, 0)
    payload += nla(29, struct.pack("=I", mask))
    if name:
        payload += nla(3, name.encode() + b"\0")
    return message(18, flags, payload)


def ack(answer: bytes) -> int:
    """The errno of an acknowledgement; it repeats the request's header."""
    length, kind, _, seq, _ = struct.unpack_from("=IHHII", answer)
    assert (length, kind) == (36, 2)
    assert struct.unpack_from("=I", answer, 28) == (seq,)
    (code,) = struct.unpack_from("=i", answer, 16)
    return -int(code)


def decode(answer: bytes) -> Any:
    (kind,) = struct.unpack_from("=H", answer, 4)
    if kind == 2:
        raise OSError(ack(answer), "refused")
    assert kind == 16
    link = ifinfmsg(answer)
    link.decode()
    return link


def vfs_of(link: Any) -> dict[int, tuple[int, int, int]]:
    found = {}
    for vf in link.get_attr("IFLA_VFINFO_LIST").get_attrs("IFLA_VF_INFO"):
        link_state = vf.get_attr("IFLA_VF_LINK_STATE")
        found[link_state["vf"]] = (
            number(vf.get_attr("IFLA_VF_IB_NODE_GUID")["ib_node_guid"]),
            number(vf.get_attr("IFLA_VF_IB_PORT_GUID")["ib_port_guid"]),
            link_state["link_state"],
        )
    return found


def number(text: str) -> int:
    return int(text.replace(":", ""), 16)


@contextmanager
def refused(code: int) -> Iterator[None]:
    with pytest.raises(OSError, match=r"\[Errno") as raised:
        yield
    assert raised.value.errno == code


def wait(condition: Callable[[], bool]) -> None:
    """Until what the server does by itself is done."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("nothing happened")


@pytest.fixture
def scratch() -> Iterator[Path]:
    with TemporaryDirectory(dir=MEMORY, prefix="ibhostdev-") as folder:
        yield Path(folder)


@pytest.fixture
def make(scratch: Path) -> Iterator[Callable[..., Bed]]:
    beds: list[Bed] = []

    def build(family: str = "mlx5", vfs: int = 4, **more: Any) -> Bed:
        count, iommu = more.pop("pfs", 1), more.pop("iommu", True)
        spec = HcaSpec(family, vfs, **more)
        folder = scratch / f"host{len(beds)}"
        beds.append(Bed(folder, *[spec] * count, iommu=iommu))
        return beds[-1]

    yield build
    for bed in beds:
        bed.host.close()


@pytest.fixture
def bed(make: Callable[..., Bed]) -> Bed:
    return make()


@pytest.fixture
def ofed(make: Callable[..., Bed]) -> Bed:
    return make("mlx5-ofed")


@pytest.fixture
def mlx4(make: Callable[..., Bed]) -> Bed:
    return make("mlx4")


# ---- the tree -----------------------------------------------------------


def test_tree_is_shaped_like_sysfs(make: Callable[..., Bed]) -> None:
    bed = make(pfs=2)
    for pf, ibdev, netdev in ((PF, "mlx5_0", "ib0"), (PF2, "mlx5_1", "ib1")):
        device = bed.path(f"bus/pci/devices/{pf}").resolve()
        assert bed.path(f"class/infiniband/{ibdev}").resolve() == (
            device / "infiniband" / ibdev
        )
        assert bed.path(f"class/net/{netdev}/device").resolve() == device
        assert bed.read(pf, f"net/{netdev}/type") == "32"
        assert bed.read(pf, f"net/{netdev}/dev_port") == "0"
        assert bed.read(pf, "vendor") == "0x15b3"
        assert bed.read(pf, "sriov_numvfs") == "4"
        assert bed.read(pf, "sriov_totalvfs") == "4"
        port = f"infiniband/{ibdev}/ports/1"
        assert bed.read(pf, f"{port}/state") == "4: ACTIVE"
        assert bed.read(pf, f"{port}/sm_lid") == "0x1"
        assert bed.read(pf, f"{port}/link_layer") == "InfiniBand"
    assert (bed.path("bus/pci/devices") / PF).readlink().parts[:3] == (
        ("..",) * 3
    )
    assert os.readlink(bed.pci(PF, "virtfn1")) == f"../{VF1}"
    assert os.readlink(bed.pci(VF1, "physfn")) == f"../{PF}"
    group = bed.pci(VF1, "iommu_group").resolve()
    assert group.parent == bed.path("kernel/iommu_groups").resolve()
    assert [d.name for d in (group / "devices").iterdir()] == [VF1]
    bound = bed.path("bus/pci/drivers/mlx5_core")
    assert (bound / VF1).resolve() == bed.pci(VF1, "").resolve()
    assert bed.read(VF1, "enable") == "1"
    assert bed.read(VF1, "driver_override") == "(null)"
    assert bed.identity(VF1) == "0000:0000:0000:0000"
    assert not bed.pci(PF, "sriov").exists()


def test_every_link_leads_somewhere(make: Callable[..., Bed]) -> None:
    for family in ("mlx5-ofed", "mlx4"):
        bed = make(family)
        assert bed.unbind(VF0, bed.driver(VF0) or "") == 0
        for folder, folders, files in os.walk(bed.folder / "sys"):
            for name in folders + files:
                assert os.path.exists(os.path.join(folder, name)), name


def test_vf_addresses_run_on_through_devices_and_buses(
    make: Callable[..., Bed],
) -> None:
    bed = make(vfs=300)
    for index, address in (
        (0, "0000:3b:00.1"),
        (6, "0000:3b:00.7"),
        (7, "0000:3b:01.0"),
        (254, "0000:3b:1f.7"),
        (255, "0000:3c:00.0"),
        (299, "0000:3c:05.4"),
    ):
        assert os.readlink(bed.pci(PF, f"virtfn{index}")) == f"../{address}"
        assert os.readlink(bed.pci(address, "physfn")) == f"../{PF}"


def test_without_iommu_there_are_no_groups(make: Callable[..., Bed]) -> None:
    bed = make(iommu=False)
    assert not bed.pci(VF0, "iommu_group").exists()
    assert list(bed.path("kernel/iommu_groups").iterdir()) == []


def test_port_state_and_sm_can_change(bed: Bed) -> None:
    bed.host.port(PF, state="1: DOWN", sm_lid=0)
    port = "infiniband/mlx5_0/ports/1"
    assert bed.read(PF, f"{port}/state") == "1: DOWN"
    assert bed.read(PF, f"{port}/sm_lid") == "0x0"


# ---- GETLINK ------------------------------------------------------------


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


# ---- SETLINK ------------------------------------------------------------


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


# ---- MLNX_OFED's files --------------------------------------------------


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


# ---- drivers ------------------------------------------------------------


def test_identity_is_what_the_driver_read_at_its_probe(bed: Bed) -> None:
    assert bed.set_vfs(info(guid(NODE, 0, GUID))) == 0
    assert bed.identity(VF0) == "0000:0000:0000:0000"
    assert bed.unbind(VF0) == 0
    assert bed.driver(VF0) is None
    assert not bed.pci(VF0, "infiniband").exists()
    assert bed.read(VF0, "enable") == "0"
    assert bed.vfs()[0] == (GUID, 0, 2)
    assert bed.bind(VF0) == 0
    assert bed.identity(VF0) == "fa16:3e00:000a:0b0c"
    assert bed.host.counts().probe == 1


def test_bind_and_unbind_errors(bed: Bed) -> None:
    assert bed.bind(VF0) == errno.EBUSY
    assert bed.bind("0000:ff:00.0") == errno.ENODEV
    assert bed.bind(VF0, "vfio-pci") == errno.ENODEV
    assert bed.unbind(VF0, "vfio-pci") == errno.ENODEV
    assert bed.unbind(VF0) == 0
    assert bed.unbind(VF0) == errno.ENODEV
    assert bed.write("bus/pci/drivers_probe", "0000:ff:00.0") == errno.ENODEV


def test_vfio_takes_a_vf_by_driver_override(bed: Bed) -> None:
    assert bed.set(VF0, "driver_override", "vfio-pci\n") == 0
    assert bed.read(VF0, "driver_override") == "vfio-pci"
    assert bed.driver(VF0) == "mlx5_core"
    assert bed.unbind(VF0) == 0
    assert bed.bind(VF0) == errno.ENODEV
    assert bed.write("bus/pci/drivers_probe", VF0) == 0
    assert bed.driver(VF0) == "vfio-pci"
    with bed.host.hold(VF0):
        assert bed.read(VF0, "enable") == "1"
    assert bed.read(VF0, "enable") == "0"
    assert bed.unbind(VF0, "vfio-pci") == 0
    assert bed.set(VF0, "driver_override", "\n") == 0
    assert bed.write("bus/pci/drivers_probe", VF0) == 0
    assert bed.driver(VF0) == "mlx5_core"


def test_without_autoprobe_nothing_binds_but_by_override(bed: Bed) -> None:
    assert bed.set(PF, "sriov_drivers_autoprobe", "0") == 0
    assert bed.driver(VF0) == "mlx5_core"
    assert bed.unbind(VF0) == 0
    assert bed.write("bus/pci/drivers_probe", VF0) == 0
    assert bed.driver(VF0) is None
    assert bed.bind(VF0) == errno.ENODEV
    assert bed.set(VF0, "driver_override", "mlx5_core") == 0
    assert bed.bind(VF0) == 0
    assert bed.set(PF, "sriov_drivers_autoprobe", "maybe") == errno.EINVAL
    assert bed.set(PF, "sriov_numvfs", "0") == 0
    assert bed.set(PF, "sriov_numvfs", "2") == 0
    assert bed.driver(VF0) is None


def test_binds_overlap(
    make: Callable[..., Bed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All probes are under way at once, or the barrier breaks."""
    bed = make(vfs=16)
    vfs = [os.path.basename(p.readlink()) for p in virtfns(bed)]
    assert [bed.unbind(vf) for vf in vfs] == [0] * 16
    barrier = threading.Barrier(16)
    bed.host.delay(probe=1.0)
    monkeypatch.setattr(
        "ibhostdev.simulate.kernel.time.sleep",
        lambda seconds: barrier.wait(20) if seconds == 1.0 else None,
    )
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(bed.bind, vfs)) == [0] * 16
    assert {bed.driver(vf) for vf in vfs} == {"mlx5_core"}
    assert bed.host.counts().probe == 16


def virtfns(bed: Bed) -> list[Path]:
    return sorted(bed.pci(PF, "").glob("virtfn*"))


# ---- SR-IOV -------------------------------------------------------------


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


# ---- mlx4 ---------------------------------------------------------------

IOV = "infiniband/mlx4_0/iov"


def gid_is(bed: Bed, entry: int, text: str, port: int = 1) -> bool:
    return bed.read(PF, f"{IOV}/ports/{port}/gids/{entry}").endswith(text)


def test_mlx4_guid_takes_effect_when_the_sm_answers(mlx4: Bed) -> None:
    mlx4.host.sm_silent()
    entry = f"{IOV}/ports/1/admin_guids/2"
    assert mlx4.set(PF, entry, "0211220000334455") == 0
    assert mlx4.read(PF, entry) == "211220000334455"  # no padding
    assert gid_is(mlx4, 2, "0000:0000:0000:0000")
    mlx4.host.sm_silent(False)
    wait(lambda: gid_is(mlx4, 2, "0211:2200:0033:4455"))
    assert mlx4.set(PF, entry, "ffffffffffffffff") == 0
    wait(lambda: gid_is(mlx4, 2, "0000:0000:0000:0000"))
    assert mlx4.read(PF, entry) == "ffffffffffffffff"
    assert mlx4.set(PF, entry, "0") == 0
    wait(lambda: mlx4.read(PF, entry) != "0")
    assert mlx4.host.counts().modify == 3


def test_mlx4_takes_any_text_without_a_word(mlx4: Bed) -> None:
    entry = f"{IOV}/ports/1/admin_guids/3"
    assert mlx4.set(PF, entry, "no GUID") == 0
    assert mlx4.read(PF, entry) not in ("0", "no GUID")
    assert mlx4.set(PF, entry, "0xff123456789abcdef0 and more") == 0
    assert mlx4.read(PF, entry) == "123456789abcdef0"


def test_mlx4_pf_entry_cannot_be_set_and_nobody_says_so(mlx4: Bed) -> None:
    entry = f"{IOV}/ports/1/admin_guids/0"
    before = mlx4.read(PF, entry)
    assert mlx4.set(PF, entry, "1") == 0
    assert mlx4.read(PF, entry) == before != "0"


def test_mlx4_failing_vf_is_refused_by_the_sm(mlx4: Bed) -> None:
    mlx4.host.fail(VF1, errno.EIO)
    for entry in (1, 2):
        path = f"{IOV}/ports/1/admin_guids/{entry}"
        assert mlx4.set(PF, path, f"{GUID:x}") == 0
    wait(lambda: gid_is(mlx4, 1, "fa16:3e00:000a:0b0c"))
    assert gid_is(mlx4, 2, "0000:0000:0000:0000")
    mlx4.host.heal()
    wait(lambda: gid_is(mlx4, 2, "fa16:3e00:000a:0b0c"))


def test_mlx4_vf_folders_are_named_by_slave(make: Callable[..., Bed]) -> None:
    bed = make("mlx4", vfs=10, ports=2)
    names = {p.name for p in bed.pci(PF, IOV).iterdir()} - {"ports"}
    assert len(names) == 11
    for name, slave in (
        ("0000:3b:00.0", "0"),
        ("0000:3b:00.7", "7"),
        ("0000:3b:01.2", "10"),
    ):
        for port in (1, 2):
            path = f"{IOV}/{name}/ports/{port}/gid_idx/0"
            assert bed.read(PF, path) == slave
    assert bed.read(PF, "net/ib0/dev_port") == "0"
    assert bed.read(PF, "net/ib1/dev_port") == "1"
    assert bed.link(4).get_attr("IFLA_PARENT_DEV_NAME") == PF
    path = f"{IOV}/ports/2/admin_guids/1"
    assert bed.set(PF, path, f"{GUID:x}") == 0
    wait(lambda: gid_is(bed, 1, "fa16:3e00:000a:0b0c", port=2))
    assert gid_is(bed, 1, "0000:0000:0000:0000", port=1)


def test_mlx4_pkey_idx(mlx4: Bed) -> None:
    folder = f"{IOV}/{VF0}/ports/1/pkey_idx"
    assert mlx4.read(PF, f"{folder}/0") == "0"
    assert mlx4.read(PF, f"{folder}/1") == "none"
    assert mlx4.read(PF, f"{IOV}/ports/1/pkeys/1") == "0x7fff"
    for text, shown in (("1\n", "1"), ("NOthing", "none"), ("0x2", "2")):
        assert mlx4.set(PF, f"{folder}/0", text) == 0
        assert mlx4.read(PF, f"{folder}/0") == shown
    for text in ("128", "-1", "one"):
        assert mlx4.set(PF, f"{folder}/0", text) == errno.EINVAL
    own = f"{IOV}/{PF}/ports/1/pkey_idx/0"
    assert mlx4.set(PF, own, "1") == errno.EINVAL


def test_mlx4_vf_sees_its_guid_at_probe(mlx4: Bed) -> None:
    mlx4.host.seed(VF0, port=GUID)
    assert gid_is(mlx4, 1, "fa16:3e00:000a:0b0c")
    assert mlx4.unbind(VF0, "mlx4_core") == 0
    assert mlx4.bind(VF0, "mlx4_core") == 0
    assert mlx4.identity(VF0) == "fa16:3e00:000a:0b0c"


def test_mlx4_cannot_change_numvfs(mlx4: Bed) -> None:
    assert mlx4.set(PF, "sriov_numvfs", "0") == errno.ENOENT
    assert mlx4.unbind(PF, "mlx4_core") == 0
    assert mlx4.bind(PF, "mlx4_core") == 0
    assert mlx4.read(PF, "sriov_numvfs") == "4"  # by the module option


# ---- batches of writes --------------------------------------------------


def test_a_batch_of_writes_goes_on_or_stops(ofed: Bed) -> None:
    base = f"bus/pci/devices/{PF}"
    items = [
        (f"{base}/sriov/0/node", TEXT.encode()),
        (f"{base}/sriov/7/node", TEXT.encode()),
        (f"{base}/sriov_totalvfs", b"9"),
        ("class/infiniband/mlx5_0/device/sriov/1/node", TEXT.encode()),
    ]
    expected = [0, errno.ENOENT, errno.EACCES, 0]
    assert ofed.tree.write(items) == expected
    assert ofed.tree.write(items, stop=True) == [0, errno.ENOENT, -1, -1]
    assert ofed.tree.write([]) == []
    assert ofed.read(PF, "sriov/1/node") == TEXT


@pytest.mark.parametrize(
    "path", ["../host.json", "/etc/passwd", "bus/../../run", "nothing"]
)
def test_nothing_outside_the_tree_is_written(bed: Bed, path: str) -> None:
    assert bed.write(path, "x") == errno.ENOENT


# ---- shells -------------------------------------------------------------


def shell(bed: Bed, script: str) -> None:
    subprocess.run(
        ["sh", "-ec", script], cwd=bed.folder / "sys/bus/pci", check=True
    )


def test_shell_binds_and_unbinds(make: Callable[..., Bed]) -> None:
    bed = make(vfs=32)
    vfs = [os.path.basename(p.readlink()) for p in virtfns(bed)]
    loop = f"for vf in {' '.join(vfs)}; do echo $vf > drivers/mlx5_core/"
    shell(bed, f"{loop}unbind; done")
    wait(lambda: not any(bed.driver(vf) for vf in vfs))
    shell(bed, f"{loop}bind; done")
    wait(lambda: all(bed.driver(vf) for vf in vfs))


def test_shell_gives_a_vf_to_vfio(bed: Bed) -> None:
    override = f"devices/{VF0}/driver_override"
    shell(bed, f"echo vfio-pci > {override}")
    shell(bed, f"echo {VF0} > drivers/mlx5_core/unbind")
    wait(lambda: bed.driver(VF0) is None)
    shell(bed, f"echo {VF0} > drivers_probe")
    wait(lambda: bed.driver(VF0) == "vfio-pci")
    shell(bed, f"echo > {override}")
    wait(lambda: bed.read(VF0, "driver_override") == "(null)")


def test_a_shell_s_writes_are_done_in_turn(make: Callable[..., Bed]) -> None:
    """It waits for none of them, as one that writes to a kernel would."""
    bed = make(vfs=16)
    vfs = [os.path.basename(p.readlink()) for p in virtfns(bed)]
    shell(
        bed,
        f"""for vf in {" ".join(vfs)}; do
            echo vfio-pci > devices/$vf/driver_override
            echo $vf > drivers/mlx5_core/unbind
            echo $vf > drivers_probe
        done""",
    )
    wait(lambda: {bed.driver(vf) for vf in vfs} == {"vfio-pci"})


def test_shell_changes_numvfs(bed: Bed) -> None:
    file = f"devices/{PF}/sriov_numvfs"
    shell(bed, f"echo 0 > {file}")
    wait(lambda: virtfns(bed) == [])
    shell(bed, f"echo 2 > {file}")
    wait(lambda: len(virtfns(bed)) == 2 and bed.driver(VF1) is not None)
    shell(bed, f"echo 4 > {file}")  # EBUSY: the file shows the truth again
    wait(lambda: bed.read(PF, "sriov_numvfs") == "2")
    assert len(virtfns(bed)) == 2


def test_shell_sets_ofed_files(ofed: Bed) -> None:
    folder = f"devices/{PF}/sriov/1"
    shell(ofed, f"echo Follow > {folder}/policy; echo {TEXT} > {folder}/node")
    wait(lambda: ofed.vfs()[1][2] == 0)
    wait(lambda: ofed.host.machine.pfs[0].vfs[1].node == GUID)
    shell(ofed, f"echo follow > {folder}/policy")
    wait(lambda: ofed.read(PF, "sriov/1/policy") == "Follow")


def test_shell_sets_mlx4_guids(mlx4: Bed) -> None:
    shell(mlx4, f"echo 0x{GUID:x} > devices/{PF}/{IOV}/ports/1/admin_guids/4")
    wait(lambda: gid_is(mlx4, 4, "fa16:3e00:000a:0b0c"))
    assert mlx4.read(PF, f"{IOV}/ports/1/admin_guids/4") == f"{GUID:x}"


# ---- processes ----------------------------------------------------------

SERVE = """
import sys
from ibhostdev import simulate
ready = lambda host: print("ready", flush=True)
simulate.serve(sys.argv[1], pfs=1, vfs=2, ready=ready)
"""


def server(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_server_process_ends_cleanly(
    tmp_path: Path, sign: signal.Signals
) -> None:
    (tmp_path / "host").mkdir()
    folder = tmp_path / "host"
    with server(folder) as process:
        host = simulate.connect(folder)
        with pytest.raises(InvalidInput, match=str(process.pid)):
            SimulatedHost(folder).start()
        (folder / "notes").write_text("mine")
        process.send_signal(sign)
        assert process.wait(20) == 0
    with pytest.raises(NotRunning, match="ibhostdev simulate"):
        simulate.connect(folder)
    with pytest.raises(NotRunning):
        host.sysfs.write([("bus/pci/drivers_probe", b"x")])
    assert not (folder / "sys/bus/pci/drivers/mlx5_core/bind").exists()
    with server(folder) as process:
        simulate.connect(folder)
        process.terminate()
    assert process.returncode == 0
    assert (folder / "notes").read_text() == "mine"


def test_a_writer_notices_that_the_server_was_killed(tmp_path: Path) -> None:
    with server(tmp_path / "host") as process:
        tree = simulate.connect(tmp_path / "host").sysfs
        process.send_signal(signal.SIGSTOP)  # so that no answer is sent
        with ThreadPoolExecutor(1) as pool:
            item = (f"bus/pci/devices/{PF}/sriov_numvfs", b"0")
            writing = pool.submit(tree.write, [item])
            process.kill()
            with pytest.raises(NotRunning):
                writing.result(20)


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text('{"mine": 1}')
    with pytest.raises(InvalidInput, match="not a simulated host"):
        SimulatedHost(tmp_path).start()
    with pytest.raises(InvalidInput, match="not a simulated host"):
        simulate.connect(tmp_path)
    with pytest.raises(InvalidInput, match="no such folder") as caught:
        simulate.connect(tmp_path / "now here")
    assert caught.value.cure == (
        f"make one: ibhostdev simulate '{tmp_path}/now here'"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["host.json"]
    with pytest.raises(IbHostdevError, match=r"ENOTDIR|EEXIST"):
        SimulatedHost(tmp_path / "host.json").start()


@pytest.mark.parametrize(
    "options",
    [{"family": "mlx6"}, {"vfs": -1}, {"ports": 2}, {"vfs": 100000}],
)
def test_impossible_hosts_are_refused(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput):
        simulate.serve(tmp_path / "host", **options)
    assert not (tmp_path / "host").exists()


def test_connect_gives_networks_and_locks_of_the_folder(bed: Bed) -> None:
    state = read_state(bed.folder)
    assert state["physical_networks"] == {"default": ["ib0"]}
    assert state["pid"] == os.getpid()
    assert (bed.folder / "run").is_dir()


def test_importing_the_package_is_light() -> None:
    script = (
        "import ibhostdev.simulate, sys; "
        "print([m for m in ('inotify_simple', 'concurrent.futures') "
        "if m in sys.modules])"
    )
    out = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert "inotify_simple" not in out
