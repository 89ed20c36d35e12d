# SPDX-License-Identifier: Apache-2.0
"""What holds for whatever is said of a host."""

from collections.abc import Iterator
from typing import Any

import pytest

from ibhostdev import errors

# What the package refuses by itself: no kernel was asked.
_OWN = (
    errors.InvalidInput,
    errors.WrongPhysicalNetwork,
    errors.GuidConflict,
    errors.DeviceInUse,
    errors.RolledBack,
)


@pytest.fixture(scope="module", autouse=True)
def no_errno_of_nobody() -> Iterator[None]:
    """An error that is not the kernel's does not end as if it were, with
    "Operation not permitted".

    Only in these tests: elsewhere a file of the user's may be one that the
    kernel does not open.
    """
    make = errors.IbHostdevError.__init__

    def made(
        self: errors.IbHostdevError, message: str, *rest: Any, **named: Any
    ) -> None:
        make(self, message, *rest, **named)
        if isinstance(self, _OWN):
            assert self.errno is None, f"what nobody answered: {self}"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(errors.IbHostdevError, "__init__", made)
        yield
