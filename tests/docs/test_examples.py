# SPDX-License-Identifier: Apache-2.0
"""A reader meets the same VFs and ports on every page."""

import re

import pytest
import yaml

from tests.docs.pages import DOCS, ROOT, blocks

PAGES = [
    ROOT / "README.md",
    ROOT / "SECURITY.md",
    *sorted(
        page for page in DOCS.glob("**/*.md") if "generated" not in page.parts
    ),
]
OCTETS = re.compile(r"(?<![0-9a-f:])(?:[0-9a-f]{2}:){5,7}[0-9a-f]{2}\b")
ADDRESS = re.compile(r"\b[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]\b")
# Ports of guests; the simulated host's own.
KNOWN = re.compile(
    r"fa:16:3e:(00:00:)?12:34:5[6-9]|0c:42:a1:03:00:a0:0[01]:00"
)
PFS = ("0000:3b:0", "0000:5e:0")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_examples_are_the_same(page):
    text = page.read_text(encoding="utf-8")
    for example in OCTETS.findall(text):
        assert KNOWN.fullmatch(example), example
    for example in ADDRESS.findall(text):
        assert example.startswith(PFS), example


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_yaml_is_yaml(page):
    for block in blocks(page, "yaml"):
        yaml.safe_load(block)
