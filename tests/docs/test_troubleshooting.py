# SPDX-License-Identifier: Apache-2.0
"""What the page of symptoms quotes is what somebody will see, so that he
finds it there."""

import ast
import re

from docs.generated import failures
from tests.docs.pages import ROOT, read


def said():
    """All texts of the package; what is filled in is between them."""
    for file in (ROOT / "ibhostdev").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
    for _, message, cure in failures.engine_words():
        yield message
        yield cure or ""
    for _, cure in failures.errno_cures():
        yield cure


def test_what_it_quotes_is_said():
    quoted = re.findall(
        r"^`([^`]+)`\n: ", read("howto/troubleshooting.md"), re.MULTILINE
    )
    assert len(quoted) > 20
    texts = list(said())
    for quote in quoted:
        for part in quote.split("…"):
            assert any(part.strip(" :,") in text for text in texts), part
