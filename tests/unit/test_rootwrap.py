# SPDX-License-Identifier: Apache-2.0
"""Batches through oslo.rootwrap: both ends, and what can go wrong between;
tests/kernel/test_rootwrap.py has the real sudo."""

import gc
import io
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from oslo_rootwrap import wrapper

from ibhostdev import BatchFailed, Vif
from ibhostdev.cli import main
from ibhostdev.errors import (
    AccessDenied,
    CommandFailed,
    DeviceNotFound,
    GuidConflict,
    IbHostdevError,
    InvalidInput,
    TimedOut,
    WrongPhysicalNetwork,
)
from ibhostdev.privilege import rootwrap
from ibhostdev.privilege.request import MAX_BYTES, Request, read_answer
from ibhostdev.privilege.rootwrap import Rootwrap
from tests.flavours import guid, mac
from tests.testbed import Hca

ETC = Path(__file__).parents[2] / "etc"

# eventlet's, which oslo.privsep has loaded where other tests ran before.
pytestmark = pytest.mark.filterwarnings("ignore:Using fork:DeprecationWarning")


# -- the privileged side --------------------------------------------------


@pytest.fixture
def privileged(bed, monkeypatch, tmp_path, capsys):
    """The program, on a simulated host that root's file names."""
    bed.build(Hca("mlx5", vfs=4))
    settings = tmp_path / "ibhostdev.conf"
    settings.write_text(f"[ibhostdev]\nsimulated_host = {bed.folder}\n")
    monkeypatch.setattr(rootwrap, "CONFIGURATION", str(settings))

    def call(data, *arguments):
        monkeypatch.setattr(sys, "argv", ["ibhostdev-privileged", *arguments])
        stdin = io.TextIOWrapper(io.BytesIO(data))
        monkeypatch.setattr(sys, "stdin", stdin)
        code = rootwrap.privileged()
        return code, capsys.readouterr().out

    monkeypatch.setattr(rootwrap, "stand_apart", lambda: None)
    call.settings = settings
    return call


PROGRAM = """
import signal, sys, warnings
from ibhostdev.process import descriptors
from ibhostdev.privilege import rootwrap
signal.signal(signal.SIGUSR1, lambda *_: warnings.warn("a word of Python's"))
rootwrap.CONFIGURATION = sys.argv.pop()
sys.exit(rootwrap.privileged())
"""


@pytest.fixture
def process(bed, privileged):
    """The program as a process of its own, started by who is no friend."""

    def start(program=PROGRAM, **how):
        return subprocess.Popen(
            [sys.executable, "-c", program, privileged.settings],
            **{
                "stdin": subprocess.PIPE,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
            }
            | how,
        )

    return start


def answered(outcome):
    code, output = outcome
    assert code == 0
    return read_answer(json.loads(output))


def asked(bed, *numbers, **more):
    return Request(
        "plug",
        tuple(
            Vif.parse(bed.vf(0, index), mac(number), "default")
            for index, number in enumerate(numbers)
        ),
        **more,
    )


def test_it_plugs(bed, privileged):
    result = answered(privileged(asked(bed, 1, 2).to_json()))
    assert [vf.changed for vf in result.results] == [True, True]
    assert [seen.port for seen in bed.seen(0)[:2]] == [guid(1), guid(2)]


def test_it_runs_no_hooks(bed, privileged, tmp_path):
    """As root, for an ordinary user: they are the caller's to run."""
    folder = bed.folder / "hooks.d"
    folder.mkdir()
    (folder / "site").write_text(f"#!/bin/sh\necho >> {tmp_path}/told\n")
    (folder / "site").chmod(0o755)
    assert answered(privileged(asked(bed, 1).to_json())).ok
    assert not (tmp_path / "told").exists()
    # Such a program is run for who plugs himself.
    word = f"{bed.vf(0, 1)}={mac(2)}"
    subprocess.run([*bed.command, "plug", word], check=True)
    assert (tmp_path / "told").exists()


