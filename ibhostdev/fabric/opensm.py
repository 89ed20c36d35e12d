# SPDX-License-Identifier: Apache-2.0
"""opensm's file of partitions (opensm(8), PARTITION CONFIGURATION)."""

import fcntl
import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from ibhostdev.errors import (
    AccessDenied,
    CommandFailed,
    InvalidInput,
    NotRunning,
    TimedOut,
)
from ibhostdev.fabric import files
from ibhostdev.fabric.members import Member, ports

BEGIN = "# BEGIN ibhostdev: what stands here is replaced"
END = "# END ibhostdev"
# opensm reads lines into 4096 characters (osm_prtn_config.c), and takes what
# does not fit for the next line.
_LINE = 4094
GUIDS_A_LINE = 128
_LIMIT = 1 << 26
_PATIENCE = 30.0
_PAUSE = 0.01
_MEND = "mend the line; opensm would not read what is behind it"


def block(members: Iterable[Member]) -> str:
    """The partitions of all that have one, between two markers; the same
    for the same members, in whichever order they come."""
    lines = [BEGIN]
    for number, there in ports(members).items():
        for flags, index0 in (("indx0, ipoib", True), ("ipoib", False)):
            words = [
                f"0x{guid:016x}={due.membership}"
                for guid, due in there.items()
                if due.index0 is index0
            ]
            # A partition may be defined in several pieces, each a line's.
            for at in range(0, len(words), GUIDS_A_LINE):
                lines.append(
                    f"ibhostdev-0x{number:04x}=0x{number:04x}, {flags} : "
                    + ", ".join(words[at : at + GUIDS_A_LINE])
                    + " ;"
                )
    lines.append(END)
    return "".join(f"{line}\n" for line in lines)


def with_block(text: str, ours: str, name: str) -> str:
    """The file's text with our block in the place of the last one, or behind
    all else.

    :raises InvalidInput: if somebody has touched the markers, or if opensm
        could not read the file to its end, before or after it
    """
    lines = text.splitlines(keepends=True)
    begins, ends = (
        [n for n, line in enumerate(lines) if line.strip() == marker]
        for marker in (BEGIN, END)
    )
    if (len(begins), len(ends)) not in ((0, 0), (1, 1)) or begins > ends:
        raise InvalidInput(
            "the markers are not there once each, in this order",
            name,
            "file",
            cure=f"remove all between {BEGIN!r} and {END!r}, and these",
        )
    if begins:
        before = "".join(lines[: begins[0]])
        behind = "".join(lines[ends[0] + 1 :])
    else:
        before, behind = text, ""
    if before and not before.endswith("\n"):
        before += "\n"
    _require_readable(before, name)
    done = before + ours + behind
    _require_readable(done, name)
    return done


def _require_readable(text: str, name: str) -> None:
    """That opensm reads it to its end, as osm_prtn_config.c does: a
    definition that it stumbles over has no end for it, and what comes behind
    is taken for ports of that."""
    header = True  # due next
    line = 0
    for line, whole in enumerate(text.split("\n"), 1):
        where = f"{name}, line {line}"
        if len(whole.encode(errors="surrogateescape")) > _LINE:
            raise InvalidInput(
                f"has more than {_LINE} characters",
                where,
                "file",
                cure="break it: a partition may be defined in several lines",
            )
        *pieces, rest = whole.partition("#")[0].split(";")
        for piece in pieces:
            _require_piece(piece, header, where)
            header = True
        if rest.strip():
            _require_piece(rest, header, where)
            header = False
    if not header:
        raise InvalidInput(
            "the last definition has no ; at its end",
            f"{name}, line {line}",
            "file",
            cure=_MEND,
        )


def _require_piece(piece: str, header: bool, where: str) -> None:
    ports = piece
    if header:
        if not piece.strip():
            return
        head, colon, ports = piece.partition(":")
        if not colon:
            raise _unreadable("is no definition of a partition: no :", where)
        name, _, number = head.partition(",")[0].partition("=")
        number = number or (name if name.strip()[:1].isdigit() else "")
        if number and _number(number) is None:
            raise _unreadable(f"{number.strip()!r} is no P_Key", where)
    if ports.strip().startswith("mgid"):
        return
    for word in ports.split(","):
        port = word.partition("=")[0].strip()
        if not port or _number(port):
            continue
        if not any(
            one.startswith(port)
            for one in (
                *("ALL_CAS", "ALL_SWITCHES", "ALL_ROUTERS", "SELF", "NONE"),
            )
        ):
            raise _unreadable(f"{port!r} is no port's GUID", where)


