# SPDX-License-Identifier: Apache-2.0
"""What a kernel does when somebody writes to its sysfs files.

Each function here ends as the kernel's store function does: it returns, or
raises the OSError that write() would give.
"""

import contextlib
import os
import queue
import random
import re
import threading
import time
from collections.abc import Callable
from errno import (
    EACCES,
    EBUSY,
    EINVAL,
    EIO,
    ENODEV,
    ENOENT,
    ERANGE,
)

from ibhostdev.simulate.layout import Layout, pkey_index
from ibhostdev.simulate.model import (
    MLX4_DELETE,
    MLX4_ENTRIES,
    MLX4_PKEYS,
    POLICIES,
    VFIO,
    Machine,
    Pf,
    Vf,
)

# sscanf's %hhx eight times: leading blanks, one digit and trailing text pass
_OCTETS = re.compile(":".join([r"\s*([0-9a-fA-F]{1,2})"] * 8))
_HEX = re.compile(r"\s*(?:0[xX])?([0-9a-fA-F]+)")
_BOOLS = {"y": True, "1": True, "t": True, "n": False, "0": False, "f": False}

_GARBAGE = 0xFFFF88810A2B3C40  # what lies on the stack, a pointer say


def _integer(text: str) -> int:
    """As kstrtoint with base 0: decimal, 0x or octal with a leading 0."""
    text = text.removesuffix("\n")
    if not re.fullmatch(r"[-+]?(0[xX][0-9a-fA-F]+|[0-9]+)", text):
        raise OSError(EINVAL, "not a number")
    octal = re.fullmatch(r"[-+]?0[0-7]+", text)
    try:
        return int(text, 8 if octal else 0)
    except ValueError:
        raise OSError(EINVAL, "not a number") from None


class SubnetManager(threading.Thread):
    """Answers the requests of mlx4 PFs for alias GUIDs, after a while."""

    def __init__(self, kernel: "Kernel") -> None:
        super().__init__(name="subnet manager", daemon=True)
        self._kernel = kernel
        self._requests: queue.SimpleQueue[tuple[float, Pf, int, int] | None]
        self._requests = queue.SimpleQueue()
        self.delay = 0.005

    def ask(self, pf: Pf, port: int, entry: int) -> None:
        due = (
            time.monotonic() + self.delay + self._kernel.machine.command_delay
        )
        self._requests.put((due, pf, port, entry))

    def ask_all(self) -> None:
        """What was refused is asked for again (as the driver does too)."""
        for pf in self._kernel.machine.pfs:
            for port, alias in pf.aliases.items():
                for entry in range(1, MLX4_ENTRIES):
                    if alias.operational[entry] != alias.admin[entry]:
                        self.ask(pf, port, entry)

    def stop(self) -> None:
        self._requests.put(None)
        self.join()

    def run(self) -> None:
        while request := self._requests.get():
            due, pf, port, entry = request
            time.sleep(max(0.0, due - time.monotonic()))
            with self._kernel.machine.lock:
                self._answer(pf, port, entry)

    def _answer(self, pf: Pf, port: int, entry: int) -> None:
        address = pf.vf_address(entry - 1)
        if not pf.driver or pf.states[port] != "4: ACTIVE":
            return
        if self._kernel.machine.sm_refuses(address):
            return
        alias = pf.aliases[port]
        if alias.admin[entry] == 0:
            alias.admin[entry] = random.getrandbits(56) & ~(1 << 56) | 2 << 56
        deleted = alias.admin[entry] == MLX4_DELETE
        alias.operational[entry] = 0 if deleted else alias.admin[entry]
        self._kernel.layout.alias(pf, port, entry)


