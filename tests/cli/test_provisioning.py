# SPDX-License-Identifier: Apache-2.0
"""save, restore and the sweep: what they print and leave behind."""

import pytest

from ibhostdev.cli import options
from ibhostdev.cli.options import Settings
from ibhostdev.cli.partitions import known
from ibhostdev.errors import InvalidInput
from ibhostdev.guest.xml import hostdev
from ibhostdev.pkey import Partitions, PKey
from tests.flavours import ONES, ZERO, guid, mac
from tests.testbed import Hca, Seen


@pytest.fixture
def file(tmp_path):
    return tmp_path / "host.yaml"


def saved(run, shell):
    """What save writes; apply of it changes nothing."""
    done = run("save")
    assert (done.code, done.err) == (0, "")
    text = done.out
    again = shell("apply", "--file", "-", "--json", text=text)
    assert again.code == 0
    assert again.json["changed"] is False
    return text.splitlines()


def test_a_host_that_is_empty(bed, run, shell):
    bed.build(Hca(vfs=0, total=4))
    assert saved(run, shell)[1:] == [f"- pf: '{bed.pfs[0]}'  # mlx5_0, ib0",
                                     "  vfs: 0"]  # fmt: skip


@pytest.mark.parametrize(
    "wish",
    [
        "vfs: 3\n  guids: derived",
        f"vfs: 3\n  guids: {{from: '{guid(1)}', to: '{guid(3)}'}}",
        f"vfs: 3\n  guids:\n  - '{guid(1)}'\n  - idle\n  - '{guid(9)}'",
        "vfs: 2\n  autoprobe: no\n  driver: vfio-pci",
        "vfs: 2\n  driver: none",
        f"vfs: 2\n  policy: up\n  guids:\n  - '{guid(1)}'\n  - idle",
        f"vfs: 1\n  guids:\n  - {{node_guid: '{guid(1)}', "
        f"port_guid: '{guid(2)}'}}",
        f"vfs: 2\n  guids:\n  - '{guid(1)}'\n"
        f"  - {{guid: '{guid(2)}', policy: down}}",
    ],
)
def test_what_was_applied_is_saved(bed, run, shell, wish):
    bed.build(Hca(vfs=0, total=4))
    text = f"- pf: '{bed.pfs[0]}'  # mlx5_0, ib0\n  {wish}\n"
    assert shell("apply", "--file", "-", text=text).code == 0
    assert saved(run, shell)[1:] == text.splitlines()


# -- partitions -------------------------------------------------------------


@pytest.fixture
def members(bed, run, file):
    """Four VFs, three in a partition, of which one is in another than those
    of its PF."""
    bed.build(Hca(vfs=0, total=4), Hca(vfs=0, total=4))
    file.write_text(
        f"- {{pf: '{bed.pfs[0]}', vfs: 2, pkey: 0x8001, guids: "
        f"['{guid(1)}', {{guid: '{guid(2)}', pkey: '2:limited'}}]}}\n"
        f"- {{pf: '{bed.pfs[1]}', vfs: 2, guids: "
        f"[{{guid: '{guid(3)}', pkey: '3:both'}}, '{guid(4)}']}}\n"
    )
    return str(file)


PKEYS = ["0x8001", "0x0002", "0x0003:both", None]


def pkeys_of(listing):
    return [vf["pkey"] for pf in listing["pfs"] for vf in pf["vfs"]]


def test_partitions_go_with_the_identities(bed, run, members):
    done = run("apply", "--file", members, "--json")
    assert (done.code, done.err) == (0, "")
    assert [one["pkey"] for one in done.json["results"]] == PKEYS
    done = run("restore", "--host-yaml", members, "--json")
    assert [one["pkey"] for one in done.json["results"]] == PKEYS
    done = run("fabric", "export", "--host-yaml", members)
    assert [one["pkey"] for one in done.json["members"]] == PKEYS
    done = run("fabric", "export")
    assert [one["pkey"] for one in done.json["members"]] == [None] * 4
    assert pkeys_of(run("list", "--json").json) == [None] * 4
    done = run("list", "--host-yaml", members)
    rows = [line.split() for line in done.out.splitlines() if mac(0)[:8] in
            line]  # fmt: skip
    assert [row[-2] for row in rows] == [
        "0x8001", "0x0002", "0x0003:both", "-",
    ]  # fmt: skip
    assert "P_Key" not in run("list").out


