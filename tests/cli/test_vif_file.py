# SPDX-License-Identifier: Apache-2.0
"""Files of VIFs, as people and programs write them."""

import json
import pickle

import pytest

from ibhostdev.cli import main, vifs
from ibhostdev.errors import InvalidInput
from ibhostdev.host.document import BadEntries
from tests.flavours import ONES
from tests.testbed import Hca

MAC = "52:54:00:12:34:56"
GUID = "52:54:00:00:00:12:34:56"
OTHER = "52:54:00:00:00:12:34:57"


def parse(tmp_path, text, need_pci=True):
    file = tmp_path / "vifs"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return vifs.from_file(str(file), "given", need_pci)


@pytest.mark.parametrize(
    "text",
    [
        # in YAML 1.1 both values are numbers to the base of 60
        f"- pci: 0000:03:00.1\n  mac: {MAC}\n",
        f"- {{pci: 0000:03:00.1, mac: {MAC}}}",
        f"[{{pci: '0000:03:00.1', mac: \"{MAC}\", physical_network: ~}}]",
        f"---\n- pci: 03:00.1\n  guid: {GUID}\n  physical_network:\n",
        "- pci: 03:00.1\n  guid: 5254000000123456\n",
        json.dumps([{"pci": "0000:03:00.1", "mac": MAC}]),
        json.dumps([{"pci": "0000:03:00.1", "mac": MAC}], indent="\t"),
        json.dumps([{"pci": "03:00.1", "guid": GUID, "mac": None}]),
        b"\xef\xbb\xbf"
        + json.dumps([{"pci": "03:00.1", "mac": MAC}]).encode(),
    ],
)
def test_every_form_of_one_vif(tmp_path, text):
    (vif,) = parse(tmp_path, text)
    assert vif.pci == "0000:03:00.1"
    assert str(vif.guid) == GUID
    assert vif.physical_network == "given"


def test_words_that_yaml_has_other_ideas_about(tmp_path):
    (vif,) = parse(
        tmp_path, f"- {{pci: 03:00.1, mac: {MAC}, physical_network: no}}"
    )
    assert vif.physical_network == "no"
    (vif,) = parse(
        tmp_path, f"- {{pci: 03:00.1, mac: {MAC}, physical_network: 'null'}}"
    )
    assert vif.physical_network == "null"


def test_unplug_needs_no_pci(tmp_path):
    (vif,) = parse(tmp_path, f"- mac: {MAC}", need_pci=False)
    assert vif.pci is None
    with pytest.raises(InvalidInput, match="entry 1 pci: has no pci"):
        parse(tmp_path, f"- mac: {MAC}")


def test_an_empty_list_is_a_list(tmp_path):
    assert parse(tmp_path, "[]") == []


def listing(*vfs):
    return json.dumps({"pfs": [{"ports": [], "vfs": vfs}]})