def _number(text: str) -> int | None:
    """As strtoull() reads it."""
    text = text.strip()
    octal = len(text) > 1 and text[0] == "0" and text[1:].isdigit()
    try:
        return int(text, 8 if octal else 0)
    except ValueError:
        return None


def _unreadable(what: str, where: str) -> InvalidInput:
    return InvalidInput(what, where, "file", cure=_MEND)


# -- telling it -----------------------------------------------------------


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Nobody else changes the file meanwhile, if he does it by this. Who is
    to be in it is to be found out meanwhile, too: else he who looked first
    could write last.

    :raises TimedOut: if somebody is at it for too long
    :raises AccessDenied, CommandFailed: if the folder cannot be opened
    """
    folder = os.path.dirname(os.path.realpath(name))
    try:
        # The folder's, for the file is another one each time.
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise files.failed(error, "cannot be opened", folder) from error
    try:
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise TimedOut(
                        f"somebody else has been at it for {_PATIENCE:g} s",
                        name,
                        "lock",
                        cure="look for another ibhostdev that hangs",
                    ) from None
                time.sleep(_PAUSE)
        yield
    finally:
        os.close(lock)


def apply(
    name: str,
    members: Sequence[Member],
    pid_file: str | None = None,
    tell: bool = False,
    dry_run: bool = False,
) -> bool:
    """Have the file say who is in which partition, and opensm read it; gives
    whether the file had to be changed. An opensm that nothing changed for is
    left alone, unless it is to be told in any case: each time costs it a
    sweep of its fabric.

    :raises InvalidInput: if there is no such file, or opensm could not read
        it; it was not touched
    :raises AccessDenied, CommandFailed: if it cannot be written, or opensm
        not be told
    :raises NotRunning: if no opensm runs; the file is as it is to be, and is
        read when it starts
    """
    try:
        with open(name, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read(_LIMIT)
    except FileNotFoundError:
        raise InvalidInput(
            "is not there",
            name,
            "file",
            cure="make it first, with a line for the default partition: "
            "'Default=0x7fff, ipoib : ALL=limited, SELF=full ;' keeps "
            "tenants apart, with ALL=full in it all can talk to all",
        ) from None
    except OSError as error:
        raise files.failed(error, "cannot be read", name) from error
    wanted = with_block(text, block(members), name)
    changed = wanted != text
    if dry_run:
        return changed
    pids = list(_running(pid_file))
    for pid in pids:
        _tell(pid, 0)
    if changed:
        # Root's folder, in which a link is root's, too.
        real = os.path.realpath(name)
        files.replace(real, wanted, "opensm's partitions are root's to say")
    if not pids:
        raise NotRunning(
            "the file is as it is to be, but no opensm runs to read it",
            pid_file or "opensm",
            cure="start it; it reads the file then",
        )
    if changed or tell:
        for pid in pids:
            _tell(pid, signal.SIGHUP)
    return changed


def _running(pid_file: str | None) -> Iterator[int]:
    """Process ids, of opensm only: another process may have got a number that
    is in a file still."""
    if pid_file is not None:
        try:
            with open(pid_file, encoding="ascii") as file:
                pids = [int(file.read(32))]
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise InvalidInput(
                "has no process id",
                pid_file,
                "--pid-file",
                getattr(error, "errno", None),
            ) from None
    else:
        pids = [int(pid) for pid in os.listdir("/proc") if pid.isdigit()]
    for pid in sorted(pids):
        with suppress(OSError), open(f"/proc/{pid}/comm", "rb") as file:
            if file.read().strip() == b"opensm":
                yield pid


def _tell(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except OSError as error:
        denied = isinstance(error, PermissionError)
        raise (AccessDenied if denied else CommandFailed)(
            "cannot be told to read its partitions",
            f"opensm, process {pid}",
            "SIGHUP",
            error.errno,
            "do it as the user that opensm runs as",
        ) from error
