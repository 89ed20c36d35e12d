# SPDX-License-Identifier: Apache-2.0
"""Agents of Neutron's, which do not plug but see it, and report ports up.

Only one of them may be awake at a time, for the counters of commands are the
machine's; and who plugs does it while all sleep, so that what is counted and
timed afterwards is the agent's alone. Neutron's own word of a port
(port_update) is left out: networking-mlnx's agent takes a port for plugged
from then on, whether it is or not.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, Queue
from tempfile import TemporaryDirectory
from threading import Thread

from benchmarks.contenders import REPO, Base, CannotList, Place, Target
from benchmarks.contenders.ebrctl import ENVIRONMENT, PROGRAMS, Eswitchd
from benchmarks.contenders.ours import vifs
from ibhostdev import Host

# Seconds. In emulation networking-mlnx's agent takes a quarter of an hour for
# 16 ports.
_LIMIT = 3000.0
# Reports that they are alive are much alike, and left out. Neutron's server is
# in the agent's process, which does nothing else while it waits for eswitchd.
_COMMON = """
[DEFAULT]
transport_url = fake:/
host = bench
state_path = {folder}
rpc_response_timeout = 600
[AGENT]
report_interval = 3600
"""


class Agent(Base):
    """Asleep but for see() and rest()."""

    program = ""
    settings = ""
    families = ("mlx5",)

    def obstacle(self, place: Place) -> str | None:
        if not (PROGRAMS / "neutron-mlnx-agent").exists():
            return "networking-mlnx is not installed"
        return super().obstacle(place)

    def open(self, place: Place) -> None:
        super().open(place)
        self._host = Host()
        self._folder = TemporaryDirectory()
        folder = Path(self._folder.name)
        self._ports = folder / "ports.json"
        self._ports.write_text("{}")
        settings = folder / "neutron.conf"
        devices = ",".join(f"default:{name}" for name in place.netdevs)
        settings.write_text(
            (_COMMON + self.settings).format(
                folder=folder, devices=devices, programs=PROGRAMS
            )
        )
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    PROGRAMS / "python", "-m", "benchmarks.neutron",
                    self.program, settings, self._ports,
                ],
                env=ENVIRONMENT
                | {"PYTHONPATH": str(REPO), "PYTHONSAFEPATH": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )  # fmt: skip
        self._told: Queue[tuple[str, str, float] | None] = Queue()
        self._reader = Thread(target=self._read)
        self._reader.start()
        self._await(lambda what, _: what == "alive")
        self._sleep()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._told.put(tuple(json.loads(line)))
        self._told.put(None)

    def _await(self, last: Callable[[str, str], bool]) -> float:
        """When the agent said the ``last`` thing."""
        end = time.monotonic() + _LIMIT
        while True:
            left = max(0.0, end - time.monotonic())
            try:
                told = self._told.get(timeout=left)
            except Empty:
                told = None
            if told is None:
                log = Path(self._folder.name, "log").read_text()
                raise RuntimeError(f"{self.program}:\n{log[-3000:]}")
            what, port, at = told
            if last(what, port):
                return at

    # -- asleep and awake ---------------------------------------------

    def _processes(self) -> list[int]:
        return [self._process.pid]

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes():
            os.kill(process, number)

    def _sleep(self) -> None:
        self._signal(signal.SIGSTOP)

    def _wake(self) -> float:
        now = time.monotonic()
        self._signal(signal.SIGCONT)
        return now

    # -- what is measured ---------------------------------------------

    def change(self, targets: Sequence[Target], plugged: bool) -> None:
        """By another's hand."""
        if plugged:
            bound = {target.mac: target.pci for target in targets}
            self._ports.write_text(json.dumps(bound))
            self._host.plug(vifs(targets))
        else:
            self._host.unplug(vifs(targets))

    def see(self, targets: Sequence[Target], plugged: bool) -> float:
        """Seconds until Neutron is told of the last of them."""
        macs = {target.mac for target in targets}
        left = len(targets)

        def last(what: str, port: str) -> bool:
            nonlocal left
            if plugged and what == "up":
                macs.remove(port)  # each once, and nobody else
                left -= 1
            elif not plugged and what == "down":
                # Which port it was networking-mlnx's agent only knows until
                # a VF gets its second one.
                left -= 1
            return not left

        begun = self._wake()
        end = self._await(last)
        self._sleep()
        return end - begun

    def rest(self, begin: Callable[[], None], seconds: float) -> None:
        """So long after begin(), which is called when all is done that there
        was to do."""
        self._wake()
        time.sleep(3)
        begin()
        time.sleep(seconds)
        self._sleep()

    # -- as all contenders are ----------------------------------------

    def plug(self, targets: Sequence[Target]) -> float:
        self.change(targets, plugged=True)
        return self.see(targets, plugged=True)

    def unplug(self, targets: Sequence[Target]) -> float:
        self.change(targets, plugged=False)
        return self.see(targets, plugged=False)

    def list(self) -> None:
        raise CannotList("it reports what changes")

    def daemons(self) -> Sequence[int]:
        return self._processes()

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()
        self._folder.cleanup()


class Ours(Agent):
    """With its safety net, as it is set when nothing is said."""

    title = "ibhostdev-neutron-agent"
    program = "ibhostdev"
    settings = """
[ibhostdev]
physical_device_mappings = {devices}
[ibhostdev_agent]
beside_eswitchd = true
[ibhostdev_privileged]
helper_command = {programs}/privsep-helper
"""


class Marks(Ours):
    """By marks alone."""

    title = "ibhostdev-neutron-agent, polling_interval = 0"
    settings = Ours.settings.replace(
        "beside_eswitchd", "polling_interval = 0\nbeside_eswitchd"
    )


class Vendor(Agent):
    """networking-mlnx's, with eswitchd. What takes it 3 s at most
    (request_timeout) on a real host takes longer in emulation."""

    title = "networking-mlnx's agent and eswitchd"
    program = "networking-mlnx"
    settings = """
[ESWITCH]
physical_interface_mappings = {devices}
request_timeout = 600000
[SECURITYGROUP]
firewall_driver = noop
"""

    def open(self, place: Place) -> None:
        self._eswitchd = Eswitchd(place)
        super().open(place)

    def _processes(self) -> list[int]:
        daemon = self._eswitchd.process
        more = [] if daemon is None else [daemon.pid]
        return [*super()._processes(), *more]

    def close(self) -> None:
        self._wake()
        super().close()
        self._eswitchd.close()
