# SPDX-License-Identifier: Apache-2.0
"""A served folder, and messages to it made by hand: the package's native
codec, the counterpart of what is tested here, is not used."""

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from ibhostdev.simulate.model import HcaSpec
from ibhostdev.simulate.server import SimulatedHost
from ibhostdev.simulate.state import read_state
from ibhostdev.simulate.tree import SimulatedTree

GUID = 0xFA163E00000A0B0C
TEXT = "fa:16:3e:00:00:0a:0b:0c"
OTHER = 0x0211220000334455
ZERO = "00:00:00:00:00:00:00:00"
PF = "0000:3b:00.0"
PF2 = "0000:5e:00.0"
VF0, VF1 = "0000:3b:00.1", "0000:3b:00.2"
NODE, PORT, STATE = 10, 11, 5
IOV = "infiniband/mlx4_0/iov"


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


def gid_is(bed: Bed, entry: int, text: str, port: int = 1) -> bool:
    return bed.read(PF, f"{IOV}/ports/{port}/gids/{entry}").endswith(text)


def virtfns(bed: Bed) -> list[Path]:
    return sorted(bed.pci(PF, "").glob("virtfn*"))
