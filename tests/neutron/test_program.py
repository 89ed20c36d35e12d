# SPDX-License-Identifier: Apache-2.0
# mypy: ignore-errors
"""The program, as a unit of systemd's starts and ends it."""

import os
import signal
import socket
import subprocess
import sys

import fixtures
import testtools

from ibhostdev.simulate import model
from ibhostdev.simulate import server

PROGRAM = os.path.join(
    os.path.dirname(sys.executable), "ibhostdev-neutron-agent"
)
HELPER = os.path.join(os.path.dirname(sys.executable), "privsep-helper")


class ProgramTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = self.useFixture(fixtures.TempDir()).path
        host = server.SimulatedHost(
            f"{self.folder}/host", [model.HcaSpec("mlx5", vfs=2)]
        ).start()
        self.addCleanup(host.close)
        (self.pf,) = host.machine.pfs

    def start(self, mapping):
        path = f"{self.folder}/neutron.conf"
        with open(path, "w") as file:
            file.write(
                f"""
                [DEFAULT]
                transport_url = fake:/
                host = node-1
                state_path = {self.folder}
                rpc_response_timeout = 1
                [ibhostdev]
                simulated_host = {self.folder}/host
                physical_device_mappings = {mapping}
                [ibhostdev_privileged]
                helper_command = {HELPER} --config-file {path}
                """.replace(" " * 16, "")
            )
        process = subprocess.Popen(
            [PROGRAM, "--config-file", path],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def eswitchd(self):
        """Somebody who listens where it does."""
        listener = socket.socket()
        self.addCleanup(listener.close)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", 60001))
        except OSError:
            return self.skipTest("something listens on 60001 already")
        listener.listen()
        return listener

    def test_it_runs_until_it_is_told_to_end(self):
        process = self.start(f"physnet1:{self.pf.address}")
        for line in process.stdout:
            if "The agent runs" in line:
                break
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        self.assertEqual(0, process.wait(), rest)
        self.assertNotIn("Traceback (most recent call last)\n  File", rest)

    def test_without_a_mapping_it_does_not_start(self):
        process = self.start("")
        self.assertIn("physical_device_mappings", process.stdout.read())
        self.assertEqual(1, process.wait())

    def test_beside_eswitchd_it_does_not_start(self):
        self.eswitchd()
        process = self.start(f"physnet1:{self.pf.address}")
        told = process.stdout.read()
        self.assertIn("eswitchd", told)
        self.assertIn("beside_eswitchd", told)
        self.assertEqual(1, process.wait())
