# SPDX-License-Identifier: Apache-2.0
"""The common suite's host in a folder."""

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

from ibhostdev import Host, simulate
from ibhostdev.simulate.model import DOWN, FOLLOW, UP, VFIO, HcaSpec, Vf
from ibhostdev.simulate.server import SimulatedHost
from tests.testbed import Counts, Hca, Seen

_POLICIES = {"down": DOWN, "up": UP, "follow": FOLLOW}
_WORDS = {number: word for word, number in _POLICIES.items()}

#: For thousands of small files, where there is such a folder.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _number(guid: str | None) -> int | None:
    return None if guid is None else int(guid.replace(":", ""), 16)


def _text(guid: int) -> str:
    return guid.to_bytes(8, "big").hex(":")


class SimulatedTestbed:
    """``host`` is the SimulatedHost, for tests of what only it can do."""

    kind: Literal["simulated", "kernel"] = "simulated"

    def __init__(self) -> None:
        self._base = Path(tempfile.mkdtemp(prefix="ibhostdev-", dir=MEMORY))
        self._builds = 0
        self.host: SimulatedHost | None = None
        self.pfs: list[str] = []
        self.command: list[str] = []

    @property
    def folder(self) -> Path:
        return self._base / str(self._builds)

    @property
    def sys(self) -> Path:
        return self.folder / "sys"

    @property
    def _host(self) -> SimulatedHost:
        assert self.host is not None, "build() comes first"
        return self.host

    def build(self, *hcas: Hca) -> None:
        self._clear()
        self._builds += 1
        specs = [
            HcaSpec(h.family, h.vfs, h.ports, h.netdev, max(h.vfs, h.total))
            for h in hcas
        ]
        self.host = SimulatedHost(self.folder, specs).start()
        self.pfs = [pf.address for pf in self._host.machine.pfs]
        folder = str(self.folder)
        self.command = [sys.executable, "-m", "ibhostdev", "--host", folder]

    def _clear(self) -> None:
        if self.host:
            self.host.close()
            shutil.rmtree(self.folder)
        self.host = None

    def close(self) -> None:
        self._clear()
        shutil.rmtree(self._base, ignore_errors=True)

    def connect(self, **kwargs: Any) -> Host:
        return simulate.connect(self.folder, **kwargs)

    # ---- witnesses ------------------------------------------------------

    def vf(self, pf: int, index: int) -> str:
        return self._host.machine.pfs[pf].vf_address(index)

    def seen(self, pf: int) -> list[Seen]:
        return [self._see(vf) for vf in self._host.machine.pfs[pf].vfs]

    def _see(self, vf: Vf) -> Seen:
        """As ``ip link`` would show it, else MLNX_OFED's files."""
        if vf.pf.spec.mlx4:
            guid = vf.pf.aliases[1].admin[vf.index + 1]
            return Seen(None, _text(guid), None)
        memory = vf.pf.contexts[vf.index]
        node, port = vf.node, vf.port
        if vf.pf.netdevs:
            node = memory.node if memory.node_valid else 0
            port = memory.port if memory.port_valid else 0
        elif not vf.pf.spec.ofed:
            return Seen(None, None, None)
        if vf.address in self._host.machine.failing_queries:
            return Seen(None, None, None)
        return Seen(_text(node), _text(port), _WORDS[vf.policy])

    def _sys(self, vf: str) -> Path:
        return self.sys / "bus/pci/devices" / vf

    def identity(self, vf: str) -> str | None:
        for file in self._sys(vf).glob("infiniband/*/node_guid"):
            return _text(int(file.read_text().strip().replace(":", ""), 16))
        return None

    def driver(self, vf: str) -> str | None:
        try:
            return (self._sys(vf) / "driver").readlink().name
        except FileNotFoundError:
            return None

    # ---- hands ----------------------------------------------------------

    def write(self, path: str, value: object) -> None:
        self._host.kernel.write(path, f"{value}\n")

    def bind(self, vf: str, driver: str | None) -> None:
        if old := self.driver(vf):
            self.write(f"bus/pci/drivers/{old}/unbind", vf)
        if driver:
            override = driver if driver in VFIO else ""
            self.write(f"bus/pci/devices/{vf}/driver_override", override)
            self.write(f"bus/pci/drivers/{driver}/bind", vf)

    @contextmanager
    def hold(self, vf: str) -> Iterator[None]:
        before = self.driver(vf)
        if before not in VFIO:
            self.bind(vf, "vfio-pci")
        with self._host.hold(vf):
            yield
        if before not in VFIO:
            self.bind(vf, before)

    def seed(
        self,
        pf: int,
        index: int,
        node: str | None = None,
        port: str | None = None,
        policy: str | None = None,
    ) -> None:
        self._host.seed(
            self.vf(pf, index),
            _number(node),
            _number(port),
            None if policy is None else _POLICIES[policy],
            netlink=bool(self._host.machine.pfs[pf].netdevs),
        )

    def numvfs(self, pf: int, n: int) -> None:
        path = f"bus/pci/devices/{self.pfs[pf]}/sriov_numvfs"
        self.write(path, n)

    @contextmanager
    def altname(self, pf: int, name: str) -> Iterator[None]:
        altnames = self._host.machine.pfs[pf].netdevs[0].altnames
        altnames.append(name)
        try:
            yield
        finally:
            altnames.remove(name)

    @contextmanager
    def vf_netdevs(self, pf: int) -> Iterator[None]:
        vfs = [vf.address for vf in self._host.machine.pfs[pf].vfs]
        for number, vf in enumerate(vfs, 100):
            self._show_netdev(vf, f"ib{number}")
        yield
        for number, vf in enumerate(vfs, 100):
            self._hide_netdev(vf, f"ib{number}")

    def _show_netdev(self, vf: str, name: str) -> None:
        folder = self._sys(vf).resolve() / "net" / name
        folder.mkdir(parents=True)
        (self.sys / "class/net" / name).symlink_to(
            os.path.relpath(folder, self.sys / "class/net")
        )

    def _hide_netdev(self, vf: str, name: str) -> None:
        (self.sys / "class/net" / name).unlink()
        (self._sys(vf) / "net" / name).rmdir()

    @contextmanager
    def away(self, vf: str) -> Iterator[None]:
        (name,) = os.listdir(self._sys(vf) / "net")
        self._hide_netdev(vf, name)
        try:
            yield
        finally:
            self._show_netdev(vf, name)

    # ---- bad days -------------------------------------------------------

    def fail(self, vf: str, errno: int, first: int = 1) -> None:
        self._host.fail(vf, errno, first)

    def fail_queries(self, vf: str, errno: int) -> None:
        self._host.fail_queries(vf, errno)

    def fail_numvfs(self, pf: int, errno: int, after: int = 0) -> None:
        self._host.fail_numvfs(self.pfs[pf], errno, after)

    def heal(self) -> None:
        self._host.heal()

    def delay(self, command: float = 0.0, probe: float = 0.0) -> None:
        self._host.delay(command, probe)

    def pkeys(self, *pkeys: int) -> None:
        for table in self.sys.glob(
            "bus/pci/devices/*/infiniband/*/iov/ports/*/pkeys"
        ):
            for file in table.iterdir():
                place = int(file.name)
                pkey = pkeys[place] if place < len(pkeys) else 0
                new = self._base / "pkey"
                new.write_text(f"{pkey:#06x}\n")
                new.replace(file)

    def underestimate(self) -> None:
        self._host.emsgsize_from(1)

    def killed(self, command: list[str], step: int) -> int:
        """When it is about to write for the ``step``-th time; that write is
        carried out, and no process is gone before its writes are done."""
        kernel, rtnetlink = self._host.kernel, self._host._rtnetlink
        write, answer = kernel.write, rtnetlink.answer
        steps, under_way = itertools.count(1), 0
        changed = threading.Condition()

        @contextmanager
        def one_more() -> Iterator[None]:
            nonlocal under_way
            with changed:
                under_way += 1
                if next(steps) == step:
                    victim.kill()
                    victim.wait()
            try:
                yield
            finally:
                with changed:
                    under_way -= 1
                    changed.notify_all()

        def written(path: str, value: str) -> None:
            with one_more():
                write(path, value)

        def asked(data: bytes) -> Iterator[bytes]:
            if data[4:6] != b"\x13\0":  # RTM_SETLINK
                return answer(data)
            with one_more():
                return iter(list(answer(data)))

        with (
            patch.object(kernel, "write", written),
            patch.object(rtnetlink, "answer", asked),
        ):
            with changed:
                victim = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            try:
                victim.wait(600)
            finally:
                victim.kill()
                victim.wait()
            with changed:
                assert changed.wait_for(lambda: not under_way, 600)
        return victim.returncode

    def counts(self) -> Counts:
        return Counts(*self._host.counts())

    def reset_counts(self) -> None:
        self._host.reset_counts()
