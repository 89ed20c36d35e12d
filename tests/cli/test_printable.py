# SPDX-License-Identifier: Apache-2.0
"""Nothing that somebody has named moves a terminal's cursor, or begins a line
of its own."""

import json

import pytest

from ibhostdev import Vif
from ibhostdev.errors import InvalidInput
from tests.flavours import mac

ODD = "a\x1b[2Jb\x07\x7f\u009b2Jc\nibhostdev: d\r"
SHOWN = "a?[2Jb???2Jc?ibhostdev: d?"
VIF = "0000:3b:00.1=fa:16:3e:00:00:01"

WAYS = [
    [ODD],
    [f"--{ODD}"],
    ["list", ODD],
    ["list", f"--{ODD}"],
    ["list", "--host", ODD],
    ["plug", ODD],
    ["plug", f"{VIF}{ODD}"],
    ["plug", "--file", ODD],
    ["plug", VIF, "--mechanism", ODD],
    ["plug", VIF, "--policy", ODD],
    ["plug", VIF, "--physical-network", ODD],
    ["plug", VIF, f"--physical-device-mappings={ODD}"],
    ["plug", VIF, "--run-dir", f"/proc/{ODD}"],
    ["plug", VIF, "--privilege", ODD],
    ["unplug", ODD],
    ["attach", ODD, ODD],
    ["detach", ODD, ODD],
    ["apply", ODD],
    ["apply", "--file", ODD],
    ["restore", "--host-yaml", ODD],
    ["restore", "--connect", ODD],
    ["save", ODD],
    ["save", "--file", f"/proc/{ODD}"],
    ["metrics", "--textfile", f"/proc/{ODD}"],
    ["fabric", ODD],
    ["fabric", "audit", ODD],
    ["fabric", "export", "--file", ODD],
    ["fabric", "export", "--merge", ODD],
    ["fabric", "apply", "--opensm", ODD],
    ["bench", ODD],
    ["bench", VIF[:12], "--sizes", ODD],
    ["simulate", ODD, "--family", ODD],
    ["simulate", f"/proc/{ODD}"],
]


def is_clean(text):
    return all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize("arguments", WAYS, ids=repr)
@pytest.mark.parametrize("more", [[], ["--json"]], ids=["text", "json"])
def test_arguments(host, run, arguments, more):
    done = run(*arguments, *more)
    assert done.code
    assert is_clean(done.out)
    assert is_clean(done.err)
    assert not any(
        line.startswith("ibhostdev: d") for line in done.err.splitlines()
    )


def test_what_they_are_is_still_told(host, run):
    assert SHOWN in run("plug", "--file", ODD).err
    told = json.loads(run("plug", "--json", "--file", ODD).out)
    assert told["error"]["device"] == ODD


def test_what_the_system_tells(host, run):
    host.host.port(host.pfs[0], state="4: A\x1b[2J\x7f")
    for arguments in (["list"], ["doctor"], ["list", "--json"]):
        done = run(*arguments)
        assert is_clean(done.out)
        assert host.pfs[0] in done.out


def test_a_mapping(host, run):
    mapping = f"--physical-device-mappings=default:ib0,other:{ODD.split()[0]}"
    done = run("doctor", mapping)
    assert "is no name of a physical network" in done.err
    assert is_clean(done.err)
    (doubt,) = host.connect(
        physical_networks={"other": ["ib0\x1b[2J"]}
    ).doubts()
    assert doubt.isprintable()


def test_a_log():
    """By a line that is an error's."""
    error = InvalidInput(ODD, ODD, ODD, 5, ODD)
    assert str(error).isprintable()
    assert str(error).count(SHOWN) == 4
    with pytest.raises(InvalidInput) as caught:
        Vif.parse(ODD, mac(1))
    assert str(caught.value).isprintable()
