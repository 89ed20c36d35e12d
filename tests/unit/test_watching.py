# SPDX-License-Identifier: Apache-2.0
"""The dashboard and the alerts speak of metrics that there are."""

import json
import re
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
