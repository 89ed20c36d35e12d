# SPDX-License-Identifier: Apache-2.0
"""The floor: C with the least system calls."""

import subprocess
from collections.abc import Sequence

from benchmarks.contenders import BUILD, Base, CannotList, Place, Target, run

_WORDS = {"mlx5": "netlink", "mlx5-files": "files", "mlx4": "mlx4"}


class Floor(Base):
    """The same result: looked up, written, read back."""

    title = "floor (C, same result)"

    def open(self, place: Place) -> None:
        super().open(place)
        self._process = subprocess.Popen(
            [BUILD / "floor"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, action: str, words: Sequence[str]) -> float:
        """Seconds that a request took in there."""
        assert self._process.stdin
        assert self._process.stdout
        word = _WORDS[self.place.family]
        self._process.stdin.write(" ".join((action, word, *words)) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer[:1].isdigit():
            raise RuntimeError(f"floor: {answer}")
        return int(answer.split()[0]) / 1e9

    def batch(self, action: str, targets: Sequence[Target]) -> float:
        return self.ask(action, [f"{t.pci}={t.guid}" for t in targets])

    def plug(self, targets: Sequence[Target]) -> float:
        return self.batch("plug", targets)

    def unplug(self, targets: Sequence[Target]) -> float:
        return self.batch("unplug", targets)

    def list(self) -> float:
        return self.ask("list", self.place.pfs)

    def daemons(self) -> Sequence[int]:
        return (self._process.pid,)

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


class Safe(Floor):
    """With what safety asks: who drives each VF, the PFs' locks, whether the
    VFs are still enabled."""

    title = "floor, same questions (C)"

    def plug(self, targets: Sequence[Target]) -> float:
        return self.batch("safely-plug", targets)

    def unplug(self, targets: Sequence[Target]) -> float:
        return self.batch("safely-unplug", targets)


class Process(Base):
    """The same, as a process for each VF."""

    title = "floor, same questions, a process each (C)"
    most = 8

    def _run(self, action: str, targets: Sequence[Target]) -> None:
        word = _WORDS[self.place.family]
        for target in targets:
            run(BUILD / "floor", action, word, f"{target.pci}={target.guid}")

    def plug(self, targets: Sequence[Target]) -> None:
        self._run("safely-plug", targets)

    def unplug(self, targets: Sequence[Target]) -> None:
        self._run("safely-unplug", targets)

    def list(self) -> None:
        raise CannotList("the floor lists without being started")


class Write(Floor):
    """The writing alone, blindly."""

    title = "floor, writing only (C)"

    def plug(self, targets: Sequence[Target]) -> float:
        return self.batch("write", targets)

    def unplug(self, targets: Sequence[Target]) -> float:
        return self.batch("idle", targets)

    def list(self) -> float:
        raise CannotList("it only writes")
