# SPDX-License-Identifier: Apache-2.0
"""``ibhostdev apply``: what it prints and how it ends."""

import errno
import json

import pytest

from ibhostdev import Vif
from tests.flavours import guid
from tests.testbed import Hca


@pytest.fixture
def empty(bed):
    bed.build(Hca(vfs=0, total=8), Hca(vfs=0, total=8))
    return bed


@pytest.fixture
def file(empty, tmp_path):
    path = tmp_path / "host.yaml"
    path.write_text(
        f"- {{pf: {empty.pfs[0]}, vfs: 2, driver: mlx5_core, "
        f"guids: [{guid(1)}]}}\n- {{pf: ib1, vfs: 1, guids: derived}}\n"
    )
    return str(path)


def test_for_people(empty, run, file):
    done = run("apply", "--file", file, "--dry-run")
    assert (done.code, done.err) == (0, "")
    assert f"{empty.pfs[0]}  0 → 2 VFs" in done.out
    assert "to be made" in done.out
    assert "2 PFs: 2 identities, 3 drivers would be written" in done.out
    assert empty.seen(0) == []
    done = run("apply", "--file", file)
    assert (done.code, done.err) == (0, "")
    row = next(line for line in done.out.splitlines() if "fa:16" in line)
    assert row.split() == [
        "0", empty.vf(0, 0), "not", "known", "fa:16:3e:00:00:01",
        "-", "→", "mlx5_core", "plugged",
    ]  # fmt: skip
    assert "note: 0000:3b:00.0 has 2 VFs, and the last 1" in done.out
    assert done.out.endswith("2 PFs: 2 identities, 3 drivers written\n")
    done = run("apply", "--file", file)
    assert done.code == 0
    assert "nothing was written" in done.out


def test_guids_that_no_vf_gets_are_told_of(empty, run, tmp_path):
    path = tmp_path / "host.yaml"

    def notes(guids):
        path.write_text(f"- {{pf: ib0, vfs: 2, guids: {guids}}}\n")
        done = run("apply", "--file", str(path), "--dry-run", "--json")
        assert done.code == 0
        return done.json["notes"]

    (note,) = notes(f"[{guid(1)}, {guid(2)}, idle, {guid(3)}, {guid(4)}]")
    assert note.endswith("left over: 2")
    assert notes(f"[{guid(1)}, {guid(2)}, idle]") == []
    assert notes(f"{{from: '{guid(1)}', to: '{guid(9)}'}}") == []


def test_each_row_says_what_is_known_and_what_becomes_of_it(
    empty, run, tmp_path
):
    path = tmp_path / "host.yaml"

    def rows(driver, guids, *options):
        path.write_text(
            f"- {{pf: {empty.pfs[0]}, vfs: 3, driver: {driver}, "
            f"guids: [{', '.join(guids)}]}}\n"
        )
        done = run("apply", "--file", str(path), *options)
        assert done.code == 0
        return [
            [cell for cell in line.split("  ") if cell.strip()]
            for line in done.out.splitlines()
            if line.startswith("  ") and line[2:3].isdigit()
        ]

    def ends(rows):
        return [
            (row[2].strip(), row[3].strip(), row[-1].strip()) for row in rows
        ]

    one, two = "fa:16:3e:00:00:01", "fa:16:3e:00:00:02"
    given = [f"'{one}'", f"'{two}'", "idle"]
    made = "would be made"
    assert ends(rows("none", given, "--dry-run")) == [
        ("-", one, made), ("-", two, made), ("-", "idle", made),
    ]  # fmt: skip
    # That of the third was looked at, and nothing had to be done.
    assert ends(rows("mlx5_core", given)) == [
        ("not known", one, "plugged"),
        ("not known", two, "plugged"),
        ("not known", "as before", "bound"),
    ]
    given = ["idle", f"'{one}'", "idle"]
    empty.connect().unplug([Vif.parse(None, two)])
    for word, options in (("would be ", ["--dry-run"]), ("", [])):
        assert ends(rows("vfio-pci", given, *options)) == [
            ("not asked", "as before", f"{word}bound"),
            ("idle", one, f"{word}plugged"),
            ("not asked", "as before", f"{word}bound"),
        ]
    assert [end[2] for end in ends(rows("none", ["idle"] * 3))] == [
        "unbound"
    ] * 3


