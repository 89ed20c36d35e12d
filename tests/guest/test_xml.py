# SPDX-License-Identifier: Apache-2.0
"""VFs in the XML of domains."""

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibhostdev import Guid, PciAddress, PKey, Vif
from ibhostdev.errors import InvalidInput
from ibhostdev.guest.xml import (
    NAMESPACE,
    hostdev,
    read_domain,
    read_hostdevs,
    write_vifs,
)

PCI = PciAddress("0000:3b:00.2")
MAC = "fa:16:3e:12:34:56"

# LibvirtConfigGuestHostdevPCI.to_xml() of Nova 34 for pci_slot 0000:3b:00.2.
NOVA = """<hostdev mode="subsystem" type="pci" managed="yes">
  <source>
    <address domain="0x0000" bus="0x3b" slot="0x00" function="0x2"/>
  </source>
</hostdev>
"""


def canonical(text):
    return ElementTree.canonicalize(text, strip_text=True)


def domain(devices="", metadata=""):
    return (
        f"<domain><name>web1</name><metadata>{metadata}</metadata>"
        f"<devices>{devices}</devices></domain>"
    )


def noted(attributes):
    return domain(
        metadata=f"<i:vifs xmlns:i='{NAMESPACE}'><i:vif {attributes}/>"
        "</i:vifs>"
    )


def test_a_vf_is_the_device_that_nova_makes_of_it():
    assert canonical(hostdev(PCI)) == canonical(NOVA)


def test_an_alias_is_the_only_thing_more():
    device = ElementTree.fromstring(hostdev(PCI, "ua-port-1"))
    (alias,) = device.findall("alias")
    assert alias.attrib == {"name": "ua-port-1"}
    device.remove(alias)
    assert canonical(ElementTree.tostring(device)) == canonical(NOVA)


@pytest.mark.parametrize("alias", ["port1", "ua-", "ua-a b", "ua-ü", ""])
def test_an_alias_that_libvirt_would_drop_is_refused(alias):
    with pytest.raises(InvalidInput, match="alias"):
        hostdev(PCI, alias)


@given(
    st.builds(
        "{:04x}:{:02x}:{:02x}.{:x}".format,
        st.integers(0, 0xFFFFFFFF),
        st.integers(0, 255),
        st.integers(0, 31),
        st.integers(0, 7),
    )
)
def test_what_is_written_is_read_again(text):
    pci = PciAddress.parse(text)
    assert list(read_hostdevs(domain(hostdev(pci)))) == [pci]


def test_devices_are_read_with_their_aliases():
    devices = """
    <hostdev mode='subsystem' type='usb'>
      <source><address bus='1' device='2'/></source>
    </hostdev>
    <hostdev mode='subsystem' type='pci' managed='yes'>
      <driver name='vfio'/>
      <source><address domain='0x0000' bus='0x3b' slot='0x00'
                       function='0x2'/></source>
      <alias name='hostdev0'/>
      <address type='pci' domain='0x0000' bus='0x01' slot='0x00'
               function='0x0'/>
    </hostdev>
    <hostdev mode='subsystem' type='pci'>
      <source><address domain='0' bus='59' slot='0' function='3'/></source>
    </hostdev>
    <interface type='hostdev' managed='yes'>
      <source><address type='pci' domain='0x0000' bus='0x3b' slot='0x00'
                       function='0x4'/></source>
    </interface>
    """
    assert read_hostdevs(domain(devices)) == {
        "0000:3b:00.2": "hostdev0",
        "0000:3b:00.3": None,
        "0000:3b:00.4": None,
    }


def test_identities_are_kept_as_they_are():
    vifs = [
        Vif.parse("0000:3b:00.2", MAC, "fabric & <storage>"),
        Vif.parse("0000:3b:00.3", "02:00:00:12:34:56:78:9a"),
        Vif.parse("0000:3b:00.4", MAC, "a", "02:00:00:12:34:56:78:9a"),
        Vif.parse("0000:3b:00.5", MAC)._replace(pkey=PKey.parse("5:both")),
    ]
    text = write_vifs(vifs)
    assert text is not None
    # As virDomainSetMetadata() does it.
    text = text.replace("<vifs>", f"<vifs xmlns='{NAMESPACE}'>")
    found = read_domain(domain(hostdev(PCI), text))
    assert list(found.vifs) == vifs
    assert found.wanted == vifs[:1]
    assert found.vif(PCI) == vifs[0]


def test_nothing_is_kept_of_nothing():
    assert write_vifs([]) is None
    assert read_domain(domain()).vifs == ()


def test_metadata_of_others_is_none_of_ours():
    text = "<o:vifs xmlns:o='urn:other'><o:vif pci='x'/></o:vifs>"
    assert read_domain(domain(metadata=text)).vifs == ()


def test_metadata_may_be_written_by_hand():
    (vif,) = read_domain(noted(f"pci='3B:00.2' mac='{MAC.upper()}'")).vifs
    assert vif == Vif(PCI, Guid.from_mac(MAC))


@pytest.mark.parametrize(
    "attributes",
    [
        f"mac='{MAC}'",
        "pci='0000:3b:00.2'",
        f"pci='0000:3b:00.2' mac='{MAC}' guid='fa:16:3e:00:00:12:34:56'",
        f"pci='../../etc' mac='{MAC}'",
        f"pci='0000:3b:00.2' guid='{MAC}'",
        "pci='0000:3b:00.2' mac='fa:16:3e:00:00:12:34:56'",
        "pci='0000:3b:00.2' mac='00:00:00:00:00:00'",
    ],
)
def test_malformed_metadata_is_refused_with_the_domain(attributes):
    with pytest.raises(InvalidInput, match="domain web1"):
        read_domain(noted(attributes))


@pytest.mark.parametrize(
    "text",
    ["<domain>", "", b"<?xml version='1.0' encoding='none'?><domain/>",
     b"<?xml version='1.0' encoding='utf-16'?><domain/>", "<a>\udc80</a>"],
)  # fmt: skip
def test_what_is_no_xml_is_refused(text):
    with pytest.raises(InvalidInput, match="no XML"):
        read_domain(text)


@pytest.mark.parametrize(
    "address",
    ["bus='x'", "bus=''", "bus='0x100'", "slot='32'", "function='8'",
     "domain='-1'", "domain='0x100000000'", "bus='../..'", "bus='\u0663_'"],
)  # fmt: skip
@pytest.mark.parametrize(
    "device",
    ["<hostdev type='pci'><source><address {}/></source></hostdev>",
     "<interface type='hostdev'><source><address type='pci' {}/></source>"
     "</interface>"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(device, address):
    text = domain(device.format(address))
    with pytest.raises(InvalidInput, match=r"domain web1 hostdev: .*no PCI"):
        read_domain(text)
    with pytest.raises(InvalidInput, match=r"domain web1 hostdev: .*no PCI"):
        read_hostdevs(text)
