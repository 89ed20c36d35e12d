# SPDX-License-Identifier: Apache-2.0
"""ibhostdev plug, ibhostdev unplug: what they say and how they end."""

import errno
import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from ibhostdev.cli.command import main
from ibhostdev.cli.options import Settings
from tests.testbed import Hca, Seen

MACS = [f"fa:16:3e:00:00:{n:02x}" for n in range(16)]
GUIDS = [f"fa:16:3e:00:00:00:00:{n:02x}" for n in range(16)]
ONES = "ff:ff:ff:ff:ff:ff:ff:ff"
IDLE = Seen(ONES, ONES, "down")


def plugged(number: int, policy: str = "follow") -> Seen:
    return Seen(GUIDS[number], GUIDS[number], policy)


def words(bed, *numbers: int, pf: int = 0) -> list[str]:
    """PCI=MAC for VFs 0, 1, … of a PF."""
    return [f"{bed.vf(pf, i)}={MACS[n]}" for i, n in enumerate(numbers)]


def test_plug_and_unplug_for_people(host, run):
    done = run("plug", *words(host, 1, 2), f"{host.vf(1, 0)}={GUIDS[3]}")
    assert (done.code, done.err) == (0, "")
    assert host.seen(0)[:2] == [plugged(1), plugged(2)]
    assert host.seen(1)[0] == plugged(3)
    lines = done.out.splitlines()
    (row,) = (line for line in lines if line.startswith(host.vf(0, 1)))
    assert row.split()[1:3] == [MACS[2], "plugged"]
    assert row.endswith("  not known, down  its own, follow")
    # What is the same for all is said once.
    assert lines[0] == "mechanism: mlx5_netlink"
    assert lines[-1] == "3 VIFs: 3 plugged"

    again = run("plug", *words(host, 1, 2))
    assert again.code == 0
    assert again.out.splitlines()[-1] == "2 VIFs: 2 with nothing to write"

    done = run("unplug", *words(host, 1, 2), MACS[3])
    assert (done.code, done.err) == (0, "")
    assert host.seen(0)[:2] == [IDLE, IDLE]
    assert host.seen(1)[0] == IDLE
    assert done.out.splitlines()[-1] == "3 VIFs: 3 unplugged"


def test_plug_for_programs(host, run):
    done = run("plug", "--json", *words(host, 1))
    assert (done.code, done.err) == (0, "")
    assert done.json == {
        "ok": True,
        "results": [
            {
                "pci": host.vf(0, 0),
                "guid": GUIDS[1],
                "pkey": None,
                "ok": True,
                "wanted": {
                    "node_guid": GUIDS[1],
                    "port_guid": GUIDS[1],
                    "policy": "follow",
                    "pkey": None,
                },
                "before": {
                    "node_guid": None,
                    "port_guid": None,
                    "policy": "down",
                    "pkey": None,
                },
                "after": {
                    "node_guid": GUIDS[1],
                    "port_guid": GUIDS[1],
                    "policy": "follow",
                    "pkey": None,
                },
                "mechanism": "mlx5_netlink",
                "changed": True,
                "verified": True,
                "error": None,
            }
        ],
        "warnings": [],
        "error": None,
    }
    (one,) = run("plug", "--json", *words(host, 1)).json["results"]
    assert one["changed"] is False
    (one,) = run("unplug", "--json", MACS[1]).json["results"]
    assert (one["pci"], one["changed"]) == (host.vf(0, 0), True)
    assert one["after"]["policy"] == "down"
    (one,) = run("unplug", "--json", MACS[1]).json["results"]
    assert (one["pci"], one["changed"], one["ok"]) == (None, False, True)


def test_a_policy_that_was_asked_for(host, run):
    assert run("plug", "--policy", "up", *words(host, 1)).code == 0
    assert host.seen(0)[0] == plugged(1, "up")


@pytest.mark.parametrize("command", ["plug", "unplug"])
def test_a_dry_run_writes_nothing(host, run, command):
    if command == "unplug":
        host.seed(0, 0, GUIDS[1], GUIDS[1], "follow")
    before = host.seen(0)
    host.reset_counts()
    done = run(command, "--dry-run", *words(host, 1))
    assert done.code == 0
    assert f"would be {command}ged" in done.out
    (one,) = run(command, "--dry-run", "--json", *words(host, 1)).json[
        "results"
    ]
    assert one["changed"] is True
    assert host.counts().modify == 0
    assert host.seen(0) == before


def test_unplug_of_what_no_vf_has(host, run):
    done = run("unplug", MACS[3])
    assert done.code == 0
    assert "no VF has it" in done.out
    (one,) = run("unplug", "--json", MACS[3]).json["results"]
    assert (one["changed"], one["verified"]) == (False, True)


