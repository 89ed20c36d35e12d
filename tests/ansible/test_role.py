# SPDX-License-Identifier: Apache-2.0
"""The role, by a real ansible-playbook: what a run says it has done, and what
it has."""

import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.ansible.conftest import CONTRIB, tool
from tests.flavours import guid

PF = "0000:3b:00.0"


def pfs(*numbers, vfs=2, pkey="0x8001"):
    """One PF, its VFs with these GUIDs in a partition."""
    guids = [{"guid": guid(number), "pkey": pkey} for number in numbers]
    return [{"pf": PF, "vfs": vfs, "driver": "vfio-pci", "guids": guids}]


WANTED = {"node1": pfs(1, 2), "node2": pfs(3, 4)}


def test_a_second_run_changes_nothing(site):
    done = site.play(WANTED)
    assert done.code == 0, done.out
    assert all(done.count("changed").values()), done.out
    assert [node.identities() for node in site.nodes] == [
        [guid(1), guid(2)],
        [guid(3), guid(4)],
    ]
    assert [file.name for file in sorted(site.exports.iterdir())] == [
        "node1.json",
        "node2.json",
    ]
    text = site.partitions.read_text()
    for number in range(1, 5):
        assert f"0x{guid(number).replace(':', '')}=full" in text
    assert site.times_told(1) == 1
    before = site.files()
    done = site.play(WANTED)
    assert done.code == 0, done.out
    assert done.count("changed") == {"node1": 0, "node2": 0, "sm": 0}
    assert site.files() == before
    # One that has another GUID, by check mode first.
    other = {**WANTED, "node2": pfs(3, 5)}
    done = site.play(other, "--check", "--diff")
    assert done.code == 0, done.out
    assert done.count("changed")["node1"] == 0
    assert f"GUID {guid(4)} → {guid(5)}" in done.out
    assert f"GUID {guid(3)}" not in done.out
    assert site.files() == before
    assert site.nodes[1].identities() == [guid(3), guid(4)]
    done = site.play(other)
    assert done.code == 0, done.out
    changed = done.count("changed")
    assert changed.pop("node1") == 0
    assert all(changed.values())
    assert site.nodes[1].identities() == [guid(3), guid(5)]
    text = site.partitions.read_text()
    assert f"0x{guid(4).replace(':', '')}" not in text
    assert site.times_told(2) == 2


def test_check_mode_tells_and_changes_nothing(site):
    before = site.files()
    done = site.play(WANTED, "--check", "--diff")
    assert done.code == 0, done.out
    assert all(done.count("changed").values())
    assert f"{PF}: 0 → 2 VFs" in done.out
    for number in range(1, 5):
        assert f"→ {guid(number)}, driver - → vfio-pci" in done.out
        # and what host.yaml would say
        assert f"+  - guid: {guid(number)}" in done.out
    assert [node.identities() for node in site.nodes] == [[], []]
    assert site.files() == before


def test_a_guid_that_two_hosts_have(site):
    assert site.play(WANTED).code == 0
    before = site.partitions.read_text()
    # The second has it on another VF.
    done = site.play({**WANTED, "node2": pfs(3, 2)})
    assert done.code != 0
    assert done.count("failed") == {"node1": 0, "node2": 0, "sm": 1}
    twins = f"{guid(2)} is on 0000:3b:00.2 of host node1 and on 0000:3b:00.2"
    assert f"{twins} of host node2" in done.words
    assert site.partitions.read_text() == before
    assert site.times_told(1) == 1


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ([{"pf": PF, "driver": "vfio"}], "value of driver must be one of"),
        (
            [{"pf": PF, "vfs": 2, "guids": ["fa:16:3e"]}],
            "'fa:16:3e' is neither a MAC address nor a GUID",
        ),
        (pfs(1, 1), guid(1)),
    ],
)
def test_a_bad_variable_touches_nothing(site, bad, told):
    """And what is right with the other host is done."""
    before = site.files()
    done = site.play({**WANTED, "node1": bad}, "--limit", "infiniband")
    assert done.code != 0
    assert done.count("failed") == {"node1": 1, "node2": 0}
    assert told in done.words
    one, other = site.nodes
    assert one.identities() == []
    assert not one.yaml.parent.exists()
    assert other.identities() == [guid(3), guid(4)]
    assert set(site.files()) - set(before) == {str(other.yaml)}


def test_a_host_that_is_not_reached_keeps_its_partition(site):
    # Of the second nothing is known yet.
    limit = ("--limit", "node1,sm")
    done = site.play(WANTED, *limit)
    assert done.count("failed") == {"node1": 0, "sm": 1}
    assert "nothing is known of node2" in done.words
    assert site.partitions.read_text().count("=full ;") == 1
    assert site.play(WANTED).code == 0
    before = site.partitions.read_text()
    # A host that fails is not asked, as one that is down.
    done = site.play({"node1": pfs(1, 2), "node2": [{"pf": "ib9"}]})
    assert done.count("failed") == {"node1": 0, "node2": 1, "sm": 0}
    assert done.count("changed") == {"node1": 0, "node2": 0, "sm": 0}
    assert site.partitions.read_text() == before
    # One that is no more is out of all of it.
    site.fabric.remove("node2")
    done = site.play(WANTED, *limit)
    assert done.code == 0, done.out
    assert [file.name for file in site.exports.iterdir()] == ["node1.json"]
    assert guid(3).replace(":", "") not in site.partitions.read_text()


def wheel(folder, version):
    """One of a package that is the command by name alone, and needs nothing
    to be fetched."""
    file = folder / f"ibhostdev-{version}-py3-none-any.whl"
    info = f"ibhostdev-{version}.dist-info"
    files = {
        "ibhostdev.py": f"def main(): print('ibhostdev {version}')\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: ibhostdev\n"
        f"Version: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: a test\n"
        "Root-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\n"
        "ibhostdev = ibhostdev:main\n",
    }
    names = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(file, "w") as made:
        for name, text in (*files.items(), (f"{info}/RECORD", names)):
            # With a fixed time: the same version is the same file.
            made.writestr(zipfile.ZipInfo(name), text)
    return str(file)


def test_the_package_is_installed_and_upgraded(site):
    """By pip, into an environment of its own."""
    link = site.folder / "bin/ibhostdev"
    link.parent.mkdir()

    def play(version, *options):
        done = site.play(
            {"node1": [], "node2": []},
            *("--limit", "node1", "-e", f"ibhostdev_command={link}", *options),
            ibhostdev_install="pip",
            ibhostdev_package=wheel(site.folder, version),
            ibhostdev_python=sys.executable,
            ibhostdev_venv=str(site.folder / "venv"),
            ibhostdev_link=str(link),
            ibhostdev_cache=str(site.folder / "cache"),
            ibhostdev_export=False,
        )
        assert done.code == 0, done.out
        return done.count("changed")["node1"]

    assert play("1.0", "--check")
    assert not link.exists()
    assert play("1.0")
    assert not play("1.0")
    assert not play("1.0", "--check")
    assert play("1.1")
    said = subprocess.run([link], capture_output=True, text=True, check=True)
    assert said.stdout == "ibhostdev 1.1\n"


def test_ansible_lint_finds_nothing(tmp_path):
    folder = tmp_path / "ansible"
    shutil.copytree(CONTRIB, folder)  # it leaves a folder of its own there
    done = tool(
        "ansible-lint",
        *("--offline", "--profile", "production", "--nocolor"),
        cwd=folder,
        env={"HOME": str(tmp_path)},
    )
    assert done.code == 0, done.out