def test_a_plug_that_is_late_is_not_done_and_an_unplug_is(bed, privileged):
    before = bed.seen(0)
    late = asked(bed, 1).within(-1)
    with pytest.raises(TimedOut, match="too late"):
        answered(privileged(late.to_json()))
    assert bed.seen(0) == before
    answered(privileged(asked(bed, 1).to_json()))
    answered(privileged(late._replace(action="unplug").to_json()))
    assert bed.seen(0)[0].port != guid(1)


def test_it_takes_no_arguments(bed, privileged):
    before = bed.seen(0)
    assert privileged(asked(bed, 1).to_json(), "/etc/passwd") == (2, "")
    assert bed.seen(0) == before


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"{}", b" " * (MAX_BYTES + 1)]
)
def test_bad_requests(bed, privileged, data):
    with pytest.raises(InvalidInput):
        answered(privileged(data))


def test_the_environment_does_not_steer_it(
    bed, privileged, monkeypatch, tmp_path
):
    folder = tmp_path / ".ibhostdev/ibhostdev.conf.d"
    folder.mkdir(parents=True)
    (folder / "mine.conf").write_text(
        "[ibhostdev]\nsimulated_host = /nowhere\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OS_IBHOSTDEV__SIMULATED_HOST", "/nowhere")
    monkeypatch.setenv("IBHOSTDEV_HOST", "/nowhere")
    monkeypatch.setenv("IBHOSTDEV_PRIVILEGE", "rootwrap")
    answered(privileged(asked(bed, 1).to_json()))
    assert bed.seen(0)[0].port == guid(1)


@pytest.fixture
def no_netdev(bed, privileged):
    bed.build(Hca("mlx5", vfs=4, netdev=False))
    return bed


def test_a_program_of_the_caller_s_is_not_run(no_netdev, process, tmp_path):
    (tmp_path / "ebrctl").write_text(f"#!/bin/sh\ntouch {tmp_path}/run\n")
    (tmp_path / "ebrctl").chmod(0o755)
    started = process(env=os.environ | {"PATH": str(tmp_path)}, cwd=tmp_path)
    with ExitStack() as stack:
        with suppress(OSError):  # somebody has to listen, if not eswitchd
            stack.enter_context(socket.create_server(("127.0.0.1", 60001)))
        out, _ = started.communicate(
            asked(no_netdev, 1, mechanism="ebrctl").to_json()
        )
    with pytest.raises(IbHostdevError):
        read_answer(json.loads(out))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM]
)
def test_a_signal_leaves_nothing_half_done(bed, process, number):
    before = bed.seen(0)
    started = process()
    under_way(bed, started, 1, 2, 3, 4)
    started.send_signal(number)
    time.sleep(0.05)
    started.send_signal(number)
    bed.delay()
    out, _ = started.communicate(timeout=600)
    assert (started.returncode, out) == (128 + number, b"")
    for seen, was in zip(bed.seen(0), before, strict=True):
        assert seen.port not in {guid(n) for n in (1, 2, 3, 4)}
        assert seen.policy == was.policy


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGTSTP])
def test_a_terminal_does_not_stop_it(bed, process, number):
    started = process()
    under_way(bed, started, 1, 2)
    started.send_signal(number)
    out, _ = started.communicate(timeout=600)
    bed.delay()
    assert read_answer(json.loads(out)).ok


def full_pipe():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"." * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    return reader, writer


def test_nobody_waits_for_who_does_not_read_its_errors(bed, process):
    """A pipe that is full keeps the program, but no lock."""
    reader, writer = full_pipe()
    started = process(stderr=writer)
    os.close(writer)
    under_way(bed, started, 1, 2)
    started.send_signal(signal.SIGUSR1)
    host = bed.connect(lock_seconds=60)
    assert host.plug(asked(bed, 1, 2).vifs).ok
    bed.delay()
    with open(reader) as errors:
        told = errors.read()
    out, _ = started.communicate()
    assert read_answer(json.loads(out)).ok
    assert "a word of Python's" in told


