# SPDX-License-Identifier: Apache-2.0
"""The pages of the documentation, as text."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def blocks(page: Path, kind: str) -> list[str]:
    """What is in the fences of a kind."""
    text = page.read_text(encoding="utf-8")
    return re.findall(
        rf"^```{re.escape(kind)}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE
    )
