# SPDX-License-Identifier: Apache-2.0
"""What there is to watch on a host, as Prometheus reads it.

For the textfile collector of node_exporter: no port is listened on. Labels
are called and say what sriov-network-metrics-exporter has them say (pf, vf,
pciAddr, numa_node), so that what it and others tell of a VF can be joined; it
leaves InfiniBand's PFs out itself (collectors/sriovdev.go, isNetDevice).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ibhostdev.errors import IbHostdevError, NoMechanism
from ibhostdev.guid import Guid
from ibhostdev.host import Host, counters
from ibhostdev.inventory import (
    DEVICES,
    Family,
    Pf,
    Traffic,
    Vf,
    VfState,
)
from ibhostdev.pci import PciAddress
from ibhostdev.process.parallel import each

_HELP = {
    "ibhostdev_pf_info": "A PF with an InfiniBand port; always 1.",
    "ibhostdev_pf_readable": "Whether the PF's VFs could be asked about.",
    "ibhostdev_pf_vfs": "VFs that the PF has enabled.",
    "ibhostdev_pf_vfs_limit": "VFs that the PF could have.",
    "ibhostdev_port_info": "A port of a PF and its state; always 1.",
    "ibhostdev_port_active": "Whether the port is ACTIVE.",
    "ibhostdev_port_sm_lid": "LID of the subnet manager, 0 if none is seen.",
    "ibhostdev_vfs": "VFs that are idle, have an identity (plugged), or of "
    "which that cannot be told (unknown).",
    "ibhostdev_vfs_in_use": "VFs that are in a guest's hands.",
    "ibhostdev_vfs_stale": "Idle VFs whose driver on this host goes on "
    "showing an identity.",
    "ibhostdev_vf_info": "A VF and its identity; always 1.",
    "sriov_vf_rx_packets": "Packets that a VF has received.",
    "sriov_vf_tx_packets": "Packets that a VF has sent.",
    "sriov_vf_rx_bytes": "Octets that a VF has received.",
    "sriov_vf_tx_bytes": "Octets that a VF has sent.",
    "sriov_vf_rx_broadcast": "Broadcasts among the packets received.",
    "sriov_vf_rx_multicast": "Multicasts among the packets received.",
    "sriov_vf_rx_dropped": "Packets for a VF that were dropped.",
    "sriov_vf_tx_dropped": "Packets of a VF that were dropped.",
    "ibhostdev_batches_total": "Plugs and unplugs since boot.",
    "ibhostdev_batch_vifs_total": "VIFs in them.",
    "ibhostdev_batch_seconds_total": "Seconds that they took.",
    "ibhostdev_batch_failures_total": "Those that failed, by the kind of "
    "error.",
    "ibhostdev_hook_runs_total": "Programs in the folder of hooks run since "
    "boot.",
    "ibhostdev_hook_failures_total": "Those that failed or took too long.",
}
# Named as that exporter does, whose counters do not end with _total.
_TRAFFIC = {name: f"sriov_vf_{name}" for name in Traffic._fields}
_NOTHING = VfState()


class _Told(NamedTuple):
    """A PF, its VFs, and their states on each port that they have one on;
    None where they could not be asked about. ``numa`` is the PF's node, and so
    its VFs', empty if it has none; ``traffic`` is by index."""

    pf: Pf
    mechanism: str | None
    vfs: Sequence[Vf]
    own: Sequence[Guid | None]
    states: Sequence[Mapping[int, VfState]] | None
    numa: str
    traffic: Mapping[int, Traffic] = {}


class _Page:
    """Samples, by metric."""

    def __init__(self) -> None:
        self._samples: dict[str, list[str]] = {}

    def add(self, name: str, value: float, **labels: object) -> None:
        words = ",".join(
            f'{key}="{_escaped(str(word))}"' for key, word in labels.items()
        )
        braces = f"{{{words}}}" if words else ""
        self._samples.setdefault(name, []).append(f"{name}{braces} {value}\n")

    def __str__(self) -> str:
        parts: list[str] = []
        for name, text in _HELP.items():
            if name in self._samples:
                counts = name.endswith("_total") or name in _TRAFFIC.values()
                kind = "counter" if counts else "gauge"
                parts += f"# HELP {name} {text}\n", f"# TYPE {name} {kind}\n"
                parts += self._samples[name]
        return "".join(parts)


def _escaped(text: str) -> str:
    for bad, good in (("\\", "\\\\"), ("\n", "\\n"), ('"', '\\"')):
        text = text.replace(bad, good)
    return text


