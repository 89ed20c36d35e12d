# SPDX-License-Identifier: Apache-2.0
"""Bad days of the stand-in, and its memory."""

import errno
import subprocess

import pytest

from tests.ebrctl.checked import program
from tests.ebrctl.conftest import DEVICE_ID, environment
from tests.flavours import guid, mac
from tests.simulated.trees import pf_folder, put
from tests.testbed import Hca, Seen


@pytest.fixture
def simulated(bed):
    """For faults that a real kernel cannot be made to have."""
    if bed.kind != "simulated":
        pytest.skip("the simulated host has these faults, the rig does not")
    return bed


def test_a_kernel_that_answers_emsgsize(bed, add_port):
    """Linux 5.5 to 6.14; the dump that is asked for then does answer, also
    about more VFs than it has room for by its own estimate."""
    bed.build(Hca("mlx5", vfs=16), Hca("mlx5", vfs=2))
    bed.underestimate()
    assert add_port(1, 15).returncode == 0
    assert bed.seen(0)[15] == Seen(guid(1), guid(1), "follow")
    bed.reset_counts()
    assert add_port(1, 15).returncode == 0
    assert bed.counts().modify == 0


def test_no_right_to_write(simulated, add_port):
    simulated.build(Hca("mlx5", vfs=2))
    simulated.host.deny(netlink=errno.EPERM)
    done = add_port(1, 0)
    assert done.returncode == 1
    assert simulated.vf(0, 0) in done.stderr
    assert "Operation not permitted (EPERM)" in done.stderr
    assert "CAP_NET_ADMIN" in done.stderr


def test_a_pf_that_cannot_be_read(simulated, add_port, del_port):
    """Its VFs may have the GUID; it does not stop the others."""
    simulated.build(Hca("mlx5", vfs=2), Hca("mlx5", vfs=2))
    ill = simulated.pfs[1]
    put(pf_folder(simulated, 1) / "sriov_stride", "none")
    done = add_port(1, 0)
    assert done.returncode == 0
    assert "not searched for the GUIDs: " in done.stderr
    assert f"{ill} sriov_stride" in done.stderr
    assert simulated.seen(0)[0] == Seen(guid(1), guid(1), "follow")
    assert del_port(1).returncode == 0
    done = del_port(1)
    assert done.returncode == 1
    assert "not all could" in done.stderr
    assert ill in done.stderr


def test_a_simulated_host_that_is_not_served(simulated, add_port):
    simulated.build(Hca("mlx5", vfs=2))
    simulated.host.close()
    done = add_port(1, 0)
    assert done.returncode == 1
    assert "Connection refused" in done.stderr


def test_memory(bed, flavour):
    checked = program()

    def run(*arguments, code=0):
        done = subprocess.run(
            [checked, *arguments],
            env=environment(bed),
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Sanitizer" not in done.stderr
        assert "runtime error" not in done.stderr
        assert done.returncode == code, done.stderr

    def add(number, index, code=0, **changed):
        run(
            "add-port",
            mac(number),
            DEVICE_ID,
            changed.get("fabric", "default"),
            "ib_hostdev",
            changed.get("slot", bed.vf(0, index)),
            code=code,
        )

    add(1, 0)
    add(1, 0)
    add(1, 3)
    add(2, 0, fabric="f" * 100_000)
    add(3, 1, slot="0" * 100_000, code=1)
    add(3, 1, slot=bed.pfs[0], code=1)
    if not flavour.mlx4:
        bed.fail(bed.vf(0, 0), errno.EIO)
        add(4, 0, code=1)
        bed.heal()
    run("del-port", "default", mac(1))
    run("del-port", "default", mac(1))
    run("del-port", "default", "m" * 100_000, code=1)
    run("del-port", code=2)
    assert bed.seen(0)[3] == flavour.idle
