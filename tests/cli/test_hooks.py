# SPDX-License-Identifier: Apache-2.0
"""Programs of the operator's that are told what was plugged and unplugged."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest

from ibhostdev.privilege import hooks
from tests.flavours import guid, mac

LONG = 600


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A hook's time is not for a machine that others keep busy."""
    monkeypatch.setattr(
        hooks.Hooks.__init__, "__defaults__", (hooks.FOLDER, None, LONG)
    )


@pytest.fixture
def folder(host):
    folder = host.folder / "hooks.d"
    folder.mkdir(mode=0o755)
    return folder


@pytest.fixture
def hook(folder):
    """Puts a shell program there."""

    def hook(text, name="site", mode=0o755):
        file = folder / name
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(mode)
        return file

    return hook


def plug(host, run, *numbers, more=()):
    words = [f"{host.vf(0, n - 1)}={mac(n)}" for n in numbers]
    return run("plug", *words, *more)


def test_what_they_are_told(host, run, hook, tmp_path):
    told = tmp_path / "told"
    hook(f"cat > {told}.$IBHOSTDEV_EVENT; env > {told}.env; pwd >> {told}.env")
    done = plug(host, run, 1, 2, more=["--json"])
    assert (done.code, done.err) == (0, "")
    event = json.loads((tmp_path / "told.plugged").read_text())
    assert (event.pop("version"), event.pop("event")) == (1, "plugged")
    assert event.pop("host") == os.uname().nodename
    assert event == done.json
    assert [one["guid"] for one in event["results"]] == [guid(1), guid(2)]
    env = (tmp_path / "told.env").read_text().splitlines()
    names = {line.partition("=")[0] for line in env}
    # What the shell sets itself is no matter.
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == {
        *("PATH", "LANG", "IBHOSTDEV_EVENT", "IBHOSTDEV_HOST", "/"),
    }
    assert f"IBHOSTDEV_HOST={host.folder}" in env
    run("unplug", mac(1))
    event = json.loads((tmp_path / "told.unplugged").read_text())
    assert event["event"] == "unplugged"
    assert event["results"][0]["guid"] == guid(1)


def test_they_are_told_the_partition(host, run, hook, tmp_path):
    told = tmp_path / "told"
    hook(f"cat > {told}")
    file = tmp_path / "vifs.yaml"
    file.write_text(
        f"- {{pci: '{host.vf(0, 0)}', mac: '{mac(1)}', pkey: '5:limited'}}\n"
    )
    run("plug", "--file", str(file))
    assert json.loads(told.read_text())["results"][0]["pkey"] == "0x0005"


@pytest.fixture
def told(hook, tmp_path):
    """What a program has been told since it was asked last."""
    log = tmp_path / "told"
    hook(f"cat >> {log}; echo >> {log}")

    def told():
        text = log.read_text() if log.exists() else ""
        log.unlink(missing_ok=True)
        return [json.loads(line) for line in text.splitlines()]

    return told


def moved(event):
    return [(one["guid"], one["from"], one["pci"]) for one in event["results"]]


def test_a_guid_that_has_moved(host, run, told, tmp_path):
    """From a VF that is none of the batch's, of another PF even."""
    plug(host, run, 1, 2)
    assert [event["event"] for event in told()] == ["plugged"]
    file = tmp_path / "vifs.yaml"
    file.write_text(
        f"- {{pci: '{host.vf(1, 3)}', mac: '{mac(1)}', pkey: 0x8005}}\n"
        f"- {{pci: '{host.vf(0, 2)}', mac: '{mac(3)}'}}\n"
    )
    run("plug", "--file", str(file), "--dry-run")
    assert told() == []
    assert run("plug", "--file", str(file)).code == 0
    first, second = told()
    assert first["event"] == "plugged"
    assert len(first["results"]) == 2
    assert second == {
        "version": 1,
        "event": "moved",
        "host": os.uname().nodename,
        "ok": True,
        "results": [
            {
                "pci": host.vf(1, 3),
                "from": host.vf(0, 0),
                "guid": guid(1),
                "pkey": "0x8005",
            }
        ],
    }
    run("plug", "--file", str(file))
    assert told() == []


