# SPDX-License-Identifier: Apache-2.0
"""What libvirt tells of devices that guests let go of."""

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ibhostdev.guest import connection
from ibhostdev.guest.connection import Connection, Domain


class Removals:
    """Who has said that a guest let go of a device, or will not."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._gone: set[tuple[str, str]] = set()
        self._refused: set[tuple[str, str]] = set()
        self._stopped: set[str] = set()

    @classmethod
    @contextmanager
    def listen(cls, conn: Connection, to_it: bool) -> Iterator["Removals"]:
        """Listens for as long as this lasts, unless there is nothing to
        listen to."""
        removals = cls()
        if not to_it:
            yield removals
            return
        module = connection.libvirt()
        with contextlib.ExitStack() as stack:

            def forget(one: int) -> None:
                # Where the connection has gone they have with it.
                with contextlib.suppress(module.libvirtError):
                    conn.domainEventDeregisterAny(one)

            for event, call in (
                (module.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, removals._remove),
                (
                    module.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED,
                    removals._refuse,
                ),
                (module.VIR_DOMAIN_EVENT_ID_LIFECYCLE, removals._live),
            ):
                try:
                    stack.callback(
                        forget,
                        conn.domainEventRegisterAny(None, event, call, None),
                    )
                except module.libvirtError as error:
                    raise connection.explain(error, "", None, None) from error
            yield removals

    def _remove(self, _: object, domain: Domain, alias: str, __: Any) -> None:
        with self._changed:
            self._gone.add((domain.name(), alias))
            self._changed.notify_all()

    def _refuse(self, _: object, domain: Domain, alias: str, __: Any) -> None:
        with self._changed:
            self._refused.add((domain.name(), alias))
            self._changed.notify_all()

    def _live(
        self, _: object, domain: Domain, event: int, __: int, ___: Any
    ) -> None:
        if event != connection.libvirt().VIR_DOMAIN_EVENT_STOPPED:
            return
        with self._changed:
            self._stopped.add(domain.name())
            self._changed.notify_all()

    def refused(self, domain: str, alias: str | None) -> bool:
        return (domain, alias) in self._refused

    def wait(
        self,
        domain: str,
        aliases: Iterable[str],
        deadline: float,
        stop: threading.Event,
    ) -> bool:
        """Until each of the domain's devices has been answered for, or the
        domain has ended; False if the time is over before."""
        due = {(domain, alias) for alias in aliases}

        def over() -> bool:
            return (
                stop.is_set()
                or domain in self._stopped
                or due <= self._gone | self._refused
            )

        with self._changed:
            while not over():
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                # Nobody notifies of a stop.
                self._changed.wait(min(left, 0.5))
            return True
