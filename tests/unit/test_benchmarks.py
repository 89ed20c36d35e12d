# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks make of their samples."""

import pytest

from benchmarks import compare, goals, plan
from benchmarks.calls import counted
from benchmarks.plan import Case
from benchmarks.results import Results, duration, line, summary, three


def test_a_summary_is_median_and_quartiles():
    assert summary([5, 1, 2, 4, 3]) == (3, 2, 4, 5)
    # one that was disturbed moves neither
    assert summary([5, 1, 2, 400, 3]) == (3, 2, 5, 5)
    assert summary([3, 1]) == (2, 1, 3, 2)
    with pytest.raises(ValueError, match="no samples"):
        summary([])


def test_a_line_through_points():
    slope, intercept, fit = line([(1, 5), (2, 7), (4, 11)])
    assert (slope, intercept, fit) == pytest.approx((2, 3, 1))
    assert line([(0, 0), (1, 1), (2, 0), (3, 1)]).fit < 0.5
    assert line([(1, 2), (2, 2)]) == (0, 2, 1)
    with pytest.raises(ValueError, match="two points"):
        line([(1, 5), (1, 6)])


def test_figures_for_people():
    seconds = (0.00001234, 0.01234, 1.234, 123.4, 1234, -0.05)
    assert [duration(one) for one in seconds] == [
        "12.3 µs", "12.3 ms", "1.23 s", "123 s", "20.6 min",
        "-50.0 ms",
    ]  # fmt: skip
    assert three(12345.6) == "12,346"


CASES = [
    Case("mlx5", 1, 127, asked, delays=delays)
    for asked in (1, 8, 64)
    for delays in (False, True)
]


def results(**milliseconds):
    """A plug of each contender, in three rounds of each case."""
    return Results(
        cases=[case.plain() for case in CASES],
        samples=[
            {
                "kind": "sample", "case": case.name, "contender": name,
                "operation": plan.PLUG, "seconds": (median + off) / 1000,
                "measured": case.asked,
                "counts": {"modify": 3 * case.asked, "query": 0},
            }
            for case in CASES
            for name, median in milliseconds.items()
            for off in (0, -0.01, 0.01)
        ],
    )  # fmt: skip


def test_results_come_back_from_their_file(tmp_path):
    made = results(floor=1, bulk=2)
    made.machine = {"kernel": "6.1"}
    made.write(tmp_path / "results.json")
    read = Results.read(tmp_path / "results.json")
    assert (read.machine, read.samples) == (made.machine, made.samples)
    assert [Case.of(one) for one in read.cases] == CASES


def test_a_ratio_is_of_one_run():
    made = results(floor=2, bulk=3)
    ratio = made.ratio(CASES[0].name, plan.PLUG, "bulk", "floor")
    assert ratio == pytest.approx(1.5)
    assert made.ratio(CASES[0].name, plan.PLUG, "bulk", "ip") is None


def test_a_part_takes_the_place_of_what_there_was_of_it():
    whole, part = results(floor=1, bulk=2), results(floor=3)
    whole.machine = {"kernel": "6.1"}
    whole.samples.append({"kind": "memory"})
    part.cases = part.cases[:1]
    name = Case.of(part.cases[0]).name
    part.samples = [one for one in part.samples if one["case"] == name]
    part.machine = {"kernel": "6.12"}
    whole.put("large", part)
    assert len(whole.cases) == len(CASES)
    assert whole.summary(name, "floor", plan.PLUG).median == 0.003
    assert whole.summary(name, "bulk", plan.PLUG) is None
    other = CASES[1].name
    assert whole.summary(other, "bulk", plan.PLUG).median == 0.002
    assert whole.of("memory")
    assert whole.machine["kernel"] == "6.1"
    assert whole.machine["by itself: large"] == {"kernel": "6.12"}


