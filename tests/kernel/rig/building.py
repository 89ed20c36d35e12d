# SPDX-License-Identifier: Apache-2.0
"""What is built, and kept until its sources change."""

import contextlib
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tests.kernel.rig.packages import RigError

KERNEL = Path(__file__).resolve().parents[1]
BUILD = KERNEL.parents[1] / "build" / "kernel"
# What the machine's root file system needs before it can be mounted.
BOOT_MODULES = (
    "virtio_pci",
    "9pnet_virtio",
    "9p",
    "overlay",
    "virtio_console",
)


def digest(*parts: str | bytes) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(part.encode() if isinstance(part, str) else part)
        total.update(b"\0")
    return total.hexdigest()[:12]


def build_module(kernel: str) -> Path:
    """The module for `kernel`, compiled if its sources are new."""
    sources = sorted(
        path
        for path in (KERNEL / "module").iterdir()
        if path.suffix in (".c", ".h") or path.name in ("Kbuild", "Makefile")
    )
    key = digest(*(path.read_bytes() for path in sources))
    folder = BUILD / f"{kernel}-{key}"
    module = folder / "ibhostdev_rig.ko"
    if module.exists():
        return module
    with scratch() as work:
        for path in sources:
            shutil.copy(path, work)
        made = subprocess.run(
            ["make", "-s", "-j2", f"KERNEL={kernel}"],
            cwd=work,
            capture_output=True,
            text=True,
            check=False,
        )
        log = made.stdout + made.stderr
        if made.returncode:
            raise RigError("the module does not compile:\n" + log)
        # Not an error: the kernel's type information is not at hand.
        for line in log.splitlines():
            if "vmlinux" not in line:
                print(line, file=sys.stderr)
        built = work / module.name
        subprocess.run(["strip", "--strip-debug", built], check=True)
        folder.mkdir(parents=True, exist_ok=True)
        built.replace(module)
    return module


def build_initramfs(kernel: str) -> Path:
    """The first file system: busybox, a few modules, vm/init."""
    init = (KERNEL / "vm" / "init").read_bytes()
    image = BUILD / f"initramfs-{kernel}-{digest(init)}"
    if image.exists():
        return image
    listing = subprocess.run(
        [
            "/sbin/modprobe",
            "--set-version",
            kernel,
            "--show-depends",
            "--all",
            *BOOT_MODULES,
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    modules: dict[str, Path] = {}
    for line in listing.splitlines():
        if line.startswith("insmod "):
            path = Path(line.split()[1])
            modules[path.name] = path
    busybox = shutil.which("busybox")
    if busybox is None:
        raise RigError("no busybox")
    folders = ["bin", "dev", "lower", "modules", "over", "proc", "root", "sys"]
    files = {
        "init": init,
        "bin/busybox": Path(busybox).read_bytes(),
        "modules/order": "".join(f"{n}\n" for n in modules).encode(),
    } | {f"modules/{n}": path.read_bytes() for n, path in modules.items()}
    part = image.with_suffix(f".{os.getpid()}")
    with part.open("wb") as out:
        for name in folders:
            write_newc(out, name, stat.S_IFDIR | 0o755, b"")
        for name, data in files.items():
            write_newc(out, name, stat.S_IFREG | 0o755, data)
        write_newc(out, "TRAILER!!!", 0, b"")
    part.replace(image)
    return image


def write_newc(out: IO[bytes], name: str, mode: int, data: bytes) -> None:
    """One member of a cpio archive of the kernel's form ("newc")."""
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (
        out.tell() + 1,
        mode,
        0,
        0,
        links,
        0,
        len(data),
        0,
        0,
        0,
        0,
        len(name) + 1,
        0,
    )
    out.write(b"070701" + b"".join(b"%08X" % n for n in fields))
    for part in (name.encode() + b"\0", data):
        out.write(part)
        out.write(b"\0" * (-out.tell() % 4))


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder that goes away, beside what is built."""
    BUILD.mkdir(parents=True, exist_ok=True)
    ignore = BUILD / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    # Left by a script that was killed.
    for old in BUILD.glob("run-*-*"):
        if not Path("/proc", old.name.split("-")[1]).exists():
            shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        dir=BUILD, prefix=f"run-{os.getpid()}-"
    ) as folder:
        yield Path(folder)