def test_a_file_that_is_not_there(empty, run, tmp_path):
    for command in ("apply", "restore"):
        done = run(command, "--host-yaml", str(tmp_path / "host.yaml"))
        assert done.code == 2
        assert "ibhostdev save --file" in " ".join(done.err.split())
    (tmp_path / "host.yaml").write_text(
        f"- pf: {empty.pfs[0]}\n  guids: {{map: nowhere}}\n"
    )
    done = run("apply", "--file", str(tmp_path / "host.yaml"))
    assert done.code == 2
    assert "ibhostdev save" not in done.err


def test_all_that_cannot_be_here_is_told(empty, run, tmp_path):
    path = tmp_path / "host.yaml"
    path.write_text(
        f"- {{pf: {empty.pfs[0]}, vfs: 9}}\n- pf: ib9\n- pf: ib1\n"
        f"- pf: {empty.pfs[1]}\n"
    )
    done = run("apply", "--file", str(path))
    assert done.code == 2
    assert "line 1, column 8: 0000:3b:00.0 can have 8 VFs" in done.err
    assert "line 2, column 7: ib9 is no InfiniBand PF here" in done.err
    assert f"line 4, column 7: {empty.pfs[1]} is the PF" in done.err
    assert empty.seen(0) == []


def test_for_programs(empty, run, file):
    done = run("apply", "--file", file, "--json")
    assert done.code == 0
    assert (done.json["ok"], done.json["changed"]) == (True, True)
    assert [pf["vfs"] for pf in done.json["pfs"]] == [2, 1]
    first = done.json["results"][0]
    assert (first["pci"], first["guid"]) == (empty.vf(0, 0), guid(1))
    assert first["driver"] == "mlx5_core"
    assert first["after"]["port_guid"] == guid(1)
    assert run("apply", "--file", file, "--json").json["changed"] is False


def test_one_pf_of_the_file(empty, run, file):
    """As udev asks for it: whichever else is there or not."""
    with open(file, "a") as more:
        more.write("- {pf: ib9, vfs: 3}\n")
    assert run("apply", "--file", file).code == 2
    assert run("apply", "--file", file, "--pf", empty.pfs[1]).code == 0
    assert [len(empty.seen(pf)) for pf in (0, 1)] == [0, 1]
    done = run("apply", "--file", file, "--pf", "ib7")
    assert done.code == 0
    assert done.out == "nothing to do: the file has no PF 'ib7'\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- {pf: ib0, vfs: 2}\n- {pf: ib1, vfs: x}", "line 2, column 18"),
        ("- {pf: ib0, vfs: 2}\n- {pf: ib5}", "line 2, column 8"),
        (
            "- {pf: ib0, vfs: 2}\n"
            "- {pf: ib1, physical_network: storage, guids: derived}",
            "line 2, column 8",
        ),
    ],
)
def test_a_bad_file_touches_nothing(empty, run, tmp_path, text, told):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    done = run("apply", "--file", str(path))
    assert done.code == 2
    assert told in done.err
    assert empty.seen(0) == []
    failed = run("apply", "--file", str(path), "--json")
    assert told in failed.json["error"]["device"]


def test_of_another_network_than_the_pf_s(empty, run, tmp_path):
    """A plug would refuse it only after VFs were made."""
    path = tmp_path / "host.yaml"
    path.write_text("- {pf: ib0, vfs: 2, physical_network: storage}")
    done = run("apply", "--file", str(path))
    assert done.code == 2
    assert "is not on physical network 'storage'" in done.err
    assert empty.seen(0) == []
    mapping = "--physical-device-mappings=storage:ib0"
    assert run("apply", "--file", str(path), mapping).code == 0
    assert len(empty.seen(0)) == 2


def test_nothing_but_the_number_of_vfs(empty, run, shell, file):
    assert run("apply", "--file", file).code == 0
    text = "- {pf: ib1, vfs: 0}"
    done = shell("apply", "--file", "-", "--dry-run", text=text)
    assert done.out.endswith("\n1 PF: would be changed\n")
    done = shell("apply", "--file", "-", text=text)
    assert done.out.endswith("\n1 PF: changed\n")


