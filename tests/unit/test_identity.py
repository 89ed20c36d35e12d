# SPDX-License-Identifier: Apache-2.0
"""GUIDs, MACs and PCI addresses as operators and Neutron write them."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibhostdev import Guid, PciAddress, Vif
from ibhostdev.errors import InvalidInput
from ibhostdev.guid import shortened

NUMBERS = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize(
    "mac",
    ["fa:16:3e:12:34:56", "FA:16:3E:12:34:56", "fa-16-3e-12-34-56",
     "fa163e123456", " fa:16:3e:12:34:56\n"],
)  # fmt: skip
def test_a_mac_becomes_the_guid_that_neutron_expects(mac):
    guid = Guid.from_mac(mac)
    assert str(guid) == "fa:16:3e:00:00:12:34:56"
    assert guid == 0xFA163E0000123456
    assert guid.mac == "fa:16:3e:12:34:56"


@pytest.mark.parametrize(
    "text",
    ["fa:16:3e:00:00:12:34:56", "FA163E0000123456", "0xfa163e0000123456",
     "fa16:3e00:0012:3456", "FA-16-3E-00-00-12-34-56"],
)  # fmt: skip
def test_the_written_forms_of_a_guid(text):
    assert Guid.parse(text) == 0xFA163E0000123456
    assert Guid.parse_identity(f" {text}\n") == 0xFA163E0000123456
    assert Vif.parse(None, text).guid == 0xFA163E0000123456
    assert shortened(text) is None


@pytest.mark.parametrize("text", ["2c90300a00091", "0x2c90300a00091"])
def test_mlx4_leaves_out_the_zeros_in_front(text):
    assert str(Guid.parse(text)) == "00:02:c9:03:00:a0:00:91"
    assert str(Guid.parse_identity(text)) == "00:02:c9:03:00:a0:00:91"


@pytest.mark.parametrize(
    "text",
    ["fe80:0000:0000:0000:0002:c903:00a0:0091", "fe80::2:C903:a0:91",
     "fec0:0000:0000:0001:0002:c903:00a0:0091",
     "80:00:0a:80:fe:80:00:00:00:00:00:00:00:02:c9:03:00:a0:00:91"],
)  # fmt: skip
def test_the_last_half_of_an_address_is_a_guid_and_said_to_be(text):
    assert str(Guid.parse(text)) == "00:02:c9:03:00:a0:00:91"
    assert str(Guid.parse_identity(text)) == "00:02:c9:03:00:a0:00:91"
    assert "last half, GUID 00:02:c9:03:00:a0:00:91" in shortened(text)


@pytest.mark.parametrize(
    "text",
    ["", "002fffff8118", "0x002fffff8118", "00:2f:ff:ff:81:18",
     "fa:16:3e:0:0:12:34:56", "fa16:3e00:0012:345", "fa16-3e00-0012-3456",
     "fa16:3e00:0012:3456:", "fa:16:3e:00-00:12:34:56", "fe80::2::91",
     "fe80:12", "2001:db8::1", "::1",
     "ff12:401b:ffff:0000:0000:0000:0000:0001",
     "00:ff:ff:ff:ff:12:40:1b:ff:ff:00:00:00:00:00:00:ff:ff:ff:ff",
     "fe80::2:c903:a0:91%ib0"],
)  # fmt: skip
def test_what_could_be_another_thing_is_no_guid(text):
    with pytest.raises(InvalidInput, match="not a GUID"):
        Guid.parse(text)


def test_what_stands_under_a_key_is_what_the_key_says():
    mac, guid = "fa:16:3e:12:34:56", "fa:16:3e:00:00:12:34:56"
    assert Guid.parse_keyed(mac, None) == Guid.parse_keyed(None, guid)
    with pytest.raises(InvalidInput, match="a MAC address and not a GUID"):
        Guid.parse_keyed(None, mac)
    with pytest.raises(InvalidInput, match="a GUID and not a MAC address"):
        Guid.parse_keyed(guid, None)
    with pytest.raises(InvalidInput, match="zero"):
        Guid.parse_keyed(None, "0" * 16)
    with pytest.raises(InvalidInput, match="both"):
        Guid.parse_keyed(mac, guid)
    with pytest.raises(InvalidInput, match="neither"):
        Guid.parse_keyed(None, None)


@given(NUMBERS)
def test_a_guid_reads_back_from_its_own_text(number):
    guid = Guid(number)
    assert Guid.parse(str(guid)) == guid
    assert Guid.parse(f"{guid:016x}") == guid
    assert f"{guid}" == guid.octets
    assert pickle.loads(pickle.dumps(guid)) == guid


@given(NUMBERS)
def test_only_a_guid_made_from_a_mac_has_one(number):
    guid = Guid(number)
    if guid.mac is not None:
        assert Guid.from_mac(guid.mac) == guid


def test_a_guid_of_another_kind_has_no_mac():
    assert Guid.parse("0c:42:a1:03:00:12:34:56").mac is None
    assert Guid.parse("ff:ff:ff:ff:ff:ff:ff:ff").mac is None


@pytest.mark.parametrize(
    "text",
    ["", "fa:16:3e:12:34", "fa:16:3e:12:34:5g", "fa:16:3e:12:34:56:78",
     "fa:16-3e:12:34:56", "f:a1:63:e1:23:45:6", "fa163e00001234567",
     "../../etc/passwd", "fa:16:3e:12:34:56;reboot", "٣a:16:3e:12:34:56",
     "fa:16:3e:12:34:56\0"],
)  # fmt: skip
def test_what_is_no_identity_is_refused_by_name(text):
    with pytest.raises(InvalidInput) as caught:
        Guid.parse_identity(text)
    assert repr(text) in str(caught.value)
    assert "fa:16:3e" in caught.value.cure


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("00:00:00:00:00:00", "zero"),
        ("0x0000000000000000", "zero"),
        ("ff:ff:ff:ff:ff:ff:ff:ff", "all ones"),
    ],
)
def test_what_can_be_nobodys_identity_is_refused(text, why):
    with pytest.raises(InvalidInput, match=why):
        Guid.parse_identity(text)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("0000:3b:00.2", "0000:3b:00.2"),
        ("3B:00.2", "0000:3b:00.2"),
        ("00000000:3b:00.2", "0000:3b:00.2"),
        ("10000:e1:1f.7", "10000:e1:1f.7"),
        ("0000:3b:00.2\n", "0000:3b:00.2"),
        ("pci_0000_3b_00_2", "0000:3b:00.2"),
        ("pci_10000_e1_1f_7", "10000:e1:1f.7"),
    ],
)
def test_pci_addresses_come_out_as_the_kernel_writes_them(text, form):
    assert PciAddress.parse(text) == form


@pytest.mark.parametrize(
    "text",
    ["", "3b:00", "3b:00.8", "3b:20.0", "g0:00.0", "0000:3b:00.2/../..",
     "../0000:3b:00.2", "0000:3b:00.2\n0000:3b:00.3", "0000-3b-00.2",
     "pci_3b_00_2", "pci_0000:3b:00.2", "pci_0000_3b_00.2",
     "pci_0000_3b_00_8", "pci_0000_3b_00_2_", "0000_3b_00_2", "pci_",
     "000:3b:00.2", "123456789:3b:00.2", "0000:3b:00.٣"],
)  # fmt: skip
def test_nothing_else_is_a_pci_address(text):
    with pytest.raises(InvalidInput):
        PciAddress.parse(text)


def test_routing_identifier():
    assert PciAddress("0000:3b:01.3").rid == 0x3B << 8 | 1 << 3 | 3


def test_a_vif_is_made_of_values_as_of_text():
    pci, guid = PciAddress("0000:3b:00.2"), Guid.from_mac("fa:16:3e:12:34:56")
    assert Vif.parse(pci, str(guid)) == Vif.parse(" 3B:00.2", guid.mac + "\n")
    vif = Vif(None, guid, "red")
    assert Vif.parse(None, f"{guid:016x}", "red") == vif
    assert (vif.node_guid, vif.pkey) == (None, None)


NODE, PORT = "02:00:00:12:34:56:78:9a", "fa:16:3e:00:00:12:34:56"


def test_a_vif_has_one_guid_or_two():
    assert Vif.parse(None, PORT, node_guid=NODE) == Vif(
        None, Guid.parse(PORT), None, Guid.parse(NODE)
    )
    with pytest.raises(InvalidInput, match="not a GUID"):
        Vif.parse(None, PORT, node_guid="fa:16:3e:12:34:56")
    with pytest.raises(InvalidInput, match="zero"):
        Vif.parse(None, PORT, node_guid="0" * 16)
    with pytest.raises(InvalidInput, match="neither"):
        Vif.parse(None, "", node_guid=NODE)


def test_two_guids_stand_under_keys_of_their_own():
    both = {"pci": "3b:00.2", "node_guid": NODE, "port_guid": PORT}
    assert Vif.parse_keyed(both) == Vif.parse("3b:00.2", PORT, None, NODE)
    # One that is written twice is one.
    assert Vif.parse_keyed(both | {"node_guid": PORT}) == Vif.parse_keyed(
        {"pci": "3b:00.2", "guid": PORT, "physical_network": ""}
    )
    for alone in "node_guid", "port_guid":
        with pytest.raises(InvalidInput, match="one of") as caught:
            Vif.parse_keyed({alone: PORT})
        assert "guid where they are one" in str(caught.value)
        with pytest.raises(InvalidInput, match="a MAC address and not a GUID"):
            Vif.parse_keyed(both | {alone: "fa:16:3e:12:34:56"})
        with pytest.raises(InvalidInput, match="all ones"):
            Vif.parse_keyed(both | {alone: "f" * 16})
    for beside in "mac", "guid":
        with pytest.raises(InvalidInput, match="beside"):
            Vif.parse_keyed(both | {beside: PORT})


@pytest.mark.parametrize("text", ["\udc80", "fa:16:3e:12:34:5\udc80"])
def test_what_no_encoding_has_is_no_identity_either(text):
    with pytest.raises(InvalidInput):
        Vif.parse(None, text)
    with pytest.raises(InvalidInput):
        Vif.parse(text, "fa:16:3e:12:34:56")
