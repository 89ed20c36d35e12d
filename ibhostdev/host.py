# SPDX-License-Identifier: Apache-2.0
"""A host with HCAs: the package's front door."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike

from ibhostdev._native.sysfs import Tree
from ibhostdev.batch import BatchResult, OnError, Progress, Vif
from ibhostdev.inventory import Endpoint, Inventory, Pf, Policy, Vf, VfState
from ibhostdev.locks import SECONDS, Locks
from ibhostdev.mechanisms import Mechanisms
from ibhostdev.mechanisms.ebrctl import Command, Run
from ibhostdev.networks import PhysicalNetworks
from ibhostdev.pci import PciAddress
from ibhostdev.plugging import Plugging

__all__ = ["Endpoint", "Host"]

_EBRCTL = Command()


class Host:
    """The machine, or with other parameters a simulated one.

    ``sysfs`` is its sysfs, ``netlink`` whom to talk netlink with, ``run_dir``
    where the locks of the PFs are, which are waited for ``lock_seconds`` at
    most. ``physical_networks`` maps Neutron's names for networks to the PFs
    behind them, by IPoIB network device, IB device or PCI address; without it
    no VIF is checked for its network and all PFs are taken for one fabric.
    ``ebrctl`` runs the vendor's program for PFs that nothing else serves,
    ``ebrctl_at_once`` calls at a time; with None there is none.

    Instances may be shared by threads; several of them, in any processes,
    keep out of each other's way by the locks.
    """

    def __init__(
        self,
        sysfs: Tree | str | PathLike[str] = "/sys",
        netlink: Endpoint | None = None,
        run_dir: str = "/run/ibhostdev",
        physical_networks: Mapping[str, Iterable[str]] | None = None,
        ebrctl: Run | None = _EBRCTL,
        ebrctl_at_once: int = 4,
        lock_seconds: float = SECONDS,
    ) -> None:
        self.sysfs = sysfs if isinstance(sysfs, Tree) else Tree(sysfs)
        self.netlink = netlink or Endpoint()
        self.run_dir = run_dir
        self.inventory = Inventory(self.sysfs)
        self.mechanisms = Mechanisms(
            self.sysfs, self.netlink, ebrctl, ebrctl_at_once
        )
        self._networks = PhysicalNetworks(physical_networks or {})
        self._plugging = Plugging(
            self.sysfs,
            self.inventory,
            self.mechanisms,
            Locks(run_dir, lock_seconds),
            self._networks,
        )

    @property
    def pfs(self) -> list[Pf]:
        """PFs with an InfiniBand port, by PCI address, as they are now."""
        return self.inventory.pfs(anew=True)

    def doubts(self) -> list[str]:
        """What is not as the mapping of physical networks says: devices that
        are no PF here, maybe for a slip of the pen."""
        return self._networks.doubts(self.pfs)

    def vf(self, pci: str) -> Vf:
        """The VF at a PCI address.

        :raises InvalidInput: if it is no PCI address
        :raises DeviceNotFound: if there is no VF of an InfiniBand PF
        """
        (vf,) = self.inventory.locate([PciAddress.parse(pci)])
        if isinstance(vf, Vf):
            return vf
        raise vf

    def plug(
        self,
        vifs: Sequence[Vif],
        *,
        policy: Policy | None = None,
        on_error: OnError = OnError.ROLLBACK,
        mechanism: str | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> BatchResult:
        """Give VFs the identities of VIFs, and make their links follow the
        fabric (or as ``policy`` says).

        What is right already is not written, so a repeated call writes
        nothing. A GUID that another VF of the fabric holds is taken from it,
        unless a guest has that VF. When a VF fails, all are put back to what
        they were, or with ``on_error="continue"`` the others go on.
        ``mechanism`` forces one, ``dry_run`` only plans.

        :raises InvalidInput: for a bad batch; nothing was touched
        :raises DeviceNotFound, WrongPhysicalNetwork: likewise, with rollback
        :raises BatchFailed: when a VF failed; its ``result`` tells of each
        :raises AccessDenied: when the locks cannot be taken
        """
        return self._plugging.plug(
            vifs,
            policy=None if policy is None else Policy(policy),
            on_error=OnError(on_error),
            mechanism=mechanism,
            dry_run=dry_run,
            progress=progress,
        )

    def unplug(
        self,
        vifs: Sequence[Vif],
        *,
        rebind: bool = True,
        on_error: OnError = OnError.ROLLBACK,
        mechanism: str | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> BatchResult:
        """Make the VFs idle that hold the VIFs' GUIDs.

        The PCI address of a VIF is a hint: a VF that holds another GUID is
        somebody else's and is left alone, and the GUID is looked for on the
        other VFs of the fabric. Finding it nowhere is success. VFs that the
        host's own driver has are bound to it anew if it would go on showing
        the old identity, unless ``rebind`` is false.

        Raises what plug() raises.
        """
        return self._plugging.unplug(
            vifs,
            rebind=rebind,
            on_error=OnError(on_error),
            mechanism=mechanism,
            dry_run=dry_run,
            progress=progress,
        )

    def restore(
        self, vifs: Sequence[Vif], states: Sequence[VfState]
    ) -> BatchResult:
        """Make VFs again what they were before they were plugged: ``states``
        are the ``before`` of these VIFs' results.

        For who only borrowed idle VFs; it gives back policies and GUIDs that
        unplug() does not, which leaves every VF idle in the same way. A VF
        that a guest or another identity has by now is left alone and fails;
        that does not stop the others. What the kernel could not show is made
        idle.

        :raises BatchFailed: when a VF failed; its ``result`` tells of each
        :raises IbHostdevError: when the VFs' states cannot be read, or the
            locks not be taken; nothing was touched
        """
        return self._plugging.restore(vifs, states)
