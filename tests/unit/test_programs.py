# SPDX-License-Identifier: Apache-2.0
"""Programs where no extra of the package is installed: scripts are always
there, so each says in plain words what it lacks, and where to get it."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ibhostdev.privilege import program

ROOT = Path(__file__).parents[2]
with open(ROOT / "pyproject.toml", "rb") as file:
    SCRIPTS = tomllib.load(file)["project"]["scripts"]

# What is not installed is not found, whoever looks for it.
BARE = """
import sys
LACKING = {"inotify_simple", "libvirt", "neutron", "os_vif"}
finders = sys.meta_path[:]
class Bare:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in LACKING or top.startswith("oslo_"):
            return None
        found = (one.find_spec(name, path, target) for one in finders)
        return next(filter(None, found), None)
sys.meta_path[:] = [Bare()]
module, function = sys.argv.pop(1).split(":")
sys.exit(getattr(__import__(module, fromlist=[function]), function)())
"""

ROOTWRAP = (1, "install the package with its extra 'rootwrap'")
#: What each ends with and says.
TOLD = {
    "ibhostdev": (2, "Usage"),
    "ibhostdev-ebrctl-path": (0, ""),
    "ibhostdev-neutron-agent": (
        1,
        "install the package with its extra 'neutron'",
    ),
    "ibhostdev-privileged": (0, ""),  # the answer has it
    "ibhostdev-rootwrap": ROOTWRAP,
    "ibhostdev-rootwrap-daemon": ROOTWRAP,
}


def bare(name, *words, **how):
    return subprocess.run(
        [sys.executable, "-c", BARE, SCRIPTS[name], *words],
        capture_output=True,
        text=True,
        check=False,
        **{"stdin": subprocess.DEVNULL} | how,
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_program_says_what_it_lacks(name):
    done = bare(name)
    code, told = TOLD[name]
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_the_privileged_program_has_it_in_its_answer():
    asked = json.dumps({"action": "unplug", "vifs": []})
    done = bare("ibhostdev-privileged", stdin=None, input=asked)
    assert "extra 'rootwrap'" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["attach", "web1", "0000:3b:00.2=fa:16:3e:12:34:56"], 1, "libvirt'"),
        (["detach", "web1", "0000:3b:00.2"], 1, "libvirt'"),
        (["simulate", "/nowhere/host"], 1, "extra 'simulate'"),
        (["bench", "--rounds", "1"], 1, "extra 'simulate'"),
    ],
)
def test_each_command_says_what_it_lacks(words, code, told):
    done = bare("ibhostdev", *words)
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_the_hook_takes_no_libvirt():
    """libvirt waits for it, so it asks nothing back."""
    done = bare(
        *("ibhostdev", "libvirt-hook", "--", "web1", "prepare", "begin", "-"),
        stdin=None,
        input="<domain><name>web1</name></domain>",
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_with_oslo_rootwrap_it_is_oslo_rootwrap(monkeypatch, capsys):
    """Its words and its codes."""
    pytest.importorskip("oslo_rootwrap", reason="oslo.rootwrap is no need")
    for run in (program.rootwrap, program.rootwrap_daemon):
        monkeypatch.setattr(sys, "argv", ["/bin/ibhostdev-rootwrap"])
        with pytest.raises(SystemExit) as caught:
            run()
        assert caught.value.code == 98
        assert "/bin/ibhostdev-rootwrap: " in capsys.readouterr().err
