# SPDX-License-Identifier: Apache-2.0
"""The machine: QEMU, and what runs in it."""

import ctypes
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from tests.kernel.rig.building import (
    KERNEL,
    build_initramfs,
    build_module,
    scratch,
)
from tests.kernel.rig.packages import kernels

REPO = KERNEL.parents[1]
FAILED = 70  # exit code when the machine, not the command, failed


@dataclass(frozen=True)
class Shape:
    """What the machine has: `vfs` is one SR-IOV function each."""

    iommu: bool
    vfs: tuple[int, ...]
    memory: str = "2G"
    boots: bool = False  # vm/boot, and systemd as process 1


SHAPES = {
    # One IOMMU group per VF, vfio works; costs QEMU much memory per VF.
    "small": Shape(iommu=True, vfs=(16, 16, 16, 64)),
    "large": Shape(iommu=False, vfs=(127, 127, 127)),
    # A host as its owner set it up, from boot to guest.
    "boot": Shape(iommu=True, vfs=(64, 64), boots=True),
    # For ./dev bench: as many PFs as a large host has.
    "wide": Shape(iommu=False, vfs=(16,) * 8),
    "single": Shape(iommu=False, vfs=(127,)),
    "pair": Shape(iommu=False, vfs=(64, 64)),
}


def qemu_arguments(
    shape: Shape, kernel: str, share: Path, processors: int
) -> list[str]:
    line = [
        "quiet",
        "console=ttyS0",
        # A kernel that stumbled is no witness: it ends at once.
        "oops=panic",
        "panic=-1",
        "mitigations=off",
        "nokaslr",
        "no_timer_check",
        "tsc=reliable",
        "random.trust_cpu=on",
        # A busy host is no fault of the kernel's.
        "nowatchdog",
        # Room for the warnings that tests/kernel/test_dump.py is about.
        "log_buf_len=8M",
        "rcupdate.rcu_cpu_stall_suppress=1",
    ]
    args = [
        "qemu-system-x86_64",
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max,la57=off",
        "-smp",
        str(processors),
        "-m",
        shape.memory,
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-serial",
        f"file:{share / 'console'}",
        "-kernel",
        f"/boot/vmlinuz-{kernel}",
        "-initrd",
        str(build_initramfs(kernel)),
        "-machine",
        "q35",
    ]
    if shape.iommu:
        line.append("intel_iommu=on")
        args += ["-device", "intel-iommu,intremap=on,caching-mode=on"]
    args += ["-append", " ".join(line)]
    for tag, path, mode in (
        ("root", "/", "readonly=on"),
        ("share", str(share), "readonly=off"),
    ):
        args += [
            "-fsdev",
            f"local,id={tag},path={path},security_model=none,"
            f"multidevs=remap,{mode}",
            "-device",
            f"virtio-9p-pci,fsdev={tag},mount_tag={tag}",
        ]
    args += [
        "-device",
        "virtio-serial-pci",
        # Not "stdio": at the end of its input that hangs up.
        "-chardev",
        "file,id=out,path=/dev/stdout",
        "-device",
        "virtserialport,chardev=out,name=out",
    ]
    for n, vfs in enumerate(shape.vfs, 1):
        args += [
            "-device",
            f"pcie-root-port,id=rp{n},chassis={n},slot={n}",
            "-device",
            f"nvme-subsys,id=ss{n}",
            "-device",
            f"nvme,serial=rig{n},subsys=ss{n},bus=rp{n},"
            f"sriov_max_vfs={vfs},sriov_vq_flexible={2 * vfs},"
            f"sriov_vi_flexible={vfs},max_ioqpairs={2 * vfs + 2},"
            f"msix_qsize={vfs + 2}",
        ]
    return args


def environment(shape: str, module: Path) -> str:
    """Of what runs inside, as a shell reads it, and the folder."""
    keep = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("IBHOSTDEV_", "PYTEST_", "PYTHON"))
        # All is written into memory there, and to compile a program at each
        # of its starts takes seconds.
        and name != "PYTHONDONTWRITEBYTECODE"
    }
    venv = sys.prefix != sys.base_prefix
    bin_dir = Path(sys.prefix if venv else REPO / ".venv") / "bin"
    env = keep | {
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TERM": os.environ.get("TERM", "dumb"),
        "PATH": f"{bin_dir}:/usr/local/sbin:/usr/local/bin"
        ":/usr/sbin:/usr/bin:/sbin:/bin",
        "IBHOSTDEV_RIG_SHAPE": shape,
        "IBHOSTDEV_RIG_MODULE": str(module),
        "IBHOSTDEV_TESTBED": "kernel",
    }
    lines = [
        f"export {name}={shlex.quote(value)}" for name, value in env.items()
    ]
    lines.append(f"cd {shlex.quote(str(REPO))}")
    return "\n".join(lines) + "\n"


def die_with_parent() -> None:
    """In a child before it starts: it is killed when this script is gone."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Machine:
    """A machine of a shape, with a limit of seconds: it runs one command, and
    passes its output on."""

    def __init__(self, name: str, limit: float, processors: int = 2) -> None:
        self.name = name
        self.limit = limit
        self.processors = processors

    def run(self, command: list[str], again: bool = False) -> int:
        """Boot, run, power off.

        Returns the command's exit code, or FAILED if the machine died or
        took longer than the limit.  With ``again`` one that died is started
        once more, which is told: now and then Linux 6.1 stumbles in
        pci_remove_resource_files() when VFs go, over a file's attribute that
        was freed already.  By whom is not known;
        slub_debug=FZPU,kmalloc-96 brings it soon.
        """
        code = self._run(command)
        if code is None and again:
            print("kernel rig: once more", file=sys.stderr, flush=True)
            code = self._run(command)
        return FAILED if code is None else code

    def _run(self, command: list[str]) -> int | None:
        """None if the machine died."""
        kernel = kernels()[0]
        module = build_module(kernel)
        with scratch() as share:
            shape = SHAPES[self.name]
            for name in ("start", "boot") if shape.boots else ("start",):
                shutil.copy(KERNEL / "vm" / name, share)
            (share / "env").write_text(environment(self.name, module))
            (share / "job").write_text(
                f". /run/rig/env\nexec {shlex.join(command)}\n"
            )
            args = qemu_arguments(shape, kernel, share, self.processors)
            late = self._boot(args)
            code = share / "code"
            if code.exists():
                return int(code.read_text())
            console = share / "console"
            if console.exists():
                text = console.read_text(errors="replace").splitlines()
                print(*text[-40:], sep="\n", file=sys.stderr)
            print(
                f"kernel rig: the machine ({self.name}) "
                + (f"took over {self.limit:g} s" if late else "died"),
                file=sys.stderr,
            )
            return FAILED if late else None

    def _boot(self, args: list[str]) -> bool:
        """True if the time was over."""
        qemu = subprocess.Popen(
            args,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for this script alone
            preexec_fn=die_with_parent,
        )
        late = threading.Event()

        def expire() -> None:
            late.set()
            qemu.kill()

        timer = threading.Timer(self.limit, expire)
        timer.daemon = True
        try:
            timer.start()
            assert qemu.stdout is not None
            while data := os.read(qemu.stdout.fileno(), 65536):
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            qemu.wait()
        finally:
            timer.cancel()
            qemu.kill()
            qemu.wait()
        return late.is_set()