def test_warnings_are_in_the_answer_alone(bed, process):
    process().communicate(asked(bed, 1).to_json())
    started = process()
    vifs = (Vif.parse(bed.vf(0, 3), mac(1), "default"),)
    out, err = started.communicate(Request("plug", vifs).to_json())
    assert err == b""
    (warning,) = read_answer(json.loads(out)).warnings
    assert f"was still on {bed.vf(0, 0)}" in warning


def inherited():
    """All that a caller can leave behind for what he starts."""
    with open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")
    for which, soft in (
        (resource.RLIMIT_NOFILE, 20),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CPU, 1000),
    ):
        resource.setrlimit(which, (soft, resource.getrlimit(which)[1]))
    os.nice(19)
    os.umask(0o777)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGTERM})
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


TRIED = """
import json, os
from contextlib import suppress
os.nice(19)
with suppress(OSError):
    os.setpriority(os.PRIO_PROCESS, 0, 0)
def score(value):
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write(value)
score("1000")
with suppress(OSError):
    score("0")
with open("/proc/self/oom_score_adj") as file:
    print(json.dumps([os.getpriority(os.PRIO_PROCESS, 0), int(file.read())]))
"""


def status(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines)


def under_way(bed, started, *numbers):
    bed.delay(command=0.5)
    bed.reset_counts()
    started.stdin.write(asked(bed, *numbers).to_json())
    started.stdin.close()
    started.stdin = None
    while not bed.counts().modify:
        assert started.poll() is None
        time.sleep(0.01)


def test_it_is_not_what_its_caller_is(bed, process, tmp_path):
    started = process(preexec_fn=inherited, cwd=tmp_path)
    under_way(bed, started, 1, 2)
    for which in (resource.RLIMIT_FSIZE, resource.RLIMIT_CPU):
        soft, hard = resource.prlimit(started.pid, which)
        assert soft == hard
    soft, hard = resource.prlimit(started.pid, resource.RLIMIT_NOFILE)
    assert soft == min(hard, 4096)
    assert os.readlink(f"/proc/{started.pid}/cwd") == "/"
    shown = status(started.pid)
    assert int(shown["Umask"], 8) == 0o022
    assert int(shown["SigBlk"], 16) == 0
    assert not int(shown["SigIgn"], 16) >> signal.SIGCHLD - 1 & 1
    # What only some may: as much as we may ourselves.
    tried = subprocess.run(
        [sys.executable, "-c", TRIED], check=True, capture_output=True
    )
    score = Path(f"/proc/{started.pid}/oom_score_adj").read_text()
    nice = os.getpriority(os.PRIO_PROCESS, started.pid)
    assert [nice, int(score)] == json.loads(tried.stdout)
    bed.delay()
    out, _ = started.communicate()
    assert read_answer(json.loads(out)).ok


def test_a_request_that_does_not_come(bed, process):
    before = bed.seen(0)
    late = PROGRAM.replace(
        "sys.exit", "rootwrap.REQUEST_SECONDS = 0.2\nsys.exit"
    )
    started = process(late, preexec_fn=inherited)
    started.stdin.write(asked(bed, 1).to_json())
    started.stdin.flush()  # and it stays open
    out = started.stdout.read()
    assert started.wait() == 0
    with pytest.raises(TimedOut, match="did not send the request"):
        read_answer(json.loads(out))
    assert bed.seen(0) == before
    started.communicate()


def test_an_answer_that_nobody_takes(bed, process):
    late = PROGRAM.replace("sys.exit", "descriptors.PATIENCE = 0.2\nsys.exit")
    reader, writer = full_pipe()
    started = process(late, stdout=writer, stderr=writer)
    os.close(writer)
    under_way(bed, started, 1)
    started.send_signal(signal.SIGUSR1)  # there is a word of Python's, too
    bed.delay()
    assert started.wait() == 1
    os.close(reader)
    assert bed.seen(0)[0].port == guid(1)