def test_unplug_that_could_not_look(bed, run):
    bed.build(Hca(vfs=2), Hca(vfs=2, netdev=False))
    done = run("unplug", MACS[3])
    assert done.code == 1
    assert "not found where it could be looked for" in done.out
    assert f"not searched for the GUIDs: {bed.pfs[1]}" in done.err


def test_unplug_of_an_address(host, run):
    done = run("unplug", host.vf(0, 1))
    assert done.code == 2
    assert "is an address, no identity" in done.err


def test_what_nobody_looked_at_is_not_verified(host, run):
    (one,) = run("plug", "--dry-run", "--json", *words(host, 1)).json[
        "results"
    ]
    assert (one["changed"], one["verified"]) == (True, False)
    host.fail(host.vf(0, 0), errno.EIO)
    (one,) = run("plug", "--json", *words(host, 1)).json["results"]
    assert (one["ok"], one["verified"]) == (False, False)


def test_a_mac_is_told_as_it_was_typed(host, run):
    done = run("plug", f"{host.vf(0, 0)}=00:00:00:00:00:00")
    assert done.code == 2
    assert "'00:00:00:00:00:00' is zero" in done.err


def test_a_forced_mechanism_that_does_not_serve(host, run):
    done = run("plug", "--mechanism=mlx4_sysfs", *words(host, 1))
    assert "leave it to be chosen" in done.err
    assert "ib_ipoib" not in done.err.partition("leave it")[2]


def test_unplug_leaves_the_own_driver_alone_if_told_to(host, run):
    host.seed(0, 0, GUIDS[1], GUIDS[1], "follow")
    host.bind(host.vf(0, 0), None)
    host.bind(host.vf(0, 0), "mlx5_core")
    host.reset_counts()
    assert run("unplug", "--no-rebind", MACS[1]).code == 0
    assert host.counts().probe == 0
    assert host.identity(host.vf(0, 0)) == GUIDS[1]


def test_a_forced_mechanism(bed, run):
    bed.build(Hca("mlx5-ofed", vfs=2))
    done = run("plug", "--json", "--mechanism", "mlx5_sysfs", *words(bed, 1))
    assert done.json["results"][0]["mechanism"] == "mlx5_sysfs"
    done = run("plug", "--mechanism", "magic", *words(bed, 1))
    assert done.code == 2
    assert "mlx5_netlink" in done.err


def test_a_guid_that_was_moved_is_told(host, run):
    host.seed(0, 3, GUIDS[1], GUIDS[1], "follow")
    done = run("plug", *words(host, 1))
    assert done.code == 0
    assert f"warning: GUID {GUIDS[1]} was still on {host.vf(0, 3)}" in done.err
    host.seed(0, 3, GUIDS[2], GUIDS[2], "follow")
    done = run("plug", "--json", *words(host, 1), f"{host.vf(0, 2)}={MACS[2]}")
    (warning,) = done.json["warnings"]
    assert host.vf(0, 3) in warning


# -- exit code 1 ----------------------------------------------------------


def test_a_vf_fails_and_the_others_are_put_back(host, run):
    host.seed(0, 1, GUIDS[9], GUIDS[9], "up")
    host.fail(host.vf(0, 1), errno.EIO)
    done = run("plug", *words(host, 1, 2, 3))
    assert done.code == 1
    assert host.seen(0)[:2] == [IDLE, plugged(9, "up")]
    lines = done.out.splitlines()
    rows = {line.split()[0]: line for line in lines[1:]}
    assert "  failed" in rows[host.vf(0, 1)]
    why = f"rolled back because of {host.vf(0, 1)}"
    assert why in rows[host.vf(0, 0)]
    assert lines[-1] == "3 VIFs: 1 failed, 2 as before because of that"
    warning, error, *_ = done.err.splitlines()
    assert f"had GUID {GUIDS[9]}" in warning
    assert error.startswith(f"ibhostdev: {host.vf(0, 1)}: ")
    for part in (
        "  attribute  IFLA_VF_IB_NODE_GUID of VF 1 on ib0",
        "  errno      EIO: Input/output error",
        "  cure       ",
    ):
        assert f"\n{part}" in done.err
    assert len(done.err.splitlines()) == 5

    done = run("plug", "--json", *words(host, 1, 2, 3))
    assert (done.code, done.json["ok"]) == (1, False)
    first, second, _ = done.json["results"]
    assert first["error"]["type"] == "RolledBack"
    assert second["error"]["type"] == "CommandFailed"
    assert second["error"]["device"] == host.vf(0, 1)
    assert second["error"]["errno"] == errno.EIO
    assert second["error"]["cure"]


