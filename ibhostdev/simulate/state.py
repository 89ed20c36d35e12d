# SPDX-License-Identifier: Apache-2.0
"""host.json: how the processes of a simulated host find one another."""

import json
from pathlib import Path
from typing import Any

from ibhostdev.errors import InvalidInput


def read_state(folder: Path) -> dict[str, Any]:
    """host.json. Raises InvalidInput for a folder that is no simulated
    host."""
    try:
        state = json.loads((folder / "host.json").read_text())
        if state["simulated_host"] == 1:
            return dict(state)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise InvalidInput(
        "not a simulated host, and not empty"
        if folder.is_dir()
        else "no such folder",
        device=str(folder),
        cure=f"make one: ibhostdev simulate {folder}",
    )
