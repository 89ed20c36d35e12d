# SPDX-License-Identifier: Apache-2.0
"""What the subnet manager says of the GUIDs of a host, beside what is plugged.

infiniband-diags asks: smpquery a port, which answers for itself, and saquery
the subnet manager. A VF of mlx5 is a virtual port: at its address the port of
its PF answers, so that is where it is; and of its partitions only the subnet
manager can tell. The GUID of one of mlx4 is an alias of its PF's port, too,
in whose table its P_Key has to be, at any place.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

from ibhostdev.errors import CommandFailed, TimedOut
from ibhostdev.fabric.members import Member
from ibhostdev.guid import Guid
from ibhostdev.inventory import Family
from ibhostdev.pkey import Membership
from ibhostdev.process.parallel import each

_SECONDS = 20.0
_AT_ONCE = 8
_PACKAGE = "install infiniband-diags"
_PATH = "/usr/sbin:/sbin:/usr/local/sbin"


class Verdict(StrEnum):
    WELL = "well"
    UNSEEN = "not seen"
    INACTIVE = "not active"
    ASTRAY = "not in its partition"
    ELSEWHERE = "on another host"


class Finding(NamedTuple):
    """What is said of a member; ``detail`` is more of it, for people.
    ``pkeys`` is the table of its port, None where it cannot be asked for."""

    member: Member
    verdict: Verdict
    detail: str = ""
    pkeys: tuple[int, ...] | None = None


Ask = Callable[..., str | None]
"""Runs a program of infiniband-diags: what it said, or None if it knows of no
such port; raises what Diags does."""


class Diags:
    """infiniband-diags, on the adapter and port of that name; without one
    on the first that is active."""

    def __init__(
        self, ca: str | None = None, seconds: float = _SECONDS
    ) -> None:
        self._device = [] if ca is None else ["-C", ca]
        self._seconds = seconds

    def __call__(self, name: str, *arguments: str) -> str | None:
        """
        :raises CommandFailed: if it is not there, or has no way to the fabric
        :raises TimedOut: if it takes too long; it is ended then
        """
        path = os.pathsep.join([os.environ.get("PATH", ""), _PATH])
        program = shutil.which(name, path=path)
        if program is None:
            raise CommandFailed("is not installed", name, cure=_PACKAGE)
        process = subprocess.Popen(
            [program, *self._device, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=self._seconds)
        except subprocess.TimeoutExpired:
            raise TimedOut(
                f"took more than {self._seconds:g} s",
                " ".join([name, *arguments]),
                cure="see whether a subnet manager answers: sminfo",
            ) from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        # Both are used for errors.
        said = " ".join((err + out).split())
        if process.returncode and "open" in said:
            raise CommandFailed(
                f"has no way to the fabric ({said})",
                name,
                cure="it needs a /dev/infiniband/umad device (module "
                "ib_umad), the right to open it, and an active port",
            )
        return None if process.returncode else out


def audit(
    members: Sequence[Member], ask: Ask, at_once: int = _AT_ONCE
) -> list[Finding]:
    """A finding for each member, in their order.

    :raises CommandFailed, TimedOut: if the fabric cannot be asked
    """
    # Else each of them would be found not to be seen.
    if members and ask("sminfo") is None:
        raise CommandFailed(
            "does not answer",
            "subnet manager",
            cure="see whether one runs: sminfo",
        )
    return each(members, lambda one: _look(one, ask), at_once)


def _look(member: Member, ask: Ask) -> Finding:
    name = f"0x{member.guid:016x}"
    told = ask("smpquery", "-G", "nodeinfo", name)
    if told is None:
        return Finding(
            member, Verdict.UNSEEN, "the subnet manager knows no such port"
        )
    answers = Guid(_number(told, "PortGuid"))
    own = answers == member.guid
    if not own and answers != member.pf_guid:
        return Finding(
            member, Verdict.ELSEWHERE, f"it is behind port {answers}"
        )
    port = ask("smpquery", "-G", "portinfo", name) or ""
    state = _field(port, "LinkState")
    if state != "Active":
        return Finding(member, Verdict.INACTIVE, f"its port is {state}")
    if not own and member.family is not Family.MLX4:
        return _path(member, port, ask)
    pkeys = _table(ask("smpquery", "-G", "pkeys", name) or "")
    if own:
        return _partition(member, pkeys)
    return _alias(member, pkeys)


def _alias(member: Member, pkeys: tuple[int, ...]) -> Finding:
    pkey = member.pkey
    # It has the full one, if it is to be both.
    if pkey is not None and pkey.values[0] not in pkeys:
        return Finding(
            member, Verdict.ASTRAY, f"its PF's port has {_words(pkeys)}", pkeys
        )
    return Finding(member, Verdict.WELL, "an alias of its PF's port", pkeys)


def _partition(member: Member, pkeys: tuple[int, ...]) -> Finding:
    pkey = member.pkey
    if pkey is not None:
        values = set(pkey.values)
        if not values <= set(pkeys):
            return Finding(
                member, Verdict.ASTRAY, f"its port has {_words(pkeys)}", pkeys
            )
        if pkeys[0] not in values:
            return Finding(
                member,
                Verdict.ASTRAY,
                f"its port has 0x{pkeys[0]:04x} at index 0",
                pkeys,
            )
    return Finding(member, Verdict.WELL, "", pkeys)


def _words(pkeys: tuple[int, ...]) -> str:
    return ", ".join(f"0x{one:04x}" for one in pkeys) or "none"


def _path(member: Member, port: str, ask: Ask) -> Finding:
    """Of a virtual port: the subnet manager is asked for a path to itself in
    the partition. Limited members have none, by definition."""
    pkey = member.pkey
    if pkey is None or pkey.membership is Membership.LIMITED:
        return Finding(member, Verdict.WELL, "a virtual port")
    prefix = f"{_number(port, 'GidPrefix'):016x}"
    digits = f"{prefix}{member.guid:016x}"
    gid = ":".join(digits[at : at + 4] for at in range(0, 32, 4))
    told = ask(
        *("saquery", "-p", "--sgid", gid, "--dgid", gid),
        *("--pkey", f"0x{pkey.values[0]:04x}"),
    )
    if "dgid" not in (told or ""):
        return Finding(
            member,
            Verdict.ASTRAY,
            "the subnet manager has no path for it in its partition",
        )
    return Finding(member, Verdict.WELL, "a virtual port")


def _field(text: str, name: str) -> str:
    """As infiniband-diags prints them: a name, dots, a value."""
    found = re.search(rf"^{name}:\.*(.*)$", text, re.MULTILINE)
    return "not told" if found is None else found[1].strip()


def _number(text: str, name: str) -> int:
    try:
        return int(_field(text, name), 0)
    except ValueError:
        raise CommandFailed(
            f"did not tell a {name}", "smpquery", cure=_PACKAGE
        ) from None


def _table(text: str) -> tuple[int, ...]:
    """Eight entries a line behind the index of the first, without the empty
    ones at the end."""
    entries: list[int] = []
    for line in text.splitlines():
        index, colon, rest = line.partition(":")
        if colon and index.strip().isdigit():
            entries += [int(word, 16) for word in rest.split()]
    while entries and not entries[-1]:
        entries.pop()
    return tuple(entries)
