# SPDX-License-Identifier: Apache-2.0
"""Builds the compiled floor of ibhostdev and its program ebrctl; everything
else about the package is in pyproject.toml."""

import os
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FLAGS = ["-O2", "-Wall", "-Wextra", "-Wno-unused-parameter"]
HEADERS = sorted(glob("include/ibhostdev/*.h"))
ENGINE = "ibhostdev/_native/engine"


def native(name: str) -> Extension:
    return Extension(
        f"ibhostdev._native.{name}",
        [f"ibhostdev/_native/{name}.pyx"],
        include_dirs=["include"],
        depends=HEADERS,
        extra_compile_args=FLAGS,
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

    def build_extension(self, ext: Extension) -> None:
        if not isinstance(ext, Program):
            super().build_extension(ext)
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
        self.compiler.link_executable(
            objects, path, extra_postargs=ext.extra_link_args
        )

    def copy_extensions_to_source(self) -> None:
        for extension in self.extensions:
            if isinstance(extension, Program):
                package = extension.name.rpartition(".")[0]
                self.mkpath(package.replace(".", "/"))
        super().copy_extensions_to_source()


ebrctl = Program(
    "ibhostdev.ebrctl.bin.ebrctl",
    ["ibhostdev/ebrctl/ebrctl.c", *sorted(glob(f"{ENGINE}/*.c"))],
    include_dirs=["include"],
    depends=[*HEADERS, *sorted(glob(f"{ENGINE}/*.h"))],
    extra_compile_args=[
        *FLAGS,
        "-std=gnu11",
        "-pthread",
        # The kernel's own macros (NLMSG_ALIGN) mix signed and unsigned.
        "-Wconversion",
        "-Wno-sign-conversion",
        "-U_FORTIFY_SOURCE",
        "-D_FORTIFY_SOURCE=2",
        "-fstack-protector-strong",
        "-fPIE",
    ],
    extra_link_args=["-pthread", "-pie", "-s", "-Wl,-z,relro,-z,now"],
)

setup(
    cmdclass={"build_ext": BuildExt},
    ext_modules=[
        *cythonize(
            [native("sysfs"), native("rtnetlink")],
            compiler_directives={
                "language_level": "3",
                "embedsignature": True,
                "freethreading_compatible": True,
            },
        ),
        ebrctl,
    ],
    cffi_modules=["ibhostdev/_native/ioctl_build.py:ffi"],
)