def test_the_partition_of_a_pf_is_for_who_comes_later(bed, run, file):
    """And what is said of a VIF itself comes before it."""
    bed.build(Hca(vfs=3))
    file.write_text(f"- {{pf: '{bed.pfs[0]}', pkey: 0x8001}}\n")
    said = file.with_name("vifs.yaml")
    said.write_text(f"- {{guid: '{guid(2)}', pkey: 0x8002}}\n")
    for index in (0, 1):
        run("plug", f"{bed.vf(0, index)}={guid(index + 1)}")
    arguments = ("--host-yaml", str(file), "--file", str(said))
    done = run("fabric", "export", *arguments)
    assert [one["pkey"] for one in done.json["members"]] == [
        "0x8001", "0x8002",
    ]  # fmt: skip
    done = run("list", "--json", "--host-yaml", str(file))
    assert pkeys_of(done.json) == ["0x8001", "0x8001", None]


def test_a_listing_keeps_the_partitions(bed, run, members, tmp_path):
    run("apply", "--file", members)
    listing = run("list", "--json", "--host-yaml", members)
    assert pkeys_of(listing.json) == PKEYS
    listed = tmp_path / "listed.json"
    listed.write_text(listing.out)
    done = run("plug", "--file", str(listed), "--json")
    assert (done.code, done.err) == (0, "")
    assert [one["pkey"] for one in done.json["results"]] == PKEYS
    done = run("apply", "--file", str(listed), "--json")
    assert done.json["changed"] is False
    assert [one["pkey"] for one in done.json["results"]] == PKEYS
    listed.write_text(listing.out.replace("0x8001", "0x8000"))
    done = run("apply", "--file", str(listed))
    assert done.code == 2
    assert "'0x8000' is reserved" in done.err
    assert ", line " in done.err
    done = run("plug", "--file", str(listed))
    assert done.code == 2
    assert bed.vf(0, 0) in done.err


def test_partitions_are_saved(bed, run, members, file):
    run("apply", "--file", members)
    done = run("save", "--host-yaml", members)
    assert (done.code, done.err) == (0, "")
    _, first, second = done.out.split("- pf: ")
    assert first.splitlines()[1:-1] == [
        "  vfs: 2",
        "  pkey: 0x8001",
        "  guids:",
        f"  - '{guid(1)}'",
        f"  - {{guid: '{guid(2)}', pkey: 0x0002}}",
    ]
    assert second.splitlines()[1:] == [
        "  vfs: 2",
        "  guids:",
        f"  - {{guid: '{guid(3)}', pkey: '0x0003:both'}}",
        f"  - '{guid(4)}'",
    ]
    file.write_text(done.out)
    done = run("apply", "--file", members, "--json")
    assert done.json["changed"] is False
    assert [one["pkey"] for one in done.json["results"]] == PKEYS
    assert "pkey" not in run("save").out


def test_one_partition_for_all_of_a_pf(bed, run, file):
    bed.build(Hca(vfs=0, total=4))
    file.write_text(
        f"- {{pf: '{bed.pfs[0]}', vfs: 3, pkey: 5, guids: derived}}\n"
    )
    run("apply", "--file", str(file))
    done = run("save", "--host-yaml", str(file))
    assert done.out.splitlines()[2:] == [
        "  vfs: 3",
        "  pkey: 0x0005",
        "  guids: derived",
    ]


