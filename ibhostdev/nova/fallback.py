# SPDX-License-Identifier: Apache-2.0
"""Ports of HCAs that nothing but ebrctl serves, the way Nova has it run.

The batch of these is done by nova-compute itself: looking takes no rights,
and what is to be changed goes through Nova's own privileged functions, one
call for each port.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import functools
import os
import threading
from typing import Any

import nova.privsep.libvirt
from oslo_concurrency import processutils
from oslo_config import cfg
from oslo_log import log as logging

from ibhostdev import batch
from ibhostdev import errors
from ibhostdev import guid
from ibhostdev import host
from ibhostdev.host import vendor
from ibhostdev import inventory
from ibhostdev.privilege import configured
from ibhostdev.privilege import request
from ibhostdev.process import log

LOG = logging.getLogger(__name__)
CONF = cfg.CONF

# The daemon serves one batch after the other anyway, and the engine waits for
# its own locks where no other green thread would run, that of the batch which
# has them among them.
_one_at_a_time = threading.Lock()

_LATE = "see eswitchd's log; [ibhostdev] privileged_call_timeout is the limit"

Native = Callable[[request.Request], batch.BatchResult]
"""Has the privileged daemon do it; raises what its call() does."""


def run(native: Native, asked: request.Request) -> batch.BatchResult:
    """By the privileged daemon where that can, else by ebrctl.

    Raises what Host.plug() and Host.unplug() raise, and all or nothing is
    done of a plug whichever way its ports go.
    """
    if asked.mechanism == inventory.EBRCTL:
        return _run(asked)
    if asked.mechanism is not None:
        return native(asked)
    if asked.action == "plug":
        return _plug(native, asked)
    return _unplug(native, asked)


def _run(asked: request.Request) -> batch.BatchResult:
    """As the daemon does it: a plug has a time limit, an unplug is done."""
    seconds = CONF.ibhostdev.privileged_call_timeout
    asked = asked.within(seconds)
    limit = seconds if asked.action == "plug" else -1
    if not _one_at_a_time.acquire(timeout=limit):
        raise errors.TimedOut(
            f"was busy with other instances' ports for {seconds} s; nothing "
            "was written",
            "ebrctl",
            cure=_LATE,
        )
    try:
        return asked.run(_host())
    except errors.TimedOut as late:
        if late.device is not None:  # one that others have locked
            raise
        # It is not firmware that was waited for.
        raise errors.TimedOut(late.message, "ebrctl", cure=_LATE) from late
    finally:
        _one_at_a_time.release()


def _plug(native: Native, asked: request.Request) -> batch.BatchResult:
    try:
        return native(asked)
    except errors.NoMechanism as unserved:
        # Told before anything was touched.
        left = [_is_left(vif) for vif in asked.vifs]
        if not any(left):
            raise
        try:
            vendor.require_daemon()
        except errors.NotRunning as dead:
            # What would serve better is the better cure.
            raise errors.NoMechanism(
                unserved.message,
                unserved.device,
                unserved.attribute,
                unserved.errno,
                f"{unserved.cure}; for ebrctl have {dead.device} running",
            ) from dead
    LOG.warning("Plugging by ebrctl: see 'ibhostdev doctor'")
    results = None if all(left) else _do(native, asked, left, False)
    try:
        others = _do(_run, asked, left, True)
    except Exception:
        if results is not None:
            _warn(results)
            _take_back(native, asked, left, results)
        raise
    if results is None:
        return others
    by_daemon, by_ebrctl = iter(results.results), iter(others.results)
    return batch.BatchResult(
        tuple(next(by_ebrctl if one else by_daemon) for one in left),
        _warnings(results, others),
        moved=(*results.moved, *others.moved),
    )


def _warnings(
    results: batch.BatchResult, others: batch.BatchResult
) -> Iterable[str]:
    """Each once: both have looked at the same host."""
    return dict.fromkeys((*results.warnings, *others.warnings))


def _warn(result: batch.BatchResult) -> None:
    """Of a batch whose result nobody else gets."""
    for warning in result.warnings:
        LOG.warning("%s", warning)


def _take_back(
    native: Native,
    asked: request.Request,
    left: Sequence[bool],
    results: batch.BatchResult,
) -> None:
    """What was done by the one must not stay when the other fails.

    A VF that was the port's before the plug stays so, for a port that is
    plugged again has a guest, and has only its link put back.
    """
    gone: list[batch.Vif] = []
    kept: dict[inventory.Policy, list[batch.Vif]] = {}
    done = _part(asked, left, False).vifs
    for vif, vf in zip(done, results.results, strict=True):
        if not vf.changed:
            continue
        if vf.before is None or vf.before.owner != vif.guid:
            gone.append(vif)
        elif vf.before.policy is not None:
            kept.setdefault(vf.before.policy, []).append(vif)
    each_alone = batch.OnError.CONTINUE
    undo = [
        request.Request(
            "unplug",
            tuple(gone),
            on_error=each_alone,
            rebind=CONF.ibhostdev.rebind,
        )
    ]
    for policy, vifs in kept.items():
        undo.append(
            request.Request(
                "plug", tuple(vifs), policy=policy, on_error=each_alone
            )
        )
    for one in undo:
        if not one.vifs:
            continue
        try:
            _warn(native(one))
        except errors.IbHostdevError as error:
            if isinstance(error, batch.BatchFailed):
                _warn(error.result)
            LOG.error("Ports could not be put back: %s", error)


def _unplug(native: Native, asked: request.Request) -> batch.BatchResult:
    try:
        result = native(asked)
    except batch.BatchFailed as error:
        result = error.result
    # Those that nobody could look for.
    left = [
        isinstance(vf.error, errors.NoMechanism)
        or (vf.error is None and not vf.verified and not vf.changed)
        for vf in result.results
    ]
    if any(left) and _serves_any():
        others = _outcome(_part(asked, left, True))
        results = iter(others.results)
        result = batch.BatchResult(
            [
                _either(vf, next(results)) if one else vf
                for vf, one in zip(result.results, left, strict=True)
            ],
            _warnings(result, others),
        )
    if not result.ok:
        raise batch.BatchFailed.of(result)
    return result


def _outcome(asked: request.Request) -> batch.BatchResult:
    try:
        return _run(asked)
    except batch.BatchFailed as error:
        return error.result
    except errors.IbHostdevError as error:
        # What the daemon has to tell of the others must not be lost.
        idle = inventory.VfState(guid.IDLE, guid.IDLE, inventory.Policy.DOWN)
        return batch.BatchResult(
            tuple(
                batch.VfResult(vif.pci, idle, error=error)
                for vif in asked.vifs
            )
        )


def _either(by_daemon: batch.VfResult, by_ebrctl: batch.VfResult) -> Any:
    """Without an ebrctl nobody expected it to be asked."""
    if isinstance(by_ebrctl.error, errors.NoMechanism):
        return by_daemon
    return by_ebrctl


def _do(
    how: Native, asked: request.Request, left: Sequence[bool], which: bool
) -> batch.BatchResult:
    """A part of a plug; if it fails, with a result for each port of all."""
    try:
        return how(_part(asked, left, which))
    except batch.BatchFailed as error:
        mine = iter(error.result.results)
        results = [
            next(mine) if one is which else _put_back(vif, error)
            for vif, one in zip(asked.vifs, left, strict=True)
        ]
        raise batch.BatchFailed.of(
            batch.BatchResult(results, error.result.warnings)
        ) from error


def _put_back(vif: batch.Vif, cause: errors.IbHostdevError) -> batch.VfResult:
    return batch.VfResult(
        vif.pci,
        inventory.VfState(vif.node_guid or vif.guid, vif.guid),
        error=errors.RolledBack(f"not plugged, since {cause.device} failed"),
    )


def _part(
    asked: request.Request, left: Sequence[bool], which: bool
) -> request.Request:
    return asked._replace(
        vifs=tuple(
            vif
            for vif, one in zip(asked.vifs, left, strict=True)
            if one is which
        ),
    )


def _is_left(vif: batch.Vif) -> bool:
    """Whether nothing but ebrctl serves the VF."""
    try:
        return _serves(_host().vf(str(vif.pci)).pf)
    except errors.IbHostdevError:
        return False


def _serves_any() -> bool:
    return _host().serves(inventory.EBRCTL)


def _serves(pf: inventory.Pf) -> bool:
    return _host().choose(pf)[0] == inventory.EBRCTL


@functools.cache
def _host() -> host.Host:
    """This host, for who has no rights to change it."""
    log.quiet = True  # what is in a result is told with its instance
    options = CONF.ibhostdev
    return configured.host(
        options,
        # Not the daemon's folder, which is root's. What it serves and what
        # ebrctl serves are different PFs, unless ebrctl serves all.
        run_dir=os.path.join(CONF.state_path, "ibhostdev"),
        ebrctl=_call,
        ebrctl_at_once=options.ebrctl_concurrency,
    )


def _call(arguments: Sequence[str]) -> vendor.Answer:
    """A call of ebrctl by Nova.

    One that takes too long is left alone: it is another process's, and ends
    by itself after 50 s.
    """
    vendor.require_daemon()
    ended: list[vendor.Answer | Exception] = []

    def work() -> None:
        try:
            ended.append(_execute(arguments))
        except Exception as error:
            ended.append(error)

    seconds = CONF.ibhostdev.ebrctl_timeout
    thread = threading.Thread(target=work, name="ebrctl", daemon=True)
    thread.start()
    thread.join(seconds)
    if not ended:
        raise vendor.timed_out(arguments, seconds)
    (answer,) = ended
    if isinstance(answer, Exception):
        raise answer
    return answer


def _execute(arguments: Sequence[str]) -> vendor.Answer:
    action, *values = arguments
    try:
        if action == "add-port":
            nova.privsep.libvirt.plug_infiniband_vif(*values)
        else:
            nova.privsep.libvirt.unplug_infiniband_vif(*values)
    except processutils.ProcessExecutionError as error:
        return vendor.Answer(
            int(error.exit_code or 1), error.stdout or "", error.stderr or ""
        )
    except FileNotFoundError:
        raise vendor.missing_program() from None
    except Exception as error:
        raise errors.CommandFailed(
            f"could not be run by Nova ({type(error).__name__}: {error})",
            attribute=f"ebrctl {action}",
            cure="see nova-compute's log and [nova_sys_admin] helper_command",
        ) from error
    return vendor.Answer(0, "", "")
