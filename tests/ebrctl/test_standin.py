# SPDX-License-Identifier: Apache-2.0
"""The stand-in does to VFs what the engine does, seen by witnesses."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading

import pytest

from ibhostdev import Vif
from ibhostdev.ebrctl import PROGRAM
from ibhostdev.host.vendor import is_ours
from tests.ebrctl.conftest import DEVICE_ID, environment
from tests.flavours import ONES, ZERO, guid, mac
from tests.testbed import Hca, Seen


def run_dir(bed):
    if bed.kind == "simulated":
        return os.path.join(bed.command[-1], "run")
    return "/run/ibhostdev"


def plugged(bed, number, index, pf=0):
    bed.connect().plug([Vif.parse(bed.vf(pf, index), mac(number))])


# -- add-port -----------------------------------------------------------


def test_add_port(bed, flavour, add_port):
    before = bed.seen(0)
    done = add_port(1, 2)
    assert done.returncode == 0, done.stderr
    # As the vendor's: the device, without a newline.
    assert done.stdout == bed.vf(0, 2)
    assert done.stderr == ""
    assert bed.seen(0) == [
        *before[:2],
        flavour.seen(guid(1)),
        *before[3:],
    ]


def test_it_costs_as_much_as_it_must(bed, flavour, add_port):
    bed.reset_counts()
    add_port(1, 0)
    counts = bed.counts()
    assert counts.modify == flavour.commands
    assert counts.getlink <= flavour.getlinks(2)
    assert counts.probe == 0
    bed.reset_counts()
    add_port(1, 0)
    counts = bed.counts()
    assert counts.modify == 0
    assert counts.getlink <= flavour.getlinks(1)


def test_the_engine_agrees(bed, flavour, add_port):
    add_port(1, 1)
    bed.reset_counts()
    plugged(bed, 1, 1)
    assert bed.counts().modify == 0


def test_it_takes_what_the_engine_wrote_for_done(bed, flavour, add_port):
    plugged(bed, 1, 1)
    bed.reset_counts()
    assert add_port(1, 1).returncode == 0
    assert bed.counts().modify == 0


def test_addresses_in_other_forms(bed, ebrctl):
    bed.build(Hca("mlx5", vfs=2))
    slot = bed.vf(0, 0).upper()
    done = ebrctl(
        "add-port",
        mac(1).upper(),
        DEVICE_ID,
        "default",
        "ib_hostdev",
        slot,
    )
    assert (done.returncode, done.stdout) == (0, slot)
    assert bed.seen(0)[0] == Seen(guid(1), guid(1), "follow")


def test_a_mac_of_a_group(bed, flavour, ebrctl):
    """It is one that no Neutron gives, and a GUID like any."""
    odd = "13:16:3e:12:34:56"
    shown = "13:16:3e:00:00:12:34:56"
    done = ebrctl(
        "add-port", odd, DEVICE_ID, "default", "ib_hostdev", bed.vf(0, 0)
    )
    assert (done.returncode, done.stdout) == (0, bed.vf(0, 0))
    assert shown in done.stderr
    assert bed.seen(0)[0] == flavour.seen(shown)
    assert ebrctl("del-port", "default", odd).returncode == 0
    assert bed.seen(0)[0] == flavour.idle


def test_only_what_is_not_right_yet_is_written(bed, add_port):
    bed.build(Hca("mlx5", vfs=2))
    bed.seed(0, 0, node=guid(1), policy="follow")
    bed.reset_counts()
    add_port(1, 0)
    assert bed.counts().modify == 1
    assert bed.seen(0)[0] == Seen(guid(1), guid(1), "follow")


def test_the_agents_policy_is_left_alone(bed, add_port):
    bed.build(Hca("mlx5", vfs=2))
    add_port(1, 0)
    bed.seed(0, 0, policy="up")
    add_port(1, 0)
    assert bed.seen(0)[0].policy == "up"
    bed.seed(0, 0, policy="down")
    add_port(1, 0)
    assert bed.seen(0)[0].policy == "follow"


def test_a_stale_holder_is_made_idle(bed, flavour, add_port):
    add_port(1, 0)
    done = add_port(1, 3)
    assert done.returncode == 0
    assert done.stdout == bed.vf(0, 3)
    assert f"was still on {bed.vf(0, 0)}" in done.stderr
    seen = bed.seen(0)
    assert seen[0] == flavour.idle
    assert seen[3] == flavour.seen(guid(1))


def test_a_stale_holder_on_another_pf(bed, add_port):
    bed.build(Hca("mlx5", vfs=2), Hca("mlx5-ofed", vfs=2, netdev=False))
    add_port(1, 0, pf=1)
    add_port(1, 0, pf=0)
    assert bed.seen(1)[0] == Seen(ONES, ONES, "down")
    assert bed.seen(0)[0] == Seen(guid(1), guid(1), "follow")


def test_a_tenants_vf_changes_hands(bed, flavour, add_port):
    """As the engine: who plugs last has it, unless a guest does."""
    assert add_port(1, 0).stderr == ""
    told = add_port(2, 0).stderr
    for thing in (bed.vf(0, 0), guid(1), guid(2)):
        assert thing in told
    assert bed.seen(0)[0] == flavour.seen(guid(2))


def test_a_guests_vf_is_not_changed(bed, flavour, add_port):
    add_port(1, 0)
    with bed.hold(bed.vf(0, 0)):
        before = bed.seen(0)
        again = add_port(1, 0)
        other = add_port(2, 0)
        moved = add_port(1, 1)
        assert bed.seen(0) == before
    assert again.returncode == 0
    assert other.returncode == 1
    assert "a guest has the VF" in other.stderr
    assert moved.returncode == 1
    assert f"is held by {bed.vf(0, 0)}, which a guest has" in moved.stderr


@pytest.mark.parametrize(
    ("before", "after"),
    # A link that is down went with the identity; another somebody has chosen.
    [("down", "follow"), ("up", "up")],
)
def test_a_guest_gets_a_lost_identity_back(bed, add_port, before, after):
    bed.build(Hca("mlx5", vfs=2))
    with bed.hold(bed.vf(0, 0)):
        bed.seed(0, 0, node=ONES, port=ONES, policy=before)
        assert add_port(1, 0).returncode == 0
        assert bed.seen(0)[0] == Seen(guid(1), guid(1), after)


def test_who_cannot_be_told_apart_is_left_to_the_guest(bed, add_port):
    bed.build(Hca("mlx5", vfs=2))
    with bed.hold(bed.vf(0, 0)):
        done = add_port(1, 0)
    assert done.returncode == 0
    assert "is left alone: a guest has it" in done.stderr
    assert bed.seen(0)[0] == Seen(ZERO, ZERO, "down")


# -- del-port -----------------------------------------------------------


def test_del_port(bed, flavour, add_port, del_port):
    for index in range(3):
        add_port(index + 1, index)
    done = del_port(2)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    seen = bed.seen(0)
    assert seen[0] == flavour.seen(guid(1))
    assert seen[1] == flavour.idle
    assert seen[2] == flavour.seen(guid(3))


def test_del_port_again_is_harmless(bed, flavour, add_port, del_port):
    add_port(1, 0)
    del_port(1)
    bed.reset_counts()
    done = del_port(1)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    counts = bed.counts()
    assert (counts.modify, counts.probe) == (0, 0)


def test_del_port_of_a_fault(bed, flavour, add_port, del_port):
    """Several have it: none keeps it."""
    bed.seed(0, 1, port=guid(1), node=None if flavour.mlx4 else guid(1))
    bed.seed(0, 2, port=guid(1), node=None if flavour.mlx4 else guid(1))
    assert del_port(1).returncode == 0
    assert bed.seen(0)[1:3] == [flavour.idle, flavour.idle]


def test_del_port_spares_a_guest(bed, flavour, add_port, del_port):
    add_port(1, 0)
    with bed.hold(bed.vf(0, 0)):
        before = bed.seen(0)
        done = del_port(1)
        assert bed.seen(0) == before
    assert done.returncode == 1
    assert f"{bed.vf(0, 0)}: a guest has the VF with GUID" in done.stderr


def test_del_port_refreshes_the_hosts_own_driver(bed, add_port, del_port):
    bed.build(Hca("mlx5", vfs=2))
    vf = bed.vf(0, 0)
    add_port(1, 0)
    bed.bind(vf, None)
    bed.bind(vf, "mlx5_core")
    assert bed.identity(vf) == guid(1)
    bed.reset_counts()
    assert del_port(1).returncode == 0
    assert bed.counts().probe == 1
    assert bed.driver(vf) == "mlx5_core"
    assert bed.identity(vf) != guid(1)


def test_del_port_leaves_other_drivers_alone(bed, add_port, del_port):
    bed.build(Hca("mlx5", vfs=2))
    add_port(1, 0)
    add_port(2, 1)
    bed.bind(bed.vf(0, 0), "vfio-pci")
    bed.bind(bed.vf(0, 1), None)
    bed.reset_counts()
    assert del_port(1).returncode == 0
    assert del_port(2).returncode == 0
    assert bed.counts().probe == 0
    assert bed.driver(bed.vf(0, 0)) == "vfio-pci"
    assert bed.driver(bed.vf(0, 1)) is None


def test_del_port_does_not_call_done_what_it_could_not_see(bed, del_port):
    bed.build(Hca("mlx5", vfs=2, netdev=False))
    done = del_port(1)
    assert done.returncode == 1
    assert "not all could" in done.stderr
    assert "load ib_ipoib, or install MLNX_OFED" in done.stderr


def test_del_port_may_not_have_seen_it(bed, del_port):
    """Up, and no GUID is shown, as before Linux 5.5."""
    bed.build(Hca("mlx5", vfs=2))
    bed.seed(0, 1, policy="follow")
    done = del_port(1)
    assert done.returncode == 1
    assert "not all could" in done.stderr


# -- bad days -----------------------------------------------------------


# mlx4 refuses nothing.
@pytest.mark.parametrize(
    "flavour", ["netlink", "ofed", "files"], indirect=True
)
def test_a_vf_that_refuses_is_as_it_was(bed, flavour, add_port):
    add_port(1, 0)
    before = bed.seen(0)
    bed.fail(bed.vf(0, 0), errno.EIO)
    done = add_port(2, 0)
    bed.heal()
    assert done.returncode == 1
    assert done.stdout == ""
    assert bed.vf(0, 0) in done.stderr
    assert "(EIO)" in done.stderr
    assert "look into the kernel log" in done.stderr
    assert "put back" not in done.stderr
    assert bed.seen(0) == before


def test_a_vf_that_cannot_be_put_back(bed, add_port):
    """It takes the node GUID, and then nothing any more."""
    bed.build(Hca("mlx5-ofed", vfs=2, netdev=False))
    add_port(1, 0)
    bed.fail(bed.vf(0, 0), errno.EIO, first=2)
    done = add_port(2, 0)
    bed.heal()
    assert done.returncode == 1
    assert f"{bed.vf(0, 0)} could not be put back to what it" in done.stderr


def test_all_that_could_not_be_put_back_are_told(bed, add_port):
    """The VF that was to get the GUID, and the one that had to give it."""
    bed.build(Hca("mlx5-ofed", vfs=4, netdev=False))
    add_port(1, 0)
    add_port(2, 1)
    bed.fail(bed.vf(0, 0), errno.EIO, first=4)
    bed.fail(bed.vf(0, 1), errno.EIO, first=2)
    done = add_port(1, 1)
    bed.heal()
    assert done.returncode == 1
    told = done.stderr.splitlines()
    for index in range(2):
        assert any(
            bed.vf(0, index) in line and "could not be put back" in line
            for line in told
        )


def test_who_was_made_idle_for_it_is_put_back(bed, add_port):
    bed.build(Hca("mlx5", vfs=2))
    add_port(1, 0)
    before = bed.seen(0)
    bed.fail(bed.vf(0, 1), errno.EIO)
    done = add_port(1, 1)
    bed.heal()
    assert done.returncode == 1
    assert bed.seen(0) == before


def test_what_cannot_be_asked_is_not_guessed(bed, add_port):
    bed.build(Hca("mlx5", vfs=2))
    bed.fail_queries(bed.vf(0, 0), errno.EIO)
    done = add_port(1, 0)
    assert done.returncode == 1
    assert "cannot tell the state of the VF" in done.stderr


def test_it_waits_for_the_engines_lock(bed, add_port):
    bed.build(Hca("mlx5", vfs=2))
    os.makedirs(run_dir(bed), exist_ok=True)
    path = os.path.join(run_dir(bed), f"{bed.pfs[0]}.lock")
    done = []
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        thread = threading.Thread(target=lambda: done.append(add_port(1, 0)))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        assert bed.seen(0)[0].port == ZERO
    thread.join()
    assert done[0].returncode == 0
    assert bed.seen(0)[0].port == guid(1)


def test_many_at_once(bed, add_port):
    bed.build(Hca("mlx5", vfs=8))
    threads = [
        threading.Thread(target=add_port, args=(n + 1, n)) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [vf.port for vf in bed.seen(0)] == [guid(n) for n in range(1, 9)]


@pytest.mark.large
def test_a_vf_of_very_many(bed, add_port, del_port):
    bed.build(*[Hca("mlx5", vfs=127)] * 3)
    done = add_port(1, 126, pf=2)
    assert (done.returncode, done.stdout) == (0, bed.vf(2, 126))
    seen = bed.seen(2)
    assert seen[126] == Seen(guid(1), guid(1), "follow")
    assert seen[125].port == ZERO
    assert del_port(1).returncode == 0
    assert bed.seen(2)[126] == Seen(ONES, ONES, "down")


# -- who it is ----------------------------------------------------------


def test_it_is_known_from_the_vendors(tmp_path):
    copy = tmp_path / "ebrctl"
    shutil.copy(PROGRAM, copy)
    link = tmp_path / "link"
    link.symlink_to(PROGRAM)
    other = tmp_path / "vendor"
    other.write_text("#!/usr/bin/python\n")
    assert is_ours(str(copy))
    assert is_ours(str(link))
    assert not is_ours(str(other))


def test_its_folder_goes_first_in_path():
    done = subprocess.run(
        [sys.executable, "-m", "ibhostdev.ebrctl"],
        capture_output=True,
        text=True,
        check=True,
    )
    folder = done.stdout.rstrip("\n")
    assert shutil.which("ebrctl", path=folder) == PROGRAM


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give it away")
def test_it_goes_to_no_simulated_host_of_somebody_else(bed, tmp_path):
    bed.build(Hca("mlx5", vfs=1))
    os.chown(tmp_path, 65534, 65534)
    done = subprocess.run(
        [PROGRAM, "del-port", "default", mac(1)],
        env=environment(bed, IBHOSTDEV_HOST=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "the simulated host is somebody else's" in done.stderr
