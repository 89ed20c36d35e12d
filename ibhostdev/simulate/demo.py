# SPDX-License-Identifier: Apache-2.0
"""The package's main job, shown on a simulated host::

    python -m ibhostdev.simulate.demo

Serves a host of 2 PFs with 16 VFs each in a temporary folder, and plugs,
plugs again and unplugs 16 VIFs by the commands that an operator would type.
Checks what they say and exits with 1 if any of it is not so.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PFS, _VFS, _EACH = 2, 16, 8
_START_LIMIT = 120.0
_READING = 1.0  # seconds before each command, if somebody is watching
_COMMAND = [sys.executable, "-m", "ibhostdev"]


class Wrong(Exception):
    """The demo saw something else than it should have."""


def _expect(what: str, seen: object, wanted: object) -> None:
    if seen != wanted:
        raise Wrong(f"{what}: {seen!r} where {wanted!r} was due")


class Stage:
    """Says what is done, and does it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        # The package need not be installed, and the commands run elsewhere.
        package = str(Path(__file__).resolve().parents[2])
        self._environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith("IBHOSTDEV_")
            },
            "IBHOSTDEV_HOST": str(folder / "host"),
            "PYTHONPATH": os.pathsep.join(
                filter(None, (package, os.environ.get("PYTHONPATH")))
            ),
        }

    def say(self, text: str, style: str = "1;36") -> None:
        if self._colours:
            text = f"\x1b[{style}m{text}\x1b[0m"
        print(text, flush=True)

    def explain(self, *lines: str) -> None:
        for line in lines:
            self.say(line, "2")

    def run(self, *arguments: str) -> float:
        """As typed by an operator, in sight; gives the seconds it took."""
        self.say(f"\n$ ibhostdev {shlex.join(arguments)}", "1")
        if sys.stdout.isatty():
            time.sleep(_READING)
        start = time.monotonic()
        done = subprocess.run(
            [*_COMMAND, *arguments],
            env=self._environment,
            cwd=self.folder,
            check=False,
        )
        _expect(f"exit code of {arguments[0]}", done.returncode, 0)
        return time.monotonic() - start

    def ask(self, *arguments: str) -> Any:
        """As asked by a program, out of sight; gives what it says."""
        done = subprocess.run(
            [*_COMMAND, *arguments, "--json"],
            env=self._environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            check=False,
        )
        _expect(f"exit code of {arguments[0]}", done.returncode, 0)
        return json.loads(done.stdout)

    def macs(self) -> dict[str, str]:
        """The VFs that have an identity, and whose MAC it is."""
        return {
            vf["pci"]: vf["mac"]
            for pf in self.ask("list")["pfs"]
            for vf in pf["vfs"]
            if vf["mac"] is not None
        }


@contextmanager
def _served(folder: Path) -> Iterator[None]:
    """A host in the folder, until the block ends."""
    server = subprocess.Popen(
        [
            *_COMMAND,
            "simulate",
            str(folder),
            *("--pfs", str(_PFS), "--vfs", str(_VFS), "--family", "mlx5"),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        limit = time.monotonic() + _START_LIMIT
        # It is written last.
        while not (folder / "host.json").exists():
            if server.poll() is not None or time.monotonic() > limit:
                raise Wrong("the simulated host did not start")
            time.sleep(0.05)
        yield
    finally:
        server.terminate()
        server.wait()


def _vif_file(stage: Stage) -> list[dict[str, str]]:
    """VIFs for the first VFs of each PF, as a YAML file."""
    vifs = [
        {"pci": vf["pci"], "mac": f"fa:16:3e:00:{number:02x}:{index:02x}"}
        for number, pf in enumerate(stage.ask("list")["pfs"], 1)
        for index, vf in enumerate(pf["vfs"][:_EACH], 1)
    ]
    lines = (f"- {{pci: {v['pci']}, mac: {v['mac']}}}\n" for v in vifs)
    (stage.folder / "vifs.yaml").write_text("".join(lines))
    return vifs


def _play(stage: Stage) -> None:
    stage.say(
        f"A simulated host: {_PFS} InfiniBand PFs with {_VFS} VFs each. "
        "No root, no hardware."
    )
    stage.explain(
        "A PF (Physical Function) is an adapter, its VFs (Virtual Functions)",
        "are what guests are handed. Each needs an identity first: the GUID",
        "that it shows to the fabric, told by the MAC that it is made of. The",
        "driver does not tell those of new VFs: not known. Their policy is",
        "down: they have no link.",
    )
    stage.run("list")
    vifs = _vif_file(stage)
    wanted = {vif["pci"]: vif["mac"] for vif in vifs}

    stage.say(f"\n{len(vifs)} VIFs, {_EACH} on each PF, in one batch:")
    stage.explain(
        "A VIF is a guest's port: a VF, by its PCI address, and the MAC that",
        "OpenStack has given it. After the plug each VF has its own identity,",
        "the one in its row, and its link follows the adapter's.",
    )
    stage.say("\n$ head -n 3 vifs.yaml", "1")
    with open(stage.folder / "vifs.yaml", encoding="ascii") as file:
        print("".join(file.readlines()[:3]), end="")
    took = stage.run("plug", "--file", "vifs.yaml")
    _expect("the VFs' identities", stage.macs(), wanted)
    stage.say(
        f"{len(vifs)} VFs have their identities after {took:.2f} s.", "32"
    )

    stage.say("\nNow they belong to their ports:")
    stage.run("list")

    stage.say("\nThe same again, as Nova does at each of its restarts:")
    stage.run("plug", "--file", "vifs.yaml")
    again = stage.ask("plug", "--file", "vifs.yaml")
    written = [one["pci"] for one in again["results"] if one["changed"]]
    _expect("VFs written by a repeated plug", written, [])
    stage.say("Nothing was written.", "32")

    stage.say("\nWould anything keep a plug from working here?")
    stage.run("doctor")
    _expect("the doctor's opinion", stage.ask("doctor")["ok"], True)

    stage.say("\nThe guests are gone:")
    stage.explain("A VF that is idle is nobody's: no identity, no link.")
    stage.run("unplug", "--file", "vifs.yaml")
    stage.run("list")
    _expect("the VFs' identities", stage.macs(), {})
    stage.say("All VFs are idle.", "32")


def main() -> int:
    """Show it all; 0 if it went as it should."""
    with tempfile.TemporaryDirectory(prefix="ibhostdev-demo-") as name:
        folder = Path(name)
        stage = Stage(folder)
        try:
            with _served(folder / "host"):
                _play(stage)
        except Wrong as error:
            stage.say(f"\nThe demo failed: {error}", "1;31")
            return 1
        except KeyboardInterrupt:
            return 130
        except BrokenPipeError:  # who looked at it has seen enough
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            return 0
    stage.say("\nThe demo did what it should.", "1;32")
    return 0


if __name__ == "__main__":
    sys.exit(main())
