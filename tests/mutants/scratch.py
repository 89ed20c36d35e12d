# SPDX-License-Identifier: Apache-2.0
"""Copies of the tree in which mutants are built and tested."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.mutants.site import Site

REPO = Path(__file__).parents[2]
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+\.py(?:::.*?)?)(?: - |$)", re.M)


class Broken(Exception):
    """The tests do not pass without a mutant, or could not be run."""


class Killers:
    """Which tests have killed how many mutants, of each file."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, path: str, test: str) -> None:
        self._counts[path, test] += 1

    def order(self, path: str) -> list[str]:
        """Those of this file before those of the others."""
        ranked = [key for key, _ in self._counts.most_common()]
        ranked.sort(key=lambda key: key[0] != path)
        return list(dict.fromkeys(test for _, test in ranked))


class Scratch:
    """One copy, to be used by one thread."""

    def __init__(
        self, folder: Path, tests: Sequence[str], limit: float
    ) -> None:
        self._root = folder / "tree"
        self._first = folder / "first"
        self._tests = tests
        self._limit = limit
        for name in _files():
            target = self._root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPO / name, target, follow_symlinks=False)

    def try_out(self, site: Site, killers: Killers) -> str | None:
        """What killed the mutant; None if it lives, "" if it does not
        compile."""
        path = self._root / site.path
        path.write_bytes(site.mutant)
        try:
            if not self._build(path):
                return ""
            return self.test(killers.order(site.path))
        finally:
            path.write_bytes(site.text)
            self._forget(path)

    def test(self, first: Sequence[str] = ()) -> str | None:
        """The test that fails, or why there is none; None if all pass."""
        self._first.write_text("\n".join(first))
        command = ["-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        command += ["-p", "tests.mutants.order", *self._tests]
        code, output = self._run(command)
        if code is None:
            return "the time limit"
        if code == 0:
            return None
        failed = _FAILED.search(output)
        if failed:
            return failed[1]
        return f"pytest: {(output.strip().splitlines() or ['?'])[-1]}"

    def _build(self, path: Path) -> bool:
        self._forget(path)
        if path.suffix == ".py":
            return True
        build = ["setup.py", "--quiet", "build_ext", "--inplace"]
        return self._run(build)[0] == 0

    def _forget(self, path: Path) -> None:
        """What Python compiled goes by the second and the size."""
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            compiled.unlink()

    def _run(self, command: Sequence[str]) -> tuple[int | None, str]:
        """Exit code, None if the time was over, and the output."""
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=self._root,
            env=os.environ
            | {
                "PYTHONPATH": str(self._root),
                "MUTANTS_FIRST": str(self._first),
                "COLUMNS": "1000",
                # A mutant is a start of Python: a third of its time.
                "PYTHONDONTWRITEBYTECODE": "",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # To be ended with all that it has started.
            start_new_session=True,
        )
        code = None
        try:
            output, _ = process.communicate(timeout=self._limit)
            code = process.returncode
        except subprocess.TimeoutExpired:
            output = ""
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return code, output


def _files() -> list[str]:
    """What is in the work tree, and what ./dev setup has compiled."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=REPO,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    compiled = [
        str(path.relative_to(REPO))
        for path in (REPO / "ibhostdev").rglob("*")
        if path.suffix == ".so" or path.parent.name == "bin"
    ]
    return [name for name in listed + compiled if (REPO / name).is_file()]


@contextmanager
def scratches(
    number: int, tests: Sequence[str], limit: float
) -> Iterator[list[Scratch]]:
    """So many copies, in which the tests pass."""
    with tempfile.TemporaryDirectory(prefix="ibhostdev-mutants-") as folder:
        made = [
            Scratch(Path(folder) / str(n), tests, limit) for n in range(number)
        ]
        if failed := made[0].test():
            raise Broken(f"without any mutant {failed} fails")
        yield made
