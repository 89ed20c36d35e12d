# SPDX-License-Identifier: Apache-2.0
"""``ip``: it writes, and neither looks first nor reads back."""

from collections.abc import Iterator, Sequence

from benchmarks.contenders import Base, Target, run

ONES = ":".join(["ff"] * 8)


def rebind(target: Target) -> None:
    """As a shell script does, and eswitchd."""
    for action in ("unbind", "bind"):
        with open(f"/sys/bus/pci/drivers/mlx5_core/{action}", "w") as file:
            file.write(target.pci)


class Ip(Base):
    """A process for each attribute of each VF, as in scripts."""

    title = "ip, a call for each attribute"
    families = ("mlx5",)
    most: int | None = 8

    def _lines(
        self, targets: Sequence[Target], plug: bool
    ) -> Iterator[list[str]]:
        for target in targets:
            guid = target.octets if plug else ONES
            settings = [
                ["node_guid", guid],
                ["port_guid", guid],
                ["state", "auto" if plug else "disable"],
            ]
            for setting in settings if plug else reversed(settings):
                yield [
                    "link", "set", "dev", self.place.netdev(target),
                    "vf", str(target.index), *setting,
                ]  # fmt: skip

    def _set(self, targets: Sequence[Target], plug: bool) -> None:
        for line in self._lines(targets, plug):
            run("ip", *line)

    def plug(self, targets: Sequence[Target]) -> None:
        self._set(targets, plug=True)

    def unplug(self, targets: Sequence[Target]) -> None:
        self._set(targets, plug=False)
        if self.refresh:
            for target in targets:
                rebind(target)

    def list(self) -> None:
        for netdev in self.place.netdevs:
            run("ip", "-d", "link", "show", "dev", netdev)


class IpBatch(Ip):
    """One process for all."""

    title = "ip -batch"
    most = None

    def _set(self, targets: Sequence[Target], plug: bool) -> None:
        lines = (" ".join(line) for line in self._lines(targets, plug))
        run(
            "ip", "-batch", "-",
            input="\n".join(lines) + "\n", text=True, stdin=None,
        )  # fmt: skip
