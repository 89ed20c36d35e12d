# SPDX-License-Identifier: Apache-2.0
"""Any HCA by the vendor's ``ebrctl``, which asks its daemon eswitchd.

For hosts that have nothing else. A call is a process, a message and, in the
daemon, a look at every VF; it reports success for VFs that the daemon does
not know and leaves the policy of a plugged VF to the Neutron agent
(networking-mlnx 21.0.0, eswitchd/cli/ebrctl.py and eswitch_handler.py).
"""

import os
import signal
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ibhostdev.errors import (
    AccessDenied,
    CommandFailed,
    IbHostdevError,
    InvalidInput,
    NoMechanism,
    NotRunning,
    NotVerified,
    TimedOut,
)
from ibhostdev.guid import IDLE, Guid
from ibhostdev.inventory import Family, Pf, Policy, VfState
from ibhostdev.mechanisms.mlx5_netlink import Mlx5Netlink
from ibhostdev.parallel import each

if TYPE_CHECKING:
    from ibhostdev.mechanisms import Mechanism

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


class Whose(NamedTuple):
    """Of a VF that is to be written: the GUID it has now, as far as that is
    known, and the physical network as who asks calls it."""

    guid: Guid | None
    network: str | None


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


class Ebrctl:
    """The last resort.

    ``readers`` are the mechanisms that may be able to show what became of a
    VF; where none can, results are not verified. ``at_once`` is how many
    calls may be under way at a time: the daemon serves one after the other,
    but their start overlaps.
    """

    name = "ebrctl"

    def __init__(
        self,
        readers: Sequence["Mechanism"],
        run: Run,
        at_once: int,
    ) -> None:
        self._readers = readers
        self._run = run
        self.at_once = at_once

    def plugged(self, pf: Pf, guid: Guid, policy: Policy | None) -> VfState:
        _mac(guid)
        if policy is not None:
            raise InvalidInput(
                f"ebrctl cannot set a policy ({policy})",
                attribute="policy",
                cure="leave the policy out: the Neutron agent raises it",
            )
        if pf.family is Family.MLX4:
            return VfState(port_guid=guid)
        return VfState(guid, guid)

    def idle(self, pf: Pf) -> VfState:
        if pf.family is Family.MLX4:
            return VfState(port_guid=IDLE)
        return VfState(IDLE, IDLE, Policy.DOWN)

    def obstacle(self, pf: Pf) -> str | None:
        if isinstance(self._run, Command):
            return self._run.missing()
        return None

    def blind(self, pf: Pf) -> bool:
        """Whether nothing can show the states of the PF's VFs."""
        return self._reader(pf) is None

    def survey(self, pf: Pf, batch: Collection[int]) -> dict[int, VfState]:
        reader = self._reader(pf)
        if reader is not None:
            return reader.survey(pf, batch)
        return {index: VfState() for index in range(pf.numvfs)}

    def read_back(
        self, pf: Pf, wanted: Mapping[int, VfState], settle: bool = True
    ) -> dict[int, VfState | IbHostdevError]:
        reader = self._reader(pf)
        if reader is None:
            return {index: VfState() for index in wanted}
        seen = reader.read_back(pf, wanted, settle)
        # The daemon too goes by netlink where there are no files.
        if (
            isinstance(reader, Mlx5Netlink)
            and pf.family is Family.MLX5
            and reader.shows(pf)
        ):
            for index, state in seen.items():
                guid = wanted[index].port_guid
                if (
                    isinstance(state, VfState)
                    and state.port_guid is None
                    and guid is not None
                    and not guid.is_idle
                ):
                    seen[index] = NotVerified(
                        "no GUID was set, though ebrctl reported success",
                        pf.vf_address(index),
                        f"by {self.name}",
                        cure="restart eswitchd: it does not know VFs that "
                        "were enabled after it had started",
                    )
        return seen

    def _reader(self, pf: Pf) -> "Mechanism | None":
        for reader in self._readers:
            if reader.obstacle(pf) is None:
                return reader
        return None

    def write(
        self,
        pf: Pf,
        states: Mapping[int, VfState],
        whose: Mapping[int, Whose],
        /,
    ) -> dict[int, IbHostdevError]:
        def write(index: int) -> IbHostdevError | None:
            try:
                self._write(pf, index, states[index], whose[index])
            except IbHostdevError as error:
                return _of_vf(error, pf, index)
            return None

        indices = list(states)
        answers = each(indices, write, self.at_once)
        return {
            index: error
            for index, error in zip(indices, answers, strict=True)
            if error is not None
        }

    def _write(self, pf: Pf, index: int, state: VfState, whose: Whose) -> None:
        guid = state.port_guid or state.node_guid
        if guid is None:
            # A policy alone is the Neutron agent's business here.
            return
        if guid.is_idle:
            if whose.guid is None:
                return
            network = whose.network or _NETWORK
            if not self.forget(whose.guid, network):
                raise CommandFailed(
                    f"eswitchd does not find {_mac(whose.guid)} on physical "
                    f"network {network!r}",
                    attribute="ebrctl del-port",
                    cure="its fabrics must have the PF, it must have been "
                    "started after the VFs were enabled, and it does not see "
                    "VFs that have a network device on this host",
                )
            return
        answer = self._run(
            [
                "add-port",
                _mac(guid),
                _DEVICE_ID,
                whose.network or _NETWORK,
                "ib_hostdev",
                pf.vf_address(index),
            ]
        )
        if answer.code:
            raise refused("add-port", answer)

    def forget(self, guid: Guid, network: str | None) -> bool:
        """Take an identity away, whichever VF of the physical network has
        it. False if the daemon finds it on none, or on none that it sees.

        :raises IbHostdevError: if the daemon cannot be asked, or fails
        """
        if network is None:
            raise InvalidInput(
                f"which physical network GUID {guid} is on was not told",
                attribute="physical_network",
                cure="name it: eswitchd looks for GUIDs by network",
            )
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


def _of_vf(error: IbHostdevError, pf: Pf, index: int) -> IbHostdevError:
    """The error, with the VF for its device."""
    what = f"{error.device} " if error.device else ""
    return type(error)(
        what + error.message,
        pf.vf_address(index),
        error.attribute,
        error.errno,
        error.cure,
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
