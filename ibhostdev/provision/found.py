# SPDX-License-Identifier: Apache-2.0
"""What a wish means on a host: its PF, and who its VFs are to be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic, sleep

from ibhostdev.batch import Vif
from ibhostdev.errors import DeviceNotFound, InvalidInput
from ibhostdev.guid import Guid
from ibhostdev.host import Host, document
from ibhostdev.inventory import DRIVERS, Family, Pf
from ibhostdev.pkey import Partitions
from ibhostdev.provision.wish import NO_DRIVER, Identity, PfWish

_NONE_HERE = "none; see 'ibhostdev doctor'"
_LOOK = 0.2  # seconds


@dataclass(slots=True)
class Found:
    """A PF with what is wanted of it. ``identities`` are of those VFs that
    are to be somebody's, by index."""

    wish: PfWish
    pf: Pf
    identities: Mapping[int, Identity] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def vfs(self) -> int:
        """How many VFs it is to have."""
        return self.pf.numvfs if self.wish.vfs is None else self.wish.vfs

    @property
    def makes(self) -> bool:
        """Whether its VFs have to be made, and those that it has to go."""
        return self.vfs != self.pf.numvfs

    def vif(self, index: int) -> Vif:
        identity = self.identities[index]
        return Vif(
            self.pf.vf_address(index),
            identity.guid,
            self.wish.physical_network,
            identity.node_guid,
            identity.pkey,
        )


def find(host: Host, wishes: Sequence[PfWish]) -> list[Found]:
    """The PFs that are meant, each once, and their VFs' identities.

    :raises DeviceNotFound: for a name that is no PF's here
    :raises InvalidInput: for what its PF cannot be, by line and column; of
        several things see document.each()
    """
    pfs = host.pfs
    (drivers,) = host.sysfs.listdir([DRIVERS])
    seen: dict[str, PfWish] = {}

    def look(wish: PfWish) -> Found:
        one = Found(wish, _pf(host, pfs, wish))
        other = seen.setdefault(one.pf.pci, one.wish)
        if other is not one.wish:
            raise one.wish.place.refuse(
                f"{one.wish.pf} is the PF {one.pf.pci} again, which is "
                f"{other.pf} in line {other.place.line}",
                "pf",
                "one entry for each PF",
            )
        _check(one, host.networks(one.pf), drivers)
        return one

    found = document.each(wishes, look)
    _share_out(found, pfs)
    return found


def partitions(found: Sequence[Found]) -> Partitions:
    """Those that are wished for."""
    return Partitions(
        {
            identity.guid: identity.pkey
            for one in found
            for identity in one.identities.values()
            if identity.pkey is not None
        },
        {
            one.pf.pci: one.wish.pkey
            for one in found
            if one.wish.pkey is not None
        },
    )


def wait(host: Host, names: Sequence[str], seconds: float) -> None:
    """Until the PFs of these names can be worked on: their InfiniBand ports
    and network devices come after their driver, by other modules. Not longer
    than so; what is missing then is told by who needs it."""
    end = monotonic() + seconds
    while monotonic() < end:
        now = host.pfs
        pfs = [pf_named(host, now, name) for name in names]
        if all(pf is not None and host.choose(pf)[0] for pf in pfs):
            return
        sleep(_LOOK)


def pf_named(host: Host, pfs: Sequence[Pf], name: str) -> Pf | None:
    """By PCI address, IB device, network device (an altname, too), or GUID
    of its port."""
    for pf in pfs:
        names = {pf.pci, pf.ib_device, *(one.name for one in pf.netdevs)}
        names |= {str(port.guid) for port in pf.ports if port.guid}
        if name in names:
            return pf
    # Of a file that names a PF that is not there: asks no netlink.
    netdev = None if ":" in name else host.netdev_named(name)
    for pf in pfs if netdev is not None else ():
        if netdev in [one.name for one in pf.netdevs]:
            return pf
    return None