def test_two_vfs_that_swap_their_guids(host, run, told):
    plug(host, run, 1, 2)
    told()
    vfs = host.vf(0, 0), host.vf(0, 1)
    run("plug", f"{vfs[0]}={mac(2)}", f"{vfs[1]}={mac(1)}")
    first, second = told()
    assert (first["event"], second["event"]) == ("plugged", "moved")
    assert moved(second) == [(guid(2), vfs[1], vfs[0]),
                             (guid(1), vfs[0], vfs[1])]  # fmt: skip


def test_what_has_not_moved(host, run, told):
    """Another GUID in its place, one that was put back, and one that was
    taken and then given."""
    plug(host, run, 1)
    run("plug", f"{host.vf(0, 0)}={mac(2)}")
    host.fail(host.vf(0, 1), 5)
    assert run("plug", f"{host.vf(0, 1)}={mac(2)}").code == 1
    again = ["--on-error", "continue"]
    assert run("plug", f"{host.vf(0, 1)}={mac(2)}", *again).code == 1
    host.heal()
    run("plug", f"{host.vf(0, 1)}={mac(2)}")
    run("unplug", mac(2))
    run("plug", f"{host.vf(0, 2)}={mac(2)}")
    events = [event["event"] for event in told()]
    assert events == ["plugged"] * 3 + ["unplugged", "plugged"]


def test_a_guid_that_moves_as_a_host_is_made(host, run, told, tmp_path):
    plug(host, run, 1)
    told()
    file = tmp_path / "host.yaml"
    file.write_text(f"- {{pf: '{host.pfs[0]}', guids: [idle, '{guid(1)}']}}")
    assert run("apply", "--file", str(file)).code == 0
    first, second = told()
    assert (first["event"], second["event"]) == ("applied", "moved")
    assert moved(second) == [(guid(1), host.vf(0, 0), host.vf(0, 1))]
    run("plug", f"{host.vf(0, 2)}={mac(1)}")
    told()
    assert run("restore", "--host-yaml", str(file)).code == 0
    first, second = told()
    assert (first["event"], second["event"]) == ("plugged", "moved")
    assert moved(second) == [(guid(1), host.vf(0, 2), host.vf(0, 1))]


def test_they_are_told_when_it_is_done_and_no_lock_is_held(
    host, run, hook, tmp_path
):
    vf = f"{host.vf(0, 1)}={mac(2)}"
    command = " ".join(host.command)
    # Their own plug does not wait for the one that they are told of.
    hook(
        f'[ "$(cat {tmp_path}/once 2>/dev/null)" ] && exit; '
        f"echo 1 > {tmp_path}/once; "
        f"PYTHONPATH={os.getcwd()} {command} list --json > {tmp_path}/list; "
        f"(PYTHONPATH={os.getcwd()} {command} plug {vf} >/dev/null 2>&1 &)"
    )
    assert plug(host, run, 1).code == 0
    (vf, *_) = json.loads((tmp_path / "list").read_text())["pfs"][0]["vfs"]
    assert vf["port_guid"] == guid(1)
    end = time.monotonic() + LONG
    while host.seen(0)[1].port != guid(2):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_only_of_what_has_changed(host, run, hook, tmp_path):
    told = tmp_path / "told"
    hook(f"echo $IBHOSTDEV_EVENT >> {told}")
    plug(host, run, 1, more=["--dry-run"])
    run("unplug", mac(9))
    host.fail(host.vf(0, 1), 5)
    assert plug(host, run, 1, 2).code == 1  # and all is as it was
    assert not told.exists()
    plug(host, run, 1, 2, more=["--on-error", "continue"])
    assert told.read_text() == "plugged\n"
    plug(host, run, 1)
    assert told.read_text() == "plugged\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "echo no good; echo at all >&2; exit 3",
            "ended with 3: no good at all",
        ),
        ("kill -9 $$", "was ended by SIGKILL"),
        ("printf '\\033[2J\\r'; exit 1", "ended with 1: ?[2J"),
    ],
)
def test_one_that_fails_is_a_warning(host, run, hook, text, why):
    file = hook(text)
    done = plug(host, run, 1, more=["--json"])
    assert done.code == 0
    assert done.json["ok"]
    assert f"warning: hook {file}: " in done.err
    assert why in done.err
    assert host.seen(0)[0].port == guid(1)
    told = run("metrics").out
    assert 'ibhostdev_hook_runs_total{hook="site"} 1.0' in told
    assert 'ibhostdev_hook_failures_total{hook="site"} 1.0' in told


