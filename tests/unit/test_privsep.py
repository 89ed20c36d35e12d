# SPDX-License-Identifier: Apache-2.0
"""Batches through a real privileged daemon, on a simulated host."""

import errno
import gc
import logging
import os
import re
import shlex
import shutil
import signal
import sys
import threading
import warnings

import pytest
from oslo_config import cfg

from ibhostdev import BatchFailed, Guid, OnError, Vif, errors
from ibhostdev.privilege.request import Request, read_answer
from ibhostdev.simulate.model import HcaSpec
from ibhostdev.simulate.server import SimulatedHost

with warnings.catch_warnings():
    # oslo.privsep imports eventlet, which is deprecated.
    warnings.simplefilter("ignore")
    from ibhostdev.privilege import privsep

# oslo.privsep leaves the socket and the pipe of a daemon's start to the
# garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

ROOT = os.geteuid() == 0
# No VIFs: it only makes the privileged side ready.
READY = Request("plug", ())
HELPER = os.path.join(os.path.dirname(sys.executable), "privsep-helper")


class Daemon:
    """The configuration of both sides, the host, and what was logged."""

    def __init__(self, folder, host, caplog):
        self.host = host
        self.vfs = [vf.address for vf in host.machine.pfs[0].vfs]
        self._file = folder / "service.conf"
        self._caplog = caplog

    def configure(self, privileged="", **options):
        if not ROOT:
            privileged += "\ncapabilities ="
        lines = [f"{name} = {value}" for name, value in options.items()]
        self._file.write_text(
            "\n".join(
                [
                    "[ibhostdev]",
                    f"simulated_host = {self.host.folder}",
                    *lines,
                    "[ibhostdev_privileged]",
                    f"helper_command = {shlex.quote(HELPER)} "
                    f"--config-file {self._file}",
                    privileged,
                    "",
                ]
            )
        )
        cfg.CONF([], default_config_files=[str(self._file)])

    def logged(self, pattern):
        found = re.findall(pattern, self._caplog.text)
        assert found, self._caplog.text
        return found[-1]

    @property
    def pid(self):
        return int(self.logged(r"daemon running as pid (\d+)"))

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)

    def let_die(self, times):
        """At its first write, and so do those that come after it."""
        killed = set()
        ask = self.host.machine.change

        def change(vf):
            if self.pid not in killed and len(killed) < times:
                killed.add(self.pid)
                self.kill()
                raise OSError(errno.EIO, "not heard of any more")
            ask(vf)

        self.host.machine.change = change

    def vifs(self, *indices):
        return tuple(
            Vif.parse(self.vfs[index], f"fa:16:3e:00:00:{index:02x}")
            for index in indices
        )

    def guids(self):
        return [
            Guid(vf.node)
            for vf in self.host.machine.pfs[0].vfs
            if not Guid(vf.node).is_idle
        ]


@pytest.fixture
def daemon(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with SimulatedHost(tmp_path / "host", [HcaSpec(vfs=4)]) as host:
        daemon = Daemon(tmp_path, host, caplog)
        daemon.configure()
        yield daemon
        privsep.join()
        privsep.CONTEXT.stop()
        cfg.CONF.reset()
        gc.collect()
        for thread in threading.enumerate():
            if thread.name == "fd_logger":
                thread.join()
        gc.collect()


def test_a_batch_crosses_and_its_result_comes_back(daemon):
    vifs = daemon.vifs(0, 1, 2)
    result = privsep.call(Request("plug", vifs))
    assert [one.pci for one in result.results] == daemon.vfs[:3]
    assert all(one.changed and one.verified for one in result.results)
    assert daemon.guids() == [vif.guid for vif in vifs]
    privsep.call(Request("unplug", vifs))
    assert daemon.guids() == []


def test_a_failure_comes_back_with_all_that_it_tells(daemon):
    daemon.host.fail(daemon.vfs[1], errno.EIO)
    with pytest.raises(BatchFailed) as caught:
        privsep.call(Request("plug", daemon.vifs(0, 1)))
    undone, cause = (one.error for one in caught.value.result.results)
    assert type(undone) is errors.RolledBack
    assert type(cause) is errors.CommandFailed
    assert (cause.device, cause.errno) == (daemon.vfs[1], errno.EIO)
    assert cause.attribute
    assert cause.cure
    assert daemon.guids() == []


def test_the_others_go_on_if_asked_for(daemon):
    daemon.host.fail(daemon.vfs[1], errno.EIO)
    with pytest.raises(BatchFailed):
        privsep.call(
            Request("plug", daemon.vifs(0, 1, 2), on_error=OnError.CONTINUE)
        )
    assert len(daemon.guids()) == 2


def test_start_has_it_running_and_touches_nothing(daemon):
    privsep.call(READY)
    daemon.logged("daemon running as pid")
    assert daemon.host.counts().modify == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"physical_device_mappings": "default"}, "NETWORK:DEVICE"),
        ({"simulated_host": "/nonexistent"}, "/nonexistent"),
    ],
)
def test_start_tells_of_what_the_daemon_reads_for_itself(
    daemon, options, told
):
    daemon.configure(**options)
    with pytest.raises(errors.IbHostdevError, match=told):
        privsep.call(READY)


