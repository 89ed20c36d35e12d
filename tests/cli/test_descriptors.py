# SPDX-License-Identifier: Apache-2.0
"""The command and its standard descriptors, as others have left them."""

import os
import pty
import subprocess
import termios
import time

import pytest

from ibhostdev import Vif
from tests.flavours import guid, mac


@pytest.fixture
def started(host):
    """A command with what a shell does to its descriptors before it."""

    def run(redirection: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                *("sh", "-c", f'exec "$@" {redirection}', "sh"),
                *(*host.command, *arguments),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return run


@pytest.mark.parametrize(
    "closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "<&- 2>&-"]
)
def test_descriptors_that_are_closed(host, started, closed):
    vifs = [f"{host.vf(0, n)}={mac(n + 1)}" for n in range(3)]
    process = started(closed, "plug", *vifs)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert bool(out) == (">&-" not in closed.replace("2>&-", ""))
    ports = [seen.port for seen in host.seen(0)[:3]]
    assert ports == [guid(1), guid(2), guid(3)]
    # None was taken for a lock, and nothing was written to one.
    locks = os.path.join(host.folder, "run")
    assert not any(
        os.path.getsize(os.path.join(locks, name))
        for name in os.listdir(locks)
        if name.endswith(".lock")
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_errors_with_descriptors_that_are_closed(host, started, closed):
    process = started(closed, "plug", "nonsense")
    process.communicate()
    assert process.returncode == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("list",),
        ("list", "--json"),
        ("doctor", "--json"),
        ("unplug", "--json", mac(9)),
        ("--help",),
        ("--version",),
    ],
    ids=" ".join,
)
def test_an_output_that_is_full(started, arguments):
    process = started(">/dev/full", *arguments)
    _, err = process.communicate()
    assert process.returncode == 1
    first, *rest = err.splitlines()
    assert first == "ibhostdev: standard output: cannot be written"
    assert "No space left" in rest[0]
    assert rest[1].startswith("  cure ")
    assert len(rest) == 2


def test_a_plug_whose_results_cannot_be_written(host, started):
    process = started(
        ">/dev/full", "plug", "--json", f"{host.vf(0, 0)}={mac(1)}"
    )
    _, err = process.communicate()
    assert process.returncode == 1
    assert err.startswith("ibhostdev: standard output: cannot be written\n")
    assert host.seen(0)[0].port == guid(1)


@pytest.mark.parametrize("more", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize(
    "arguments", [["plug", "nonsense"], ["plugg"], ["list", "nobody"]]
)
def test_errors_whose_output_is_full(started, arguments, more):
    """What went wrong is told, once, and not that it could not be written."""
    process = started(">/dev/full", *arguments, *more)
    _, err = process.communicate()
    assert process.returncode == 2
    first, *rest = err.splitlines()
    assert first.startswith("ibhostdev: ")
    assert arguments[-1] in first
    assert [line[:2] for line in rest] == ["  "] * len(rest)


@pytest.mark.parametrize("redirection", ["2>/dev/full", ">/dev/full 2>&1"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["plug", "nonsense"], 2), (["plugg"], 2), (["plugg", "--json"], 2)],
)
def test_errors_that_cannot_be_told(started, redirection, arguments, code):
    process = started(redirection, *arguments)
    process.communicate()
    assert process.returncode == code


def until(condition):
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_nobody_waits_for_a_terminal_that_is_stopped(host):
    """As by Ctrl-S: it keeps the command, but no lock."""
    master, terminal = pty.openpty()
    termios.tcflow(terminal, termios.TCOOFF)
    host.delay(command=0.4)
    process = subprocess.Popen(
        [
            *(*host.command, "plug"),
            *[f"{host.vf(0, n)}={mac(n + 1)}" for n in range(4)],
        ],
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm"},
    )
    until(lambda: host.seen(0)[3].policy == "follow")
    host.delay()
    vif = Vif.parse(host.vf(0, 0), mac(1))
    assert host.connect(lock_seconds=60).plug([vif]).ok
    termios.tcflow(terminal, termios.TCOON)
    os.close(terminal)
    shown = b""
    try:
        while part := os.read(master, 4096):
            shown += part
    except OSError:  # the end
        pass
    os.close(master)
    out, _ = process.communicate()
    assert process.returncode == 0
    assert b"4 VIFs: 4 plugged" in out
    assert b"writing" in shown
