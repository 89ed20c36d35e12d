# SPDX-License-Identifier: Apache-2.0
"""What is measured, and how often.

A case is one host and one size; its contenders take turns on it, so that
what disturbs one disturbs all. Cases of the same host (family, PFs, VFs)
follow one another, for daemons are started once for each host.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from benchmarks.contenders import AGENTS, MAKERS, NAMES, NOVA

# Seconds, as real cards take: facts from the field in README.md.
COMMAND, PROBE = 0.0002, 0.3

PLUG, REPEAT, UNPLUG, LIST = "plug", "repeat", "unplug", "list"
# Of VFs that the host's own driver has, showing the identity.
REFRESH = "unplug, bound anew"
RTNL = "RTNL"
COUNTS = "system calls"
# Of agents: until Neutron is told that the last of the ports is up, or down,
# of what another's hand has done.
SEEN, GONE = "reported up", "reported down"
REST, MINUTE = "an idle minute", 60.0
# Of makers: from PFs without VFs.
MADE, BOUND = "made, on no driver", "made, on mlx5_core"
LISTED = "ibhostdev list, 2 x 16 VFs: more than python -c pass"
USUAL = (PLUG, REPEAT, UNPLUG, LIST)
EVERYBODY = tuple(name for name in NAMES if name not in NOVA + AGENTS + MAKERS)


@dataclass(frozen=True)
class Case:
    """``asked`` are VIFs of the whole call, spread over the PFs; ``vfs`` are
    present on each PF. ``delays`` are a real card's, or with ``scaled`` longer
    by what emulation makes software slower. No contender takes more than
    ``seconds`` in it, but for its first round, nor more than ``rounds``."""

    family: str
    pfs: int
    vfs: int
    asked: int
    delays: bool = False
    scaled: bool = False
    contenders: tuple[str, ...] = EVERYBODY
    operations: tuple[str, ...] = USUAL
    rounds: int = 20
    seconds: float = 2.5
    series: str = "table"

    @property
    def host(self) -> tuple[str, int, int]:
        return self.family, self.pfs, self.vfs

    @property
    def name(self) -> str:
        delays = "delays" if self.delays else "bare"
        if self.scaled:
            delays = "scaled delays"
        return (
            f"{self.series}: {self.asked} of {self.pfs} x {self.vfs} VFs, "
            f"{self.family}, {delays}"
        )

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Self:
        lists = {k: tuple(v) for k, v in plain.items() if isinstance(v, list)}
        return cls(**(plain | lists))


# In emulation a start of Python takes seconds.
STARTS = ("command", "rootwrap", "rootwrap-daemon", "ip", "ebrctl")
BRISK = tuple(name for name in EVERYBODY if name not in STARTS)
FAST = ("floor", "safe", "bulk", "ip-batch", "pyroute2-best")


def _both(cases: Iterable[Case]) -> list[Case]:
    cases = list(cases)
    return cases + [replace(case, delays=True) for case in cases]


def full() -> dict[str, list[Case]]:
    """Cases by the shape of the machine that has room for them."""
    one = Case("mlx5", 1, 127, 1)
    few = tuple(name for name in EVERYBODY if name != "ebrctl")
    table = _both(
        replace(one, asked=n, contenders=few if n == 64 else BRISK)
        for n in (1, 8, 64, 127)
    )
    # A list is the same for any number that is asked for.
    table = [
        case
        if case.asked in (1, 64)
        else replace(case, operations=(PLUG, REPEAT, UNPLUG))
        for case in table
    ]
    table[0] = replace(table[0], contenders=EVERYBODY)
    scaled = [
        replace(
            one, asked=64, delays=True, scaled=True, rounds=6, seconds=6.0,
            contenders=("floor", "safe", "bulk"),
            operations=(PLUG, REPEAT, UNPLUG),
        )
    ]  # fmt: skip
    table[6] = replace(table[6], contenders=(*BRISK, "command"))
    refresh = [
        replace(
            one, asked=64, delays=True, operations=(REFRESH,), rounds=3,
            contenders=(
                "floor", "safe", "bulk", "command", "ip-batch",
                "pyroute2-best", "ebrctl",
            ),
        )
    ]  # fmt: skip
    rtnl = [
        replace(
            one, asked=127, delays=delays, operations=(RTNL,), rounds=5,
            contenders=(
                "floor", "bulk", "ip", "ip-batch", "pyroute2-usual",
                "pyroute2-best",
            ),
        )
        for delays in (False, True)
    ]  # fmt: skip
    counts = [
        replace(one, asked=n, operations=(COUNTS,), rounds=1, contenders=who)
        for n, who in (
            (1, (*BRISK, "command", "ip")),
            # The others do for each VF what they do for one.
            (64, ("floor", "safe", "write", "bulk", "privsep", "ip-batch")),
        )
    ]
    nova = [
        replace(
            one, asked=n, contenders=("bulk", *NOVA), rounds=10,
            operations=(PLUG, REPEAT, UNPLUG), series="Nova",
        )
        for n in (8, 16)
    ]  # fmt: skip
    neutron = [
        replace(
            one, asked=n, contenders=("agent", "agent-mlnx"), rounds=10,
            seconds=20.0, operations=(SEEN, GONE), series="Neutron",
        )
        for n in (1, 8, 16)
    ]  # fmt: skip
    # Its slowest cases last, should the machine's time not be enough.
    neutron = [
        *(
            replace(case, delays=True, scaled=True, contenders=("agent",))
            for case in neutron
        ),
        replace(
            one, asked=0, contenders=AGENTS, rounds=1, operations=(REST,),
            series="Neutron",
        ),
        *neutron,
    ]  # fmt: skip
    boot = Case(
        "mlx5", 2, 64, 128, delays=True, contenders=MAKERS[:3], rounds=3,
        seconds=120.0, operations=(MADE,), series="made",
    )  # fmt: skip
    bound = replace(boot, operations=(BOUND,), series="bound")
    made = [
        boot,
        replace(boot, scaled=True),
        replace(bound, contenders=MAKERS),
        replace(bound, scaled=True, rounds=1),
    ]
    asked = [
        replace(
            one, asked=n, contenders=FAST, operations=(PLUG, UNPLUG),
            series="asked", seconds=1.2,
        )
        for n in (1, 16, 32, 48, 64, 96, 127)
    ]  # fmt: skip
    present = [
        Case(
            "mlx5", 1, n, 1, contenders=FAST, operations=(PLUG, REPEAT),
            series="present", seconds=1.2,
        )
        for n in (1, 16, 32, 64, 96, 127)
    ]  # fmt: skip
    files = _both(
        Case(
            "mlx5-files", 1, 127, n, rounds=10,
            contenders=BRISK if n == 64 else FAST,
        )
        for n in (8, 64, 127)
    )  # fmt: skip
    mlx4 = _both(
        Case(
            "mlx4", 1, 127, n, rounds=10,
            contenders=BRISK if n == 64 else FAST,
        )
        for n in (8, 64, 127)
    )  # fmt: skip
    # As many VFs as eswitchd can find.
    mlx4.append(Case("mlx4", 1, 64, 8, rounds=5, contenders=(*FAST, "ebrctl")))
    wide = _both([Case("mlx5", 8, 16, 128, contenders=BRISK, rounds=10)])
    pfs = [
        Case(
            "mlx5", 8, 16, 16 * n, contenders=FAST,
            operations=(PLUG, UNPLUG), series="PFs", seconds=1.2,
        )
        for n in (1, 2, 4, 6, 8)
    ]  # fmt: skip
    return {
        "large": [
            *table, *scaled, *refresh, *rtnl, *counts, *nova, *asked,
            *present, *files, *mlx4,
        ],
        "wide": [*wide, *pfs],
        "single": neutron,
        "pair": made,
    }  # fmt: skip


def short() -> dict[str, list[Case]]:
    """So little that it only shows that everything works."""
    one = Case("mlx5", 1, 8, 8, rounds=2, seconds=1.0)
    # Nova takes minutes to start there: once is enough.
    few = tuple(name for name in (*EVERYBODY, "nova") if "ebrctl" not in name)
    ours = ("floor", "safe", "bulk")
    return {
        "small": [
            replace(one, asked=2, rounds=1, contenders=few),
            replace(
                one,
                delays=True,
                operations=(REFRESH,),
                contenders=("floor", "bulk", "ip-batch", "pyroute2-best"),
            ),
            replace(
                one, delays=True, scaled=True, operations=(PLUG,),
                contenders=("safe", "bulk"), rounds=1,
            ),
            replace(one, operations=(RTNL,), contenders=ours),
            replace(one, operations=(COUNTS,), contenders=ours),
            *(
                Case(
                    "mlx5", 1, 8, n, contenders=ours,
                    operations=(PLUG,), rounds=2, series="asked",
                )
                for n in (1, 8)
            ),
            Case("mlx5-files", 1, 8, 8, contenders=ours,
                 rounds=2),
            Case("mlx4", 1, 8, 8, contenders=ours, rounds=2),
            *(
                Case(
                    "mlx5", 2, 2, 4, delays=True, contenders=MAKERS,
                    rounds=1, operations=(operation,), series=series,
                )
                for operation, series in ((MADE, "made"), (BOUND, "bound"))
            ),
        ]
    }  # fmt: skip


def contenders(cases: Sequence[Case]) -> list[str]:
    """All that take part, in the order of the table."""
    used = {name for case in cases for name in case.contenders}
    return [name for name in NAMES if name in used]
