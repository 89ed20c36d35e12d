# SPDX-License-Identifier: Apache-2.0
"""PFs and their VFs as they are now, for faces that show them."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from ibhostdev.errors import DeviceNotFound, IbHostdevError, InvalidInput
from ibhostdev.host import Host
from ibhostdev.inventory import Family, Pf, Vf, VfState
from ibhostdev.pci import PciAddress
from ibhostdev.process.parallel import each

_NOTHING = VfState()


class View(NamedTuple):
    """A PF and its VFs as they are now.

    ``groups`` are the VFs' IOMMU groups, ``networks`` the physical ones of
    each port, None where there is no mapping. ``states`` has a mapping for
    each of the PF's ports that VFs have an identity on: one on mlx5, maybe
    two on mlx4. ``against`` says why not another mechanism. ``error`` is why
    there are no states.
    """

    pf: Pf
    mechanism: str | None
    against: Mapping[str, str]
    vfs: Sequence[Vf]
    groups: Mapping[PciAddress, int | None]
    networks: Mapping[int, Sequence[str]] | None
    states: Sequence[Mapping[int, VfState]] = ()
    error: IbHostdevError | None = None

    def state(self, vf: Vf, side: int = 0) -> VfState:
        if side < len(self.states):
            return self.states[side].get(vf.index, _NOTHING)
        return _NOTHING


Wanted = dict[PciAddress, set[int] | None]
"""PFs, each with the VFs that were meant of it; None for all."""


def views(
    host: Host, names: Sequence[str] = (), pkeys: bool = False
) -> list[View]:
    """The PFs that names mean, all for none, as they are now. The name of a
    VF means its PF with this VF only. With ``pkeys`` the VFs' P_Keys are
    looked up where the host has them (mlx4), for which firmware is asked.

    :raises DeviceNotFound: for a name that means nothing here
    """
    pfs = host.pfs
    wanted: Wanted = {}
    for name in names:
        pf, index = _find(host, pfs, name)
        indices = wanted.setdefault(pf.pci, set())
        if index is None:
            wanted[pf.pci] = None
        elif indices is not None:
            indices.add(index)
    chosen = [pf for pf in pfs if pf.pci in wanted] if names else pfs
    return each(chosen, lambda pf: _view(host, pf, wanted.get(pf.pci), pkeys))


def _view(
    host: Host, pf: Pf, indices: Collection[int] | None, pkeys: bool
) -> View:
    mechanism, against = host.choose(pf)
    vfs = host.vfs(pf, indices)
    groups = host.iommu_groups(vfs)
    view = View(pf, mechanism, against, vfs, groups, host.networks(pf))
    if mechanism is None or not pf.numvfs:
        return view
    sides = pf.ports if pf.family is Family.MLX4 else pf.ports[:1]
    batch = range(pf.numvfs) if indices is None else indices
    try:
        states = [
            host.survey(pf.on_port(side.number), batch) for side in sides
        ]
        if pkeys and pf.family is Family.MLX4:
            states = [
                host.with_pkeys(
                    pf.on_port(side.number),
                    {n: state for n, state in some.items() if n in batch},
                )
                for side, some in zip(sides, states, strict=True)
            ]
    except IbHostdevError as error:
        return view._replace(error=error)
    return view._replace(states=states)


def _find(host: Host, pfs: Sequence[Pf], name: str) -> tuple[Pf, int | None]:
    for pf in pfs:
        if name == pf.ib_device or name in (n.name for n in pf.netdevs):
            return pf, None
    try:
        address = PciAddress.parse(name)
    except InvalidInput:
        netdev = host.netdev_named(name)
        for pf in pfs:
            if netdev in [n.name for n in pf.netdevs]:
                return pf, None
        raise DeviceNotFound(
            "is the name of no InfiniBand PF here",
            name or "''",
            cure="name a PF by PCI address, IB device or IPoIB network "
            "device; 'ibhostdev list' shows them",
        ) from None
    for pf in pfs:
        if address == pf.pci:
            return pf, None
    vf = host.vf(address)
    return vf.pf, vf.index
