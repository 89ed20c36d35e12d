# SPDX-License-Identifier: Apache-2.0
"""libvirt's hook for the QEMU driver: identities right when a domain starts.

libvirt runs it with the domain's name, what happens to it and its XML on
standard input (https://libvirt.org/hooks.html). It waits for the hook with
the domain locked, so the hook must not ask libvirt anything: all that it
knows is in that XML.
"""

from ibhostdev.batch import BatchResult, OnError
from ibhostdev.guest.xml import read_domain
from ibhostdev.host import Host

PLUG = ("prepare", "begin")
UNPLUG = ("release", "end")


def run(
    host: Host, operation: str, suboperation: str, text: str | bytes
) -> BatchResult:
    """Plug the VIFs of a domain's metadata before libvirt takes its VFs from
    their driver, and make them idle after it has given them back. Other
    operations, and domains without such metadata, are none of its business.

    Only a VF that the domain has is plugged, or made idle: one that has been
    removed from the definition may be another guest's now, and metadata that
    was copied with a domain names the VFs of the original.

    :raises InvalidInput: for malformed XML or metadata
    :raises IbHostdevError: what Host.plug() and Host.unplug() raise
    """
    if (operation, suboperation) not in (PLUG, UNPLUG):
        return BatchResult(())
    vifs = read_domain(text).wanted
    if not vifs:
        return BatchResult(())
    if (operation, suboperation) == PLUG:
        return host.plug(vifs)
    return host.unplug(vifs, on_error=OnError.CONTINUE)
