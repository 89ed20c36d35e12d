# SPDX-License-Identifier: Apache-2.0
"""What would keep a plug from working, or make it slow.

Each check is a function that yields findings, in the file of its subject; a
problem keeps plugs or guests' links from working, a warning is a matter to
look into, a note is good to know.
"""

from collections.abc import Callable, Sequence

from ibhostdev.batch import BatchResult
from ibhostdev.doctor import adapters, guests, guids, kernel, networks, rights
from ibhostdev.doctor.findings import (
    Check,
    Finding,
    Patient,
    Severity,
    problems,
)
from ibhostdev.errors import IbHostdevError
from ibhostdev.host import Host
from ibhostdev.host.views import views

__all__ = ["CHECKS", "Finding", "Severity", "examine", "problems"]

CHECKS: tuple[Check, ...] = (
    adapters.adapters,
    networks.mapping,
    adapters.mechanism,
    kernel.large_answers,
    rights.rights,
    networks.fabric,
    adapters.enabled,
    guests.iommu,
    guests.metadata,
    guids.readable,
    guids.duplicates,
    guids.pf_guids,
    guids.halves,
    guids.leftovers,
    kernel.own_drivers,
    guests.driverless,
)


def examine(
    host: Host,
    locks: str,
    simulated: bool,
    privileged: Callable[[], BatchResult] | None = None,
    notes: Sequence[str] = (),
    malformed: Sequence[IbHostdevError] = (),
) -> list[Finding]:
    """What all checks find, in their order. ``locks`` is the run directory;
    of a simulated host nothing is asked that is this machine's.
    ``privileged`` has somebody else do an empty batch, who has the rights.
    ``notes`` and ``malformed`` are of the metadata of libvirt's domains."""
    patient = Patient(
        host,
        views(host),
        locks,
        simulated,
        privileged,
        notes,
        malformed,
    )
    found: list[Finding] = []
    for check in CHECKS:
        found += check(patient)
    return found
