# SPDX-License-Identifier: Apache-2.0
"""Results and errors as plain data, fit for JSON and msgpack, and back.

Only dicts with text as keys, lists, text, numbers, booleans and None. msgpack
gives lists back as tuples, so both are taken.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ibhostdev import errors
from ibhostdev._native.results import Results, packed
from ibhostdev.batch import BatchFailed, BatchResult, Move, Vif
from ibhostdev.errors import IbHostdevError
from ibhostdev.inventory import VfState

Plain = dict[str, Any]


def error_to_plain(error: IbHostdevError | None) -> Plain | None:
    if error is None:
        return None
    return {
        "type": type(error).__name__,
        "message": error.message,
        "device": _text(error.device),
        "attribute": error.attribute,
        "errno": error.errno,
        "cure": error.cure,
    }


def error_from_plain(plain: Mapping[str, Any] | None) -> IbHostdevError | None:
    """An error of the class that it was of; classes are those of
    ibhostdev.errors and no others."""
    if plain is None:
        return None
    kind = getattr(errors, str(plain["type"]), IbHostdevError)
    if not (isinstance(kind, type) and issubclass(kind, IbHostdevError)):
        kind = IbHostdevError
    return kind(
        *(
            plain[key]
            for key in ("message", "device", "attribute", "errno", "cure")
        )
    )


def state_to_plain(state: VfState | None) -> dict[str, str | None]:
    state = state or VfState()
    return {
        "node_guid": _text(state.node_guid),
        "port_guid": _text(state.port_guid),
        "policy": _text(state.policy),
        "pkey": None if state.pkey is None else str(state.pkey),
    }


def results_to_plain(vifs: Sequence[Vif], result: BatchResult) -> Plain:
    """What became of each VIF, for programs."""
    return {
        "ok": result.ok,
        "results": [
            {
                "pci": one.pci,
                "guid": _text(vif.guid),
                "pkey": None if vif.pkey is None else str(vif.pkey),
                "ok": one.error is None,
                "wanted": state_to_plain(one.wanted),
                "before": state_to_plain(one.before),
                "after": state_to_plain(one.after),
                "mechanism": one.mechanism,
                "changed": one.changed,
                "verified": one.verified,
                "error": error_to_plain(one.error),
            }
            for vif, one in zip(vifs, result.results, strict=True)
        ],
        "warnings": list(result.warnings),
        "error": None,
    }


def moves_to_plain(moves: Iterable[Move]) -> Plain | None:
    """GUIDs that have gone from one VF to another, for programs; None if none
    has."""
    found = [
        {
            "pci": move.target,
            "from": move.source,
            "guid": _text(move.vif.guid),
            "pkey": None if move.vif.pkey is None else str(move.vif.pkey),
        }
        for move in moves
    ]
    return {"ok": True, "results": found} if found else None


def outcome_to_plain(outcome: BatchResult | IbHostdevError) -> Plain:
    """Of a batch, whichever way it ended. The results are one text: objects
    are made of them where somebody looks at them."""
    error = outcome if isinstance(outcome, IbHostdevError) else None
    result = BatchResult(())
    if isinstance(outcome, BatchResult):
        result = outcome
    elif isinstance(outcome, BatchFailed):
        result = outcome.result
    made = packed(result.made)
    return {
        "results": made.records.hex(),
        "errors": [error_to_plain(one) for one in made.errors],
        # What went wrong with one of them is told with its VIF.
        "moved": packed(
            one for one in result.moved if not one.error
        ).records.hex(),
        "warnings": list(result.warnings),
        "error": error_to_plain(error),
    }


def outcome_from_plain(
    plain: Mapping[str, Any],
) -> BatchResult | IbHostdevError:
    """The BatchResult, or the error that the batch ended with."""
    made = Results(
        bytes.fromhex(plain["results"]),
        [
            error_from_plain(one) or IbHostdevError("no error")
            for one in plain["errors"]
        ],
    )
    moved = Results(bytes.fromhex(plain["moved"]), ())
    result = BatchResult(made, tuple(plain["warnings"]), made.errors, moved)
    error = plain["error"]
    if error is None:
        return result
    if error["type"] == BatchFailed.__name__:
        return BatchFailed.of(result)
    return error_from_plain(error) or IbHostdevError("no error")


def _text(value: str | int | None) -> str | None:
    """Not the subclass of str or int that it is: msgpack takes no others."""
    return None if value is None else str(value)
