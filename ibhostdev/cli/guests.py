# SPDX-License-Identifier: Apache-2.0
"""``ibhostdev attach``, ``detach``: VFs for the domains of a libvirt; and
the end of libvirt's hook that is Python."""

from collections.abc import Sequence
from typing import Any

from ibhostdev.batch import BatchFailed
from ibhostdev.cli import outcome, vifs
from ibhostdev.cli.listing import text
from ibhostdev.cli.outcome import Exit
from ibhostdev.cli.terminal import Cell, Line, table
from ibhostdev.errors import IbHostdevError
from ibhostdev.guest.results import (
    Attachment,
    Detachment,
    GuestResult,
    GuestsFailed,
    GuestsResult,
)
from ibhostdev.host import document
from ibhostdev.pci import PciAddress
from ibhostdev.privilege.plain import error_to_plain


def attachments(
    words: Sequence[str], file: str | None, network: str | None
) -> list[Attachment]:
    """From DOMAIN PCI=MAC …, or a file whose entries name their domain, or
    all go to the one that is named beside it.

    :raises InvalidInput: for the first thing that is malformed
    """
    if file is None:
        found = vifs.from_arguments(words[1:], network, need_pci=True)
        return [Attachment(words[0], vif) for vif in found]
    named = vifs.with_domains(file, network, words[0] if words else None)
    return [Attachment(domain, vif) for domain, vif in named]


def detachments(words: Sequence[str], file: str | None) -> list[Detachment]:
    """From DOMAIN PCI …, or the file that served to attach; of that only
    domains and addresses count.

    :raises InvalidInput: for the first thing that is malformed
    """
    if file is None:
        # PCI=MAC is what attach was given; who has which MAC is known.
        return [
            Detachment(words[0], PciAddress.parse(word.partition("=")[0]))
            for word in words[1:]
        ]
    named = vifs.addresses(file, words[0] if words else None)
    return [Detachment(domain, pci) for domain, pci in named]


def exit_code(error: IbHostdevError) -> Exit:
    if isinstance(error, GuestsFailed):
        codes = {outcome.exit_code(one) for one in error.result.failures}
        return Exit.NO_RIGHTS if codes == {Exit.NO_RIGHTS} else Exit.FAILED
    return outcome.exit_code(error)


def hook_failures(error: IbHostdevError) -> list[IbHostdevError]:
    """What libvirt is to show of a failing hook."""
    if isinstance(error, BatchFailed):
        return error.result.failures
    return list(document.told(error)[0])


# -- for programs ---------------------------------------------------------


def as_json(result: GuestsResult) -> dict[str, Any]:
    return {
        "ok": result.ok,
        "results": [
            {
                "domain": one.domain,
                "pci": one.pci,
                "guid": text(one.guid),
                "pkey": None if one.pkey is None else str(one.pkey),
                "ok": one.error is None,
                "changed": one.changed,
                "error": error_to_plain(one.error),
            }
            for one in result.results
        ],
        "warnings": list(result.warnings),
        "error": None,
    }


# -- for people -----------------------------------------------------------


def as_lines(result: GuestsResult, done: str) -> list[Line]:
    """A row for each VF and a closing line. ``done`` is the word for what
    was asked for: attached, detached."""
    head = ("VF", "identity", "outcome", "domain")
    rows: list[Line] = [_row(one, done) for one in result.results]
    failed = len(result.failures)
    good = len(result.results) - failed
    summary: list[Cell] = [(f"{good} {done}", "green" if good else "")]
    if failed:
        summary += [(", ", ""), (f"{failed} failed", "bold red")]
    return [*table(head, rows, common=("domain",)), summary]


def _row(one: GuestResult, done: str) -> Line:
    if one.error is not None:
        what: Cell = ("failed", "bold red")
    elif one.changed:
        what = (done, "green")
    else:
        what = (f"{done} already", "dim")
    return [
        (one.pci, ""),
        ("-" if one.guid is None else one.guid.mac or str(one.guid), ""),
        what,
        (one.domain, "bold"),
    ]
