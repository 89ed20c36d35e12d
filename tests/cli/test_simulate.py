# SPDX-License-Identifier: Apache-2.0
"""ibhostdev simulate, and the demo."""

import errno
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from importlib import metadata

import pytest
from click.testing import CliRunner

from ibhostdev import simulate
from ibhostdev.cli import main
from ibhostdev.cli.command import cli


@contextmanager
def served(folder, *options):
    process = subprocess.Popen(
        [sys.executable, "-m", "ibhostdev", "simulate", folder, *options],
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        process.told = process.stdout.readline()
        assert "Serving" in process.told
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=600)


@pytest.mark.parametrize(
    ("options", "family", "mechanism", "netdev"),
    [
        ([], "mlx5", "mlx5_netlink", "ib0"),
        (["--family", "mlx5-ofed"], "mlx5-ofed", "mlx5_netlink", "ib0"),
        (
            ["--family", "mlx5-ofed", "--no-netdev"],
            "mlx5-ofed",
            "mlx5_sysfs",
            None,
        ),
        (["--family", "mlx4", "--ports", "2"], "mlx4", "mlx4_sysfs", "ib0"),
    ],
)
def test_a_host_to_work_on(
    tmp_path, capsys, options, family, mechanism, netdev
):
    import json

    folder = str(tmp_path / "host")
    with served(folder, "--pfs", "1", "--vfs", "3", *options):
        assert main(["list", "--json", "--host", folder]) == 0
        (pf,) = json.loads(capsys.readouterr().out)["pfs"]
        assert (pf["family"], pf["mechanism"]) == (family, mechanism)
        assert (pf["netdev"], len(pf["vfs"])) == (netdev, 3)
        vf = pf["vfs"][0]["pci"]
        for command in ("plug", "unplug"):
            arguments = [command, f"{vf}=fa:16:3e:00:00:01"]
            assert main(["--host", folder, *arguments]) == 0
    assert main(["list", "--host", folder]) == 1


def test_fewer_vfs_than_there_could_be(tmp_path, capsys):
    import json

    folder = str(tmp_path / "host")
    options = ["--pfs", "1", "--vfs", "0", "--total-vfs", "64"]
    with served(folder, *options):
        assert main(["list", "--json", "--host", folder]) == 0
        (pf,) = json.loads(capsys.readouterr().out)["pfs"]
        assert (pf["numvfs"], pf["totalvfs"], pf["vfs"]) == (0, 64, [])
    assert main(["simulate", folder, "--vfs", "3", "--total-vfs", "2"]) == 2
    assert "can have 2 VFs" in capsys.readouterr().err


def test_hosts_of_one_fabric(tmp_path, capsys):
    """Their exports are merged only if no GUID is there twice."""
    files = []
    for serial in ("7", "8"):
        folder = str(tmp_path / serial)
        with served(folder, "--vfs", "1", "--serial", serial):
            plug = ["plug", f"0000:3b:00.1=fa:16:3e:00:00:0{serial}"]
            assert main(["--host", folder, *plug]) == 0
            capsys.readouterr()
            export = ["fabric", "export", "--host-name", f"node{serial}"]
            assert main(["--host", folder, *export]) == 0
        files.append(tmp_path / f"{serial}.json")
        files[-1].write_text(capsys.readouterr().out)
    assert main(["fabric", "export", "--merge", *map(str, files)]) == 0


def test_no_iommu(tmp_path, capsys):
    folder = str(tmp_path / "host")
    with served(folder, "--pfs", "1", "--vfs", "2", "--no-iommu"):
        assert main(["--host", folder, "doctor"]) == 1
        assert "IOMMU" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_it_is_told_to(tmp_path, number):
    with served(str(tmp_path), "--pfs", "1", "--vfs", "1") as process:
        process.send_signal(number)
        assert process.wait(600) == 0


