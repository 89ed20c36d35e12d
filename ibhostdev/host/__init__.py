# SPDX-License-Identifier: Apache-2.0
"""A host with HCAs: the package's front door."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from errno import EACCES, EPERM, EROFS
from itertools import starmap
from os import PathLike
from typing import TYPE_CHECKING

from ibhostdev._native.host import Engine
from ibhostdev._native.sysfs import Tree
from ibhostdev.batch import (
    BatchFailed,
    BatchResult,
    Link,
    OnError,
    Outcome,
    Progress,
    VfResult,
    Vif,
)
from ibhostdev.errors import (
    AccessDenied,
    CommandFailed,
    DeviceNotFound,
    IbHostdevError,
    InvalidInput,
)
from ibhostdev.guid import Guid
from ibhostdev.host import counters, journal, networks
from ibhostdev.host.vendor import Command, Ebrctl, Run
from ibhostdev.inventory import (
    DEVICES,
    MECHANISMS,
    Endpoint,
    Pf,
    Policy,
    Traffic,
    Vf,
    VfState,
    base_name,
)
from ibhostdev.pci import PciAddress
from ibhostdev.pkey import PKey
from ibhostdev.process import log

if TYPE_CHECKING:
    from ibhostdev._native.host import _Made

__all__ = ["Endpoint", "Host", "say"]

_EBRCTL = Command()
# The driver gives up on a firmware command after 60 s (mlx5 core/cmd.c).
_LOCK_SECONDS = 180.0
# Of the subnet manager, whose answer to mlx4 has a limit of 1 s in the driver
# and is asked for again (mlx4/alias_GUID.c).
_SETTLE_SECONDS = 10.0


class Host:
    """The machine, or with other parameters a simulated one.

    ``sysfs`` is its sysfs, ``netlink`` whom to talk netlink with, ``run_dir``
    where the locks of the PFs are, which are waited for ``lock_seconds`` at
    most. ``physical_networks`` maps Neutron's names for networks to the PFs
    behind them, by IPoIB network device (its name or an altname), IB device
    or PCI address; without it
    no VIF is checked for its network and all PFs are taken for one fabric;
    so they are with ``networks_only_refuse``, for a mapping of somebody who
    may not say that a GUID is free elsewhere.
    ``ebrctl`` runs the vendor's program for PFs that nothing else serves,
    ``ebrctl_at_once`` calls at a time; with None there is none. mlx4's subnet
    manager has ``settle_seconds`` to agree to GUIDs, and again to give P_Keys
    that VIFs name. ``journal`` is the socket
    of systemd's journal that each identity given and taken is told to
    (``ibhostdev.host.journal``). ``counted`` has batches counted beside the
    locks (``ibhostdev.host.counters``).

    Instances may be shared by threads; several of them, in any processes,
    keep out of each other's way by the locks.

    :raises InvalidInput: for an empty ``run_dir``, or what is no mapping
    """

    def __init__(
        self,
        sysfs: Tree | str | PathLike[str] = "/sys",
        netlink: Endpoint | None = None,
        run_dir: str = "/run/ibhostdev",
        physical_networks: Mapping[str, Iterable[str]] | None = None,
        ebrctl: Run | None = _EBRCTL,
        ebrctl_at_once: int = 4,
        lock_seconds: float = _LOCK_SECONDS,
        settle_seconds: float = _SETTLE_SECONDS,
        networks_only_refuse: bool = False,
        journal: str | None = None,
        counted: bool = False,
    ) -> None:
        if not run_dir:  # not the one that we happen to be in
            raise InvalidInput(
                "no folder for the locks is named",
                attribute="run_dir",
                cure="name it, or leave it out for /run/ibhostdev",
            )
        self.sysfs = sysfs if isinstance(sysfs, Tree) else Tree(sysfs)
        self.netlink = netlink or Endpoint()
        self.run_dir = run_dir
        self.journal = journal
        self.counted = counted
        self._networks = {
            name: tuple(map(networks.normal, devices))
            for name, devices in (physical_networks or {}).items()
        }
        self._mechanisms = MECHANISMS if ebrctl else MECHANISMS[:-1]
        self._engine = Engine(
            self.sysfs.path,
            run_dir,
            self._networks,
            networks_only_refuse,
            Ebrctl(ebrctl, ebrctl_at_once) if ebrctl else None,
            self.netlink.port,
            self.sysfs.port,
            lock_seconds,
            settle_seconds,
        )

    # -- what is there ------------------------------------------------

    @property
    def pfs(self) -> list[Pf]:
        """PFs with an InfiniBand port, by PCI address, as they are now."""
        pfs, left_out = self._engine.pfs(True, True)
        for error in left_out:
            pci = base_name(error.device or "")
            log.logger(__name__).warning("PF %s is left out: %s", pci, error)
        return pfs

    def left_out(self) -> list[IbHostdevError]:
        """Why adapters that may be PFs are not among ``pfs``: they are ill,
        or being taken down."""
        return self._engine.pfs(False, False)[1]

    def doubts(self) -> list[str]:
        """What is not as the mapping of physical networks says: devices that
        are no PF here, maybe for a slip of the pen."""
        return networks.doubts(self._networks, self.pfs)

    def ready(self, mechanism: str | None = None) -> list[str]:
        """Looks for what would make every plug fail; has doubts().

        :raises InvalidInput: if ``mechanism`` names none of this host's
        :raises AccessDenied, CommandFailed: if locks cannot be made
        """
        # The other callers can do without what it imports.
        from tempfile import TemporaryFile

        self._check(mechanism)
        # The folder is made with the first lock.
        folder = os.path.abspath(self.run_dir)
        while not os.path.exists(folder):
            folder = os.path.dirname(folder)
        try:
            with TemporaryFile(dir=folder):
                pass
        except OSError as error:
            denied = error.errno in (EACCES, EPERM, EROFS)
            raise (AccessDenied if denied else CommandFailed)(
                "locks cannot be made there",
                self.run_dir,
                errno=error.errno,
                cure="the folder for locks has to be writable for who plugs",
            ) from error
        return self.doubts()

    def networks(self, pf: Pf) -> dict[int, list[str]] | None:
        """The physical networks that each port of the PF is behind; None
        where nothing is mapped, and all PFs are on one fabric."""
        if not self._networks:
            return None
        return networks.of_ports(self._networks, pf)

    def vf(self, pci: str) -> Vf:
        """The VF at a PCI address.

        :raises InvalidInput: if it is no PCI address
        :raises DeviceNotFound: if there is no VF of an InfiniBand PF
        """
        (vf,) = self.locate([PciAddress.parse(pci)])
        if isinstance(vf, Vf):
            return vf
        raise vf

    def locate(
        self, addresses: Iterable[PciAddress]
    ) -> list[Vf | DeviceNotFound]:
        """The VF at each address, or why there is none."""
        return self._engine.locate(addresses)

    def vfs(self, pf: Pf, indices: Iterable[int] | None = None) -> list[Vf]:
        """The PF's VFs, or those of them; vanished ones are left out."""
        return self._engine.vfs(
            pf, range(pf.numvfs) if indices is None else indices
        )

    def iommu_groups(self, vfs: Sequence[Vf]) -> dict[PciAddress, int | None]:
        """The number of each VF's IOMMU group; None if it has none."""
        links = self.sysfs.readlink(
            [f"{DEVICES}/{vf.pci}/iommu_group" for vf in vfs]
        )
        names = [
            base_name(link) if isinstance(link, str) else "" for link in links
        ]
        return {
            vf.pci: int(name) if name.isdecimal() else None
            for vf, name in zip(vfs, names, strict=True)
        }

    def own_identities(self, vfs: Sequence[Vf]) -> list[Guid | None]:
        """The node GUID that each VF's own driver on this host took when it
        was bound; None if it shows none."""
        folders = [f"{DEVICES}/{vf.pci}/infiniband" for vf in vfs]
        devices = [
            # One, or none before the driver has it.
            names[0] if isinstance(names, list) and names else "none"
            for names in self.sysfs.listdir(folders)
        ]
        values = self.sysfs.read(
            [
                f"{folder}/{device}/node_guid"
                for folder, device in zip(folders, devices, strict=True)
            ]
        )
        return [_node_guid(value) for value in values]

    def choose(
        self, pf: Pf, forced: str | None = None
    ) -> tuple[str | None, dict[str, str]]:
        """The first mechanism that serves the PF, and what is against those
        before it (against all of them if none does).

        :raises InvalidInput: if ``forced`` names none
        """
        self._check(forced)
        return self._engine.choose(pf, forced)

    def serves(self, mechanism: str) -> bool:
        """Whether that is the first to serve any PF that has VFs. The states
        of ports, which firmware is asked for, do not matter for it.

        :raises InvalidInput: if it is no mechanism
        """
        self._check(mechanism)
        pfs, _ = self._engine.pfs(True, False)
        return any(pf.numvfs and self.choose(pf)[0] == mechanism for pf in pfs)

    def survey(
        self,
        pf: Pf,
        indices: Iterable[int] = (),
        mechanism: str | None = None,
    ) -> dict[int, VfState]:
        """State of the PF's VFs on its port, by index: all that can be known
        of those of ``indices``, at least the GUIDs of the others. One that
        could not be asked about is missing.

        :raises NoMechanism: if none serves the PF
        :raises IbHostdevError: if the kernel cannot be asked
        """
        self._check(mechanism)
        return self._engine.survey(pf, indices, mechanism)

    def with_pkeys(
        self, pf: Pf, states: Mapping[int, VfState]
    ) -> dict[int, VfState]:
        """States that survey() has given of the PF's VFs, by index, with the
        P_Keys at the first of their ``pkeys`` (mlx4). Each place of the port's
        table that one has is read once, which asks firmware; ``pkeys`` of
        those that cannot be read are not known."""
        places = sorted(
            {
                state.pkeys[0]
                for state in states.values()
                if state.pkeys is not None and state.pkeys[0].isdecimal()
            }
        )
        table = f"{pf.path}/infiniband/{pf.ib_device}/iov/ports/{pf.port}"
        values = self.sysfs.read([f"{table}/pkeys/{one}" for one in places])
        found = {
            place: _entry(value)
            for place, value in zip(places, values, strict=True)
        }
        found["none"] = 0
        done = {}
        for index, state in states.items():
            if state.pkeys is not None:
                entry = found.get(state.pkeys[0])
                state = (
                    state._replace(pkeys=None)
                    if entry is None
                    else state._replace(pkey=PKey.of_entry(entry))
                )
            done[index] = state
        return done

    def traffic(self, pf: Pf) -> dict[int, Traffic]:
        """What the PF's VFs have sent and received, by index: one question to
        the kernel, for which the driver asks firmware about each of them, with
        the kernel's RTNL lock held. One that is not counted is missing.

        :raises NoMechanism: if the PF does not tell
        :raises IbHostdevError: if the kernel cannot be asked
        """
        return self._engine.traffic(pf)

    def netdev_named(self, altname: str) -> str | None:
        """The name of the network device that has an altname (``ip link
        property``, since Linux 5.5); None if none has."""
        return self._engine.netdev_named(altname)

    def asks_all(self, pf: Pf) -> bool:
        """Whether the kernel, when it was last asked about the PF's VFs by
        netlink, could not put them into one answer (EMSGSIZE), so that all
        network devices have to be asked about."""
        return self._engine.asks_all(pf)

    def asks_files(self, pf: Pf) -> bool:
        """Whether that answer could not be used at all, for it had more VFs
        than a message of the kernel's holds, and MLNX_OFED's files were
        read instead."""
        return self._engine.asks_files(pf)

    # -- batches ------------------------------------------------------

    def plug(
        self,
        vifs: Sequence[Vif],
        *,
        policy: Policy | None = None,
        link: Link = Link.RAISED,
        renew: bool = False,
        on_error: OnError = OnError.ROLLBACK,
        mechanism: str | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
        until: float | None = None,
    ) -> BatchResult:
        """Give VFs the identities of VIFs, and make their links follow the
        fabric (or as ``link`` or ``policy`` says).

        What is right already is not written, so a repeated call writes
        nothing. A GUID that another VF of the fabric holds is taken from it,
        unless a guest has that VF. When a VF fails, all are put back to what
        they were, or with ``on_error="continue"`` the others go on.
        ``renew`` is for who knows that VFs have lost what they had, as by a
        reset of their PF: with "continue", for it could not be put back, one
        in a guest's hands of which the kernel knows no GUID gets its own, and
        is not left alone. ``mechanism`` forces one, ``dry_run`` only plans. A
        batch that is not done ``until`` then, by time.monotonic(), is ended
        and rolled back as if a VF had failed; with "continue" what was done
        stays.

        :raises InvalidInput: for a bad batch; nothing was touched
        :raises DeviceNotFound, WrongPhysicalNetwork: likewise, with rollback
        :raises BatchFailed: when a VF failed; its ``result`` tells of each
        :raises AccessDenied: when the locks cannot be taken
        :raises TimedOut: when it was not done in time, or a lock not to be had
        """
        self._check(mechanism)
        with self._counted("plug", vifs, dry_run):
            made = self._engine.plug(
                vifs,
                None if policy is None else Policy(policy),
                Link(link),
                renew,
                OnError(on_error) is OnError.CONTINUE,
                mechanism,
                dry_run,
                progress,
                until,
            )
            return self._report(vifs, made, dry_run)

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
        self._check(mechanism)
        with self._counted("unplug", vifs, dry_run):
            made = self._engine.unplug(
                vifs,
                rebind,
                OnError(on_error) is OnError.CONTINUE,
                mechanism,
                dry_run,
                progress,
            )
            if log.debugging(__name__):
                for vif, one in zip(vifs, made[0], strict=True):
                    if one.error is None and not one.changed:
                        log.logger(__name__).debug(
                            "GUID %s is on no VF here: nothing to unplug",
                            vif.guid,
                        )
            return self._report(vifs, made, dry_run)

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
        return self._report(
            vifs, self._engine.restore(vifs, states), dry_run=False
        )

    def adjust(
        self, vifs: Sequence[Vif], states: Sequence[VfState]
    ) -> BatchResult:
        """What Neutron's agent does to ports that are plugged: give VFs the
        policies of ``states``, and on mlx4 the first of their ``pkeys``.

        It is done to guests that run, too, and identities are not written. A
        VF that fails, as one that has another GUID does, does not stop the
        others. What VFs do not have is not set; what is right already is not
        written.

        :raises BatchFailed: when a VF failed; its ``result`` tells of each
        :raises IbHostdevError: as plug()
        """
        return self._report(
            vifs, self._engine.adjust(vifs, states), dry_run=False
        )

    # -- VFs made, and their drivers ----------------------------------

    def make(
        self,
        numbers: Sequence[tuple[PciAddress, int]],
        progress: Progress | None = None,
    ) -> list[Outcome]:
        """Give PFs so many VFs each, all at once. A PF that has them is left
        alone; one with others loses those first, unless a guest has one.

        :raises DeviceNotFound: for what is no PF here; nothing was touched
        """
        return list(starmap(Outcome, self._engine.make(numbers, progress)))

    def drive(
        self,
        wishes: Sequence[tuple[PciAddress, str | None, Guid | None]],
        progress: Progress | None = None,
    ) -> list[Outcome]:
        """Bind VFs to drivers, many at once: the one that is named, "" being
        none, or with None the one that the kernel gives a VF that has none.
        A VF on its own driver that shows another node GUID than this, if one
        is given, is bound anew. One in a guest's hands stays.

        :raises InvalidInput: for what cannot be a driver; nothing was touched
        """
        return list(starmap(Outcome, self._engine.drive(wishes, progress)))

    @contextmanager
    def _counted(
        self, action: str, vifs: Sequence[Vif], dry_run: bool
    ) -> Iterator[None]:
        if dry_run or not self.counted:
            yield
            return
        watch = counters.Watch(self.run_dir, action, len(vifs))
        reason = None
        try:
            yield
        except BaseException as error:
            cause = error
            if isinstance(error, BatchFailed):
                cause = error.result.failures[0]
            reason = type(cause).__name__
            raise
        finally:
            watch.end(reason)

    def _check(self, mechanism: str | None) -> None:
        if mechanism is not None and mechanism not in self._mechanisms:
            raise InvalidInput(
                f"{mechanism!r} is no mechanism of this host",
                attribute="mechanism",
                cure=f"choose from {', '.join(self._mechanisms)}",
            )

    def _report(
        self, vifs: Sequence[Vif], made: "_Made", dry_run: bool
    ) -> BatchResult:
        """The result, or BatchFailed with it inside, or what has ended the
        batch. The locks are free."""
        results, moved, warnings, ended = made
        result = BatchResult(results, warnings, results.errors, moved)
        if not dry_run:
            # Nobody gets the result of a batch that was ended.
            told = log.quiet and ended is None
            for warning in () if told else warnings:
                log.logger(__name__).warning("%s", warning)
            say(result, moved)
            if self.journal is not None:
                journal.tell(
                    vifs, result.results, moved, self._pfs, self.journal
                )
        if ended is not None:
            raise ended
        if not result.ok:
            raise BatchFailed.of(result)
        return result

    def _pfs(self, vfs: Sequence[PciAddress]) -> dict[PciAddress, str]:
        links = self.sysfs.readlink([f"{DEVICES}/{vf}/physfn" for vf in vfs])
        return {
            vf: base_name(link)
            for vf, link in zip(vfs, links, strict=True)
            if isinstance(link, str)
        }


def _node_guid(value: bytes | int) -> Guid | None:
    """From four groups of four digits."""
    if isinstance(value, int):
        return None
    try:
        return Guid(value.replace(b":", b""), 16)
    except ValueError:
        return None


def _entry(value: bytes | int) -> int | None:
    """Of a table of P_Keys: 16 bits in hex."""
    if isinstance(value, int):
        return None
    try:
        return int(value, 16) & 0xFFFF
    except ValueError:
        return None


def say(result: BatchResult, moved: Iterable[VfResult] = ()) -> None:
    """What was written to which VF, for who looks closely."""
    if not log.debugging(__name__):
        return
    for one in (*moved, *result.results):
        if one.changed:
            log.logger(__name__).debug(
                "%s: was %s; is %s; by %s%s",
                one.pci,
                "not known" if one.before is None else one.before.words,
                "not known" if one.after is None else one.after.words,
                one.mechanism,
                "" if one.verified else ", not verified",
            )
