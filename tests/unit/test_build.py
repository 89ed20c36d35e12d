# SPDX-License-Identifier: Apache-2.0
"""What was built: for which Pythons, and of which version."""

import subprocess
import sys
import sysconfig
import tomllib
from importlib import import_module, metadata
from pathlib import Path

import pytest

from ibhostdev.ebrctl import PROGRAM
from release import debian

_PROJECT = tomllib.loads(
    (Path(__file__).parents[2] / "pyproject.toml").read_text()
)


@pytest.mark.parametrize(
    "name", ["_ioctl", "arguments", "host", "results", "sysfs", "text"]
)
def test_modules_are_for_later_pythons_too(name):
    """One that was built for this Python alone would be preferred to those
    that ./dev setup makes."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("there is no limited API without the global lock")
    module = import_module(f"ibhostdev._native.{name}")
    assert module.__file__.endswith(".abi3.so")


def _said(*command):
    return subprocess.run(
        command, check=True, capture_output=True, text=True
    ).stdout


def test_all_tell_the_same_version():
    version = _PROJECT["project"]["version"]
    assert metadata.version("ibhostdev") == version
    command = _said(sys.executable, "-m", "ibhostdev", "--version")
    assert command == f"ibhostdev {version}\n"
    standin = _said(PROGRAM, "--version")
    assert standin == f"ibhostdev's stand-in for ebrctl {version}\n"


def test_what_a_wheel_brings_has_a_place_in_the_debian_package():
    data = _PROJECT["tool"]["setuptools"]["data-files"]
    brought = {
        f"{folder}/{Path(name).name}"
        for folder, names in data.items()
        for name in names
    }
    places = {debian.place(name) for name in brought}
    assert len(places) == len(brought) > 0
    with pytest.raises(debian.Unknown, match=r"etc/new\.conf"):
        debian.place("etc/new.conf")
