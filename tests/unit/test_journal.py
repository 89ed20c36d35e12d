# SPDX-License-Identifier: Apache-2.0
"""What the journal is told where the host cannot be made to do it."""

import socket
import threading
from contextlib import suppress
from types import SimpleNamespace

import pytest

from ibhostdev.batch import VfResult, Vif
from ibhostdev.cli.options import Settings
from ibhostdev.guid import IDLE, Guid
from ibhostdev.host import Host, journal
from ibhostdev.inventory import EBRCTL, Policy, VfState
from ibhostdev.pci import PciAddress
from ibhostdev.privilege import configured

VF = PciAddress("0000:3b:00.2")
GUID = Guid.parse("0c:42:a1:03:00:5f:3e:18")
NOBODY = VfState(IDLE, IDLE, Policy.DOWN)
OURS = VfState(GUID, GUID, Policy.FOLLOW)


@pytest.fixture
def tell(tmp_path):
    """Gives the fields of each entry that a result leads to."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(path)
        end.setblocking(False)

        def tell(one, **pfs):
            journal.tell([Vif(VF, GUID)], [one], [], lambda vfs: pfs, path)
            found = []
            while True:
                try:
                    data = end.recv(4096).decode()
                except BlockingIOError:
                    return found
                found.append(data)

        yield tell


def test_a_driver_that_shows_nothing(tell):
    """ebrctl's: what it agreed to, and what it was asked for."""
    given = VfResult(VF, OURS, None, VfState(), EBRCTL, True)
    taken = VfResult(VF, NOBODY, None, VfState(), EBRCTL, True)
    for one, event in ((given, "given"), (taken, "taken")):
        (text,) = tell(one)
        assert f"IBHOSTDEV_EVENT={event}\n" in text
        assert f"IBHOSTDEV_GUID={GUID}\n" in text
        assert "IBHOSTDEV_VERIFIED=no\n" in text
        # Of no MAC is this GUID made, and the PF is not known.
        assert "IBHOSTDEV_MAC" not in text
        assert "IBHOSTDEV_PF" not in text


def test_a_policy_alone_is_no_identity(tell):
    before = OURS._replace(policy=Policy.DOWN)
    one = VfResult(VF, OURS, before, OURS, "mlx5_netlink", True, True)
    assert tell(one) == []


def test_no_control_character_begins_another_field(tell):
    (text,) = tell(
        VfResult(VF, OURS, None, OURS, "x\nMESSAGE_ID=y\x1b", True, True)
    )
    assert "IBHOSTDEV_MECHANISM=x?MESSAGE_ID=y?\n" in text
    assert (
        sum(line.startswith("MESSAGE_ID=") for line in text.split("\n")) == 1
    )


def test_a_journal_that_is_busy_is_waited_for(tmp_path, monkeypatch):
    """A socket of systemd's holds some hundred entries."""
    monkeypatch.setattr(journal, "PATIENCE", 600)
    path = str(tmp_path / "socket")
    one = VfResult(VF, OURS, NOBODY, OURS, "mlx5_netlink", True, True)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other,
    ):
        end.bind(path)
        other.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                other.sendto(b"MESSAGE=x\n", path)
        took = []

        def take():
            while b"IBHOSTDEV_GUID" not in b"".join(took):
                took.append(end.recv(4096))

        # Without patience all is over by then.
        busy = threading.Timer(0.2, take)
        busy.daemon = True
        busy.start()
        journal.tell([Vif(VF, GUID)], [one], [], lambda vfs: {}, path)
        busy.join(600)
        assert b"IBHOSTDEV_EVENT=given\n" in took[-1]


def test_who_writes():
    """Whoever has a batch done on this machine, and nobody else."""
    assert Settings().connect().journal == journal.SOCKET
    options = SimpleNamespace(
        physical_device_mappings=[],
        simulated_host=None,
        run_dir="/run/ibhostdev",
        ebrctl_timeout=1,
        ebrctl_concurrency=1,
    )
    assert configured.host(options).journal == journal.SOCKET
    assert Host().journal is None
