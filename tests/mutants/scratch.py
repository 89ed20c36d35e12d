# SPDX-License-Identifier: Apache-2.0
"""Copies of the tree in which mutants are built and tested."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.engine.programs import PARTS
from tests.mutants.native import COMPILER, Native
from tests.mutants.site import Site

REPO = Path(__file__).parents[2]
# The engine's proof by enumeration fails for most mutants of the engine, and
# takes a few seconds.
_ENUMERATE = ["-m", "tests.engine", "enumerate", "short"]
_PROGRAM = "tests/unit/test_engine.py::test_a_part"
_AT_LIMIT = ", at the time limit"
_SIGNAL = ", by signal "
# All tests, compared to one of them, at the most.
_TESTS = 20
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+\.py(?:::.*?)?)(?: - |$)", re.M)


def is_native(site: Site) -> bool:
    return not site.path.endswith(".py")


class Broken(Exception):
    """The tests do not pass without a mutant, or could not be run."""


def _programs(path: str) -> list[str]:
    """What the names of the tests begin with that are of a file alone."""
    stem = Path(path).stem
    names = [name for name, files in PARTS.items() if stem == files[0]]
    return [f"{_PROGRAM}[{name}-" for name in names]


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
        own = [test for file, test in ranked if file == path]
        others = [test for _, test in ranked]
        return list(dict.fromkeys([*own, *_programs(path), *others]))


class Scratch:
    """One copy, to be used by one thread."""

    def __init__(
        self, folder: Path, tests: Sequence[str], limit: float
    ) -> None:
        self._root = folder / "tree"
        self._first = folder / "first"
        self._tests = tests
        self._limit = limit
        self._native: Native | None = None
        self._sound: set[str] = set()
        for name in _files():
            target = self._root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPO / name, target, follow_symlinks=False)

    def prepare(self) -> None:
        """Before any mutant that is compiled."""
        self._native = Native(self._root)
        try:
            self._native.prepare()
        except subprocess.CalledProcessError as error:
            raise Broken(f"cannot be compiled: {error}") from None

    def try_out(self, site: Site, killers: Killers) -> str | None:
        """What killed the mutant; None if it lives, "" if it does not
        compile."""
        path = self._root / site.path
        path.write_bytes(site.mutant)
        try:
            self._forget(path)
            if not self._native or path.suffix == ".py":
                return self.test(killers.order(site.path))
            if not self._native.compile(path):
                return ""
            if path.suffix != ".pyx" and (killer := self._enumerate()):
                return killer
            if not self._native.link(path):
                return ""
            return self.test(killers.order(site.path))
        finally:
            path.write_bytes(site.text)
            self._forget(path)
            if self._native:
                self._native.restore()

    def confirm(self, killer: str) -> None:
        """Once for each: without a mutant what has killed one must pass.

        :raises Broken: if it does not
        """
        name = killer.removesuffix(_AT_LIMIT).partition(_SIGNAL)[0]
        if name in self._sound:
            return
        self._sound.add(name)
        if name == "enumerate":
            failed = self._enumerate()
        else:
            failed = self.test(tests=[name] if "::" in name else None)
        if failed:
            raise Broken(f"without any mutant {failed} fails")

    def _enumerate(self) -> str | None:
        code, _ = self._run(_ENUMERATE, until="enumerate --only")
        if code is None:
            return f"enumerate{_AT_LIMIT}"
        return "enumerate" if code else None

    def test(
        self, first: Sequence[str] = (), tests: Sequence[str] | None = None
    ) -> str | None:
        """The test that fails, or why there is none; None if all pass."""
        self._first.write_text("\n".join(first))
        now = self._first.with_suffix(".now")
        now.write_text("pytest")
        command = ["-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        command += ["-p", "tests.mutants.order", *(tests or self._tests)]
        code, output = self._run(command, self._limit * _TESTS)
        if code in (None, -signal.SIGALRM, -signal.SIGPROF):
            return f"{now.read_text()}{_AT_LIMIT}"
        if code == 0:
            return None
        if code < 0:
            return f"{now.read_text()}{_SIGNAL}{-code}"
        failed = _FAILED.search(output)
        if failed:
            return failed[1]
        return f"pytest: {(output.strip().splitlines() or ['?'])[-1]}"

    def _forget(self, path: Path) -> None:
        """What Python compiled goes by the second and the size."""
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            compiled.unlink()

    def _run(
        self,
        command: Sequence[str],
        limit: float | None = None,
        until: str | None = None,
    ) -> tuple[int | None, str]:
        """Exit code, None if the time was over, and the output; it is ended
        as failed where the output has a text."""
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=self._root,
            env=os.environ
            | {
                "PYTHONPATH": str(self._root),
                "MUTANTS_FIRST": str(self._first),
                "MUTANTS_LIMIT": str(self._limit),
                "CC": COMPILER,
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
            # To be ended with all that it has started; in the same session,
            # which may be one that lets others go first.
            process_group=0,
        )
        over = threading.Event()
        timer = threading.Timer(
            limit or self._limit, _end, [process.pid, over]
        )
        timer.start()
        assert process.stdout
        output, code = [], None
        try:
            for line in process.stdout:
                output.append(line)
                if until and until in line:
                    return 1, "".join(output)
            code = process.wait()
        finally:
            timer.cancel()
            _end(process.pid)
            process.wait()
            process.stdout.close()
        return None if over.is_set() else code, "".join(output)


def _end(group: int, over: threading.Event | None = None) -> None:
    if over:
        over.set()
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


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
    """So many copies."""
    with tempfile.TemporaryDirectory(prefix="ibhostdev-mutants-") as folder:
        yield [
            Scratch(Path(folder) / str(n), tests, limit) for n in range(number)
        ]
