# SPDX-License-Identifier: Apache-2.0
"""The recording shows what the demo prints."""

import os
import subprocess

from docs import recording
from tests.docs.pages import ROOT


def test_it_is_what_the_demo_prints(tmp_path):
    """./dev docs recording makes it anew."""
    done = subprocess.run(
        recording.DEMO,
        env={
            **os.environ,
            "COLUMNS": str(recording.COLUMNS),
            "TMPDIR": str(tmp_path),
        },
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shown = recording.text_of(recording.FILE.read_text(encoding="utf-8"))
    assert recording.steady(shown) == recording.steady(done.stdout)


def test_whatever_is_printed_can_be_read_in_it():
    said = "\x1b[1;36m<head> &\x1b[0m\n\n  $ two  blanks \x1b[31mred\x1b[0m\n"
    picture = recording.drawn(said)
    assert recording.text_of(picture) == "<head> &\n\n  $ two  blanks red\n"
    assert 'class="bold cyan"' in picture


def test_it_needs_nothing_from_elsewhere():
    picture = recording.FILE.read_text(encoding="utf-8")
    assert "url(" not in picture
    assert "href" not in picture


def test_the_readme_has_it():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"({recording.FILE.relative_to(ROOT)})" in readme
