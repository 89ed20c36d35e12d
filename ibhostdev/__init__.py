# SPDX-License-Identifier: Apache-2.0
"""Gives InfiniBand SR-IOV Virtual Functions their identities.

>>> from ibhostdev import Host, Vif
>>> Host().plug([Vif.parse("0000:3b:00.2", "fa:16:3e:12:34:56")])
"""

from ibhostdev.batch import (
    BatchFailed,
    BatchResult,
    Link,
    OnError,
    VfResult,
    Vif,
)
from ibhostdev.errors import IbHostdevError
from ibhostdev.guid import IDLE, Guid
from ibhostdev.host import Endpoint, Host
from ibhostdev.inventory import Family, Netdev, Pf, Policy, Port, Vf, VfState
from ibhostdev.pci import PciAddress
from ibhostdev.pkey import Membership, PKey

__all__ = [
    "IDLE",
    "BatchFailed",
    "BatchResult",
    "Endpoint",
    "Family",
    "Guid",
    "Host",
    "IbHostdevError",
    "Link",
    "Membership",
    "Netdev",
    "OnError",
    "PKey",
    "PciAddress",
    "Pf",
    "Policy",
    "Port",
    "Vf",
    "VfResult",
    "VfState",
    "Vif",
]