def test_one_that_hangs_is_ended_with_all_it_has_started(host, hook, tmp_path):
    pids = tmp_path / "pids"
    hook(f"sleep {LONG * 10} & echo $! > {pids}; echo $$ >> {pids}; wait")
    # On a busy machine it takes longer until it has told whom it started.
    for seconds in (0.5, 5.0, 50.0):
        there = hooks.Hooks(
            *(str(host.folder / "run"), str(host.folder / "hooks.d")),
            seconds=seconds,
        )
        (warning,) = there.tell("plugged", dict)
        assert f"more than {seconds:g} s" in warning
        if pids.exists() and len(pids.read_text().split()) == 2:
            break
    for pid in map(int, pids.read_text().split()):
        end = time.monotonic() + LONG
        while os.path.exists(f"/proc/{pid}"):
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    break
            assert time.monotonic() < end


def test_one_that_neither_reads_nor_stops_writing(host, hook):
    hook("exec <&-; head -c 1000000 /dev/zero; exit 1")
    there = hooks.Hooks(str(host.folder / "run"), str(host.folder / "hooks.d"))
    (warning,) = there.tell("plugged", lambda: {"results": ["x" * 1000000]})
    assert "ended with 1" in warning
    assert len(warning) < 3000


def test_one_that_says_more_than_anybody_reads(host, hook):
    hook("exec yes")
    there = hooks.Hooks(
        *(str(host.folder / "run"), str(host.folder / "hooks.d")),
        seconds=LONG,
    )
    (warning,) = there.tell("plugged", dict)
    assert "ended with 1: y y y" in warning
    assert len(warning) < 3000


