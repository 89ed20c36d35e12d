# SPDX-License-Identifier: Apache-2.0
"""Builds the engine, the modules that have it inside and the program ebrctl;
everything else about the package is in pyproject.toml.

IBHOSTDEV_SANITIZE=address,undefined builds all of them with gcc's sanitizers,
for tests. IBHOSTDEV_LIBC=dynamic is for a compiler without a libc to put into
the program.
"""

import os
import sysconfig
from contextlib import suppress
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import LinkError

ENGINE = "ibhostdev/_native/engine"
INCLUDES = ["include", ENGINE]
SOURCES = sorted(glob(f"{ENGINE}/*.c"))
HEADERS = sorted([*glob("include/ibhostdev/*.h"), *glob(f"{ENGINE}/*.h")])
SANITIZE = os.environ.get("IBHOSTDEV_SANITIZE", "")
DYNAMIC = SANITIZE or os.environ.get("IBHOSTDEV_LIBC") == "dynamic"

# What Cython is told of a function of C's is compared with it only here.
WARNINGS = ["-Wall", "-Wextra", "-Werror=incompatible-pointer-types"]
# The kernel's own macros (NLMSG_ALIGN) mix signed and unsigned.
STRICT = [*WARNINGS, "-Wconversion", "-Wno-sign-conversion"]
COMPILE = [
    "-std=gnu11",
    "-O2",
    "-fvisibility=hidden",
    "-fstack-protector-strong",
    "-fstack-clash-protection",
    "-U_FORTIFY_SOURCE",
]
LINK = ["-Wl,-z,relro,-z,now", "-pthread"]
# Of what it is built for, which need not be this machine.
if sysconfig.get_platform().endswith(("x86_64", "i686")):
    COMPILE.append("-fcf-protection")
if SANITIZE:
    COMPILE += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer", "-g"]
    LINK.append(f"-fsanitize={SANITIZE}")
else:
    # It and the sanitizers check the same calls, and not both at once.
    COMPILE.append("-D_FORTIFY_SOURCE=2")

# One build serves Python 3.11 and all that come later. Without the global
# lock each version has modules of its own.
LIMITED = not sysconfig.get_config_var("Py_GIL_DISABLED")
BEFORE = "ibhostdev/_native/limited.h"


def native(name: str) -> Extension:
    return Extension(
        f"ibhostdev._native.{name}",
        [f"ibhostdev/_native/{name}.pyx"],
        include_dirs=INCLUDES,
        depends=[*HEADERS, BEFORE],
        define_macros=[("Py_LIMITED_API", "0x030b0000")] if LIMITED else [],
        py_limited_api=LIMITED,
        # What Cython writes has both.
        extra_compile_args=[
            *WARNINGS,
            "-Wno-unused-parameter",
            "-Wno-unused-const-variable",
            *(["-include", BEFORE, "-Wno-unused-function"] if LIMITED else []),
        ],
    )


class Program(Extension):
    """An executable: put where an extension module of its name would be, so
    that wheels, editable installs and build_ext --inplace have it alike."""


class BuildExt(build_ext):
    def get_ext_filename(self, fullname: str) -> str:
        # Called with the whole name and with its last part only.
        for extension in self.extensions:
            if isinstance(extension, Program) and fullname in (
                extension.name,
                extension.name.rpartition(".")[2],
            ):
                return os.path.join(*fullname.split("."))
        return str(super().get_ext_filename(fullname))

    def build_extensions(self) -> None:
        engine = self.build_engine()
        # Some Pythons have the folder of their own library in all modules.
        self.compiler.linker_so = [
            flag
            for flag in self.compiler.linker_so
            if not flag.startswith("-Wl,-rpath")
        ]
        for extension in self.extensions:
            extension.extra_compile_args[:0] = COMPILE
            extension.extra_link_args += LINK
            extension.extra_objects.append(engine)
            extension.depends = [*extension.depends, *SOURCES]
        super().build_extensions()

    def build_engine(self) -> str:
        """A library of it, of which each module takes what it needs."""
        objects = self.compiler.compile(
            SOURCES,
            output_dir=self.build_temp,
            include_dirs=INCLUDES,
            extra_postargs=[*COMPILE, *STRICT],
            depends=HEADERS,
        )
        library = str(
            self.compiler.library_filename(
                "engine", output_dir=self.build_temp
            )
        )
        # It would keep what was compiled of a file that is no more.
        with suppress(FileNotFoundError):
            os.remove(library)
        self.compiler.create_static_lib(
            objects, "engine", output_dir=self.build_temp
        )
        return library

    def build_extension(self, ext: Extension) -> None:
        if not isinstance(ext, Program):
            super().build_extension(ext)
            self.remove_older(self.get_ext_fullpath(ext.name))
            return
        path = self.get_ext_fullpath(ext.name)
        self.mkpath(os.path.dirname(path))
        objects = self.compiler.compile(
            ext.sources,
            output_dir=self.build_temp,
            include_dirs=ext.include_dirs,
            macros=[("VERSION", f'"{self.distribution.get_version()}"')],
            extra_postargs=ext.extra_compile_args,
            depends=ext.depends,
        )
        self.link_program([*objects, *ext.extra_objects], path, ext)

    def remove_older(self, path: str) -> None:
        """One that was built for this Python alone would be preferred."""
        older = path.replace(
            ".abi3.so", sysconfig.get_config_var("EXT_SUFFIX")
        )
        if older != path:
            with suppress(FileNotFoundError):
                os.remove(older)

    def link_program(
        self, objects: list[str], path: str, ext: Program
    ) -> None:
        """With libc inside where there is a library of it to be linked so:
        for a program that is started for each VF, to look for shared
        libraries is a third of what the start takes."""
        for kind in ["-pie"] if DYNAMIC else ["-static-pie", "-pie"]:
            try:
                self.compiler.link_executable(
                    objects, path, extra_postargs=[*ext.extra_link_args, kind]
                )
            except LinkError:
                if kind == "-pie":
                    raise
            else:
                return

    def copy_extensions_to_source(self) -> None:
        for extension in self.extensions:
            if isinstance(extension, Program):
                package = extension.name.rpartition(".")[0]
                self.mkpath(package.replace(".", "/"))
            else:
                self.remove_older(self.get_ext_filename(extension.name))
        super().copy_extensions_to_source()


ebrctl = Program(
    "ibhostdev.ebrctl.bin.ebrctl",
    sorted(glob("ibhostdev/ebrctl/*.c")),
    include_dirs=["include"],
    depends=HEADERS,
    extra_compile_args=[*STRICT, "-fPIE"],
    extra_link_args=[] if SANITIZE else ["-s"],
)

setup(
    cmdclass={"build_ext": BuildExt},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED else {},
    ext_modules=[
        *cythonize(
            [
                native(name)
                for name in ("arguments", "host", "results", "sysfs", "text")
            ],
            compiler_directives={
                "language_level": "3",
                "auto_pickle": False,
                "embedsignature": True,
                "freethreading_compatible": True,
            },
        ),
        ebrctl,
    ],
    cffi_modules=["ibhostdev/_native/ioctl_build.py:ffi"],
)
