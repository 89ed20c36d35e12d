# SPDX-License-Identifier: Apache-2.0
"""The common suite's host in the virtual machine: a real kernel.

Hands and witnesses are sysfs, ``ip`` and ``modprobe``; none of our code.
"""

import contextlib
import fcntl
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ibhostdev import Host
from tests.testbed import Counts, Hca, Seen

PCI = Path("/sys/bus/pci")
DEVICES = PCI / "devices"
MODULE = "ibhostdev_rig"
KNOBS = Path("/sys/module") / MODULE / "parameters"
# Commands of <linux/vfio.h>.
VFIO_SET_IOMMU = 0x3B66
VFIO_GROUP_SET_CONTAINER = 0x3B68
VFIO_GROUP_GET_DEVICE_FD = 0x3B6A
VFIO_TYPE1_IOMMU = 1

_STATES = {"down": "disable", "up": "enable", "follow": "auto"}
_WORDS = {state: word for word, state in _STATES.items()}
_COUNTERS = ("modifies", "queries", "getlinks", "probes")
_ZERO = "00:00:00:00:00:00:00:00"
_PKEYS = 8  # RIG_PKEYS
_STRIDE = 8  # firmware commands and probes: here a process takes seconds


def read(path: Path) -> str:
    return path.read_text().strip()


def write(path: Path, value: object) -> None:
    """In one write(), as sysfs wants it; an errno comes as OSError."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, f"{value}\n".encode())
    finally:
        os.close(fd)


def knob(name: str, value: object) -> None:
    """Set a parameter of the module."""
    write(KNOBS / name, value)


def count(name: str) -> int:
    return int(read(KNOBS / name))


def run(*command: str, text: str | None = None) -> str:
    """Run a program of the system; what it prints is the answer."""
    return subprocess.run(
        command, input=text, check=True, text=True, stdout=subprocess.PIPE
    ).stdout


def colons(digits: str) -> str:
    """16 hex digits, with anything between them, as octets with colons."""
    digits = digits.replace(":", "").rjust(16, "0")
    return bytes.fromhex(digits).hex(":")


def load_module() -> None:
    """Load the rig's module, with nothing on its drivers yet."""
    if not KNOBS.exists():
        run("insmod", os.environ["IBHOSTDEV_RIG_MODULE"], "mlx4_random=0")


def unload_module() -> None:
    """Unload it; the VFs go, the functions get their own ids back."""
    run("rmmod", MODULE)


def sriov_functions() -> list[str]:
    return sorted(
        path.name
        for path in DEVICES.iterdir()
        if (path / "sriov_totalvfs").exists()
    )


def driver(address: str) -> str | None:
    try:
        return (DEVICES / address / "driver").readlink().name
    except FileNotFoundError:
        return None


def unbind(address: str) -> None:
    if old := driver(address):
        write(PCI / "drivers" / old / "unbind", address)


def hca_driver(hca: Hca) -> str:
    return "mlx4_core" if hca.family == "mlx4" else "mlx5_core"