def test_a_vf_fails_and_the_others_go_on(host, run):
    host.fail(host.vf(0, 1), errno.EIO)
    done = run("plug", "--on-error", "continue", *words(host, 1, 2, 3))
    assert done.code == 1
    assert done.out.splitlines()[-1] == "3 VIFs: 2 plugged, 1 failed"
    assert [host.seen(0)[n] for n in (0, 2)] == [plugged(1), plugged(3)]


def test_a_guest_has_it(host, run):
    host.seed(0, 0, GUIDS[1], GUIDS[1], "follow")
    with host.hold(host.vf(0, 0)):
        assert run("unplug", MACS[1]).code == 1
        done = run("plug", f"{host.vf(0, 1)}={MACS[1]}")
    assert done.code == 1
    assert "a guest has" in done.err


def test_nothing_serves_the_pf(bed, run):
    bed.build(Hca(vfs=2, netdev=False))
    done = run("plug", *words(bed, 1))
    assert done.code == 1
    assert "no IPoIB network device" in done.err
    assert "ib_ipoib" in done.err


def test_a_simulated_host_that_nobody_serves(host, run, tmp_path):
    folder = host.command[-1]
    (tmp_path / "sys").mkdir()
    shutil.copy(f"{folder}/host.json", tmp_path)
    done = run("list", "--host", str(tmp_path))
    assert done.code == 1
    assert "ibhostdev simulate" in done.err


# -- exit code 2 ----------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        "{vf}",
        "{vf}=",
        "{vf}=fa:16:3e:00:00",
        "{vf}=00:00:00:00:00:00",
        "{vf}=ff:ff:ff:ff:ff:ff:ff:ff",
        "../{vf}=fa:16:3e:00:00:09",
        "{pf}=fa:16:3e:00:00:09",
        "0000:ff:00.1=fa:16:3e:00:00:09",
        "{vf}=fa:16:3e:00:00:01",
        "{first}=fa:16:3e:00:00:09",
    ],
)
def test_bad_input_touches_nothing(host, run, bad):
    before = host.seen(0)
    bad = bad.format(vf=host.vf(0, 1), pf=host.pfs[0], first=host.vf(0, 0))
    host.reset_counts()
    done = run("plug", *words(host, 1), bad)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("ibhostdev: ")
    done = run("plug", "--json", *words(host, 1), bad)
    assert done.code == 2
    assert (done.json["ok"], done.json["results"]) == (False, [])
    assert done.json["error"]["message"]
    assert set(done.json["error"]) == {
        *("type", "message", "device", "attribute", "errno", "cure")
    }
    assert host.counts().modify == 0
    assert host.seen(0) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["plug"],
        ["unplug", "--policy", "up", MACS[1]],
        ["plug", "--policy", "sideways", "x"],
        ["plug", "--file", "vifs.yaml", f"0000:3b:00.1={MACS[1]}"],
        ["frobnicate"],
        ["list", "--frobnicate"],
        ["--physical-device-mappings", "default", "list"],
        ["--host", "/nonexistent", "list"],
    ],
)
def test_bad_usage(host, run, arguments):
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err
    done = run(*arguments, "--json")
    assert done.code == 2
    assert (done.json["ok"], done.json["results"]) == (False, [])


def test_a_policy_that_mlx4_has_not(bed, run):
    bed.build(Hca("mlx4", vfs=2))
    done = run("plug", "--policy", "up", *words(bed, 1))
    assert done.code == 2
    assert "no policy" in done.err


def test_physical_networks(host, run):
    mapping = ["--physical-device-mappings", "left:ib0,right:ib1"]
    plug = [*mapping, "plug", *words(host, 1)]
    done = run(*plug, "--physical-network", "right")
    assert done.code == 2
    assert "right" in done.err
    assert run(*plug, "--physical-network", "nowhere").code == 2
    assert run(*plug, "--physical-network", "left").code == 0
    # several PFs of one network
    both = ["--physical-device-mappings", f"net:ib0, net:{host.pfs[1]}"]
    more = [f"{host.vf(0, 2)}={MACS[4]}", f"{host.vf(1, 2)}={MACS[5]}"]
    assert run(*both, "plug", *more, "--physical-network", "net").code == 0


# -- exit code 3, signals -------------------------------------------------


def test_no_rights(host, run):
    host.fail(host.vf(0, 0), errno.EPERM)
    host.fail(host.vf(0, 1), errno.EACCES)
    done = run("plug", *words(host, 1, 2, 3))
    assert done.code == 3
    assert "CAP_NET_ADMIN" in done.err
    host.fail(host.vf(0, 0), errno.EIO)
    assert run("plug", *words(host, 1, 2, 3)).code == 1


