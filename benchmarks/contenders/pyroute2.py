# SPDX-License-Identifier: Apache-2.0
"""pyroute2: it writes, and neither looks first nor reads back."""

from collections.abc import Sequence
from typing import Any

from benchmarks.contenders import Base, Place, Target
from benchmarks.contenders.iproute2 import ONES, rebind

_AUTO, _DISABLE = 0, 2


class Usual(Base):
    """As networking-mlnx does it: for each VF a socket of its own and the
    interface looked up by its name; a VF is read by asking for all."""

    title = "pyroute2, as networking-mlnx uses it"
    families = ("mlx5",)
    most: int | None = 4

    def open(self, place: Place) -> None:
        import pyroute2

        super().open(place)
        self._route = pyroute2.IPRoute

    def _set(self, target: Target, guid: str, state: int) -> None:
        with self._route() as ip:
            (index, *_) = ip.link_lookup(ifname=self.place.netdev(target))
            for name in ("ib_port_guid", "ib_node_guid"):
                ip.link(
                    "set", index=index, vf={"vf": target.index, name: guid}
                )
        with self._route() as ip:
            (index, *_) = ip.link_lookup(ifname=self.place.netdev(target))
            ip.link(
                "set",
                index=index,
                vf={"vf": target.index, "link_state": state},
            )

    def plug(self, targets: Sequence[Target]) -> None:
        for target in targets:
            self._set(target, target.octets, _AUTO)

    def unplug(self, targets: Sequence[Target]) -> None:
        for target in targets:
            self._set(target, ONES, _DISABLE)
            if self.refresh:
                rebind(target)

    def list(self) -> float:
        """Of four VFs, for as many as there are."""
        from time import perf_counter

        start = perf_counter()
        for vf in range(4):
            with self._route() as ip:
                (index, *_) = ip.link_lookup(ifname=self.place.netdevs[0])
                _guids(ip.link("get", index=index, ext_mask=1)[0])[vf % 4]
        every = self.place.vfs * len(self.place.pfs)
        return (perf_counter() - start) / 4 * every


def _guids(link: Any) -> list[tuple[str, str]]:
    return [
        (
            vf.get_attr("IFLA_VF_IB_NODE_GUID")["ib_node_guid"],
            vf.get_attr("IFLA_VF_IB_PORT_GUID")["ib_port_guid"],
        )
        for vf in link.get_attr("IFLA_VFINFO_LIST").get_attrs("IFLA_VF_INFO")
    ]


class Best(Usual):
    """One socket, interfaces by their index, one answer for all VFs."""

    title = "pyroute2, at its best"
    most = None

    def open(self, place: Place) -> None:
        super().open(place)
        self._ip = self._route()
        self._index = {
            netdev: self._ip.link_lookup(ifname=netdev)[0]
            for netdev in place.netdevs
        }

    def _set(self, target: Target, guid: str, state: int) -> None:
        for name, value in (
            ("ib_node_guid", guid),
            ("ib_port_guid", guid),
            ("link_state", state),
        ):
            self._ip.link(
                "set",
                index=self._index[self.place.netdev(target)],
                vf={"vf": target.index, name: value},
            )

    def list(self) -> float | None:  # type: ignore[override]
        for index in self._index.values():
            _guids(self._ip.link("get", index=index, ext_mask=1)[0])
        return None

    def close(self) -> None:
        self._ip.close()