@dataclass
class _Function:
    """One SR-IOV function of the machine, and what was made of it."""

    address: str
    hca: Hca | None = None

    @property
    def path(self) -> Path:
        return DEVICES / self.address

    @property
    def numvfs(self) -> int:
        return int(read(self.path / "sriov_numvfs"))

    @property
    def totalvfs(self) -> int:
        return int(read(self.path / "sriov_totalvfs"))

    def vf(self, index: int) -> str:
        return (self.path / f"virtfn{index}").readlink().name

    def netdevs(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return sorted(os.listdir(self.path / "net"))
        return []

    def likeness(self, hca: Hca) -> int:
        """The more, the less has to be done to make it this HCA."""
        return 2 * (self.hca == hca) + (self.numvfs == hca.vfs)

    def ready(self, hca: Hca) -> bool:
        return (
            self.hca == hca
            and driver(self.address) == hca_driver(hca)
            and self.numvfs == hca.vfs
            and len(self.netdevs()) == hca.netdev * hca.ports
        )

    def make(self, hca: Hca) -> None:
        """A fresh HCA of this kind, all VFs on its driver."""
        if self.ready(hca):
            knob("reset", self.address)
        else:
            self._bind(hca)
        write(self.path / "sriov_drivers_autoprobe", 1)
        for index in range(hca.vfs):
            self._refresh(self.vf(index), hca)

    def _bind(self, hca: Hca) -> None:
        self.drop()
        words = [hca.family.split("-")[0]]
        if hca.family == "mlx5-ofed":
            words.append("ofed")
        if not hca.netdev:
            words.append("nonet")
        if hca.family == "mlx4":
            words += [f"ports{hca.ports}", f"vfs{hca.vfs}"]
        knob("hca", f"{self.address}={'+'.join(words)}")
        write(PCI / "drivers" / hca_driver(hca) / "bind", self.address)
        self.hca = hca
        if self.numvfs != hca.vfs:
            for n in {0, hca.vfs} if self.numvfs else {hca.vfs}:
                write(self.path / "sriov_numvfs", n)

    def drop(self) -> None:
        """Off its driver; the VFs stay, driverless."""
        for index in range(self.numvfs):
            vf = self.vf(index)
            if driver(vf) not in (None, driver(self.address)):
                unbind(vf)
        unbind(self.address)
        self.hca = None

    def _refresh(self, vf: str, hca: Hca) -> None:
        """On the HCA's driver, with the identity of now."""
        override = DEVICES / vf / "driver_override"
        if read(override) != "(null)":
            write(override, "")
        name = hca_driver(hca)
        if driver(vf) == name:
            if identity(vf) == _ZERO:
                return
            unbind(vf)
        elif driver(vf):
            unbind(vf)
        write(PCI / "drivers" / name / "bind", vf)


def identity(vf: str) -> str | None:
    """What the VF's own driver took at its probe; on mlx4 that is the GUID
    of its first port, for its node GUID is nobody's to choose."""
    for ibdev in (DEVICES / vf).glob("infiniband/*"):
        if ibdev.name.startswith("mlx4"):
            return colons(read(ibdev / "ports/1/gids/0")[-19:])
        return colons(read(ibdev / "node_guid"))
    return None


@dataclass
class KernelTestbed:
    """The machine's SR-IOV functions as HCAs.

    It keeps the VFs from one build to the next where it can, for the kernel
    takes more than a second to remove those of a PF.
    """

    kind: Literal["simulated", "kernel"] = "kernel"
    sys: Path = Path("/sys")
    pfs: list[str] = field(default_factory=list)
    command: list[str] = field(
        default_factory=lambda: [sys.executable, "-m", "ibhostdev"]
    )

    def __post_init__(self) -> None:
        load_module()
        self._all = [_Function(address) for address in sriov_functions()]
        self._used: list[_Function] = []

    def build(self, *hcas: Hca) -> None:
        self.heal()
        self.delay()
        for name, value in (
            ("sm_lid", 1), ("port_state", 4), ("sm_delay", 0),
            ("sm_silent", 0), ("vf_netdev", 0), ("ofed", -1),
            ("keep_vfs", 1), ("estimate_lacks", 0),
        ):  # fmt: skip
            knob(name, value)
        self.pkeys(0xFFFF, 0x7FFF, 0x8001)
        self._used = self._choose(hcas)
        with ThreadPoolExecutor() as pool:
            jobs = [
                pool.submit(function.drop)
                for function in self._all
                if function not in self._used
            ]
            jobs += [
                pool.submit(function.make, hca)
                for function, hca in zip(self._used, hcas, strict=True)
            ]
        for job in jobs:
            job.result()
        knob("keep_vfs", 0)
        self.pfs = [function.address for function in self._used]
        self.reset_counts()

    def _choose(self, hcas: tuple[Hca, ...]) -> list[_Function]:
        """Functions in the order of their addresses, with the least to do."""
        fitting = [
            list(some)
            for some in itertools.combinations(self._all, len(hcas))
            if all(
                function.totalvfs >= max(hca.vfs, hca.total)
                for function, hca in zip(some, hcas, strict=True)
            )
        ]
        if not fitting:
            raise ValueError(f"this shape of the rig has no room for {hcas}")
        return max(
            fitting,
            key=lambda some: sum(
                function.likeness(hca)
                for function, hca in zip(some, hcas, strict=True)
            ),
        )

    def vf(self, pf: int, index: int) -> str:
        return self._used[pf].vf(index)

    def connect(self, **kwargs: Any) -> Host:
        return Host(**kwargs)

    # ---- witnesses ------------------------------------------------------

    @contextlib.contextmanager
    def _uncounted(self) -> Iterator[None]:
        """A witness's own commands are not those that a test counts, and are
        answered."""
        before = {name: count(name) for name in (*_COUNTERS, "estimate_lacks")}
        knob("estimate_lacks", 0)
        yield
        for name, n in before.items():
            knob(name, n)

    def seen(self, pf: int) -> list[Seen]:
        with self._uncounted():
            return self._seen(pf)

    def _seen(self, pf: int) -> list[Seen]:
        function = self._used[pf]
        vfs = range(function.numvfs)
        if function.hca is not None and function.hca.family == "mlx4":
            files = next(function.path.glob("infiniband/*/iov/ports/1"))
            return [
                Seen(None, colons(read(files / f"admin_guids/{n + 1}")), None)
                for n in vfs
            ]
        if netdevs := function.netdevs():
            shown = json.loads(
                run("ip", "-d", "-json", "link", "show", "dev", netdevs[0])
            )[0]
            by_index = {
                one["vf"]: Seen(
                    one["node guid"],
                    one["port guid"],
                    _WORDS[one["link_state"]],
                )
                for one in shown.get("vfinfo_list", [])
            }
            # The kernel leaves out a VF that it cannot ask about.
            return [by_index.get(n, Seen(None, None, None)) for n in vfs]
        return [self._seen_in_files(function.path, n) for n in vfs]

    @staticmethod
    def _seen_in_files(pf: Path, index: int) -> Seen:
        try:
            node, port, policy = (
                read(pf / f"sriov/{index}" / name)
                for name in ("node", "port", "policy")
            )
        except OSError:
            return Seen(None, None, None)
        return Seen(node, port, policy.lower())

    def identity(self, vf: str) -> str | None:
        return identity(vf)

    def driver(self, vf: str) -> str | None:
        return driver(vf)

    def counts(self) -> Counts:
        return Counts(*(count(name) for name in _COUNTERS))

    def reset_counts(self) -> None:
        for name in _COUNTERS:
            knob(name, 0)

    # ---- hands ----------------------------------------------------------

    def bind(self, vf: str, driver: str | None) -> None:
        unbind(vf)
        if driver is None:
            return
        vfio = driver.startswith("vfio")
        if vfio:
            run("modprobe", driver)
        write(DEVICES / vf / "driver_override", driver if vfio else "")
        write(PCI / "drivers" / driver / "bind", vf)

    @contextlib.contextmanager
    def hold(self, vf: str) -> Iterator[None]:
        """As QEMU holds it: vfio-pci, group and device open.

        With a machine of the shape "small" only: it takes an IOMMU.
        """
        before = driver(vf)
        if before != "vfio-pci":
            self.bind(vf, "vfio-pci")
        with contextlib.ExitStack() as files:

            def opened(fd: int) -> int:
                files.callback(os.close, fd)
                return fd

            container = opened(os.open("/dev/vfio/vfio", os.O_RDWR))
            number = (DEVICES / vf / "iommu_group").readlink().name
            group = opened(os.open(f"/dev/vfio/{number}", os.O_RDWR))
            fcntl.ioctl(
                group,
                VFIO_GROUP_SET_CONTAINER,
                container.to_bytes(4, sys.byteorder),
            )
            fcntl.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU)
            # Of a bytearray, unlike bytes, ioctl() gives the number back.
            name = bytearray(vf.encode() + b"\0")
            opened(fcntl.ioctl(group, VFIO_GROUP_GET_DEVICE_FD, name))
            yield
        if before != "vfio-pci":
            self.bind(vf, before)

    def seed(
        self,
        pf: int,
        index: int,
        node: str | None = None,
        port: str | None = None,
        policy: str | None = None,
    ) -> None:
        function = self._used[pf]
        if function.hca is not None and function.hca.family == "mlx4":
            if port is not None:
                files = next(function.path.glob("infiniband/*/iov/ports/1"))
                digits = port.replace(":", "")
                write(files / f"admin_guids/{index + 1}", digits)
            return
        netdevs = function.netdevs()
        if not netdevs:
            files = function.path / "sriov" / str(index)
            word = policy and policy.capitalize()
            for name, value in (
                ("node", node), ("port", port), ("policy", word),
            ):  # fmt: skip
                if value is not None:
                    write(files / name, value)
            return
        # One a line: two GUIDs of a VF in one message lose the second.
        state = policy and _STATES[policy]
        lines = [
            f"link set dev {netdevs[0]} vf {index} {word} {value}\n"
            for word, value in (
                ("node_guid", node), ("port_guid", port), ("state", state),
            )
            if value is not None
        ]  # fmt: skip
        with self._uncounted():
            run("ip", "-batch", "-", text="".join(lines))

    def write(self, path: str, value: object) -> None:
        write(self.sys / path, value)

    def numvfs(self, pf: int, n: int) -> None:
        write(self._used[pf].path / "sriov_numvfs", n)

    @contextlib.contextmanager
    def altname(self, pf: int, name: str) -> Iterator[None]:
        netdev = self._used[pf].netdevs()[0]
        run("ip", "link", "property", "add", "dev", netdev, "altname", name)
        try:
            yield
        finally:
            run("ip", "link", "property", "del", "dev", netdev,
                "altname", name)  # fmt: skip

    @contextlib.contextmanager
    def vf_netdevs(self, pf: int) -> Iterator[None]:
        function = self._used[pf]
        vfs = [function.vf(n) for n in range(function.numvfs)]
        self._bind_all(vfs, vf_netdev=1)
        try:
            yield
        finally:
            self._bind_all(vfs, vf_netdev=0)

    def _bind_all(self, vfs: list[str], vf_netdev: int) -> None:
        knob("vf_netdev", vf_netdev)
        for vf in vfs:
            self.bind(vf, driver(vf))

    @contextlib.contextmanager
    def away(self, vf: str) -> Iterator[None]:
        (name,) = os.listdir(DEVICES / vf / "net")
        run("ip", "netns", "add", "container")
        try:
            run("ip", "link", "set", "dev", name, "netns", "container")
            yield
            back = ("ip", "-n", "container", "link", "set", "dev", name)
            run(*back, "netns", "1")
        finally:
            run("ip", "netns", "delete", "container")

    # ---- bad days -------------------------------------------------------

    def _fail(self, name: str, vf: str, errno: int, first: int) -> None:
        """Beside the failures that are set already; all count from now."""
        pf = (DEVICES / vf / "physfn").readlink().name
        function = next(one for one in self._used if one.address == pf)
        index = next(n for n in range(function.numvfs) if function.vf(n) == vf)
        others = [
            one
            for one in read(KNOBS / name).split(",")
            if one and not one.startswith(f"{pf}/{index}:")
        ]
        knob(name, ",".join([*others, f"{pf}/{index}:{errno}:{first}"]))

    def fail(self, vf: str, errno: int, first: int = 1) -> None:
        self._fail("fail", vf, errno, first)

    def fail_queries(self, vf: str, errno: int) -> None:
        self._fail("fail_query", vf, errno, 1)

    def fail_numvfs(self, pf: int, errno: int, after: int = 0) -> None:
        knob("fail_numvfs", f"{self.pfs[pf]}:{errno}:{after}")

    def heal(self) -> None:
        for name in ("fail", "fail_query", "fail_numvfs"):
            knob(name, "")
        knob("hold", -1)

    def delay(self, command: float = 0.0, probe: float = 0.0) -> None:
        knob("command_delay", round(command * 1e6))
        knob("probe_delay", round(probe * 1e3))

    def killed(self, command: list[str], step: int) -> int:
        """While it waits for firmware, or for a driver; the write that it was
        at is carried out. That is how real firmware commands end; a probe of
        a real driver may fail when its process is killed."""
        knob("hold", 1 + _STRIDE * (step - 1))
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as victim:
            try:
                until(
                    lambda: victim.poll() is not None or not count("hold"),
                    seconds=600,
                )
            finally:
                victim.kill()
                # Else it is not gone, which is waited for.
                knob("hold", -1)
        return victim.returncode

    def pkeys(self, *pkeys: int) -> None:
        free = _PKEYS - len(pkeys)
        knob("pkeys", ",".join(map(str, [*pkeys, *[0] * free])))

    def underestimate(self) -> None:
        # More than a kernel ever did, that few VFs are enough.
        knob("estimate_lacks", 1000)

    def close(self) -> None:
        """Nothing: the machine goes with all that is in it."""
        self.heal()
        self.delay()


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait for what a work item of the kernel is to do."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.01)