def test_no_place_for_locks(host, run, tmp_path):
    (tmp_path / "file").touch()
    folder = str(tmp_path / "run")
    assert run("plug", *words(host, 1), "--run-dir", folder).code == 0
    assert os.path.exists(f"{folder}/{host.pfs[0]}.lock")
    folder = str(tmp_path / "file/run")
    done = run("plug", *words(host, 2), "--run-dir", folder)
    assert done.code == 1
    assert f"{folder}/{host.pfs[0]}.lock" in done.err
    assert "errno" in done.err
    assert "--run-dir" in done.err


def test_a_folder_for_locks_without_a_name(host, run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for command in (["plug", *words(host, 1)], ["list"], ["metrics"]):
        done = run(*command, "--run-dir", "")
        assert done.code == 2
        assert "no folder for the locks is named" in done.err
        assert "--run-dir" in done.err
    assert os.listdir() == []
    assert host.counts().modify == 0


def test_a_guid_or_vf_that_is_there_twice_is_told_with_both(host, run):
    one, two = host.vf(0, 0), host.vf(0, 1)
    done = run("plug", f"{one}={MACS[1]}", f"{two}={MACS[1]}")
    assert done.code == 2
    assert f"{two}: GUID {GUIDS[1]} is named twice, for {one} too" in done.err
    done = run("plug", f"{one}={MACS[1]}", f"{one}={MACS[2]}")
    assert done.code == 2
    assert (
        f"{one}: the VF is named twice, for GUIDs {GUIDS[1]} and" in done.err
    )
    assert GUIDS[2] in done.err
    done = run("unplug", MACS[1], f"{two}={MACS[1]}")
    assert (done.code, "too" in done.err) == (2, False)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)],
)
def test_a_signal_in_the_middle_leaves_nothing_half_done(host, number, code):
    host.delay(command=0.5)
    host.reset_counts()
    process = subprocess.Popen(
        [*host.command, "plug", "--json", *words(host, 1, 2, 3, 4)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while not host.counts().modify:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    time.sleep(0.05)
    process.send_signal(number)  # somebody is impatient
    host.delay()
    out, err = process.communicate(timeout=600)
    assert process.returncode == code
    assert json.loads(out)["ok"] is False
    assert json.loads(out)["error"]["type"] == "Interrupted"
    assert b"Traceback" not in err
    assert not any(
        seen.port in GUIDS or seen.node in GUIDS for seen in host.seen(0)
    )
    assert main([*host.command[3:], "plug", *words(host, 1, 2, 3, 4)]) == 0
    assert host.seen(0) == [plugged(n) for n in (1, 2, 3, 4)]


def test_a_mechanism_that_cannot_serve_says_why(host, run):
    vif = f"{host.vf(0, 1)}=fa:16:3e:00:00:01"
    nowhere = "0000:00:00.7=fa:16:3e:00:00:01"
    for command, word in (
        ("plug", vif),
        ("unplug", vif),
        ("unplug", MACS[1]),
        ("unplug", nowhere),
    ):
        done = run(command, "--mechanism", "mlx4_sysfs", word)
        assert done.code == 2, (command, word)
        assert "the PF's driver is not mlx4_core" in done.err
        assert "leave it to be chosen" in done.err
    assert host.counts().modify == 0


def test_what_was_written_is_told_on_request(host, shell):
    done = shell("-v", "plug", *words(host, 1))
    assert done.code == 0
    assert done.err == (
        f"ibhostdev.host: {host.vf(0, 0)}: was GUID not known, policy down; "
        f"is GUID {GUIDS[1]}, policy follow; by mlx5_netlink\n"
    )
    assert shell("plug", *words(host, 2)).err.startswith("warning: ")
    done = shell("-v", "unplug", *words(host, 2))
    assert done.err == (
        f"ibhostdev.host: {host.vf(0, 0)}: was GUID {GUIDS[2]}, policy "
        "follow; is idle, policy down; by mlx5_netlink\n"
    )


def test_of_a_simulated_host_the_journal_hears_nothing(host):
    folder = host.command[host.command.index("--host") + 1]
    assert Settings(host=folder).connect().journal is None


def test_two_guids_are_the_vifs_own(host, run, tmp_path):
    file = tmp_path / "vifs.yaml"
    file.write_text(
        f"- pci: {host.vf(0, 0)}\n"
        f"  node_guid: {GUIDS[2]}\n  port_guid: {GUIDS[1]}\n"
    )
    done = run("plug", "--file", str(file))
    assert done.code == 0
    assert "its own, follow" in done.out
    assert host.seen(0)[0] == Seen(GUIDS[2], GUIDS[1], "follow")
    assert "half its own, follow" in run("plug", *words(host, 1)).out
