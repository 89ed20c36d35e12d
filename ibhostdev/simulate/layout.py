# SPDX-License-Identifier: Apache-2.0
"""The files and links of a simulated host: sysfs as the kernel lays it out.

Callers hold ``Machine.lock``.
"""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from ibhostdev.simulate.model import (
    DOWN,
    MLX4_ENTRIES,
    MLX4_PKEYS,
    POLICIES,
    UP,
    VFIO,
    Netdev,
    Pf,
    Vf,
)

_UP = "../../../.."  # from a PCI device, and from a driver, to the root
# Of an mlx4 port: the default partition, and a tenant's.
_PKEYS = [0xFFFF, 0x7FFF, 0x8001] + [0] * (MLX4_PKEYS - 3)
#: What reading a file gives whose firmware query fails: EIO, from offset 0
#: of one's own memory. A plain file cannot fail.
_EIO = "/proc/self/mem"


def colons(guid: int) -> str:
    """As MLNX_OFED shows a GUID."""
    return guid.to_bytes(8, "big").hex(":")


def quads(guid: int) -> str:
    """As ib_core shows a GUID."""
    return guid.to_bytes(8, "big").hex(":", 2)


def gid(guid: int) -> str:
    return f"fe80:0000:0000:0000:{quads(guid)}"


