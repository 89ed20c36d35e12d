# SPDX-License-Identifier: Apache-2.0
"""ibhostdev bench: whose VFs it takes, and what it leaves."""

import errno
import json
import signal
import subprocess
import time
from dataclasses import replace

import pytest

from ibhostdev import Vif
from ibhostdev.cli import main
from ibhostdev.cli.bench.borrowing import borrow
from ibhostdev.errors import DeviceInUse, RollbackFailed
from tests.flavours import ONES, ZERO, guid, mac, vifs
from tests.testbed import Hca, Seen

IDLE = Seen(ONES, ONES, "down")
FRESH = Seen(ZERO, ZERO, "down")


def given_back(flavour):
    """A fresh VF afterwards. Of a stock mlx5 the kernel does not tell what
    its GUIDs were, and mlx4 would ask the subnet manager for one."""
    if flavour.hca.family != "mlx5-ofed":
        return flavour.idle
    return flavour.seen(ZERO, "down")


def pkeys(bed):
    """mlx4's; none elsewhere."""
    pf = bed.sys / "bus/pci/devices" / bed.pfs[0]
    return {
        str(file): file.read_text()
        for file in pf.glob("infiniband/*/iov/*/ports/1/pkey_idx/*")
    }


@pytest.fixture
def bench(bed, capsys):
    """Runs the command; gives exit code, what it printed and complained."""

    def bench(*names, rounds=1):
        arguments = ["bench", *names, "--rounds", str(rounds)]
        code = main([*bed.command[3:], *arguments])
        return code, *capsys.readouterr()

    return bench


def test_figures_and_vfs_as_they_were(bed, flavour, bench):
    """VF 0 is idle as an operator may have left it, VF 1 fresh, VF 2 the
    bench's business no more than VF 3, which somebody has."""
    bed.seed(0, 0, ONES, ONES, "up")
    bed.seed(0, 3, guid(9), guid(9), "follow")
    before, keys = bed.seen(0), pkeys(bed)
    own = [bed.identity(bed.vf(0, n)) for n in range(4)]
    bed.reset_counts()
    code, out, err = bench(bed.vf(0, 0), bed.vf(0, 1), "--json", rounds=2)
    assert (code, err) == (0, "")
    assert bed.counts().modify
    assert bed.counts().probe == 0
    before[1] = given_back(flavour)
    assert bed.seen(0) == before
    assert pkeys(bed) == keys
    assert [bed.identity(bed.vf(0, n)) for n in range(4)] == own

    told = json.loads(out)
    assert told["ok"]
    assert told["simulated"] == (bed.kind == "simulated")
    assert told["vfs"] == [bed.vf(0, 0), bed.vf(0, 1)]
    assert [pf["mechanism"] for pf in told["pfs"]] == [flavour.mechanism]
    assert [(one["operation"], one["vfs"]) for one in told["results"]] == [
        *(("plug", n) for n in (1, 2)),
        *(("plug again", n) for n in (1, 2)),
        *(("unplug", n) for n in (1, 2)),
        ("list", 4),
    ]
    kernel = bed.kind == "kernel" and flavour.mechanism == "mlx5_netlink"
    assert bool(told["absent"].get("ip_batch")) == (not kernel)
    for one in told["results"]:
        assert len(one["bulk"]["samples"]) == 2
        low, high = one["bulk"]["quartiles"]
        assert 0 < low <= one["bulk"]["median"] <= high
        several = one["vfs"] == 2
        assert (one["single"] is not None) == several
        assert (one["ratio"] is not None) == several
        plugs = one["operation"] != "list"
        assert (one["ip_batch"] is not None) == (kernel and plugs)


def test_for_people(bed, bench):
    bed.build(Hca(vfs=2))
    code, out, err = bench(bed.vf(0, 0), bed.vf(0, 1))
    assert (code, err) == (0, "")
    assert bed.pfs[0] in out
    for words in ("plug again", "±", "ip -batch", "2 VFs given back"):
        assert words in out
    assert ("simulated" in out) == (bed.kind == "simulated")


def test_a_vf_that_a_guest_has(bed, flavour, bench):
    with bed.hold(bed.vf(0, 1)):
        before = bed.seen(0)
        bed.reset_counts()
        code, out, err = bench(bed.vf(0, 0), bed.vf(0, 1))
        assert bed.counts().modify == 0
        assert bed.seen(0) == before
    assert (code, out) == (1, "")
    assert bed.vf(0, 1) in err
    assert "guest" in err


def test_a_vf_that_belongs_to_somebody(bed, flavour, bench):
    bed.seed(0, 1, guid(7), guid(7), "follow")
    before = bed.seen(0)
    bed.reset_counts()
    code, out, _ = bench(bed.vf(0, 0), bed.vf(0, 1), "--json")
    assert bed.counts().modify == 0
    assert bed.seen(0) == before
    error = json.loads(out)["error"]
    assert (code, error["type"]) == (1, "DeviceInUse")
    assert error["device"] == bed.vf(0, 1)
    assert mac(7) in error["message"]


