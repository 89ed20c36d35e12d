# SPDX-License-Identifier: Apache-2.0
"""The ways of giving a VF its identity, one file each.

A mechanism says whether it serves a PF and why not, reads the states of its
VFs and writes a batch of them. It knows nothing of order, rollback or Nova.
"""

from collections.abc import Collection, Mapping
from typing import Protocol

from ibhostdev._native.sysfs import Tree
from ibhostdev.errors import IbHostdevError, InvalidInput, NoMechanism
from ibhostdev.guid import Guid
from ibhostdev.inventory import Endpoint, Pf, Policy, VfState
from ibhostdev.mechanisms.ebrctl import Ebrctl, Run, Whose
from ibhostdev.mechanisms.mlx4_sysfs import Mlx4Sysfs
from ibhostdev.mechanisms.mlx5_netlink import Mlx5Netlink
from ibhostdev.mechanisms.mlx5_sysfs import Mlx5Sysfs

__all__ = ["Mechanism", "Mechanisms", "Whose"]


class Mechanism(Protocol):
    """What a file in this folder implements."""

    name: str

    def plugged(self, pf: Pf, guid: Guid, policy: Policy | None) -> VfState:
        """The state of a VF that has this identity; without a policy the
        link follows the fabric. Raises InvalidInput for a policy that there
        is not, and for a GUID that cannot be set."""

    def idle(self, pf: Pf) -> VfState:
        """The state of a VF that belongs to nobody."""

    def obstacle(self, pf: Pf) -> str | None:
        """Why it cannot serve this PF; None if it can."""

    def survey(self, pf: Pf, batch: Collection[int]) -> dict[int, VfState]:
        """State of the PF's VFs by index: all that can be known of those in
        ``batch``, at least the GUIDs of the others. A VF that could not be
        asked about is missing. Raises IbHostdevError."""

    def write(
        self,
        pf: Pf,
        states: Mapping[int, VfState],
        whose: Mapping[int, Whose],
        /,
    ) -> dict[int, IbHostdevError]:
        """Write the fields that are not None. Gives the VFs that failed;
        these may have taken a part. Never raises for what a device does."""

    def read_back(
        self, pf: Pf, wanted: Mapping[int, VfState], settle: bool = True
    ) -> dict[int, VfState | IbHostdevError]:
        """State of these VFs after write(), once it has taken effect, or
        with ``settle`` false as it is; a VF that could not be asked about is
        missing. Raises IbHostdevError."""


class Mechanisms:
    """All of them, in the order of preference."""

    def __init__(
        self, sysfs: Tree, endpoint: Endpoint, ebrctl: Run | None, at_once: int
    ) -> None:
        native = (
            Mlx5Netlink(sysfs, endpoint),
            Mlx5Sysfs(sysfs),
            Mlx4Sysfs(sysfs),
        )
        self.all: tuple[Mechanism, ...] = native
        self.ebrctl: Ebrctl | None = None
        if ebrctl is not None:
            self.ebrctl = Ebrctl(native, ebrctl, at_once)
            self.all = (*native, self.ebrctl)

    @property
    def names(self) -> list[str]:
        return [mechanism.name for mechanism in self.all]

    def choose(
        self, pf: Pf, forced: str | None = None
    ) -> tuple[Mechanism | None, dict[str, str]]:
        """The first that serves the PF, and what is against those before it
        (against all of them if none does).

        :raises InvalidInput: if ``forced`` names none
        """
        if forced is not None and forced not in self.names:
            raise InvalidInput(
                f"{forced!r} is no mechanism of this host",
                attribute="mechanism",
                cure=f"choose from {', '.join(self.names)}",
            )
        against: dict[str, str] = {}
        for mechanism in self.all:
            if forced not in (None, mechanism.name):
                continue
            obstacle = mechanism.obstacle(pf)
            if obstacle is None:
                return mechanism, against
            against[mechanism.name] = obstacle
        return None, against

    def require(self, pf: Pf, forced: str | None = None) -> Mechanism:
        """As choose(), but raises NoMechanism where nothing serves."""
        mechanism, against = self.choose(pf, forced)
        if mechanism is None:
            raise NoMechanism(
                "nothing can set the identities of its VFs ("
                + "; ".join(f"{name}: {why}" for name, why in against.items())
                + ")",
                pf.pci,
                cure="load ib_ipoib, or install MLNX_OFED"
                if forced is None
                else "leave it to be chosen: 'ibhostdev list' tells which",
            )
        return mechanism