def test_what_failed_is_counted_apart(empty, run, shell):
    text = "- {pf: ib1, vfs: 1, driver: mlx5_core}"
    assert shell("apply", "--file", "-", text=text).code == 0
    empty.fail(empty.vf(1, 0), errno.EIO)
    text = f"- {{pf: ib1, guids: [{guid(1)}]}}"
    done = shell("apply", "--file", "-", text=text)
    assert done.code == 1
    assert done.out.endswith("\n1 PF: nothing written, 1 failed\n")


def test_by_an_altname(empty, run, tmp_path):
    (name,) = empty.host.machine.pfs[1].netdevs[0].altnames
    path = tmp_path / "host.yaml"
    path.write_text(f"- {{pf: {name}, vfs: 2}}")
    assert run("apply", "--file", str(path), "--pf", name).code == 0
    assert [len(empty.seen(pf)) for pf in (0, 1)] == [0, 2]


def test_a_gid_in_place_of_a_guid_is_told(empty, run, tmp_path):
    gids = [f"fe80::202:c9ff:fe00:{n}" for n in (1, 2)]
    path = tmp_path / "host.yaml"
    path.write_text(
        f"- {{pf: '{empty.pfs[0]}', vfs: 1, guids: ['{gids[0]}']}}\n"
        f"- {{pf: '{empty.pfs[1]}', vfs: 1, guids: {{map: map}}}}\n"
    )
    (tmp_path / "map").write_text(
        f"- {{pf: '{empty.pfs[1]}', guids: [{{guid: '{gids[1]}'}}]}}\n"
        f"- {{pf: mlx5_9, guids: ['fe80::3']}}\n"
    )
    done = run("apply", "--file", str(path))
    assert done.code == 0
    for pf, gid in enumerate(gids):
        own = f"02:02:c9:ff:fe:00:00:0{pf + 1}"
        told = f"warning: {gid} is taken for its last half, GUID {own}"
        assert done.err.count(told) == 1
        assert empty.seen(pf)[0].port == own
    assert "fe80::3" not in done.err


def test_no_file(empty, run, tmp_path):
    done = run("apply", "--file", str(tmp_path / "none"))
    assert done.code == 2
    assert "cannot be read" in done.err


def test_what_list_writes_is_applied(empty, run, shell, file, tmp_path):
    assert run("apply", "--file", file).code == 0
    before = run("list", "--json").out
    done = shell("apply", "--file", "-", "--json", text=before)
    assert done.code == 0
    assert done.json["changed"] is False
    for pf in (0, 1):
        empty.numvfs(pf, 0)
    assert shell("apply", "--file", "-", text=before).code == 0
    # but for what was zero, which is all ones or zero now
    after = run("list", "--json").out
    assert owners(after) == owners(before)


def owners(text):
    return [
        (vf["pci"], vf["mac"], vf["driver"], vf["policy"])
        for pf in json.loads(text)["pfs"]
        for vf in pf["vfs"]
    ]


def test_some_vfs_of_a_pf_are_no_host(empty, run, file, tmp_path):
    assert run("apply", "--file", file).code == 0
    part = tmp_path / "part.json"
    part.write_text(run("list", "--json", empty.vf(0, 1)).out)
    done = run("apply", "--file", str(part))
    assert done.code == 2
    assert "does not have all VFs of its PF" in done.err


def test_the_operators_hooks_are_told(empty, run, file, tmp_path):
    told = tmp_path / "told"
    folder = empty.folder / "hooks.d"
    folder.mkdir(mode=0o755)
    site = folder / "site"
    site.write_text(f"#!/bin/sh\ncat > {told}\n")
    site.chmod(0o755)
    run("apply", "--file", file, "--dry-run")
    assert not told.exists()
    assert run("apply", "--file", file).code == 0
    event = json.loads(told.read_text())
    assert event["event"] == "applied"
    assert [one["guid"] for one in event["results"]][:2] == [guid(1), None]
    told.unlink()
    run("apply", "--file", file)
    assert not told.exists()
