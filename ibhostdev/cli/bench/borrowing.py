# SPDX-License-Identifier: Apache-2.0
"""VFs that belong to nobody, taken for a while and given back as they were."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from ibhostdev.batch import BatchFailed, BatchResult, OnError, Vif
from ibhostdev.errors import (
    DeviceInUse,
    IbHostdevError,
    InvalidInput,
    NoMechanism,
    NotVerified,
    RollbackFailed,
)
from ibhostdev.guid import Guid
from ibhostdev.host import Host
from ibhostdev.host.views import View, views
from ibhostdev.inventory import Family, Pf, Policy, Vf, VfState
from ibhostdev.pci import PciAddress

_CURE = "name VFs that 'ibhostdev list' shows as idle"


@dataclass
class Loan:
    """VFs, what they were, and for each a VIF that nobody has; what serves
    each PF, by its address."""

    host: Host
    vfs: list[Vf]
    before: dict[PciAddress, VfState]
    vifs: list[Vif]
    mechanisms: dict[PciAddress, str | None]

    @property
    def pfs(self) -> list[Pf]:
        return list({vf.pf.pci: vf.pf for vf in self.vfs}.values())

    @contextmanager
    def held(self) -> Iterator[None]:
        """Whatever happens meanwhile, the VFs are given back after it.

        :raises RollbackFailed: naming those that could not be
        """
        try:
            try:
                yield
            finally:
                failures = self._give_back()
        except BaseException as error:
            # A signal may have cut that short; there is no second one.
            failures = self._give_back()
            if failures:
                lost = _not_given_back(failures, f" after {error}")
                if isinstance(error, Exception):
                    raise lost from error
                error.add_note(str(lost))
            raise
        if failures:
            raise _not_given_back(failures)

    def _give_back(self) -> list[IbHostdevError]:
        """What went wrong, if anything."""
        failures: list[IbHostdevError] = []
        for pf in self.pfs:
            vifs = [
                vif
                for vf, vif in zip(self.vfs, self.vifs, strict=True)
                if vf.pf.pci == pf.pci
            ]
            # First of all none is to have an identity: an adapter may refuse
            # to be given the GUID 0 that it has shown.
            with suppress(IbHostdevError):
                self.host.unplug(vifs, rebind=False, on_error=OnError.CONTINUE)
            states = [self.before[vif.pci] for vif in vifs if vif.pci]
            try:
                self.host.restore(vifs, states)
            except BatchFailed as error:
                failures += error.result.failures
            except IbHostdevError as error:
                # Without rights to begin with nothing has been changed.
                failures += [_of(pci, error) for pci in self._changed(pf)]
        return failures

    def _changed(self, pf: Pf) -> Iterator[PciAddress]:
        """VFs of a PF that are not what they were, as far as can be seen."""
        (view,) = views(self.host, [pf.pci])
        for vf in self.vfs:
            if vf.pf.pci == pf.pci and (
                view.error is not None
                or _state(view, vf) != self.before[vf.pci]
            ):
                yield vf.pci

    def look(
        self, vifs: Sequence[Vif], results: Sequence[BatchResult]
    ) -> None:
        """See whether plugging these has overwritten somebody's identity.

        :raises DeviceInUse: if so; it is what the VF is going to get back
        """
        answers = [one for result in results for one in result.results]
        for vif, one in zip(vifs, answers, strict=False):
            if one.pci is None or one.before is None:
                continue
            if one.before.owner not in (None, vif.guid):
                self.before[one.pci] = one.before
                raise DeviceInUse(
                    f"was given GUID {one.before.owner} while it was on loan",
                    one.pci,
                    cure="name VFs that nobody plugs meanwhile",
                )

    def require_idle(self) -> None:
        """Look who has the VFs now.

        :raises IbHostdevError: as borrow() does
        """
        for view in views(self.host, [vf.pci for vf in self.vfs]):
            for vf in view.vfs:
                _idle(view, vf)


def borrow(host: Host, names: Sequence[str] = ()) -> Loan:
    """The VFs at these PCI addresses; all that there are if none is named.
    Nothing is written.

    :raises InvalidInput: for what is no PCI address, or is named twice
    :raises DeviceNotFound: for what is no VF of this host
    :raises DeviceInUse: for one that belongs to somebody
    :raises NotVerified, NoMechanism: for one of which that cannot be told, or
        that could not be given back
    """
    shown = views(host)
    here = {vf.pci: (view, vf) for view in shown for vf in view.vfs}
    chosen = [PciAddress.parse(name) for name in names] or list(here)
    taken = {
        guid
        for view in shown
        for side in view.states
        for state in side.values()
        for guid in (state.node_guid, state.port_guid)
    }
    vfs: dict[PciAddress, Vf] = {}
    before: dict[PciAddress, VfState] = {}
    vifs: list[Vif] = []
    for pci in chosen:
        if pci in vfs:
            raise InvalidInput(
                "the VF is named twice", pci, "pci", cure="name it once"
            )
        if pci not in here:
            vfs[pci] = host.vf(pci)  # or it says why not
            here[pci] = views(host, [pci])[0], vfs[pci]
        view, vfs[pci] = here[pci]
        before[pci] = _idle(view, vfs[pci])
        guid = _identity()
        while guid in taken:
            guid = _identity()
        taken.add(guid)
        vifs.append(Vif(pci, guid))
    mechanisms = {view.pf.pci: view.mechanism for view in shown}
    return Loan(host, list(vfs.values()), before, vifs, mechanisms)


def _identity() -> Guid:
    """Of a random MAC that is locally administered, so nobody's by right."""
    octets = bytearray(secrets.token_bytes(6))
    octets[0] = octets[0] & 0xFC | 0x02
    return Guid.from_mac(octets.hex(":"))


