# SPDX-License-Identifier: Apache-2.0
"""libvirt's hook for the QEMU driver: identities right when a domain starts.

libvirt runs it with the domain's name, what happens to it and its XML on
standard input (https://libvirt.org/hooks.html). It waits for the hook with
the domain locked, so the hook must not ask libvirt anything: all that it
knows is in that XML.
"""

from collections.abc import Callable, Sequence

from ibhostdev.batch import BatchFailed, BatchResult, OnError, Vif
from ibhostdev.guest.xml import read_domain
from ibhostdev.host import Host

PLUG = ("prepare", "begin")
UNPLUG = ("release", "end")

Done = Callable[[str, Sequence[Vif], BatchResult], None]
"""Told of what was plugged or unplugged, when that is final."""


def run(
    host: Host,
    operation: str,
    suboperation: str,
    text: str | bytes,
    done: Done = lambda *_: None,
    note: Callable[[str], None] = lambda _: None,
) -> BatchResult:
    """Plug the VIFs of a domain's metadata before libvirt takes its VFs from
    their driver, and make them idle after it has given them back. Other
    operations, and domains without such metadata, are none of its business.

    Only a VF that the domain has is plugged, or made idle: one that has been
    removed from the definition may be another guest's now, and metadata that
    was copied with a domain names the VFs of the original.

    ``note`` gets a sentence for each GID, or address of a network device, in
    the place of a GUID.

    :raises InvalidInput: for malformed XML or metadata
    :raises IbHostdevError: what Host.plug() and Host.unplug() raise
    """
    if (operation, suboperation) not in (PLUG, UNPLUG):
        return BatchResult(())
    domain = read_domain(text)
    vifs = domain.wanted
    if not vifs:
        return BatchResult(())
    for told in domain.notes:
        note(told)
    event = "unplugged"
    try:
        if (operation, suboperation) == PLUG:
            event = "plugged"
            result = host.plug(vifs)
        else:
            result = host.unplug(vifs, on_error=OnError.CONTINUE)
    except BatchFailed as failed:
        done(event, vifs, failed.result)
        raise
    done(event, vifs, result)
    return result
