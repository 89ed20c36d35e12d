# SPDX-License-Identifier: Apache-2.0
"""Batches through oslo.privsep: a daemon of our own, with two capabilities.

CAP_NET_ADMIN is what rtnetlink asks for; CAP_DAC_OVERRIDE lets a daemon that
runs as another user than root write to sysfs and make its locks. Both ends
import this module: nothing in here may depend on Nova.
"""

import logging
import threading
import time
from functools import cache
from typing import Any

from oslo_config import cfg
from oslo_privsep import capabilities, comm, priv_context

from ibhostdev import conf
from ibhostdev.batch import BatchResult
from ibhostdev.errors import (
    AccessDenied,
    CommandFailed,
    IbHostdevError,
    InvalidInput,
    TimedOut,
)
from ibhostdev.host import Host
from ibhostdev.privilege import configured, request
from ibhostdev.privilege.request import Request

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
# The part of a call's time that the daemon has for a plug, so that who called
# is still there to be told of its end.
_DAEMONS_PART = 0.9
_starting = threading.Lock()


# -- the privileged side ----------------------------------------------


@CONTEXT.entrypoint
def run(plain: Any, until: float) -> dict[str, Any]:
    """The one thing that the daemon does: a request in, its answer out.

    A plug is to be done until then, by the system's monotonic clock, or not
    at all: later nobody waits for it. An unplug is done however late it is;
    what is asked for after it comes to the locks after it, too.
    """
    return request.run(plain, _connect, until)


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


def call(asked: Request) -> BatchResult:
    """Have the daemon do it; starts the daemon if there is none. A request
    without VIFs makes it know the topology, so that no plug waits for that.

    :raises AccessDenied: if the daemon cannot be started
    :raises TimedOut: if it does not answer within the time limit
    :raises CommandFailed: if it died
    :raises IbHostdevError: whatever Host.plug() and Host.unplug() raise
    """
    plain = asked.to_plain()
    try:
        answer = _ask(plain)
    except _Ended as ended:
        # To plug and to unplug again is harmless, and where Nova attaches
        # the ports of a guest that has arrived, an error would cost its user
        # a guest that runs.
        LOG.warning("%s; it is asked once more", ended)
        try:
            answer = _ask(plain)
        except _Ended as error:
            raise CommandFailed(
                str(error),
                _DAEMON,
                cure="it is started again by the next call; its end should "
                "be in the kernel log or in the service's",
            ) from error
    return request.read_answer(answer)


class _Ended(Exception):
    """The daemon died."""


def _ask(plain: dict[str, Any]) -> Any:
    _ensure_daemon()
    seconds = CONF.ibhostdev.privileged_call_timeout
    CONTEXT.timeout = seconds
    try:
        return run(plain, time.monotonic() + seconds * _DAEMONS_PART)
    except comm.PrivsepTimeout as error:
        raise TimedOut(
            f"did not answer within {seconds} s; a plug that is not done yet "
            "is undone, an unplug will be done",
            _DAEMON,
            cure="see in the kernel log whether firmware answers; "
            "[ibhostdev] privileged_call_timeout is the limit",
        ) from error
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


__all__ = ["CONTEXT", "IbHostdevError", "call", "host", "run"]
