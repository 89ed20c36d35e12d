# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterable, Mapping, Sequence

from ibhostdev._native.results import Results
from ibhostdev.batch import Link, Progress, Vif
from ibhostdev.errors import DeviceNotFound, IbHostdevError
from ibhostdev.guid import Guid
from ibhostdev.host.vendor import Ebrctl
from ibhostdev.inventory import Pf, Policy, Traffic, Vf, VfState
from ibhostdev.pci import PciAddress

_Made = tuple[Results, Results, tuple[str, ...], BaseException | None]

class Engine:
    def __init__(
        self,
        sysfs: str,
        run_dir: str,
        networks: Mapping[str, Iterable[str]],
        networks_only_refuse: bool,
        ebrctl: Ebrctl | None,
        netlink_port: int,
        sysfs_port: int,
        lock_seconds: float,
        settle_seconds: float,
    ) -> None: ...
    def pfs(
        self, anew: bool, states: bool
    ) -> tuple[list[Pf], list[IbHostdevError]]: ...
    def vfs(self, pf: Pf, indices: Iterable[int]) -> list[Vf]: ...
    def locate(
        self, addresses: Iterable[PciAddress]
    ) -> list[Vf | DeviceNotFound]: ...
    def choose(
        self, pf: Pf, forced: str | None
    ) -> tuple[str | None, dict[str, str]]: ...
    def survey(
        self, pf: Pf, indices: Iterable[int], forced: str | None
    ) -> dict[int, VfState]: ...
    def traffic(self, pf: Pf) -> dict[int, Traffic]: ...
    def netdev_named(self, altname: str) -> str | None: ...
    def asks_all(self, pf: Pf) -> bool: ...
    def asks_files(self, pf: Pf) -> bool: ...
    def make(
        self,
        numbers: Sequence[tuple[PciAddress, int]],
        progress: Progress | None,
    ) -> list[tuple[bool, IbHostdevError | None]]: ...
    def drive(
        self,
        wishes: Sequence[tuple[PciAddress, str | None, Guid | None]],
        progress: Progress | None,
    ) -> list[tuple[bool, IbHostdevError | None]]: ...
    def plug(
        self,
        vifs: Sequence[Vif],
        policy: Policy | None,
        link: Link,
        renew: bool,
        proceed: bool,
        mechanism: str | None,
        dry_run: bool,
        progress: Progress | None,
        until: float | None,
    ) -> _Made: ...
    def unplug(
        self,
        vifs: Sequence[Vif],
        rebind: bool,
        proceed: bool,
        mechanism: str | None,
        dry_run: bool,
        progress: Progress | None,
    ) -> _Made: ...
    def restore(
        self, vifs: Sequence[Vif], states: Sequence[VfState]
    ) -> _Made: ...
    def adjust(
        self, vifs: Sequence[Vif], states: Sequence[VfState]
    ) -> _Made: ...

def read_mappings(text: str) -> list[tuple[str, str]]: ...
