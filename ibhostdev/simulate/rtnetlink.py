# SPDX-License-Identifier: Apache-2.0
"""RTM_GETLINK and RTM_SETLINK as the kernel answers them for IPoIB devices
of PFs (net/core/rtnetlink.c, drivers/infiniband/hw/mlx5/ib_virt.c)."""

import logging
import struct
import sys
from collections.abc import Iterator
from errno import (
    EINVAL,
    EIO,
    EMSGSIZE,
    ENODEV,
    EOPNOTSUPP,
    ERANGE,
)

from ibhostdev.simulate.kernel import Kernel
from ibhostdev.simulate.model import DOWN, FOLLOW, UP, Netdev, Pf, Vf
from ibhostdev.simulate.netlink import (
    ACK,
    DEVLINK,
    DONE,
    DUMP,
    GETLINK,
    HEALTH_REPORTER_GET,
    IFINFO,
    IFLA_ALT_IFNAME,
    IFLA_IFNAME,
    IFLA_PARENT_DEV_NAME,
    IFLA_PROP_LIST,
    MINIMUM_TYPE,
    MULTI,
    NEWLINK,
    REQUEST,
    SETLINK,
    Message,
    acknowledge,
    attribute,
    attributes,
    pack,
    unpack,
)

_LOG = logging.getLogger(__name__)

# include/uapi/linux/if_link.h: of a link …
IFLA_ADDRESS, IFLA_BROADCAST, IFLA_MTU = 1, 2, 4
IFLA_NUM_VF, IFLA_VFINFO_LIST, IFLA_EXT_MASK = 21, 22, 29
IFLA_PARENT_DEV_BUS_NAME = 57
# … and of one of its VFs; with the least length of each that can be set
VF_INFO = 1
VF_MAC, VF_VLAN, VF_TX_RATE, VF_SPOOFCHK, VF_LINK_STATE = 1, 2, 3, 4, 5
VF_RATE, VF_RSS_QUERY_EN, VF_STATS, VF_TRUST = 6, 7, 8, 9
VF_NODE_GUID, VF_PORT_GUID, VF_VLAN_LIST, VF_BROADCAST = 10, 11, 12, 13
_LEAST = {
    VF_MAC: 36,
    VF_VLAN: 12,
    VF_TX_RATE: 8,
    VF_SPOOFCHK: 8,
    VF_LINK_STATE: 8,
    VF_RATE: 12,
    VF_RSS_QUERY_EN: 8,
    VF_TRUST: 8,
    VF_NODE_GUID: 16,
    VF_PORT_GUID: 16,
}
# what IPoIB cannot set, and is looked at before the link state
_WITHOUT_NDO = {VF_MAC, VF_VLAN, VF_VLAN_LIST}
_WITHOUT_NDO |= {VF_TX_RATE, VF_RATE, VF_SPOOFCHK}

RTEXT_VF, RTEXT_SKIP_STATS = 1, 8
AUTO, ENABLE, DISABLE = 0, 1, 2
_STATES = {DOWN: DISABLE, UP: ENABLE, FOLLOW: AUTO}
_POLICIES = {state: policy for policy, state in _STATES.items()}

_GUID = struct.Struct("=I4xQ")
_WORDS = struct.Struct("=II")
_ETHERNET, _LOOPBACK, _INFINIBAND = 1, 772, 32
_BROADCAST = bytes.fromhex("00ffffffff12401bffff000000000000ffffffff")
_INT_MAX = 0x7FFFFFFF
_DATAGRAM = 32768  # of a dump

_OTHER = b"0000:00:1f.6\0"  # who owns a name that is another device's here

Link = tuple[Pf, Netdev] | None  # None: lo


def _index(netdev: Netdev) -> int:
    return netdev.ifindex + (500 if netdev.fault == "other" else 0)


