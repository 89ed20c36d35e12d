# SPDX-License-Identifier: Apache-2.0
"""systemd's journal as the record of who had which identity.

An entry for each that a VF was given, and for each that was taken from one, by
the journal's own protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/): a
datagram of fields. That is less than a dependency would be, python-systemd is
compiled against libsystemd's headers.

The process that had the batch done writes them, when it is over and its locks
are free. Nothing fails for the journal: where there is none, or it does not
take an entry, there is no entry. It is waited for, for a socket holds fewer
entries than a host has VFs, and at a boot the journal has much to do.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from ibhostdev.batch import VfResult, Vif
from ibhostdev.errors import printable
from ibhostdev.guid import Guid
from ibhostdev.pci import PciAddress

SOCKET = "/run/systemd/journal/socket"
GIVEN = "33dea317946141e58be2c76cfa6624c1"
TAKEN = "e367329ffa4d441c816c274f209872c7"
"""MESSAGE_ID of the two kinds of entry."""
PATIENCE = 10.0
"""Seconds without an entry taken, after which the journal takes none: as many
as systemd's own programs wait (src/basic/log.c, create_log_socket)."""

Pfs = Callable[[Sequence[PciAddress]], Mapping[PciAddress, str]]
"""The PFs of VFs, as far as they can be told."""


def tell(
    vifs: Sequence[Vif],
    results: Sequence[VfResult],
    moved: Iterable[VfResult],
    pfs: Pfs,
    path: str,
) -> None:
    """Write what these results have changed; ``moved`` are those of VFs that
    were made idle for a VIF's sake, ``path`` is the socket."""
    found = [change for one in moved for change in _changes(None, one)]
    for vif, one in zip(vifs, results, strict=True):
        found += _changes(vif.guid, one)
    if not found:
        return
    import socket  # takes as long to load as a plug

    with (
        suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal,
    ):
        journal.settimeout(PATIENCE)
        journal.connect(path)
        known = pfs([one.pci for _, _, one in found if one.pci is not None])
        for event, guid, one in found:
            journal.send(_entry(event, guid, one, known))


def _changes(
    whose: Guid | None, one: VfResult
) -> Iterator[tuple[str, Guid, VfResult]]:
    if not one.changed or one.pci is None:
        return
    if one.error is not None and one.after is None:
        return
    had = one.before.owner if one.before is not None else None
    # Where nothing shows what was written, it is what the driver agreed to.
    has = one.after if one.error is not None else one.wanted
    new = has.owner if has is not None else None
    if had is None and new is None and one.error is None:
        had = whose  # by who does not show whose a VF was
    if had == new:
        return
    if had is not None:
        yield "taken", had, one
    if new is not None:
        yield "given", new, one


def _entry(
    event: str, guid: Guid, one: VfResult, pfs: Mapping[PciAddress, str]
) -> bytes:
    whose = guid.mac or str(guid)
    fields = {
        "MESSAGE": f"VF {one.pci}: identity {whose} {event}",
        "MESSAGE_ID": GIVEN if event == "given" else TAKEN,
        "PRIORITY": "6",  # syslog's LOG_INFO
        "SYSLOG_IDENTIFIER": "ibhostdev",
        "IBHOSTDEV_EVENT": event,
        "IBHOSTDEV_GUID": str(guid),
        "IBHOSTDEV_MAC": guid.mac,
        "IBHOSTDEV_PCI": one.pci,
        "IBHOSTDEV_PF": pfs.get(one.pci) if one.pci else None,
        "IBHOSTDEV_MECHANISM": one.mechanism,
        "IBHOSTDEV_VERIFIED": "yes" if one.verified else "no",
    }
    return "".join(
        f"{name}={printable(value)}\n"
        for name, value in fields.items()
        if value is not None
    ).encode()
