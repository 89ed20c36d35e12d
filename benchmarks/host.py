# SPDX-License-Identifier: Apache-2.0
"""What needs no kernel: start, memory, instructions, on a simulated host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from sysconfig import get_path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import plan
from benchmarks.contenders import REPO
from ibhostdev import simulate
from ibhostdev.ebrctl import PROGRAM

Tell = Callable[..., None]
_COMMAND = str(Path(sys.executable).with_name("ibhostdev"))

_BATCH = """
import sys
from ibhostdev import Vif, simulate
def peak():
    # What getrusage() tells begins with the size of who started us.
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
host = simulate.connect(sys.argv[1])
before = peak()
every = [pf.vf_address(n) for pf in host.pfs for n in range(pf.numvfs)]
vifs = [
    Vif.parse(pci, "fa:16:3e:00:%02x:%02x" % divmod(n, 256))
    for n, pci in enumerate(every[: int(sys.argv[2])])
]
if sys.argv[3:] != ["without"]:
    host.plug(vifs)
print(before, peak())
"""


@contextmanager
def simulated(pfs: int, vfs: int) -> Iterator[str]:
    """The folder of a host that is served by a process of its own."""
    with (
        TemporaryDirectory() as folder,
        subprocess.Popen(
            [_COMMAND, "simulate", folder, f"--pfs={pfs}", f"--vfs={vfs}"],
            stdout=subprocess.PIPE,
        ) as process,
    ):
        assert process.stdout
        try:
            if not process.stdout.readline():
                raise RuntimeError("the simulated host does not start")
            yield folder
        finally:
            process.terminate()


def _took(*command: str, **variables: str) -> float:
    environment = os.environ | variables
    start = time.perf_counter()
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, env=environment
    )
    return time.perf_counter() - start


def start(tell: Tell, rounds: int) -> None:
    """The import, by turns with a Python that does nothing.

    Without site: what an editable installation's finder has imported for
    itself would cost the package nothing.
    """
    paths = f"import sys; sys.path += {[str(REPO), get_path('platlib')]}"
    for _ in range(rounds):
        bare = _took(sys.executable, "-SIc", paths)
        package = _took(sys.executable, "-SIc", f"{paths}; import ibhostdev")
        tell("host", what="python", seconds=bare)
        tell("host", what="import", seconds=package - bare)


def listed(tell: Tell, rounds: int) -> None:
    """`ibhostdev list` from start to end, by turns with a Python that does
    nothing."""
    with simulated(2, 16) as folder:
        for _ in range(rounds):
            bare = _took(sys.executable, "-c", "pass")
            whole = _took(_COMMAND, "--host", folder, "list")
            tell("host", what=plan.LISTED, seconds=whole - bare)


def listing(tell: Tell, rounds: int, pfs: int, vfs: int) -> None:
    with simulated(pfs, vfs) as folder:
        for _ in range(rounds):
            tell(
                "host",
                what=f"ibhostdev list, {pfs} x {vfs} VFs",
                seconds=_took(_COMMAND, "--host", folder, "list"),
            )


def standin(tell: Tell, rounds: int, vfs: int = 127) -> None:
    """The stand-in for ebrctl, by turns with a program that does nothing:
    a VF is plugged, plugged again and unplugged."""
    mac = "fa:16:3e:00:00:01"
    with simulated(1, vfs) as folder:
        (pf,) = simulate.connect(folder).pfs
        plug = (
            PROGRAM, "add-port", mac, "instance", "default", "ib_hostdev",
            pf.vf_address(0),
        )  # fmt: skip
        unplug = (PROGRAM, "del-port", "default", mac)
        for _ in range(rounds):
            bare = _took("true")
            for what, command in (
                ("plug", plug), ("repeated plug", plug), ("unplug", unplug),
            ):  # fmt: skip
                more = _took(*command, IBHOSTDEV_HOST=folder) - bare
                tell(
                    "host",
                    what=f"stand-in, {what}: more than true",
                    seconds=more,
                )
            tell("host", what="true", seconds=bare)


def memory(tell: Tell, vifs: int) -> None:
    with simulated(-(-vifs // 127), 127) as folder:
        told = subprocess.run(
            [sys.executable, "-c", _BATCH, folder, str(vifs)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
    before, peak = (int(word) * 1024 for word in told)
    tell("memory", vifs=vifs, before=before, peak=peak)


def instructions(tell: Tell, few: int = 8, many: int = 64) -> None:
    """Of a plug, from Python to the system call, for each VF more; making
    its Vif from text is apart."""
    counts = {}
    for vifs, *without in (
        (few,), (many,), (few, "without"), (many, "without"),
    ):  # fmt: skip
        with simulated(1, 64) as folder, TemporaryDirectory() as scratch:
            told = subprocess.run(
                [
                    "valgrind", "--tool=callgrind",
                    f"--callgrind-out-file={scratch}/out",
                    sys.executable, "-c", _BATCH, folder, str(vifs),
                    *without,
                ],
                check=True,
                capture_output=True,
                text=True,
                env=os.environ | {"PYTHONHASHSEED": "0"},
            ).stderr  # fmt: skip
        found = re.search(r"Collected : (\d+)", told)
        if not found:
            raise RuntimeError(told)
        counts[vifs, *without] = int(found[1])
    parse = counts[many, "without"] - counts[few, "without"]
    each = counts[many,] - counts[few,] - parse
    more = many - few
    tell("instructions", each=each / more, parse=parse / more)


def inprocess(tell: Tell, options: tuple[str, ...]) -> None:
    """benchmarks/test_inprocess.py, by pytest-benchmark."""
    import json

    with TemporaryDirectory() as folder:
        out = Path(folder, "out.json")
        subprocess.run(
            [
                sys.executable, "-m", "pytest", "-q", "--no-header",
                Path(__file__).with_name("test_inprocess.py"),
                f"--benchmark-json={out}", *options,
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        told: dict[str, Any] = json.loads(out.read_text())
    for one in told["benchmarks"]:
        for seconds in one["stats"]["data"]:
            tell("host", what=one["name"], seconds=seconds)


def run(tell: Tell, short: bool) -> None:
    start(tell, 3 if short else 25)
    listed(tell, 2 if short else 25)
    listing(tell, 2 if short else 10, *(2, 16) if short else (8, 127))
    standin(tell, 3 if short else 50)
    memory(tell, 100 if short else 1000)
    if not short:
        instructions(tell)
    few = ("--benchmark-max-time=0.1", "--benchmark-min-rounds=2")
    inprocess(tell, few if short else ("--benchmark-max-time=1",))
