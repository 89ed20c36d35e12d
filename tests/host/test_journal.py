# SPDX-License-Identifier: Apache-2.0
"""The journal is told who gets an identity and whose is taken."""

import errno
import logging
import socket
import time
from contextlib import suppress

import pytest

from ibhostdev.batch import BatchFailed, OnError, Vif
from ibhostdev.errors import RollbackFailed
from ibhostdev.host import journal
from tests.testbed import Hca

MACS = [f"fa:16:3e:00:00:{n:02x}" for n in range(4)]
GUIDS = [f"fa:16:3e:00:00:00:00:{n:02x}" for n in range(4)]


class Journal:
    """The end of the socket that is the journal's."""

    def __init__(self, path):
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.setblocking(False)

    def entries(self):
        found = []
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return found
            lines = data.decode().splitlines()
            found.append(dict(line.split("=", 1) for line in lines))

    def close(self):
        self._socket.close()


@pytest.fixture
def told(tmp_path):
    journal = Journal(tmp_path / "socket")
    yield journal
    journal.close()


@pytest.fixture
def host(bed, told):
    bed.build(Hca(vfs=4))
    host = bed.connect()
    host.journal = told.path
    return host


def vifs(bed, *numbers):
    return [Vif.parse(bed.vf(0, i), MACS[n]) for i, n in enumerate(numbers)]


def short(entries):
    return [(one["IBHOSTDEV_EVENT"], one["IBHOSTDEV_GUID"]) for one in entries]


def test_each_identity_given_and_taken(bed, host, told):
    host.plug(vifs(bed, 1, 2))
    first, second = told.entries()
    assert first == {
        "MESSAGE": f"VF {bed.vf(0, 0)}: identity {MACS[1]} given",
        "MESSAGE_ID": journal.GIVEN,
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "ibhostdev",
        "IBHOSTDEV_EVENT": "given",
        "IBHOSTDEV_GUID": GUIDS[1],
        "IBHOSTDEV_MAC": MACS[1],
        "IBHOSTDEV_PCI": bed.vf(0, 0),
        "IBHOSTDEV_PF": bed.pfs[0],
        "IBHOSTDEV_MECHANISM": "mlx5_netlink",
        "IBHOSTDEV_VERIFIED": "yes",
    }
    assert second["IBHOSTDEV_PCI"] == bed.vf(0, 1)
    # What is right already was given before.
    host.plug(vifs(bed, 1, 2))
    assert told.entries() == []
    host.unplug(vifs(bed, 1, 2))
    entries = told.entries()
    assert short(entries) == [("taken", GUIDS[1]), ("taken", GUIDS[2])]
    assert {one["MESSAGE_ID"] for one in entries} == {journal.TAKEN}


def test_another_identity_in_the_place_of_one(bed, host, told):
    host.plug(vifs(bed, 1))
    told.entries()
    host.plug(vifs(bed, 2))
    assert short(told.entries()) == [("taken", GUIDS[1]), ("given", GUIDS[2])]


def test_whose_vf_is_made_idle_for_another(bed, host, told):
    host.plug(vifs(bed, 1, 2))
    told.entries()
    # The first VF's goes to the third, and the second's stays.
    (moved,) = vifs(bed, 1)
    host.plug([moved._replace(pci=bed.vf(0, 2))])
    entries = told.entries()
    assert [
        (one["IBHOSTDEV_EVENT"], one["IBHOSTDEV_PCI"]) for one in entries
    ] == [("taken", bed.vf(0, 0)), ("given", bed.vf(0, 2))]
    assert {one["IBHOSTDEV_GUID"] for one in entries} == {GUIDS[1]}
    assert entries[0]["IBHOSTDEV_PF"] == bed.pfs[0]
    assert entries[0]["IBHOSTDEV_VERIFIED"] == "yes"


def test_who_changes_places_is_told_once(bed, host, told):
    host.plug(vifs(bed, 1, 2))
    told.entries()
    host.plug(vifs(bed, 2, 1))
    assert sorted(
        (one["IBHOSTDEV_PCI"], one["IBHOSTDEV_EVENT"], one["IBHOSTDEV_GUID"])
        for one in told.entries()
    ) == [
        (bed.vf(0, 0), "given", GUIDS[2]),
        (bed.vf(0, 0), "taken", GUIDS[1]),
        (bed.vf(0, 1), "given", GUIDS[1]),
        (bed.vf(0, 1), "taken", GUIDS[2]),
    ]


