# SPDX-License-Identifier: Apache-2.0
"""The page about the C API, of its headers."""

import re
from pathlib import Path

HEADERS = Path(__file__).parents[2] / "include/ibhostdev"


def c_page() -> str:
    """The headers as they are, each part under its title."""
    parts = ["# Headers"]
    for name in ("engine.h", "guid.h", "pci.h"):
        text = (HEADERS / name).read_text(encoding="utf-8")
        parts.append(f"## {name}")
        first, *others = re.split(
            r"^/\* ---- (.+?) -+ \*/$", text, flags=re.MULTILINE
        )
        parts.append(_c(first))
        for title, body in zip(others[::2], others[1::2], strict=True):
            parts.append(f"### {title[:1].upper()}{title[1:]}\n\n{_c(body)}")
    return "\n\n".join(parts) + "\n"


def _c(text: str) -> str:
    text = text.strip("\n").replace("\t", " " * 8)
    return f"```c\n{text}\n```"
