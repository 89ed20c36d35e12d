# SPDX-License-Identifier: Apache-2.0
"""An ordinary user who plugs by real sudo and real oslo.rootwrap, with the
files of etc/ as they are."""

import json
import os
import pwd
import subprocess

import pytest

from tests.flavours import ONES, guid, mac
from tests.kernel import rights
from tests.kernel.rights import BIN
from tests.kernel.testbed import run
from tests.testbed import Hca, Seen

# In the shape that has the time.
pytestmark = pytest.mark.large

ROOTWRAP = [str(BIN / "ibhostdev-rootwrap"), "/etc/ibhostdev/rootwrap.conf"]
# Not from the working directory, where the clone's folder is named as the
# package.
SAFE = ["-P", "-c"]
IDLE = Seen(ONES, ONES, "down")
TWICE = """
import json, sys
from ibhostdev import Vif
from ibhostdev.privilege.request import Request
from ibhostdev.privilege.rootwrap import Rootwrap
rootwrap = Rootwrap(daemon=True)
for pci, mac in json.load(sys.stdin):
    vifs = (Vif.parse(pci, mac),)
    print(rootwrap.call(Request("plug", vifs)).ok)
"""


def user(*command, name="plugger", text=None):
    """Run something as that user."""
    account = pwd.getpwnam(name)
    return subprocess.run(
        command,
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=os.getgrouplist(name, account.pw_gid),
        env={"PATH": "/usr/bin:/bin", "HOME": "/"},
        cwd="/",
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module", autouse=True)
def installed():
    rights.rootwrap()
    run("useradd", "--no-create-home", "--groups=ibhostdev", "plugger")
    run("useradd", "--no-create-home", "stranger")


@pytest.fixture
def vfs(bed):
    bed.build(Hca("mlx5", vfs=4))
    return [bed.vf(0, index) for index in range(4)]


def command(*arguments, **how):
    return user(str(BIN / "ibhostdev"), *arguments, **how)


@pytest.mark.parametrize("kind", ["rootwrap", "rootwrap-daemon"])
def test_plug_and_unplug(bed, vfs, kind):
    words = [f"{vf}={mac(n)}" for n, vf in enumerate(vfs)]
    done = command("plug", f"--privilege={kind}", "--json", *words)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["results"]
    assert [one["changed"] for one in told] == [True] * 4
    assert bed.seen(0) == [Seen(guid(n), guid(n), "follow") for n in range(4)]
    done = command("unplug", f"--privilege={kind}", mac(1), mac(3))
    assert done.returncode == 0, done.stderr
    assert bed.seen(0)[1::2] == [IDLE, IDLE]
    assert bed.seen(0)[2] == Seen(guid(2), guid(2), "follow")


def test_a_kept_daemon_serves_many_calls(bed, vfs):
    pairs = [(vf, mac(n)) for n, vf in enumerate(vfs)]
    done = user(str(BIN / "python"), *SAFE, TWICE, text=json.dumps(pairs))
    assert done.stdout == "True\n" * 4, done.stderr
    assert [seen.port for seen in bed.seen(0)] == [guid(n) for n in range(4)]


def test_errors_come_back_whole(bed, vfs):
    bed.fail(vfs[1], 5)
    done = command(
        "plug", "--privilege=rootwrap", f"{vfs[0]}={mac(0)}",
        f"{vfs[1]}={mac(1)}",
    )  # fmt: skip
    assert done.returncode == 1
    for part in (vfs[1], "IFLA_VF_IB_NODE_GUID", "EIO", "kernel log"):
        assert part in done.stderr
    assert guid(0) not in {seen.port for seen in bed.seen(0)}


def test_without_it_the_way_is_told(bed, vfs):
    before = bed.seen(0)
    done = command("plug", f"{vfs[0]}={mac(0)}")
    assert done.returncode == 3
    assert "--privilege" in done.stderr
    assert bed.seen(0) == before


def test_who_is_not_in_sudoers(bed, vfs):
    before = bed.seen(0)
    done = command(
        "plug", "--privilege=rootwrap", f"{vfs[0]}={mac(0)}", name="stranger"
    )
    assert done.returncode == 3
    assert "etc/sudoers.d/ibhostdev" in done.stderr
    assert bed.seen(0) == before


@pytest.mark.parametrize(
    "words",
    [
        ["ibhostdev-privileged", "/etc/shadow"],
        ["sh", "-c", "id"],
        ["privsep-helper", "--help"],
    ],
)
def test_nothing_else_can_be_run(words):
    done = user("sudo", "-n", *ROOTWRAP, *words)
    # By sudo itself, which has the whole command line in its rules.
    assert done.returncode == 1
    assert done.stdout == ""
    # By the filters, were the rule of sudo wider.
    done = subprocess.run(
        [*ROOTWRAP, *words], capture_output=True, check=False
    )
    assert done.returncode in (96, 99)


def test_the_daemon_runs_nothing_else(bed, vfs):
    source = (
        "import sys; from oslo_rootwrap.client import Client\n"
        f"client = Client(['sudo', '-n', '{BIN}/ibhostdev-rootwrap-daemon',"
        " '/etc/ibhostdev/rootwrap.conf'])\n"
        "for words in (['cat', '/etc/shadow'], ['privsep-helper', '--help'],"
        " ['ibhostdev-privileged', '/etc/shadow']):\n"
        "    try:\n"
        "        print(client.execute(words)[:2])\n"
        # What the daemon has to say of it, it says to a closed file.
        "    except Exception as error:\n"
        "        print('ValueError' in str(error) and (99, ''))\n"
    )
    done = user(str(BIN / "python"), *SAFE, source)
    told = done.stdout.splitlines()
    assert len(told) == 3, done.stderr
    assert set(told) <= {"(96, '')", "(99, '')"}


def test_bad_requests_touch_nothing(bed, vfs):
    """The unit tests have many more."""
    before = bed.seen(0)
    bed.reset_counts()
    for text in (
        '{"action": "plug", "vifs": [{"pci": "../../etc", "guid": '
        '"fa:16:3e:00:00:00:00:01", "physical_network": null}]}',
        '{"action": "plug", "vifs": []}' + " " * (1 << 20),
    ):
        done = user("sudo", "-n", *ROOTWRAP, "ibhostdev-privileged", text=text)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["error"]["type"] == "InvalidInput"
    assert bed.counts().modify == 0
    assert bed.seen(0) == before
