# SPDX-License-Identifier: Apache-2.0
"""Work that waits for others, in threads."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def each(
    items: Sequence[A], work: Callable[[A], B], at_once: int = 16
) -> list[B]:
    """The work done on all items, at once if there are several. What was
    begun has ended when this returns or raises."""
    if len(items) < 2:
        return [work(item) for item in items]
    # Here, so that a command that needs no threads starts sooner; those of
    # concurrent.futures take three times as long to load.
    from threading import Thread

    todo = deque(range(len(items)))
    done: dict[int, B] = {}
    raised: list[BaseException] = []

    def labour() -> None:
        while not raised:
            try:
                at = todo.popleft()
            except IndexError:
                return
            try:
                done[at] = work(items[at])
            except BaseException as error:
                raised.append(error)

    threads: list[Thread] = []
    try:
        for _ in range(min(len(items), at_once) - 1):
            threads.append(Thread(target=labour))
            threads[-1].start()
        labour()
    except BaseException as error:  # Ctrl-C, or no more threads are to be had
        raised.append(error)
    for thread in threads:
        while thread.is_alive():
            try:
                thread.join()
            except BaseException as error:
                raised.append(error)
    if raised:
        raise raised[0]
    return [done[at] for at in range(len(items))]
