# SPDX-License-Identifier: Apache-2.0
"""The flavours of HCA that every mechanism's tests run on."""

from dataclasses import dataclass

from ibhostdev import Guid, Vif
from tests.testbed import Hca, Seen, Testbed

ZERO = "00:00:00:00:00:00:00:00"
ONES = "ff:ff:ff:ff:ff:ff:ff:ff"


def mac(number: int) -> str:
    return f"fa:16:3e:00:{number >> 8:02x}:{number & 255:02x}"


def guid(number: int) -> str:
    return str(Guid.from_mac(mac(number)))


@dataclass(frozen=True)
class Flavour:
    """An HCA, what serves it, and what a witness can see of its VFs.

    ``dump``: on a kernel that refuses to tell about this HCA alone, as Linux
    5.5 to 6.14 do about one with many VFs.
    """

    hca: Hca
    mechanism: str
    dump: bool = False

    @property
    def mlx4(self) -> bool:
        return self.hca.family == "mlx4"

    def seen(self, text: str, policy: str = "follow") -> Seen:
        """As a witness shows a VF with this GUID."""
        if self.mlx4:
            return Seen(None, text, None)
        return Seen(text, text, policy)

    @property
    def idle(self) -> Seen:
        return self.seen(ONES, "down")

    @property
    def commands(self) -> int:
        """What an identity costs: node GUID, port GUID and policy, or on
        mlx4 a request for the port's GUID."""
        return 1 if self.mlx4 else 3

    def getlinks(self, questions: int) -> int:
        """What questions about all VFs cost at most: with a dump one that is
        refused, and a dump that may find no room left behind another device
        and begin anew with this one."""
        return 3 * questions if self.dump else questions


FLAVOURS = {
    "netlink": Flavour(Hca("mlx5", vfs=4), "mlx5_netlink"),
    "dump": Flavour(Hca("mlx5", vfs=4), "mlx5_netlink", dump=True),
    "ofed": Flavour(Hca("mlx5-ofed", vfs=4), "mlx5_netlink"),
    "files": Flavour(Hca("mlx5-ofed", vfs=4, netdev=False), "mlx5_sysfs"),
    "mlx4": Flavour(Hca("mlx4", vfs=4), "mlx4_sysfs"),
}


def vifs(bed: Testbed, *numbers: int, pf: int = 0) -> list[Vif]:
    """VFs 0, 1, … of a PF with identities of these numbers."""
    return [
        Vif.parse(bed.vf(pf, index), mac(number))
        for index, number in enumerate(numbers)
    ]