def test_who_was_to_be_made_idle_and_was_not(bed, host, told):
    host.plug(vifs(bed, 1))
    told.entries()
    bed.fail(bed.vf(0, 2), errno.EIO)
    (moved,) = vifs(bed, 1)
    with pytest.raises(BatchFailed):
        host.plug([moved._replace(pci=bed.vf(0, 2))])
    assert told.entries() == []


def test_who_stays_idle_since_another_may_have_it(bed, host, told):
    host.plug(vifs(bed, 1))
    told.entries()
    # It takes a part, and neither the rest nor to be put back.
    bed.fail(bed.vf(0, 2), errno.EIO, first=3)
    (moved,) = vifs(bed, 1)
    with pytest.raises(BatchFailed):
        host.plug([moved._replace(pci=bed.vf(0, 2))])
    assert [
        (one["IBHOSTDEV_EVENT"], one["IBHOSTDEV_PCI"])
        for one in told.entries()
    ] == [("taken", bed.vf(0, 0)), ("given", bed.vf(0, 2))]


def test_what_was_put_back_was_never_given(bed, host, told):
    bed.fail(bed.vf(0, 1), errno.EIO)
    with pytest.raises(BatchFailed):
        host.plug(vifs(bed, 1, 2))
    assert told.entries() == []
    with pytest.raises(BatchFailed):
        host.plug(vifs(bed, 1, 2), on_error=OnError.CONTINUE)
    assert short(told.entries()) == [("given", GUIDS[1])]


class Enough(Exception):
    pass


@pytest.mark.parametrize("late", [True, False], ids=["late", "interrupted"])
def test_what_could_not_be_put_back_by_who_was_to_end(bed, host, told, late):
    until = time.monotonic() + 1

    def end(stage, *_):
        if stage != "write":
            return
        bed.fail(bed.vf(0, 0), errno.EIO)
        if not late:
            raise Enough
        while time.monotonic() <= until:
            time.sleep(0.1)

    with pytest.raises(RollbackFailed if late else Enough):
        host.plug(vifs(bed, 1), progress=end, until=until if late else None)
    assert bed.seen(0)[0].port == GUIDS[1]
    assert short(told.entries()) == [("given", GUIDS[1])]


def test_a_rehearsal_gives_nothing(bed, host, told):
    host.plug(vifs(bed, 1), dry_run=True)
    assert told.entries() == []


def fill(path):
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other,
        suppress(BlockingIOError),
    ):
        other.setblocking(False)
        while True:
            other.sendto(b"MESSAGE=x\n", path)


@pytest.mark.parametrize("state", ["missing", "file", "closed", "full"])
def test_a_journal_that_does_not_listen(
    bed, host, told, tmp_path, state, monkeypatch
):
    monkeypatch.setattr(journal, "PATIENCE", 0.1)
    if state == "missing":
        host.journal = str(tmp_path / "none")
    elif state == "file":
        host.journal = str(tmp_path / "file")
        (tmp_path / "file").touch()
    elif state == "closed":
        told.close()
    else:
        fill(told.path)
    result = host.plug(vifs(bed, 1))
    assert result.ok
    assert bed.seen(0)[0].port == GUIDS[1]


def test_who_looks_closely_sees_what_was_written(bed, host, caplog):
    caplog.set_level(logging.DEBUG, "ibhostdev")
    host.plug(vifs(bed, 1))
    host.plug(vifs(bed, 2))
    host.plug(vifs(bed, 2))
    lines = [m for m in caplog.messages if ": was " in m]
    assert lines == [
        f"{bed.vf(0, 0)}: was {was}; is GUID {GUIDS[now]}, policy follow; by "
        "mlx5_netlink"
        for was, now in (
            ("GUID not known, policy down", 1),
            (f"GUID {GUIDS[1]}, policy follow", 2),
        )
    ]
