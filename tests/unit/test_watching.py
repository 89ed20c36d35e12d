# SPDX-License-Identifier: Apache-2.0
"""The dashboard and the alerts speak of metrics that there are."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from ibhostdev.fabric.metrics import _HELP

ETC = Path(__file__).parents[2] / "etc"


def expressions_of_the_rules():
    (group,) = yaml.safe_load(
        (ETC / "prometheus/ibhostdev.rules.yml").read_text()
    )["groups"]
    return [rule["expr"] for rule in group["rules"]]


def expressions_of_the_dashboard():
    board = json.loads((ETC / "grafana/ibhostdev.json").read_text())
    return [
        target["expr"]
        for panel in board["panels"]
        for target in panel["targets"]
    ]


@pytest.mark.parametrize(
    "expressions",
    [expressions_of_the_rules(), expressions_of_the_dashboard()],
    ids=["rules", "dashboard"],
)
def test_only_what_is_told_is_asked_for(expressions):
    named = set(re.findall(r"ibhostdev_\w+", " ".join(expressions)))
    assert named
    assert named <= set(_HELP)


def test_what_systemd_says_of_the_units(tmp_path):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("needs systemd-analyze")
    names = [f"ibhostdev-metrics.{kind}" for kind in ("service", "timer")]
    for name in names:
        text = (ETC / "systemd" / name).read_text()
        # As if the command were installed.
        text = text.replace("ExecStart=ibhostdev ", "ExecStart=/bin/true ")
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [program, "verify", *(str(tmp_path / name) for name in names)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
