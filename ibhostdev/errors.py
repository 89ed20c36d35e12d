# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, as types.

Every error says which device, which attribute or message, which errno, and
what would likely cure it. The fields are plain text and numbers and are the
exception's ``args``, so an error survives pickle and oslo.privsep, which
rebuilds exceptions as ``cls(*args)``.
"""

import errno as _errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

# C0, DEL and C1.
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], "?")


def printable(text: str) -> str:
    """Text with what could move a terminal's cursor, or begin a line of a
    log, taken out: names come from anywhere."""
    # Most text is clean, and looking takes less time than translating.
    return text if text.isprintable() else text.translate(_CONTROLS)


class IbHostdevError(Exception):
    """Base of all errors of this package.

    :ivar message: what happened
    :ivar device: PCI address, network device or file it happened to
    :ivar attribute: sysfs attribute, netlink message or input field
    :ivar errno: what the kernel answered, or None
    :ivar cure: what the operator can do about it
    """

    def __init__(
        self,
        message: str,
        device: str | None = None,
        attribute: str | None = None,
        errno: int | None = None,
        cure: str | None = None,
    ) -> None:
        # Set rather than passed on: OSError, which some subclasses are too,
        # would read its own meaning into five arguments.
        self.args = (message, device, attribute, errno, cure)
        self.message = message
        self.device = device
        self.attribute = attribute
        self.errno = errno
        self.cure = cure

    @classmethod
    def of_several(cls, errors: "Iterable[IbHostdevError]") -> "Self":
        """What the first of them says, and how many more there are."""
        first, *others = errors
        more = f" (and {len(others)} more)" if others else ""
        return cls(
            first.message + more,
            first.device,
            first.attribute,
            first.errno,
            first.cure,
        )

    def __str__(self) -> str:
        where = " ".join(
            part for part in (self.device, self.attribute) if part
        )
        text = f"{where}: {self.message}" if where else self.message
        if self.errno:
            name = _errno.errorcode.get(self.errno, str(self.errno))
            text += f": {os.strerror(self.errno)} ({name})"
        if self.cure:
            text += f"; {self.cure}"
        return printable(text)

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), self.args)


class InvalidInput(IbHostdevError, ValueError):
    """A value from outside is malformed or forbidden. Nothing was touched."""


class DeviceNotFound(IbHostdevError, LookupError):
    """There is no such VF or PF on this host."""


class WrongPhysicalNetwork(IbHostdevError):
    """The VF is not on the physical network of its VIF."""


class GuidConflict(IbHostdevError):
    """Another VF of the fabric, in a guest's hands, holds the GUID."""


class DeviceInUse(IbHostdevError):
    """The VF is in a guest's hands and must not be changed."""


class NoMechanism(IbHostdevError):
    """No way of setting VF identities serves this PF."""


class AccessDenied(IbHostdevError, PermissionError):
    """The process may not do this (EPERM, EACCES, EROFS)."""


class CommandFailed(IbHostdevError):
    """The kernel, the driver or firmware refused a command."""


class NotVerified(IbHostdevError):
    """A command was accepted, but reading back shows another state."""


class TimedOut(IbHostdevError, TimeoutError):
    """What was asked for did not happen in time."""


class RebindFailed(IbHostdevError):
    """The VF is idle, but could not be bound anew to its driver."""


class RolledBack(IbHostdevError):
    """Nothing was wrong with this VF; another one of the batch failed."""


class RollbackFailed(IbHostdevError):
    """A failed batch could not be undone for this VF."""


class NotRunning(IbHostdevError):
    """A daemon that is needed is not running: eswitchd, or whoever serves a
    simulated host."""


def root_causes(errors: "list[IbHostdevError]") -> "list[IbHostdevError]":
    """Of a batch: those that are causes, not consequences."""
    found = [one for one in errors if not isinstance(one, RolledBack)]
    return found or errors
