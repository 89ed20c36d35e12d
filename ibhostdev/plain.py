# SPDX-License-Identifier: Apache-2.0
"""Results and errors as plain data, fit for JSON and msgpack, and back.

Only dicts with text as keys, lists, text, numbers, booleans and None. msgpack
gives lists back as tuples, so both are taken.
"""

from collections.abc import Mapping
from typing import Any

from ibhostdev import errors
from ibhostdev.batch import BatchFailed, BatchResult, VfResult
from ibhostdev.errors import IbHostdevError
from ibhostdev.guid import Guid
from ibhostdev.inventory import Policy, VfState
from ibhostdev.pci import PciAddress

Plain = dict[str, Any]


def state_to_plain(state: VfState | None) -> Plain | None:
    if state is None:
        return None
    return {
        "node_guid": _text(state.node_guid),
        "port_guid": _text(state.port_guid),
        "policy": _text(state.policy),
        "pkeys": None if state.pkeys is None else list(state.pkeys),
    }


def state_from_plain(plain: Mapping[str, Any] | None) -> VfState | None:
    if plain is None:
        return None
    node, port, policy, pkeys = (
        plain[key] for key in ("node_guid", "port_guid", "policy", "pkeys")
    )
    return VfState(
        None if node is None else Guid.parse(node),
        None if port is None else Guid.parse(port),
        None if policy is None else Policy(policy),
        None if pkeys is None else (str(pkeys[0]), str(pkeys[1])),
    )


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


def result_to_plain(result: VfResult) -> Plain:
    return {
        "pci": _text(result.pci),
        "wanted": state_to_plain(result.wanted),
        "before": state_to_plain(result.before),
        "after": state_to_plain(result.after),
        "mechanism": result.mechanism,
        "changed": result.changed,
        "verified": result.verified,
        "error": error_to_plain(result.error),
    }


def result_from_plain(plain: Mapping[str, Any]) -> VfResult:
    return VfResult(
        None if plain["pci"] is None else PciAddress.parse(plain["pci"]),
        state_from_plain(plain["wanted"]) or VfState(),
        state_from_plain(plain["before"]),
        state_from_plain(plain["after"]),
        plain["mechanism"],
        bool(plain["changed"]),
        bool(plain["verified"]),
        error_from_plain(plain["error"]),
    )


def outcome_to_plain(outcome: BatchResult | IbHostdevError) -> Plain:
    """Of a batch, whichever way it ended."""
    error = outcome if isinstance(outcome, IbHostdevError) else None
    result = BatchResult(())
    if isinstance(outcome, BatchResult):
        result = outcome
    elif isinstance(outcome, BatchFailed):
        result = outcome.result
    return {
        "results": [result_to_plain(one) for one in result.results],
        "warnings": list(result.warnings),
        "error": error_to_plain(error),
    }


def outcome_from_plain(
    plain: Mapping[str, Any],
) -> BatchResult | IbHostdevError:
    """The BatchResult, or the error that the batch ended with."""
    result = BatchResult(
        tuple(result_from_plain(one) for one in plain["results"]),
        tuple(plain["warnings"]),
    )
    error = plain["error"]
    if error is None:
        return result
    if error["type"] == BatchFailed.__name__:
        return BatchFailed.of(result)
    return error_from_plain(error) or IbHostdevError("no error")


def _text(value: str | int | None) -> str | None:
    """Not the subclass of str or int that it is: msgpack takes no others."""
    return None if value is None else str(value)