def test_a_host_yaml_that_is_none(bed, run, file):
    """Whoever has named it is told; guests do not lose their partition."""
    bed.build(Hca(vfs=1))
    file.write_text("- {pf: ib9}\n")
    for command in (["list"], ["save"], ["fabric", "export"]):
        done = run(*command, "--host-yaml", str(file))
        assert (done.code, done.out) == (2, "")
        assert "ib9 is no InfiniBand PF here" in done.err
        file.write_text("- {pf: ib0, pkey: 0}\n")
        done = run(*command, "--host-yaml", str(file))
        assert done.code == 2
        assert "line 1, column 19: '0' is reserved" in done.err
        file.write_text("- {pf: ib9}\n")


def test_the_hosts_own_host_yaml(bed, file, monkeypatch, capsys):
    """What is shown is shown without it; of an export it is a part."""
    bed.build(Hca(vfs=1))
    host, settings = bed.connect(), Settings()
    monkeypatch.setattr(options, "HOST_YAML", str(file))
    assert known(settings, host, None, needed=True) == Partitions()
    file.write_text("- {pf: ib0, pkey: 0x8001}\n")
    assert known(settings, host, None).pfs == {bed.pfs[0]: PKey(1)}
    file.write_text("- {pf: ib0, pkey: x}\n")
    assert known(settings, host, None) == Partitions()
    assert "'x' is not a P_Key" in capsys.readouterr().err
    with pytest.raises(InvalidInput):
        known(settings, host, None, needed=True)


# -- save to a file, restore, the sweep -------------------------------------


def test_a_file_that_is_saved_to(bed, run, file):
    bed.build(Hca(vfs=2))
    assert run("save", "--file", str(file)).code == 0
    assert file.read_text() == run("save").out
    done = run("save", "--file", str(file))
    assert done.code == 2
    assert "is there already" in done.err
    assert [one.name for one in file.parent.iterdir()] == ["host.yaml"]
    done = run("save", "--file", str(file.parent / "none/host.yaml"))
    assert done.code == 1
    assert "a folder that is there" in done.err


@pytest.fixture
def wanted(bed, run, file):
    """Three VFs, two of them with an identity that the file wants."""
    bed.build(Hca(vfs=0, total=4))
    file.write_text(
        f"- {{pf: {bed.pfs[0]}, vfs: 3, guids: ['{guid(1)}', '{guid(2)}']}}"
    )
    assert run("apply", "--file", str(file)).code == 0
    return str(file)


def test_what_was_lost_is_restored(bed, run, wanted):
    done = run("restore", "--host-yaml", wanted)
    assert done.code == 0
    assert done.out.endswith("2 VIFs: 2 with nothing to write\n")
    bed.seed(0, 1, ONES, ONES, "down")
    done = run("restore", "--host-yaml", wanted, "--dry-run")
    assert done.out.endswith("1 would be restored, 1 with nothing to write\n")
    assert bed.seen(0)[1].port == ONES
    done = run("restore", "--host-yaml", wanted, "--json")
    assert [one["changed"] for one in done.json["results"]] == [False, True]
    assert bed.seen(0)[1].port == guid(2)
    assert bed.seen(0)[1].policy == "follow"


def test_what_a_guest_has_lost_is_restored(bed, run, wanted):
    """After the PF's driver was loaded anew, by netlink nothing is known."""
    bed.numvfs(0, 0)
    bed.numvfs(0, 3)
    bed.seed(0, 0, ZERO, ZERO, "follow")
    with bed.hold(bed.vf(0, 0)):
        done = run("restore", "--host-yaml", wanted)
        assert (done.code, done.err) == (0, "")
        assert bed.seen(0)[0] == Seen(guid(1), guid(1), "follow")
        bed.reset_counts()
        done = run("restore", "--host-yaml", wanted)
        assert bed.counts().modify == 0
        assert done.out.endswith("2 VIFs: 2 with nothing to write\n")


