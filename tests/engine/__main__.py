# SPDX-License-Identifier: Apache-2.0
"""The long forms of the engine's proofs: ``./dev enumerate``, ``./dev fuzz``.

enumerate [checked] [short|long|--only SCRIPT]
                    every batch, start and fault; checked is with gcc's
                    sanitizers, --only is what a failure prints
fuzz [SECONDS]      the fuzzers, two at a time
fuzz NAME FILE…     one, with inputs that it has kept for a failure
"""

import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.engine.programs import (
    BUILT,
    CHECKED,
    FAST,
    FUZZ,
    HERE,
    build,
    run,
)

# The share of the time that each gets, the longest first.
FUZZERS = {"engine": 4, "files": 2, "netlink": 2, "networks": 1, "text": 1}
_AT_ONCE = 2
_LONGEST = 1024  # bytes of an input


def _say(text: str) -> None:
    print(f"ibhostdev: {text}", file=sys.stderr, flush=True)


def enumerate_all(arguments: list[str]) -> int:
    way = FAST
    if arguments[:1] == ["checked"]:
        way, arguments = CHECKED, arguments[1:]
    return subprocess.run(
        [build("enumerate", way), *(arguments or ["long"])], check=False
    ).returncode


def _corpus(name: str) -> Path:
    """What was found before, and the seeds: an input a line, in hex."""
    folder = BUILT / "corpus" / name
    folder.mkdir(parents=True, exist_ok=True)
    seeds = (HERE / "corpus" / f"{name}.txt").read_text().splitlines()
    for number, line in enumerate(seeds):
        if not line.startswith("#"):
            (folder / f"seed{number}").write_bytes(bytes.fromhex(line))
    return folder


def _fuzz(name: str, seconds: int) -> bool:
    program = build(f"fuzz_{name}", FUZZ)
    kept = BUILT / f"{name}-"
    done = run(
        [
            *(program, f"-max_total_time={seconds}"),
            *(f"-max_len={_LONGEST}", f"-artifact_prefix={kept}"),
            *("-print_final_stats=1", "-timeout=30", "-rss_limit_mb=1024"),
            _corpus(name),
        ]
    )
    runs = re.search(r"number_of_executed_units: (\d+)", done.stdout)
    if done.returncode or not runs:
        print(done.stdout[-6000:])
        _say(f"{name}: failed; again: ./dev fuzz {name} {kept}…")
        return False
    _say(f"{name}: {int(runs[1]):,} runs in {seconds} s")
    return True


def fuzz(arguments: list[str]) -> int:
    if arguments and arguments[0] in FUZZERS:
        name, *files = arguments
        program = build(f"fuzz_{name}", FUZZ)
        return subprocess.run([program, *files], check=False).returncode
    seconds = int(arguments[0]) if arguments else 60
    for name in FUZZERS:
        build(f"fuzz_{name}", FUZZ)
    share = seconds * _AT_ONCE / sum(FUZZERS.values())
    began = time.monotonic()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        passed = list(
            pool.map(
                lambda one: _fuzz(one[0], max(1, round(share * one[1]))),
                FUZZERS.items(),
            )
        )
    _say(f"fuzzed for {time.monotonic() - began:.0f} s")
    return 0 if all(passed) else 1


def main(arguments: list[str]) -> int:
    command, *rest = arguments or ["help"]
    if command == "enumerate":
        return enumerate_all(rest)
    if command == "fuzz":
        return fuzz(rest)
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
