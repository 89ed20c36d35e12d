# SPDX-License-Identifier: Apache-2.0
"""host.yaml, and the other files that say how a host is to be."""

import json

import pytest

from ibhostdev.errors import InvalidInput
from ibhostdev.guid import Guid
from ibhostdev.host.document import BadEntries
from ibhostdev.inventory import Policy
from ibhostdev.pkey import Membership, PKey
from ibhostdev.provision.reading import from_file
from ibhostdev.provision.wish import (
    Derived,
    Given,
    Identity,
    Idle,
    PfWish,
    Range,
)

ONE, TWO = "fa:16:3e:00:00:00:00:01", "fa:16:3e:00:00:00:00:02"
FIRST, SECOND = Guid.parse(ONE), Guid.parse(TWO)


@pytest.fixture
def read(tmp_path):
    def read(text, name="host.yaml"):
        file = tmp_path / name
        file.write_text(text)
        return from_file(str(file))

    return read


def test_all_that_can_be_said(read):
    (wish,) = read(
        "- pf: 3B:00.0\n  vfs: 16\n  driver: vfio-pci\n  autoprobe: no\n"
        "  policy: up\n  guids: derived\n  physical_network: default\n"
        "  pkey: 0x8001\n"
    )
    assert wish == PfWish(
        "0000:3b:00.0",
        wish.place,
        16,
        "vfio-pci",
        False,
        Policy.UP,
        Derived(),
        "default",
        PKey(1),
    )
    assert str(wish.place).endswith("host.yaml, line 1, column 7")


def test_what_is_left_out_stays_as_it_is(read):
    (wish,) = read("- {pf: ib0, vfs: ~}")
    assert wish == PfWish("ib0", wish.place)
    assert wish.guids == Idle()
    assert read("[]") == []


@pytest.mark.parametrize(
    ("text", "guids"),
    [
        ("idle", Idle()),
        (f"[{ONE}, idle, ~, fa:16:3e:00:00:02]",
         Given((Identity(FIRST), None, None, Identity(SECOND)))),
        (f"[{{guid: '{ONE}', policy: down}}, {{mac: fa:16:3e:00:00:02}}]",
         Given((Identity(FIRST, Policy.DOWN), Identity(SECOND)))),
        (f"[{{node_guid: '{ONE}', port_guid: '{ONE}'}}]",
         Given((Identity(FIRST),))),
        (f"[{{node_guid: '{ONE}', port_guid: '{TWO}'}}]",
         Given((Identity(SECOND, None, FIRST),))),
        (f"[{{guid: '{ONE}', pkey: '5:both'}}, "
         "{mac: fa:16:3e:00:00:02, pkey: 5}]",
         Given((Identity(FIRST, pkey=PKey(5, Membership.BOTH)),
                Identity(SECOND, pkey=PKey(5, Membership.LIMITED))))),
        (f"{{from: '{ONE}', to: '{TWO}'}}", Range(FIRST, SECOND)),
    ],
)  # fmt: skip
def test_every_form_of_guids(read, text, guids):
    assert read(f"- pf: ib0\n  guids: {text}\n")[0].guids == guids


