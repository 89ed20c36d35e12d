# SPDX-License-Identifier: Apache-2.0
"""What the common test suite asks of a host, real or simulated.

Two implementations: tests/simulated/testbed.py and tests/kernel/testbed.py.
Where they differ, the kernel is right.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from ibhostdev import Host


@dataclass(frozen=True)
class Hca:
    """One adapter of a host to be built."""

    family: str = "mlx5"  # "mlx5", "mlx5-ofed", "mlx4"
    vfs: int = 8
    ports: int = 1  # mlx4 may have 2
    netdev: bool = True  # False: no IPoIB netdev of the PF in reach
    total: int = 0  # VFs that it can have at least


@dataclass(frozen=True)
class Seen:
    """A VF as a witness that is not ours shows it; None: cannot tell."""

    node: str | None
    port: str | None
    policy: str | None


@dataclass(frozen=True)
class Counts:
    """Operations since the last build() or reset_counts()."""

    modify: int  # firmware commands that change something
    query: int  # firmware commands that ask
    getlink: int  # GETLINKs with VF data
    probe: int  # VF driver probes


class Testbed(Protocol):
    """A host with HCAs, and a way to look at it that is not ours."""

    kind: Literal["simulated", "kernel"]
    pfs: list[str]
    command: list[str]

    @property
    def sys(self) -> Path:
        """Its sysfs, to look at; who writes there uses write()."""

    def build(self, *hcas: Hca) -> None: ...
    def vf(self, pf: int, index: int) -> str: ...
    def connect(self, **kwargs: Any) -> Host: ...
    def seen(self, pf: int) -> list[Seen]: ...
    def identity(self, vf: str) -> str | None: ...
    def driver(self, vf: str) -> str | None: ...
    def bind(self, vf: str, driver: str | None) -> None: ...
    def hold(self, vf: str) -> AbstractContextManager[None]: ...
    def seed(
        self,
        pf: int,
        index: int,
        node: str | None = None,
        port: str | None = None,
        policy: str | None = None,
    ) -> None: ...
    def fail(self, vf: str, errno: int, first: int = 1) -> None: ...
    def fail_queries(self, vf: str, errno: int) -> None: ...
    def fail_numvfs(self, pf: int, errno: int, after: int = 0) -> None:
        """The PF's next VFs are not made: ``sriov_numvfs`` ends with an errno
        when ``after`` of them are there, which go again."""

    def heal(self) -> None: ...
    def delay(self, command: float = 0.0, probe: float = 0.0) -> None: ...
    def underestimate(self) -> None:
        """Until the next build() the kernel has too little room for what it
        is to tell about the VFs of one PF (EMSGSIZE), but not in a dump."""

    def pkeys(self, *pkeys: int) -> None:
        """Until the next build() the ports of PFs have these, seven at most,
        in the first places of their tables, from the subnet manager."""

    def killed(self, command: list[str], step: int) -> int:
        """The exit code of a command that is killed at its ``step``-th step,
        if it has so many. In the rig a step is a few firmware commands or
        probes of VFs; simulated, it is each write."""

    def counts(self) -> Counts: ...
    def reset_counts(self) -> None: ...
    def write(self, path: str, value: object) -> None: ...
    def numvfs(self, pf: int, n: int) -> None: ...
    def altname(self, pf: int, name: str) -> AbstractContextManager[None]:
        """The PF's network device has an altname meanwhile."""

    def vf_netdevs(self, pf: int) -> AbstractContextManager[None]:
        """The PF's VFs, all on its driver, have network devices meanwhile."""

    def away(self, vf: str) -> AbstractContextManager[None]:
        """The VF's network device is in another namespace meanwhile."""

    def close(self) -> None: ...
