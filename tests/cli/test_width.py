# SPDX-License-Identifier: Apache-2.0
"""What people see fits into 80 columns, and can be copied out of it."""

import os
import pty
import re
import subprocess

import pytest

from ibhostdev import doctor
from ibhostdev.batch import BatchResult, VfResult, Vif
from ibhostdev.cli import doctor as report
from ibhostdev.cli import listing, outcome, terminal
from ibhostdev.cli.command import cli
from ibhostdev.errors import CommandFailed, RolledBack
from ibhostdev.guid import Guid
from ibhostdev.host.views import View
from ibhostdev.inventory import (
    Family,
    Netdev,
    Pf,
    Policy,
    Port,
    Vf,
    VfState,
)
from ibhostdev.pci import PciAddress
from ibhostdev.pkey import Membership, Partitions, PKey
from tests.testbed import Hca

WIDTH = 80
GUID = "0c:42:a1:03:00:5f:3e:18"
OTHER = "0c:42:a1:03:00:5f:3e:99"
MAC = "fa:16:3e:00:00:01"


@pytest.fixture(autouse=True)
def _no_columns(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)


def texts(lines):
    return ["".join(text for text, _ in line) for line in lines]


def fits(text):
    return [line for line in text.splitlines() if len(line) > WIDTH] == []


@pytest.fixture
def view():
    """Of long names, as a distribution gives them to a second port."""
    netdevs = (
        Netdev("enp175s0f1np1", 7, 1),
        Netdev("ibp175s0f1v4096", 8, 1),
    )
    pf = Pf(
        pci=PciAddress("0000:af:00.1"),
        family=Family.MLX5_OFED,
        driver="mlx5_core",
        ib_device="rocep175s0f1_bond",
        netdevs=netdevs,
        ports=(Port(1, "ACTIVE", 65535),),
        numvfs=127,
        totalvfs=127,
        offset=1,
        stride=1,
        autoprobe=True,
        port=1,
    )
    vfs = [
        Vf(pf, 100 + n, PciAddress(f"0000:af:0{n}.2"), "mlx5_vfio_pci", True)
        for n in range(3)
    ]
    states = {
        100: VfState(Guid.parse(GUID), Guid.parse(OTHER), Policy.FOLLOW),
        101: VfState(Guid.parse(OTHER), Guid.parse(OTHER), Policy.DOWN),
    }
    return View(
        pf,
        "mlx5_sysfs",
        {"mlx5_netlink": "the IPoIB network device is in another namespace"},
        vfs,
        {vf.pci: 1000 + vf.index for vf in vfs},
        {1: ["physnet-of-the-first-rack", "physnet-of-the-second-rack"]},
        [states],
    )


def test_a_list_with_long_names(view):
    partitions = Partitions({}, {view.pf.pci: PKey(1, Membership.BOTH)})
    lines = texts(listing.as_lines([view], {}, partitions))
    assert [line for line in lines if len(line) > WIDTH] == []
    text = "\n".join(lines)
    for whole in (
        "0000:af:00.1", "enp175s0f1np1, ibp175s0f1v4096", OTHER,
        f"node {GUID} port {OTHER}", "127 of 127 VFs", "1102",
        "in a guest's hands", "0x0001:both",
    ):  # fmt: skip
        assert whole in text
    # What all have is told once.
    assert text.count("mlx5_vfio_pci") == 1


@pytest.mark.parametrize("count", [1, 3])
def test_a_batch_whose_rows_are_all_long(count):
    address = PciAddress("0000:af:00.2")
    guid, other = Guid.parse(GUID), Guid.parse(OTHER)
    vif = Vif(address, guid)
    before = VfState(other, other, Policy.FOLLOW)
    after = VfState(guid, other, Policy.FOLLOW)
    results = [
        VfResult(address, after, before, after, mechanism, True, False, error)
        for mechanism, error in (
            ("mlx5_netlink", None),
            ("mlx5_sysfs", CommandFailed("failed")),
            ("ebrctl", RolledBack("rolled back because of 0000:af:00.2")),
        )
    ][:count]
    lines = texts(
        outcome.as_lines([vif] * count, BatchResult(results), "plugged", False)
    )
    assert [line for line in lines if len(line) > WIDTH] == []
    text = "\n".join(lines)
    for result in results:
        assert text.count(GUID) == count
        assert result.mechanism in text
    assert f"{OTHER}, follow" in text
    assert "half its own, follow" in text


def test_every_command(bed, run):
    bed.build(Hca(vfs=16), Hca(vfs=16), Hca("mlx4", vfs=4, ports=2))
    vifs = [
        f"{bed.vf(pf, n)}=fa:16:3e:00:0{pf}:{n:02x}"
        for pf in (0, 1)
        for n in range(16)
    ]
    for arguments in (
        ("list",),
        ("plug", *vifs[:20]),
        ("plug", *vifs),
        ("list", "--physical-device-mappings", "fabric-of-rack:ib0"),
        ("doctor", "--physical-device-mappings", "fabric-of-rack:ib7"),
        ("unplug", *vifs),
        ("bench", "--rounds", "1", bed.vf(0, 0), bed.vf(1, 0), bed.vf(2, 0)),
        ("list",),
    ):
        done = run(*arguments)
        assert done.out
        assert fits(done.out), done.out


def test_a_cure_can_be_copied():
    patient = [
        doctor.Finding(
            "large answers",
            doctor.Severity.PROBLEM,
            "none of 127 VFs is enabled",
            "0000:af:00.1",
            "when all VFs are for guests, before enabling them: 'echo 0 > "
            "/sys/bus/pci/devices/0000:af:00.1/sriov_drivers_autoprobe'; then "
            "go on",
        )
    ]
    lines = texts(report.as_lines(patient))
    assert [line for line in lines if len(line) > WIDTH] == []
    command = (
        "'echo 0 > /sys/bus/pci/devices/0000:af:00.1/sriov_drivers_autoprobe'"
    )
    assert any(command in line for line in lines)


def on_terminal(command, columns):
    """What standard error shows on a terminal so wide."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "dumb"}
    subprocess.run(["stty", "cols", str(columns)], stdin=theirs, check=True)
    done = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env=env,
    )
    os.close(theirs)
    told = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # everybody has closed it
            break
        if not part:
            break
        told += part
    os.close(ours)
    return done.wait(), told.decode().replace("\r\n", "\n")


def test_an_error_on_a_terminal(bed):
    bed.build(Hca(vfs=1))
    code, told = on_terminal([*bed.command, "list", "nobody"], 80)
    assert code == 2
    assert fits(told)
    assert told.startswith("ibhostdev: nobody: is the name of no InfiniBand")
    # In lines of their own making, with what is to be copied in one of them.
    assert re.search(r"\n {13}'ibhostdev list' shows them\n$", told)


def test_a_wide_terminal_is_used(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert terminal.width() == 200
    monkeypatch.setenv("COLUMNS", "20")
    assert terminal.width() == WIDTH


def commands(group, *words):
    """All there are, with those of commands that have some of their own."""
    for name, command in sorted(group.commands.items()):
        yield *words, name
        if hasattr(command, "commands"):
            yield from commands(command, *words, name)


@pytest.mark.parametrize("words", [*commands(cli)], ids=" ".join)
def test_what_a_command_is_for_is_told_whole(run, words):
    *before, name = words
    lines = run(*before, "--help").out.splitlines()
    told = [line for line in lines if line.split()[:1] == [name]]
    assert all(line.endswith(".") for line in told)
    assert not any(line.endswith("..") for line in told)
    assert told or cli.commands[name].hidden