def test_what_a_domain_has_that_says_nothing_is_left_alone(bed, run, wanted):
    """Of Nova's guest nobody here knows who it is to be."""
    libvirt = pytest.importorskip("libvirt", exc_type=ImportError)
    bed.build(Hca(vfs=3))
    uri = "test:///default"
    conn = libvirt.open(uri)
    try:
        conn.createXML(
            "<domain type='test'><name>web1</name><memory>1024</memory>"
            "<os><type>hvm</type></os>"
            f"<devices>{hostdev(bed.vf(0, 0))}</devices></domain>"
        )
        with bed.hold(bed.vf(0, 0)):
            done = run("restore", "--host-yaml", wanted, "--connect", uri)
    finally:
        conn.close()
    assert done.code == 0
    assert f"{bed.vf(0, 0)} is left alone" in done.err
    assert [one.port for one in bed.seen(0)] == [ZERO, guid(2), ZERO]


def test_vfs_that_are_not_there_are_told_of(bed, run, wanted):
    bed.numvfs(0, 0)
    bed.numvfs(0, 1)
    bed.seed(0, 0, ONES, ONES)
    done = run("restore", "--host-yaml", wanted)
    assert done.code == 0
    assert "has 1 VFs, and is to have 3: see 'ibhostdev apply'" in done.err
    assert bed.seen(0)[0].port == guid(1)


def test_without_a_file_nothing_is_wanted(bed, run, wanted):
    done = run("restore")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("nothing to restore: no host.yaml was read")
    assert "--host-yaml" in done.out


def test_a_file_that_wants_nothing(bed, run, wanted):
    with open(wanted, "w") as file:
        file.write(f"- {{pf: '{bed.pfs[0]}'}}\n")
    done = run("restore", "--host-yaml", wanted)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("nothing to restore: neither host.yaml nor")


def test_the_sweep_without_a_file_says_so(bed, run, wanted):
    """Identities that its host.yaml claims are not to be taken in error."""
    done = run("doctor", "--sweep")
    assert (done.code, "no host.yaml was read" in done.err) == (1, True)
    done = run("doctor", "--sweep", "--json")
    assert len(done.json["stale"]) == 2
    assert "no host.yaml was read" in done.err


def test_the_sweep(bed, run, wanted):
    done = run("doctor", "--sweep", "--host-yaml", wanted)
    assert (done.code, done.err) == (0, "")
    assert "no VF has an identity that nobody claims" in done.out
    bed.seed(0, 2, guid(7), guid(7), "follow")
    done = run("doctor", "--sweep", "--host-yaml", wanted)
    assert done.code == 1
    assert bed.vf(0, 2) in done.out
    assert "fa:16:3e:00:00:07" in done.out
    assert bed.vf(0, 0) not in done.out
    assert bed.seen(0)[2].port == guid(7)
    done = run("doctor", "--sweep", "--fix", "--json", "--host-yaml", wanted)
    assert done.code == 0
    assert done.json["stale"] == [
        {
            "pci": bed.vf(0, 2),
            "guid": guid(7),
            "claimed_by": None,
            "fixed": True,
            "error": None,
        }
    ]
    assert [one.port for one in bed.seen(0)] == [guid(1), guid(2), ONES]
    assert run("doctor", "--sweep", "--host-yaml", wanted).code == 0


def test_the_sweep_leaves_guests_alone(bed, run, wanted):
    with bed.hold(bed.vf(0, 0)):
        done = run("doctor", "--sweep", "--fix")
        assert done.code == 0
        assert [one.port for one in bed.seen(0)][:2] == [guid(1), ONES]


def test_one_guid_on_two_vfs(bed, run, wanted):
    for index in range(3):
        bed.seed(0, index, guid(7), guid(7), "follow")
    assert run("doctor", "--sweep", "--fix").code == 0
    assert [one.port for one in bed.seen(0)] == [ONES] * 3


def test_fix_alone_is_a_slip(bed, run, wanted):
    done = run("doctor", "--fix")
    assert done.code == 2
    assert "--sweep" in done.err
