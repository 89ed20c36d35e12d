# SPDX-License-Identifier: Apache-2.0
"""Mutants that are known to do what the original does, each with the reason.

The file has paragraphs: the source's path and the function, the lines that
differ, and a sentence::

    ibhostdev/locks.py _take
    - if time.monotonic() > deadline:
    + if time.monotonic() <= deadline:
    Because …
"""

from pathlib import Path

from tests.mutants.site import Site

Known = dict[tuple[str, ...], str]


def read(path: Path) -> Known:
    """
    :raises ValueError: for a paragraph that is not of this form
    """
    known: Known = {}
    lines = [
        line
        for line in path.read_text().splitlines()
        if not line.startswith("#")
    ]
    for paragraph in "\n".join(lines).split("\n\n"):
        head, *rest = paragraph.strip().splitlines() or [""]
        if not head:
            continue
        differing = [one for one in rest if one[:2] in ("- ", "+ ")]
        reason = " ".join(rest[len(differing) :])
        if not differing or not reason or rest[: len(differing)] != differing:
            raise ValueError(f"{path}: no mutant with its reason: {head}")
        known[head, *differing] = reason
    return known


def name(site: Site) -> tuple[str, ...]:
    """What the site's paragraph begins with."""
    return f"{site.path} {site.within}", *site.difference
