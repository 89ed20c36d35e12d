# SPDX-License-Identifier: Apache-2.0
"""Which PFs, VFs, ports and drivers are there; read only.

Topology (what a PF is and where its VFs are) is cached and checked again
cheaply; state (GUIDs, policy, drivers) never is. Nothing here asks firmware
about a VF.
"""

import errno
import logging
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from ibhostdev._native import ioctl
from ibhostdev._native.rtnetlink import Socket
from ibhostdev._native.sysfs import Tree
from ibhostdev.errors import (
    DeviceNotFound,
    IbHostdevError,
    InvalidInput,
    from_errno,
)
from ibhostdev.guid import Guid
from ibhostdev.pci import PciAddress

DEVICES = "bus/pci/devices"
DRIVERS = "bus/pci/drivers"
_ARPHRD_INFINIBAND = b"32"
_LID = re.compile(rb"0x[0-9a-f]{1,8}")
_TRIES = 3
_MOST_VFS = 0xFFFF  # NumVFs is a field of 16 bits (PCI Express, SR-IOV)

LOG = logging.getLogger(__name__)


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

    ``pkeys`` are mlx4's two ``pkey_idx`` entries, as sysfs shows them;
    ``pending`` that the subnet manager has not agreed to the GUID.
    """

    node_guid: Guid | None = None
    port_guid: Guid | None = None
    policy: Policy | None = None
    pkeys: tuple[str, str] | None = None
    pending: bool = False

    @property
    def owner(self) -> Guid | None:
        """The GUID of whom the VF belongs to; None if it is idle."""
        for guid in (self.port_guid, self.node_guid):
            if guid is not None and not guid.is_idle:
                return guid
        return None


class Netdev(NamedTuple):
    """An IPoIB network device of a PF, not one of its P_Key children."""

    name: str
    ifindex: int
    port: int


class Port(NamedTuple):
    """A physical port: ``state`` as the kernel writes it (ACTIVE, INIT,
    DOWN, …), ``sm_lid`` the LID of the subnet manager, 0 if none is seen."""

    number: int
    state: str
    sm_lid: int


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


def _identify(name: str) -> tuple[int, str]:
    return ioctl.ifindex(name), ioctl.driver_info(name)[1]


class Endpoint(NamedTuple):
    """Whom to talk netlink with: the kernel, or a process that stands in
    for it (``protocol`` 2, NETLINK_USERSOCK, ``port`` its port id).

    ``identify`` gives interface index and PCI address of a network device as
    this process can reach it, or raises OSError.
    """

    protocol: int = 0
    port: int = 0
    identify: Callable[[str], tuple[int, str]] = _identify

    def open(self) -> Socket:
        return Socket(self.protocol, self.port)


def base_name(link: str) -> str:
    return link.rpartition("/")[2]


class Inventory:
    """The host's HCAs, below one sysfs root. Threads may share it."""

    def __init__(self, sysfs: Tree) -> None:
        self._sysfs = sysfs
        self._lock = threading.Lock()
        self._pfs: dict[PciAddress, Pf] = {}
        self._fingerprint: object = None
        # Where each VF is to be found; None until it is asked for.
        self._places: dict[PciAddress, tuple[Pf, int]] | None = None

    # -- PFs ----------------------------------------------------------

    def pfs(self, anew: bool = False) -> list[Pf]:
        """PFs with an InfiniBand port, by PCI address.

        Their ports' states are as of the last change of topology, or of now
        if they are to be read ``anew``.
        """
        with self._lock:
            self._refresh(anew)
            return list(self._pfs.values())

    @property
    def last_pfs(self) -> list[Pf]:
        """The same as when they were last looked at."""
        return list(self._pfs.values())

    def _refresh(self, anew: bool) -> None:
        stale = anew or self._look() != self._fingerprint
        # Until what is looked at was not changing while it was read.
        for _ in range(_TRIES):
            if not stale:
                break
            before, self._pfs = self._pfs, self._read_pfs()
            self._fingerprint = self._look()
            self._places = None
            stale = before != self._pfs

    def _vf_places(self) -> dict[PciAddress, tuple[Pf, int]]:
        """PF and index of each VF that is enabled, by its address."""
        with self._lock:
            self._refresh(False)
            if self._places is None:
                self._places = {
                    pf.vf_address(index): (pf, index)
                    for pf in self._pfs.values()
                    for index in range(pf.numvfs)
                }
            return self._places

    def _look(self) -> object:
        """What changes whenever the cached topology no longer holds."""
        known = list(self._pfs.values())
        return (
            tuple(self._listdir("class/infiniband")),
            tuple(
                value if isinstance(value, int) else value.decode()
                for value in self._sysfs.read(
                    [f"{pf.path}/sriov_numvfs" for pf in known]
                    + [f"{pf.path}/sriov_drivers_autoprobe" for pf in known]
                    + [
                        f"{pf.path}/net/{netdev.name}/ifindex"
                        for pf in known
                        for netdev in pf.netdevs
                    ]
                )
            ),
            tuple(tuple(self._listdir(f"{pf.path}/net")) for pf in known),
        )

    def _listdir(self, path: str) -> list[str]:
        (names,) = self._sysfs.listdir([path])
        if not isinstance(names, int):
            return names
        if names == errno.ENOENT:
            return []
        raise from_errno(names, path, "directory", "cannot be listed")

    def _read_pfs(self) -> dict[PciAddress, Pf]:
        names = self._listdir("class/infiniband")
        links = self._sysfs.readlink([f"class/infiniband/{n}" for n in names])
        found: dict[PciAddress, str] = {}
        for name, link in zip(names, links, strict=True):
            # …/0000:3b:00.0/infiniband/mlx5_0; software devices have no
            # PCI parent
            parts = link.split("/") if isinstance(link, str) else []
            if len(parts) < 3:
                continue
            try:
                found.setdefault(PciAddress.parse(parts[-3]), name)
            except InvalidInput:
                continue
        # Only a PF has this file: what the VFs' own driver registers is not
        # of interest here.
        totals = self._sysfs.read(
            [f"{DEVICES}/{pci}/sriov_totalvfs" for pci in found]
        )
        pfs: dict[PciAddress, Pf] = {}
        for (pci, name), total in sorted(
            zip(found.items(), totals, strict=True), key=lambda pair: pair[0]
        ):
            if not isinstance(total, bytes):
                continue
            try:
                pf = self._read_pf(pci, name)
            except IbHostdevError as error:
                # One that is ill must not stop the others.
                LOG.warning("PF %s is left out: %s", pci, error)
                continue
            if pf is not None:
                pfs[pci] = pf
        return pfs

    def _read_pf(self, pci: PciAddress, ib_device: str) -> Pf | None:
        path = f"{DEVICES}/{pci}"
        (driver,) = self._sysfs.readlink([f"{path}/driver"])
        if not isinstance(driver, str):
            return None
        driver = base_name(driver)
        if driver not in ("mlx5_core", "mlx4_core"):
            return None
        ports = self._read_ports(f"{path}/infiniband/{ib_device}/ports")
        if not ports:
            return None
        numbers = self._sysfs.read(
            [
                f"{path}/{attribute}"
                for attribute in (
                    "sriov_numvfs",
                    "sriov_totalvfs",
                    "sriov_offset",
                    "sriov_stride",
                    "sriov_drivers_autoprobe",
                )
            ]
        )
        numvfs, totalvfs, offset, stride, autoprobe = (
            self._number(value, path) for value in numbers
        )
        if not 0 <= numvfs <= _MOST_VFS:
            raise from_errno(
                errno.EINVAL, path, "sriov_numvfs", f"cannot be {numvfs}"
            )
        return Pf(
            pci=pci,
            family=self._family(path, driver),
            driver=driver,
            ib_device=ib_device,
            ports=ports,
            netdevs=self._read_netdevs(path),
            numvfs=numvfs,
            totalvfs=totalvfs,
            offset=offset,
            stride=stride,
            autoprobe=autoprobe != 0,
            port=ports[0].number,
        )

    @staticmethod
    def _number(value: bytes | int, path: str) -> int:
        """Decimal, or hex as sysfs writes it; absent files count as 0."""
        if isinstance(value, int):
            if value == errno.ENOENT:
                return 0
            raise from_errno(value, path, "sriov", "cannot be read")
        try:
            return int(value, 0)
        except ValueError:
            raise from_errno(
                errno.EINVAL, path, "sriov", f"{value!r} is no number"
            ) from None

    def _family(self, path: str, driver: str) -> Family:
        if driver == "mlx4_core":
            return Family.MLX4
        # With an Ethernet port the folders hold many files but no policy;
        # without VFs there are none.
        sriov = self._listdir(f"{path}/sriov")
        if sriov and "policy" in self._listdir(f"{path}/sriov/0"):
            return Family.MLX5_OFED
        return Family.MLX5

    def _read_ports(self, path: str) -> tuple[Port, ...]:
        ports = []
        for name in self._listdir(path):
            layer, state, lid = self._sysfs.read(
                [
                    f"{path}/{name}/{a}"
                    for a in ("link_layer", "state", "sm_lid")
                ]
            )
            if layer != b"InfiniBand" or not name.isdecimal():
                continue
            ports.append(
                Port(
                    number=int(name),
                    # "4: ACTIVE"
                    state=state.decode("ascii", "replace").rpartition(" ")[2]
                    if isinstance(state, bytes)
                    else "unknown",
                    # An HCA that is ill cannot tell; its VFs can be idled.
                    sm_lid=int(lid, 0)
                    if isinstance(lid, bytes) and _LID.fullmatch(lid)
                    else 0,
                )
            )
        return tuple(sorted(ports, key=lambda port: port.number))

    def _read_netdevs(self, path: str) -> tuple[Netdev, ...]:
        found = []
        for name in self._listdir(f"{path}/net"):
            kind, index, link, port = self._sysfs.read(
                [
                    f"{path}/net/{name}/{attribute}"
                    for attribute in ("type", "ifindex", "iflink", "dev_port")
                ]
            )
            # A P_Key child shows its parent's index in iflink.
            if kind != _ARPHRD_INFINIBAND or index != link:
                continue
            found.append(
                Netdev(
                    name,
                    self._number(index, path),
                    self._number(port, path) + 1,
                )
            )
        return tuple(sorted(found, key=lambda netdev: netdev.port))

    # -- VFs ----------------------------------------------------------

    def vfs(self, pf: Pf, indices: Iterable[int] | None = None) -> list[Vf]:
        """The PF's VFs, or those of them; vanished ones are left out."""
        chosen = range(pf.numvfs) if indices is None else indices
        wanted = [(index, pf.vf_address(index)) for index in chosen]
        links = self._sysfs.readlink(
            [f"{pf.path}/virtfn{index}" for index, _ in wanted]
        )
        here = [
            (pf, index, pci)
            for (index, pci), link in zip(wanted, links, strict=True)
            if isinstance(link, str) and base_name(link) == pci
        ]
        return self._read_vfs(here)

    def locate(
        self, addresses: Sequence[PciAddress]
    ) -> list[Vf | DeviceNotFound]:
        """The VF at each address, or why there is none."""
        places = self._vf_places()
        placed = [places.get(pci) for pci in addresses]
        # The kernel's own word for what was computed: no driver checks the
        # index, and a wrong one is somebody else's VF.
        links = self._sysfs.readlink(
            [
                f"{place[0].path}/virtfn{place[1]}"
                for place in placed
                if place is not None
            ]
        )
        confirmed = iter(links)
        here: list[tuple[Pf, int, PciAddress]] = []
        found: list[DeviceNotFound | None] = []
        for pci, place in zip(addresses, placed, strict=True):
            if place is None:
                found.append(self._misplaced(pci))
                continue
            link = next(confirmed)
            if not isinstance(link, str) or base_name(link) != pci:
                found.append(
                    DeviceNotFound(
                        f"its PF {place[0].pci} does not list it as VF "
                        f"{place[1]}",
                        pci,
                        "virtfn",
                        cure="enable the PF's VFs anew",
                    )
                )
                continue
            here.append((*place, pci))
            found.append(None)
        vfs = iter(self._read_vfs(here))
        return [error or next(vfs) for error in found]

    def _misplaced(self, pci: PciAddress) -> DeviceNotFound:
        """Why an address is not that of a VF of any PF here."""
        (physfn,) = self._sysfs.readlink([f"{DEVICES}/{pci}/physfn"])
        if isinstance(physfn, int):
            return self._no_vf(pci)
        pf = self._pfs.get(PciAddress(base_name(physfn)))
        if pf is None:
            return DeviceNotFound(
                f"its PF {base_name(physfn)} has no InfiniBand port",
                pci,
                "physfn",
                cure="load the InfiniBand driver (mlx5_ib, mlx4_ib), or name "
                "a VF of an InfiniBand adapter",
            )
        return DeviceNotFound(
            f"is no VF below the {pf.numvfs} that {pf.pci} has enabled",
            pci,
            "sriov_numvfs",
            cure=f"write the number of VFs to {pf.path}/sriov_numvfs",
        )

    def _no_vf(self, pci: PciAddress) -> DeviceNotFound:
        (device,) = self._sysfs.readlink([f"{DEVICES}/{pci}"])
        if isinstance(device, int):
            return DeviceNotFound(
                "there is no such PCI device",
                pci,
                cure="see 'ibhostdev list' for the VFs of this host",
            )
        (total,) = self._sysfs.read([f"{DEVICES}/{pci}/sriov_totalvfs"])
        what = "a PF" if isinstance(total, bytes) else "no VF"
        return DeviceNotFound(
            f"is {what}: it has no physfn",
            pci,
            "physfn",
            cure="name one of its VFs; see 'ibhostdev list'",
        )

    def _read_vfs(self, places: list[tuple[Pf, int, PciAddress]]) -> list[Vf]:
        links = self._sysfs.readlink(
            [f"{DEVICES}/{pci}/driver" for _, _, pci in places]
        )
        drivers = [
            base_name(link) if isinstance(link, str) else None
            for link in links
        ]
        vfio = [
            pci
            for (_, _, pci), driver in zip(places, drivers, strict=True)
            if driver is not None and "vfio" in driver
        ]
        enabled = self._sysfs.read([f"{DEVICES}/{pci}/enable" for pci in vfio])
        in_use = {
            pci
            for pci, enable in zip(vfio, enabled, strict=True)
            # what cannot be read may be in use
            if enable != b"0"
        }
        return [
            Vf(pf, index, pci, driver, pci in in_use)
            for (pf, index, pci), driver in zip(places, drivers, strict=True)
        ]

    def iommu_groups(self, vfs: Sequence[Vf]) -> dict[PciAddress, int | None]:
        """The number of each VF's IOMMU group; None if it has none."""
        links = self._sysfs.readlink(
            [f"{DEVICES}/{vf.pci}/iommu_group" for vf in vfs]
        )
        names = [
            base_name(link) if isinstance(link, str) else "" for link in links
        ]
        return {
            vf.pci: int(name) if name.isdecimal() else None
            for vf, name in zip(vfs, names, strict=True)
        }

    def own_identities(self, vfs: Sequence[Vf]) -> list[Guid | None]:
        """The node GUID that each VF's own driver on this host took when it
        was bound; None if it shows none."""
        folders = [f"{DEVICES}/{vf.pci}/infiniband" for vf in vfs]
        devices = [
            # One, or none before the driver has it.
            names[0] if isinstance(names, list) and names else "none"
            for names in self._sysfs.listdir(folders)
        ]
        values = self._sysfs.read(
            [
                f"{folder}/{device}/node_guid"
                for folder, device in zip(folders, devices, strict=True)
            ]
        )
        return [_node_guid(value) for value in values]


def _node_guid(value: bytes | int) -> Guid | None:
    """From four groups of four digits."""
    if isinstance(value, int):
        return None
    try:
        return Guid(value.replace(b":", b""), 16)
    except ValueError:
        return None
