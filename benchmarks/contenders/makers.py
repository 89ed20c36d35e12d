# SPDX-License-Identifier: Apache-2.0
"""From PFs without VFs to VFs that have their identities, and a driver or
none."""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.contenders import Base, CannotList, Place, Target, run
from benchmarks.contenders.ours import Command, vifs
from ibhostdev import Guid, Host
from ibhostdev.provision.apply import apply
from ibhostdev.provision.wish import Given, Identity, PfWish
from ibhostdev.provision.wish import Place as At

_SCRIPT = Path(__file__).with_name("usual.sh")
NONE, OWN = "none", "mlx5_core"


class Maker(Base, ABC):
    """``drivers`` are those that it can put VFs on. Who ``shows`` has their
    driver show the identity."""

    families = ("mlx5",)
    drivers: tuple[str, ...] = (NONE, OWN)
    shows = True

    @abstractmethod
    def make(self, targets: Sequence[Target], driver: str) -> float | None:
        """All VFs of all PFs."""

    def plug(self, targets: Sequence[Target]) -> float | None:
        return self.make(targets, self.drivers[0])

    def unplug(self, targets: Sequence[Target]) -> None:
        raise CannotList("it makes VFs")

    def list(self) -> None:
        raise CannotList("it makes VFs")

    def of(self, targets: Sequence[Target], pf: str) -> Sequence[Target]:
        return [target for target in targets if target.pf == pf]


class Numvfs(Maker):
    """The kernel's part, of all PFs at once, and one batch. Drivers are the
    kernel's choice while it makes the VFs, and show what was there then."""

    title = "sriov_numvfs alone, and one batch"
    shows = False

    def open(self, place: Place) -> None:
        super().open(place)
        self._host = Host()

    def make(self, targets: Sequence[Target], driver: str) -> None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(self._enable, self.place.pfs))
        self._host.plug(vifs(targets))

    def _enable(self, pf: str) -> None:
        with open(f"/sys/bus/pci/devices/{pf}/sriov_numvfs", "w") as file:
            file.write(str(self.place.vfs))


class Apply(Maker):
    """In a process that runs already."""

    title = "ibhostdev apply, from Python"

    def open(self, place: Place) -> None:
        super().open(place)
        self._host = Host()

    def make(self, targets: Sequence[Target], driver: str) -> None:
        report = apply(
            self._host,
            [
                PfWish(
                    pf,
                    At("host.yaml", 1, 1),
                    vfs=self.place.vfs,
                    driver=driver,
                    guids=Given(
                        tuple(
                            Identity(Guid.from_mac(target.mac))
                            for target in self.of(targets, pf)
                        )
                    ),
                )
                for pf in self.place.pfs
            ],
        )
        if report.errors:
            raise report.errors[0]


class ApplyCommand(Maker):
    """As the unit has it at boot."""

    title = "ibhostdev apply"

    def open(self, place: Place) -> None:
        super().open(place)
        self._folder = TemporaryDirectory()

    def make(self, targets: Sequence[Target], driver: str) -> None:
        file = Path(self._folder.name, "host.yaml")
        wishes: list[dict[str, Any]] = [
            {
                "pf": pf,
                "vfs": self.place.vfs,
                "driver": driver,
                "guids": [one.octets for one in self.of(targets, pf)],
            }
            for pf in self.place.pfs
        ]
        file.write_text(json.dumps(wishes))
        run(*Command.program, "apply", "--host-yaml", file,
            "--connect", "none")  # fmt: skip

    def close(self) -> None:
        self._folder.cleanup()


class Script(Maker):
    """One PF after the other, and one VF."""

    title = "the usual script"
    drivers = (OWN,)
    state = "auto"
    pause = 0.0

    def make(self, targets: Sequence[Target], driver: str) -> float:
        start = time.perf_counter()
        for pf, netdev in zip(self.place.pfs, self.place.netdevs, strict=True):
            run(
                "sh", _SCRIPT, str(self.place.vfs), self.state, pf, netdev,
                input="".join(
                    f"{one.octets}\n" for one in self.of(targets, pf)
                ),
                text=True, stdin=None,
            )  # fmt: skip
        return time.perf_counter() - start + self.pause * len(targets)


class Vendor(Script):
    """The vendor's, that gives back what a driver's reload has taken. It
    sleeps after each VF, which is counted and not done."""

    title = "the vendor's restore, its pauses of 4 s a VF counted"
    state = "-"
    pause = 4.0
