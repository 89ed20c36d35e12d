# SPDX-License-Identifier: Apache-2.0
"""UFM's REST interface for P_Keys.

Paths and bodies are those that ib-kubernetes sends (pkg/sm/plugins/ufm/
ufm.go) and NVIDIA's "UFM Enterprise REST API Guide", PKey GUIDs, has.
"""

from collections.abc import Iterable
from typing import Any

from ibhostdev.errors import InvalidInput
from ibhostdev.fabric.members import Member
from ibhostdev.guid import Guid
from ibhostdev.pkey import DEFAULT, Membership

Wanted = dict[tuple[int, Membership], list[Guid]]
"""GUIDs in order, by partition and membership."""


def wanted(members: Iterable[Member]) -> Wanted:
    """
    :raises InvalidInput: for what UFM has no words for: a member that is
        both, and the default partition, which it manages itself
    """
    found: Wanted = {}
    for member in members:
        pkey = member.pkey
        if pkey is None:
            continue
        if pkey.membership is Membership.BOTH:
            raise InvalidInput(
                "UFM has full and limited members, none that are both",
                member.place,
                "pkey",
                cure="make it full",
            )
        if pkey.number == DEFAULT.number:
            raise InvalidInput(
                "UFM lets nobody put a GUID into the default partition",
                member.place,
                "pkey",
                cure="leave its pkey out: everybody is in that",
            )
        found.setdefault((pkey.number, pkey.membership), []).append(
            member.guid
        )
    return {key: sorted(guids) for key, guids in sorted(found.items())}


def addition(
    number: int, membership: Membership, guids: Iterable[Guid]
) -> dict[str, Any]:
    """What is posted to have GUIDs put into a partition."""
    return {
        "pkey": f"0x{number:04x}",
        "index0": True,
        "ip_over_ib": True,
        "membership": str(membership),
        "guids": [f"{guid:016x}" for guid in guids],
    }


def as_plain(members: Iterable[Member]) -> list[dict[str, Any]]:
    """All that would be posted to a UFM that knows none of them."""
    return [
        addition(number, membership, guids)
        for (number, membership), guids in wanted(members).items()
    ]
