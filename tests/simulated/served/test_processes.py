# SPDX-License-Identifier: Apache-2.0
"""The process that serves, and who connects."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ibhostdev import simulate
from ibhostdev.errors import IbHostdevError, InvalidInput, NotRunning
from ibhostdev.simulate.server import SimulatedHost
from ibhostdev.simulate.state import read_state
from tests.simulated.served.bed import PF, Bed

SERVE = """
import sys
from ibhostdev import simulate
ready = lambda host: print("ready", flush=True)
simulate.serve(sys.argv[1], pfs=1, vfs=2, ready=ready)
"""


def server(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_server_process_ends_cleanly(
    tmp_path: Path, sign: signal.Signals
) -> None:
    (tmp_path / "host").mkdir()
    folder = tmp_path / "host"
    with server(folder) as process:
        host = simulate.connect(folder)
        with pytest.raises(InvalidInput, match=str(process.pid)):
            SimulatedHost(folder).start()
        (folder / "notes").write_text("mine")
        process.send_signal(sign)
        assert process.wait(600) == 0
    with pytest.raises(NotRunning, match="ibhostdev simulate"):
        simulate.connect(folder)
    with pytest.raises(NotRunning):
        host.sysfs.write([("bus/pci/drivers_probe", b"x")])
    assert not (folder / "sys/bus/pci/drivers/mlx5_core/bind").exists()
    with server(folder) as process:
        simulate.connect(folder)
        process.terminate()
    assert process.returncode == 0
    assert (folder / "notes").read_text() == "mine"


def test_a_writer_notices_that_the_server_was_killed(tmp_path: Path) -> None:
    with server(tmp_path / "host") as process:
        tree = simulate.connect(tmp_path / "host").sysfs
        process.send_signal(signal.SIGSTOP)  # so that no answer is sent
        with ThreadPoolExecutor(1) as pool:
            item = (f"bus/pci/devices/{PF}/sriov_numvfs", b"0")
            writing = pool.submit(tree.write, [item])
            process.kill()
            with pytest.raises(NotRunning):
                writing.result(20)


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text('{"mine": 1}')
    with pytest.raises(InvalidInput, match="not a simulated host"):
        SimulatedHost(tmp_path).start()
    with pytest.raises(InvalidInput, match="not a simulated host"):
        simulate.connect(tmp_path)
    with pytest.raises(InvalidInput, match="no such folder") as caught:
        simulate.connect(tmp_path / "now here")
    assert caught.value.cure == (
        f"make one: ibhostdev simulate '{tmp_path}/now here'"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["host.json"]
    with pytest.raises(IbHostdevError, match=r"ENOTDIR|EEXIST"):
        SimulatedHost(tmp_path / "host.json").start()


@pytest.mark.parametrize(
    "options",
    [{"family": "mlx6"}, {"vfs": -1}, {"ports": 2}, {"vfs": 100000}],
)
def test_impossible_hosts_are_refused(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput):
        simulate.serve(tmp_path / "host", **options)
    assert not (tmp_path / "host").exists()


def test_connect_gives_networks_and_locks_of_the_folder(bed: Bed) -> None:
    state = read_state(bed.folder)
    assert state["physical_networks"] == {"default": ["ib0"]}
    assert state["pid"] == os.getpid()
    assert (bed.folder / "run").is_dir()


def test_importing_the_package_is_light() -> None:
    script = (
        "import ibhostdev.simulate, sys; "
        "print([m for m in ('inotify_simple', 'concurrent.futures') "
        "if m in sys.modules])"
    )
    out = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert "inotify_simple" not in out
