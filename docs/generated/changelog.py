# SPDX-License-Identifier: Apache-2.0
"""The changelog, of the notes in releasenotes/."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

_CHANGELOG_HEAD = """\
Changelog
=========

What each release brings, of the notes that every change leaves in
``releasenotes/notes/``. What has to be done before or after an upgrade is
under *Upgrade Notes*; :doc:`how to upgrade </howto/upgrade>`.

"""


_LOWER = str.maketrans("=-", "-~")


def changelog_page() -> str:
    """What reno reports, which asks git which release a note is of."""
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from reno.main import main; main()"),
            *("-q", "report", "--no-show-source"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    _, _, report = done.stdout.partition("\nRelease Notes\n=============\n")
    if not report:
        return _CHANGELOG_HEAD + "These sources are without git: see there.\n"
    # Releases are below the page's title, their sections below them.
    report = re.sub(
        r"^[=-]{3,}$",
        lambda line: line[0].translate(_LOWER),
        report,
        flags=re.MULTILINE,
    )
    # Commits since the last tag, or without any.
    first = re.compile(r"^\d+\.\d+\.\d+(-\d+)?\n-+$", re.MULTILINE)
    return _CHANGELOG_HEAD + first.sub(
        "Not yet released\n----------------", report, count=1
    )
