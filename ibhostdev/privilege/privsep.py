# SPDX-License-Identifier: Apache-2.0
"""Batches through oslo.privsep: a daemon of our own, with two capabilities.

CAP_NET_ADMIN is what rtnetlink asks for; CAP_DAC_OVERRIDE lets a daemon that
runs as another user than root write to sysfs and make its locks. Both ends
import this module: nothing in here may depend on Nova.
"""

import logging
import threading
from functools import cache
from typing import Any

from oslo_config import cfg
from oslo_privsep import capabilities, priv_context

from ibhostdev.batch import BatchFailed, BatchResult
from ibhostdev.errors import (
    AccessDenied,
    CommandFailed,
    IbHostdevError,
    InvalidInput,
    TimedOut,
)
from ibhostdev.host import Host
from ibhostdev.privilege import conf, configured, request
from ibhostdev.privilege.request import Request
from ibhostdev.process import log

LOG = logging.getLogger(__name__)
CONF = cfg.CONF

conf.register_opts(CONF)

CONTEXT = priv_context.PrivContext(
    "ibhostdev",
    cfg_section="ibhostdev_privileged",
    pypath=f"{__name__}.CONTEXT",
    capabilities=[
        capabilities.CAP_NET_ADMIN,
        capabilities.CAP_DAC_OVERRIDE,
    ],
    logger_name="ibhostdev.privilege.daemon",
)

_DAEMON = "the privileged daemon"
_LOCK_SECONDS = 3600.0
# So many calls are made to a daemon that hangs in the time of one.
_AT_ONCE = 50
_starting = threading.Lock()


# -- the privileged side ----------------------------------------------


@CONTEXT.entrypoint
def run(plain: Any) -> dict[str, Any]:
    """The one thing that the daemon does: a request in, its answer out."""
    log.quiet = True  # its log is the service's, which tells the warnings
    return request.run(plain, _connect)


def _connect(asked: Request) -> Host:
    if asked.physical_networks is not None:
        raise InvalidInput(
            "the privileged daemon has its own mapping of physical networks",
            attribute="physical_networks",
            cure="set [ibhostdev] physical_device_mappings",
        )
    try:
        return host()
    except (cfg.Error, InvalidInput) as error:
        raise InvalidInput(
            str(error),
            "[ibhostdev]",
            cure="correct it in the service's configuration and restart the "
            "service",
        ) from error


@cache
def host() -> Host:
    """The host as this process's own configuration tells, whatever the
    request. One for all calls, for it remembers the topology."""
    options = CONF.ibhostdev
    return configured.host(
        options,
        # Nova has a way of its own to run ebrctl.
        ebrctl=None,
        # Who plugs has a limit of its own, and no unplug is to be dropped.
        lock_seconds=_LOCK_SECONDS,
    )


# -- the other side ---------------------------------------------------


def mend() -> None:
    """See conf.mend(). The daemon reads its options for itself: what is bad
    for it is told by its first call."""
    conf.mend(CONF)
    conf.mend(CONF, CONTEXT.cfg_section, priv_context.OPTS)


