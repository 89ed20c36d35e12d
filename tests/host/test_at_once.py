# SPDX-License-Identifier: Apache-2.0
"""Processes that are killed, and several at once."""

import json
import os
import signal
import subprocess
import threading
import time

import pytest

from ibhostdev import Vif
from tests.flavours import guid, mac, vifs
from tests.testbed import Hca

# A process costs the rig's emulation seconds: one flavour for each way of
# writing, since these are about the engine.
WAYS = ["netlink", "files"]


def start(bed, *arguments):
    return subprocess.Popen(
        [*bed.command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(condition):
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("flavour", WAYS, indirect=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_plug_that_is_killed_can_be_repeated(bed, flavour, number):
    batch = [f"{bed.vf(0, n)}={mac(n + 1)}" for n in range(4)]
    bed.delay(command=0.05)
    bed.reset_counts()
    plug = start(bed, "plug", *batch)
    until(lambda: bed.counts().modify >= 3)
    plug.send_signal(number)
    plug.communicate()
    assert plug.returncode == (143 if number == signal.SIGTERM else -9)
    bed.delay()
    if number == signal.SIGTERM:
        assert {seen.policy for seen in bed.seen(0)} == {"down"}
    again = start(bed, "plug", "--json", *batch)
    output, errors = again.communicate()
    assert again.returncode == 0, errors
    assert json.loads(output)["ok"]
    assert bed.seen(0) == [flavour.seen(guid(n)) for n in (1, 2, 3, 4)]


@pytest.mark.parametrize("flavour", WAYS, indirect=True)
def test_an_unplug_that_is_killed_can_be_repeated(bed, flavour):
    bed.connect().plug(vifs(bed, 1, 2, 3, 4))
    batch = [f"{bed.vf(0, n)}={mac(n + 1)}" for n in range(4)]
    bed.delay(command=0.05)
    bed.reset_counts()
    unplug = start(bed, "unplug", *batch)
    until(lambda: bed.counts().modify >= 2)
    os.kill(unplug.pid, signal.SIGKILL)
    unplug.communicate()
    bed.delay()
    again = start(bed, "unplug", *batch)
    _, errors = again.communicate()
    assert again.returncode == 0, errors
    assert bed.seen(0) == [flavour.idle] * 4


@pytest.mark.parametrize("flavour", ["netlink", "mlx4"], indirect=True)
def test_two_processes_plug_different_vfs_of_a_pf(bed, flavour):
    bed.delay(command=0.01)
    ours = [
        start(bed, "plug", *(f"{bed.vf(0, n)}={mac(n + 1)}" for n in pair))
        for pair in ((0, 1), (2, 3))
    ]
    for one in ours:
        _, errors = one.communicate()
        assert one.returncode == 0, errors
    assert bed.seen(0) == [flavour.seen(guid(n)) for n in (1, 2, 3, 4)]


@pytest.mark.parametrize("flavour", ["netlink", "mlx4"], indirect=True)
def test_two_processes_plug_the_same_guid(bed, flavour):
    """Whoever comes second takes it from the first; nobody ends with a
    duplicate."""
    bed.delay(command=0.01)
    ours = [start(bed, "plug", f"{bed.vf(0, n)}={mac(1)}") for n in range(2)]
    for one in ours:
        _, errors = one.communicate()
        assert one.returncode == 0, errors
    assert sorted(seen.port for seen in bed.seen(0)[:2]) == [
        guid(1),
        "ff:ff:ff:ff:ff:ff:ff:ff",
    ]


def test_threads_plug_and_unplug_through_one_host(bed, flavour):
    host = bed.connect()
    trouble = []

    def work(index):
        vif = [Vif.parse(bed.vf(0, index), mac(index + 1))]
        try:
            for _ in range(5):
                host.plug(vif)
                host.unplug(vif)
            host.plug(vif)
        except Exception as error:
            trouble.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not trouble
    assert bed.seen(0) == [flavour.seen(guid(n)) for n in (1, 2, 3, 4)]


def test_eight_threads_share_a_host(bed):
    """Of one Host object, each with a VF of its own on two PFs; one of them
    also looks at all there is."""
    bed.build(Hca("mlx5", vfs=4), Hca("mlx5", vfs=4))
    host = bed.connect()
    trouble = []
    ready = threading.Barrier(8)

    def work(number):
        vif = [Vif.parse(bed.vf(number % 2, number // 2), mac(number + 1))]
        ready.wait()
        try:
            for _ in range(3):
                host.plug(vif)
                if number == 0:
                    for pf in host.pfs:
                        assert host.survey(pf).keys() == set(range(4))
                host.unplug(vif)
            (result,) = host.plug(vif).results
            assert (result.pci, result.after.port_guid) == (
                vif[0].pci,
                vif[0].guid,
            )
        except BaseException as error:
            trouble.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not trouble
    for pf in range(2):
        assert [seen.port for seen in bed.seen(pf)] == [
            guid(number + 1) for number in range(pf, 8, 2)
        ]
