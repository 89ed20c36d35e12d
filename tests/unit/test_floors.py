# SPDX-License-Identifier: Apache-2.0
"""The floors of CONTRIBUTING.md: who may import whom."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ibhostdev"
# A service's configuration may name a simulated host.
GRANTED = {("privilege/configured.py", "simulate")}
COMMAND = "cli"  # shows what the other faces do
FACES = 6


def floors() -> dict[str, int]:
    """Rooms and modules of the package, by CONTRIBUTING's table."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = {}
    for floor, where in re.findall(r"^\| ([2-6]) \| (.+?) \|", text, re.M):
        for name in re.findall(r"`(?:ibhostdev/)?(\w+)/?`", where):
            found[name] = int(floor)
    return found


def imports(file: Path) -> Iterator[str]:
    """Rooms and modules of the package that a file imports from anywhere in
    it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "ibhostdev":
            names = [f"ibhostdev.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [str(node.module)]
        for name in names:
            first, _, inner = name.partition(".")
            if first == "ibhostdev" and inner:
                yield inner.partition(".")[0]


def test_every_file_of_the_package_is_on_a_floor() -> None:
    there = {
        one.name.removesuffix(".py")
        for one in PACKAGE.iterdir()
        if one.suffix == ".py" or (one / "__init__.py").exists()
    }
    assert there - {"__init__", "__main__", "ebrctl"} == set(floors())


def test_nobody_knows_what_is_above() -> None:
    floor = floors()
    for file in PACKAGE.glob("*/**/*.py"):
        name = str(file.relative_to(PACKAGE))
        room = name.partition("/")[0]
        for other in imports(file):
            if other == room or (name, other) in GRANTED:
                continue
            assert floor.get(other, 0) <= floor.get(room, FACES), (name, other)
            if floor.get(other) == FACES:
                assert room == COMMAND, f"{name} knows another face, {other}"
    for file in PACKAGE.glob("[a-z]*.py"):
        for other in imports(file):
            assert floor[other] <= floor[file.stem], (file.name, other)
