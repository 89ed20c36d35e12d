# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterable, Iterator

from ibhostdev.batch import VfResult
from ibhostdev.errors import IbHostdevError

class Results:
    records: bytes
    errors: list[IbHostdevError]
    def __init__(
        self, records: bytes, errors: Iterable[IbHostdevError]
    ) -> None: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[VfResult]: ...
    def __getitem__(self, i: int, /) -> VfResult: ...

def packed(results: Iterable[VfResult]) -> Results: ...