def _pf(host: Host, pfs: Sequence[Pf], wish: PfWish) -> Pf:
    pf = pf_named(host, pfs, wish.pf)
    if pf is None:
        here = ", ".join(f"{one.pci} {one.ib_device}" for one in pfs)
        raise DeviceNotFound(
            f"{wish.pf} is no InfiniBand PF here",
            str(wish.place),
            "pf",
            cure=f"there are: {here or _NONE_HERE}",
        )
    return pf


def _check(
    one: Found,
    networks: Mapping[int, list[str]] | None,
    drivers: Sequence[str] | int,
) -> None:
    pf, wish = one.pf, one.wish
    network = wish.physical_network
    # Before VFs are made: a plug that refuses it would come after that.
    if (
        network is not None
        and networks is not None
        and not any(network in behind for behind in networks.values())
    ):
        raise wish.place.refuse(
            f"{pf.pci} is not on physical network {network!r}",
            "physical_network",
            "correct it or the physical device mappings; 'ibhostdev list' "
            "shows the network of each PF",
        )
    if one.makes and pf.family is Family.MLX4:
        raise wish.place.refuse(
            f"{pf.pci} has {pf.numvfs} VFs, and its driver makes others only "
            "when it is loaded",
            "vfs",
            "give mlx4_core another num_vfs in /etc/modprobe.d",
        )
    if one.vfs > pf.totalvfs:
        raise wish.place.refuse(
            f"{pf.pci} can have {pf.totalvfs} VFs and not {one.vfs}",
            "vfs",
            f"ask for fewer, or mlxconfig -d {pf.pci} set SRIOV_EN=1 "
            f"NUM_OF_VFS={one.vfs}",
        )
    if wish.driver in ("mlx4_core", "mlx5_core") and wish.driver != pf.driver:
        raise wish.place.refuse(
            f"the VFs of {pf.pci} are none of {wish.driver}'s",
            "driver",
            f"write {pf.driver}",
        )
    if wish.policy is not None and pf.family is Family.MLX4:
        raise wish.place.refuse(
            f"{pf.pci} is an mlx4, whose VFs have no policy",
            "policy",
            "leave it out",
        )
    if (
        not isinstance(drivers, int)
        and wish.driver not in (None, NO_DRIVER)
        and wish.driver not in drivers
    ):
        raise wish.place.refuse(
            f"there is no driver {wish.driver} on this host",
            "driver",
            f"modprobe {wish.driver}, and at boot a file with its name in "
            "/etc/modules-load.d",
        )


def _share_out(found: Sequence[Found], pfs: Sequence[Pf]) -> None:
    """Who each VF is to be. A GUID that two would have is refused, and one
    that is a PF's own."""
    taken: dict[Guid, str] = {}
    for pf in pfs:
        own = [pf.node_guid, *(port.guid for port in pf.ports)]
        taken |= {guid: f"the PF {pf.pci}" for guid in own if guid}

    def share(one: Found) -> None:
        wish = one.wish
        identities: dict[int, Identity] = {}
        for index in range(one.vfs):
            try:
                identity = wish.guids.of(one.pf, index)
                if identity is None:
                    continue
                for guid in identity.guids:
                    guid.require_identity()
            except InvalidInput as error:
                raise wish.place.refuse(
                    error.message, "guids", error.cure or ""
                ) from None
            me = f"VF {index} of {one.pf.pci}"
            for guid in identity.guids:
                if guid in taken:
                    raise wish.place.refuse(
                        f"GUID {guid} would be that of {me} and of "
                        f"{taken[guid]}",
                        "guids",
                        "give each VF a GUID of its own",
                    )
                taken[guid] = me
            identities[index] = identity._replace(
                policy=identity.policy or wish.policy,
                pkey=identity.pkey or wish.pkey,
            )
        one.identities = identities
        left = wish.guids.beyond(one.vfs)
        if left:
            one.notes.append(
                f"{one.pf.pci} has {one.vfs} VFs, and the last {left} of them "
                "get no GUID: there are no more"
            )
        if more := wish.guids.left(one.vfs):
            one.notes.append(
                f"{one.pf.pci} has {one.vfs} VFs; GUIDs of its list that are "
                f"left over: {more}"
            )

    document.each(found, share)
