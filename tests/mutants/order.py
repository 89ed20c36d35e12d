# SPDX-License-Identifier: Apache-2.0
"""A plugin of pytest: the tests that are named in a file come first, for
what has killed a mutant is likely to kill its neighbours. A test that takes
too long ends the process, and is the one that is named in a file."""

import os
import signal
from pathlib import Path

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    names = Path(os.environ["MUTANTS_FIRST"]).read_text().splitlines()
    rank = {name: number for number, name in enumerate(names)}
    items.sort(key=lambda item: rank.get(item.nodeid, len(rank)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logstart(nodeid: str) -> None:
    Path(os.environ["MUTANTS_FIRST"]).with_suffix(".now").write_text(nodeid)
    # Whatever it waits for: a handler of Python's would wait with it.
    limit = float(os.environ["MUTANTS_LIMIT"])
    signal.setitimer(signal.ITIMER_REAL, limit)
    signal.setitimer(signal.ITIMER_PROF, limit / 5)