class Layout:
    """Writes the tree below ``root``. ``shown`` has the text of each file
    that may be written to, by its path from the root (and goes on having it
    when the file is gone: paths come back); ``watch`` is told each folder
    that has one, ``written`` what shells have written."""

    def __init__(
        self,
        root: Path,
        watch: Callable[[str], None],
        written: Callable[[str, str], None],
    ) -> None:
        self.root = str(root)
        self._new = str(root.parent / ".new")
        self._old = str(root.parent / ".old")
        self._watch = watch
        self._written = written
        self._garbage: dict[str, list[str]] = {}
        self.shown: dict[str, str] = {}
        self.actions: list[str] = []

    # ---- single files ---------------------------------------------------

    def _file(self, path: str, text: str, mode: int = 0o444) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(f"{self.root}/{path}", flags, mode)
        os.write(fd, f"{text}\n".encode())
        os.close(fd)

    def _files(self, folder: str, **texts: object) -> None:
        try:
            os.mkdir(f"{self.root}/{folder}")
        except FileExistsError:
            pass
        except FileNotFoundError:
            os.makedirs(f"{self.root}/{folder}")
        for name, text in texts.items():
            self._file(f"{folder}/{name}", str(text))

    def _writable(self, folder: str, **texts: object) -> None:
        """Files that shells may write to. Once to a folder, after all else:
        from then on what is created in it is taken for a shell's."""
        self._files(folder)
        for name, text in texts.items():
            self._file(f"{folder}/{name}", str(text), 0o644)
            self.shown[f"{folder}/{name}"] = str(text)
        self._watch(folder)

    def _link(self, path: str, target: str) -> None:
        os.symlink(target, f"{self.root}/{path}")

    def _remove(self, path: str) -> None:
        """A link, or a folder and all that is in it."""
        full = f"{self.root}/{path}"
        if os.path.islink(full):
            os.unlink(full)
        elif os.path.isdir(full):
            shutil.rmtree(full)

    def show(self, path: str, text: str | None = None) -> None:
        """Replace a file's text at once, so that no reader sees half; without
        ``text``, by what it was. What a shell has written into the old file
        is told to ``written``."""
        known = self.shown.get(path)
        if known is not None:
            text = self.shown[path] = known if text is None else text
        full = f"{self.root}/{path}"
        garbage = self._garbage.get(path, [])
        with open(self._new, "w", encoding="latin-1") as file:
            file.write(f"{garbage[-1] if garbage else text}\n")
        os.chmod(self._new, 0o444 if known is None else 0o644)
        if known is None:
            os.replace(self._new, full)
            return
        # Under a name outside the watched folder, reads make no events
        os.link(full, self._old, follow_symlinks=False)
        try:
            os.replace(self._new, full)
            found = self._read_old()
        finally:
            os.unlink(self._old)
        if found and found.removesuffix("\n") not in (known, *garbage):
            self._written(path, found)

    def garble(self, name: str, text: str) -> None:
        """See SimulatedHost.garble()."""
        for path in self.shown:
            if path.endswith(name):
                self._garbage.setdefault(path, []).append(text)
                self.show(path)

    def _read_old(self) -> str:
        for _ in range(20):
            if os.path.islink(self._old):
                break
            with open(self._old, encoding="latin-1") as file:
                if found := file.read(4096):
                    return found
            time.sleep(0.001)  # a shell has emptied it, and is to write
        return ""

    # ---- the bus --------------------------------------------------------

    def host(self, drivers: set[str]) -> None:
        for name in ("devices", "kernel/iommu_groups", "class/infiniband"):
            os.makedirs(f"{self.root}/{name}")
        for name in ("class/net", "bus/pci/devices", "bus/pci/drivers"):
            os.makedirs(f"{self.root}/{name}")
        self._action("bus/pci/drivers_probe")
        for driver in sorted(drivers):
            os.mkdir(f"{self.root}/bus/pci/drivers/{driver}")
            self._action(f"bus/pci/drivers/{driver}/bind")
            self._action(f"bus/pci/drivers/{driver}/unbind")

    def _action(self, path: str) -> None:
        """A write-only file. As a FIFO it queues what shells write, and none
        of a loop of writes is lost."""
        os.mkfifo(f"{self.root}/{path}", 0o600)
        self.actions.append(path)

    def device(self, pf: Pf, address: str) -> str:
        domain, bus, _ = pf.address.split(":")
        bridge = f"{int(bus, 16) - 1:02x}"
        root = f"pci{domain}:{bridge}/{domain}:{bridge}:00.0"
        return f"devices/{root}/{address}"

    def _pci(self, device: Pf | Vf, pf: Pf, number: int, **files: int) -> str:
        """What PFs and VFs have in common; ``files`` may be written to."""
        path = self.device(pf, device.address)
        self._files(path, vendor="0x15b3", device=f"{number:#06x}", enable=0)
        override = device.override or "(null)"
        self._writable(path, driver_override=override, **files)
        self._link(f"bus/pci/devices/{device.address}", f"../../../{path}")
        return path

    def _driver(self, path: str, driver: str | None) -> None:
        """The links between a device and its driver, now or no more."""
        name, link = os.path.basename(path), f"{self.root}/{path}/driver"
        if driver:
            self._link(f"{path}/driver", f"{_UP}/bus/pci/drivers/{driver}")
            self._link(f"bus/pci/drivers/{driver}/{name}", f"{_UP}/{path}")
        elif os.path.islink(link):
            old = os.path.basename(os.readlink(link))
            os.unlink(link)
            self._remove(f"bus/pci/drivers/{old}/{name}")

    # ---- PFs ------------------------------------------------------------

    def add_pf(self, pf: Pf) -> None:
        path = self.device(pf, pf.address)
        self._files(path, sriov_totalvfs=pf.spec.total)
        self._files(path, sriov_offset=1, sriov_stride=1)
        number = 0x1003 if pf.spec.mlx4 else 0x101B
        knobs = {"sriov_numvfs": 0, "sriov_drivers_autoprobe": 1}
        self._pci(pf, pf, number, **knobs)

    def pf_bound(self, pf: Pf) -> None:
        assert pf.driver
        assert pf.ibdev
        path = self.device(pf, pf.address)
        self._driver(path, pf.driver)
        self.show(f"{path}/enable", "1")
        self._ibdev(path, pf.ibdev, pf.node)
        ibdev = f"{path}/infiniband/{pf.ibdev}"
        for port, state in pf.states.items():
            guid = pf.port_guid(port)
            self._port(ibdev, port, guid, state, pf.sm_lids[port])
        for netdev in pf.netdevs:
            self.netdev(pf, netdev)
        if pf.spec.ofed:
            os.mkdir(f"{self.root}/{path}/sriov")
        if pf.spec.mlx4:
            for port, alias in pf.aliases.items():
                iov = f"{ibdev}/iov/ports/{port}"
                guids = {str(n): f"{g:x}" for n, g in enumerate(alias.admin)}
                self._writable(f"{iov}/admin_guids", **guids)
                gids = {
                    str(n): gid(g) for n, g in enumerate(alias.operational)
                }
                self._files(f"{iov}/gids", **gids)
                # The last one stands for none, and is not shown.
                pkeys = {
                    str(n): f"{k:#06x}" for n, k in enumerate(_PKEYS[:-1])
                }
                self._files(f"{iov}/pkeys", **pkeys)

    def pf_unbound(self, pf: Pf) -> None:
        path = self.device(pf, pf.address)
        self._driver(path, None)
        self.show(f"{path}/enable", "0")
        for netdev in pf.netdevs:
            self._remove(f"class/net/{netdev.name}")
        self._remove(f"class/infiniband/{pf.ibdev}")
        for name in ("net", "infiniband", "sriov"):
            self._remove(f"{path}/{name}")

    def netdev(self, pf: Pf, netdev: Netdev, present: bool = True) -> None:
        path = f"{self.device(pf, pf.address)}/net/{netdev.name}"
        self._remove(path)
        self._remove(f"class/net/{netdev.name}")
        if present:
            self._files(
                path,
                type=32,
                ifindex=netdev.ifindex,
                iflink=netdev.ifindex,
                dev_port=netdev.port - 1,
                dev_id=f"{netdev.port - 1:#x}",
                address=netdev.address.hex(":"),
            )
            self._link(f"{path}/device", f"../../../{pf.address}")
            self._link(f"class/net/{netdev.name}", f"../../{path}")

    def _ibdev(self, path: str, name: str, node: int) -> None:
        ibdev = f"{path}/infiniband/{name}"
        self._files(ibdev, node_guid=quads(node))
        self._link(f"{ibdev}/device", f"../../../{os.path.basename(path)}")
        self._link(f"class/infiniband/{name}", f"../../{ibdev}")

    def _port(
        self, ibdev: str, port: int, guid: int, state: str, sm_lid: int
    ) -> None:
        path = f"{ibdev}/ports/{port}"
        self._files(path, state=state, sm_lid=f"{sm_lid:#x}")
        self._files(path, link_layer="InfiniBand")
        self._files(f"{path}/gids", **{"0": gid(guid)})

    def ports(self, pf: Pf) -> None:
        """State and SM of a PF's ports."""
        path = f"{self.device(pf, pf.address)}/infiniband/{pf.ibdev}/ports"
        for port, state in pf.states.items():
            self.show(f"{path}/{port}/state", state)
            self.show(f"{path}/{port}/sm_lid", f"{pf.sm_lids[port]:#x}")

    # ---- VFs ------------------------------------------------------------

    def numvfs(self, pf: Pf) -> None:
        path = f"{self.device(pf, pf.address)}/sriov_numvfs"
        self.show(path, str(len(pf.vfs)))

    def add_vport(self, vf: Vf) -> None:
        """MLNX_OFED's files, which are there before the device is."""
        if vf.pf.spec.ofed:
            path = f"{self.device(vf.pf, vf.pf.address)}/sriov/{vf.index}"
            self._writable(path, **self._vport_files(vf))

    def _vport_files(self, vf: Vf) -> dict[str, str]:
        return {
            "node": colons(vf.node),
            "port": colons(vf.port),
            "policy": POLICIES[vf.policy],
        }

    def remove_vport(self, vf: Vf) -> None:
        path = self.device(vf.pf, vf.pf.address)
        self._remove(f"{path}/sriov/{vf.index}")

    def vport(self, vf: Vf, what: str, readable: bool = True) -> None:
        """What firmware has for a VF now, node, port or policy, wherever
        that shows."""
        path = self.device(vf.pf, vf.pf.address)
        if vf.pf.spec.ofed:
            file = f"{path}/sriov/{vf.index}/{what}"
            self.show(file, self._vport_files(vf)[what])
            if not readable:
                os.symlink(_EIO, self._new)
                os.replace(self._new, f"{self.root}/{file}")
        if vf.ibdev and what == "policy":
            path = f"{self.device(vf.pf, vf.address)}/infiniband/{vf.ibdev}"
            self.show(f"{path}/ports/1/state", self._vf_state(vf, 1))

    def add_vf(self, vf: Vf) -> None:
        pf = vf.pf
        path = self._pci(vf, pf, 0x1004 if pf.spec.mlx4 else 0x101C)
        self._link(f"{path}/physfn", f"../{pf.address}")
        parent = self.device(pf, pf.address)
        self._link(f"{parent}/virtfn{vf.index}", f"../{vf.address}")
        if vf.group:
            group = f"kernel/iommu_groups/{vf.group}"
            os.makedirs(f"{self.root}/{group}/devices")
            self._link(f"{group}/devices/{vf.address}", f"{_UP}/{path}")
            self._link(f"{path}/iommu_group", f"{_UP}/{group}")

    def remove_vf(self, vf: Vf) -> None:
        self._remove(f"{self.device(vf.pf, vf.pf.address)}/virtfn{vf.index}")
        self._remove(f"bus/pci/devices/{vf.address}")
        self._remove(self.device(vf.pf, vf.address))
        self._remove(f"kernel/iommu_groups/{vf.group}")

    def vf_bound(self, vf: Vf) -> None:
        path = self.device(vf.pf, vf.address)
        self._driver(path, vf.driver)
        self.show(f"{path}/enable", "0" if vf.driver in VFIO else "1")
        if vf.ibdev and vf.identity is not None:
            self._ibdev(path, vf.ibdev, vf.identity)
            ibdev = f"{path}/infiniband/{vf.ibdev}"
            for port in vf.pf.states:
                guid = vf.port
                if vf.pf.spec.mlx4:
                    guid = vf.pf.aliases[port].admin[vf.index + 1]
                state = self._vf_state(vf, port)
                self._port(ibdev, port, guid, state, vf.pf.sm_lids[port])

    def vf_unbound(self, vf: Vf) -> None:
        path = self.device(vf.pf, vf.address)
        self._driver(path, None)
        self.show(f"{path}/enable", "0")
        self._remove(f"class/infiniband/{vf.ibdev}")
        self._remove(f"{path}/infiniband")

    def opened(self, vf: Vf) -> None:
        path = self.device(vf.pf, vf.address)
        self.show(f"{path}/enable", str(int(vf.in_use)))

    def _vf_state(self, vf: Vf, port: int) -> str:
        if vf.pf.spec.mlx4:
            alias = vf.pf.aliases[port]
            entry = vf.index + 1
            up = alias.operational[entry] == alias.admin[entry] != 0
            return "4: ACTIVE" if up else "1: DOWN"
        if vf.policy == DOWN:
            return "1: DOWN"
        return "2: INIT" if vf.policy == UP else vf.pf.states[1]

    # ---- mlx4 -----------------------------------------------------------

    def _iov(self, pf: Pf) -> str:
        path = self.device(pf, pf.address)
        return f"{path}/infiniband/{pf.ibdev}/iov"

    def slave_name(self, pf: Pf, slave: int) -> str:
        """Made up from the slave number, as drivers/infiniband/hw/mlx4/
        sysfs.c does; not looked up."""
        return f"{pf.address[:8]}{slave // 8:02d}.{slave % 8}"

    def slaves(self, pf: Pf, count: int) -> None:
        """The folders of the PF (slave 0) and of ``count - 1`` VFs."""
        for slave in range(count):
            name = f"{self._iov(pf)}/{self.slave_name(pf, slave)}"
            for port, alias in pf.aliases.items():
                path = f"{name}/ports/{port}"
                self._files(f"{path}/gid_idx", **{"0": slave})
                rows = alias.pkey_idx[slave]
                texts = {
                    str(n): pkey_index(i) for n, i in enumerate(rows[:-1])
                }
                self._writable(f"{path}/pkey_idx", **texts)
                if slave:
                    self._files(path, smi_enabled=0)
                    self._writable(path, enable_smi_admin=0)

    def alias(self, pf: Pf, port: int, entry: int) -> None:
        """An entry's administrative and operational GUID."""
        path, alias = f"{self._iov(pf)}/ports/{port}", pf.aliases[port]
        assert 0 <= entry < MLX4_ENTRIES
        self.show(f"{path}/admin_guids/{entry}", f"{alias.admin[entry]:x}")
        self.show(f"{path}/gids/{entry}", gid(alias.operational[entry]))


def pkey_index(index: int) -> str:
    """The last physical index stands for none."""
    return "none" if index == MLX4_PKEYS - 1 else str(index)
