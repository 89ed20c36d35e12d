# SPDX-License-Identifier: Apache-2.0
"""The ways to plug that are compared."""

import shutil
import subprocess
from collections.abc import Sequence
from typing import Protocol

from ibhostdev.batch import BatchResult, Vif
from ibhostdev.cli.bench.borrowing import Loan
from ibhostdev.guid import IDLE
from ibhostdev.host import Host

TITLES = {
    "bulk": "one call",
    "single": "call each",
    "ip_batch": "ip -batch",
}


class Way(Protocol):
    name: str

    def plug(self, vifs: Sequence[Vif]) -> list[BatchResult]:
        """Gives what tells whose the VFs were, as far as the way knows."""

    def unplug(self, vifs: Sequence[Vif]) -> None: ...


class Bulk:
    name = "bulk"

    def __init__(self, host: Host) -> None:
        self._host = host

    def plug(self, vifs: Sequence[Vif]) -> list[BatchResult]:
        return [self._host.plug(vifs)]

    def unplug(self, vifs: Sequence[Vif]) -> None:
        # The VFs' own drivers have never seen these identities.
        self._host.unplug(vifs, rebind=False)


class Single(Bulk):
    name = "single"

    def plug(self, vifs: Sequence[Vif]) -> list[BatchResult]:
        return [self._host.plug([vif]) for vif in vifs]

    def unplug(self, vifs: Sequence[Vif]) -> None:
        for vif in vifs:
            self._host.unplug([vif], rebind=False)


class Unfit(Exception):
    """Why a way cannot take part."""


class IpBatch:
    """iproute2 in one process: it neither looks first nor reads back."""

    name = "ip_batch"

    def __init__(self, loan: Loan) -> None:
        program = shutil.which("ip") or shutil.which("ip", path="/usr/sbin")
        if program is None:
            raise Unfit("there is no program ip (iproute2)")
        for pf in loan.pfs:
            _, against = loan.host.choose(pf)
            if "mlx5_netlink" in against:
                raise Unfit(f"{pf.pci}: {against['mlx5_netlink']}")
        self._program = program
        self._loan = loan

    def plug(self, vifs: Sequence[Vif]) -> list[BatchResult]:
        self._set(
            [
                [
                    f"node_guid {vif.guid}",
                    f"port_guid {vif.guid}",
                    "state auto",
                ]
                for vif in vifs
            ]
        )
        return []

    def unplug(self, vifs: Sequence[Vif]) -> None:
        idle = ["state disable", f"node_guid {IDLE}", f"port_guid {IDLE}"]
        self._set([idle] * len(vifs))

    def _set(self, settings: Sequence[Sequence[str]]) -> None:
        # A line for each: of two GUIDs in one message the kernel takes one.
        lines = [
            f"link set dev {vf.pf.netdev.name} vf {vf.index} {setting}\n"
            for vf, wanted in zip(self._loan.vfs, settings, strict=False)
            if vf.pf.netdev is not None
            for setting in wanted
        ]
        done = subprocess.run(
            [self._program, "-batch", "-"],
            input="".join(lines),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            said = done.stderr.strip() or f"exit code {done.returncode}"
            raise Unfit(said.splitlines()[0])
