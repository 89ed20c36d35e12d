# SPDX-License-Identifier: Apache-2.0
"""Makes what is released, in dist/, checks it, and tries it:

- the source distribution,
- from that a wheel for each architecture, which serves Python 3.11 and later
  and glibc 2.28 and later: compiled by zig, which brings the headers of both,
- from each wheel a Debian package.

./dev release runs it, in an environment of its own.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path

from release import debian, emulated

REPO = Path(__file__).resolve().parents[1]
GLIBC = (2, 28)
PLATFORM = "manylinux_{}_{}".format(*GLIBC)
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
ZIG = [sys.executable, "-m", "ziglang"]

with open(REPO / "pyproject.toml", "rb") as _file:
    PROJECT = tomllib.load(_file)["project"]
VERSION = PROJECT["version"]


class Wrong(Exception):
    """What was made is not as it should be."""


def say(what: str) -> None:
    print(f"release: {what}", file=sys.stderr, flush=True)


def run(
    *command: str | Path, cwd: Path = REPO, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Quietly, unless it fails."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        words = " ".join(map(str, command))
        said = done.stdout + done.stderr
        raise Wrong(f"{words} ended with {done.returncode}:\n{said}")
    return done


def tool(name: str, *words: str | Path) -> str:
    """What a program of this environment says."""
    return run(Path(sys.executable).parent / name, *words).stdout


# -- made -------------------------------------------------------------------


def sources(folder: Path) -> Path:
    """The source distribution, of a copy without what was built here."""
    copy = folder / "copy"
    listed = run("git", "ls-files", "-co", "--exclude-standard", "-z").stdout
    for name in filter(None, listed.split("\0")):
        if (REPO / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPO / name, copy / name)
    tool("python", "-m", "build", "-n", "-s", "-o", folder, copy)
    (made,) = folder.glob("*.tar.gz")
    return made


def wheel(archive: Path, machine: str, folder: Path) -> Path:
    """Of the source distribution, for machines of that kind."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        there = Path(name)
        with tarfile.open(archive) as opened:
            opened.extractall(there, filter="data")
        (tree,) = there.iterdir()
        target = f"{machine}-linux-gnu.{GLIBC[0]}.{GLIBC[1]}"
        options = f"--plat-name={PLATFORM}_{machine}"
        run(
            *(sys.executable, "-m", "build", "-n", "-w"),
            *("-o", folder, f"-C--build-option={options}", tree),
            CC=" ".join([*ZIG, "cc", "-target", target]),
            AR=" ".join([*ZIG, "ar"]),
            CFLAGS=f"-g0 -I{headers(machine, there)}",
            LDFLAGS="-s",
            IBHOSTDEV_LIBC="dynamic",
            _PYTHON_HOST_PLATFORM=f"linux-{machine}",
            ZIG_GLOBAL_CACHE_DIR=str(REPO / "build/zig"),
            ZIG_LOCAL_CACHE_DIR=str(there / "zig"),
        )
    (made,) = folder.glob(f"*_{machine}.whl")
    return made


def headers(machine: str, folder: Path) -> Path:
    """Debian's Python.h looks for its configuration below a name of the
    machine's. By the limited API none of what differs there is used."""
    version = sysconfig.get_config_var("py_version_short")
    place = folder / f"headers/{machine}-linux-gnu/python{version}"
    place.mkdir(parents=True)
    shutil.copy(sysconfig.get_config_h_filename(), place / "pyconfig.h")
    return folder / "headers"


