# SPDX-License-Identifier: Apache-2.0
"""The stand-in, built to end at the first misuse of memory.

It is kept for as long as its sources stay as they are: tests/kernel/run has
it made before the rig boots, in which a compiler takes minutes.
"""

import hashlib
import os
import subprocess
import sysconfig
import tempfile
from pathlib import Path

_FLAGS = (
    *("-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror"),
    *("-Wconversion", "-Wno-sign-conversion", "-pthread", "-Iinclude"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
)
_ENGINE = Path("ibhostdev/_native/engine")
_BUILD = Path("build/ebrctl")


def program() -> str:
    """Its path; from the root of the work tree."""
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC")
    sources = [Path("ibhostdev/ebrctl/ebrctl.c"), *_ENGINE.glob("*.c")]
    headers = [*Path("include/ibhostdev").glob("*.h"), *_ENGINE.glob("*.h")]
    command = [*compiler.split(), *_FLAGS, *map(str, sorted(sources))]
    key = hashlib.sha256(repr(command).encode())
    for path in sorted([*sources, *headers]):
        key.update(path.read_bytes())
    made = _BUILD / f"ebrctl-{key.hexdigest()[:16]}"
    if not made.exists():
        _BUILD.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_BUILD) as folder:
            new = Path(folder, "ebrctl")
            subprocess.run([*command, "-o", str(new)], check=True)
            new.replace(made)
    return str(made.resolve())


if __name__ == "__main__":
    program()
