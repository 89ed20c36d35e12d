# SPDX-License-Identifier: Apache-2.0
"""Changes to a simulated host's sysfs behind the simulated drivers' backs."""

import shutil
import tempfile
from pathlib import Path

from tests.simulated.testbed import MEMORY, SimulatedTestbed


def pf_folder(bed: SimulatedTestbed, pf: int = 0) -> Path:
    return (bed.sys / "bus/pci/devices" / bed.pfs[pf]).resolve()


def put(path: Path, text: object) -> None:
    """In the place of what is there: a write would be for the simulated
    driver to judge."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=MEMORY, delete=False) as file:
        file.write(f"{text}\n")
    shutil.move(file.name, path)
