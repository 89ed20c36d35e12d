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

    Only a VF that the domain has is plugged: it may have been removed from
    the definition, and be another guest's now. Unplugging goes by the GUID,
    so what was removed meanwhile is made idle too.

    :raises InvalidInput: for malformed XML or metadata
    :raises IbHostdevError: what Host.plug() and Host.unplug() raise
    """
    if (operation, suboperation) == PLUG:
        if vifs := read_domain(text).wanted:
            return host.plug(vifs)
    elif (operation, suboperation) == UNPLUG and (
        vifs := list(read_domain(text).vifs)
    ):
        return host.unplug(vifs, on_error=OnError.CONTINUE)
    return BatchResult(())
