# SPDX-License-Identifier: Apache-2.0
"""VFs for the guests of a plain libvirt, many on many domains at once.

>>> from ibhostdev import Host, Vif
>>> from ibhostdev.guest import Attachment, Guests
>>> vif = Vif.parse("0000:3b:00.2", "fa:16:3e:12:34:56")
>>> with Guests(Host(), "qemu:///system") as guests:
...     guests.attach([Attachment("web1", vif)], live=True, config=True)

Needs libvirt-python, which the extra ``libvirt`` brings.
"""

from ibhostdev.guest.guests import Guests
from ibhostdev.guest.results import (
    Attachment,
    Detachment,
    GuestResult,
    GuestsFailed,
    GuestsResult,
    Use,
)
from ibhostdev.guest.survey import uses
from ibhostdev.guest.xml import DomainXml, hostdev, read_domain

__all__ = [
    "Attachment",
    "Detachment",
    "DomainXml",
    "GuestResult",
    "Guests",
    "GuestsFailed",
    "GuestsResult",
    "Use",
    "hostdev",
    "read_domain",
    "uses",
]
