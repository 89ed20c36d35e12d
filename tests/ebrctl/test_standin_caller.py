# SPDX-License-Identifier: Apache-2.0
"""The stand-in and who calls it: signals, descriptors, what is shown."""

import fcntl
import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ibhostdev.ebrctl import PROGRAM
from tests.ebrctl.conftest import DEVICE_ID, environment
from tests.flavours import guid, mac
from tests.testbed import Hca, Seen

MAPPINGS = "IBHOSTDEV_PHYSICAL_DEVICE_MAPPINGS"
BLOCKING = ["netlink", "files"]


@pytest.fixture
def start(bed):
    """Starts an add-port; `before` is what the shell does before it."""

    def run(number, index, before="", **options):
        return subprocess.Popen(
            [
                *("sh", "-c", f'{before}\nexec "$@"', "sh", PROGRAM),
                *("add-port", mac(number), DEVICE_ID, "default"),
                *("ib_hostdev", bed.vf(0, index)),
            ],
            env=environment(bed),
            stdin=subprocess.DEVNULL,
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options,
        )

    return run


def until(condition):
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def run_dir(bed):
    if bed.kind == "simulated":
        return Path(bed.command[-1], "run")
    return Path("/run/ibhostdev")


# -- signals ------------------------------------------------------------


@pytest.mark.parametrize("flavour", BLOCKING, indirect=True)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_the_vf_is_as_it_was(
    bed, flavour, number, add_port, start
):
    assert add_port(1, 0).returncode == 0
    before = bed.seen(0)
    bed.delay(command=0.3)
    bed.reset_counts()
    process = start(2, 0)
    until(lambda: bed.counts().modify >= 1)
    process.send_signal(number)
    output, _ = process.communicate()
    bed.delay()
    assert (process.returncode, output) == (-number, "")
    assert bed.seen(0) == before


def test_a_signal_that_is_ignored_stays_so(bed, start):
    """As nohup has it."""
    bed.build(Hca("mlx5", vfs=2))
    bed.delay(command=0.3)
    bed.reset_counts()
    process = start(1, 0, before="trap '' HUP")
    until(lambda: bed.counts().modify >= 1)
    process.send_signal(signal.SIGHUP)
    output, errors = process.communicate()
    bed.delay()
    assert (process.returncode, output) == (0, bed.vf(0, 0)), errors
    assert bed.seen(0)[0] == Seen(guid(1), guid(1), "follow")


