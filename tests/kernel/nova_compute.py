# SPDX-License-Identifier: Apache-2.0
"""nova-compute as a process of its own, in Nova's own environment."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.kernel.rights import NOVA

NOBODY = 65534
SETTINGS = """
[DEFAULT]
compute_driver = ibhostdev.LibvirtDriver
rootwrap_config = /etc/nova/rootwrap.conf
state_path = {folder}
"""


class Compute:
    """nova-compute, as far as it plugs."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is given to the user nobody, who must get there."""
        os.chown(folder, NOBODY, NOBODY)
        settings = folder / "nova.conf"
        settings.write_text(SETTINGS.format(folder=folder))
        self._process = subprocess.Popen(
            [NOVA / "bin/python", Path(__file__).with_name("compute.py"),
             settings],
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            # Nothing of what the tests themselves run in; Nova 34's threads.
            env={
                "PATH": f"{NOVA}/bin:/usr/bin:/bin",
                "OS_NOVA_DISABLE_EVENTLET_PATCHING": "True",
                "HOME": str(folder),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert self._answer() == "ibhostdev.nova.driver"

    def _answer(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("it ended; what it said is above")
        return json.loads(line)

    def __call__(self, name: str, *ports: tuple[str, str]) -> list[str] | None:
        """Kind and text of the exception, if there is one. ``ports`` are MAC
        and PCI address."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps([name, *ports]) + "\n")
        self._process.stdin.flush()
        told: list[str] | None = self._answer()
        return told

    def close(self) -> None:
        self._process.communicate()
