# SPDX-License-Identifier: Apache-2.0
"""What holds for all commands: where options stand, help, and misuse."""

import json
import os
import subprocess

import pytest

from ibhostdev.cli.command import main
from tests.flavours import mac


def test_the_host_before_and_behind_the_command(host, shell):
    python, folder = host.command[:3], host.command[-1]
    for arguments, env in (
        (["--host", folder, "list"], {}),
        (["list", "--host", folder], {}),
        (["list", f"--host={folder}", "--json"], {}),
        (["list"], {"IBHOSTDEV_HOST": folder}),
        (["--host", folder, "list"], {"IBHOSTDEV_HOST": "/nonexistent"}),
        (["list", "--host", folder], {"IBHOSTDEV_HOST": "/nonexistent"}),
        (["--host", "/nonexistent", "list", "--host", folder], {}),
    ):
        done = subprocess.run(
            [*python, *arguments],
            env={**os.environ, **env},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, arguments
        assert host.pfs[1] in done.stdout


def test_mappings_from_the_environment(host, shell):
    env = {"IBHOSTDEV_PHYSICAL_DEVICE_MAPPINGS": "left:ib0"}
    arguments = [
        "plug",
        f"{host.vf(0, 0)}={mac(1)}",
        "--physical-network",
        "right",
    ]
    assert shell(*arguments, env=env).code == 2
    mapping = ["--physical-device-mappings", "right:ib0"]
    assert shell(*arguments, *mapping, env=env).code == 0
    # Empty, it is none: the simulated host has its own.
    env = {"IBHOSTDEV_PHYSICAL_DEVICE_MAPPINGS": ""}
    assert shell(*arguments, env=env).code == 2


def test_help_tells_the_exit_codes(run):
    for arguments in ([], ["plug"], ["unplug"]):
        done = run(*arguments, "--help")
        assert done.code == 0
        assert "3    no rights" in done.out
    for command in ("list", "doctor", "simulate"):
        assert "--host DIR" in run(command, "-h").out


def test_version(run):
    done = run("--version")
    assert done.code == 0
    assert done.out.startswith("ibhostdev ")


@pytest.mark.parametrize(
    ("words", "told", "command"),
    [
        (["plug"], "name VIFs either as arguments or by --file", " plug"),
        (["plug", "--polic", "up"], "no such option '--polic'", " plug"),
        (["plug", "--policy", "x", "a"], "invalid value for '--pol", " plug"),
        (["attach", "web1"], "name a domain and VFs", " attach"),
        (["plough"], "no such command 'plough'", ""),
    ],
)
def test_what_is_misused_is_told_as_all_errors_are(
    capsys, words, told, command
):
    assert main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"ibhostdev: {told}")
    assert lines[-1] == f"  cure       see 'ibhostdev{command} --help'"
    assert main([*words, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["message"].startswith(told)
    assert f"'ibhostdev{command} --help'" in error["cure"]


def test_a_list_of_choices_is_told_in_words(capsys):
    assert main(["completion"]) == 2
    assert "Choose from: bash, zsh, fish" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["fabric"]])
def test_a_group_without_a_command_shows_its_help(capsys, words):
    assert main([*words, "--help"]) == 0
    wanted = capsys.readouterr().out
    main(words)
    done = capsys.readouterr()
    assert done.out + done.err == wanted


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["plug", "--file"], " plug"),
        (["--run-dir", "/x", "list", "--connect"], " list"),
        (["--host"], ""),
    ],
)
def test_an_option_that_lacks_its_argument(capsys, words, command):
    assert main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"ibhostdev: option '{words[-1]}' requires an argument"
    assert lines[-1] == f"  cure       see 'ibhostdev{command} --help'"