def test_in_the_order_of_their_names_and_one_at_a_time(host, hook, tmp_path):
    log = tmp_path / "log"
    for name in ("20-b", "10-a", "30_c"):
        hook(f"echo +{name} >> {log}; sleep 0.05; echo -{name} >> {log}", name)
    there = hooks.Hooks(str(host.folder / "run"), str(host.folder / "hooks.d"))
    threads = [
        threading.Thread(target=there.tell, args=("plugged", dict))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    once = ["+10-a", "-10-a", "+20-b", "-20-b", "+30_c", "-30_c"]
    assert log.read_text().split() == once * 3


def test_what_is_not_run(host, run, hook, folder, tmp_path):
    told = tmp_path / "told"
    for name in ("site.dpkg-old", "site~", ".site", "README.md"):
        hook(f"echo {name} >> {told}", name)
    hook(f"echo plain >> {told}", "plain", mode=0o644)
    (folder / "folder").mkdir()
    done = plug(host, run, 1)
    assert (done.code, done.err) == (0, "")
    assert not told.exists()


@pytest.mark.parametrize("text", ["echo\n", "#!/no/such/program\n"])
def test_what_nothing_can_run(host, run, hook, text):
    hook("").write_text(text)
    done = plug(host, run, 1)
    assert done.code == 0
    assert "cannot be run" in done.err
    assert "as in #!/bin/sh" in done.err


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_what_others_could_have_written_is_not_run(
    host, run, hook, folder, tmp_path, mode
):
    told = tmp_path / "told"
    file = hook(f"echo >> {told}", mode=mode)
    done = plug(host, run, 1)
    assert (done.code, told.exists()) == (0, False)
    assert "others than its owner" in done.err
    file.chmod(0o755)
    folder.chmod(mode)
    done = plug(host, run, 2)
    assert (done.code, told.exists()) == (0, False)
    folder.chmod(0o755)
    plug(host, run, 3)
    assert told.exists()


def test_what_somebody_else_owns_is_not_run(
    host, run, hook, tmp_path, monkeypatch
):
    told = tmp_path / "told"
    file = hook(f"echo >> {told}")
    if os.getuid() == 0:
        os.chown(file, 12345, 12345)
        done = plug(host, run, 1)
        assert (done.code, told.exists()) == (0, False)
        assert "its owner" in done.err
        return
    # Only root can give a file away; others can be somebody else.
    there = hooks.Hooks(str(host.folder / "run"), str(file.parent))
    other = os.getuid() + 1
    for name in ("getuid", "geteuid"):
        monkeypatch.setattr(os, name, lambda: other)
    (warning,) = there.tell("plugged", dict)
    assert "its owner" in warning
    assert not told.exists()


def test_an_empty_folder_costs_nothing(host, run, folder):
    """Nothing is made of the results."""
    there = hooks.Hooks(str(host.folder / "run"), str(folder))

    def told():
        raise AssertionError("asked for")

    assert there.tell("plugged", told) == []
    folder.rmdir()
    assert there.tell("plugged", told) == []


LOADED = """
import os, sys
from ibhostdev.privilege import hooks
before = set(sys.modules)
there = hooks.Hooks(os.path.join(sys.argv[1], "run"), sys.argv[2])
assert there.tell("plugged", dict) == []
print(*sorted(set(sys.modules) - before))
"""


def test_an_empty_folder_has_nothing_loaded_or_written(host, folder):
    run_dir = host.folder / "run"
    before = sorted(run_dir.iterdir()) if run_dir.exists() else None
    done = subprocess.run(
        [sys.executable, "-c", LOADED, host.folder, folder],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []
    after = sorted(run_dir.iterdir()) if run_dir.exists() else None
    assert after == before


def test_whatever_is_wrong_is_a_warning(host, hook, folder, monkeypatch):
    hook("true")
    there = hooks.Hooks(str(host.folder / "run"), str(folder))

    def told():
        raise ValueError("no words for it")

    (warning,) = there.tell("plugged", told)
    assert "ValueError: no words for it" in warning
    # A folder that this user may not read may have some.
    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", raising(PermissionError(13, "Denied")))
        (warning,) = there.tell("plugged", dict)
    assert f"hooks in {folder} were not run: " in warning
    assert "Denied" in warning
    # As of a file system that has no locks.
    monkeypatch.setattr("fcntl.flock", raising(OSError(37, "No locks")))
    (warning,) = there.tell("plugged", dict)
    assert "No locks" in warning


def raising(error):
    def call(*_):
        raise error

    return call


def test_a_program_with_another_s_rights_runs_none(
    host, hook, folder, tmp_path, monkeypatch
):
    """Set-uid root, for an ordinary user."""
    told = tmp_path / "told"
    hook(f"echo >> {told}")
    there = hooks.Hooks(str(host.folder / "run"), str(folder))
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    assert there.tell("plugged", dict) == []
    assert not told.exists()


def test_results_that_cannot_be_written_are_told_all_the_same(
    host, hook, tmp_path
):
    told = tmp_path / "told"
    hook(f"echo >> {told}")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*host.command, "plug", f"{host.vf(0, 0)}={mac(1)}"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 1
    assert told.exists()


def test_ctrl_c_ends_one_that_runs(host, hook, tmp_path):
    started = tmp_path / "started"
    hook(f"echo $$ > {started}.new; mv {started}.new {started}; sleep 600")
    process = subprocess.Popen(
        [*host.command, "plug", f"{host.vf(0, 0)}={mac(1)}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    end = time.monotonic() + LONG
    while not started.exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate()
    assert process.returncode == 130
    assert b"plugged" in out
    assert host.seen(0)[0].port == guid(1)


def test_the_lock_is_nobody_elses_to_hold(host, run, hook):
    hook("true")
    plug(host, run, 1)
    file = host.folder / "run" / "hooks"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
