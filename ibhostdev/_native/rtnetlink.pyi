# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

LINK_STATE: int
NODE_GUID: int
PORT_GUID: int

_Set = tuple[int, int, int]
_Vf = tuple[int, int | None, int | None, int | None]

class Socket:
    def __init__(
        self, protocol: int = 0, peer: int = 0, timeout: int = 70
    ) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...
    def set_vfs(
        self, ifindex: int, messages: Iterable[Sequence[_Set]]
    ) -> list[int]: ...
    def link(
        self, ifindex: int, vf_data: bool = True, dump: bool = False
    ) -> tuple[str, str, int, list[_Vf], bool]: ...

def build_setlink(seq: int, ifindex: int, sets: Sequence[_Set]) -> bytes: ...
def parse_link(payload: bytes) -> tuple[int, str, str, int, list[_Vf]]: ...