def of_host(
    host: Host, statistics: bool = False
) -> tuple[str, list[IbHostdevError]]:
    """The host as it is now, and what of it could not be read; the kernel is
    asked once for each PF, or with ``statistics`` twice."""
    page = _Page()
    errors: list[IbHostdevError] = []
    for told, wrong in each(host.pfs, lambda pf: _look(host, pf, statistics)):
        _pf(page, told)
        _vfs(page, told)
        _traffic(page, told)
        errors += wrong
    for (name, labels), value in sorted(counters.read(host.run_dir).items()):
        page.add(name, value, **dict(labels))
    return str(page), errors


def _look(
    host: Host, pf: Pf, statistics: bool
) -> tuple[_Told, list[IbHostdevError]]:
    mechanism, _ = host.choose(pf)
    vfs = host.vfs(pf)
    own = host.own_identities(vfs)
    told = _Told(pf, mechanism, vfs, own, None, _numa(host, pf.pci))
    errors: list[IbHostdevError] = []
    if not pf.numvfs:
        return told._replace(states=() if mechanism else None), errors
    if mechanism is not None:
        sides = pf.ports if pf.family is Family.MLX4 else pf.ports[:1]
        try:
            states = [
                host.survey(pf.on_port(side.number), range(pf.numvfs))
                for side in sides
            ]
            told = told._replace(states=states)
        except IbHostdevError as error:
            errors.append(error)
    if statistics:
        try:
            told = told._replace(traffic=host.traffic(pf))
        except NoMechanism:
            pass  # mlx4 has none, and without a network device none tells
        except IbHostdevError as error:
            errors.append(error)
    return told, errors


def _numa(host: Host, pf: PciAddress) -> str:
    """As that exporter has it (getNumaNodes()): empty where there is none."""
    (node,) = host.sysfs.read([f"{DEVICES}/{pf}/numa_node"])
    if not isinstance(node, bytes):
        return ""
    text = node.decode(errors="replace").strip()
    return "" if text == "-1" else text


def _name(pf: Pf) -> str:
    return pf.ib_device if pf.netdev is None else pf.netdev.name


def _pf(page: _Page, told: _Told) -> None:
    pf, name = told.pf, _name(told.pf)
    page.add(
        "ibhostdev_pf_info",
        1,
        pf=name,
        pciAddr=pf.pci,
        numa_node=told.numa,
        ib_device=pf.ib_device,
        family=pf.family,
        mechanism=told.mechanism or "",
    )
    readable = told.states is not None
    page.add("ibhostdev_pf_readable", int(readable), pf=name)
    page.add("ibhostdev_pf_vfs", pf.numvfs, pf=name)
    page.add("ibhostdev_pf_vfs_limit", pf.totalvfs, pf=name)
    for port in pf.ports:
        labels = {"pf": name, "port": port.number}
        page.add(
            "ibhostdev_port_info",
            1,
            **labels,
            state=port.state,
            guid="" if port.guid is None else port.guid,
        )
        active = port.state == "ACTIVE"
        page.add("ibhostdev_port_active", int(active), **labels)
        page.add("ibhostdev_port_sm_lid", port.sm_lid, **labels)


def _vfs(page: _Page, told: _Told) -> None:
    name = _name(told.pf)
    counts = {"idle": 0, "plugged": 0, "unknown": 0}
    stale = 0
    for vf, shown in zip(told.vfs, told.own, strict=True):
        sides = [side.get(vf.index, _NOTHING) for side in told.states or ()]
        owners = [one.owner for one in sides if one.owner is not None]
        state = sides[0] if sides else _NOTHING
        if owners:
            counts["plugged"] += 1
        elif all(
            one.node_guid is None and one.port_guid is None for one in sides
        ):
            counts["unknown"] += 1
        else:
            counts["idle"] += 1
        # Of one with an identity that is as it should be: its guest's driver
        # will read what it is now.
        if shown and state.node_guid and state.node_guid.is_idle:
            stale += not shown.is_idle
        page.add(
            "ibhostdev_vf_info",
            1,
            pf=name,
            vf=vf.index,
            pciAddr=vf.pci,
            numa_node=told.numa,
            guid=owners[0] if owners else "",
            policy=state.policy or "",
            driver=vf.driver or "",
        )
    for word, count in counts.items():
        page.add("ibhostdev_vfs", count, pf=name, state=word)
    in_use = sum(vf.in_use for vf in told.vfs)
    page.add("ibhostdev_vfs_in_use", in_use, pf=name)
    page.add("ibhostdev_vfs_stale", stale, pf=name)


def _traffic(page: _Page, told: _Told) -> None:
    for vf in told.vfs:
        traffic = told.traffic.get(vf.index)
        if traffic is None:
            continue
        for field, metric in _TRAFFIC.items():
            page.add(
                metric,
                getattr(traffic, field),
                pf=_name(told.pf),
                vf=vf.index,
                pciAddr=vf.pci,
                numa_node=told.numa,
            )
