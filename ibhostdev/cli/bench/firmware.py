# SPDX-License-Identifier: Apache-2.0
"""What mlx5's driver itself counts of its firmware commands.

Of each command debugfs tells how many there were and the mean time that they
took in ns, since the driver was bound (average_read() in
drivers/net/ethernet/mellanox/mlx5/core/debugfs.c).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

# Of a VF: node and port GUID and link policy are set by the first.
COMMANDS = ("MODIFY_HCA_VPORT_CONTEXT", "QUERY_HCA_VPORT_CONTEXT")
DEBUGFS = Path("/sys/kernel/debug")


@dataclass(frozen=True)
class Counter:
    """``mean`` is in seconds."""

    count: int
    mean: float


Counters = Mapping[tuple[str, str], Counter]
"""By PF and command."""


def read(pfs: Iterable[str]) -> Counters:
    """Those that can be read: it takes root, and a kernel that is not locked
    down."""
    found = {}
    for pf in pfs:
        for command in COMMANDS:
            folder = DEBUGFS / "mlx5" / pf / "commands" / command
            try:
                count, mean = (
                    int((folder / name).read_text())
                    for name in ("n", "average")
                )
            except (OSError, ValueError):
                continue
            found[pf, command] = Counter(count, mean / 1e9)
    return found


def between(before: Counters, after: Counters) -> Counters:
    """Those that there were meanwhile; of all that used the PFs."""
    found = {}
    for key, now in after.items():
        then = before.get(key)
        # The driver was bound anew, or somebody has set it to nothing.
        if then is None or now.count < then.count:
            continue
        count = now.count - then.count
        total = now.count * now.mean - then.count * then.mean
        found[key] = Counter(count, max(total / count, 0.0) if count else 0.0)
    return found
