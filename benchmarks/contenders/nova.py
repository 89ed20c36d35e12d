# SPDX-License-Identifier: Apache-2.0
"""nova-compute: its own class, which runs ebrctl for each port, and ours in
its place; both by privileged daemons, for an ordinary user."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.contenders import Base, CannotList, Place, Target
from benchmarks.contenders.ebrctl import PROGRAMS, Eswitchd

# Where sudo looks first.
_EBRCTL = Path("/usr/local/sbin/ebrctl")


class Ours(Base):
    """plug_vifs() of ibhostdev.LibvirtDriver."""

    title = "Nova with ibhostdev"
    words = "plug", "unplug"
    ebrctl: Path | None = None

    def obstacle(self, place: Place) -> str | None:
        from tests.kernel.rights import NOVA

        if not (NOVA / "bin/python").exists():
            return "Nova is not installed"
        return super().obstacle(place)

    def open(self, place: Place) -> None:
        from tests.kernel import rights
        from tests.kernel.nova_compute import Compute

        super().open(place)
        rights.nova()
        self._folder = TemporaryDirectory()
        self._compute = Compute(Path(self._folder.name))

    def _call(self, word: str, targets: Sequence[Target]) -> None:
        _EBRCTL.unlink(missing_ok=True)
        if self.ebrctl is not None:
            _EBRCTL.symlink_to(self.ebrctl)
        failed = self._compute(word, *((t.mac, t.pci) for t in targets))
        if failed is not None:
            raise RuntimeError(": ".join(failed))

    def plug(self, targets: Sequence[Target]) -> None:
        self._call(self.words[0], targets)

    def unplug(self, targets: Sequence[Target]) -> None:
        self._call(self.words[1], targets)

    def list(self) -> None:
        raise CannotList("Nova has no such call")

    def close(self) -> None:
        self._compute.close()
        self._folder.cleanup()


class Standin(Ours):
    """Nova's own class, and the stand-in for ebrctl."""

    title = "Nova as it is, ibhostdev's ebrctl"
    words = "Nova plugs", "Nova unplugs"

    def open(self, place: Place) -> None:
        from ibhostdev.ebrctl import PROGRAM

        self.ebrctl = Path(PROGRAM)
        super().open(place)


class Vendor(Ours):
    """Nova's own class, and the vendor's ebrctl."""

    title = "Nova as it is, ebrctl and eswitchd"
    words = "Nova plugs", "Nova unplugs"
    families = ("mlx5", "mlx4")
    most = 1
    ebrctl = PROGRAMS / "ebrctl"

    def obstacle(self, place: Place) -> str | None:
        if not (PROGRAMS / "ebrctl").exists():
            return "networking-mlnx is not installed"
        return super().obstacle(place)

    def open(self, place: Place) -> None:
        self._eswitchd = Eswitchd(place)
        super().open(place)

    def close(self) -> None:
        super().close()
        self._eswitchd.close()