def _idle(view: View, vf: Vf) -> VfState:
    """What a VF is that nobody has."""
    if view.error is not None:
        raise view.error
    if view.mechanism in (None, "ebrctl"):
        raise NoMechanism(
            "only what the kernel serves can be given back as it was ("
            + "; ".join(f"{name}: {why}" for name, why in view.against.items())
            + ")",
            vf.pci,
            cure="see 'ibhostdev doctor'",
        )
    if vf.in_use:
        raise DeviceInUse(
            "a guest has the VF; nothing was written", vf.pci, cure=_CURE
        )
    # On mlx4 it may have one on each port.
    states = [view.state(vf, side) for side in range(len(view.states))]
    for state in states:
        if state.owner is not None:
            raise DeviceInUse(
                f"belongs to {state.owner.mac or state.owner}; nothing was "
                "written",
                vf.pci,
                cure=f"{_CURE}, or unplug it first",
            )
        # A kernel that does not show GUIDs does show a link that is down.
        if state.port_guid is None and state.policy is not Policy.DOWN:
            raise NotVerified(
                "the driver does not tell whose the VF is; nothing was "
                "written",
                vf.pci,
                f"by {view.mechanism}",
                cure="look into the kernel log for the health of the HCA",
            )
    return _state(view, vf)


def _state(view: View, vf: Vf) -> VfState:
    """On the port that an identity is meant for."""
    numbers = [port.number for port in view.pf.ports[: len(view.states)]]
    state = view.state(vf, numbers.index(vf.pf.port))
    if view.pf.family is Family.MLX4 and state.port_guid == 0:
        # Written, it asks the subnet manager for a GUID.
        return state._replace(port_guid=None)
    return state


def _of(pci: PciAddress, error: IbHostdevError) -> IbHostdevError:
    """What went wrong with a whole PF, as told of one of its VFs."""
    return IbHostdevError(
        error.message, pci, error.attribute, error.errno, error.cure
    )


def _not_given_back(
    failures: Sequence[IbHostdevError], after: str = ""
) -> RollbackFailed:
    first = failures[0]
    return RollbackFailed(
        f"could not be given back as they were ({first.message}){after}",
        ", ".join(str(error.device) for error in failures),
        first.attribute,
        first.errno,
        "see what they are now with 'ibhostdev list', then unplug them",
    )