GOOD = f"- pci: 03:00.1\n  mac: {MAC}\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is no list"),
        ("pci: 03:00.1", "is no list"),
        ("{}", "is no list"),
        ("42", "is no list"),
        (GOOD + "- 03:00.2=x", "entry 2: is no mapping"),
        ('[{"pci": "03:00.1"}, 5]', "entry 1: has neither mac nor guid"),
        (f'[{{"pci": "03:00.1", "mac": "{MAC}"}}, 5]', "entry 2: is no map"),
        (GOOD + "- pci: 03:00.2\n", "entry 2: has neither mac nor guid"),
        (
            GOOD + "- {pci: 03:00.2, mac: ~}",
            "entry 2: has neither mac nor guid",
        ),
        (GOOD + f"  guid: {GUID}\n", "entry 1: has both mac and guid"),
        (GOOD + "  vlan: 7\n", "entry 1: 'vlan' is no key"),
        (GOOD + "  mac: x\n", "entry 1 mac: mac is there twice"),
        ('[{"mac": "x", "mac": "y"}]', "mac is there twice"),
        (GOOD + "- pci: [a]\n", "entry 2 pci: is no text"),
        (GOOD + "- ? [a]\n  : b\n", "entry 2: a list or a mapping is no key"),
        ('[{"pci": 3, "mac": "x"}]', "entry 1 pci: is no text"),
        (GOOD + "- {pci: nonsense, mac: a}", "'nonsense' is not a PCI"),
        (GOOD + f"- {{pci: 03:00.8, mac: '{MAC}'}}", "entry 2 pci"),
        (GOOD + "- {pci: 03:00.2, mac: 1:2}", "entry 2 mac: '1:2' is"),
        (GOOD + "- {pci: 03:00.2, mac: ''}", "entry 2 mac"),
        (GOOD + "- {pci: 03:00.2, guid: 002fffff8118}", "MAC address and not"),
        (GOOD + f"- {{pci: 03:00.2, guid: '{MAC}'}}", "MAC address and not"),
        (GOOD + f"- {{pci: 03:00.2, mac: '{GUID}'}}", "a GUID and not a MAC"),
        (GOOD + "- {pci: 03:00.2, mac: '00:00:00:00:00:00'}", "is zero"),
        (GOOD + "---\n" + GOOD, "line 3 file: has several documents"),
        (GOOD + "\n- {pci: x, mac: y}",
         "line 4, column 3, entry 2 pci: 'x' is not"),
        ('[\n{"pci": "03:00.1",\n"mac": "' + MAC + '"},\n\n{"mac": 5}]',
         "line 5, column 1, entry 2 mac: is no text"),
        (GOOD + "- \1", "line 3, column 3 file: is neither YAML nor JSON"),
        ('{"pfs": 5}', "is no list"),
        (listing(5), "is no list"),
        (listing({"pci": "03:00.1", "port_guid": "x"}),
         "VF 03:00.1 guid: 'x' is not a GUID"),
        (listing({"port_guid": GUID}), "has no pci"),
        (GOOD + "- {pci", "line 4, column 1 file: is neither YAML nor JSON"),
        ("- a\n\t- b", "line 2, column 1 file: is neither YAML nor JSON"),
        ("\0", "is neither YAML nor JSON"),
        (b"\xff\xfe", "is not UTF-8 at byte 0"),
        (GOOD * 40000, "has more than 1 MiB"),
        ("[" * 500_000, "is no list"),
        ("- " * 500_000, "entry 1: is no mapping"),
        ("- {pci: " + "{a: " * 200_000, "entry 1 pci: is no text"),
        ("&a [*a]", "entry 1: is no mapping"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_entry(tmp_path, text, told):
    with pytest.raises(InvalidInput) as caught:
        parse(tmp_path, text)
    assert told in str(caught.value)
    assert str(tmp_path / "vifs") in str(caught.value)


BAD = (
    "line 3, column 3, entry 2: 'x' is not a PCI address",
    "line 4, column 3, entry 3: is no mapping",
    "line 5, column 3, entry 4: is no text",
    "line 6, column 3, entry 5: a list or a mapping is no key",
    "line 8, column 3, entry 7: has neither mac nor guid",
)


def test_all_that_is_wrong_is_said_at_once(host, run, tmp_path):
    file = tmp_path / "vifs"
    file.write_text(
        f"- pci: 03:00.1\n  mac: {MAC}\n"
        f"- {{pci: x, mac: '{MAC}'}}\n- [a, {{b: c}}]\n"
        "- {pci: 03:00.2, mac: {a: [b]}}\n- {[pci]: 03:00.3}\n"
        f"- {{pci: 03:00.4, mac: '{MAC}'}}\n- pci: 03:00.5\n"
    )
    for command in ("plug", "unplug"):
        done = run(command, "--file", str(file))
        assert done.code == 2
        found = [
            line
            for line in done.err.splitlines()
            if line.startswith("ibhostdev: ")
        ]
        assert len(found) == len(BAD)
        for line, told in zip(found, BAD, strict=True):
            assert line.startswith(f"ibhostdev: {file}, {told}")
    answer = run("plug", "--json", "--file", str(file)).json
    assert "(and 4 more)" in answer["error"]["message"]
    assert [one["attribute"] for one in answer["errors"]] == [
        "pci", None, "mac", None, None,
    ]  # fmt: skip
    assert answer["errors"][1]["message"] == "is no mapping"
    # What breaks off the file is told behind what was before it.
    file.write_text(f"- {{mac: {MAC}}}\n- {{pci: x}}\n- {{")
    done = run("plug", "--file", str(file))
    assert done.err.count("ibhostdev: ") == 3
    assert "is neither YAML nor JSON" in done.err


def test_all_that_is_wrong_in_json(tmp_path):
    entries = [{"pci": "x", "mac": MAC}, 5, {"pci": "03:00.1"}]
    with pytest.raises(BadEntries) as caught:
        parse(tmp_path, json.dumps(entries, indent="\t"))
    places = [str(one.device).partition(", ")[2] for one in causes(caught)]
    assert places == [
        "line 2, column 2, entry 1",
        "line 6, column 2, entry 2",
        "line 7, column 2, entry 3",
    ]
    listed = [
        {"pci": "03:00.1", "port_guid": "x"},
        {"pci": "03:00.2", "node_guid": GUID, "port_guid": ONES},
    ]
    with pytest.raises(BadEntries, match="1 more") as caught:
        parse(tmp_path, listing(*listed))
    assert [str(one.device)[-10:] for one in causes(caught)] == [
        "VF 03:00.1", "VF 03:00.2",
    ]  # fmt: skip


def causes(caught):
    return caught.value.errors


def test_not_more_is_said_than_anybody_reads(host, run, tmp_path):
    file = tmp_path / "vifs"
    file.write_text("- {pci: x}\n" * 1000)
    done = run("plug", "--file", str(file))
    assert done.code == 2
    assert done.err.count("has neither") + done.err.count("is not a PCI") == 20
    assert done.err.splitlines()[-1] == "ibhostdev: and 980 more"
    answer = run("plug", "--json", "--file", str(file)).json
    assert len(answer["errors"]) == 20


def test_all_arguments_that_are_wrong_are_told(host, run):
    done = run("plug", f"{host.vf(0, 0)}={MAC}", "x", "03:00.1=y")
    assert done.code == 2
    assert "'x' is not of the form" in done.err
    assert "'y' is neither" in done.err


def test_an_error_of_many_is_kept_as_a_whole(tmp_path):
    with pytest.raises(BadEntries) as caught:
        parse(tmp_path, "- a\n- b\n")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert [str(one) for one in copy.errors] == [
        str(one) for one in caught.value.errors
    ]


@pytest.mark.parametrize("name", ["absent.yaml", "."])
def test_a_file_that_cannot_be_read(host, run, tmp_path, name):
    done = run("plug", "--file", str(tmp_path / name))
    assert done.code == 2
    assert str(tmp_path / name) in done.err
    assert "errno" in done.err


def test_a_file_and_standard_input(host, run, shell, tmp_path):
    text = "".join(
        f"- {{pci: {host.vf(pf, n)}, mac: fa:16:3e:00:0{pf}:0{n}}}\n"
        for pf in (0, 1)
        for n in range(4)
    )
    file = tmp_path / "vifs.yaml"
    file.write_text(text)
    done = run("plug", "--file", str(file))
    assert done.code == 0
    assert done.out.splitlines()[-1] == "8 VIFs: 8 plugged"
    done = shell("unplug", "--file", "-", "--json", text=text)
    assert done.code == 0
    assert [one["changed"] for one in done.json["results"]] == [True] * 8


def test_a_gid_in_place_of_a_guid_is_told(host, run, tmp_path):
    gid = "fe80:0000:0000:0000:0002:c903:00a0:0091"
    file = tmp_path / "vifs.yaml"
    file.write_text(f"- {{pci: {host.vf(0, 0)}, guid: '{gid}'}}\n")
    for given in (["--file", str(file)], [f"{host.vf(0, 0)}={gid}"]):
        done = run("plug", "--dry-run", *given)
        assert done.code == 0
        assert f"warning: {gid} is taken for its last half" in done.err
        assert "00:02:c9:03:00:a0:00:91" in done.out


def test_what_list_writes_is_plugged_again(host, run, tmp_path):
    words = [f"{host.vf(pf, 1)}=fa:16:3e:00:00:0{pf}" for pf in (0, 1)]
    assert run("plug", *words).code == 0
    file = tmp_path / "before.json"
    file.write_text(run("list", "--json").out)
    assert run("unplug", "--file", str(file)).code == 0
    assert host.seen(0)[1].port == ONES
    done = run("plug", "--file", str(file))
    assert done.code == 0
    assert done.out.splitlines()[-1] == "2 VIFs: 2 plugged"
    assert run("list", "--json").out == file.read_text()


def test_a_listing_has_the_networks(bed, run, tmp_path):
    """The same GUID on two networks is no conflict."""
    bed.build(Hca(vfs=1), Hca(vfs=1))
    mapping = ["--physical-device-mappings", "left:ib0,right:ib1"]
    for pf in (0, 1):
        bed.seed(pf, 0, GUID, GUID, "follow")
    file = tmp_path / "before.json"
    file.write_text(run(*mapping, "list", "--json").out)
    left, right = vifs.from_file(str(file), None, need_pci=True)
    assert (left.physical_network, left.pci) == ("left", bed.vf(0, 0))
    assert (right.physical_network, right.pci) == ("right", bed.vf(1, 0))


def test_two_guids_are_read_from_a_listing(bed, run, tmp_path):
    bed.build(Hca(vfs=2))
    bed.seed(0, 1, node=GUID, port=OTHER, policy="follow")
    before = bed.seen(0)[1]
    file = tmp_path / "before.json"
    file.write_text(run("list", "--json").out)
    unplugged = run("unplug", "--json", "--file", str(file)).json
    assert [one["guid"] for one in unplugged["results"]] == [OTHER]
    assert bed.seen(0)[1].policy == "down"
    assert run("plug", "--file", str(file)).code == 0
    assert bed.seen(0)[1] == before


@pytest.mark.parametrize(
    ("node", "port"), [(GUID, ONES), (ONES, GUID)], ids=["node", "port"]
)
def test_half_an_identity_in_a_listing_is_told(bed, run, tmp_path, node, port):
    bed.build(Hca(vfs=2))
    bed.seed(0, 1, node=node, port=port, policy="follow")
    file = tmp_path / "before.json"
    file.write_text(run("list", "--json").out)
    done = run("plug", "--file", str(file))
    assert done.code == 2
    assert f"VF {bed.vf(0, 1)}: has node GUID {node}" in done.err


def test_two_guids_are_read_from_a_file(tmp_path):
    file = tmp_path / "vifs.yaml"
    entry = f"{{pci: 3b:00.2, node_guid: {GUID}, port_guid: '{OTHER}'}}"
    file.write_text(f"- {entry}\n- {{pci: 3b:00.3, port_guid: {GUID}}}\n")
    with pytest.raises(InvalidInput, match="one of node_guid") as caught:
        vifs.from_file(str(file), None, need_pci=True)
    assert str(caught.value.device) == f"{file}, line 2, column 3, entry 2"
    file.write_text(f"- {entry}\n")
    (vif,) = vifs.from_file(str(file), "red", need_pci=True)
    assert (str(vif.guid), str(vif.node_guid)) == (OTHER, GUID)
    assert vif.physical_network == "red"


def test_an_identity_on_a_second_port_is_not_dropped(bed, run, tmp_path):
    bed.build(Hca("mlx4", vfs=1, ports=2))
    network = ["--physical-device-mappings", "one:ib0,two:ib1"]
    word = f"{bed.vf(0, 0)}={MAC}"
    plug = ["plug", "--physical-network", "two", word]
    assert run(*network, *plug).code == 0
    file = tmp_path / "before.json"
    file.write_text(run("list", "--json").out)
    done = run("plug", "--file", str(file))
    assert done.code == 2
    assert "has an identity on a second port" in done.err


def test_the_network_of_those_that_name_none(bed, run, tmp_path):
    bed.build(Hca(vfs=2), Hca(vfs=2))
    file = tmp_path / "vifs.yaml"
    file.write_text(
        f"- {{pci: {bed.vf(0, 0)}, mac: {MAC}}}\n"
        f"- pci: {bed.vf(1, 0)}\n"
        "  mac: 52:54:00:12:34:57\n"
        "  physical_network: right\n"
    )
    mapping = ["--physical-device-mappings", "left:ib0,right:ib1"]
    plug = [*mapping, "plug", "--file", str(file), "--physical-network"]
    assert run(*plug, "right").code == 2
    assert run(*plug, "left").code == 0


def test_a_p_key_is_told_and_not_written(host, run, tmp_path):
    file = tmp_path / "vifs.yaml"
    file.write_text(
        f"- {{pci: '{host.vf(0, 0)}', mac: '{MAC}', pkey: 0x8001}}\n"
        f"- {{pci: '{host.vf(0, 1)}', mac: 'fa:16:3e:00:00:09'}}\n"
    )
    done = run("plug", "--file", str(file), "--json")
    assert done.code == 0
    assert [one["pkey"] for one in done.json["results"]] == ["0x8001", None]
    # The same file says it to the subnet manager.
    found = run("fabric", "export", "--file", str(file)).json["members"]
    assert [one["pkey"] for one in found] == ["0x8001", None]


@pytest.mark.parametrize("pkey", ["0", "0x8000", "x", "1:some", "'0x8001 '"])
def test_a_p_key_that_is_none(host, run, tmp_path, pkey):
    file = tmp_path / "vifs.yaml"
    file.write_text(
        f"- {{pci: '{host.vf(0, 0)}', mac: '{MAC}', pkey: {pkey}}}\n"
    )
    done = run("plug", "--file", str(file))
    if pkey == "'0x8001 '":  # blanks around it are no matter
        assert done.code == 0
        return
    assert done.code == 2
    assert "entry 1" in done.err
    assert host.seen(0)[0].policy == "down"


@pytest.mark.parametrize("command", ["attach", "detach"])
def test_an_entry_without_a_domain(tmp_path, capsys, command):
    path = tmp_path / "guests.yaml"
    path.write_text(
        f"- {{domain: web1, pci: '03:00.1', mac: '{MAC}'}}\n"
        f"- {{pci: '03:00.2', mac: '{MAC[:-1]}9'}}\n"
    )
    assert main([command, "--file", str(path)]) == 2
    assert capsys.readouterr().err.startswith(
        f"ibhostdev: {path}, line 2, column 3, entry 2: names no domain\n"
    )