def closing(*descriptors):
    def before():
        for descriptor in descriptors:
            os.close(descriptor)

    return before


@pytest.mark.parametrize("closed", [(1,), (2,), (1, 2)])
def test_descriptors_that_are_closed(bed, process, closed):
    started = process(preexec_fn=closing(*closed))
    out, _ = started.communicate(asked(bed, 1).to_json())
    assert started.returncode == 0
    assert 1 in closed or read_answer(json.loads(out)).ok
    assert bed.seen(0)[0].port == guid(1)


def test_an_answer_that_cannot_be_written(bed, process):
    full = os.open("/dev/full", os.O_WRONLY)
    started = process(preexec_fn=lambda: os.dup2(full, 1))
    os.close(full)
    _, err = started.communicate(asked(bed, 1).to_json())
    assert started.returncode == 1
    (line,) = err.decode().splitlines()
    assert "standard output cannot be written" in line
    assert "No space left" in line
    assert bed.seen(0)[0].port == guid(1)


def test_root_has_named_the_mechanism(bed, privileged):
    with privileged.settings.open("a") as file:
        file.write("mechanism = mlx5_netlink\n")
    result = answered(privileged(asked(bed, 1).to_json()))
    assert result.results[0].mechanism == "mlx5_netlink"
    with pytest.raises(InvalidInput, match="only mechanism mlx5_netlink"):
        answered(privileged(asked(bed, 2, mechanism="ebrctl").to_json()))


def test_root_has_ruled_out_rebinding(bed, privileged):
    with privileged.settings.open("a") as file:
        file.write("rebind = false\n")
    answered(privileged(asked(bed, 1).to_json()))
    bed.bind(bed.vf(0, 0), None)
    bed.bind(bed.vf(0, 0), "mlx5_core")
    bed.reset_counts()
    vifs = asked(bed, 1).vifs
    answered(privileged(Request("unplug", vifs).to_json()))
    assert bed.counts().probe == 0


def test_failures_are_answers(bed, privileged):
    bed.fail(bed.vf(0, 1), 5)
    with pytest.raises(BatchFailed) as caught:
        answered(privileged(asked(bed, 1, 2).to_json()))
    assert caught.value.result.failures[0].errno == 5


def test_a_caller_s_mapping_where_there_is_none(bed, privileged):
    networks = {"default": (bed.pfs[0],)}
    request = asked(bed, 1, physical_networks=networks)
    answered(privileged(request.to_json()))
    assert bed.seen(0)[0].port == guid(1)


@pytest.fixture
def two(bed, privileged):
    """PFs that the caller says are of two networks."""
    bed.build(Hca("mlx5", vfs=2), Hca("mlx5", vfs=2))
    root_s = f"[ibhostdev]\nsimulated_host = {bed.folder}\n"
    privileged.settings.write_text(root_s)

    def ask(action, pf, number, network):
        address = bed.vf(pf, 0) if action == "plug" else None
        vif = Vif.parse(address, mac(number), network)
        networks = {"red": (bed.pfs[0],), "blue": (bed.pfs[1],)}
        request = Request(action, (vif,), physical_networks=networks)
        return answered(privileged(request.to_json()))

    return ask


def test_a_caller_s_mapping_makes_no_guid_free(bed, two):
    two("plug", 0, 1, "red")
    with bed.hold(bed.vf(0, 0)), pytest.raises(BatchFailed) as caught:
        two("plug", 1, 1, "blue")
    (error,) = caught.value.result.errors
    assert isinstance(error, GuidConflict)
    assert [bed.seen(pf)[0].port == guid(1) for pf in (0, 1)] == [True, False]
    # Nobody's, it is taken from there as without any mapping.
    two("plug", 1, 1, "blue")
    assert [bed.seen(pf)[0].port == guid(1) for pf in (0, 1)] == [False, True]


