# SPDX-License-Identifier: Apache-2.0
"""The vendor's eswitchd and ebrctl (networking-mlnx), on a real kernel: as
what we fall back on, and as a witness of what we do.

eswitchd takes some 40 s to start here, so there is one for each family, and
the tests of a family follow one another on the same VFs.
"""

import ctypes
import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ibhostdev import BatchFailed, Vif
from ibhostdev.errors import NotRunning, NotVerified
from ibhostdev.host.vendor import Command, require_daemon
from tests.flavours import ONES, guid, mac
from tests.kernel.testbed import run
from tests.testbed import Hca, Seen

# In the shape that has the time: the other has all the common tests.
pytestmark = pytest.mark.large

PEER = Path(__file__).parents[2] / ".venv-mlnx" / "bin"
CONFIGURATION = """
[DEFAULT]
[DAEMON]
fabrics = default:{netdev}
[AGENT]
root_helper = env
"""
ASK = """
import json, sys, zmq
socket = zmq.Context().socket(zmq.REQ)
socket.connect("tcp://127.0.0.1:60001")
socket.send_string(json.dumps({"action": "get_vnics", "fabric": "*"}))
print(json.dumps(json.loads(socket.recv_string())["response"]))
"""
VFS = 4
CLONE_NEWNET = 0x40000000  # <sched.h>


