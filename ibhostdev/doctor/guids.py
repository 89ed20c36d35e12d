# SPDX-License-Identifier: Apache-2.0
"""Who has which GUID, and who should not."""

from collections.abc import Iterator, Sequence

from ibhostdev.doctor.findings import Finding, Patient, Severity, some
from ibhostdev.errors import IbHostdevError
from ibhostdev.guid import Guid
from ibhostdev.host.views import View
from ibhostdev.inventory import Policy, Vf


def readable(patient: Patient) -> Iterator[Finding]:
    """PFs and VFs whose state cannot be read."""
    for view in patient.views:
        error = view.error
        if error is not None:
            what = IbHostdevError(
                error.message, None, error.attribute, error.errno
            )
            yield Finding(
                "state",
                Severity.PROBLEM,
                str(what),
                error.device or view.pf.pci,
                error.cure,
            )
        # A VF may have one port of two (mlx4).
        silent = [
            vf.pci
            for vf in view.vfs
            if not any(vf.index in states for states in view.states)
        ]
        if silent and view.states:
            yield Finding(
                "state",
                Severity.WARNING,
                f"the driver does not tell about {some(silent)}",
                view.pf.pci,
                "look into the kernel log for the health of the HCA",
            )


def _held(view: View, vf: Vf) -> set[Guid]:
    """The GUIDs that a VF has."""
    return {guid for guid, _ in _held_on(view, vf)}


def _held_on(view: View, vf: Vf) -> Iterator[tuple[Guid, Sequence[str]]]:
    """The GUIDs that a VF has, each once for a port, and the physical
    networks of that port."""
    mapped = view.networks or {}
    for port, states in zip(view.pf.ports, view.states, strict=False):
        if (state := states.get(vf.index)) is not None:
            for guid in {state.node_guid, state.port_guid}:
                if guid is not None and not guid.is_idle:
                    yield guid, mapped.get(port.number, ())


def _shared(networks: Sequence[str], others: Sequence[str]) -> bool:
    """Whether ports are on one fabric. One that is on no network that
    anybody has told of may be on any."""
    return not (networks and others) or not {*networks}.isdisjoint(others)


def duplicates(patient: Patient) -> Iterator[Finding]:
    """A GUID on two VFs of a fabric: it sends to either of them. A MAC is
    unique in a network only."""
    holders: dict[Guid, list[tuple[str, Sequence[str]]]] = {}
    for view, vf in patient.vfs:
        for guid, networks in _held_on(view, vf):
            holders.setdefault(guid, []).append((vf.pci, networks))
    for guid, held in holders.items():
        vfs = [
            vf
            for vf, networks in held
            if any(
                vf != other and _shared(networks, others)
                for other, others in held
            )
        ]
        if vfs:
            yield Finding(
                "GUIDs",
                Severity.PROBLEM,
                f"GUID {guid} is on all of them",
                some(list(dict.fromkeys(vfs))),
                f"'ibhostdev unplug {guid}', then plug the VF that it "
                "belongs to",
            )


def pf_guids(patient: Patient) -> Iterator[Finding]:
    """A VF with a PF's own GUID, as a script makes it that counts upward
    from there."""
    own = {
        guid: view.pf.pci
        for view in patient.views
        for guid in (
            view.pf.node_guid,
            *(port.guid for port in view.pf.ports),
        )
    }
    for view, vf in patient.vfs:
        for guid in _held(view, vf):
            if guid in own:
                yield Finding(
                    "GUIDs",
                    Severity.PROBLEM,
                    f"has GUID {guid}, which is that of PF {own[guid]}",
                    vf.pci,
                    f"'ibhostdev unplug {guid}', then plug it with a GUID "
                    "that nobody else has",
                )


def halves(patient: Patient) -> Iterator[Finding]:
    """VFs of which a call that was cut off has set a part."""
    for view, vf in patient.vfs:
        state = view.state(vf)
        if state.owner is None:
            continue
        node, port = state.node_guid, state.port_guid
        # Two GUIDs that differ are somebody's choice.
        if (
            node is not None
            and port is not None
            and node.is_idle != port.is_idle
        ):
            yield Finding(
                "GUIDs",
                Severity.WARNING,
                f"has node GUID {node} and port GUID {port}: one of them is "
                "nobody's",
                vf.pci,
                "plug or unplug it again",
            )
        if state.policy is Policy.DOWN:
            yield Finding(
                "GUIDs",
                Severity.WARNING,
                f"has GUID {state.owner}, but its link is administratively "
                "down",
                vf.pci,
                "enable the port in Neutron; if no guest has the VF, plug it "
                "again",
            )


def leftovers(patient: Patient) -> Iterator[Finding]:
    """Identities that no running guest has. Those of stopped guests look
    alike, so it is only a note."""
    for view in patient.views:
        held = [
            vf.pci
            for vf in view.vfs
            if not vf.in_use
            and any(
                view.state(vf, side).owner is not None
                for side in range(len(view.states))
            )
        ]
        if held:
            yield Finding(
                "GUIDs",
                Severity.NOTE,
                f"VFs with an identity, but no running guest: {some(held)}",
                view.pf.pci,
                "if no stopped guest owns them, unplug their identities",
            )