AGENT_CASES = [
    Case(
        "mlx5", 1, 127, asked, delays=scaled, scaled=scaled,
        operations=(plan.SEEN, plan.GONE), series="Neutron",
    )
    for asked in (1, 16)
    for scaled in (False, True)
]  # fmt: skip
AGENT_CASES.append(
    Case("mlx5", 1, 127, 0, operations=(plan.REST,), series="Neutron")
)


def agents(seconds, getlinks=1, resting=6):
    """Ours and networking-mlnx's, which takes 20 s for each port."""
    made = Results(cases=[case.plain() for case in AGENT_CASES])
    for case in AGENT_CASES:
        for name, took, asked in (
            ("agent", seconds, getlinks),
            ("agent-marks", seconds, 0),
            ("agent-mlnx", 20 * case.asked, 127),
        ):
            for operation in case.operations:
                idle = operation == plan.REST
                made.samples.append(
                    {
                        "kind": "sample", "case": case.name,
                        "contender": name, "operation": operation,
                        "seconds": took, "measured": case.asked,
                        "counts": {
                            "modify": 0, "query": 0, "getlink": resting
                            if idle and name == "agent" else asked,
                        },
                        "factor": 10.0,
                    }
                )  # fmt: skip
    return made


def agent_goals(*args, **kwargs):
    made = agents(*args, **kwargs)
    return [
        goal.met
        for goal in goals.all_of(made)
        if "Neutron" in goal.goal
        or "networking-mlnx" in goal.goal
        or "GETLINK" in goal.goal
    ]


def test_agents_are_judged_on_the_clock_of_a_real_host():
    assert agent_goals(0.9) == [True, True, True, True, True]
    assert agent_goals(1.1) == [False, True, True, True, True]
    # 16 ports in 320 s
    assert agent_goals(3.3) == [False, False, True, True, True]
    assert agent_goals(0.9, getlinks=2) == [True, True, False, True, True]
    assert agent_goals(0.9, resting=8) == [True, True, True, False, True]


MADE_CASES = [
    Case(
        "mlx5", 2, 64, 128, delays=True, scaled=scaled,
        operations=(operation,), series=series,
    )
    for series, operation in (("made", plan.MADE), ("bound", plan.BOUND))
    for scaled in (False, True)
]  # fmt: skip


def made_goals(ours, vendor=600, probes=128):
    """Seconds; sriov_numvfs alone takes 10."""
    made = Results(cases=[case.plain() for case in MADE_CASES])
    for case in MADE_CASES:
        for name, took in (
            ("make-numvfs", 10), ("make-command", ours),
            ("make-vendor", vendor),
        ):  # fmt: skip
            made.samples.append(
                {
                    "kind": "sample", "case": case.name, "contender": name,
                    "operation": case.operations[0], "seconds": took,
                    "measured": case.asked, "counts": {"probe": probes},
                }
            )  # fmt: skip
    return [
        goal.met
        for goal in goals.all_of(made)
        if "apply" in goal.goal
        or "twice" in goal.goal
        or "restore" in goal.goal
    ]


def test_who_makes_vfs_is_judged():
    assert made_goals(10.9) == [True, True, True]
    assert made_goals(11.1) == [False, True, True]
    assert made_goals(10.9, vendor=540) == [True, True, False]
    assert made_goals(10.9, probes=129) == [True, False, True]


def judged(**milliseconds):
    return {
        goal.goal: goal.met for goal in goals.all_of(results(**milliseconds))
    }


def test_goals_are_judged():
    bulk = "bulk plug, bare, to the floor with the same questions ≤ 1.2"
    single = "a single plug to it ≤ 1.5"
    batch = "plug of 64 VFs ahead of `ip -batch` ≥ 40"
    names = {"safe": 10, "bulk": 11.9, "ip-batch": 477}
    found = judged(**names)
    assert (found[bulk], found[single], found[batch]) == (True, True, True)
    found = judged(**names | {"bulk": 13})
    assert (found[bulk], found[single], found[batch]) == (False, True, False)
    found = judged(**names | {"bulk": 16})
    assert found[single] is False
    # The floor that asks nothing is no measure.
    assert judged(floor=1, bulk=1)[bulk] is None


