# SPDX-License-Identifier: Apache-2.0
from typing import TypeVar

_S = TypeVar("_S", bound=str)
_N = TypeVar("_N", bound=int)
_T = TypeVar("_T", bound=tuple[object, ...])

def pci_address(text: str) -> str | None: ...
def guid_of_mac(text: str) -> int | None: ...
def guid(text: str) -> int | None: ...
def octets(number: int) -> str: ...
def vif_of(
    kind: type[_T],
    pci_kind: type[_S],
    guid_kind: type[_N],
    pci: str | None,
    identity: str,
    network: str | None,
) -> _T | None: ...
