# SPDX-License-Identifier: Apache-2.0
"""ibhostdev bench on a host of its own; what it does to VFs that are named
is in tests/host."""

import json
import os
import signal
import subprocess
import sys

import pytest

from ibhostdev.cli import main
from ibhostdev.cli.bench import firmware, measuring, ways
from ibhostdev.cli.bench import report as reports
from ibhostdev.host import Host


@pytest.fixture
def start(tmp_path):
    """Starts the command, with a folder of its own for temporary files."""

    def start(*arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "ibhostdev", "bench", *arguments],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    return start


def test_for_programs(start, tmp_path):
    process = start("--rounds", "2", "--sizes", "4,1", "--json")
    out, err = process.communicate(timeout=600)
    assert (process.returncode, err) == (0, "")
    told = json.loads(out)
    assert told["ok"]
    assert told["simulated"]
    assert told["rounds"] == 2
    assert len(told["vfs"]) == told["pfs"][0]["numvfs"] == 127
    assert "ip_batch" in told["absent"]
    results = {(r["operation"], r["vfs"]): r for r in told["results"]}
    assert list(results) == [
        *(("plug", n) for n in (1, 4)),
        *(("plug again", n) for n in (1, 4)),
        *(("unplug", n) for n in (1, 4)),
        ("list", 127),
    ]
    plug = results["plug", 4]
    for way in ("bulk", "single"):
        assert len(plug[way]["samples"]) == 2
        assert plug[way]["counts"]["modify"] == 12
    assert plug["bulk"]["counts"]["getlink"] == 2
    assert plug["single"]["counts"]["getlink"] == 8
    assert results["plug again", 4]["bulk"]["counts"]["modify"] == 0
    for figures in (
        plug["bulk"],
        plug["single"],
        results["list", 127]["bulk"],
    ):
        low, high = figures["quartiles"]
        assert 0 < low <= figures["median"] <= high
    single, bulk = (plug[way]["median"] for way in ("single", "bulk"))
    assert plug["ratio"] == single / bulk
    assert list(tmp_path.iterdir()) == []


def test_for_people(start, tmp_path):
    process = start("--rounds", "1", "--sizes", "3")
    out, err = process.communicate(timeout=600)
    assert (process.returncode, err) == (0, "")
    lines = out.splitlines()
    assert "127 of 127 VFs" in lines[0]
    for column in ("one call", "±", "call each", "times", "writes", "reads"):
        assert column in lines[2]
    plug = next(line for line in lines if line.startswith("plug  "))
    assert plug.split()[1] == "3"
    assert plug.split()[-2:] == ["9/9", "2/6"]
    assert "simulated" in out
    assert "\x1b" not in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_leaves_nothing_behind(start, tmp_path, number, code):
    process = start("--rounds", "1000", "--json")
    while not list(tmp_path.glob("*/host.json")):
        assert process.poll() is None
    process.send_signal(number)
    out, err = process.communicate(timeout=600)
    assert process.returncode == code
    assert json.loads(out)["error"]["type"] == "Interrupted"
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_the_server_ends_even_if_the_command_is_killed(start, tmp_path):
    process = start("--rounds", "1000")
    while not (state := list(tmp_path.glob("*/host.json"))):
        assert process.poll() is None
    folder = str(state[0].parent)
    process.kill()
    process.communicate(timeout=600)
    # Nobody serves the folder: the next command says so.
    while main(["list", "--host", folder]) == 0:
        pass


def test_bad_input(host, run, capsys):
    done = run("bench")
    assert (done.code, done.out) == (2, "")
    assert "--host" in done.err
    for sizes in ("0", "128", "", "1,x"):
        assert main(["bench", "--sizes", sizes]) == 2
        assert "sizes" in capsys.readouterr().err
    for arguments in (["--rounds", "0"], ["--privilege", "rootwrap"]):
        assert main(["bench", *arguments]) == 2
        assert capsys.readouterr().err


@pytest.fixture
def counters(host, tmp_path, monkeypatch):
    """A folder like debugfs, in which each plug counts a command that took
    200 µs. No ip: it would speak to the real kernel."""
    folder = tmp_path / "mlx5" / host.pfs[0] / "commands"
    folder = folder / "MODIFY_HCA_VPORT_CONTEXT"
    folder.mkdir(parents=True)
    n, average = folder / "n", folder / "average"
    n.write_text("1000\n")
    average.write_text("100000\n")
    plug = Host.plug

    def counted(*args, **how):
        count = int(n.read_text()) + 1
        n.write_text(f"{count}\n")
        average.write_text(f"{100_000 + 100_000 * (count - 1000) // count}\n")
        return plug(*args, **how)

    monkeypatch.setattr(Host, "plug", counted)
    monkeypatch.setattr(firmware, "DEBUGFS", tmp_path)
    monkeypatch.setattr(ways.shutil, "which", lambda *_, **__: None)
    return folder


def test_the_drivers_own_count_is_shown(host, counters):
    report = measuring.on_vfs(
        host.connect(), [host.vf(0, 0)], None, 3, simulated=False
    )
    (told,) = reports.as_json(report)["firmware"]
    assert (told["pf"], told["command"]) == (
        host.pfs[0], "MODIFY_HCA_VPORT_CONTEXT",
    )  # fmt: skip
    # plug and plug again, in three rounds and the one before them
    assert told["count"] == 8
    # the mean of before is not among it
    assert told["mean"] == pytest.approx(200e-6, rel=0.01)
    text = "\n".join(
        "".join(part for part, _ in line) for line in reports.as_lines(report)
    )
    assert "counted 8 MODIFY_HCA_VPORT_CONTEXT, 200 µs each" in text


def test_what_cannot_be_read_is_not_shown(host, counters):
    (counters / "average").unlink()
    report = measuring.on_vfs(
        host.connect(), [host.vf(0, 0)], None, 1, simulated=False
    )
    assert reports.as_json(report)["firmware"] == []


def test_a_simulated_host_has_no_driver(host, counters):
    report = measuring.on_vfs(
        host.connect(), [host.vf(0, 0)], None, 1, simulated=True
    )
    assert reports.as_json(report)["firmware"] == []
