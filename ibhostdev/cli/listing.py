# SPDX-License-Identifier: Apache-2.0
"""``ibhostdev list``: the host's PFs and VFs in their present state."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from ibhostdev.batch import Vif
from ibhostdev.cli import options, outcome, terminal
from ibhostdev.cli.outcome import Exit
from ibhostdev.cli.terminal import Cell, Line, filled, row_of, table
from ibhostdev.guid import Guid
from ibhostdev.host.views import View, views
from ibhostdev.inventory import Family, Policy, Port, Vf, VfState
from ibhostdev.pci import PciAddress
from ibhostdev.pkey import Partitions, PKey
from ibhostdev.privilege.plain import error_to_plain, state_to_plain

if TYPE_CHECKING:
    from ibhostdev.guest.results import Use

_NOTHING = VfState()

Uses = Mapping[PciAddress, "Use"]
"""Which libvirt domain has which VF, as far as that was asked."""


@click.command("list")
@click.argument("names", nargs=-1, metavar="[PF]…")
@click.option(
    "--connect", "uri", metavar="URI", help="The libvirt to ask who has a VF."
)
@options.host_yaml
@options.json
@options.everywhere(first=False)
@click.pass_obj
def list_(
    settings: options.Settings,
    names: Sequence[str],
    uri: str | None,
    host_yaml: str | None,
    as_json: bool,
) -> int:
    """Show PFs and their VFs as they are now.

    A PF is named by its PCI address, IB device or IPoIB network device; the
    PCI address of a VF shows only that one. Exit code 1 says that the state
    of some VFs could not be read, 3 that this was for want of rights.

    libvirt is asked which domain has a VF if --connect names it, or if some
    VF is in a guest's hands and libvirt is there.

    \b
    The words, here and in all commands:
      PF         an InfiniBand adapter, or one port of it: the Physical
                 Function that its VFs (Virtual Functions) are of
      VIF        a port of a guest: the identity it is to have, and its VF
      GUID       InfiniBand's address: 64 bits, as fa:16:3e:00:00:12:34:56
      MAC        what OpenStack calls a port by: 48 bits; the GUID is made
                 of it, with 00:00 put into the middle
      identity   the GUID that a VF shows to the fabric; the MAC stands for
                 it if it is made of one
      idle       nobody's: the VF has no identity, its policy is down
      not known  what the driver does not tell, as of a VF that nobody has
                 had since it was made
      its own    of a plug or unplug: the identity that is named in the row;
                 half its own: one of the VF's two GUIDs, node's and port's
      policy     the VF's link: down, up, or follow (that of the adapter)
      P_Key      the partition that comes first, on ConnectX-3; on others,
                 where the subnet manager alone knows, the one that host.yaml
                 or the metadata of libvirt's domains wants
      group      the IOMMU group: VFs of one go to the same guest
      in …       the guest (domain) that has it
      by …       the mechanism: how identities are written to the PF's VFs
      network    the physical network: what OpenStack calls a fabric
    """
    from ibhostdev.cli.partitions import known

    host = settings.connect()
    shown = views(host, names, pkeys=True)
    for left_out in host.left_out():
        terminal.warn(f"not shown: {left_out}")
    uses, vifs = _of_domains(shown, uri, local=settings.host is None)
    partitions = known(settings, host, host_yaml, vifs)
    if as_json:
        outcome.write_json(pfs_json(shown, uses, partitions))
    elif not shown:
        terminal.write(
            "no PF with an InfiniBand port: see 'ibhostdev doctor'\n"
        )
    else:
        terminal.show(as_lines(shown, uses, partitions))
    code = Exit.DONE
    for view in shown:
        if view.error is not None:
            terminal.explain(view.error)
            code = max(code, outcome.exit_code(view.error))
    return code


def _of_domains(
    shown: Sequence[View], uri: str | None, local: bool
) -> tuple[Uses, Sequence[Vif]]:
    """Which domain has which VF, and what is noted of them. Where nobody has
    asked for it, nothing that is wrong with libvirt is worth more than a
    word."""
    held = any(vf.in_use for view in shown for vf in view.vfs)
    if uri is None and not (local and held):
        return {}, ()
    from ibhostdev.guest import connection
    from ibhostdev.guest.survey import seen

    uses, found, complaints = connection.ask(uri, seen) or ({}, (), ())
    terminal.warn(*complaints)
    return uses, found


# -- for programs ---------------------------------------------------------


def pfs_json(
    shown: Sequence[View], uses: Uses, partitions: Partitions
) -> dict[str, Any]:
    return {"pfs": [_pf_json(view, uses, partitions) for view in shown]}


def _pf_json(view: View, uses: Uses, partitions: Partitions) -> dict[str, Any]:
    pf = view.pf
    return {
        "pci": pf.pci,
        "family": pf.family,
        "mechanism": view.mechanism,
        "mechanism_reasons": view.against,
        "ib_device": pf.ib_device,
        "netdev": None if pf.netdev is None else pf.netdev.name,
        "ports": [
            {
                "number": port.number,
                "state": port.state,
                "sm_lid": port.sm_lid,
                "physical_networks": None
                if view.networks is None
                else list(view.networks.get(port.number, ())),
            }
            for port in pf.ports
        ],
        "numvfs": pf.numvfs,
        "totalvfs": pf.totalvfs,
        "vfs": [
            _vf_json(view, vf, uses.get(vf.pci), _pkey(view, vf, partitions))
            for vf in view.vfs
        ],
        "error": error_to_plain(view.error),
    }


def _pkey(
    view: View, vf: Vf, partitions: Partitions, side: int = 0
) -> PKey | None:
    """The one that it has, or, where the host does not know, is to have."""
    state = view.state(vf, side)
    if state.pkeys is not None:
        return state.pkey
    return partitions.of(view.pf.pci, state.owner)


def _vf_json(
    view: View, vf: Vf, use: "Use | None", pkey: PKey | None
) -> dict[str, Any]:
    state = view.state(vf)
    owner = state.owner
    told: dict[str, Any] = {
        "index": vf.index,
        "pci": vf.pci,
        "driver": vf.driver,
        "iommu_group": view.groups[vf.pci],
        **state_to_plain(state),
        "mac": None if owner is None else owner.mac,
        "pkey": None if pkey is None else str(pkey),
        "in_use": vf.in_use,
        "domain": None if use is None else use.domain,
        "domain_runs": None if use is None else use.running,
    }
    if len(view.states) > 1:
        told["port_guids"] = [
            text(view.state(vf, side).port_guid)
            for side in range(len(view.states))
        ]
        told["pkeys"] = [
            text(view.state(vf, side).pkey) for side in range(len(view.states))
        ]
    return told


def text(value: Guid | PKey | None) -> str | None:
    return None if value is None else str(value)


# -- for people -----------------------------------------------------------


def as_lines(
    shown: Sequence[View], uses: Uses, partitions: Partitions
) -> list[Line]:
    lines: list[Line] = []
    for view in shown:
        if lines:
            lines.append([])
        lines += _heading(view)
        if view.vfs:
            lines += _vfs(view, uses, partitions)
    return lines


def _heading(view: View) -> list[Line]:
    pf = view.pf
    netdevs = ", ".join(netdev.name for netdev in pf.netdevs)
    first: list[Cell] = [
        (pf.pci, "bold cyan"),
        (pf.family, ""),
        (pf.ib_device, ""),
        (netdevs or "no network device", "" if netdevs else "yellow"),
        (f"{pf.numvfs} of {pf.totalvfs} VFs", ""),
        (f"by {view.mechanism}", "")
        if view.mechanism
        else ("nothing can set identities", "red"),
    ]
    lines = row_of(first)
    for port in pf.ports:
        lines += filled(_port(view, port), [("  ", "")])
    foreign = "mlx5_" if pf.family is Family.MLX4 else "mlx4_"
    for name, reason in view.against.items():
        if name.startswith(foreign):
            continue  # nobody can do anything about that
        lines += filled([(f"not {name}: {reason}", "dim")], [("  ", "")])
    return lines


def _port(view: View, port: Port) -> Line:
    well = port.state == "ACTIVE" and port.sm_lid
    master = f"SM lid {port.sm_lid}" if port.sm_lid else "no SM seen"
    line: list[Cell] = [
        (
            f"port {port.number} {port.state}, {master}",
            "green" if well else "yellow",
        )
    ]
    if view.networks is not None:
        names = view.networks.get(port.number, ())
        line.append(
            (f", network {', '.join(names)}", "")
            if names
            else (", no network mapped to it", "yellow")
        )
    return line


def _vfs(view: View, uses: Uses, partitions: Partitions) -> list[Line]:
    sides = range(max(1, len(view.states)))
    titles = (
        ["identity"]
        if len(sides) == 1
        else [f"on port {view.pf.ports[side].number}" for side in sides]
    )
    policies = any(view.state(vf).policy for vf in view.vfs)
    pkeys = {
        (vf.index, side): _pkey(view, vf, partitions, side)
        for vf in view.vfs
        for side in sides
    }
    shown = any(pkeys.values()) or any(
        view.state(vf, side).pkeys for vf in view.vfs for side in sides
    )
    rows: list[Line] = []
    digits = len(str(view.vfs[-1].index))
    for vf in view.vfs:
        group = view.groups[vf.pci]
        row: list[Cell] = [
            (f"{vf.index:{max(2, digits)}}", ""),
            (vf.pci, ""),
            (vf.driver or "-", ""),
            (f"{'-' if group is None else group:>5}", ""),
            *(
                cell
                for side in sides
                for cell in (
                    _on_side(view, vf, side),
                    _member(view.state(vf, side), pkeys[vf.index, side])
                    if shown
                    else ("", ""),
                )
            ),
            _policy(view.state(vf)) if policies else ("", ""),
            _use(vf, uses.get(vf.pci)),
            _apart(view.state(vf)),
        ]
        rows.append(row)
    head = ["VF", "PCI address", "driver", "group"]
    for title in titles:
        head += [title, "P_Key" if shown else ""]
    head += ["policy" if policies else "", "", ""]
    return table(head, rows, "  ", ("driver", "policy"), below=1)


def _use(vf: Vf, use: "Use | None") -> Cell:
    if use is not None and (use.running or not vf.in_use):
        what = "in" if use.running else "in the definition of"
        return f"{what} {use.domain}", "magenta"
    return ("in a guest's hands", "magenta") if vf.in_use else ("", "")


def _on_side(view: View, vf: Vf, side: int) -> Cell:
    """With num_vfs=4,4,0 the VFs of a ConnectX-3 have one port each."""
    told = [vf.index in states for states in view.states]
    if any(told) and not told[side]:
        return "-", "dim"
    state = view.state(vf, side)
    text, style = identity(state)
    if state.owner is not None and _apart(state)[0]:
        text = state.owner.mac or str(state.owner)
    return text, style


def _apart(state: VfState) -> Cell:
    """Node and port GUID where they differ: too long for a column."""
    node, port = state.node_guid, state.port_guid
    if None in (node, port) or node == port or state.owner is None:
        return "", ""
    return identity(state)


def identity(state: VfState) -> Cell:
    """Whose a VF is: a MAC, or a GUID that was made from none, or both GUIDs
    where they differ."""
    node, port, owner = state.node_guid, state.port_guid, state.owner
    if node is None and port is None:
        return "not known", "dim"
    if owner is None:
        return "idle", "dim"
    if node is not None and port is not None and node != port:
        # One alone is what a call that was cut off has left.
        half = node.is_idle or port.is_idle
        return f"node {node} port {port}", "bold red" if half else "bold"
    return owner.mac or str(owner), "bold"


def _member(state: VfState, pkey: PKey | None) -> Cell:
    if pkey is not None:
        return str(pkey), "dim" if state.owner is None else ""
    return ("-" if state.pkeys is None else "none"), "dim"


def _policy(state: VfState) -> Cell:
    if state.policy is None:
        return "not known", "dim"
    if state.policy is Policy.DOWN and state.owner is not None:
        return state.policy, "yellow"
    return state.policy, "dim" if state.policy is Policy.DOWN else "green"
