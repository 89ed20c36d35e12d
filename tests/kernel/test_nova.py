# SPDX-License-Identifier: Apache-2.0
"""Nova on a real kernel: its own privileged daemons, started by real sudo
and nova-rootwrap for a user who may do nothing else."""

from pathlib import Path

import pytest

from ibhostdev.ebrctl import PROGRAM
from tests.flavours import ONES, guid, mac
from tests.kernel import rights
from tests.kernel.nova_compute import Compute
from tests.testbed import Hca, Seen

# In the shape that has the time; no guest is needed.
pytestmark = pytest.mark.large

IDLE = Seen(ONES, ONES, "down")
# CAP_DAC_OVERRIDE and CAP_NET_ADMIN of <linux/capability.h>
CAPABILITIES = 1 << 1 | 1 << 12


@pytest.fixture(scope="module")
def nova(tmp_path_factory):
    rights.nova()
    folder = tmp_path_factory.mktemp("nova")
    # pytest's folders are root's alone.
    for one in (folder, *folder.parents[:2]):
        one.chmod(0o755)
    started = Compute(folder)
    yield started
    started.close()


def daemons(context):
    """The status of each privileged daemon that serves a context."""
    for process in Path("/proc").iterdir():
        try:
            line = (process / "cmdline").read_bytes().split(b"\0")
            if context.encode() in line:
                pairs = (
                    one.split(":", 1)
                    for one in (process / "status").read_text().splitlines()
                )
                yield {name: value.strip() for name, value in pairs}
        except (OSError, ValueError):
            continue


def test_sixteen_ports_of_one_instance(bed, nova):
    bed.build(Hca("mlx5", vfs=16))
    assert any(
        int(one["CapEff"], 16) == CAPABILITIES
        for one in daemons("ibhostdev.privilege.privsep.CONTEXT")
    )
    ports = [(mac(n), bed.vf(0, n)) for n in range(16)]
    bed.reset_counts()
    assert nova("plug", *ports) is None
    assert bed.seen(0) == [Seen(guid(n), guid(n), "follow") for n in range(16)]
    assert bed.counts().modify == 3 * 16
    assert bed.counts().getlink <= 2
    # nova-compute is started again, and plugs all its guests' ports.
    bed.reset_counts()
    assert nova("plug", *ports) is None
    assert bed.counts().modify == 0
    assert nova("unplug", *ports) is None
    assert bed.seen(0) == [IDLE] * 16


def test_a_failure_is_one_that_nova_can_deal_with(bed, nova):
    bed.build(Hca("mlx5", vfs=2))
    bed.fail(bed.vf(0, 1), 5)
    ports = [(mac(n), bed.vf(0, n)) for n in range(2)]
    kind, told = nova("plug", *ports)
    assert kind == "VirtualInterfacePlugException"
    assert bed.vf(0, 1) in told
    assert "EIO" in told
    assert guid(0) not in {seen.port for seen in bed.seen(0)}


def test_unmodified_nova_runs_the_stand_in(bed, nova):
    """As the guide has it: a link in the folder that sudo looks in first."""
    bed.build(Hca("mlx5", vfs=2))
    Path("/usr/local/sbin/ebrctl").symlink_to(PROGRAM)
    ports = [(mac(n), bed.vf(0, n)) for n in range(2)]
    assert nova("Nova plugs", *ports) is None
    assert bed.seen(0) == [Seen(guid(n), guid(n), "follow") for n in range(2)]
    assert nova("Nova unplugs", ports[0]) is None
    assert bed.seen(0) == [IDLE, Seen(guid(1), guid(1), "follow")]
