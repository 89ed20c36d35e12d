# SPDX-License-Identifier: Apache-2.0
"""VFs in the XML of libvirt's domains.

What a domain has of VFs is its ``<hostdev>`` elements. Which identities they
are to have is nothing that libvirt knows of; it is kept in the domain's
metadata, in a namespace of ours:

    <metadata>
      <ibhostdev:vifs xmlns:ibhostdev="urn:ibhostdev:vifs:1">
        <ibhostdev:vif pci="0000:3b:00.2" mac="fa:16:3e:12:34:56"/>
      </ibhostdev:vifs>
    </metadata>

A ``vif`` has ``pci``, ``mac`` or ``guid`` (or, where they differ,
``node_guid`` and ``port_guid``), and maybe ``physical_network`` and ``pkey``.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from ibhostdev.batch import Vif
from ibhostdev.errors import InvalidInput
from ibhostdev.guid import shortened
from ibhostdev.host import document
from ibhostdev.pci import PciAddress

NAMESPACE = "urn:ibhostdev:vifs:1"
PREFIX = "ibhostdev"
_VIFS = f"{{{NAMESPACE}}}vifs"
_VIF = f"{{{NAMESPACE}}}vif"
_PARTS = ("domain", "bus", "slot", "function")
# libvirt leaves an alias alone, and keeps it in the definition, only if it
# is of this form (docs/formatdomain).
_ALIAS = re.compile(r"ua-[a-zA-Z0-9_-]+", re.ASCII)


def hostdev(pci: PciAddress, alias: str | None = None) -> str:
    """The VF as a device of a domain: the same element that Nova makes of an
    ``ib_hostdev`` port (nova/virt/libvirt/config.py). ``managed`` has
    libvirt bind it to vfio-pci, and back to its driver afterwards.

    :raises InvalidInput: for an alias that libvirt would drop
    """
    if alias is not None and not _ALIAS.fullmatch(alias):
        raise InvalidInput(
            f"{alias!r} is no alias for a device",
            pci,
            "alias",
            cure="begin it with ua-, go on with letters, digits, _ and -",
        )
    device = Element(
        "hostdev", {"mode": "subsystem", "type": "pci", "managed": "yes"}
    )
    source = SubElement(device, "source")
    domain, bus, slot = pci.split(":")
    slot, function = slot.split(".")
    parts = (domain, bus, slot, function)
    SubElement(
        source,
        "address",
        {name: f"0x{part}" for name, part in zip(_PARTS, parts, strict=True)},
    )
    if alias is not None:
        SubElement(device, "alias", {"name": alias})
    return ElementTree.tostring(device, encoding="unicode")


@dataclass(frozen=True, slots=True)
class DomainXml:
    """What a domain's XML says of VFs.

    ``hostdevs`` are its PCI devices of the host, each with its alias (only
    a running domain has one for each). ``vifs`` are those of its metadata,
    ``notes`` say what is taken for a GUID there and is something longer.
    """

    name: str
    hostdevs: Mapping[PciAddress, str | None]
    vifs: tuple[Vif, ...]
    notes: tuple[str, ...] = ()

    @property
    def wanted(self) -> list[Vif]:
        """The VIFs of its metadata whose VF it has."""
        return [vif for vif in self.vifs if vif.pci in self.hostdevs]

    def vif(self, pci: PciAddress) -> Vif | None:
        """The one that its metadata has for a VF."""
        for vif in self.vifs:
            if vif.pci == pci:
                return vif
        return None


def read_domain(text: str | bytes) -> DomainXml:
    """From what libvirt gives, or passes to its hooks.

    :raises InvalidInput: for what is no XML, for an address that is none,
        and for malformed metadata: a domain is not to start with half of its
        identities
    """
    domain = _parse(text)
    name = domain.findtext("name", "")
    where = f"metadata of domain {name}"
    notes: list[str] = []
    found = domain.find(f"metadata/{_VIFS}")

    def parse(element: Element) -> Vif:
        try:
            vif = _vif(element)
        except InvalidInput as error:
            pci = element.get("pci")
            raise InvalidInput(
                error.message
                if pci is None
                else f"{error.message} (of {pci})",
                where,
                error.attribute,
                cure=error.cure,
            ) from None
        for key in ("guid", "node_guid", "port_guid"):
            note = shortened(element.get(key, ""))
            if note is not None:
                notes.append(f"{where}: {note}")
        return vif

    vifs = () if found is None else document.each(found.iterfind(_VIF), parse)
    return DomainXml(name, _hostdevs(domain), tuple(vifs), tuple(notes))


def read_hostdevs(text: str | bytes) -> dict[PciAddress, str | None]:
    """PCI devices of the host that a domain has, each with its alias.

    :raises InvalidInput: for what is no XML, and for an address that is none
    """
    return _hostdevs(_parse(text))


def _parse(text: str | bytes) -> Element:
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        # The others are of encodings.
        raise InvalidInput(
            f"is no XML: {error}",
            "domain XML",
            cure="give what 'virsh dumpxml' writes",
        ) from None


def _hostdevs(domain: Element) -> dict[PciAddress, str | None]:
    devices: dict[PciAddress, str | None] = {}
    for device in domain.iterfind("devices/hostdev[@type='pci']"):
        address = device.find("source/address")
        if address is None:
            continue
        alias = device.find("alias")
        devices[_address(address, domain)] = (
            None if alias is None else alias.get("name")
        )
    # <interface type='hostdev'> takes a PCI device too. No guest gets
    # InfiniBand by it, but it has the VF.
    for address in domain.iterfind(
        "devices/interface[@type='hostdev']/source/address[@type='pci']"
    ):
        devices.setdefault(_address(address, domain), None)
    return devices


def _address(element: Element, domain: Element) -> PciAddress:
    """libvirt takes decimal and hex, and gives hex.

    :raises InvalidInput: for what is neither, or too large
    """
    given = [element.get(name, "0") for name in _PARTS]
    try:
        segment, bus, slot, function = (int(part, 0) for part in given)
        return PciAddress.parse(
            f"{segment:04x}:{bus:02x}:{slot:02x}.{function:x}"
        )
    except ValueError:  # InvalidInput is one, too
        shown = " ".join(
            f"{name}={part!r}"
            for name, part in zip(_PARTS, given, strict=True)
        )
        raise InvalidInput(
            f"has a device of the host at {shown}, which is no PCI address",
            f"domain {domain.findtext('name', '')}",
            "hostdev",
            cure="correct it by 'virsh edit'",
        ) from None


def _vif(element: Element) -> Vif:
    if element.get("pci") is None:
        raise InvalidInput(
            "a vif has no pci",
            attribute="vif",
            cure="correct it by 'virsh edit', or attach the VF anew",
        )
    return Vif.parse_keyed(element.attrib)


def write_vifs(vifs: Iterable[Vif]) -> str | None:
    """The element for a domain's metadata, without its namespace, which
    virDomainSetMetadata() puts on; None if there is nothing to keep."""
    root = Element("vifs")
    for vif in vifs:
        attributes = {"pci": str(vif.pci)}
        if vif.node_guid is not None:
            attributes["node_guid"] = str(vif.node_guid)
            attributes["port_guid"] = str(vif.guid)
        elif vif.guid.mac is None:
            attributes["guid"] = str(vif.guid)
        else:
            attributes["mac"] = vif.guid.mac
        if vif.physical_network is not None:
            attributes["physical_network"] = vif.physical_network
        if vif.pkey is not None:
            attributes["pkey"] = str(vif.pkey)
        SubElement(root, "vif", attributes)
    if not len(root):
        return None
    return ElementTree.tostring(root, encoding="unicode")
