# SPDX-License-Identifier: Apache-2.0
"""The vendor's ``ebrctl``, which asks its daemon eswitchd.

For hosts that have nothing else. A call is a process, a message and, in the
daemon, a look at every VF; it reports success for VFs that the daemon does
not know and leaves the policy of a plugged VF to the Neutron agent
(networking-mlnx 21.0.0, eswitchd/cli/ebrctl.py and eswitch_handler.py).
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from ibhostdev.errors import (
    AccessDenied,
    CommandFailed,
    IbHostdevError,
    InvalidInput,
    NoMechanism,
    NotRunning,
    TimedOut,
)
from ibhostdev.guid import Guid
from ibhostdev.process.parallel import each

T = TypeVar("T")

# What the stand-in that this package ships answers to --version.
_MARK = b"ibhostdev's stand-in for ebrctl"
# Neither eswitchd nor its client can be told to use another (networking-mlnx
# 21.0.0, eswitchd/common/constants.py).
_DAEMON = ("127.0.0.1", 60001)
# The daemon does not look at it; Nova gives the instance's id.
_DEVICE_ID = "ibhostdev"
# What it is called where there is one only.
_NETWORK = "default"
_DAEMON_CURE = "start it ('systemctl start eswitchd'), and see its log"


class Answer(NamedTuple):
    """What a call of ebrctl ended with."""

    code: int
    output: str
    errors: str


class Command:
    """The program in PATH, run by this process.

    ``seconds`` bounds a call: the program itself waits 50 s for a daemon
    that does not answer.
    """

    def __init__(self, seconds: float = 30.0) -> None:
        self.seconds = seconds

    def missing(self) -> str | None:
        """Why there is nothing to run; None if there is."""
        return None if _vendors() else "there is no ebrctl in PATH"

    def __call__(self, arguments: Sequence[str]) -> Answer:
        """Run it, to its end.

        :raises NoMechanism: if there is no such program
        :raises NotRunning: if no daemon listens
        :raises TimedOut: if it takes too long; it is killed then
        :raises AccessDenied: if it may not be run
        """
        # Here, for hosts that never need it start sooner.
        import signal
        import subprocess

        program = _vendors()
        if program is None:
            raise missing_program()
        require_daemon()
        try:
            process = subprocess.Popen(
                [program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                # A process group of its own, to be ended as a whole.
                start_new_session=True,
            )
        except OSError as error:
            raise AccessDenied(
                "cannot be run",
                program,
                arguments[0],
                error.errno,
                "check the program's permissions and its first line",
            ) from error
        try:
            output, errors = process.communicate(timeout=self.seconds)
        except subprocess.TimeoutExpired:
            raise timed_out(arguments, self.seconds) from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        return Answer(process.returncode, output, errors)


Run = Callable[[Sequence[str]], Answer]
"""Runs ebrctl with these arguments; raises what Command does."""


class Call(NamedTuple):
    """Of a VF that is to be written: the GUID it is to get, that of whom it
    belongs to now as far as that is known, and the physical network as who
    asks calls it. An idle GUID takes the owner's away. After ``until``, by
    time.monotonic(), it is not begun any more."""

    pci: str
    guid: Guid
    owner: Guid | None
    network: str | None
    until: float


Asked = tuple[str, Guid, Guid | None, str | None, float]
"""A Call, as the engine gives it."""


class Ebrctl:
    """The mechanism whose functions the engine calls for PFs that nothing
    else serves.

    ``at_once`` is how many calls may be under way at a time: the daemon
    serves one after the other, but their start overlaps.
    """

    def __init__(self, run: Run, at_once: int) -> None:
        self._run = run
        self._at_once = at_once

    def obstacle(self) -> str | None:
        """Why it cannot serve; None if it can."""
        if isinstance(self._run, Command):
            return self._run.missing()
        return None

    def check(self, guid: Guid) -> None:
        """
        :raises InvalidInput: for a GUID that it cannot set
        """
        _mac(guid)

    def write(self, calls: Sequence[Asked]) -> list[IbHostdevError | bool]:
        """Give each VF its GUID. False of one that was not begun, since its
        time is over."""
        return self._each(calls, self._write)

    def forget(self, calls: Sequence[Asked]) -> list[IbHostdevError | bool]:
        """Take each owner away, whichever VF has it, and tell whether one
        had."""
        return self._each(calls, self._forget)

    def _each(
        self, calls: Sequence[Asked], work: Callable[[Call], T]
    ) -> list[IbHostdevError | T]:
        def one(asked: Asked) -> IbHostdevError | T:
            try:
                return work(Call(*asked))
            except IbHostdevError as error:
                return error

        return each(calls, one, self._at_once)

    def _write(self, call: Call) -> bool:
        if time.monotonic() > call.until:
            return False
        if call.guid.is_idle:
            if call.owner is None:
                return True
            network = call.network or _NETWORK
            if not self._delete(call.owner, network):
                raise CommandFailed(
                    f"eswitchd does not find {_mac(call.owner)} on physical "
                    f"network {network!r}",
                    attribute="ebrctl del-port",
                    cure="its fabrics must have the PF, it must have been "
                    "started after the VFs were enabled, and it does not see "
                    "VFs that have a network device on this host",
                )
            return True
        answer = self._run(
            [
                "add-port",
                _mac(call.guid),
                _DEVICE_ID,
                call.network or _NETWORK,
                "ib_hostdev",
                call.pci,
            ]
        )
        if answer.code:
            raise refused("add-port", answer)
        return True

    def _forget(self, call: Call) -> bool:
        if call.network is None:
            raise InvalidInput(
                f"which physical network GUID {call.owner} is on was not told",
                attribute="physical_network",
                cure="name it: eswitchd looks for GUIDs by network",
            )
        return call.owner is not None and self._delete(
            call.owner, call.network
        )

    def _delete(self, guid: Guid, network: str) -> bool:
        """False if the daemon finds it on no VF, or on none that it sees.

        :raises IbHostdevError: if the daemon cannot be asked, or fails
        """
        answer = self._run(["del-port", network, _mac(guid)])
        if not answer.code:
            return True
        # It says both when it has waited for the daemon in vain.
        if "no result received" in answer.output:
            raise refused("del-port", answer)
        # All that it says when it finds nobody; of a failure it says the
        # same, but then the VF keeps the GUID and verifying it tells.
        if "Failed to deallocate" in answer.errors:
            return False
        raise refused("del-port", answer)


# -- what a call may end with ---------------------------------------------


def missing_program() -> NoMechanism:
    return NoMechanism(
        "there is no such program in PATH",
        "ebrctl",
        cure="install networking-mlnx where PATH has it; the stand-in that "
        "ibhostdev ships does not count",
    )


def require_daemon() -> None:
    """Have a dead daemon told at once: ebrctl waits 50 s for it, and then
    says only that it failed.

    :raises NotRunning: if nobody listens
    """
    import socket

    try:
        with socket.create_connection(_DAEMON, timeout=5):
            pass
    except ConnectionRefusedError as error:
        raise NotRunning(
            f"is not running: nobody listens on {_DAEMON[0]}:{_DAEMON[1]}",
            "eswitchd",
            errno=error.errno,
            cure=_DAEMON_CURE,
        ) from error
    except OSError:
        # A queue that is full says that the daemon is busy; the call itself
        # will tell, within its own limit.
        pass


def timed_out(arguments: Sequence[str], seconds: float) -> TimedOut:
    return TimedOut(
        f"did not end within {seconds:g} s",
        attribute=f"ebrctl {arguments[0]}",
        cure="eswitchd hangs or is busy with others: see its log and the "
        "kernel's",
    )


def refused(action: str, answer: Answer) -> IbHostdevError:
    """A call that failed, by what it said."""
    said = " ".join(f"{answer.errors} {answer.output}".split())
    # What its client prints when its own 50 s are over.
    if "no result received" in answer.output:
        return NotRunning(
            "did not answer",
            "eswitchd",
            f"ebrctl {action}",
            cure=_DAEMON_CURE,
        )
    return CommandFailed(
        f"refused, exit code {answer.code}: {said[-300:] or 'no word why'}",
        attribute=f"ebrctl {action}",
        cure="eswitchd's log has the reason; its fabrics must have the PF",
    )


def _mac(guid: Guid) -> str:
    if guid.mac is None:
        raise InvalidInput(
            f"GUID {guid} is not made from a MAC address, and ebrctl takes "
            "nothing else",
            attribute="guid",
            cure="name the VIF by its MAC address",
        )
    return guid.mac


def is_ours(path: str) -> bool:
    """Whether a program is the stand-in that this package ships, wherever
    it was copied or linked to: it must not be taken for the vendor's.

    :raises OSError: if it cannot be read
    """
    with open(path, "rb") as program:
        return _MARK in program.read()


def _vendors() -> str | None:
    """The vendor's program: the first in PATH that is not our own."""
    for folder in os.get_exec_path():
        if not os.path.isabs(folder):
            continue  # it may be run with root's rights
        path = os.path.join(folder, "ebrctl")
        if os.access(path, os.X_OK) and os.path.isfile(path):
            try:
                if not is_ours(path):
                    return path
            except OSError:
                continue
    return None
