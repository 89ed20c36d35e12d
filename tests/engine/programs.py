# SPDX-License-Identifier: Apache-2.0
"""Builds the programs that prove the engine, below build/engine: each file
is compiled once for each way of compiling, until it or a header changes."""

import hashlib
import os
import shlex
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

ENGINE = Path("ibhostdev/_native/engine")
HERE = Path("tests/engine")
EBRCTL = Path("ibhostdev/ebrctl/ebrctl.c")
BUILT = Path("build/engine")

_MODEL = ["cases", "files", "machine", "script", "scripted", "stores", "wire"]
_JUDGE = ["judge", "trial", "watch"]
#: What each program but ebrctl is made of, besides the engine.
PROGRAMS = {
    "enumerate": ["enumerate", "memory", "pairs", *_JUDGE, *_MODEL],
    "threads": ["threads", *_MODEL],
    "fuzz_engine": ["fuzz_engine", "memory", *_JUDGE, *_MODEL],
    "fuzz_files": ["fuzz_files", *_MODEL],
    "fuzz_netlink": ["fuzz_netlink"],
    "fuzz_networks": ["fuzz_networks", *_MODEL],
    "fuzz_text": ["fuzz_text"],
}
#: What the programs of tests/unit/test_engine.py need of the engine, each its
#: own subject first.
PARTS = {
    "lock": ["lock", "error", "words", "text"],
    "malformed": ["rtnetlink"],
    "messages": ["rtnetlink"],
    "netlink_ask": ["netlink_ask", "rtnetlink"],
    "netlink_set": ["netlink_set", "rtnetlink"],
    "parallel": ["parallel"],
    "pkeys": ["mlx4_pkeys", "error", "words", "text"],
    "simulated": [
        *("simulated", "system", "rtnetlink", "lock"),
        *("error", "words", "text"),
    ],
    "system": [
        *("system", "lock", "error", "words", "text"),
        *("netlink_ask", "netlink_set", "rtnetlink"),
    ],
    "text": ["text"],
}
_WRAPPED = ["malloc", "calloc", "realloc", "strdup", "free", "vasprintf"]
_ENDING = "-fno-sanitize-recover=all"


class Way(NamedTuple):
    """A way of compiling; ``link`` is what only linking takes, ``before``
    what a program is started by."""

    name: str
    flags: tuple[str, ...]
    link: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    clang: bool = False

    def compiler(self) -> list[str]:
        if self.clang:
            return ["clang"]
        known = os.environ.get("CC") or sysconfig.get_config_var("CC")
        return shlex.split(known or "cc")


FAST = Way("fast", ("-O2",))
CHECKED = Way("checked", ("-O1", "-fsanitize=address,undefined", _ENDING))
# Addresses at random are more than gcc 12's ThreadSanitizer can do with.
THREADS = Way(
    "threads", ("-O1", "-fsanitize=thread"), before=("setarch", "-R")
)
FUZZ = Way(
    "fuzz",
    ("-O1", "-fsanitize=fuzzer-no-link,address,undefined", _ENDING),
    ("-fsanitize=fuzzer",),
    clang=True,
)


@cache
def works(way: Way) -> bool:
    """Whether the compiler has what the way takes, and it runs here."""
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/a"
        command = [*way.compiler(), *way.flags, "-xc", "-", "-o", program]
        built = subprocess.run(
            command,
            input=b"int main(void) { return 0; }",
            stderr=subprocess.DEVNULL,
            check=False,
        )
        return (
            not built.returncode and not run([*way.before, program]).returncode
        )


def run(
    command: Sequence[str | Path], **how: str
) -> subprocess.CompletedProcess[str]:
    """With its output. Sanitizers of this process are not the program's."""
    kept = {n: v for n, v in os.environ.items() if n != "LD_PRELOAD"}
    return subprocess.run(
        command,
        env=kept | how,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )


def _headers() -> Iterator[Path]:
    for folder in ("include/ibhostdev", ENGINE, HERE):
        yield from sorted(Path(folder).glob("*.h"))


def _compile(way: Way, source: Path, headers: bytes) -> Path:
    flags = ["-std=gnu11", "-g", "-Wall", "-Wextra", "-Werror"]
    flags += ["-Iinclude", f"-I{ENGINE}"]
    command = [*way.compiler(), *way.flags, *flags, "-c", str(source)]
    digest = hashlib.sha256(headers)
    digest.update(repr(command).encode() + source.read_bytes())
    made = BUILT / way.name / f"{source.stem}-{digest.hexdigest()[:16]}.o"
    if not made.exists():
        # Under its name only when it is whole: two may be at it.
        partial = made.with_suffix(f".{os.getpid()}")
        subprocess.run([*command, "-o", partial], check=True)
        partial.replace(made)
    return made


def _sources(program: str) -> list[Path]:
    if program in PARTS:
        needed = [ENGINE / f"{name}.c" for name in PARTS[program]]
        return [HERE / f"test_{program}.c", *needed]
    own = [EBRCTL]
    if program in PROGRAMS:
        own = [HERE / f"{name}.c" for name in PROGRAMS[program]]
    return own + sorted(ENGINE.glob("*.c"))


def build(program: str, way: Way) -> Path:
    """The program, made if need be: one of PROGRAMS or PARTS, or ebrctl.

    :raises subprocess.CalledProcessError: if it cannot be
    """
    sources = _sources(program)
    headers = b"".join(header.read_bytes() for header in _headers())
    folder = BUILT / way.name
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        objects = list(
            pool.map(lambda source: _compile(way, source, headers), sources)
        )
    digest = hashlib.sha256(repr(objects).encode()).hexdigest()[:16]
    made = folder / f"{program}-{digest}"
    if not made.exists():
        partial = made.with_suffix(f".{os.getpid()}")
        command = [*way.compiler(), *way.flags, *way.link, "-pthread"]
        if HERE / "memory.c" in sources:
            command += [f"-Wl,--wrap={name}" for name in _WRAPPED]
        subprocess.run([*command, "-o", partial, *objects], check=True)
        partial.replace(made)
    return made
