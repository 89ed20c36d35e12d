# SPDX-License-Identifier: Apache-2.0
"""save, restore and the sweep: what they print and leave behind."""

import pytest

from tests.flavours import ONES, guid
from tests.testbed import Hca


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
    done = run("restore", "--file", wanted)
    assert done.code == 0
    assert done.out.endswith("2 VIFs: 2 with nothing to write\n")
    bed.seed(0, 1, ONES, ONES, "down")
    done = run("restore", "--file", wanted, "--dry-run")
    assert done.out.endswith("1 would be restored, 1 with nothing to write\n")
    assert bed.seen(0)[1].port == ONES
    done = run("restore", "--file", wanted, "--json")
    assert [one["changed"] for one in done.json["results"]] == [False, True]
    assert bed.seen(0)[1].port == guid(2)
    assert bed.seen(0)[1].policy == "follow"


def test_vfs_that_are_not_there_are_told_of(bed, run, wanted):
    bed.numvfs(0, 0)
    bed.numvfs(0, 1)
    bed.seed(0, 0, ONES, ONES)
    done = run("restore", "--file", wanted)
    assert done.code == 0
    assert "has 1 VFs, and is to have 3: see 'ibhostdev apply'" in done.err
    assert bed.seen(0)[0].port == guid(1)


def test_without_a_file_nothing_is_wanted(bed, run, wanted):
    done = run("restore")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("nothing to restore: neither host.yaml nor")


def test_the_sweep(bed, run, wanted):
    done = run("doctor", "--sweep", "--file", wanted)
    assert (done.code, done.err) == (0, "")
    assert "no VF has an identity that nobody claims" in done.out
    bed.seed(0, 2, guid(7), guid(7), "follow")
    done = run("doctor", "--sweep", "--file", wanted)
    assert done.code == 1
    assert bed.vf(0, 2) in done.out
    assert "fa:16:3e:00:00:07" in done.out
    assert bed.vf(0, 0) not in done.out
    assert bed.seen(0)[2].port == guid(7)
    done = run("doctor", "--sweep", "--fix", "--json", "--file", wanted)
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
    assert run("doctor", "--sweep", "--file", wanted).code == 0


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