class _Call(threading.Thread):
    """A request on its way. It ends when the daemon has answered, however
    long that takes: who waits for it may have gone."""

    def __init__(self, plain: dict[str, Any]) -> None:
        super().__init__(name="ibhostdev", daemon=True)
        self._plain = plain
        self._over = False
        self.answer: Any = None
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.answer = self._ask()
        except Exception as error:
            self.error = error
        with _leaving:
            self._over = True
        if self in _late:
            self._tell()
            _late.discard(self)

    def leave(self) -> bool:
        """Wait for it no longer. False if it has ended by now."""
        with _leaving:
            if not self._over:
                _late.add(self)
            return not self._over

    def result(self) -> BatchResult:
        """Of one that has ended."""
        if self.error is not None:
            raise self.error
        return request.read_answer(self.answer)

    def _tell(self) -> None:
        """What became of it is in the log at least."""
        try:
            result = self.result()
        except Exception as error:
            LOG.warning("The answer of %s came too late: %s", _DAEMON, error)
            if not isinstance(error, BatchFailed):
                return
            result = error.result
        else:
            LOG.info(
                "The answer of %s came too late: %s of %d VIFs done",
                _DAEMON,
                self._plain["action"],
                len(self._plain["vifs"]),
            )
        for warning in result.warnings:
            LOG.warning("%s", warning)

    def _ask(self) -> Any:
        try:
            return _ask(self._plain)
        except _Ended as ended:
            # To plug and to unplug again is harmless, and where Nova attaches
            # the ports of a guest that has arrived, an error would cost its
            # user a guest that runs.
            LOG.warning("%s; it is asked once more", ended)
            try:
                return _ask(self._plain)
            except _Ended as error:
                raise CommandFailed(
                    str(error),
                    _DAEMON,
                    cure="it is started again by the next call; its end "
                    "should be in the kernel log or in the service's",
                ) from error


# Those that nobody waits for any more.
_late: set[_Call] = set()
_leaving = threading.Lock()


def call(asked: Request) -> BatchResult:
    """Have the daemon do it; starts the daemon if there is none. A request
    without VIFs makes it know the topology, so that no plug waits for that.

    While a call that timed out has no answer yet, the next ones have a small
    part of the time limit only: the ports of many guests, one after the
    other, take not much longer than those of one.

    :raises AccessDenied: if the daemon cannot be started
    :raises TimedOut: if it does not answer within the time limit
    :raises CommandFailed: if it died
    :raises IbHostdevError: whatever Host.plug() and Host.unplug() raise
    """
    seconds = CONF.ibhostdev.privileged_call_timeout
    if hangs := bool(_late):
        seconds /= _AT_ONCE
    this = _Call(asked.within(seconds).to_plain())
    this.start()
    this.join(seconds)
    if this.leave():
        raise _timed_out(seconds, hangs)
    return this.result()


def join() -> None:
    """Wait until the daemon has answered those that nobody waits for."""
    for one in tuple(_late):
        one.join()


def _timed_out(seconds: float, hangs: bool) -> TimedOut:
    if CONTEXT.client_mode and CONTEXT.channel is None:
        return TimedOut(
            f"was not started within {seconds:g} s",
            _DAEMON,
            cure="see whether the command in [ibhostdev_privileged] "
            "helper_command comes back: sudo must not ask for a password",
        )
    return TimedOut(
        f"did not answer within {seconds:g} s"
        + (", nor to an earlier call so far" if hangs else "")
        + "; a plug that is not done yet is undone, an unplug will be done",
        _DAEMON,
        cure="see in the kernel log whether firmware answers; "
        "[ibhostdev] privileged_call_timeout is the limit",
    )


class _Ended(Exception):
    """The daemon died."""


def _ask(plain: dict[str, Any]) -> Any:
    _ensure_daemon()
    try:
        return run(plain)
    except Exception as error:
        raise _Ended(f"ended during the call ({_told(error)})") from error


def _ensure_daemon() -> None:
    """Not left to the first call itself, so that a daemon that cannot be
    started is told from one that fails, and to do it once only."""
    if not CONTEXT.client_mode:
        return
    with _starting:
        try:
            if CONTEXT.channel is not None and not CONTEXT.channel.running:
                LOG.warning("The privileged daemon has ended: a new one")
                CONTEXT.stop()
            if CONTEXT.channel is None:
                CONTEXT.start()
        except Exception as error:
            CONTEXT.channel = None
            raise AccessDenied(
                f"could not be started ({_told(error)})",
                _DAEMON,
                cure="the service's log has what its command said; check the "
                "command in [ibhostdev_privileged] helper_command and that "
                "sudoers allows it",
            ) from error


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


__all__ = ["CONTEXT", "IbHostdevError", "call", "host", "join", "mend", "run"]
