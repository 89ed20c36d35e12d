# SPDX-License-Identifier: Apache-2.0
"""What the HCAs of a simulated host, their firmware and their drivers know.

Only memory: the files that show it are in ``layout``, what changes it from
outside in ``kernel`` and ``rtnetlink``.
"""

import heapq
import threading
import time
from dataclasses import dataclass, field
from typing import NamedTuple

# Of a vport, in firmware's numbers (include/linux/mlx5/driver.h).
DOWN, UP, FOLLOW = 0, 1, 2
POLICIES = ("Down", "Up", "Follow")

MLX4_ENTRIES = 128  # of a port's GID table; entry n belongs to slave n
# Real ones have 128, which would only cost files. The last stands for none
# (drivers/net/ethernet/mellanox/mlx4/main.c, mlx4_parav_master_pf_caps()).
MLX4_PKEYS = 8
MLX4_DELETE = 2**64 - 1  # admin GUID that gives an entry up

#: Drivers that take a device only if its driver_override names them.
VFIO = ("vfio-pci", "mlx5_vfio_pci")


@dataclass(frozen=True)
class HcaSpec:
    """One adapter as it is wanted: ``family`` is "mlx5" (a stock kernel),
    "mlx5-ofed" (MLNX_OFED's sysfs files too) or "mlx4". It boots with ``vfs``
    VFs, and can have ``total_vfs``; None: no more than these. Its GUIDs are
    made of ``serial`` and its place on the host: on hosts of one fabric it
    has to differ."""

    family: str = "mlx5"
    vfs: int = 16
    ports: int = 1
    netdev: bool = True
    total_vfs: int | None = None
    serial: int = 0

    def __post_init__(self) -> None:
        if self.family not in ("mlx5", "mlx5-ofed", "mlx4"):
            raise ValueError(f"no such family of HCA: {self.family!r}")
        limit = MLX4_ENTRIES - 1 if self.mlx4 else 1024
        if not 0 <= self.total <= limit:
            raise ValueError(f"an HCA has 0 to {limit} VFs, not {self.total}")
        if not 0 <= self.vfs <= self.total:
            raise ValueError(
                f"an HCA that can have {self.total} VFs has not {self.vfs}"
            )
        if not 1 <= self.ports <= (2 if self.mlx4 else 1):
            raise ValueError("an HCA has one port, an mlx4 may have two")
        if not 0 <= self.serial <= 0xFFFF:
            raise ValueError("a serial number is one of 0 to 65535")

    @property
    def total(self) -> int:
        return self.vfs if self.total_vfs is None else self.total_vfs

    @property
    def mlx4(self) -> bool:
        return self.family == "mlx4"

    @property
    def ofed(self) -> bool:
        return self.family == "mlx5-ofed"

    @property
    def driver(self) -> str:
        return "mlx4_core" if self.mlx4 else "mlx5_core"


class Counts(NamedTuple):
    """What was asked of firmware and drivers. A read of one of MLNX_OFED's
    files is a query; a GETLINK counts once for each PF it gathers VFs of."""

    modify: int
    query: int
    getlink: int
    probe: int


@dataclass
class Netdev:
    """A PF's IPoIB interface. ``altnames`` are those that udev gives, and
    others. ``fault`` is how netlink and ioctls see it:
    "" as it is, "absent" and "namespace" not at all, "other" as a device of
    another kind that has its name."""

    name: str
    ifindex: int
    port: int
    address: bytes
    altnames: list[str]
    fault: str = ""


@dataclass
class Context:
    """The PF driver's memory of a VF (struct mlx5_vf_context): lives from
    PF probe to PF remove. Only netlink sets the valid bits."""

    node: int = 0
    port: int = 0
    policy: int = DOWN
    node_valid: bool = False
    port_valid: bool = False


@dataclass
class Vf:
    """A VF: firmware's vport and the PCI device."""

    pf: "Pf"
    index: int
    address: str
    group: int
    node: int = 0
    port: int = 0
    policy: int = DOWN
    driver: str | None = None
    override: str = ""
    in_use: bool = False  # opened through vfio
    ibdev: str | None = None
    identity: int | None = None  # node GUID its own driver took at probe
    lock: threading.RLock = field(default_factory=threading.RLock)


@dataclass
class Alias:
    """An mlx4 port's GUID tables and what its slaves see as P_Keys."""

    admin: list[int]
    operational: list[int]
    pkey_idx: dict[int, list[int]] = field(default_factory=dict)


@dataclass
class Pf:
    """A PF, from the machine's boot on; what its driver knows is reset by
    ``Machine.probe``."""

    number: int
    spec: HcaSpec
    address: str
    netdevs: list[Netdev]
    ibdev: str | None = None
    driver: str | None = None
    override: str = ""
    autoprobe: bool = True
    vfs: list[Vf] = field(default_factory=list)
    contexts: list[Context] = field(default_factory=list)
    aliases: dict[int, Alias] = field(default_factory=dict)
    states: dict[int, str] = field(default_factory=dict)
    sm_lids: dict[int, int] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def node(self) -> int:
        return (
            0x0C42A10300A00000 + (self.spec.serial << 16) + (self.number << 8)
        )

    def port_guid(self, port: int) -> int:
        return self.node + (port if self.spec.mlx4 else 0)

    def vf_address(self, index: int) -> str:
        """Offset 1, stride 1, counted through function, device and bus."""
        domain, bus, _ = self.address.split(":")
        rid = (int(bus, 16) << 8) + 1 + index
        return f"{domain}:{rid >> 8:02x}:{rid >> 3 & 31:02x}.{rid & 7}"


