# SPDX-License-Identifier: Apache-2.0
"""Batches of an ordinary user through oslo.rootwrap, without OpenStack.

One program may be run with rights, ``ibhostdev-privileged``: it takes no
arguments, reads a request as JSON from its standard input and writes the
answer. What is about this machine it takes from a file of root's, never from
who asks. ``etc/rootwrap.conf``, ``etc/rootwrap.d`` and ``etc/sudoers.d`` have
what lets a user run it and nothing else.
"""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ibhostdev.batch import BatchResult
from ibhostdev.errors import (
    AccessDenied,
    CommandFailed,
    IbHostdevError,
    InvalidInput,
    TimedOut,
)
from ibhostdev.host.networks import parse_mappings
from ibhostdev.privilege import configured, request
from ibhostdev.privilege.apart import give, in_time, stand_apart
from ibhostdev.privilege.plain import outcome_to_plain
from ibhostdev.privilege.program import not_installed
from ibhostdev.privilege.request import MAX_BYTES, Request
from ibhostdev.process import descriptors, log
from ibhostdev.process.interruption import interruptible

PRIVILEGED = "ibhostdev-privileged"
ROOTWRAP = "/etc/ibhostdev/rootwrap.conf"
CONFIGURATION = "/etc/ibhostdev/ibhostdev.conf"

# -- the privileged side --------------------------------------------------


REQUEST_SECONDS = 30.0
# For a daemon that does not start to end; it has closed its output by then.
_LAST_WORDS = 5.0


def privileged() -> int:
    """The program ``ibhostdev-privileged``. 0 if it has answered, whatever
    the answer; 1 if that could not be written; 2 if it was called with
    arguments; 128 and more if a signal ended it, after what it had written
    was put back."""
    stand_apart()
    if len(sys.argv) > 1:
        _complain("takes no arguments, but a request on standard input")
        return 2
    log.quiet = True  # warnings are in the answer
    with interruptible():
        answer = json.dumps(_take())
    try:
        give(answer, descriptors.PATIENCE)
    except OSError as error:  # TimedOut, too
        _complain(f"standard output cannot be written: {error}")
        os._exit(1)  # Python would try it once more
    return 0


def _complain(what: str) -> None:
    """As far as anybody listens: a pipe that is full is not waited for."""
    with suppress(OSError), in_time(descriptors.PATIENCE, "listen"):
        print(f"{PRIVILEGED}: {what}", file=sys.stderr, flush=True)


def _take() -> dict[str, Any]:
    """A request from standard input, and its answer."""
    try:
        with in_time(REQUEST_SECONDS, "send the request"):
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
    except TimedOut as error:
        return outcome_to_plain(error)
    with descriptors.held_back():
        return _answer(data)


def _answer(data: bytes) -> dict[str, Any]:
    try:
        asked = Request.from_json(data)
        options = _options()
        asked = _permitted(asked, options)
    except IbHostdevError as error:
        return outcome_to_plain(error)
    own: dict[str, Any] = {}
    if asked.physical_networks is not None:
        own["physical_networks"] = asked.physical_networks
        own["networks_only_refuse"] = True
    return request.run(
        asked.to_plain(), lambda _: configured.host(options, **own)
    )


def _options() -> Any:
    """Group ``[ibhostdev]`` of root's file, and of nothing else."""
    try:
        from oslo_config import cfg

        from ibhostdev.privilege import conf
    except ImportError as error:
        raise not_installed(str(error), PRIVILEGED) from error

    own = cfg.ConfigOpts()
    conf.register_opts(own)
    try:
        own(
            [],
            project="ibhostdev",
            default_config_files=[CONFIGURATION]
            if os.path.exists(CONFIGURATION)
            else [],
            default_config_dirs=[],
            use_env=False,
        )
        for option in conf.OPTS:  # a bad value is told when it is asked for
            own.ibhostdev[option.dest]
        parse_mappings(own.ibhostdev.physical_device_mappings)
    except (cfg.Error, InvalidInput) as error:
        raise InvalidInput(
            str(error),
            CONFIGURATION,
            cure="correct it; etc/ibhostdev.conf.sample has all options",
        ) from error
    return own.ibhostdev


def _permitted(asked: Request, options: Any) -> Request:
    """What is asked, within what root's file leaves to be chosen."""
    if asked.physical_networks is not None and (
        options.physical_device_mappings
    ):
        raise InvalidInput(
            "the privileged side has its own mapping of physical networks",
            CONFIGURATION,
            "physical_device_mappings",
            cure="leave yours out",
        )
    mechanism = options.mechanism
    if mechanism and asked.mechanism not in (None, mechanism):
        raise InvalidInput(
            f"only mechanism {mechanism} is permitted",
            CONFIGURATION,
            "mechanism",
            cure="leave yours out",
        )
    return asked._replace(
        mechanism=mechanism or asked.mechanism,
        rebind=asked.rebind and options.rebind,
    )


# -- the other side -------------------------------------------------------


def _program(name: str) -> str:
    """Where this very environment has it, else where sudo finds it."""
    path = os.path.join(os.path.dirname(sys.executable), name)
    return path if os.access(path, os.X_OK) else name


