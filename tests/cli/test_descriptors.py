# SPDX-License-Identifier: Apache-2.0
"""The command and its standard descriptors, as others have left them."""

import os
import subprocess

import pytest

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


@pytest.mark.parametrize(
    ("arguments", "code"), [(["plug", "nonsense"], 2), (["plugg"], 2)]
)
def test_errors_that_cannot_be_told(started, arguments, code):
    process = started("2>/dev/full", *arguments)
    process.communicate()
    assert process.returncode == code
