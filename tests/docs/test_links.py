# SPDX-License-Identifier: Apache-2.0
"""Links between the files of the sources lead somewhere, as one reads them
where they lie; Sphinx looks after those of the site."""

import re
import subprocess

import pytest

from tests.docs.pages import ROOT

_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(?:#([^)\s]+))?\)")


def pages():
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:  # sources without git
        return sorted(
            path
            for path in ROOT.glob("**/*.md")
            if not set(path.parts) & {"build", "node_modules"}
        )
    return [ROOT / name for name in sorted(listed.stdout.split())]


def anchors(text):
    """Of titles, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title in titles
    }


@pytest.mark.parametrize(
    "page", pages(), ids=lambda p: str(p.relative_to(ROOT))
)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for name, anchor in _LINK.findall(text):
        there = page.parent / name
        if "generated" in there.parts:
            continue  # made by ./dev docs, which looks after it
        assert there.exists(), name
        if anchor:
            assert anchor in anchors(there.read_text(encoding="utf-8")), name


def test_what_the_code_names_is_there():
    """Comments and notes name pages by their path."""
    found = subprocess.run(
        ["git", "grep", "-hoE", r"docs/[a-z/-]+\.md", "--", ":!docs"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode > 1:
        pytest.skip("needs git and its clone")
    for name in set(found.stdout.split()):
        assert (ROOT / name).exists(), name