def _end(process: Any, told: str) -> tuple[int, str] | None:
    """What a daemon that was started ended with, and what it said; None if it
    runs or has ended well. oslo.rootwrap tells its last words only if it has
    ended already where that looks; else that there is no socket."""
    try:
        _, errors = process.communicate(timeout=_LAST_WORDS)
    except (subprocess.TimeoutExpired, OSError, ValueError):
        return None
    said = (errors or b"").decode(errors="replace")
    return (process.returncode, said or told) if process.returncode else None


class Rootwrap:
    """Has batches done with rights that this process lacks.

    Each call starts the programs anew, or with ``daemon`` one that is kept
    does, which starts only ``ibhostdev-privileged``. ``seconds`` bounds a
    call. ``sudo`` gets at oslo.rootwrap; it must not ask for a password.
    """

    def __init__(
        self,
        daemon: bool = False,
        seconds: float = 120.0,
        sudo: Sequence[str] = ("sudo", "-n"),
    ) -> None:
        name = "ibhostdev-rootwrap-daemon" if daemon else "ibhostdev-rootwrap"
        self._program = _program(name)
        self._command = [*sudo, self._program, ROOTWRAP]
        self._daemon = daemon
        self._seconds = seconds
        self._client: Any = None
        self._lock = threading.Lock()

    def call(self, asked: Request) -> BatchResult:
        """Have it done.

        :raises AccessDenied: if sudo or oslo.rootwrap do not let it
        :raises TimedOut: if there is no answer within the time limit
        :raises CommandFailed: if it ended without an answer
        :raises IbHostdevError: whatever Host.plug() and Host.unplug() raise
        """
        ended: list[tuple[int, str, str] | BaseException] = []
        text = asked.within(self._seconds).to_json().decode()

        def work() -> None:
            try:
                ended.append(
                    self._by_daemon(text) if self._daemon else self._once(text)
                )
            except BaseException as error:
                ended.append(error)

        # What runs as root cannot be killed from here. It is only not waited
        # for any longer; it undoes a plug that is late.
        thread = threading.Thread(target=work, name="rootwrap", daemon=True)
        thread.start()
        thread.join(self._seconds)
        if not ended:
            raise TimedOut(
                f"did not answer within {self._seconds:g} s",
                PRIVILEGED,
                cure="see in the kernel log whether firmware answers; a plug "
                "that is not done yet is undone, an unplug will be done",
            )
        (outcome,) = ended
        if isinstance(outcome, IbHostdevError):
            raise outcome
        if isinstance(outcome, OSError):
            raise AccessDenied(
                "cannot be run",
                self._command[0],
                errno=outcome.errno,
                cure="install sudo, or run as root",
            ) from outcome
        if isinstance(outcome, BaseException):
            raise outcome
        code, output, errors = outcome
        if code:
            raise self._refused(code, errors)
        try:
            return request.read_answer(json.loads(output))
        except ValueError as error:
            if isinstance(error, IbHostdevError):
                raise
            raise CommandFailed(
                "gave an answer that is no JSON",
                PRIVILEGED,
                cure="install the same version of ibhostdev on both sides",
            ) from error

    def _once(self, text: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [*self._command, PRIVILEGED],
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def _by_daemon(self, text: str) -> tuple[int, str, str]:
        try:
            from oslo_rootwrap import client
        except ImportError as error:
            raise not_installed(str(error), self._program) from error
        # A late call may be under way, whose failure is not this one's.
        with self._lock:
            if self._client is None:
                self._client = client.Client(self._command)
            mine = self._client
        try:
            code, output, errors = mine.execute([PRIVILEGED], stdin=text)
        except Exception as error:
            process = getattr(mine, "_process", None)
            with self._lock:
                if self._client is mine:
                    self._client = None
            if process is None and isinstance(error, OSError):
                raise  # there is no sudo
            refused = None if process is None else _end(process, str(error))
            if refused is not None:
                raise self._refused(*refused) from error
            raise AccessDenied(
                f"cannot be kept running ({type(error).__name__}: {error})",
                " ".join(self._command),
                cure="see what it says when run by hand, or by the one-shot "
                "form; sudoers must let this user run it without a password: "
                "see etc/sudoers.d/ibhostdev",
            ) from error
        return code, output, errors

    def _refused(self, code: int, told: str) -> IbHostdevError:
        """By the exit codes of oslo_rootwrap/cmd.py; sudo has 1 for all."""
        said = " ".join(told.split())[-300:] or "no word why"
        device = " ".join(self._command)
        if code == 97:
            return AccessDenied(
                f"its configuration is wrong or missing: {said}",
                device,
                cure=f"correct {ROOTWRAP}; etc/rootwrap.conf is an example",
            )
        if code in (96, 98, 99):
            return AccessDenied(
                f"does not let {PRIVILEGED} be run: {said}",
                device,
                cure="the folder of filters in its configuration must have "
                "etc/rootwrap.d/ibhostdev.filters, and its exec_dirs a link "
                f"to {PRIVILEGED}",
            )
        if missing := re.search(r"No module named 'oslo\S*'", told):
            return not_installed(missing[0], self._program)
        if code == 1 and "Traceback" not in told:
            return AccessDenied(
                f"was not allowed: {said}",
                device,
                cure="sudoers must let this user run it without a password: "
                "see etc/sudoers.d/ibhostdev",
            )
        return CommandFailed(
            f"ended with code {code} and no answer: {said}",
            PRIVILEGED,
            cure="the end of its words, or the kernel log, should tell why",
        )
