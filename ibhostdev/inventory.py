# SPDX-License-Identifier: Apache-2.0
"""What there is on a host, as values: PFs, VFs, ports, states."""

from enum import StrEnum
from typing import NamedTuple

from ibhostdev.guid import Guid
from ibhostdev.pci import PciAddress
from ibhostdev.pkey import PKey

DEVICES = "bus/pci/devices"
DRIVERS = "bus/pci/drivers"

EBRCTL = "ebrctl"
MECHANISMS = ("mlx5_netlink", "mlx5_sysfs", "mlx4_sysfs", EBRCTL)
"""The ways of setting a VF's identity, in the order of preference."""


class Policy(StrEnum):
    """Administrative link state of a VF."""

    DOWN = "down"
    UP = "up"
    FOLLOW = "follow"


class Family(StrEnum):
    """What an HCA's driver offers for its VFs' identities."""

    MLX5 = "mlx5"
    MLX5_OFED = "mlx5-ofed"
    MLX4 = "mlx4"


class VfState(NamedTuple):
    """Identity and policy of a VF; None is not known, or not there (mlx4 has
    neither node GUIDs nor policies of VFs).

    ``pkeys`` are mlx4's two ``pkey_idx`` entries, as sysfs shows them: places
    in the table of the PF's port. ``pkey`` is the P_Key at the first of them,
    where it was looked up: in results of a plug whose VIF names one, and in
    what Host.with_pkeys() gives. ``pending`` says that the subnet manager has
    not agreed to the GUID.
    """

    node_guid: Guid | None = None
    port_guid: Guid | None = None
    policy: Policy | None = None
    pkeys: tuple[str, str] | None = None
    pending: bool = False
    pkey: PKey | None = None

    @property
    def owner(self) -> Guid | None:
        """The GUID of whom the VF belongs to; None if it is idle."""
        for guid in (self.port_guid, self.node_guid):
            if guid is not None and not guid.is_idle:
                return guid
        return None

    @property
    def words(self) -> str:
        """All of it, for people."""
        guids = [
            f"{name} GUID {guid}"
            for name, guid in (
                ("node", self.node_guid),
                ("port", self.port_guid),
            )
            if guid is not None
        ]
        known = self.node_guid or self.port_guid
        if len(guids) == 2 and self.node_guid == self.port_guid:
            guids = [f"GUID {known}"]
        if known is not None and self.owner is None:
            guids = ["idle"]
        if self.policy is not None:
            guids.append(f"policy {self.policy}")
        if self.pkey is not None:
            guids.append(f"P_Key {self.pkey}")
        if known is None:
            guids.insert(0, "GUID not known")
        return ", ".join(guids)


class Traffic(NamedTuple):
    """What a VF has sent and received since it was made, as its driver tells
    (IFLA_VF_STATS); what that does not count is 0."""

    rx_packets: int
    tx_packets: int
    rx_bytes: int
    tx_bytes: int
    rx_broadcast: int
    rx_multicast: int
    rx_dropped: int
    tx_dropped: int


class Netdev(NamedTuple):
    """An IPoIB network device of a PF, not one of its P_Key children.
    ``altnames`` are those by which the mapping of networks names it."""

    name: str
    ifindex: int
    port: int
    altnames: tuple[str, ...] = ()


class Port(NamedTuple):
    """A physical port: ``state`` as the kernel writes it (ACTIVE, INIT,
    DOWN, …), ``sm_lid`` the LID of the subnet manager, 0 if none is seen,
    ``guid`` the port GUID, None if it is not shown."""

    number: int
    state: str
    sm_lid: int
    guid: Guid | None = None


class Pf(NamedTuple):
    """An HCA function with InfiniBand ports.

    ``port`` is the HCA port that the VFs' identity is meant for: always 1 on
    mlx5; a dual-port mlx4 function has one identity per port and VF.
    """

    pci: PciAddress
    family: Family
    driver: str
    ib_device: str
    ports: tuple[Port, ...]
    netdevs: tuple[Netdev, ...]
    numvfs: int
    totalvfs: int
    offset: int
    stride: int
    autoprobe: bool
    port: int
    node_guid: Guid | None = None

    @property
    def netdev(self) -> Netdev | None:
        """The IPoIB network device of ``port``."""
        for netdev in self.netdevs:
            if netdev.port == self.port:
                return netdev
        return None

    @property
    def path(self) -> str:
        return f"{DEVICES}/{self.pci}"

    def on_port(self, port: int) -> "Pf":
        return self if port == self.port else self._replace(port=port)

    def vf_address(self, index: int) -> PciAddress:
        """By the SR-IOV capability's offset and stride (drivers/pci/iov.c):
        VFs may lie on later buses than their PF."""
        rid = self.pci.rid + self.offset + self.stride * index
        domain = self.pci.split(":")[0]
        return PciAddress(
            f"{domain}:{rid >> 8:02x}:{rid >> 3 & 31:02x}.{rid & 7}"
        )


class Vf(NamedTuple):
    """A VF: where it is and who drives it.

    ``in_use`` says that it is in a guest's hands: its driver is of the VFIO
    kind and has the device enabled, which vfio-pci does only while some
    process holds it open (drivers/vfio/pci/vfio_pci_core.c).
    """

    pf: Pf
    index: int  # type: ignore[assignment]  # for tuple's method
    pci: PciAddress
    driver: str | None
    in_use: bool


class Endpoint(NamedTuple):
    """Whom to talk netlink with: the kernel, or a process that stands in
    for it (``protocol`` 2, NETLINK_USERSOCK, ``port`` its port id)."""

    protocol: int = 0
    port: int = 0


def base_name(link: str) -> str:
    return link.rpartition("/")[2]