def test_start_tells_of_a_mechanism_that_is_none(daemon):
    with pytest.raises(errors.InvalidInput, match="'magic' is no mechanism"):
        privsep.call(Request("plug", (), mechanism="magic"))


def test_start_tells_of_locks_that_cannot_be_made(daemon):
    run_dir = daemon.host.folder / "run"
    shutil.rmtree(run_dir, ignore_errors=True)
    run_dir.write_text("in the way")
    with pytest.raises(errors.IbHostdevError, match="locks") as caught:
        privsep.call(READY)
    assert caught.value.device == str(run_dir)
    assert caught.value.cure
    # It is what a plug fails for.
    with pytest.raises(errors.IbHostdevError):
        privsep.call(Request("plug", daemon.vifs(0)))
    run_dir.unlink()
    privsep.call(READY)
    assert privsep.call(Request("plug", daemon.vifs(0))).ok


def test_it_tells_of_a_slip_in_the_mapping(daemon):
    daemon.configure(physical_device_mappings="default:ib0,default:ib9")
    (doubt,) = privsep.call(READY).warnings
    assert "mapped to ib9, and no InfiniBand PF here has that name" in doubt


def test_it_has_its_own_mapping(daemon):
    """Neither the request's nor that of who asks."""
    daemon.configure(physical_device_mappings="default:ib0")
    (vif,) = daemon.vifs(0)
    on = Vif(vif.pci, vif.guid, "default")
    off = Vif(vif.pci, vif.guid, "other")
    assert privsep.call(Request("plug", (on,))).ok
    with pytest.raises(errors.WrongPhysicalNetwork):
        privsep.call(Request("plug", (off,)))
    with pytest.raises(errors.InvalidInput, match="mapping"):
        privsep.call(
            Request("plug", (off,), physical_networks={"other": ("ib0",)})
        )


def test_its_warnings_are_in_the_answer_alone(daemon, caplog):
    """Who asked tells them, with the instance; its log is the same."""
    first, second = daemon.vifs(0, 1)
    assert privsep.call(Request("plug", (first,))).ok
    moved = first._replace(pci=second.pci)
    (warning,) = privsep.call(Request("plug", (moved,))).warnings
    assert str(first.guid) in warning
    assert warning not in caplog.text


def test_its_own_mapping_has_to_be_one(daemon):
    daemon.configure(physical_device_mappings="default")
    with pytest.raises(errors.InvalidInput, match="NETWORK:DEVICE") as caught:
        privsep.call(Request("plug", daemon.vifs(0)))
    assert "restart" in caught.value.cure


def test_its_other_options_have_to_be_right(daemon):
    daemon.configure(physical_device_mappings="$nowhere:ib0")
    with pytest.raises(errors.InvalidInput, match="nowhere") as caught:
        privsep.call(Request("plug", daemon.vifs(0)))
    assert "restart" in caught.value.cure


@pytest.mark.skipif(not ROOT, reason="others have no capabilities to keep")
@pytest.mark.parametrize("user", ["root", "nobody"])
def test_it_keeps_two_capabilities_as_any_user(daemon, user):
    daemon.configure(privileged=f"user = {user}")
    assert privsep.call(Request("plug", daemon.vifs(0))).ok
    effective, permitted, inheritable = daemon.logged(
        r"with capabilities \(eff/prm/inh\): (\S+?)/(\S+?)/(\S+)"
    )
    assert effective == permitted == "CAP_DAC_OVERRIDE|CAP_NET_ADMIN"
    assert inheritable == "none"


def test_one_that_died_is_started_again(daemon):
    privsep.call(Request("plug", daemon.vifs(0)))
    reader = privsep.CONTEXT.channel.reader_thread
    daemon.kill()
    reader.join()
    assert privsep.call(Request("plug", daemon.vifs(1))).ok
    assert len(daemon.guids()) == 2


def test_one_that_dies_meanwhile_is_asked_again(daemon):
    daemon.let_die(1)
    assert privsep.call(Request("plug", daemon.vifs(0))).ok
    assert daemon.guids() == [daemon.vifs(0)[0].guid]
    assert "asked once more" in daemon.logged(".*ended during the call.*")


def test_one_that_dies_each_time_is_told(daemon):
    daemon.let_die(2)
    with pytest.raises(errors.CommandFailed, match="ended during the call"):
        privsep.call(Request("plug", daemon.vifs(0)))


