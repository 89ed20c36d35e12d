# SPDX-License-Identifier: Apache-2.0
"""The vendor's ebrctl and its daemon, of networking-mlnx 21.0.0."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.contenders import REPO, Base, CannotList, Place, Target, run

PROGRAMS = REPO / ".venv-mlnx" / "bin"
ENVIRONMENT = os.environ | {
    "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
    "PYTHONWARNINGS": "ignore",
}
_PORT = 60001  # neither end can be told to use another
# Of a PF that is function 0 of device 0: the next VF is 0a.0, in the driver's
# folders 10.0 (drivers/infiniband/hw/mlx4/sysfs.c, get_name()).
_MOST_ON_MLX4 = 79
_START = 1200.0  # seconds; 40 in emulation, beside other work over 300
_CONFIGURATION = """
[DEFAULT]
[DAEMON]
fabrics = {fabrics}
[AGENT]
root_helper = env
"""


class Eswitchd:
    """The daemon, unless it runs already."""

    def __init__(self, place: Place) -> None:
        self._folder = TemporaryDirectory()
        self.process: subprocess.Popen[bytes] | None = None
        if not _listens():
            self._start(place)

    def _start(self, place: Place) -> None:
        settings = Path(self._folder.name, "eswitchd.conf")
        fabrics = ",".join(f"default:{name}" for name in place.netdevs)
        settings.write_text(_CONFIGURATION.format(fabrics=fabrics))
        with Path(self._folder.name, "log").open("wb") as log:
            self.process = subprocess.Popen(
                [PROGRAMS / "eswitchd", "--config-file", settings],
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + _START
        while not _listens():
            if self.process.poll() is not None or time.monotonic() > end:
                told = Path(self._folder.name, "log").read_text()
                raise RuntimeError(f"eswitchd:\n{told[-3000:]}")
            time.sleep(0.2)

    def last_words(self) -> str:
        log = Path(self._folder.name, "log")
        lines = log.read_text().split("\n") if log.exists() else []
        return " | ".join(line for line in lines[-8:] if line)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait()
        self._folder.cleanup()


def _listens() -> bool:
    try:
        socket.create_connection(("127.0.0.1", _PORT)).close()
    except OSError:
        return False
    return True


class Ebrctl(Base):
    """A process and a message to the daemon for each VF. It leaves the link
    as it is, for the Neutron agent to raise."""

    title = "ebrctl and eswitchd"
    families = ("mlx5", "mlx4")
    most = 1

    def obstacle(self, place: Place) -> str | None:
        if not (PROGRAMS / "ebrctl").exists():
            return "networking-mlnx is not installed"
        if place.family == "mlx4" and place.vfs > _MOST_ON_MLX4:
            return (
                f"eswitchd finds no more than {_MOST_ON_MLX4} VFs of a PF: "
                "it looks for the folder of each by its PCI address, and the "
                "driver writes the device's number in decimal"
            )
        return super().obstacle(place)

    def open(self, place: Place) -> None:
        super().open(place)
        self._eswitchd = Eswitchd(place)

    def _ebrctl(self, *words: str) -> None:
        try:
            run(PROGRAMS / "ebrctl", *words, env=ENVIRONMENT)
        except subprocess.CalledProcessError as error:
            raise RuntimeError(
                f"ebrctl {words[0]}: {error.stderr.decode().strip()} "
                f"(eswitchd: {self._eswitchd.last_words()})"
            ) from None

    def plug(self, targets: Sequence[Target]) -> None:
        for target in targets:
            self._ebrctl(
                "add-port", target.mac, "instance", "default", "ib_hostdev",
                target.pci,
            )  # fmt: skip

    def unplug(self, targets: Sequence[Target]) -> None:
        for target in targets:
            self._ebrctl("del-port", "default", target.mac)

    def list(self) -> None:
        raise CannotList("ebrctl has no list")

    def daemons(self) -> Sequence[int]:
        process = self._eswitchd.process
        return () if process is None else (process.pid,)

    def close(self) -> None:
        self._eswitchd.close()
