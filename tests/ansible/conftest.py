# SPDX-License-Identifier: Apache-2.0
"""Hosts that a real ansible-playbook works on: each is a simulated one, and
one of them has what takes opensm's signals, too. ./dev ansible-test installs
what that takes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ibhostdev.simulate.model import HcaSpec
from ibhostdev.simulate.server import SimulatedHost

ROOT = Path(__file__).parents[2]
CONTRIB = ROOT / "contrib/ansible"
BINARIES = Path(sys.executable).parent
PARTITIONS = "Default=0x7fff, ipoib : ALL=limited, SELF=full ;\n"
_RECAP = re.compile(r"^(\S+)\s+: (ok=.*)$", re.MULTILINE)
_SECONDS = 60.0


def tool(name: str, *arguments: str, **how: Any) -> "Run":
    """Run a program of the environment's, with nothing of the user's."""
    env = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("ANSIBLE_", "IBHOSTDEV_"))
    }
    done = subprocess.run(
        [str(BINARIES / name), *arguments],
        env=env
        | {"PATH": f"{BINARIES}:{env['PATH']}", "LC_ALL": "C.UTF-8"}
        | how.pop("env", {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
        **how,
    )
    return Run(done.returncode, done.stdout)


@dataclass(frozen=True)
class Run:
    """What a program has said."""

    code: int
    out: str

    @property
    def words(self) -> str:
        """On one line: long ones are broken."""
        return " ".join(self.out.split())

    @property
    def recap(self) -> dict[str, dict[str, int]]:
        """Of ansible-playbook, the counts of each host."""
        return {
            host: {
                key: int(value)
                for key, value in re.findall(r"(\w+)=(\d+)", counts)
            }
            for host, counts in _RECAP.findall(self.out)
        }

    def count(self, what: str) -> dict[str, int]:
        return {host: counts[what] for host, counts in self.recap.items()}


class Node:
    """A host of the inventory."""

    def __init__(self, folder: Path, serial: int) -> None:
        self.name = folder.name
        self.folder = folder
        self.yaml = folder / "etc/host.yaml"
        folder.mkdir()
        self.host = SimulatedHost(
            folder / "host",
            [HcaSpec("mlx5", 0, total_vfs=8, serial=serial)],
        ).start()
        # The command, as it is on that host.
        self.command = folder / "ibhostdev"
        self.command.write_text(
            f"#!/bin/sh\nexport IBHOSTDEV_HOST='{folder}/host'\n"
            f"exec '{BINARIES}/ibhostdev' \"$@\"\n"
        )
        self.command.chmod(0o755)

    def identities(self) -> list[str | None]:
        """The GUID of each VF, as list tells it."""
        done = subprocess.run(
            [str(self.command), "list", "--json"],
            capture_output=True,
            check=True,
        )
        return [
            vf["port_guid"]
            for pf in json.loads(done.stdout)["pfs"]
            for vf in pf["vfs"]
        ]


class Site:
    """Hosts, the example's playbook, and an inventory of them."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.folder = folder
        self.nodes = [
            Node(folder / name, serial) for serial, name in enumerate(names)
        ]
        self.partitions = folder / "partitions.conf"
        self.partitions.write_text(PARTITIONS)
        self.exports = folder / "exports"
        self.fabric: list[str] = list(names)
        self.told = folder / "told"
        self._manage()

    def _manage(self) -> None:
        """A process called opensm that says when it is to read its file."""
        program = self.folder / "opensm"
        program.symlink_to(os.path.realpath(sys.executable))
        ready = self.folder / "ready"
        self._manager = subprocess.Popen(
            [
                str(program),
                "-c",
                "import signal\n"
                "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])\n"
                f"open({str(ready)!r}, 'w').close()\n"
                f"out = open({str(self.told)!r}, 'ab', 0)\n"
                "while signal.sigwait([signal.SIGHUP]):\n"
                "    out.write(b'told\\n')\n",
            ]
        )
        self._pid_file = self.folder / "opensm.pid"
        self._pid_file.write_text(f"{self._manager.pid}\n")
        end = time.monotonic() + _SECONDS
        while not (ready.exists() and self.told.exists()):
            assert time.monotonic() < end
            time.sleep(0.02)

    def times_told(self, least: int) -> int:
        """How often opensm was, which it may have to notice first."""
        end = time.monotonic() + _SECONDS
        while (count := self.told.read_text().count("told")) < least:
            assert time.monotonic() < end
            time.sleep(0.02)
        return count

    def close(self) -> None:
        self._manager.send_signal(signal.SIGTERM)
        self._manager.wait()
        for node in self.nodes:
            node.host.close()

    def play(
        self, pfs: dict[str, list[dict[str, Any]]], *options: str, **more: Any
    ) -> Run:
        """ansible-playbook of the example, each host to be as told."""
        inventory = {
            "all": {
                "vars": {
                    "ansible_connection": "local",
                    "ansible_become": False,
                    "ansible_python_interpreter": sys.executable,
                    "ibhostdev_install": "none",
                    "ibhostdev_boot": False,
                    **more,
                }
            },
            "infiniband": {
                "hosts": {
                    node.name: {
                        "ibhostdev_command": str(node.command),
                        "ibhostdev_host_yaml": str(node.yaml),
                        "ibhostdev_pfs": pfs[node.name],
                    }
                    for node in self.nodes
                }
            },
            "subnet_manager": {
                "hosts": {
                    "sm": {
                        "ibhostdev_command": str(BINARIES / "ibhostdev"),
                        "ibhostdev_fabric_hosts": self.fabric,
                        "ibhostdev_fabric_folder": str(self.exports),
                        "ibhostdev_fabric_opensm": str(self.partitions),
                        "ibhostdev_fabric_pid_file": str(self._pid_file),
                    }
                }
            },
        }
        file = self.folder / "inventory.json"
        file.write_text(json.dumps(inventory))
        return tool(
            "ansible-playbook",
            *("-i", str(file), *options, str(CONTRIB / "site.yml")),
            cwd=self.folder,
            env={
                "HOME": str(self.folder),
                "ANSIBLE_HOME": str(self.folder / "ansible"),
                "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
                "ANSIBLE_REMOTE_TEMP": str(self.folder / "remote"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_PIPELINING": "1",
                "ANSIBLE_GATHERING": "explicit",
                "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
            },
        )

    def files(self) -> dict[str, bytes]:
        """All that a play could have left, but for Ansible's own."""
        return {
            str(path): path.read_bytes()
            for top in (
                self.exports,
                self.partitions,
                *(node.yaml.parent for node in self.nodes),
            )
            for path in (top, *top.rglob("*"))
            if path.is_file()
        }


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Two hosts without VFs that can have 8."""
    found = Site(tmp_path, "node1", "node2")
    yield found
    found.close()