def test_what_stands_between_is_told_once_of_the_sizes_that_are_judged():
    made = results(safe=10, bulk=16)
    # System calls are counted in a case of the same name.
    made.cases += [
        Case("mlx5", 1, 127, asked, operations=(plan.COUNTS,)).plain()
        for asked in (1, 64)
    ]
    made.samples += [
        {
            "kind": "counts", "case": CASES[4].name, "contender": name,
            "operation": plan.PLUG, "counts": {"system calls": calls},
        }
        for name, calls in (("bulk", 176), ("safe", 171))
    ]  # fmt: skip
    bulk, single, *_ = goals.all_of(made)
    assert bulk.between == (
        "8 VFs: 6.00 ms more; 64 VFs: 6.00 ms more (176 system calls to 171)"
    )
    assert single.between == "1 VF: 6.00 ms more"


def test_goals_that_nothing_was_measured_for_are_open():
    found = goals.all_of(Results())
    assert len(found) >= 10
    assert {goal.met for goal in found} == {None}


def test_a_comparison_tells_what_changed():
    before = results(floor=1, bulk=2, ip=9)
    assert compare.text(before, before).startswith("nothing differs")
    # within a tenth
    after = results(floor=1, bulk=2.1, ip=9)
    assert compare.text(before, after).startswith("nothing differs")
    after = results(floor=1, bulk=4)
    told = compare.text(before, after).splitlines()
    assert len([one for one in told if "2.00 ms -> 4.00 ms" in one]) == 6
    assert len([one for one in told if "no longer there" in one]) == 6
    assert "of the floor: 2.00 -> 4.00" in told[0]


def test_a_comparison_tells_counts_of_both_kinds():
    before, after = results(bulk=2), results(bulk=2)
    for made, calls in ((before, 30), (after, 31)):
        made.samples.append(
            {
                "kind": "counts", "case": CASES[0].name, "contender": "bulk",
                "operation": plan.PLUG, "counts": {"system calls": calls},
            }
        )  # fmt: skip
    after.samples[0]["counts"] = after.samples[1]["counts"] = after.samples[2][
        "counts"
    ] = {"modify": 4, "query": 0}
    told = compare.text(before, after)
    assert "system calls 30 -> 31" in told
    assert "modify 3 -> 4" in told


def test_system_calls_are_counted_between_the_marks():
    assert counted(
        """\
12 openat(3, "before", O_RDONLY) = 4
12 newfstatat(AT_FDCWD, "/ibhostdev-bench-begin", 0x7ff, 0) = -1 ENOENT
12 sendto(5, [{nlmsg_len=40, nlmsg_type=0x13}, {nlmsg_len=84}], 124) = 124
12 clone(child_stack=NULL <unfinished ...>
13 execve("/sbin/ip", ["ip"], 0x55) = 0
12 <... clone resumed>) = 13
13 execve("/nowhere/ip", ["ip"], 0x55) = -1 ENOENT (No such file)
14 execve("/sbin/ip", ["ip"], 0x55 <unfinished ...>
12 <... vfork resumed>) = 14
14 <... execve resumed>) = 0
12 --- SIGCHLD {si_signo=SIGCHLD} ---
13 +++ exited with 0 +++
12 newfstatat(AT_FDCWD, "/ibhostdev-bench-end", 0x7ff, 0) = -1 ENOENT
12 close(4) = 0
"""
    ) == {"system calls": 5, "netlink messages": 2, "processes": 2}


@pytest.mark.parametrize("form", [plan.full, plan.short])
def test_a_plan_names_whom_there_is(form):
    cases = [case for part in form().values() for case in part]
    for case in cases:
        assert Case.of(case.plain()) == case
        assert case.asked <= case.pfs * case.vfs
    assert set(plan.contenders(cases)) >= {"floor", "bulk", "rootwrap", "nova"}
