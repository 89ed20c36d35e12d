# SPDX-License-Identifier: Apache-2.0
"""host.yaml, written from what is there: applied it changes nothing."""

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from ibhostdev.errors import AccessDenied, CommandFailed, InvalidInput
from ibhostdev.guid import Guid
from ibhostdev.host import Host
from ibhostdev.inventory import Family, Pf, Policy, Vf, VfState
from ibhostdev.pkey import Partitions, PKey
from ibhostdev.process.parallel import each
from ibhostdev.provision.wish import NO_DRIVER, derived

_HEAD = """\
# The host as it is to be; see ibhostdev apply --help.
"""


_NOWHERE = Partitions()


def as_yaml(host: Host, partitions: Partitions = _NOWHERE) -> str:
    """What 'ibhostdev apply' makes the host what it is now by. In which
    partitions its VFs are to be the host does not know itself.

    :raises IbHostdevError: if the VFs' states cannot be read
    """

    def entry(pf: Pf) -> str:
        return "\n".join(_entry(host, pf, partitions)) + "\n"

    entries = each(host.pfs, entry)
    return _HEAD + ("\n".join(entries) if entries else "[]\n")


def write(text: str, file: str) -> None:
    """The file as a whole or not at all.

    :raises InvalidInput: if it is there already
    :raises AccessDenied, CommandFailed: if it cannot be written
    """
    new = f"{file}.{os.getpid()}"
    try:
        with open(new, "x", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        try:
            os.link(new, file)
        finally:
            os.unlink(new)
    except FileExistsError:
        raise InvalidInput(
            "is there already",
            file,
            "file",
            cure="remove it first, or write to standard output",
        ) from None
    except OSError as error:
        denied = isinstance(error, PermissionError)
        raise (AccessDenied if denied else CommandFailed)(
            "cannot be written",
            file,
            "file",
            error.errno,
            "name one in a folder that is there, and that you may write to",
        ) from error


def _entry(host: Host, pf: Pf, partitions: Partitions) -> Iterator[str]:
    vfs = host.vfs(pf)
    states = host.survey(pf, range(pf.numvfs)) if pf.numvfs else {}
    names = ", ".join([pf.ib_device, *(one.name for one in pf.netdevs)])
    yield f"- pf: '{pf.pci}'  # {names}"
    yield f"  vfs: {pf.numvfs}"
    if not pf.autoprobe:
        yield "  autoprobe: no"
    driver = _driver(pf, vfs)
    if driver is not None:
        yield f"  driver: {driver}"
    policies = {
        state.policy for state in states.values() if state.owner is not None
    }
    for policy in policies & {Policy.UP, Policy.DOWN}:
        if len(policies) == 1:
            yield f"  policy: {policy}"
    usual, own = _pkeys(pf, states, partitions)
    if usual is not None:
        yield f"  pkey: {_pkey(usual)}"
    yield from _guids(pf, states, len(policies) > 1, own)


def _driver(pf: Pf, vfs: Sequence[Vf]) -> str | None:
    """None for what the kernel does by itself, and where they have several.
    VFs in a guest's hands are where libvirt has put them."""
    drivers = {vf.driver or NO_DRIVER for vf in vfs if not vf.in_use}
    own = pf.driver if pf.autoprobe else NO_DRIVER
    return drivers.pop() if len(drivers) == 1 and own not in drivers else None


def _pkeys(
    pf: Pf, states: Mapping[int, VfState], partitions: Partitions
) -> tuple[PKey | None, dict[int, PKey]]:
    """What is said of the PF as a whole, and of those VFs that are in another
    partition."""
    found = {
        index: partitions.of(pf.pci, state.owner)
        for index, state in states.items()
        if state.owner is not None
    }
    usual = partitions.pfs.get(pf.pci)
    if usual is None and len(set(found.values())) == 1:
        (usual,) = set(found.values())
    return usual, {
        index: pkey
        for index, pkey in found.items()
        if pkey is not None and pkey != usual
    }


def _pkey(pkey: PKey) -> str:
    return f"'{pkey}'" if ":" in str(pkey) else str(pkey)


def _guids(
    pf: Pf,
    states: Mapping[int, VfState],
    mixed: bool,
    pkeys: Mapping[int, PKey],
) -> Iterator[str]:
    owners = [states.get(index, VfState()).owner for index in range(pf.numvfs)]
    if not any(owners):
        return
    alone = all(
        state.node_guid in (None, state.port_guid) for state in states.values()
    )
    if not mixed and not pkeys and all(owners) and alone:
        guids = [guid for guid in owners if guid is not None]
        if _are_derived(pf, guids):
            yield "  guids: derived"
            return
        if len(guids) > 2 and all(b - a == 1 for a, b in pairwise(guids)):
            yield f"  guids: {{from: '{guids[0]}', to: '{guids[-1]}'}}"
            return
    yield "  guids:"
    for index, guid in enumerate(owners):
        state = states.get(index, VfState())
        yield _guid(guid, state, pf, mixed, pkeys.get(index))


def _are_derived(pf: Pf, guids: Sequence[Guid]) -> bool:
    try:
        return guids == [derived(pf, index) for index in range(pf.numvfs)]
    except InvalidInput:
        return False


def _guid(
    guid: Guid | None, state: VfState, pf: Pf, mixed: bool, pkey: PKey | None
) -> str:
    if guid is None:
        return "  - idle"
    node = state.node_guid
    member = "" if pkey is None else f", pkey: {_pkey(pkey)}"
    if pf.family is not Family.MLX4 and node != guid:
        if node is None or node.is_idle or state.port_guid != guid:
            return f"  - idle  # node GUID {node}, port GUID {state.port_guid}"
        both = f"node_guid: '{node}', port_guid: '{guid}'"
        policy = f", policy: {state.policy}" if mixed else ""
        return f"  - {{{both}{policy}{member}}}"
    policy = ""
    if mixed and state.policy not in (Policy.FOLLOW, None):
        policy = f", policy: {state.policy}"
    if policy or member:
        return f"  - {{guid: '{guid}'{policy}{member}}}"
    return f"  - '{guid}'"
