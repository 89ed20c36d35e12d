# SPDX-License-Identifier: Apache-2.0
"""Builds the compiled floor of ibhostdev; everything else about the
package is in pyproject.toml."""

from Cython.Build import cythonize
from setuptools import Extension, setup

FLAGS = ["-O2", "-Wall", "-Wextra", "-Wno-unused-parameter"]
HEADERS = [
    "include/ibhostdev/guid.h",
    "include/ibhostdev/rtnetlink.h",
    "include/ibhostdev/sysfs.h",
]


def native(name: str) -> Extension:
    return Extension(
        f"ibhostdev._native.{name}",
        [f"ibhostdev/_native/{name}.pyx"],
        include_dirs=["include"],
        depends=HEADERS,
        extra_compile_args=FLAGS,
    )


setup(
    ext_modules=cythonize(
        [native("sysfs"), native("rtnetlink")],
        compiler_directives={
            "language_level": "3",
            "embedsignature": True,
            "freethreading_compatible": True,
        },
    ),
    cffi_modules=["ibhostdev/_native/ioctl_build.py:ffi"],
)