@dataclass
class Birth:
    """The next VFs of a PF are not made: it ends with an errno after so many
    of them, and the kernel takes these back."""

    errno: int
    after: int


@dataclass
class Failure:
    """Changing commands of a VF fail from the ``first``-th on."""

    errno: int
    first: int
    seen: int = 0


def _by_place(address: str, port: int) -> str:
    """As udev names a network device after its place: ibp59s0."""
    domain, bus, slot, function = (
        int(part, 16) for part in address.replace(".", ":").split(":")
    )
    return (
        "ib"
        + (f"P{domain}" if domain else "")
        + f"p{bus}s{slot}"
        + (f"f{function}" if function else "")
        + (f"d{port - 1}" if port > 1 else "")
    )


def _take(seconds: float) -> None:
    if seconds:
        time.sleep(seconds)


class Machine:
    """The HCAs, and what tests make firmware do or count."""

    def __init__(self, specs: list[HcaSpec], iommu: bool = True) -> None:
        self.iommu = iommu
        self.lock = threading.RLock()  # short: never held over a delay
        self.command_delay = 0.0
        self.probe_delay = 0.0
        self.birth_delay = 0.0
        self.sm_silent = False
        self.emsgsize_from = 0  # VFs; 0: a healthy kernel
        self.deny_netlink = 0
        self.deaf: dict[str, int] = {}  # errno by the PF's address
        self.deny_sysfs = 0
        self.dead: set[str] = set()  # PFs, by devlink's word
        self.births: dict[str, Birth] = {}  # by the PF's address
        self._failing: dict[str, Failure] = {}
        self.failing_queries: dict[str, int] = {}
        self._free: dict[str, list[int]] = {}
        self._groups = 0
        self._netdevs = 0
        self.reset_counts()
        self.pfs = [self._pf(i, spec) for i, spec in enumerate(specs)]

    def _pf(self, number: int, spec: HcaSpec) -> Pf:
        # 3b, 5e, 81, … leave room for the VFs, which run on to further buses
        address = f"{number // 6:04x}:{0x3B + 0x23 * (number % 6):02x}:00.0"
        pf = Pf(number, spec, address, [])
        for port in range(1, spec.ports + 1):
            pf.states[port], pf.sm_lids[port] = "4: ACTIVE", 1
            if spec.netdev:
                # flags and QPN, link-local prefix, port GUID
                hardware = bytes.fromhex("00001087fe80000000000000")
                hardware += pf.port_guid(port).to_bytes(8, "big")
                name = f"ib{self._netdevs}"
                index = self._netdevs + 3  # after lo and an eth0
                altname = _by_place(address, port)
                pf.netdevs.append(
                    Netdev(name, index, port, hardware, [altname])
                )
                self._netdevs += 1
        return pf

    def reset_counts(self) -> None:
        self.modify = self.query = self.getlink = self.probe = 0

    def counts(self) -> Counts:
        return Counts(self.modify, self.query, self.getlink, self.probe)

    def new_vf(self, pf: Pf, index: int) -> Vf:
        self._groups += 1
        return Vf(pf, index, pf.vf_address(index), self._groups)

    def take_ibdev(self, family: str) -> str:
        """Lowest free name, as ib_core gives them out."""
        free = self._free.setdefault(family, [0])
        number = heapq.heappop(free)
        if not free:
            heapq.heappush(free, number + 1)
        return f"{family}_{number}"

    def give_ibdev(self, name: str) -> None:
        family, number = name.split("_")
        heapq.heappush(self._free[family], int(number))

    def probe_pf(self, pf: Pf) -> None:
        """A PF driver starts with an empty memory."""
        pf.driver = pf.spec.driver
        pf.ibdev = self.take_ibdev(pf.spec.driver[:4])
        pf.contexts = [Context() for _ in range(pf.spec.total)]
        for port in pf.states if pf.spec.mlx4 else ():
            guids = [pf.port_guid(port)] + [0] * (MLX4_ENTRIES - 1)
            pf.aliases[port] = Alias(guids, guids.copy())

    # ---- firmware commands ----------------------------------------------

    def fail(self, vf: str, errno: int, first: int = 1) -> None:
        with self.lock:
            self._failing[vf] = Failure(errno, first)

    def heal(self) -> None:
        with self.lock:
            self._failing.clear()
            self.failing_queries.clear()
            self.births.clear()

    def sm_refuses(self, vf: str) -> bool:
        failure = self._failing.get(vf)
        return self.sm_silent or (
            failure is not None and failure.seen >= failure.first
        )

    def change(self, vf: str) -> None:
        """One command that changes a VF; raises the errno it ends with."""
        with self.lock:
            self.modify += 1
            failure = self._failing.get(vf)
            if failure:
                failure.seen += 1
            fails = failure and failure.seen >= failure.first
        _take(self.command_delay)
        if failure and fails:
            raise OSError(failure.errno, "firmware refuses")

    def ask(self, vf: str) -> bool:
        """One command that asks about a VF; False if it fails."""
        with self.lock:
            self.query += 1
        _take(self.command_delay)
        return vf not in self.failing_queries
