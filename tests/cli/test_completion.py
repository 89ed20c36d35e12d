# SPDX-License-Identifier: Apache-2.0
"""What Tab finds, asked for as shells ask."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from ibhostdev.cli import completion
from ibhostdev.cli.command import cli
from ibhostdev.guest import connection
from tests.flavours import mac, vifs

BINARIES = Path(sys.executable).parent

# As readline splits a line, whose words end at these.
BASH = r"""
source <(ibhostdev completion bash)
COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
COMP_LINE=$1 COMP_POINT=${#1}
compopt() { echo "compopt $*"; }
_ibhostdev_completion ibhostdev "" ""
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def bash(host):
    """What bash would offer for a line, on the bed's host."""

    def bash(line, **more):
        env = {
            **os.environ,
            "PATH": f"{BINARIES}:{os.environ['PATH']}",
            "IBHOSTDEV_HOST": host.command[-1],
            **more,
        }
        done = subprocess.run(
            ["bash", "--norc", "-c", BASH, "bash", line],
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        return done.stdout.split()

    return bash


def test_commands_and_options(bash):
    assert bash("ibhostdev un") == ["unplug"]
    assert {"list", "plug", "fabric", "completion"} <= {*bash("ibhostdev ")}
    assert "libvirt-hook" not in bash("ibhostdev ")
    assert bash("ibhostdev fabric ex") == ["export"]
    assert bash("ibhostdev plug --on-e") == ["--on-error"]
    assert bash("ibhostdev plug --on-error ") == ["rollback", "continue"]
    assert bash("ibhostdev plug --mechanism mlx4") == ["mlx4_sysfs"]


def test_pfs_and_vfs(bash, host):
    assert {*bash("ibhostdev list ")} == {
        *host.pfs, "mlx5_0", "mlx5_1", "ib0", "ib1",
    }  # fmt: skip
    assert bash("ibhostdev apply --pf ib") == ["ib0", "ib1"]
    assert bash("ibhostdev fabric audit --ca mlx5_1") == ["mlx5_1"]
    assert bash("ibhostdev attach web1 --physical-network d") == ["default"]


def test_bash_gets_what_is_behind_the_last_colon(bash, host):
    vf = host.vf(0, 1)
    before, _, behind = vf.rpartition(":")
    assert bash(f"ibhostdev plug {before}:")[1] == behind
    assert bash(f"ibhostdev plug {vf[:-1]}") == [
        host.vf(0, index).rpartition(":")[2] for index in range(4)
    ]
    assert len(bash("ibhostdev plug ")) == 8


def test_identities(bash, host):
    host.connect().plug(vifs(host, 1))
    vf = host.vf(0, 0)
    assert {*bash("ibhostdev unplug ")} == {mac(1), f"{vf}={mac(1)}"}
    assert bash(f"ibhostdev unplug {vf}=") == [mac(1)]
    assert bash(f"ibhostdev unplug {mac(1)[:9]}") == [mac(1)[9:]]


def test_files_are_the_shells_own_business(bash):
    assert bash("ibhostdev plug --file vi") == ["compopt", "-o", "default"]
    assert bash("ibhostdev simulate ho") == ["compopt", "-o", "dirnames"]


def test_options_before_count(bash, host):
    line = f"ibhostdev --host {host.command[-1]} list ib"
    assert bash(line, IBHOSTDEV_HOST="/nowhere") == ["ib0", "ib1"]


@pytest.mark.parametrize(
    "line", ["list ", "unplug ", "attach ", "--version ", "-v list "]
)
def test_what_cannot_be_asked_is_not_offered(bash, line):
    """And nothing is said, which would tear the line."""
    found = bash(f"ibhostdev {line}", IBHOSTDEV_HOST="/nowhere")
    assert not any(word.startswith(("0000", "fa:")) for word in found)
    assert "ibhostdev:" not in found
    assert "Traceback" not in found


def test_domains(monkeypatch):
    class Domain:
        def name(self):
            return "web1"

    class Conn:
        closed = False

        def listAllDomains(self):  # noqa: N802
            return [Domain()]

        def close(self):
            self.closed = True

    conn = Conn()
    monkeypatch.setattr(connection, "at_hand", lambda: True)
    monkeypatch.setattr(connection, "connect", lambda *_, **__: conn)
    context = click.Context(cli.commands["attach"])
    context.params = {}
    assert list(completion._guests(context, "")) == ["web1"]
    assert conn.closed


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells(shell, run, monkeypatch):
    done = run("completion", shell)
    assert (done.code, done.err) == (0, "")
    assert "_IBHOSTDEV_COMPLETE" in done.out
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n"], input=done.out, text=True, check=True)


def test_no_other_shell(run):
    assert run("completion", "csh").code == 2


def words(group):
    for command in group.commands.values():
        if isinstance(command, click.Group):
            yield from words(command)
        elif not command.hidden:
            for parameter in command.params:
                yield command.name, parameter


def test_each_word_that_can_be_found_is(monkeypatch):
    """What has no completion is somebody's own: numbers, URIs, names."""
    own = {
        "URI", "URL", "SECONDS", "N", "N,…", "NETWORK:DEVICE,…", "PKEY",
    }  # fmt: skip
    for command, parameter in words(cli):
        if isinstance(parameter.type, click.types.StringParamType):
            known = (
                parameter.metavar in completion.BY_METAVAR
                or {*parameter.opts} & {*completion.BY_OPTION}
                or parameter.metavar in own
                or parameter.name == "host_name"
            )
            assert known, f"{command} {parameter.name}"