class Kernel:
    """PCI core and HCA drivers over a machine and its tree."""

    def __init__(self, machine: Machine, layout: Layout) -> None:
        self.machine = machine
        self.layout = layout
        self.sm = SubnetManager(self)
        #: Drivers that VFs get from somebody else when they lose theirs.
        self.takers: dict[str, str] = {}
        self.drivers = {pf.spec.driver for pf in machine.pfs} | {*VFIO}
        device = r"devices/[^/]+/[^/]+/(?P<device>[^/]+)/"
        iov = device + r"infiniband/[^/]+/iov/"
        guest = iov + r"(?P<slave>[^/]+)/ports/(?P<port>\d)/"
        stores: dict[str, Callable[..., None]] = {
            r"bus/pci/drivers_probe": self._drivers_probe,
            r"bus/pci/drivers/(?P<driver>[^/]+)/bind": self._bind,
            r"bus/pci/drivers/(?P<driver>[^/]+)/unbind": self._unbind,
            device + "driver_override": self._override,
            device + "sriov_numvfs": self._numvfs,
            device + "sriov_drivers_autoprobe": self._autoprobe,
            device + r"sriov/(?P<vf>\d+)/(?P<what>node|port)": self._guid,
            device + r"sriov/(?P<vf>\d+)/policy": self._policy,
            iov + r"ports/(?P<port>\d)/admin_guids/(?P<n>\d+)": self._alias,
            guest + r"pkey_idx/(?P<n>\d+)": self._pkey,
            iov + r".+/enable_smi_admin": self._smi,
        }
        self._stores = [(re.compile(k), store) for k, store in stores.items()]

    def boot(self) -> None:
        """Lay out a machine whose drivers are loaded and VFs enabled."""
        with self.machine.lock:
            self.layout.host(self.drivers)
            for pf in self.machine.pfs:
                self.layout.add_pf(pf)
                self._probe_pf(pf)
            for pf in self.machine.pfs:
                self._enable(pf, pf.spec.vfs)
            self.machine.reset_counts()
        self.sm.start()

    # ---- any file -------------------------------------------------------

    def write(self, path: str, value: str) -> None:
        """One write() to a file, by its path from the root of sysfs."""
        if self.machine.deny_sysfs:
            raise OSError(self.machine.deny_sysfs, "denied")
        root = self.layout.root
        real = os.path.realpath(f"{root}/{path}")
        if not real.startswith(f"{root}/"):
            # what a failing query shows is a link to outside
            folder, name = os.path.split(f"{root}/{path}")
            real = f"{os.path.realpath(folder)}/{name}"
        if not os.path.lexists(real) or not real.startswith(f"{root}/"):
            raise OSError(ENOENT, "no such file")
        real = real[len(root) + 1 :]
        for pattern, store in self._stores:
            if match := pattern.fullmatch(real):
                store(value, real, **match.groupdict())
                return
        raise OSError(EACCES, "not writable")

    def pf(self, address: str) -> Pf:
        for pf in self.machine.pfs:
            if pf.address == address:
                return pf
        raise OSError(ENODEV, "no such PF")

    def vf(self, address: str) -> Vf:
        for pf in self.machine.pfs:
            for vf in pf.vfs:
                if vf.address == address:
                    return vf
        raise OSError(ENODEV, "no such VF")

    def device(self, text: str) -> Pf | Vf:
        with contextlib.suppress(OSError):
            return self.pf(text.removesuffix("\n"))
        return self.vf(text.removesuffix("\n"))

    # ---- drivers (drivers/base/bus.c, drivers/pci/pci-driver.c) ---------

    def _matches(self, device: Pf | Vf, driver: str) -> bool:
        if isinstance(device, Vf) and not (
            device.pf.autoprobe or device.override
        ):
            return False
        if device.override:
            return device.override == driver
        pf = device.pf if isinstance(device, Vf) else device
        return driver == pf.spec.driver

    def _bind(self, value: str, path: str, driver: str) -> None:
        device = self.device(value)
        with device.lock:
            if not self._matches(device, driver):
                raise OSError(ENODEV, "driver does not match")
            if device.driver:
                raise OSError(EBUSY, "has a driver")
            self._probe(device, driver)

    def _unbind(self, value: str, path: str, driver: str) -> None:
        device = self.device(value)
        with device.lock:
            if device.driver != driver:
                raise OSError(ENODEV, "not on this driver")
            self._release(device)
            if taker := self.takers.pop(device.address, None):
                device.override = taker
                self._probe(device, taker)

    def _drivers_probe(self, value: str, path: str) -> None:
        device = self.device(value)
        with device.lock:
            self._attach(device)

    def _attach(self, device: Pf | Vf) -> None:
        if not device.driver:
            for driver in sorted(self.drivers):
                if self._matches(device, driver):
                    self._probe(device, driver)

    def _probe(self, device: Pf | Vf, driver: str) -> None:
        if isinstance(device, Pf):
            if driver in VFIO:
                raise OSError(EINVAL, "vfio does not take a PF here")
            with self.machine.lock:
                self._probe_pf(device)
            if device.spec.mlx4:  # by the module option num_vfs
                self._enable(device, device.spec.vfs)
            return
        own = driver not in VFIO
        if own:
            with self.machine.lock:
                self.machine.probe += 1
            if self.machine.probe_delay:
                time.sleep(self.machine.probe_delay)
        with self.machine.lock:
            device.driver = driver
            if own:
                device.ibdev = self.machine.take_ibdev(driver[:4])
                device.identity = device.node
                if device.pf.spec.mlx4:
                    first = device.pf.aliases[1]
                    device.identity = first.admin[device.index + 1]
            self.layout.vf_bound(device)

    def _release(self, device: Pf | Vf) -> None:
        if isinstance(device, Pf):
            with device.lock:
                self._disable(device)
                with self.machine.lock:
                    self.layout.pf_unbound(device)
                    if device.ibdev:
                        self.machine.give_ibdev(device.ibdev)
                    device.driver = device.ibdev = None
            return
        if device.in_use:
            # A real kernel waits until the guest is gone; that would be a
            # hang without a message here.
            raise OSError(EBUSY, "in a guest's hands")
        with self.machine.lock:
            self.layout.vf_unbound(device)
            if device.ibdev:
                self.machine.give_ibdev(device.ibdev)
            device.driver = device.ibdev = device.identity = None

    def _probe_pf(self, pf: Pf) -> None:
        self.machine.probe_pf(pf)
        self.layout.pf_bound(pf)

    def _override(self, value: str, path: str, device: str) -> None:
        found = self.device(device)
        with self.machine.lock:
            found.override = value.removesuffix("\n")
            self.layout.show(path, found.override or "(null)")

    # ---- SR-IOV (drivers/pci/iov.c, mlx5/core/sriov.c) ------------------

    def _autoprobe(self, value: str, path: str, device: str) -> None:
        text = value.strip().lower()
        on = {"on": True, "of": False}.get(text[:2], _BOOLS.get(text[:1]))
        if on is None:
            raise OSError(EINVAL, "not a truth value")
        with self.machine.lock:
            self.pf(device).autoprobe = on
            self.layout.show(path, str(int(on)))

    def _numvfs(self, value: str, path: str, device: str) -> None:
        pf, count = self.pf(device), _integer(value)
        if not 0 <= count < 1 << 16:
            raise OSError(EINVAL, "no 16-bit number")
        if count > pf.spec.total:
            raise OSError(ERANGE, "more than sriov_totalvfs")
        with pf.lock:
            if count == len(pf.vfs):
                return
            if not pf.driver or pf.spec.mlx4:
                # mlx4_core has no sriov_configure
                raise OSError(ENOENT, "no driver that could")
            if not count:
                self._disable(pf)
            elif pf.vfs:
                raise OSError(EBUSY, "disable the VFs first")
            else:
                self._enable(pf, count)

    def _enable(self, pf: Pf, count: int) -> None:
        with self.machine.lock:
            vfs = [self.machine.new_vf(pf, index) for index in range(count)]
            if not self.machine.iommu:
                for vf in vfs:
                    vf.group = 0
            if pf.spec.mlx4:
                none = MLX4_PKEYS - 1
                for alias in pf.aliases.values():
                    virtual = [0] + [none] * none
                    alias.pkey_idx = {0: list(range(MLX4_PKEYS))}
                    for slave in range(1, count + 1):
                        alias.pkey_idx[slave] = virtual.copy()
                self.layout.slaves(pf, count + 1)
        for vf in vfs:
            self._restore(vf)
        with self.machine.lock:
            pf.vfs = vfs
            for vf in vfs:
                self.layout.add_vport(vf)
        birth = self.machine.births.pop(pf.address, None)
        for vf in vfs:
            if birth and vf.index == birth.after:
                self._disable(pf)
                raise OSError(birth.errno, "VFs cannot be made")
            if self.machine.birth_delay:
                time.sleep(self.machine.birth_delay)
            with vf.lock:
                with self.machine.lock:
                    self.layout.add_vf(vf)
                self._attach(vf)
        with self.machine.lock:
            self.layout.numvfs(pf)

    def _restore(self, vf: Vf) -> None:
        """The driver sends what it remembers and is not zero; that this
        fails is only logged."""
        if not vf.pf.spec.mlx4:
            memory = vf.pf.contexts[vf.index]
            with contextlib.suppress(OSError):
                self.machine.change(vf.address)
                vf.node, vf.port = memory.node, memory.port
                vf.policy = memory.policy

    def _disable(self, pf: Pf) -> None:
        for vf in reversed(pf.vfs):
            with vf.lock:
                vf.in_use = False
                if vf.driver:
                    self._release(vf)
                with self.machine.lock:
                    self.layout.remove_vf(vf)
        with self.machine.lock:
            for vf in pf.vfs:
                self.layout.remove_vport(vf)
            pf.vfs = []
            self.layout.numvfs(pf)

    # ---- VF identities of mlx5 ------------------------------------------

    def set_vport(
        self, vf: Vf, what: str, value: int, netlink: bool = False
    ) -> None:
        """``what`` is node, port or policy: one firmware command, then the
        driver's memory; only netlink makes it readable by netlink
        (drivers/infiniband/hw/mlx5/ib_virt.c)."""
        self.machine.change(vf.address)
        with self.machine.lock:
            self.seed(vf, what, value, netlink)

    def seed(self, vf: Vf, what: str, value: int, netlink: bool) -> None:
        """The effect of set_vport() alone, which no failure keeps away."""
        memory = vf.pf.contexts[vf.index]
        setattr(vf, what, value)
        setattr(memory, what, value)
        if netlink and what != "policy":
            setattr(memory, f"{what}_valid", True)
        readable = vf.address not in self.machine.failing_queries
        self.layout.vport(vf, what, readable)

    def _of(self, device: str, vf: str) -> Vf:
        vfs = self.pf(device).vfs
        if int(vf) >= len(vfs):
            raise OSError(ENOENT, "the VFs are being disabled")
        return vfs[int(vf)]

    def _guid(
        self, value: str, path: str, device: str, vf: str, what: str
    ) -> None:
        match = _OCTETS.match(value)
        if not match:
            raise OSError(EINVAL, "not eight octets")
        octets = bytes(int(octet, 16) for octet in match.groups())
        guid = int.from_bytes(octets, "big")
        self.set_vport(self._of(device, vf), what, guid)

    def _policy(self, value: str, path: str, device: str, vf: str) -> None:
        word = value.removesuffix("\n")
        if word not in POLICIES:
            raise OSError(EINVAL, "no such policy")
        self.set_vport(self._of(device, vf), "policy", POLICIES.index(word))

    def fail_queries(self, vf: str, errno: int) -> None:
        """0: they work again."""
        with self.machine.lock:
            self.machine.failing_queries[vf] = errno
            if not errno:
                del self.machine.failing_queries[vf]
            for what in ("node", "port", "policy"):
                self.layout.vport(self.vf(vf), what, not errno)

    # ---- VF identities of mlx4 (drivers/infiniband/hw/mlx4/sysfs.c) -----

    def _alias(
        self, value: str, path: str, device: str, port: str, n: str
    ) -> None:
        match = _HEX.match(value)
        # The driver does not look whether its sscanf found anything
        guid = int(match[1], 16) if match else _GARBAGE
        pf = self.pf(device)
        if int(n):  # the PF's own cannot be set, which no errno tells
            with contextlib.suppress(OSError):  # the SM may refuse later
                self.machine.change(pf.vf_address(int(n) - 1))
            self.set_alias(pf, int(port), int(n), guid & MLX4_DELETE)

    def set_alias(self, pf: Pf, port: int, entry: int, guid: int) -> None:
        with self.machine.lock:
            pf.aliases[port].admin[entry] = guid
            self.layout.alias(pf, port, entry)
        self.sm.ask(pf, port, entry)

    def _pkey(
        self,
        value: str,
        path: str,
        device: str,
        slave: str,
        port: str,
        n: str,
    ) -> None:
        named = not value.lower().startswith("no")
        index = _integer(value) if named else MLX4_PKEYS - 1
        decade, unit = slave.rsplit(":", 1)[1].split(".")
        number = int(decade) * 8 + int(unit)
        if not number or (named and not 0 <= index < MLX4_PKEYS - 1):
            raise OSError(EINVAL, "no such P_Key index, or the PF's")
        with self.machine.lock:
            self.pf(device).aliases[int(port)].pkey_idx[number][int(n)] = index
            self.layout.show(path, pkey_index(index))

    def _smi(self, value: str, path: str, device: str) -> None:
        if value.strip() not in ("0", "1"):
            raise OSError(EINVAL, "neither 0 nor 1")
        with self.machine.lock:
            self.layout.show(path, value.strip())

    # ---- what only tests do ---------------------------------------------

    def open_vfio(self, vf: Vf, in_use: bool) -> None:
        """A guest's QEMU opens the VF, or is gone."""
        if in_use and vf.driver not in VFIO:
            raise OSError(EIO, "not on a vfio driver")
        with self.machine.lock:
            vf.in_use = in_use
            self.layout.opened(vf)