def test_a_range_ends(read):
    guids = read(f"- {{pf: a, guids: {{from: '{ONE}', to: '{TWO}'}}}}")[
        0
    ].guids
    assert [guids.of(None, index) for index in range(3)] == [
        Identity(FIRST), Identity(SECOND), None,
    ]  # fmt: skip
    assert [guids.beyond(vfs) for vfs in (1, 2, 5)] == [0, 0, 3]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is no list of PFs"),
        ("pf: ib0", "is no list of PFs"),
        ("- ib0", "line 1, column 3: is no mapping"),
        ("- vfs: 3", "line 1, column 3 pf: has no pf"),
        ("- pf: ib0\n- pf: [a]", "line 2, column 7 pf: is no text"),
        ("- pf: ib0\n- pf: ib0", "line 2, column 7 pf: ib0 is there twice"),
        ("- pf: ib0\n  pf: ib1", "line 2, column 3 pf: pf is there twice"),
        ("- pf: ib0\n  vlan: 3", "line 2, column 3: 'vlan' is no key"),
        ("- pf: ib0\n  vfs: many", "line 2, column 8 vfs: 'many' is no num"),
        ("- pf: ib0\n  vfs: -1", "column 8 vfs: '-1' is no number"),
        ("- pf: ib0\n  vfs: 9999", "column 8 vfs: '9999' is no number"),
        ("- pf: ib0\n  driver: ../x", "column 11 driver: '../x' is no driver"),
        ("- pf: ib0\n  autoprobe: 2", "'2' is neither yes nor no"),
        ("- pf: ib0\n  policy: Follow", "'Follow' is no policy"),
        ("- pf: ib0\n  pkey: 0x8000", "column 9 pkey: '0x8000' is reserved"),
        ("- pf: ib0\n  pkey: [1]", "line 2, column 9 pkey: is no text"),
        (f"- pf: ib0\n  guids:\n  - {{guid: '{ONE}', pkey: 1:some}}",
         "line 3, column 45 pkey: '1:some' has a membership that there is no"),
        ("- pf: ib0\n  guids: [{pkey: 1}]", "has not one identity"),
        ("- pf: ib0\n  guids: some", "'some' is no list of GUIDs"),
        ("- pf: ib0\n  guids:\n  - x", "line 3, column 5 guids: 'x' is neith"),
        ("- pf: ib0\n  guids: ['0:0:0:0:0:0:0:0']", "line 2, column 11"),
        ("- pf: ib0\n  guids: [{}]", "column 11 guids: has not one identity"),
        (f"- pf: ib0\n  guids: [{{port_guid: '{TWO}'}}]", "has not one ident"),
        ("- pf: ib0\n  guids: [{guid: 002fffff8118}]",
         "line 2, column 18 guid: '002fffff8118' is a MAC address and not"),
        (f"- pf: ib0\n  guids: [{{mac: '{ONE}'}}]", "is a GUID and not"),
        ("- pf: a\n  guids: [{node_guid: 002fffff8118, port_guid: 'a'}]",
         "node_guid: '002fffff8118' is a MAC address and not"),
        ("- pf: a\n  guids: {from: 002fffff8118, to: 002fffff8119}",
         "from: '002fffff8118' is a MAC address and not"),
        (f"- pf: a\n  guids: {{from: '{ONE}'}}", "has not from and to"),
        (f"- pf: a\n  guids: {{from: '{TWO}', to: '{ONE}'}}",
         "line 2, column 48 to: fa:16"),
        ("- pf: a\n  guids: {map: nothere}", "nothere file: cannot be read"),
        ("- &a {pf: ib0}\n- *a", "line 2, column 3 file: refers to another"),
        ("- " * 30, "is nested too deep"),
        ("- {pf: a}\n--- []", "has several documents"),
        ("- {pf: a", "is neither YAML nor JSON"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(read, text, told):
    with pytest.raises(InvalidInput) as caught:
        read(text)
    assert told in str(caught.value)


def test_all_that_is_wrong_is_said_at_once(read):
    with pytest.raises(BadEntries) as caught:
        read(
            "- pf: ib0\n  vfs: many\n  guids: [x, "
            f"'{ONE}', y]\n- ib1\n- pf: ib2\n  vfs: 3\n- pf: ib3\n"
            "  driver: z\n"
        )
    assert [str(one).partition(", ")[2] for one in caught.value.errors] == [
        "line 2, column 8 vfs: 'many' is no number of VFs; write one from 0 "
        "to 1024",
        "line 3, column 11 guids: 'x' is neither a MAC address nor a GUID; "
        "write fa:16:3e:12:34:56 or fa:16:3e:00:00:12:34:56",
        "line 3, column 41 guids: 'y' is neither a MAC address nor a GUID; "
        "write fa:16:3e:12:34:56 or fa:16:3e:00:00:12:34:56",
        "line 4, column 3: is no mapping; write a list of entries with pf, "
        "vfs, driver, autoprobe, policy, guids, physical_network, pkey, or "
        "give what 'ibhostdev list --json' writes",
        "line 8, column 11 driver: 'z' is no driver that VFs can be given; "
        "choose from vfio-pci, mlx5_vfio_pci, mlx5_core, mlx4_core, none, or "
        "leave it out",
    ]


PCI = "0000:3b:00.0"


@pytest.mark.parametrize(
    ("entry", "guids"),
    [
        ({"pf": PCI, "guids": [ONE]}, Given((Identity(FIRST),))),
        ({"pf": PCI, "guids": [{"guid": ONE, "pkey": "0x8001"}]},
         Given((Identity(FIRST, pkey=PKey(1)),))),
        # as sriov-network-operator reads it, and as it documents it
        ({"pciAddress": PCI, "guids": [ONE, TWO]},
         Given((Identity(FIRST), Identity(SECOND)))),
        ({"pci_address": PCI, "rangeStart": ONE, "rangeEnd": TWO},
         Range(FIRST, SECOND)),
        ({"pf": PCI, "range_start": ONE, "range_end": TWO},
         Range(FIRST, SECOND)),
    ],
)  # fmt: skip
def test_maps(read, tmp_path, entry, guids):
    other = {"pfGuid": TWO, "guids": []}
    (tmp_path / "map.json").write_text(json.dumps([other, entry], indent="\t"))
    (wish,) = read(f"- pf: '{PCI}'\n  guids: {{map: map.json}}\n")
    assert wish.guids == guids


def test_a_map_by_the_pfs_guid(read, tmp_path):
    for key in ("pfGuid", "pf_guid"):
        entry = {key: TWO.upper(), "guids": [ONE]}
        (tmp_path / "map").write_text(json.dumps([entry]))
        (wish,) = read(f"- pf: {TWO}\n  guids: {{map: map}}\n")
        assert wish.guids == Given((Identity(FIRST),))


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ({"pciAddress": PCI}, "is no list of PFs"),
        ([], "has no entries for"),
        ([{"guids": [ONE]}], "names no PF"),
        ([{"pciAddress": PCI, "pfGuid": TWO}], "says the same as pciAddress"),
        ([{"pciAddress": PCI, "guids": [ONE], "rangeStart": ONE}], "both"),
        ([{"pciAddress": PCI}], "has not from and to"),
        ([{"pciAddress": PCI, "guids": ["invalid"]}], "'invalid' is neither"),
        ([{"pf": PCI, "rangeStart": TWO, "rangeEnd": ONE}], "is before"),
        ([{"pf": PCI, "guids": {"map": "x"}}], "yet another file"),
        ([{"pf": PCI, "guids": []}] * 2, "has 2 entries"),
    ],
)
def test_maps_that_are_none(read, tmp_path, entries, told):
    (tmp_path / "map").write_text(json.dumps(entries))
    with pytest.raises(InvalidInput) as caught:
        read(f"- pf: '{PCI}'\n  guids: {{map: map}}\n")
    assert told in str(caught.value)
