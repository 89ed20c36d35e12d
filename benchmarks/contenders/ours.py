# SPDX-License-Identifier: Apache-2.0
"""This package, by each of its doors."""

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.contenders import Base, CannotList, Place, Target, run
from ibhostdev import Host, Vif
from ibhostdev.privilege.request import Request


def vifs(targets: Sequence[Target]) -> list[Vif]:
    return [Vif.parse(target.pci, target.mac) for target in targets]


class Bulk(Base):
    """One call of Host.plug() for all, in a process that runs already."""

    title = "ibhostdev, bulk call"

    def open(self, place: Place) -> None:
        super().open(place)
        self.host = Host()

    def plug(self, targets: Sequence[Target]) -> None:
        self.host.plug(vifs(targets))

    def unplug(self, targets: Sequence[Target]) -> None:
        self.host.unplug(vifs(targets))

    def list(self) -> None:
        from ibhostdev.host.views import views

        views(self.host)


class Survey(Bulk):
    """The states of a PF's VFs, as Host.survey() gives them."""

    title = "ibhostdev, survey"
    looks_only = True

    def open(self, place: Place) -> None:
        super().open(place)
        self._pfs = self.host.pfs

    def list(self) -> None:
        for pf in self._pfs:
            self.host.survey(pf)


class Single(Bulk):
    """A call for each."""

    title = "ibhostdev, single calls"
    most = 8

    def plug(self, targets: Sequence[Target]) -> None:
        for vif in vifs(targets):
            self.host.plug([vif])

    def unplug(self, targets: Sequence[Target]) -> None:
        for vif in vifs(targets):
            self.host.unplug([vif])

    def list(self) -> None:
        raise CannotList("the bulk call lists all")


class Command(Base):
    """A process for all, with a file."""

    title = "ibhostdev, the command"
    program = (str(Path(sys.executable).with_name("ibhostdev")),)

    def open(self, place: Place) -> None:
        super().open(place)
        self._folder = TemporaryDirectory()
        self._files: dict[tuple[Target, ...], str] = {}

    def _file(self, targets: Sequence[Target]) -> str:
        file = Path(self._folder.name, f"{len(targets)}.json")
        file.write_text(
            json.dumps([{"pci": t.pci, "mac": t.mac} for t in targets])
        )
        return str(file)

    def plug(self, targets: Sequence[Target]) -> None:
        run(*self.program, "plug", "--file", self._file(targets))

    def unplug(self, targets: Sequence[Target]) -> None:
        run(*self.program, "unplug", "--file", self._file(targets))

    def list(self) -> None:
        run(*self.program, "list")

    def close(self) -> None:
        self._folder.cleanup()


class Standin(Base):
    """The stand-in for ebrctl: a native process for each."""

    title = "ibhostdev's ebrctl"
    most = 8

    def open(self, place: Place) -> None:
        from ibhostdev.ebrctl import PROGRAM

        super().open(place)
        self._program = PROGRAM

    def plug(self, targets: Sequence[Target]) -> None:
        for target in targets:
            run(
                self._program, "add-port", target.mac, "instance",
                "default", "ib_hostdev", target.pci,
            )  # fmt: skip

    def unplug(self, targets: Sequence[Target]) -> None:
        for target in targets:
            run(self._program, "del-port", "default", target.mac)

    def list(self) -> None:
        raise CannotList("ebrctl has no list")


class Entrusted(Base, ABC):
    """A batch as one request to who has the rights."""

    @abstractmethod
    def call(self, request: Request) -> None:
        """Have it done."""

    def plug(self, targets: Sequence[Target]) -> None:
        self.call(Request("plug", tuple(vifs(targets))))

    def unplug(self, targets: Sequence[Target]) -> None:
        self.call(Request("unplug", tuple(vifs(targets))))

    def list(self) -> None:
        raise CannotList("listing needs no rights")


class Privsep(Entrusted):
    """One call for all, through a daemon of oslo.privsep."""

    title = "ibhostdev, oslo.privsep"

    def open(self, place: Place) -> None:
        from oslo_config import cfg

        from ibhostdev.privilege import privsep

        super().open(place)
        cfg.CONF([], project="ibhostdev", default_config_files=[])
        cfg.CONF.set_override(
            "helper_command",
            str(Path(sys.executable).with_name("privsep-helper")),
            group="ibhostdev_privileged",
        )
        self._privsep = privsep
        privsep.call(Request("plug", ()))

    def call(self, request: Request) -> None:
        self._privsep.call(request)

    def daemons(self) -> Sequence[int]:
        name = f"{self._privsep.__name__}.CONTEXT".encode()
        return [
            int(path.parent.name)
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if name in path.read_bytes()
        ]

    def close(self) -> None:
        self._privsep.CONTEXT.stop()


class Rootwrap(Entrusted):
    """One process of root's for each call, by sudo and oslo.rootwrap."""

    title = "ibhostdev, oslo.rootwrap"
    daemon = False

    def open(self, place: Place) -> None:
        from ibhostdev.privilege import rootwrap
        from tests.kernel import rights

        super().open(place)
        rights.rootwrap()
        self._rootwrap = rootwrap.Rootwrap(daemon=self.daemon)

    def call(self, request: Request) -> None:
        self._rootwrap.call(request)


class RootwrapDaemon(Rootwrap):
    """With oslo.rootwrap's daemon, which starts a process for each call."""

    title = "ibhostdev, oslo.rootwrap daemon"
    daemon = True
