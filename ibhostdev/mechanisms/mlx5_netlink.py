# SPDX-License-Identifier: Apache-2.0
"""mlx5 by rtnetlink, through the PF's IPoIB network device.

RTM_SETLINK with IFLA_VF_IB_NODE_GUID, IFLA_VF_IB_PORT_GUID and
IFLA_VF_LINK_STATE ends in one firmware command for each attribute
(drivers/infiniband/hw/mlx5/ib_virt.c). Reading back shows the GUIDs that
were set by netlink since the PF's driver was bound, and 0 for "not known";
the link state is asked of firmware, for every VF of the PF.
"""

import errno
from collections.abc import Collection, Container, Mapping

from ibhostdev._native.rtnetlink import LINK_STATE, NODE_GUID, PORT_GUID
from ibhostdev._native.sysfs import Tree
from ibhostdev.errors import IbHostdevError, from_errno
from ibhostdev.guid import IDLE, Guid
from ibhostdev.inventory import (
    Endpoint,
    Family,
    Netdev,
    Pf,
    Policy,
    VfState,
)
from ibhostdev.mechanisms.mlx5_sysfs import Mlx5Sysfs

# include/uapi/linux/if_link.h: auto, enable, disable
_LINK_STATES = {Policy.FOLLOW: 0, Policy.UP: 1, Policy.DOWN: 2}
_POLICIES = {number: policy for policy, number in _LINK_STATES.items()}
_ATTRIBUTES = {
    LINK_STATE: "IFLA_VF_LINK_STATE",
    NODE_GUID: "IFLA_VF_IB_NODE_GUID",
    PORT_GUID: "IFLA_VF_IB_PORT_GUID",
}
# The kernel holds its RTNL lock for a whole message, each attribute taking
# firmware 0.1 to 0.4 ms: 16 VFs keep others waiting for some 10 ms.
_VFS_PER_MESSAGE = 16

# Not about one VF: asking again for each would only take longer, with a
# firmware that does not answer up to a minute each.
_WHOLE = frozenset({errno.EPERM, errno.ENODEV, errno.ETIMEDOUT})

_Set = tuple[int, int, int]


