# SPDX-License-Identifier: Apache-2.0
"""What wakes the agent."""

import os
import threading
from contextlib import contextmanager

import pytest

from ibhostdev.neutron.loop import Loop
from ibhostdev.neutron.watch import Watch
from tests.agent.conftest import Plugin
from tests.flavours import mac

# Longer than any test takes: what is awaited comes by a mark, not by it.
NEVER = 3600


@contextmanager
def running(node, polling_interval=0):
    loop = Loop(node.host, Plugin(node.server), node.run, polling_interval)
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        yield loop
    finally:
        loop.stop()
        thread.join()
        loop.close()


def wait(node, *numbers):
    """Until exactly these ports are up."""
    wanted = {f"port-{number}" for number in numbers}
    with node.server.changed:
        assert node.server.changed.wait_for(
            lambda: node.server.up() == wanted, timeout=600
        )


@pytest.mark.parametrize("interval", [0, NEVER])
def test_a_plug_and_an_unplug_are_seen_at_once(node, interval):
    with running(node, interval):
        node.plug(1, 2)
        wait(node, 1, 2)
        node.unplug(1)
        wait(node, 2)


def test_what_leaves_no_mark_is_seen_by_the_safety_net(node, bed):
    node.plug(1)
    with running(node, 0.05):
        wait(node, 1)
        bed.numvfs(0, 0)
        wait(node)


def test_the_word_of_neutron_is_heard(node):
    node.plug(1)
    with running(node) as loop:
        wait(node, 1)
        node.server.ports["port-1"]["admin_state_up"] = False
        loop.ports.port_updated(mac(1))
        loop.wake()
        wait(node)
    assert node.links()[0] == "down"


def test_a_server_that_comes_back_is_told(node):
    node.server.away = True
    with running(node):
        node.plug(1)
        node.server.away = False
        wait(node, 1)


def test_without_inotify_it_polls(node, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(24, "no more instances")

    monkeypatch.setattr("inotify_simple.INotify", refuse)
    monkeypatch.setattr("ibhostdev.neutron.loop._DEAF_SECONDS", 0.05)
    with running(node):
        node.plug(1)
        wait(node, 1)


# -- the folder -----------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run" / "ibhostdev"


@pytest.fixture
def watch(folder):
    watch = Watch(str(folder))
    yield watch
    watch.close()


def mark(folder, name="0000:3b:00.0.lock"):
    path = folder / name
    if not path.exists():
        path.touch()
    with path.open("rb+") as file:
        os.truncate(file.fileno(), 0)


def test_a_mark_names_its_pf(folder, watch):
    folder.mkdir(parents=True)
    watch.take()
    mark(folder)
    mark(folder, "other")
    assert watch.take() == (frozenset({"0000:3b:00.0"}), False)
    assert watch.take() == (frozenset(), False)


def test_a_folder_that_is_made_later(folder, watch):
    folder.parent.mkdir()
    watch.take()
    folder.mkdir()
    mark(folder)
    assert watch.take().missed
    mark(folder)
    assert watch.take() == (frozenset({"0000:3b:00.0"}), False)


def test_a_folder_that_is_made_anew(folder, watch):
    folder.mkdir(parents=True)
    watch.take()
    folder.rmdir()
    folder.mkdir()
    mark(folder)
    assert watch.take().missed
    mark(folder)
    assert watch.take() == (frozenset({"0000:3b:00.0"}), False)
