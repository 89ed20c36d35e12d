# SPDX-License-Identifier: Apache-2.0
"""A plugin of pytest: the tests whose names begin with what is in a file come
first, for what has killed a mutant is likely to kill its neighbours. A test
that takes too long ends the process, and is the one that is named in a
file."""

import os
import signal
from pathlib import Path

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    names = Path(os.environ["MUTANTS_FIRST"]).read_text().splitlines()

    def rank(item: pytest.Item) -> int:
        found = (n for n, name in enumerate(names) if _begins(item, name))
        return next(found, len(names))

    items.sort(key=rank)


def _begins(item: pytest.Item, name: str) -> bool:
    return item.nodeid.startswith(name)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logstart(nodeid: str) -> None:
    Path(os.environ["MUTANTS_FIRST"]).with_suffix(".now").write_text(nodeid)
    # Whatever it waits for: a handler of Python's would wait with it.
    limit = float(os.environ["MUTANTS_LIMIT"])
    signal.setitimer(signal.ITIMER_REAL, limit)
    signal.setitimer(signal.ITIMER_PROF, limit / 5)
