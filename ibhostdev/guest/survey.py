# SPDX-License-Identifier: Apache-2.0
"""The domains of a libvirt and what they have of VFs, asked once."""

from collections.abc import Iterable
from dataclasses import dataclass

from ibhostdev.batch import Vif
from ibhostdev.errors import InvalidInput
from ibhostdev.guest import connection
from ibhostdev.guest.connection import Connection, Domain
from ibhostdev.guest.errors import DomainNotFound, WrongDomainState
from ibhostdev.guest.results import Use
from ibhostdev.guest.xml import (
    NAMESPACE,
    DomainXml,
    read_domain,
    read_hostdevs,
)
from ibhostdev.pci import PciAddress


@dataclass(slots=True)
class Guest:
    """A domain of a call. ``live`` is what it runs with, None if it does
    not run; ``config`` is its definition, None if it has none."""

    name: str
    domain: Domain
    live: DomainXml | None
    config: DomainXml | None
    on_live: bool = False
    on_config: bool = False


def uses(conn: Connection) -> dict[PciAddress, Use]:
    """Which domain has which PCI device of the host, in one pass over all.

    :raises GuestError: if libvirt cannot be asked
    """
    return Survey(conn).uses


def seen(
    conn: Connection,
) -> tuple[dict[PciAddress, Use], list[Vif], list[str]]:
    """uses(), the VIFs that the metadata of domains name for VFs that they
    have, and what is wrong with metadata, in one pass.

    :raises GuestError: if libvirt cannot be asked
    """
    survey = Survey(conn)
    vifs: list[Vif] = []
    complaints: list[str] = []
    for text in survey.texts:
        if NAMESPACE not in text:
            continue
        try:
            vifs += read_domain(text).wanted
        except InvalidInput as error:
            complaints.append(str(error))
    return survey.uses, vifs, complaints


class Survey:
    """All domains and what they have of the host's PCI devices, in one pass.

    ``uses`` prefers the domain that runs.
    """

    def __init__(self, conn: Connection) -> None:
        module = connection.libvirt()
        self._running: dict[str, tuple[Domain, str]] = {}
        self._stopped: dict[str, tuple[Domain, str]] = {}
        self.uses: dict[PciAddress, Use] = {}
        try:
            for flag, found, how in (
                (
                    module.VIR_CONNECT_LIST_DOMAINS_ACTIVE,
                    self._running,
                    0,
                ),
                (
                    module.VIR_CONNECT_LIST_DOMAINS_INACTIVE,
                    self._stopped,
                    module.VIR_DOMAIN_XML_INACTIVE,
                ),
            ):
                for domain in conn.listAllDomains(flag):
                    try:
                        text = domain.XMLDesc(how)
                    except module.libvirtError as error:
                        # It may have gone meanwhile.
                        if error.get_error_code() != module.VIR_ERR_NO_DOMAIN:
                            raise
                        continue
                    found[domain.name()] = domain, text
        except module.libvirtError as error:
            raise connection.explain(error, "", None, None) from error
        for found, running in ((self._running, True), (self._stopped, False)):
            for name, (_, text) in found.items():
                # Most domains have none; most of a pass would be parsing.
                if "<hostdev" in text or "type='hostdev'" in text:
                    for pci in read_hostdevs(text):
                        self.uses.setdefault(pci, Use(name, running))

    @property
    def texts(self) -> list[str]:
        """The XML of each domain, of those that run what they run with."""
        domains = (*self._running.values(), *self._stopped.values())
        return [text for _, text in domains]

    def keeps(self, guest: Guest, pci: PciAddress) -> bool:
        """Whether a guest runs on with a VF that was detached: it may have
        left the definition alone, or have been in another one's too."""
        use = self.uses.get(pci)
        return (
            use is not None
            and use.running
            and not (use.domain == guest.name and guest.on_live)
        )

    def guests(
        self,
        wanted: Iterable[tuple[str, PciAddress]],
        live: bool,
        config: bool,
    ) -> list[Guest]:
        """The domains of a call.

        :raises InvalidInput: for the first thing that is wrong
        """
        guests: dict[str, Guest] = {}
        seen: set[PciAddress] = set()
        for name, pci in wanted:
            if pci in seen:
                raise InvalidInput(
                    "the VF is named twice",
                    pci,
                    "pci",
                    cure="name each VF once",
                )
            seen.add(pci)
            if name not in guests:
                guests[name] = self._guest(name, live, config)
        return list(guests.values())

    def _guest(self, name: str, live: bool, config: bool) -> Guest:
        module = connection.libvirt()
        if name in self._stopped:
            domain, text = self._stopped[name]
            guest = Guest(name, domain, None, read_domain(text))
        elif name in self._running:
            domain, text = self._running[name]
            guest = Guest(name, domain, read_domain(text), None)
            try:
                if domain.isPersistent():
                    text = domain.XMLDesc(module.VIR_DOMAIN_XML_INACTIVE)
                    guest.config = read_domain(text)
            except module.libvirtError as error:
                raise connection.explain(error, name, None, None) from error
        else:
            raise DomainNotFound(
                f"libvirt has no domain {name!r}",
                cure="see 'virsh list --all'",
                domain=name,
            )
        if live and guest.live is None:
            raise WrongDomainState(
                f"domain {name} does not run",
                cure="start it, or say --config alone",
                domain=name,
            )
        if config and guest.config is None:
            raise WrongDomainState(
                f"domain {name} is transient: it has no definition to change",
                cure="say --live alone, or define it",
                domain=name,
            )
        guest.on_live = live or (not config and guest.live is not None)
        guest.on_config = config or not guest.on_live
        return guest
