# SPDX-License-Identifier: Apache-2.0
"""What this host is known to want, compared with what is there: after a reset
of a PF, a reload of its driver, a firmware update. And the other way round:
what is there and nobody wants."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from ibhostdev.batch import (
    BatchFailed,
    BatchResult,
    OnError,
    Progress,
    VfResult,
    Vif,
)
from ibhostdev.guid import IDLE, Guid
from ibhostdev.host import Host
from ibhostdev.inventory import Family, Policy, Vf, VfState
from ibhostdev.pci import PciAddress
from ibhostdev.provision.found import Found
from ibhostdev.provision.report import Claims

IDLE_STATE = VfState(IDLE, IDLE, Policy.DOWN)
IDLE_MLX4 = VfState(port_guid=IDLE)


class Restored(NamedTuple):
    """The VIFs that are wanted, what became of them, and what is to be said
    of the wishes."""

    vifs: tuple[Vif, ...]
    result: BatchResult
    notes: tuple[str, ...]


def restore(
    host: Host,
    found: Sequence[Found],
    domains: Iterable[Vif],
    others: Collection[PciAddress] = (),
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Restored:
    """Plug what ``domains`` want, and what the file does: a VF or a GUID that
    both name is the domain's. VFs that fail do not stop the others.

    What a guest's VF has, and the kernel does not know since the PF's driver
    was bound, is written anew, but not what the file says of ``others``, VFs
    that guests have of which nobody knows what they want.

    :raises IbHostdevError: when nothing could be begun
    """
    wanted: dict[tuple[Policy | None, bool], list[Vif]] = {}
    vfs: set[PciAddress] = set()
    guids: set[Guid] = set()
    notes = []

    def add(vif: Vif, policy: Policy | None, renew: bool) -> None:
        if vif.pci is None or vif.pci in vfs or vif.guid in guids:
            return
        vfs.add(vif.pci)
        guids.add(vif.guid)
        wanted.setdefault((policy, renew), []).append(vif)

    for vif in domains:
        add(vif, None, renew=True)
    for one in found:
        if one.makes:
            notes.append(
                f"{one.pf.pci} has {one.pf.numvfs} VFs, and is to have "
                f"{one.vfs}: see 'ibhostdev apply'"
            )
        for index, identity in one.identities.items():
            if index < one.pf.numvfs:
                vif = one.vif(index)
                add(vif, identity.policy, renew=vif.pci not in others)
    results: list[VfResult] = []
    warnings: list[str] = []
    moved: list[VfResult] = []
    for (policy, renew), vifs in wanted.items():
        result = _plug(host, vifs, policy, renew, dry_run, progress)
        results += result.results
        moved += result.moved
        warnings += result.warnings
    return Restored(
        tuple(vif for vifs in wanted.values() for vif in vifs),
        BatchResult(tuple(results), warnings, moved=tuple(moved)),
        tuple(notes),
    )


def _plug(
    host: Host,
    vifs: Sequence[Vif],
    policy: Policy | None,
    renew: bool,
    dry_run: bool,
    progress: Progress | None,
) -> BatchResult:
    try:
        return host.plug(
            vifs,
            policy=policy,
            renew=renew,
            on_error=OnError.CONTINUE,
            dry_run=dry_run,
            progress=progress,
        )
    except BatchFailed as error:
        return error.result


# -- the sweep ------------------------------------------------------------


class Stale(NamedTuple):
    """A VF with an identity that nobody claims; ``note`` is who had it, as
    far as somebody knows."""

    vf: Vf
    guid: Guid
    note: str = ""


def stale(
    host: Host, wanted: Mapping[PciAddress, Guid], claims: Claims
) -> list[Stale]:
    """VFs with an identity other than is ``wanted`` there, that no guest has,
    and, where none is wanted, nobody whom ``claims`` names.

    :raises IbHostdevError: if a PF cannot be asked about its VFs
    """
    found = []
    for pf in host.pfs:
        if not pf.numvfs:
            continue
        states = host.survey(pf, range(pf.numvfs))
        for vf in host.vfs(pf):
            owner = states.get(vf.index, VfState()).owner
            here = wanted.get(vf.pci)
            if owner in (None, here) or vf.in_use:
                continue
            if here is None and vf.pci in claims.vfs:
                continue
            assert owner is not None
            found.append(Stale(vf, owner, claims.guids.get(owner, "")))
    return found


def sweep(host: Host, found: Sequence[Stale]) -> BatchResult:
    """Make those VFs idle, and no others.

    :raises BatchFailed: when a VF failed; its ``result`` tells of each
    :raises IbHostdevError: when nothing could be begun
    """
    results: list[VfResult] = []
    warnings: list[str] = []
    left = list(found)
    # A GUID is named once in a batch; a fault may have left it twice.
    while left:
        batch = list({one.guid: one for one in left}.values())
        left = [one for one in left if one not in batch]
        try:
            result = host.restore(
                [Vif(one.vf.pci, one.guid) for one in batch],
                [idle(one.vf.pf.family) for one in batch],
            )
        except BatchFailed as error:
            result = error.result
        results += result.results
        warnings += result.warnings
    made = BatchResult(tuple(results), warnings)
    if not made.ok:
        raise BatchFailed.of(made)
    return made


def idle(family: Family) -> VfState:
    return IDLE_MLX4 if family is Family.MLX4 else IDLE_STATE