class Mlx5Netlink:
    """First choice: the Neutron agent reads the GUIDs back by netlink."""

    name = "mlx5_netlink"

    def __init__(self, sysfs: Tree, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._files = Mlx5Sysfs(sysfs)
        # Whose VFs the kernel can only tell of in a dump.
        self._dumped: set[int] = set()
        # Whose GUIDs the kernel tells: since 5.5, and where backported.
        self._shown: set[int] = set()

    def plugged(self, pf: Pf, guid: Guid, policy: Policy | None) -> VfState:
        return VfState(guid, guid, policy or Policy.FOLLOW)

    def idle(self, pf: Pf) -> VfState:
        return VfState(IDLE, IDLE, Policy.DOWN)

    def obstacle(self, pf: Pf) -> str | None:
        if pf.family is Family.MLX4:
            return "the mlx4 driver has no netlink operations for GUIDs"
        netdev = pf.netdev
        if netdev is None:
            return "the PF has no IPoIB network device here (ib_ipoib)"
        # sysfs lists the devices of the namespace it was mounted in; by that
        # name or index ours may have another device, or none.
        try:
            found = self._endpoint.identify(netdev.name)
        except OSError as error:
            return (
                f"{netdev.name} cannot be reached from this network "
                f"namespace: {error.strerror}"
            )
        if found != (netdev.ifindex, pf.pci):
            return (
                f"in this network namespace {netdev.name} is another device "
                f"({found[1] or 'no PCI device'})"
            )
        return None

    def survey(self, pf: Pf, batch: Collection[int]) -> dict[int, VfState]:
        states = self._ask(pf)
        if pf.family is not Family.MLX5_OFED:
            return states
        # Where netlink knows nothing the files still do: a GUID that was set
        # through them, or before the kernel could read back.
        unknown = [
            index
            for index, state in states.items()
            if state.node_guid is None or state.port_guid is None
        ]
        for index, (node, port) in self._files.guids(pf, unknown).items():
            states[index] = VfState(node, port, states[index].policy)
        return states

    def read_back(
        self, pf: Pf, wanted: Mapping[int, VfState], settle: bool = True
    ) -> dict[int, VfState | IbHostdevError]:
        # Firmware's own word, for these VFs only, where there are files.
        if pf.family is Family.MLX5_OFED:
            return self._files.read_back(pf, wanted)
        return dict(self._ask(pf, wanted))

    def shows(self, pf: Pf) -> bool:
        """Whether the kernel shows what was last set by netlink, as found
        when it was last asked: then "not known" says that nothing was."""
        return _netdev(pf).ifindex in self._shown

    def _ask(
        self, pf: Pf, only: Container[int] | None = None
    ) -> dict[int, VfState]:
        """Of all VFs or some; the kernel tells of all at once."""
        netdev = _netdev(pf)
        try:
            with self._endpoint.open() as socket:
                _, _, _, vfs, dumped = socket.link(
                    netdev.ifindex, dump=netdev.ifindex in self._dumped
                )
            if dumped:
                self._dumped.add(netdev.ifindex)
            if any(port is not None for _, _, port, _ in vfs):
                self._shown.add(netdev.ifindex)
        except OSError as error:
            raise from_errno(
                error.errno or errno.EIO,
                pf.pci,
                f"RTM_GETLINK of {netdev.name}",
                "the VFs' state cannot be read",
            ) from error
        states: dict[int, VfState] = {}
        # Most are idle, and so the same.
        made: dict[tuple[int | None, ...], VfState] = {}
        for index, node, port, link in vfs:
            if only is not None and index not in only:
                continue
            told = node, port, link
            state = made.get(told)
            if state is None:
                state = made[told] = VfState(
                    Guid(node) if node else None,
                    Guid(port) if port else None,
                    None if link is None else _POLICIES.get(link),
                )
            states[index] = state
        return states

    def write(
        self, pf: Pf, states: Mapping[int, VfState], whose: object = None, /
    ) -> dict[int, IbHostdevError]:
        netdev = _netdev(pf)
        sets = [_sets(index, state) for index, state in states.items()]
        parts = [
            [one for vf in sets[at : at + _VFS_PER_MESSAGE] for one in vf]
            for at in range(0, len(sets), _VFS_PER_MESSAGE)
        ]
        try:
            with self._endpoint.open() as socket:
                answers = socket.set_vfs(netdev.ifindex, parts)
                # The kernel stops at the first attribute that fails and does
                # not say which it was. Written one by one they tell; what
                # had been applied is written again, which changes nothing.
                singles = [
                    [one]
                    for part, answer in zip(parts, answers, strict=True)
                    if answer and answer not in _WHOLE
                    for one in part
                ]
                told = socket.set_vfs(netdev.ifindex, singles)
        except OSError as error:
            return {
                index: from_errno(
                    error.errno or errno.EIO,
                    pf.vf_address(index),
                    f"RTM_SETLINK of {netdev.name}",
                )
                for index in states
            }
        failed: dict[int, IbHostdevError] = {
            index: from_errno(
                answer, pf.vf_address(index), f"RTM_SETLINK of {netdev.name}"
            )
            for part, answer in zip(parts, answers, strict=True)
            if answer in _WHOLE
            for index, _, _ in part
        }
        for ((index, attribute, _),), answer in zip(
            singles, told, strict=True
        ):
            if answer and index not in failed:
                failed[index] = from_errno(
                    answer,
                    pf.vf_address(index),
                    f"{_ATTRIBUTES[attribute]} of VF {index} on {netdev.name}",
                )
        return failed


def _netdev(pf: Pf) -> Netdev:
    assert pf.netdev is not None  # or obstacle() would have said so
    return pf.netdev


def _sets(index: int, state: VfState) -> list[_Set]:
    """In an order in which a VF is never up with an identity that is only
    half its own: down comes first, everything else last."""
    guids: list[_Set] = [
        (index, attribute, guid)
        for attribute, guid in (
            (NODE_GUID, state.node_guid),
            (PORT_GUID, state.port_guid),
        )
        if guid is not None
    ]
    if state.policy is None:
        return guids
    link: _Set = (index, LINK_STATE, _LINK_STATES[state.policy])
    return [link, *guids] if state.policy is Policy.DOWN else [*guids, link]