class Eswitchd:
    """The daemon, as a host's init system runs it."""

    def __init__(self, folder, netdev):
        settings = folder / "eswitchd.conf"
        settings.write_text(CONFIGURATION.format(netdev=netdev))
        self.log = folder / "eswitchd.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [PEER / "eswitchd", "--config-file", settings],
                env=os.environ | {"PATH": f"{PEER}:{os.environ['PATH']}"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + 300
        while True:
            try:
                require_daemon()
                return
            except NotRunning:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < end, self.log.read_text()
                time.sleep(0.2)

    @property
    def vnics(self):
        """PCI address to MAC, of the VFs that it takes for plugged."""
        told = json.loads(run(str(PEER / "python"), "-c", ASK))
        return {slot: vnic["mac"] for slot, vnic in told.items()}

    def stop(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, 15)
            self.process.wait()


def ebrctl(*arguments):
    """The real client, as Nova runs it."""
    return subprocess.run(
        [PEER / "ebrctl", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module", params=["mlx5", "mlx4"])
def family(request, _bed, tmp_path_factory):
    """An HCA that eswitchd has known since it was started."""
    _bed.build(Hca(request.param, vfs=VFS))
    netdev = os.listdir(f"/sys/bus/pci/devices/{_bed.pfs[0]}/net")[0]
    # It cannot read a GUID that has fewer digits than 16.
    every = [Vif.parse(_bed.vf(0, n), mac(90 + n)) for n in range(VFS)]
    host = _bed.connect()
    host.plug(every)
    host.unplug(every, rebind=False)
    daemon = Eswitchd(tmp_path_factory.mktemp("eswitchd"), netdev)
    yield request.param, daemon
    daemon.stop()


# On mlx4 the files serve wherever the network device is, and the driver has
# its VFs from its start.
mlx5_only = pytest.mark.parametrize("family", ["mlx5"], indirect=True)


@pytest.fixture
def eswitchd(family):
    return family[1]


@pytest.fixture
def plugged(family):
    """What a witness sees of a VF that the vendor's tools have plugged."""

    def seen(number, policy="down"):
        if family[0] == "mlx4":
            return Seen(None, guid(number), None)
        return Seen(guid(number), guid(number), policy)

    return seen


@pytest.fixture
def idle(family):
    if family[0] == "mlx4":
        return Seen(None, ONES, None)
    return Seen(ONES, ONES, "down")


@pytest.fixture
def host(bed, monkeypatch):
    monkeypatch.setenv("PATH", f"{PEER}:{os.environ['PATH']}")
    return bed.connect(ebrctl=Command(seconds=120))


def named(bed, *pairs):
    return [
        Vif.parse(bed.vf(0, index), mac(number), "default")
        for index, number in pairs
    ]


def leave_network():
    """This thread has a network namespace of its own from now on."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")


# -- what we fall back on -------------------------------------------------


def test_forced_it_plugs_and_unplugs_verified(bed, host, plugged, idle):
    vifs = named(bed, (0, 1), (1, 2))
    result = host.plug(vifs, mechanism="ebrctl")
    assert [vf.verified for vf in result.results] == [True, True]
    assert bed.seen(0) == [plugged(1), plugged(2), idle, idle]
    bed.reset_counts()
    host.plug(vifs, mechanism="ebrctl")
    assert bed.counts().modify == 0
    result = host.unplug(vifs, mechanism="ebrctl")
    assert [vf.verified for vf in result.results] == [True, True]
    assert bed.seen(0) == [idle] * VFS


@mlx5_only
def test_where_nothing_else_serves(bed, monkeypatch, family, plugged, idle):
    """Where the PF's network device is another namespace's. ebrctl is run in
    the daemon's."""
    monkeypatch.setenv("PATH", f"{PEER}:{os.environ['PATH']}")
    command = Command(seconds=120)
    with (
        ThreadPoolExecutor(1) as here,
        ThreadPoolExecutor(1, initializer=leave_network) as pool,
    ):
        # A thread is in the namespace of the one that begins it.
        here.submit(os.getpid).result()
        host = bed.connect(
            ebrctl=lambda arguments: here.submit(command, arguments).result()
        )

        def elsewhere(work, *pairs):
            return pool.submit(work, named(bed, *pairs)).result().results

        (vf,) = elsewhere(host.plug, (2, 3))
        assert (vf.mechanism, vf.verified) == ("ebrctl", False)
        assert bed.seen(0)[2] == plugged(3)
        # By GUID: the address is of a VF that is somebody else's by now.
        bed.connect().plug(named(bed, (3, 4)))
        (vf,) = elsewhere(host.unplug, (3, 3))
        assert (vf.mechanism, vf.changed) == ("ebrctl", True)
        assert bed.seen(0)[2] == idle
        assert bed.seen(0)[3] == plugged(4, "follow")
        bed.connect().unplug(named(bed, (3, 4)))
        # Nobody has it any more, which is success.
        (vf,) = elsewhere(host.unplug, (2, 3))
        assert (vf.changed, vf.error) == (False, None)


# -- a witness that nobody here wrote -------------------------------------


def test_it_finds_what_we_plug(bed, host, eswitchd, idle):
    host.plug(named(bed, (0, 5), (3, 6)))
    assert eswitchd.vnics[bed.vf(0, 0)] == mac(5)
    assert eswitchd.vnics[bed.vf(0, 3)] == mac(6)
    done = ebrctl("del-port", "default", mac(5))
    assert done.returncode == 0, done.stderr
    assert bed.seen(0)[0] == idle
    assert mac(5) not in eswitchd.vnics.values()
    assert eswitchd.vnics[bed.vf(0, 3)] == mac(6)
    host.unplug(named(bed, (3, 6)))
    assert mac(6) not in eswitchd.vnics.values()
    assert ebrctl("del-port", "default", mac(6)).returncode == 1


def test_we_find_what_it_plugs(bed, host, plugged, idle):
    done = ebrctl(
        "add-port", mac(7), "guest", "default", "ib_hostdev", bed.vf(0, 1)
    )
    assert (done.returncode, done.stdout) == (0, bed.vf(0, 1)), done.stderr
    assert bed.seen(0)[1] == plugged(7)
    # The same identity again: no GUID is written, but the link is raised,
    # which the vendor's leave to the Neutron agent.
    host.plug(named(bed, (1, 7)))
    assert bed.seen(0)[1] == plugged(7, "follow")
    host.unplug(named(bed, (1, 7)))
    assert bed.seen(0)[1] == idle


# -- its bad days ---------------------------------------------------------


@mlx5_only
def test_its_success_for_a_vf_that_it_does_not_know(bed, host, family):
    """VFs enabled after it was started."""
    bed.numvfs(0, 0)
    bed.numvfs(0, VFS + 1)
    done = ebrctl(
        "add-port", mac(8), "guest", "default", "ib_hostdev", bed.vf(0, VFS)
    )
    if done.returncode == 0:
        assert bed.seen(0)[VFS].port != guid(8)
    with pytest.raises(BatchFailed) as caught:
        host.plug(named(bed, (VFS, 8)), mechanism="ebrctl")
    (failure,) = caught.value.result.failures
    assert isinstance(failure, NotVerified) or "add-port" in str(failure)
    assert bed.seen(0)[VFS].port != guid(8)


def test_a_dead_daemon_is_told_at_once(bed, host, eswitchd):
    eswitchd.stop()
    with pytest.raises(BatchFailed) as caught:
        host.plug(named(bed, (0, 9)), mechanism="ebrctl")
    (failure,) = caught.value.result.failures
    # Not what the client comes to after 50 s.
    assert isinstance(failure, NotRunning)
    assert "nobody listens" in failure.message