def test_a_signal_ends_the_wait_for_a_lock(bed, start):
    bed.build(Hca("mlx5", vfs=2))
    before = bed.seen(0)
    run_dir(bed).mkdir(exist_ok=True)
    with open(run_dir(bed) / f"{bed.pfs[0]}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = start(1, 0)
        status = Path(f"/proc/{process.pid}/status")
        until(lambda: "SigBlk:\t0000000000000000" not in status.read_text())
        process.terminate()
        process.communicate()
    assert process.returncode == -signal.SIGTERM
    assert bed.seen(0) == before


# -- limits -------------------------------------------------------------


def test_a_caller_s_limits_are_not_its_own(bed, start):
    bed.build(Hca("mlx5", vfs=2))
    bed.delay(command=0.3)
    bed.reset_counts()
    process = start(1, 0, before="ulimit -S -n 9; ulimit -S -t 900")
    until(lambda: bed.counts().modify >= 1)
    for which in (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU):
        soft, hard = resource.prlimit(process.pid, which)
        assert soft == hard
    bed.delay()
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert bed.seen(0)[0] == Seen(guid(1), guid(1), "follow")


# -- descriptors --------------------------------------------------------


def test_descriptors_that_are_closed(bed, add_port, start):
    bed.build(Hca("mlx5", vfs=2))
    process = start(1, 0, before="exec <&- >&- 2>&-")
    process.communicate()
    assert process.returncode == 0
    # With a warning that goes nowhere.
    process = start(1, 1, before="exec <&- >&- 2>&-")
    process.communicate()
    assert process.returncode == 0
    assert bed.seen(0)[1] == Seen(guid(1), guid(1), "follow")
    # Beside the PFs' locks others keep what they counted there.
    locks = [run_dir(bed) / f"{pf}.lock" for pf in bed.pfs]
    assert not any(lock.read_bytes() for lock in locks)


def test_an_output_that_is_full(bed, start):
    bed.build(Hca("mlx5", vfs=2))
    with open("/dev/full", "w") as full:
        process = start(1, 0, stdout=full)
        _, errors = process.communicate()
    assert process.returncode == 1
    assert "standard output: cannot be written: No space left" in errors


def test_nobody_waits_for_who_does_not_read_its_warnings(bed, add_port, start):
    """A pipe that is full keeps the program, but no lock."""
    bed.build(Hca("mlx5", vfs=4))
    assert add_port(1, 0).returncode == 0
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"." * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    process = start(1, 1, stderr=writer)
    os.close(writer)
    until(lambda: bed.seen(0)[1].port == guid(1))
    assert add_port(2, 2).returncode == 0
    assert process.poll() is None
    with open(reader) as rest:
        assert f"was still on {bed.vf(0, 0)}" in rest.read()
    assert process.wait() == 0
    process.stdout.close()


# -- what is shown ------------------------------------------------------


@pytest.mark.parametrize("number", [0, 2, 3, 4])
def test_control_characters_do_not_reach_the_terminal(bed, ebrctl, number):
    bed.build(Hca("mlx5", vfs=1))
    arguments = [mac(1), DEVICE_ID, "red", "ib_hostdev", bed.vf(0, 0)]
    arguments[number] = "\x1b]0;x\x07\r\n\x7f\u009b2J"
    done = ebrctl("add-port", *arguments, **{MAPPINGS: f"red:{bed.pfs[0]}"})
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.endswith("\n")
    assert done.stderr[:-1].isprintable()


@pytest.mark.parametrize("number", [0, 2, 3, 4])
@pytest.mark.parametrize(
    "odd",
    [
        b"\x9b2J",
        b"\xc0\x9b",
        b"\xe0\x80\x9b",
        b"\xf0\x80\x80\x9b",
        b"\xed\xa0\x80",
        b"\xf5\x80\x80\x80",
        b"\xe2\x82",
        b"\xff",
    ],
    ids=bytes.hex,
)
def test_what_is_no_character_does_not_either(bed, ebrctl, number, odd):
    bed.build(Hca("mlx5", vfs=1))
    arguments = [mac(1), DEVICE_ID, "red", "ib_hostdev", bed.vf(0, 0)]
    arguments[number] = "é€𝄞".encode() + odd
    done = ebrctl("add-port", *arguments, **{MAPPINGS: f"red:{bed.pfs[0]}"})
    assert done.returncode == 1
    assert "é€𝄞?" in done.stderr
    assert done.stderr[:-1].isprintable()


def test_control_characters_of_the_environment(bed, ebrctl):
    bed.build(Hca("mlx5", vfs=1))
    for variables in ({MAPPINGS: "\x1b[2J"}, {"IBHOSTDEV_HOST": "/\x1b[2J"}):
        done = ebrctl("del-port", "default", mac(1), **variables)
        assert done.returncode == 1
        assert "[2J" in done.stderr
        assert done.stderr[:-1].isprintable()


# -- simulated hosts ----------------------------------------------------


def test_no_folder_is_named(bed, ebrctl):
    """It is not the machine itself then."""
    bed.build(Hca("mlx5", vfs=1))
    done = ebrctl("del-port", "default", mac(1), IBHOSTDEV_HOST="")
    assert done.returncode == 1
    assert "IBHOSTDEV_HOST: no such simulated host" in done.stderr


def test_locks_are_not_led_elsewhere(tmp_path, bed, ebrctl):
    (tmp_path / "host.json").write_text('{"netlink_port": 1, "sysfs_port": 1}')
    (tmp_path / "run").symlink_to("/tmp")
    done = ebrctl("del-port", "default", mac(1), IBHOSTDEV_HOST=str(tmp_path))
    assert done.returncode == 1
    assert "run is no folder of this simulated host's own" in done.stderr


@pytest.mark.parametrize("state", ["", "{}", "\0" * 100_000, "[" * 5000])
def test_a_folder_that_is_no_simulated_host(tmp_path, bed, ebrctl, state):
    (tmp_path / "host.json").write_text(state)
    done = ebrctl("del-port", "default", mac(1), IBHOSTDEV_HOST=str(tmp_path))
    assert done.returncode == 1
    assert f"{tmp_path}: is no simulated host" in done.stderr


def test_a_folder_of_others_is_not_to_be_served(tmp_path, bed, ebrctl):
    (tmp_path / "host.json").write_text('{"mine": 1}')
    done = ebrctl("del-port", "default", mac(1), IBHOSTDEV_HOST=str(tmp_path))
    assert "is no simulated host; unset or correct" in done.stderr
    (tmp_path / "host.json").write_text('{"simulated_host": 1}')
    done = ebrctl("del-port", "default", mac(1), IBHOSTDEV_HOST=str(tmp_path))
    assert "start it: ibhostdev simulate" in done.stderr


def test_nothing_is_waited_for(tmp_path, bed, ebrctl):
    os.mkfifo(tmp_path / "host.json")
    done = ebrctl("del-port", "default", mac(1), IBHOSTDEV_HOST=str(tmp_path))
    assert done.returncode == 1
    assert f"{tmp_path}: is no simulated host" in done.stderr
