# SPDX-License-Identifier: Apache-2.0
"""Binding VFs anew whose own driver shows an identity they no longer have.

A driver reads its VF's identity when it is bound (drivers/infiniband/hw/
mlx5/main.c). A VF that went to a guest is no matter: the guest's driver
reads it. One that is on the host's own driver shows the last tenant's until
it is bound again, which takes 0.3 to 0.5 s of waiting for firmware: so only
those that need it, and many at once.
"""

import errno
import threading
import time
from collections.abc import Iterable, Sequence

from ibhostdev._native.sysfs import Tree
from ibhostdev.batch import Progress
from ibhostdev.errors import IbHostdevError, RebindFailed
from ibhostdev.guid import Guid
from ibhostdev.inventory import (
    DEVICES,
    DRIVERS,
    Inventory,
    Vf,
    base_name,
)
from ibhostdev.parallel import each
from ibhostdev.pci import PciAddress

_AT_ONCE = 32
# Firmware may still be initialising the function.
_PASSING = frozenset({errno.EIO, errno.EAGAIN, errno.EBUSY, errno.ETIMEDOUT})
_TRIES = 5
_PAUSE = 0.2


class Rebinding:
    """Refreshes what a VF's own driver shows of its identity."""

    def __init__(self, sysfs: Tree, inventory: Inventory) -> None:
        self._sysfs = sysfs
        self._inventory = inventory

    def stale(
        self, identities: Iterable[tuple[Vf, Guid]], certain: bool
    ) -> list[Vf]:
        """The VFs that the host's own driver has and whose identity here it
        took when it was bound; unless that is to be ``certain``, also those
        of which it shows none that could be compared."""
        own = [one for one in identities if one[0].driver == "mlx5_core"]
        shown = self._inventory.own_identities([vf for vf, _ in own])
        return [
            vf
            for (vf, guid), identity in zip(own, shown, strict=True)
            if identity == guid or (identity is None and not certain)
        ]

    def rebind(
        self, vfs: Sequence[Vf], progress: Progress | None
    ) -> Iterable[tuple[Vf, IbHostdevError | None]]:
        """Each VF with what went wrong, if anything."""
        done = 0
        lock = threading.Lock()

        def one(vf: Vf) -> tuple[Vf, IbHostdevError | None]:
            nonlocal done
            error = self._rebind(vf)
            with lock:
                done += 1
                if progress is not None:
                    progress("rebind", done, len(vfs))
            return vf, error

        return each(vfs, one, _AT_ONCE)

    def _rebind(self, vf: Vf) -> IbHostdevError | None:
        # Once more, right before: a PF has no physfn, and unbinding one
        # takes the fabric from every guest of the host.
        path = f"{DEVICES}/{vf.pci}"
        physfn, driver = self._sysfs.readlink(
            [f"{path}/physfn", f"{path}/driver"]
        )
        if not isinstance(physfn, str) or base_name(physfn) != vf.pf.pci:
            return RebindFailed(
                f"is no longer a VF of {vf.pf.pci}", vf.pci, "physfn"
            )
        if not isinstance(driver, str) or base_name(driver) != vf.driver:
            return None  # somebody took it, and will see it idle
        folder = f"{DRIVERS}/{vf.driver}"
        answer = self._poke(f"{folder}/unbind", vf.pci)
        if answer == errno.ENODEV:
            return None  # likewise
        step = "unbind"
        if not answer:
            step = "bind"
            answer = self._poke(f"{folder}/bind", vf.pci)
        if not answer:
            return None
        (driver,) = self._sysfs.readlink([f"{path}/driver"])
        if isinstance(driver, str):
            return None  # somebody took it in between
        return RebindFailed(
            f"is idle, but could not be bound to {vf.driver} again",
            vf.pci,
            step,
            answer,
            f"echo {vf.pci} > /sys/{folder}/bind",
        )

    def _poke(self, path: str, pci: PciAddress) -> int:
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_PAUSE)
            (answer,) = self._sysfs.write([(path, pci.encode())])
            if answer not in _PASSING:
                break
        return answer