def test_it_tells_what_it_serves(tmp_path):
    for pfs, told in (("1", "1 PF with 3 VFs;"), ("2", "2 PFs with 3 VFs ea")):
        folder = str(tmp_path / pfs)
        with served(folder, "--pfs", pfs, "--vfs", "3") as process:
            assert process.told.startswith(f"Serving {told}")


def test_a_disk_that_is_full(tmp_path, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(simulate, "serve", full)
    assert main(["simulate", str(tmp_path / "host")]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"ibhostdev: {tmp_path / 'host'}: no simulated")
    assert "ENOSPC" in told
    assert "choose another folder" in told


def test_what_can_be_no_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for bad in ("file", "file/x", "loop/x", "x" * 300, ""):
        assert main(["simulate", bad]) == 2, bad
        assert "folder" in capsys.readouterr().err
    assert sorted(os.listdir()) == ["file", "loop"]


def test_a_folder_with_something_else_in_it(tmp_path, capsys):
    (tmp_path / "thesis.tex").touch()
    assert main(["simulate", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert main(["simulate", str(tmp_path / "x"), "--ports", "2"]) == 2


def test_without_its_extra(monkeypatch, tmp_path, capsys):
    """The rest of the package does not need it."""
    monkeypatch.setitem(sys.modules, "inotify_simple", None)
    for arguments in (["simulate", str(tmp_path / "x")], ["bench"]):
        assert main(arguments) == 1
        assert "with its extra 'simulate'" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    needed = metadata.requires("ibhostdev") or []
    found = [each for each in needed if each.startswith("inotify")]
    assert any(each.endswith('extra == "simulate"') for each in found)
    assert all("extra ==" in each for each in found)


def test_the_demo(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "ibhostdev.simulate.demo"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "16 VIFs: 16 plugged" in done.stdout
    assert "16 VIFs: 16 with nothing to write" in done.stdout
    assert "16 VIFs: 16 unplugged" in done.stdout
    assert "\x1b" not in done.stdout
    assert list(tmp_path.iterdir()) == []
    # Words are explained before a table has them.
    first, *_ = done.stdout.partition("\n$ ibhostdev list")
    for word in ("PF (", "VFs (", "identity", "GUID", "MAC", "not known",
                 "policy"):  # fmt: skip
        assert word in first
    for words, command in (
        ("A VIF is ", "plug"),
        ("its own identity,\n", "plug"),
        ("A VF that is idle is ", "unplug"),
    ):
        before, *_ = done.stdout.partition(f"\n$ ibhostdev {command}")
        assert words in before


def test_a_reader_of_the_demo_that_has_gone(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "ibhostdev.simulate.demo"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdout.readline().startswith("A simulated host: ")
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["list", "simulate"])
@pytest.mark.parametrize("what", ["full", "file"])
def test_the_cure_is_not_what_failed(capsys, tmp_path, command, what):
    """Where no host can be made, making one is not advised."""
    folder = tmp_path / "other"
    if what == "full":
        folder.mkdir()
        (folder / "somebody's").touch()
    else:
        folder.touch()
    words = ["list", "--host"] if command == "list" else ["simulate"]
    assert main([*words, str(folder)]) != 0
    told = capsys.readouterr().err
    (cure,) = (line for line in told.splitlines() if line.startswith("  cure"))
    assert f"ibhostdev simulate {folder}" not in cure
    assert "name the folder" in cure or "choose another" in cure
    folder = tmp_path / "new"
    folder.mkdir()
    assert main(["list", "--host", str(folder)]) == 2
    told = capsys.readouterr().err
    assert "an empty folder" in told
    assert f"make one: ibhostdev simulate {folder}" in told


@pytest.mark.parametrize("command", ["", *sorted(cli.commands)])
def test_help_names_only_options_that_the_command_has(command):
    words = [command] if command else []
    shown = CliRunner().invoke(cli, [*words, "--help"]).output
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", shown))
    own = cli.commands[command] if command else cli
    has = {name for one in own.params for name in getattr(one, "opts", [])}
    assert "--help" in named
    assert named <= has | {"--help"}