def test_a_caller_s_mapping_has_vifs_refused(bed, two):
    before = bed.seen(0)
    with pytest.raises(WrongPhysicalNetwork):
        two("plug", 0, 1, "blue")
    assert bed.seen(0) == before
    two("plug", 0, 1, "red")
    two("unplug", 1, 1, "blue")
    assert bed.seen(0)[0].port == guid(1)
    two("unplug", 0, 1, "red")
    assert bed.seen(0)[0].port != guid(1)


def test_root_s_mapping_is_not_to_be_replaced(bed, privileged):
    with privileged.settings.open("a") as file:
        file.write("physical_device_mappings = other:0000:7f:00.0\n")
    networks = {"default": (bed.pfs[0],)}
    with pytest.raises(InvalidInput, match="its own mapping"):
        answered(
            privileged(asked(bed, 1, physical_networks=networks).to_json())
        )


def test_a_bad_configuration_is_named(bed, privileged):
    privileged.settings.write_text(
        "[ibhostdev]\nphysical_device_mappings = nowhere\n"
    )
    with pytest.raises(InvalidInput) as caught:
        answered(privileged(asked(bed, 1).to_json()))
    assert caught.value.device == str(privileged.settings)


def test_no_configuration_is_fine(privileged, monkeypatch):
    privileged.settings.unlink()
    request = Request("plug", (Vif.parse("ffff:ff:1f.7", mac(1)),))
    with pytest.raises(DeviceNotFound):
        answered(privileged(request.to_json()))


# -- the filters ----------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        (["ibhostdev-privileged"], True),
        (["ibhostdev-privileged", "x"], False),
        (["ibhostdev-privileged", ""], False),
        (["ibhostdev-privileged\n"], False),
        (["/tmp/ibhostdev-privileged"], False),
        (["ibhostdev-privilegedx"], False),
        (["privsep-helper"], False),
        (["cat", "/etc/shadow"], False),
        ([], False),
    ],
)
def test_what_the_filters_let_through(words, allowed, tmp_path):
    """``exec_dirs`` as the example has it: with one program in it."""
    program = tmp_path / "ibhostdev-privileged"
    program.touch(mode=0o755)
    filters = wrapper.load_filters([str(ETC / "rootwrap.d")])
    try:
        found = wrapper.match_filter(filters, words, [str(tmp_path)])
    except (wrapper.NoFilterMatched, wrapper.FilterMatchNotExecutable):
        assert not allowed
    else:
        # Whatever matched, nothing but that program runs.
        command = found.get_command(words, [str(tmp_path)])
        assert command == [str(program)]


# -- the other side -------------------------------------------------------

REQUEST = Request("plug", ())


@pytest.fixture
def sudo(tmp_path):
    """Something in sudo's place, that does this."""

    def make(text):
        path = tmp_path / "sudo"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return [str(path)]

    return make


@pytest.mark.parametrize(
    ("does", "kind", "told"),
    [
        ("echo a password is required >&2; exit 1", AccessDenied, "sudoers"),
        ("exit 99", AccessDenied, "filters"),
        ("exit 96", AccessDenied, "exec_dirs"),
        ("exit 97", AccessDenied, "rootwrap.conf"),
        ("echo Traceback >&2; exit 1", CommandFailed, "Traceback"),
        ("kill -9 $$", CommandFailed, "no answer"),
        ("echo nothing good", CommandFailed, "no JSON"),
        ("cat", Exception, "malformed"),
    ],
)
def test_each_failure_has_a_name_and_a_cure(sudo, does, kind, told):
    with pytest.raises(kind, match=told) as caught:
        Rootwrap(sudo=sudo(does)).call(REQUEST)
    assert caught.value.cure


@pytest.mark.parametrize("module", ["oslo_rootwrap", "oslo_config"])
def test_the_extra_is_not_installed(sudo, module):
    told = f"ModuleNotFoundError: No module named '{module}'"
    does = f'echo Traceback >&2; echo "{told}" >&2; exit 1'
    with pytest.raises(CommandFailed, match=module) as caught:
        Rootwrap(sudo=sudo(does)).call(REQUEST)
    assert "extra 'rootwrap'" in caught.value.cure
    assert "Traceback" not in str(caught.value)


