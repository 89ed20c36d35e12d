# SPDX-License-Identifier: Apache-2.0
"""Builds the site and the man pages into build/docs, or makes the recording
of the demo anew; for ./dev docs."""

import subprocess
import sys
from pathlib import Path

from docs import recording

HERE = Path(__file__).parent
TO = HERE.parent / "build/docs"


def main() -> int:
    for builder in sys.argv[1:] or ["html", "man"]:
        if builder == "recording":
            recording.main()
            continue
        done = subprocess.run(
            [
                *(sys.executable, "-m", "sphinx", "-b", builder),
                *("--fail-on-warning", "--keep-going", "--quiet"),
                *("--doctree-dir", TO / "doctrees"),
                *(HERE, TO / builder),
            ],
            check=False,
        )
        if done.returncode:
            return 1
        print(f"ibhostdev: {TO.relative_to(HERE.parent)}/{builder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
