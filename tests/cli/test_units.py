# SPDX-License-Identifier: Apache-2.0
"""What systemd and udev are given: units and a rule."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.flavours import guid
from tests.testbed import Hca

ETC = Path(__file__).parents[2] / "etc"
UNITS = ("ibhostdev-apply.service", "ibhostdev-apply@.service")
RULES = ETC / "udev/60-ibhostdev.rules"


@pytest.fixture
def analyze(tmp_path):
    """Runs systemd-analyze on the units, as if the command were installed."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("needs systemd-analyze")
    for name in UNITS:
        text = (ETC / "systemd" / name).read_text()
        assert "\nExecStart=ibhostdev apply " in text
        text = text.replace("ExecStart=ibhostdev ", "ExecStart=/bin/true ")
        (tmp_path / name).write_text(text)

    def analyze(name, *words):
        return subprocess.run(
            [program, *words, str(tmp_path / name)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    return analyze


@pytest.mark.parametrize("name", UNITS)
def test_systemd_takes_them(analyze, name):
    done = analyze(name, "verify", "--man=no")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", UNITS)
def test_they_are_in_a_sandbox(analyze, name):
    done = analyze(name, "security", "--offline=yes", "--no-pager")
    if "unrecognized option" in done.stderr:
        pytest.skip("needs systemd 250")
    (level,) = re.findall(r"exposure level for .*: [\d.]+ (\w+)", done.stdout)
    assert level in ("OK", "SAFE", "PERFECT")


def test_udev_takes_the_rule():
    program = shutil.which("udevadm")
    if program is None:
        pytest.skip("needs udevadm")
    done = subprocess.run(
        [program, "verify", str(RULES)],
        capture_output=True,
        text=True,
        check=False,
    )
    if "nknown command" in done.stderr:
        pytest.skip("needs systemd 254")
    assert done.returncode == 0, done.stdout + done.stderr


def words(name, pf):
    """The command that a unit runs."""
    (line,) = re.findall(
        r"^ExecStart=(.*)", (ETC / "systemd" / name).read_text(), re.MULTILINE
    )
    return line.replace("%i", pf).split()[1:]


def test_the_rule_starts_what_there_is():
    (unit,) = re.findall(r"restart (\S+)\"", RULES.read_text())
    assert unit.replace("%k", "") == UNITS[1]


def test_what_they_run(bed, run, tmp_path):
    bed.build(Hca(vfs=0, total=2), Hca(vfs=0, total=2))
    file = tmp_path / "host.yaml"
    file.write_text(
        "".join(f"- {{pf: {pf}, vfs: 2, guids: derived}}\n" for pf in bed.pfs)
    )
    done = run(*words(UNITS[1], bed.pfs[1]), "--file", str(file))
    assert done.code == 0, done.err
    assert [len(bed.seen(pf)) for pf in (0, 1)] == [0, 2]
    assert run(*words(UNITS[0], ""), "--file", str(file)).code == 0
    assert [len(bed.seen(pf)) for pf in (0, 1)] == [2, 2]


def test_a_pf_that_comes_later_is_waited_for(bed, run, tmp_path, monkeypatch):
    """At boot its InfiniBand part comes after its driver, and the units do
    not wait for one another."""
    bed.build(Hca(vfs=0, total=2))
    path = "bus/pci/drivers/mlx5_core"
    bed.write(f"{path}/unbind", bed.pfs[0])
    file = tmp_path / "host.yaml"
    file.write_text(f"- {{pf: {bed.pfs[0]}, vfs: 1, guids: ['{guid(1)}']}}\n")
    given = ("apply", "--file", str(file))
    assert run(*given).code == 2
    monkeypatch.setattr(
        "ibhostdev.provision.found.sleep",
        lambda _: bed.write(f"{path}/bind", bed.pfs[0]),
    )
    assert run(*given, "--wait", "600").code == 0
    assert bed.seen(0)[0].port == guid(1)