def test_the_daemon_s_client_is_not_installed(sudo, monkeypatch):
    monkeypatch.setitem(sys.modules, "oslo_rootwrap", None)
    with pytest.raises(CommandFailed, match="oslo_rootwrap") as caught:
        Rootwrap(daemon=True, sudo=sudo("exit 1")).call(REQUEST)
    assert "extra 'rootwrap'" in caught.value.cure


def test_no_sudo():
    with pytest.raises(AccessDenied, match="install sudo"):
        Rootwrap(sudo=["/nowhere/sudo"]).call(REQUEST)


def test_the_time_limit_goes_with_the_request(sudo, tmp_path):
    sent = tmp_path / "sent"
    with pytest.raises(AccessDenied):
        Rootwrap(sudo=sudo(f"cat > {sent}; exit 1")).call(REQUEST)
    assert Request.from_json(sent.read_bytes()).until is not None


def test_no_answer_in_time(sudo):
    with pytest.raises(TimedOut, match=r"0\.2 s"):
        Rootwrap(sudo=sudo("exec sleep 3"), seconds=0.2).call(REQUEST)


# oslo.rootwrap's client leaves open what did not start.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("first", ["", "exec >&-; sleep 0.5;"])
@pytest.mark.parametrize(
    ("does", "kind", "told", "cure"),
    [
        (
            "echo a password is required >&2; exit 1",
            AccessDenied,
            "was not allowed: .*a password is required",
            "sudoers must let this user run it",
        ),
        ("exit 97", AccessDenied, "wrong or missing", "rootwrap.conf"),
        (
            'echo Traceback >&2; echo "ModuleNotFoundError: No module named '
            "'oslo_rootwrap'\" >&2; exit 1",
            CommandFailed,
            "No module named 'oslo_rootwrap'",
            "extra 'rootwrap'",
        ),
    ],
)
def test_the_daemon_that_cannot_be_started(
    sudo, first, does, kind, told, cure
):
    """oslo.rootwrap may look before it has ended, when its output is closed
    already: then it connects to no socket ("Invalid argument")."""
    with pytest.raises(kind, match=told) as caught:
        Rootwrap(daemon=True, sudo=sudo(first + does)).call(REQUEST)
    assert cure in caught.value.cure
    del caught
    gc.collect()


def test_the_daemon_whose_start_another_call_was_refused_too(monkeypatch):
    """One that nobody waits for may have failed meanwhile."""
    refused = "echo a password is required >&2; exit 1"
    rootwrap = Rootwrap(daemon=True, sudo=["sudo"])

    class Client:
        def __init__(self, command):
            self._process = subprocess.Popen(
                ["sh", "-c", refused],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )

        def execute(self, command, stdin):
            rootwrap._client = None
            raise OSError("no socket")

    monkeypatch.setattr("oslo_rootwrap.client.Client", Client)
    with pytest.raises(AccessDenied, match="a password is required"):
        rootwrap.call(REQUEST)


def test_no_sudo_to_start_the_daemon():
    with pytest.raises(AccessDenied, match="install sudo"):
        Rootwrap(daemon=True, sudo=["/nowhere/sudo"]).call(REQUEST)


def test_the_privileged_side_without_the_extra(privileged, monkeypatch):
    monkeypatch.setitem(sys.modules, "oslo_config", None)
    with pytest.raises(CommandFailed, match="oslo_config") as caught:
        answered(privileged(REQUEST.to_json()))
    assert "extra 'rootwrap'" in caught.value.cure


def test_the_command_s_option(bed, privileged, capsys):
    for option in (["--run-dir", "/tmp"], ["--host", str(bed.folder)]):
        code = main(
            [
                *option,
                "plug",
                "--privilege=rootwrap",
                f"{bed.vf(0, 0)}={mac(1)}",
            ]
        )
        assert code == 2
        assert "do not go together" in capsys.readouterr().err
