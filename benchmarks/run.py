# SPDX-License-Identifier: Apache-2.0
"""One run: builds what is in C, measures, keeps the samples."""

from __future__ import annotations

import compileall
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import emulation, host, plan
from benchmarks.contenders import BUILD, REPO
from benchmarks.plan import Case
from benchmarks.results import Results

_MARK = "@@"
_FLAGS = (
    "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-format-truncation",
    "-pthread", "-I", str(REPO / "include"),
)  # fmt: skip
_PROGRAMS = {
    "floor": ("floor", "mechanisms", "questions", "sysfs"),
    "rtnl": ("rtnl",),
    "emulation": ("emulation",),
}
# A virtual machine that hangs must not hang the run.
_LIMIT = 3600


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def build() -> None:
    """The floor and the witnesses, in C; and the package's bytecode,
    which all others have from pip, as an installation of ours would."""
    BUILD.mkdir(parents=True, exist_ok=True)
    if not compileall.compile_dir(REPO / "ibhostdev", quiet=1):
        raise RuntimeError("the package does not compile")
    folder = REPO / "benchmarks" / "floor"
    newest = max(file.stat().st_mtime for file in folder.iterdir())
    for name, sources in _PROGRAMS.items():
        program = BUILD / name
        if program.exists() and program.stat().st_mtime > newest:
            continue
        files = [folder / f"{source}.c" for source in sources]
        subprocess.run(["cc", *_FLAGS, "-o", program, *files], check=True)


def rig(
    shape: str, cases: Sequence[Case], tell: Callable[[dict[str, Any]], None]
) -> None:
    """Run cases in a virtual machine."""
    task = BUILD / f"plan-{shape}.json"
    task.write_text(
        json.dumps(
            {
                "loop": emulation.loop(),
                "cases": [case.plain() for case in cases],
            }
        )
    )
    log = BUILD / f"rig-{shape}.log"
    command: list[str | Path] = [
        sys.executable, REPO / "tests/kernel/run", "--shape", shape,
        "--limit", str(_LIMIT), "--",
        "python", "-m", "benchmarks.rig", str(task),
    ]  # fmt: skip
    with (
        log.open("w") as kept,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, errors="replace"
        ) as process,
    ):
        assert process.stdout
        for line in process.stdout:
            if line.startswith(_MARK):
                tell(json.loads(line[len(_MARK) :]))
            else:
                kept.write(line)
                kept.flush()
    if process.returncode:
        raise RuntimeError(f"the virtual machine ({shape}) failed: see {log}")


def _machine() -> dict[str, Any]:
    from importlib import metadata

    def output(*command: str) -> str:
        try:
            return subprocess.run(
                command, capture_output=True, text=True, check=True, cwd=REPO
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return "not known"

    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    versions = {
        name: metadata.version(name)
        for name in (
            "ibhostdev", "pyroute2", "oslo.privsep", "oslo.rootwrap",
        )
    }  # fmt: skip
    return {
        "processor": cpu,
        "host kernel": platform.release(),
        "python": platform.python_version(),
        "commit": output("git", "describe", "--always", "--dirty"),
        "qemu": output("qemu-system-x86_64", "--version").partition("\n")[0],
        "iproute2": output("ip", "-V"),
        "networking-mlnx": output(
            str(REPO / ".venv-mlnx/bin/python"), "-c",
            "from importlib.metadata import version as v;"
            "print(v('networking-mlnx'))",
        ),
        "started": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        **versions,
    }  # fmt: skip


def run(short: bool, part: str | None = None) -> Results:
    """All of it, or what one virtual machine does."""
    results = Results(machine={"form": "short" if short else "full"})
    started = time.monotonic()
    build()

    def tell(sample: dict[str, Any]) -> None:
        if sample["kind"] == "machine":
            del sample["kind"]
            results.machine["guest"] = sample
            say(f"emulation is {sample['factor']:.1f} times slower")
            return
        if sample["kind"] == "case":
            say(f"{sample['took']:6.1f} s  {sample['case']}")
        elif sample["kind"] == "absent":
            why = sample["why"].strip().splitlines()[-1]
            say(f"without {sample['contender']}: {why}")
        results.samples.append(sample)

    def tell_host(kind: str, **what: Any) -> None:
        tell({"kind": kind} | what)

    results.machine |= _machine()
    for shape, cases in (plan.short() if short else plan.full()).items():
        if part not in (None, shape):
            continue
        say(f"a virtual machine ({shape})")
        results.cases += [case.plain() for case in cases]
        try:
            rig(shape, cases, tell)
        except RuntimeError as error:
            # What was measured until then is worth keeping.
            say(str(error))
            results.machine["incomplete"] = str(error)
    if part is None:
        say("this machine")
        host.run(tell_host, short)
    results.machine["took"] = round(time.monotonic() - started)
    return results
