# SPDX-License-Identifier: Apache-2.0
"""Work that waits for the kernel, in threads."""

from collections.abc import Callable, Sequence
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def each(
    items: Sequence[A], work: Callable[[A], B], at_once: int = 16
) -> list[B]:
    """The work done on all items, at once if there are several. All of it
    has ended when this returns or raises."""
    if len(items) < 2:
        return [work(item) for item in items]
    # Here, so that a command that needs no threads starts sooner.
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(len(items), at_once)) as pool:
        return list(pool.map(work, items))