def notes() -> str:
    """The release notes, of which the newest are this version's. reno takes
    versions from tags, and knows no name for what has none yet."""
    text = tool(
        "reno", "-q", "report", "--no-show-source", "--title", "ibhostdev"
    )
    tag = subprocess.run(
        ["git", "describe", "--exact-match", "--tags"],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    if tag not in ("", VERSION):
        raise Wrong(f"the tag is {tag}, and pyproject.toml has {VERSION}")
    newest = re.search(r"\n\n(.+)\n=+\n", text)
    if newest is None:
        raise Wrong("there are no release notes")
    if tag:
        if newest[1] != tag:
            raise Wrong(f"the release notes begin with {newest[1]}, not {tag}")
        return text
    title = f"\n\n{VERSION}\n{'=' * len(VERSION)}\n"
    text = text[: newest.start()] + title + text[newest.end() :]
    return text.replace(f"_ibhostdev_{newest[1]}", f"_ibhostdev_{VERSION}")


def completions(wheels: Sequence[Path], folder: Path) -> dict[str, str]:
    """By shell, as the command itself writes them, if it does."""
    if not (REPO / "ibhostdev/cli/completion.py").exists():
        return {}
    own = [one for one in wheels if one.stem.endswith(os.uname().machine)]
    if not own:
        raise Wrong("no wheel runs here, and writes completions")
    there = folder / "unpacked"
    with zipfile.ZipFile(own[0]) as archive:
        archive.extractall(there)
    command = [sys.executable, "-P", "-m", "ibhostdev", "completion"]
    return {
        shell: run(*command, shell, PYTHONPATH=str(there)).stdout
        for shell in debian.COMPLETIONS
    }


# -- checked ----------------------------------------------------------------


def check(archive: Path, wheels: Sequence[Path]) -> None:
    """By the judges of others."""
    tool("twine", "check", "--strict", archive, *wheels)
    for one in wheels:
        tool("check-wheel-contents", one)
        tool("abi3audit", "--strict", one)
        told = " ".join(tool("auditwheel", "show", one).split())
        found = re.search(r'platform tag: "manylinux_(\d+)_(\d+)_', told)
        if found is None or (int(found[1]), int(found[2])) > GLIBC:
            raise Wrong(f"{one.name}: {told}")
        if "-cp311-abi3-" not in one.name:
            raise Wrong(f"{one.name} is not for all Pythons from 3.11 on")


# -- tried ------------------------------------------------------------------


def pythons() -> dict[str, str]:
    """By version, those that there are: in PATH, or pyenv's."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = {}
    for version in PYTHONS:
        places = [f"python{version}", sys.executable]
        places += map(str, root.glob(f"versions/{version}.*/bin/python3"))
        for place in places:
            ask = "import sys; print('%d.%d' % sys.version_info[:2])"
            try:
                done = subprocess.run(
                    [place, "-c", ask],
                    capture_output=True,
                    text=True,
                    check=False,
                )
            except FileNotFoundError:
                continue
            if done.stdout.strip() == version:
                found[version] = place
                break
    return found


def try_out(what: Path, version: str, python: str) -> None:
    """The main job, in an environment that has nothing else."""
    say(f"trying {what.name} with Python {version}")
    with tempfile.TemporaryDirectory() as name:
        there = Path(name)
        run(python, "-m", "venv", there / "venv")
        inside = there / "venv/bin"
        constraints = os.environ.get("IBHOSTDEV_CONSTRAINTS")
        run(
            *(inside / "python", "-m", "pip", "install", "-q"),
            *(("-c", REPO / constraints) if constraints else ()),
            f"{what}[simulate]",
        )
        told = run(inside / "ibhostdev", "--version").stdout
        if told != f"ibhostdev {VERSION}\n":
            raise Wrong(f"{what.name} takes itself for {told!r}")
        bin_folder = run(inside / "ibhostdev-ebrctl-path").stdout.strip()
        told = run(Path(bin_folder) / "ebrctl", "--version").stdout
        if VERSION not in told.split():
            raise Wrong(f"the stand-in takes itself for {told!r}")
        # From elsewhere, so that it is what was installed that is imported.
        run(
            *(inside / "python", "-P", "-m", "ibhostdev.simulate.demo"),
            cwd=there,
        )


# ---------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="./dev release", description="Makes, checks and tries a release."
    )
    parser.add_argument(
        "--machine",
        action="append",
        choices=debian.ARCHITECTURES,
        help="for this kind alone; several times for several",
    )
    parser.add_argument(
        "--only-make", action="store_true", help="neither check nor try"
    )
    parser.add_argument(
        "--try-aarch64",
        action="store_true",
        help="only the wheel for aarch64, made and tried on an emulated "
        "machine; takes root and a quarter of an hour",
    )
    asked = parser.parse_args()
    machines = asked.machine or list(debian.ARCHITECTURES)
    if asked.try_aarch64:
        machines = [emulated.MACHINE]
    epoch = run("git", "log", "-1", "--format=%ct").stdout.strip()
    os.environ.setdefault("SOURCE_DATE_EPOCH", epoch)
    dist = REPO / "dist"
    with tempfile.TemporaryDirectory(dir=REPO / "build") as name:
        folder = Path(name)
        say("making the source distribution")
        archive = sources(folder)
        wheels = []
        for machine in machines:
            say(f"making the wheel for {machine}")
            wheels.append(wheel(archive, machine, folder))
        if asked.try_aarch64:
            say(f"trying {wheels[0].name} on an emulated machine")
            emulated.try_out(wheels[0], VERSION, REPO / "build/aarch64")
            say(f"{wheels[0].name} does the main job")
            return
        if not asked.only_make:
            say("checking them")
            check(archive, wheels)
        say("making the Debian packages")
        told = notes()
        words = completions(wheels, folder)
        packages = [
            debian.build(one, PROJECT, told, words, folder) for one in wheels
        ]
        if not asked.only_make:
            here = os.uname().machine
            for one in wheels:
                if not one.stem.endswith(here):
                    continue
                for version, python in pythons().items():
                    try_out(one, version, python)
            try_out(archive, "its own", sys.executable)
        dist.mkdir(exist_ok=True)
        for made in [archive, *wheels, *packages]:
            shutil.move(made, dist / made.name)
            say(f"dist/{made.name}: {(dist / made.name).stat().st_size} bytes")


if __name__ == "__main__":
    try:
        main()
    except (Wrong, debian.Unknown, emulated.Failed) as error:
        sys.exit(f"release: {error}")