def test_a_vf_whose_state_cannot_be_read(bed, bench):
    bed.build(Hca(vfs=2))
    bed.fail_queries(bed.vf(0, 1), errno.EIO)
    bed.reset_counts()
    code, _, err = bench(bed.vf(0, 0), bed.vf(0, 1))
    assert code == 1
    assert bed.vf(0, 1) in err
    assert bed.counts().modify == 0


def test_names_of_no_vf(bed, bench):
    bed.build(Hca(vfs=2))
    bed.reset_counts()
    vf = bed.vf(0, 0)
    for names in (
        (bed.pfs[0],),
        ("0000:ff:1f.7",),
        ("nonsense",),
        (vf, vf),
        (vf, "--sizes", "2"),
        (vf, "--sizes", "few"),
    ):
        code, out, err = bench(*names)
        assert (code, out) == (2, "")
        assert err
    assert bed.counts().modify == 0


def test_no_rights(bed, bench, tmp_path):
    bed.build(Hca(vfs=2))
    before = bed.seen(0)
    bed.fail(bed.vf(0, 0), errno.EPERM)
    code, _, err = bench(bed.vf(0, 0))
    assert code == 3
    assert "CAP_NET_ADMIN" in err
    bed.heal()
    (tmp_path / "file").touch()
    folder = str(tmp_path / "file/run")
    code, _, err = bench(bed.vf(0, 0), "--run-dir", folder)
    assert code == 1
    assert f"{folder}/{bed.pfs[0]}.lock" in err
    assert "given back" not in err
    assert bed.seen(0) == before


def test_a_vf_that_fails(bed, bench):
    bed.build(Hca(vfs=4))
    bed.seed(0, 0, ONES, ONES, "follow")
    bed.fail(bed.vf(0, 1), errno.EIO)
    code, out, _ = bench(*(bed.vf(0, n) for n in range(3)), "--json")
    error = json.loads(out)["error"]
    assert (code, error["device"]) == (1, bed.vf(0, 1))
    assert error["errno"] == errno.EIO
    assert bed.seen(0) == [replace(IDLE, policy="follow"), FRESH, IDLE, FRESH]


def test_a_vf_that_cannot_be_given_back(bed, bench):
    """It took the node GUID, and takes nothing more."""
    bed.build(Hca(vfs=3))
    vf = bed.vf(0, 1)
    bed.fail(vf, errno.EIO, first=2)
    code, out, err = bench(*(bed.vf(0, n) for n in range(3)), "--json")
    error = json.loads(out)["error"]
    assert (code, error["type"]) == (1, "RollbackFailed")
    assert error["device"] == vf
    assert vf in err
    assert "given back" in err
    seen = bed.seen(0)
    assert (seen[0], seen[2]) == (IDLE, IDLE)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal(bed, number, code):
    bed.build(Hca(vfs=3))
    bed.seed(0, 0, ONES, ONES, "follow")
    bed.delay(command=0.2)
    bed.reset_counts()
    names = [bed.vf(0, n) for n in range(3)]
    process = subprocess.Popen(
        [*bed.command, "bench", *names],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    # One VF has been through it all; the others are about to.
    while bed.counts().modify < 8:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    time.sleep(0.02)
    process.send_signal(number)  # somebody is impatient
    bed.delay()
    out, err = process.communicate(timeout=600)
    assert (process.returncode, out) == (code, b"")
    assert b"Traceback" not in err
    assert b"given back" not in err
    first, *others = bed.seen(0)
    assert first == replace(IDLE, policy="follow")
    assert {seen.port for seen in others} <= {ONES, ZERO}
    assert {seen.policy for seen in others} == {"down"}


# -- somebody else at the same time ---------------------------------------


def test_an_identity_that_was_overwritten_is_given_back(bed, flavour):
    host = bed.connect()
    loan = borrow(host, [bed.vf(0, 0), bed.vf(0, 1)])
    bed.connect().plug(vifs(bed, 7))
    with pytest.raises(DeviceInUse) as caught, loan.held():  # noqa: PT012
        result = host.plug(loan.vifs)
        loan.look(loan.vifs, [result])
    assert caught.value.device == bed.vf(0, 0)
    assert bed.seen(0)[:2] == [flavour.seen(guid(7)), given_back(flavour)]


def test_an_identity_that_was_set_since_stays(bed, flavour):
    host = bed.connect()
    loan = borrow(host, [bed.vf(0, 0), bed.vf(0, 1)])
    with pytest.raises(RollbackFailed) as caught, loan.held():  # noqa: PT012
        host.plug(loan.vifs)
        bed.connect().plug([Vif.parse(bed.vf(0, 0), mac(7))])
    assert caught.value.device == bed.vf(0, 0)
    assert bed.seen(0)[:2] == [flavour.seen(guid(7)), given_back(flavour)]