def test_one_that_takes_too_long_is_told(daemon):
    privsep.call(READY)
    cfg.CONF.set_override("privileged_call_timeout", 1, group="ibhostdev")
    daemon.host.delay(command=2)
    with pytest.raises(errors.TimedOut, match="within 1 s") as caught:
        privsep.call(Request("plug", daemon.vifs(0)))
    assert "privileged_call_timeout" in caught.value.cure
    daemon.host.delay()
    cfg.CONF.set_override("privileged_call_timeout", 3000, group="ibhostdev")
    # What comes next waits for it, which has a small part of the limit, and
    # finds that it was undone.
    (result,) = privsep.call(Request("plug", daemon.vifs(0))).results
    assert result.changed
    assert daemon.guids() == [daemon.vifs(0)[0].guid]


def test_what_is_done_too_late_is_undone_and_told(daemon):
    privsep.call(READY)
    daemon.host.delay(command=0.3)
    asked = Request("plug", daemon.vifs(0, 1)).within(0.2)
    answer = privsep.run(asked.to_plain())
    with pytest.raises(errors.TimedOut):
        read_answer(answer)
    assert daemon.guids() == []


def test_a_plug_that_comes_too_late_is_not_done(daemon):
    privsep.call(READY)
    daemon.host.reset_counts()
    asked = Request("plug", daemon.vifs(0)).within(-1)
    answer = privsep.run(asked.to_plain())
    with pytest.raises(errors.TimedOut, match="too late"):
        read_answer(answer)
    assert daemon.host.counts() == (0, 0, 0, 0)


def test_an_unplug_is_never_dropped(daemon):
    privsep.call(Request("plug", daemon.vifs(0)))
    asked = Request("unplug", daemon.vifs(0)).within(-1)
    assert read_answer(privsep.run(asked.to_plain())).ok
    assert daemon.guids() == []


def test_one_that_hangs_costs_the_time_limit_once(daemon):
    privsep.call(Request("plug", daemon.vifs(3)))
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        cfg.CONF.set_override("privileged_call_timeout", 1, group="ibhostdev")
        with pytest.raises(errors.TimedOut, match="within 1 s;"):
            privsep.call(Request("plug", daemon.vifs(0)))
        cfg.CONF.set_override("privileged_call_timeout", 60, group="ibhostdev")
        for asked in (
            Request("plug", daemon.vifs(1)),
            Request("unplug", daemon.vifs(3)),
        ):
            with pytest.raises(errors.TimedOut, match=r" 1\.2 s, nor to"):
                privsep.call(asked)
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    privsep.join()
    # What is late was not done but for the unplug, and all is as ever.
    assert daemon.guids() == []
    assert privsep.call(Request("plug", daemon.vifs(2))).ok


def test_what_became_of_a_late_call_is_in_the_log(daemon):
    privsep.call(Request("plug", daemon.vifs(0, 1, 2)))
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        cfg.CONF.set_override("privileged_call_timeout", 1, group="ibhostdev")
        for asked in (
            Request("unplug", daemon.vifs(0, 1)),
            Request("unplug", daemon.vifs(2), on_error=OnError.CONTINUE),
            Request("plug", daemon.vifs(3)),
        ):
            with pytest.raises(errors.TimedOut):
                privsep.call(asked)
        daemon.host.fail(daemon.vfs[2], errno.EIO)
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    privsep.join()
    daemon.logged("came too late: unplug of 2 VIFs done")
    daemon.logged(f"came too late: {daemon.vfs[2]} .*Input/output error")
    daemon.logged("came too late: .*nothing was written")


def test_one_that_does_not_come_is_told(daemon, tmp_path):
    """Its command never comes back: nobody waits for it without limit."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    cfg.CONF.set_override(
        "helper_command",
        shlex.join(["sh", "-c", f"read line < {pipe}; exit 1"]),
        group="ibhostdev_privileged",
    )
    cfg.CONF.set_override("privileged_call_timeout", 1, group="ibhostdev")
    try:
        for _ in range(2):
            with pytest.raises(errors.TimedOut, match="not started") as caught:
                privsep.call(READY)
            assert "helper_command" in caught.value.cure
    finally:
        cfg.CONF.clear_override("helper_command", group="ibhostdev_privileged")
        pipe.write_text("go\n")
        privsep.join()
    cfg.CONF.set_override("privileged_call_timeout", 60, group="ibhostdev")
    assert privsep.call(Request("plug", daemon.vifs(0))).ok


@pytest.mark.parametrize("command", ["false", "/nonexistent/privsep-helper"])
def test_one_that_cannot_be_started_is_told(daemon, command):
    cfg.CONF.set_override(
        "helper_command", command, group="ibhostdev_privileged"
    )
    with pytest.raises(errors.AccessDenied, match="started") as caught:
        privsep.call(Request("plug", daemon.vifs(0)))
    assert "helper_command" in caught.value.cure
    # As soon as it can, it is.
    cfg.CONF.clear_override("helper_command", group="ibhostdev_privileged")
    assert privsep.call(Request("plug", daemon.vifs(0))).ok
