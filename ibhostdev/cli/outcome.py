# SPDX-License-Identifier: Apache-2.0
"""What became of a batch: for programs, for people, and as an exit code."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

from ibhostdev.batch import BatchFailed, BatchResult, VfResult, Vif
from ibhostdev.cli import terminal
from ibhostdev.cli.terminal import Cell, Line, table
from ibhostdev.errors import (
    AccessDenied,
    DeviceNotFound,
    IbHostdevError,
    InvalidInput,
    NoMechanism,
    RolledBack,
    WrongPhysicalNetwork,
)
from ibhostdev.inventory import EBRCTL, VfState
from ibhostdev.privilege.plain import results_to_plain

EXIT_CODES = """\b
Exit codes:
  0    done
  1    a VF failed; the results tell what became of the others
  2    bad input; nothing was touched
  3    no rights
  129, 130, 143  ended by SIGHUP, SIGINT (Ctrl-C), SIGTERM; what a batch
       had written by then was put back"""


class Exit(IntEnum):
    """Exit codes; one that a signal ended is 128 more than its number."""

    DONE = 0
    FAILED = 1
    BAD_INPUT = 2
    NO_RIGHTS = 3


_BAD_INPUT = (InvalidInput, DeviceNotFound, WrongPhysicalNetwork)


def exit_code(error: IbHostdevError) -> Exit:
    if isinstance(error, BatchFailed):
        causes = error.result.failures
        if all(isinstance(cause, AccessDenied) for cause in causes):
            return Exit.NO_RIGHTS
        touched = any(one.changed for one in error.result.results)
        if not touched and all(
            isinstance(cause, InvalidInput) or _is_forced(cause)
            for cause in causes
        ):
            return Exit.BAD_INPUT
        return Exit.FAILED
    if isinstance(error, AccessDenied):
        return Exit.NO_RIGHTS
    if isinstance(error, _BAD_INPUT) or _is_forced(error):
        return Exit.BAD_INPUT
    return Exit.FAILED


def failed(result: BatchResult) -> Exit:
    """Says why VFs failed; gives the exit code."""
    if result.ok:
        return Exit.DONE
    for cause in result.failures:
        terminal.explain(cause)
    return exit_code(BatchFailed.of(result))


def _is_forced(error: IbHostdevError) -> bool:
    """Whether a mechanism was asked for that does not serve."""
    return isinstance(error, NoMechanism) and error.attribute == "mechanism"


def not_searched(one: VfResult) -> bool:
    """Of an unplug: nobody was found to have the GUID, but not all could be
    asked. ebrctl's daemon looks by itself."""
    return (
        one.wanted.owner is None
        and one.error is None
        and not one.changed
        and not one.verified
        and one.mechanism != EBRCTL
    )


# -- for programs ---------------------------------------------------------


def write_json(value: Any) -> None:
    import json

    # The one control character that JSON may have as it is.
    text = json.dumps(value, indent=2).replace("\x7f", "\\u007f")
    terminal.write(f"{text}\n")


def failure_json(
    error: dict[str, Any] | None, *each: dict[str, Any] | None
) -> dict[str, Any]:
    """Of a call that had no results; with each error, if they are several."""
    answer: dict[str, Any] = {
        "ok": False,
        "results": [],
        "warnings": [],
        "error": error,
    }
    return answer | ({"errors": list(each)} if each else {})


as_json = results_to_plain


# -- for people -----------------------------------------------------------


def as_lines(
    vifs: Sequence[Vif], result: BatchResult, done: str, dry_run: bool
) -> list[Line]:
    """A row for each VIF and a closing line. ``done`` is the word for what
    was asked for: plugged, unplugged."""
    if not vifs:
        return [[("nothing to do: no VIF was named", "")]]
    rows = [
        _row(vif, one, done, dry_run)
        for vif, one in zip(vifs, result.results, strict=True)
    ]
    head = ("VF", "identity", "outcome", "before", "after", "mechanism")
    return [
        *table(head, rows, common=("mechanism", "before", "after")),
        _summary(result, done, dry_run),
    ]


def _row(vif: Vif, one: VfResult, done: str, dry_run: bool) -> Line:
    after = one.after
    if dry_run and one.error is None:
        after = one.wanted if one.changed else one.before
    before = _state(one.before, vif)
    return [
        (one.pci or "-", ""),
        (vif.guid.mac or str(vif.guid), "bold"),
        _outcome(one, done, dry_run),
        before,
        ("as before", "dim")
        if after is not None and after == one.before
        else _state(after, vif),
        (one.mechanism or "-", "dim"),
    ]


def _state(state: VfState | None, vif: Vif) -> Cell:
    """A state, seen from the VIF: "its own" is the identity of its row."""
    if state is None or state == VfState():
        return "-", "dim"
    halves = [
        (has, wanted)
        for has, wanted in (
            (state.node_guid, vif.node_guid or vif.guid),
            (state.port_guid, vif.guid),
        )
        if has is not None
    ]
    owner = state.owner
    if not halves:
        what = "not known"
    elif owner is None:
        what = "idle"
    elif all(has == wanted for has, wanted in halves):
        what = "its own"
    elif any(has == wanted for has, wanted in halves):
        what = "half its own"
    else:
        what = owner.mac or str(owner)
    told = (state.policy, state.pkey and f"P_Key {state.pkey}")
    return ", ".join([what, *filter(None, told)]), ""


def _outcome(one: VfResult, done: str, dry_run: bool) -> Cell:
    if isinstance(one.error, RolledBack):
        return one.error.message, "yellow"
    if one.error is not None:
        return "failed", "bold red"
    if not one.changed:
        if not_searched(one):
            return "not found where it could be looked for", "yellow"
        if one.wanted.owner is None:
            return "no VF has it", "dim"
        return "nothing to write", "dim"
    if dry_run:
        return f"would be {done}", "cyan"
    if not one.verified:
        return f"{done}, unverified", "yellow"
    return done, "green"


def _summary(result: BatchResult, done: str, dry_run: bool) -> Line:
    results = result.results
    failed = sum(
        one.error is not None and not isinstance(one.error, RolledBack)
        for one in results
    )
    undone = sum(isinstance(one.error, RolledBack) for one in results)
    written = sum(one.error is None and one.changed for one in results)
    idle = len(results) - failed - undone - written
    counts = [
        (written, f"would be {done}" if dry_run else done, "green"),
        (idle, "with nothing to write", ""),
        (failed, "failed", "bold red"),
        (undone, "as before because of that", "yellow"),
    ]
    cells: list[Cell] = [
        (f"{len(results)} VIF" + "s" * (len(results) > 1), "")
    ]
    for at, (count, word, style) in enumerate(c for c in counts if c[0]):
        cells += (": " if at == 0 else ", ", ""), (f"{count} {word}", style)
    return cells
