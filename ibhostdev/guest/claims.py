# SPDX-License-Identifier: Apache-2.0
"""What libvirt's domains want of the host's VFs."""

from contextlib import suppress
from typing import NamedTuple

from ibhostdev.batch import Vif
from ibhostdev.errors import InvalidInput
from ibhostdev.guest import connection
from ibhostdev.guest.connection import Connection
from ibhostdev.guest.xml import read_domain, read_hostdevs
from ibhostdev.pci import PciAddress


class Wanted(NamedTuple):
    """A domain's VIFs whose VF it has; ``runs`` says that it runs, ``starts``
    that it will be started by libvirt. ``notes`` are DomainXml's, ``error``
    is why its metadata cannot be read."""

    domain: str
    runs: bool
    starts: bool
    vifs: tuple[Vif, ...]
    devices: tuple[PciAddress, ...]
    notes: tuple[str, ...] = ()
    error: InvalidInput | None = None


def wanted(conn: Connection) -> list[Wanted]:
    """Of all domains that have devices of the host. One whose metadata cannot
    be read has its devices all the same.

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
            found.append(_wanted(text, name, runs, starts))
    except module.libvirtError as error:
        raise connection.explain(error, "", None, None) from error
    return found


def _wanted(text: str, name: str, runs: bool, starts: bool) -> Wanted:
    try:
        xml = read_domain(text)
    except InvalidInput as error:
        devices: tuple[PciAddress, ...] = ()
        with suppress(InvalidInput):  # the same one
            devices = tuple(read_hostdevs(text))
        return Wanted(name, runs, starts, (), devices, error=error)
    return Wanted(
        name, runs, starts, tuple(xml.wanted), tuple(xml.hostdevs), xml.notes
    )
