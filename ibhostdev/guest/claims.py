# SPDX-License-Identifier: Apache-2.0
"""What libvirt's domains want of the host's VFs."""

from typing import NamedTuple

from ibhostdev import log
from ibhostdev.batch import Vif
from ibhostdev.errors import InvalidInput
from ibhostdev.guest import connection
from ibhostdev.guest.connection import Connection
from ibhostdev.guest.xml import read_domain
from ibhostdev.pci import PciAddress


class Wanted(NamedTuple):
    """A domain's VIFs whose VF it has; ``runs`` says that it runs, ``starts``
    that it will be started by libvirt."""

    domain: str
    runs: bool
    starts: bool
    vifs: tuple[Vif, ...]
    devices: tuple[PciAddress, ...]


def wanted(conn: Connection) -> list[Wanted]:
    """Of all domains that have devices of the host, or metadata of ours. A
    domain whose metadata cannot be read has none, which is logged.

    :raises GuestError: if libvirt cannot be asked
    """
    module = connection.libvirt()
    found = []
    try:
        for domain in conn.listAllDomains():
            try:
                text, name = domain.XMLDesc(0), domain.name()
                runs, starts = (
                    bool(domain.isActive()),
                    bool(domain.isPersistent() and domain.autostart()),
                )
            except module.libvirtError as error:
                # It may have gone meanwhile.
                if error.get_error_code() != module.VIR_ERR_NO_DOMAIN:
                    raise
                continue
            if "hostdev" not in text:
                continue
            try:
                xml = read_domain(text)
            except InvalidInput as error:
                log.logger(__name__).warning("%s", error)
                continue
            found.append(
                Wanted(
                    name,
                    runs,
                    starts,
                    tuple(xml.wanted),
                    tuple(xml.hostdevs),
                )
            )
    except module.libvirtError as error:
        raise connection.explain(error, "", None, None) from error
    return found
