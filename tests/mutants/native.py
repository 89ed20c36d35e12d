# SPDX-License-Identifier: Apache-2.0
"""Compiles what a mutant changes, and nothing else: setup.py takes half a
minute for what takes a second here."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

NATIVE = Path("ibhostdev/_native")
ENGINE = NATIVE / "engine"
PROGRAM = Path("ibhostdev/ebrctl/bin/ebrctl")
#: Warnings are no tests: what compiles is to be tried.
COMPILER = "gcc -w"
_FLAGS = ["-std=gnu11", "-O1", "-fPIC", "-fvisibility=hidden", "-pthread"]
_LINK = ["-pthread", "-Wl,--exclude-libs,ALL"]
_MODULE = "module_"  # the engine has files of the modules' names
_SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


class Native:
    """The compiled modules and the program of one copy of the tree."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._built = root / "build/mutants"
        self._kept = self._built / "kept"
        self._kept.mkdir(parents=True)
        self._modules = sorted((root / NATIVE).glob("*.pyx"))
        self._engine = sorted((root / ENGINE).glob("*.c"))
        project = tomllib.loads((root / "pyproject.toml").read_text())
        self._version = project["project"]["version"]

    def prepare(self) -> None:
        """All of it.

        :raises subprocess.CalledProcessError: if that cannot be compiled
        """
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self._cythonize, self._modules))
        self._compile_engine(self._engine)
        self._compile(self._root / "ibhostdev/ebrctl/ebrctl.c")
        self._link(*self._names())
        for made in [*self._targets(), *self._built.glob("*.o")]:
            shutil.copy2(made, self._kept)

    def compile(self, changed: Path) -> bool:
        """A source that was changed; whether it compiles."""
        try:
            if changed.suffix == ".pyx":
                self._cythonize(changed)
            else:
                self._compile_engine(self._users(changed))
        except subprocess.CalledProcessError:
            return False
        return True

    def link(self, changed: Path) -> bool:
        """What has it inside; whether that is complete."""
        names = self._names()
        try:
            self._link(
                *([changed.stem] if changed.suffix == ".pyx" else names)
            )
        except subprocess.CalledProcessError:
            return False
        return True

    def restore(self) -> None:
        """What was built before anything was changed."""
        for target in self._targets():
            target.unlink(missing_ok=True)
            shutil.copy2(self._kept / target.name, target)
        for kept in self._kept.glob("*.o"):
            shutil.copy2(kept, self._built)
        self._archive()

    def _users(self, changed: Path) -> list[Path]:
        return [changed] if changed.suffix == ".c" else self._engine

    def _names(self) -> list[str]:
        return [*(module.stem for module in self._modules), PROGRAM.name]

    def _targets(self) -> list[Path]:
        return [self._target(name) for name in self._names()]

    def _target(self, name: str) -> Path:
        if name == PROGRAM.name:
            return self._root / PROGRAM
        return self._root / NATIVE / f"{name}{_SUFFIX}"

    def _object(self, name: str) -> Path:
        return self._built / f"{name}.o"

    def _run(self, *command: str | Path) -> None:
        subprocess.run(
            command,
            cwd=self._root,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _cythonize(self, source: Path) -> None:
        made = self._built / f"{_MODULE}{source.stem}.c"
        directives = ["auto_pickle=False", "embedsignature=True"]
        directives += ["freethreading_compatible=True"]
        options = [word for one in directives for word in ("-X", one)]
        relative = source.relative_to(self._root)
        cython = [sys.executable, "-m", "cython", "-3", *options]
        self._run(*cython, relative, "-o", made)
        self._compile(made)

    def _compile_engine(self, sources: list[Path]) -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self._compile, sources))
        self._archive()

    def _archive(self) -> None:
        library = self._built / "libengine.a"
        library.unlink(missing_ok=True)
        objects = [self._object(source.stem) for source in self._engine]
        self._run("ar", "rcs", library, *objects)

    def _compile(self, source: Path) -> None:
        include = ["-Iinclude", f"-I{ENGINE}", f"-I{NATIVE}"]
        include += [f"-I{sysconfig.get_path('include')}"]
        flags = [*_FLAGS, f'-DVERSION="{self._version}"', *include]
        if source.stem.startswith(_MODULE):
            flags.append("-O0")  # what Cython makes is long
        made = self._object(source.stem)
        self._run(*COMPILER.split(), *flags, "-c", source, "-o", made)

    def _link(self, *names: str) -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self._link_one, names))

    def _link_one(self, name: str) -> None:
        made, target = self._built / "linked" / name, self._target(name)
        made.parent.mkdir(exist_ok=True)
        kind = [] if name == PROGRAM.name else ["-shared"]
        own = name if name == PROGRAM.name else f"{_MODULE}{name}"
        inputs = [self._object(own), self._built / "libengine.a"]
        self._run(*COMPILER.split(), *kind, *_LINK, *inputs, "-o", made)
        target.parent.mkdir(exist_ok=True)
        # In a new file: a process may still have the old one.
        os.replace(made, target)
