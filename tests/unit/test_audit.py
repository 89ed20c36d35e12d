# SPDX-License-Identifier: Apache-2.0
"""An audit of virtual ports, which no simulated fabric has.

What infiniband-diags would say of them is written here, in the form in which
it says it of other ports; ./dev fabric-test has the real thing for those.
"""

import pytest

from ibhostdev import Guid, PciAddress, PKey
from ibhostdev.errors import CommandFailed, TimedOut
from ibhostdev.fabric.audit import Diags, Verdict, audit
from ibhostdev.fabric.members import Member
from ibhostdev.inventory import Family

PF = Guid(0xB8599F0300000001)
OTHER = Guid(0xB8599F0300000002)
VF = Guid(0xFA163E0000000001)


def member(pkey="0x8001", family=Family.MLX5):
    return Member(
        *("node1", PciAddress("0000:3b:00.0"), PF, 0),
        *(PciAddress("0000:3b:00.1"), VF),
        None if pkey is None else PKey.parse(pkey),
        family,
    )


def diags(port=PF, state="Active", path=True, asked=None):
    def ask(name, *arguments):
        if asked is not None:
            asked.append((name, *arguments))
        if name == "sminfo":
            return "sminfo: sm lid 1"
        if arguments[1] == "pkeys":
            return "   0: 0xffff 0x8001 0x0002 0x0000\n"
        if name == "saquery":
            return f"\t\tdgid....{arguments[2]}\n" if path else ""
        if arguments[1] == "nodeinfo":
            if port is None:
                return None
            return f"# Node info: Lid 3\nPortGuid:........0x{port:016x}\n"
        assert arguments[1] == "portinfo"
        return (
            f"GidPrefix:.......0xfe80000000000001\nLinkState:.......{state}\n"
        )

    return ask


def verdict(ask, pkey="0x8001"):
    (finding,) = audit([member(pkey)], ask)
    return finding.verdict


def test_one_that_is_well_is_behind_its_own_pf():
    asked = []
    assert verdict(diags(asked=asked)) is Verdict.WELL
    gid = "fe80:0000:0000:0001:fa16:3e00:0000:0001"
    assert asked[-1] == (
        *("saquery", "-p", "--sgid", gid, "--dgid", gid, "--pkey", "0x8001"),
    )


def test_one_that_is_behind_another_port_is_on_another_host():
    (finding,) = audit([member()], diags(OTHER))
    assert finding.verdict is Verdict.ELSEWHERE
    assert str(OTHER) in finding.detail


def test_one_without_a_path_is_not_in_its_partition():
    assert verdict(diags(path=False)) is Verdict.ASTRAY
    # Two limited members never have one, and nobody said of the other.
    assert verdict(diags(path=False), "1:limited") is Verdict.WELL
    assert verdict(diags(path=False), None) is Verdict.WELL


@pytest.mark.parametrize(
    ("pkey", "wanted"),
    [
        ("0x8001", Verdict.WELL),
        ("1:both", Verdict.WELL),
        ("2:limited", Verdict.WELL),
        ("1:limited", Verdict.ASTRAY),
        ("2:full", Verdict.ASTRAY),
        (None, Verdict.WELL),
    ],
)
def test_one_of_connectx_3_is_an_alias_of_its_pf_s_port(pkey, wanted):
    """Whose table has it, at whichever place."""
    (finding,) = audit([member(pkey, Family.MLX4)], diags())
    assert finding.verdict is wanted
    assert finding.pkeys == (0xFFFF, 0x8001, 0x0002)
    assert "PF's port" in finding.detail


def test_one_that_is_not_seen_or_not_active():
    assert verdict(diags(None)) is Verdict.UNSEEN
    assert verdict(diags(state="Down")) is Verdict.INACTIVE


def test_nobody_is_asked_about_nobody():
    def ask(*_):
        raise AssertionError("asked")

    assert audit([], ask) == []


def test_what_is_not_installed(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("ibhostdev.fabric.audit._PATH", "/nowhere")
    with pytest.raises(CommandFailed, match="not installed"):
        Diags()("smpquery")


def test_what_hangs_is_ended(monkeypatch, tmp_path):
    program = tmp_path / "smpquery"
    program.write_text("#!/bin/sh\nsleep 600\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(TimedOut):
        Diags(seconds=0.2)("smpquery")


def test_the_device_is_named_to_it(monkeypatch, tmp_path):
    program = tmp_path / "smpquery"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert Diags("mlx5_1")("smpquery", "-G") == "-C mlx5_1 -G\n"
