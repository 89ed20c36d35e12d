# SPDX-License-Identifier: Apache-2.0
"""The wheel for aarch64, tried on a machine of that kind, which QEMU emulates:
Debian's kernel, and its packages unpacked into a file system in memory.

A process alone will not do: QEMU's emulation of one (qemu-aarch64) refuses
netlink between processes (linux-user/syscall.c, do_socket), by which a
simulated host is served.
"""

import os
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path

MACHINE = "aarch64"
_SUITE, _PYTHON = "bookworm", "3.11"
_PACKAGES = ["linux-image-arm64", "python3", "python3-venv"]
_PROGRAMS = {
    "qemu-system-aarch64": "qemu-system-arm",
    "debootstrap": "debootstrap",
    "cpio": "cpio",
}
# What a wheel may be tagged as for it to run there.
_PLATFORMS = ["manylinux2014", "manylinux_2_17", "manylinux_2_28"]
_SECONDS = 3600
_DONE = "this machine has done what it was to do"

_INIT = f"""\
#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
export PATH=/venv/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs -o mode=1777 tmpfs /tmp
job() {{
    uname -mr
    python3 -m venv /venv || return
    pip install --no-index --find-links /wheels 'ibhostdev[simulate]' \\
        || return
    python --version
    ibhostdev --version || return
    "$(ibhostdev-ebrctl-path)/ebrctl" --version || return
    python -P -m ibhostdev.simulate.demo
}}
job && echo '{_DONE}'
echo o > /proc/sysrq-trigger
sleep 60
"""


class Failed(Exception):
    """It could not be tried, or did not do what it should."""


def try_out(wheel: Path, version: str, folder: Path) -> None:
    """The main job. Takes root, for debootstrap wants it, and a quarter of an
    hour. ``folder`` keeps what is fetched for the next time.

    :raises Failed: with the last that the machine has said
    """
    lacking = [
        package
        for program, package in _PROGRAMS.items()
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    ]
    if lacking:
        raise Failed(f"needs what 'apt-get install {' '.join(lacking)}' has")
    folder.mkdir(parents=True, exist_ok=True)
    fetched = folder / "debian"
    if not (folder / "fetched").exists():
        shutil.rmtree(fetched, ignore_errors=True)
        _run(
            *("debootstrap", "--arch=arm64", "--variant=minbase"),
            *("--download-only", f"--include={','.join(_PACKAGES)}"),
            *(_SUITE, fetched),
        )
        (folder / "fetched").touch()
    root = folder / "root"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for package in sorted(fetched.glob("var/cache/apt/archives/*.deb")):
        _run("dpkg-deb", "--extract", package, root)
    (kernel,) = root.glob("boot/vmlinuz-*")
    shutil.move(kernel, folder / "kernel")
    for name in ("boot", "lib/modules", "usr/share/doc", "usr/share/locale"):
        shutil.rmtree(root / name, ignore_errors=True)
    _fetch_wheels(wheel, root / "wheels")
    (root / "init").write_text(_INIT)
    (root / "init").chmod(0o755)
    archive = folder / "root.cpio"
    with open(archive, "wb") as file:
        names = subprocess.run(
            ["find", ".", "-print0"],
            cwd=root,
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        subprocess.run(
            ["cpio", "--create", "--null", "--format=newc", "--quiet"],
            cwd=root,
            input=names,
            stdout=file,
            check=True,
        )
    said = _boot(folder / "kernel", archive)
    for what in (_DONE, f"ibhostdev {version}", "The demo did what it should"):
        if what not in said:
            raise Failed(f"did not say {what!r}:\n{said[-3000:]}")


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(
            f"{shlex.join(map(str, command))}:\n{done.stdout}{done.stderr}"
        )


def _fetch_wheels(wheel: Path, there: Path) -> None:
    """The wheel, and those of what it needs."""
    constraints = os.environ.get("IBHOSTDEV_CONSTRAINTS")
    _run(
        *(sys.executable, "-m", "pip", "download", "-q"),
        *("--only-binary", ":all:", "--python-version", _PYTHON),
        *(f"--platform={one}_{MACHINE}" for one in _PLATFORMS),
        *(("-c", constraints) if constraints else ()),
        *("--dest", there, f"{wheel}[simulate]"),
    )


def _boot(kernel: Path, archive: Path) -> str:
    """What it says, shown as it says it."""
    process = subprocess.Popen(
        [
            *("qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72"),
            *("-smp", "2", "-m", "2G", "-nic", "none", "-nographic"),
            *("-no-reboot", "-kernel", kernel, "-initrd", archive),
            *("-append", "console=ttyAMA0 quiet panic=-1"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )
    late = threading.Timer(_SECONDS, process.kill)
    late.start()
    said = ""
    assert process.stdout
    for line in process.stdout:
        line = line.rstrip("\r\n")
        print(f"{MACHINE}: {line}", file=sys.stderr, flush=True)
        said += f"{line}\n"
    process.wait()
    late.cancel()
    return said