class Rtnetlink:
    """Answers datagrams, one after the other: the caller is the RTNL."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._machine = kernel.machine

    def answer(self, datagram: bytes) -> Iterator[bytes]:
        """The datagrams that go back."""
        for message in unpack(datagram):
            code, answers = 0, list[bytes]()
            if message.flags & REQUEST and message.kind >= MINIMUM_TYPE:
                try:
                    answers = list(self._serve(message))
                except OSError as error:
                    code = error.errno or EINVAL
                except Exception:  # one datagram must not end the server
                    _LOG.exception("answering %r", message)
                    code = EIO
            yield from answers
            dumped = message.kind == GETLINK and message.flags & DUMP == DUMP
            if code or (message.flags & ACK and not dumped):
                yield acknowledge(message, code)

    def _serve(self, message: Message) -> Iterator[bytes]:
        if message.kind == GETLINK:
            return self._get(message)
        if message.kind == DEVLINK:
            return self._health(message)
        if message.kind not in (NEWLINK, SETLINK):
            raise OSError(EOPNOTSUPP, "no such request")
        if self._machine.deny_netlink:
            raise OSError(self._machine.deny_netlink, "denied")
        self._set(message)
        return iter(())

    # ---- devlink --------------------------------------------------------

    def _health(self, message: Message) -> Iterator[bytes]:
        """One of a PF's health reporters (net/devlink/health.c)."""
        header, payload = message.payload[:4], message.payload[4:]
        given = dict(attributes(payload))
        device, name = given.get(2, b""), given.get(115, b"")
        pf = self._kernel.pf(device.rstrip(b"\0").decode("latin-1"))
        if header[:1] != bytes([HEALTH_REPORTER_GET]) or not pf.driver:
            raise OSError(EOPNOTSUPP, "no such command")
        if pf.spec.mlx4 or name not in (b"fw\0", b"fw_fatal\0"):
            raise OSError(ENODEV, "no such reporter")
        dead = pf.address in self._machine.dead
        reporter = attribute(115, name) + attribute(116, bytes([dead]))
        told = attribute(1, b"pci\0") + attribute(2, device)
        told += attribute(114, reporter)
        yield pack(DEVLINK, 0, message.sequence, header + told)

    # ---- which device ---------------------------------------------------

    def _links(self) -> list[Link]:
        links: list[Link] = [None]
        for pf in self._machine.pfs:
            for netdev in pf.netdevs if pf.driver else ():
                if netdev.fault in ("", "other"):
                    links.append((pf, netdev))
        return links

    def _find(self, message: Message) -> Link:
        """By index, else by name, which may be an altname."""
        if len(message.payload) < IFINFO.size:
            raise OSError(EINVAL, "short message")
        index = IFINFO.unpack_from(message.payload)[2]
        given = dict(attributes(message.payload[IFINFO.size :]))
        text = given.get(IFLA_IFNAME) or given.get(IFLA_ALT_IFNAME, b"")
        name = text.split(b"\0")[0].decode("latin-1")
        if index <= 0 and not name:
            raise OSError(EINVAL, "neither index nor name")
        for link in self._links():
            known, names = 1, ["lo"]
            if link:
                known, names = _index(link[1]), [link[1].name]
                if not link[1].fault:
                    names += link[1].altnames
            if index == known or (index <= 0 and name in names):
                return link
        raise OSError(ENODEV, "no such device")

    # ---- RTM_SETLINK ----------------------------------------------------

    def _set(self, message: Message) -> None:
        """VFs in the order of their nests, until the first error; what was
        done before it stays done."""
        link = self._find(message)
        for kind, value in attributes(message.payload[IFINFO.size :]):
            if kind != IFLA_VFINFO_LIST:
                continue
            for nest, content in attributes(value):
                if nest != VF_INFO or len(content) < 4:
                    raise OSError(EINVAL, "no VF in the list")
                self._set_vf(link, dict(attributes(content)))

    def _set_vf(self, link: Link, wanted: dict[int, bytes]) -> None:
        """do_setvfinfo(), whose branch for the node GUID returns at once: a
        port GUID in the same nest is dropped, with success."""
        for kind, value in wanted.items():
            if len(value) < _LEAST.get(kind, 0):
                raise OSError(ERANGE, "short attribute")
        if _WITHOUT_NDO & wanted.keys():
            raise OSError(EOPNOTSUPP, "not for IPoIB")
        done = False
        if VF_LINK_STATE in wanted:
            number, state = _WORDS.unpack_from(wanted[VF_LINK_STATE])
            vf = self._vf(link, number)
            if state not in _POLICIES:
                raise OSError(EINVAL, "no such link state")
            self._change(vf, "policy", _POLICIES[state])
            done = True
        if VF_RSS_QUERY_EN in wanted or VF_TRUST in wanted:
            raise OSError(EOPNOTSUPP, "not for IPoIB")
        for kind, what in ((VF_NODE_GUID, "node"), (VF_PORT_GUID, "port")):
            if kind in wanted:
                number, guid = _GUID.unpack_from(wanted[kind])
                self._change(self._vf(link, number), what, guid)
                return
        if not done:
            raise OSError(EINVAL, "nothing to set")

    def _vf(self, link: Link, number: int) -> Vf:
        if number >= _INT_MAX:
            raise OSError(EINVAL, "no such VF")
        if link is None or link[0].spec.mlx4 or link[1].fault:
            raise OSError(EOPNOTSUPP, "not for this device")
        vfs = link[0].vfs
        if number >= len(vfs):  # not the kernel, but firmware knows
            raise OSError(EINVAL, "no such VF")
        return vfs[number]

    def _change(self, vf: Vf, what: str, value: int) -> None:
        self._kernel.set_vport(vf, what, value, netlink=True)

    # ---- RTM_GETLINK ----------------------------------------------------

    def _get(self, message: Message) -> Iterator[bytes]:
        given = dict(attributes(message.payload[IFINFO.size :]))
        mask = int.from_bytes(given.get(IFLA_EXT_MASK, b""), sys.byteorder)
        if message.flags & DUMP == DUMP:
            yield from self._dump(message.sequence, mask)
            return
        link = self._find(message)
        self._count([link], mask)
        payload = self._link(link, mask)
        limit = self._machine.emsgsize_from
        if link and mask & RTEXT_VF and 0 < limit <= len(link[0].vfs):
            # Linux 5.5 to 6.14 made the buffer too small for the GUIDs
            raise OSError(EMSGSIZE, "too many VFs")
        if deaf := self._deaf(link, mask):
            raise OSError(deaf, "deaf")
        yield pack(NEWLINK, 0, message.sequence, payload)

    def _dump(self, sequence: int, mask: int) -> Iterator[bytes]:
        """Several messages to a datagram, and NLMSG_DONE in one of its own."""
        links = self._links()
        self._count(links, mask)
        datagram, code = b"", 0
        for link in links:
            if code := self._deaf(link, mask):
                break
            payload = self._link(link, mask)
            message = pack(NEWLINK, MULTI, sequence, payload)
            if datagram and len(datagram) + len(message) > _DATAGRAM:
                yield datagram
                datagram = b""
            datagram += message
        yield datagram
        yield pack(DONE, MULTI, sequence, struct.pack("=i", -code))

    def _deaf(self, link: Link, mask: int) -> int:
        """The errno that ends every answer with this device's VFs."""
        if link is None or not mask & RTEXT_VF:
            return 0
        return self._machine.deaf.get(link[0].address, 0)

    def _count(self, links: list[Link], mask: int) -> None:
        if mask & RTEXT_VF:
            pfs = [link[0] for link in links if link and not link[1].fault]
            asked = [pf for pf in pfs if pf.vfs and not pf.spec.mlx4]
            self._machine.getlink += len(asked)

    def _link(self, link: Link, mask: int) -> bytes:
        if link is None:
            head = IFINFO.pack(0, _LOOPBACK, 1, 0x49, 0)
            head += attribute(IFLA_IFNAME, b"lo\0")
            return head + attribute(IFLA_ADDRESS, bytes(6))
        pf, netdev = link
        if netdev.fault:
            head = IFINFO.pack(0, _ETHERNET, _index(netdev), 0x1003, 0)
            head += attribute(IFLA_IFNAME, netdev.name.encode() + b"\0")
            return head + attribute(IFLA_PARENT_DEV_NAME, _OTHER)
        parts = [
            IFINFO.pack(0, _INFINIBAND, netdev.ifindex, 0x1003, 0),
            attribute(IFLA_IFNAME, netdev.name.encode() + b"\0"),
            attribute(IFLA_MTU, struct.pack("=I", 2044)),
            attribute(IFLA_ADDRESS, netdev.address),
            attribute(IFLA_BROADCAST, _BROADCAST),
        ]
        if mask & RTEXT_VF:
            vfs = pf.vfs
            parts.append(attribute(IFLA_NUM_VF, struct.pack("=I", len(vfs))))
            stats = not mask & RTEXT_SKIP_STATS
            records = [self._record(vf, netdev, stats) for vf in vfs]
            parts.append(attribute(IFLA_VFINFO_LIST, b"".join(records)))
        altnames = [
            attribute(IFLA_ALT_IFNAME, altname.encode() + b"\0")
            for altname in netdev.altnames
        ]
        parts.append(attribute(IFLA_PROP_LIST, b"".join(altnames)))
        name = pf.address.encode() + b"\0"
        parts.append(attribute(IFLA_PARENT_DEV_NAME, name))
        parts.append(attribute(IFLA_PARENT_DEV_BUS_NAME, b"pci\0"))
        return b"".join(parts)

    def _record(self, vf: Vf, netdev: Netdev, stats: bool) -> bytes:
        """One IFLA_VF_INFO, or nothing if the driver does not answer; mlx4
        never does. The MAC is a copy of the PF's own address; GUIDs that
        were not set by netlink are 0."""
        if vf.pf.spec.mlx4 or not self._machine.ask(vf.address):
            return b""
        if stats:
            self._machine.ask(vf.address)
        memory, n = vf.pf.contexts[vf.index], vf.index
        node = memory.node if memory.node_valid else 0
        port = memory.port if memory.port_valid else 0
        two = _WORDS.pack(n, 0)
        three = struct.pack("=III", n, 0, 0)
        content = [
            attribute(VF_MAC, struct.pack("=I32s", n, netdev.address)),
            attribute(VF_BROADCAST, _BROADCAST.ljust(32, b"\0")),
            attribute(VF_VLAN, three),
            attribute(VF_RATE, three),
            attribute(VF_TX_RATE, two),
            attribute(VF_SPOOFCHK, two),
            attribute(VF_LINK_STATE, _WORDS.pack(n, _STATES[vf.policy])),
            attribute(VF_RSS_QUERY_EN, two),
            attribute(VF_TRUST, two),
            attribute(VF_NODE_GUID, _GUID.pack(n, node)),
            attribute(VF_PORT_GUID, _GUID.pack(n, port)),
            attribute(
                VF_VLAN_LIST, attribute(1, struct.pack("=IIIHxx", n, 0, 0, 0))
            ),
        ]
        if stats:
            # Numbers by which VFs and counters can be told apart; 6 is
            # IFLA_VF_STATS_PAD.
            counters = [
                attribute(i, struct.pack("=Q", 1000 * (n + 1) + i))
                for i in (0, 1, 2, 3, 4, 5, 7, 8)
            ]
            content.append(attribute(VF_STATS, b"".join(counters)))
        return attribute(VF_INFO, b"".join(content))
