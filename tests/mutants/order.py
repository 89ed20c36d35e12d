# SPDX-License-Identifier: Apache-2.0
"""A plugin of pytest: the tests that are named in a file come first, for
what has killed a mutant is likely to kill its neighbours."""

import os
from pathlib import Path

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    names = Path(os.environ["MUTANTS_FIRST"]).read_text().splitlines()
    rank = {name: number for number, name in enumerate(names)}
    items.sort(key=lambda item: rank.get(item.nodeid, len(rank)))
