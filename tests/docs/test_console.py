# SPDX-License-Identifier: Apache-2.0
"""What the documentation shows on a console is what happens there.

Blocks that begin with "```console run" are run, page by page, on a simulated
host of the page's own: each command in one shell, as a reader types them. A
line "…" of what a page shows stands for any lines, or none.
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, blocks

FOLDER = "/tmp/host"
"""Of the simulated host, on every page."""
SIMULATE = f"ibhostdev simulate {FOLDER}"
BINARIES = Path(sys.executable).parent
MARK = "that was all of it"

READ = [
    page
    for page in sorted(DOCS.glob("**/*.md"))
    if "generated" not in page.parts
]
PAGES = {
    page: found for page in READ if (found := blocks(page, "console run"))
}


class Shell:
    """One for a page; $ and # of a prompt are the same to it. The simulated
    host is in another terminal, as it is for a reader."""

    def __init__(self, folder: Path) -> None:
        self.host = folder / "host"
        work = folder / "work"
        work.mkdir()
        self._server: subprocess.Popen[str] | None = None
        self._process = subprocess.Popen(
            ["bash", "--norc", "-s"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=work,
            text=True,
            env={
                **{
                    name: value
                    for name, value in os.environ.items()
                    if not name.startswith(("IBHOSTDEV_", "LIBVIRT_"))
                },
                "PATH": f"{BINARIES}:{os.environ['PATH']}",
                "HOME": str(work),
                "COLUMNS": "80",
                "LANG": "C.UTF-8",
            },
        )

    def simulate(self) -> str:
        """What is said when the host is served."""
        self._server = subprocess.Popen(
            [BINARIES / "ibhostdev", "simulate", str(self.host)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._server.stdout
        said = [self._server.stdout.readline() for _ in range(2)]
        return "".join(said).replace(str(self.host), FOLDER)

    def run(self, command: str) -> str:
        """What it says, as a reader would see it."""
        assert self._process.stdin
        assert self._process.stdout
        text = command.replace(FOLDER, str(self.host))
        self._process.stdin.write(f"{text}\ncode=$?; echo '{MARK}'\n")
        # The next command's $? is this one's.
        self._process.stdin.write("(exit $code)\n")
        self._process.stdin.flush()
        said = []
        for line in self._process.stdout:
            if line.rstrip("\n").endswith(MARK):
                rest = line.rstrip("\n").removesuffix(MARK)
                said += [rest] if rest else []
                break
            said.append(line)
        else:
            raise AssertionError(f"the shell ended at {command!r}")
        return "".join(said).replace(str(self.host), FOLDER)

    def close(self) -> None:
        self._process.communicate()
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.communicate()


@pytest.fixture
def shell(tmp_path):
    shell = Shell(tmp_path)
    yield shell
    shell.close()


def steps(block: str) -> list[tuple[str, str]]:
    """Commands, each with what is shown of it. A line that begins with "> "
    goes on with the one before, as a shell asks for it. The prompt is that
    of the first line: what is shown may begin with the other one."""
    found: list[tuple[str, str]] = []
    prompt = block[:2]
    assert prompt in ("$ ", "# ")
    for line in block.splitlines(keepends=True):
        if line.startswith(prompt):
            found.append((line[2:].rstrip("\n"), ""))
        elif line.startswith("> ") and not found[-1][1]:
            found[-1] = (f"{found[-1][0]}\n{line[2:]}".rstrip("\n"), "")
        else:
            found[-1] = (found[-1][0], found[-1][1] + line)
    return found


def matches(shown: str, said: str) -> bool:
    parts = re.split(r"^…\n", shown, flags=re.MULTILINE)
    return bool(re.fullmatch("(?:.*\n)*?".join(map(re.escape, parts)), said))


@pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: str(page.relative_to(DOCS))
)
def test_it_is_as_the_page_shows(page, shell):
    if not any(SIMULATE in block for block in PAGES[page]):
        # The page takes one for granted.
        shell.simulate()
        shell.run(f"export IBHOSTDEV_HOST={FOLDER}")
    for block in PAGES[page]:
        for command, shown in steps(block):
            alone = command == SIMULATE
            said = shell.simulate() if alone else shell.run(command)
            assert matches(shown, said), f"{command}\n{said}"


@pytest.mark.parametrize(
    "page", READ, ids=lambda page: str(page.relative_to(DOCS))
)
def test_what_is_to_be_typed_has_room(page):
    """Of a reader with 80 columns; what is printed is as it is."""
    for kind in ("console", "console run"):
        for block in blocks(page, kind):
            for line in block.splitlines():
                if line.startswith(("$ ", "# ", "> ")):
                    assert len(line) <= 80, line


def test_a_page_that_shows_something_else_is_told():
    assert matches("a\n…\nc\n", "a\nb\nb\nc\n")
    assert matches("a\n…\nc\n", "a\nc\n")
    assert not matches("a\n…\nc\n", "a\nb\n")
    assert not matches("a\n", "a\nb\n")
    assert steps("$ cat << END\n> a\n> END\na\n$ b\n") == [
        ("cat << END\na\nEND", "a\n"),
        ("b", ""),
    ]


def test_the_tutorial_is_among_them():
    assert DOCS / "tutorial.md" in PAGES
