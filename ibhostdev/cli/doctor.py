# SPDX-License-Identifier: Apache-2.0
"""``ibhostdev doctor``: the report."""

from collections.abc import Sequence
from typing import Any

from ibhostdev.cli.terminal import Cell, Line, filled
from ibhostdev.doctor import Finding, Severity, problems

_STYLES = {
    Severity.OK: "green",
    Severity.NOTE: "cyan",
    Severity.WARNING: "yellow",
    Severity.PROBLEM: "bold red",
}

_MARGIN = (9, 15)


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    return {
        "ok": not problems(findings),
        "findings": [
            {
                "check": one.check,
                "severity": one.severity,
                "device": one.device,
                "message": one.message,
                "cure": one.cure,
            }
            for one in findings
        ],
    }


def as_lines(findings: Sequence[Finding]) -> list[Line]:
    lines: list[Line] = []
    for one in findings:
        severity, check = _MARGIN
        lead: list[Cell] = [
            (f"{one.severity:<{severity}}", _STYLES[one.severity]),
            (f"{one.check:<{check}}", ""),
        ]
        text = f"{one.device}: {one.message}" if one.device else one.message
        lines += filled([(text, "")], lead)
        if one.cure:
            lead = [(" " * severity + f"{'cure':<{check}}", "dim")]
            lines += filled([(one.cure, "green")], lead)
    counts = [
        (sum(one.severity is severity for one in findings), severity)
        for severity in (Severity.PROBLEM, Severity.WARNING, Severity.NOTE)
    ]
    told = ", ".join(
        f"{count} {severity}{'s' * (count > 1)}"
        for count, severity in counts
        if count
    )
    lines += [[], [(told or "nothing to complain about", "bold")]]
    return lines
