# SPDX-License-Identifier: Apache-2.0
"""What the host must have."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path


class RigError(Exception):
    """The rig itself cannot do it; the text says why and the cure."""


def kernels() -> list[str]:
    """Kernels that can be booted and built for, newest first."""
    found = [
        path.name
        for path in Path("/lib/modules").glob("*-amd64")
        if (path / "build" / "Makefile").exists()
        and (path / "kernel").exists()
        and Path(f"/boot/vmlinuz-{path.name}").exists()
    ]

    def age(name: str) -> list[int]:
        return [int(n) for n in re.findall(r"\d+", name)]

    return sorted(found, key=age, reverse=True)


def missing_packages() -> list[str]:
    programs = {
        "qemu-system-x86_64": "qemu-system-x86",
        "busybox": "busybox-static",
        "modprobe": "kmod",
        "make": "make",
        "gcc": "gcc",
        "ip": "iproute2",
        "ethtool": "ethtool",
        "libvirtd": "libvirt-daemon-system",
        "sudo": "sudo",
        "systemctl": "systemd",
        "udevadm": "udev",
        "dbus-daemon": "dbus",
        "useradd": "passwd",
    }
    search = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [
        package
        for program, package in programs.items()
        if not shutil.which(program, path=search)
    ]
    if not kernels():
        missing += ["linux-image-amd64", "linux-headers-amd64"]
    driver = "libvirt/connection-driver/libvirt_driver_qemu.so"
    if not any(Path("/usr/lib").glob(f"*/{driver}")):
        missing.append("libvirt-daemon-driver-qemu")
    return missing


def install_packages() -> None:
    missing = missing_packages()
    if not missing:
        return
    install = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid():
        raise RigError(
            "packages are missing; run:\n  sudo " + shlex.join(install)
        )
    print("kernel rig: installing", *missing, flush=True)
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    # As ./dev does: who begins at the same time waits, for apt-get would not.
    turn = ["flock", "/var/lib/dpkg"]
    update = [*turn, "apt-get", "update", "-q"]
    subprocess.run(update, env=env, check=False)
    subprocess.run([*turn, *install], env=env, check=False)
    missing = missing_packages()
    if missing:
        raise RigError("apt-get did not install " + " ".join(missing))
