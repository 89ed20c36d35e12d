# SPDX-License-Identifier: Apache-2.0
"""ebrctl as the last resort, with a daemon that answers as eswitchd of
networking-mlnx 21.0.0 does; tests/kernel/test_peers.py has the real one."""

import os
import shutil
import socket
import threading
import time

import pytest

from ibhostdev import BatchFailed, OnError, PKey, Policy, Vif, doctor
from ibhostdev.cli import listing
from ibhostdev.ebrctl import PROGRAM
from ibhostdev.errors import (
    AccessDenied,
    CommandFailed,
    DeviceInUse,
    InvalidInput,
    NoMechanism,
    NotRunning,
    NotVerified,
    RollbackFailed,
    RolledBack,
    TimedOut,
)
from ibhostdev.host import vendor
from ibhostdev.host.vendor import Answer, Command
from ibhostdev.host.views import views
from ibhostdev.pkey import Partitions
from tests.flavours import ONES, guid, mac
from tests.simulated.eswitchd import Eswitchd, named
from tests.testbed import Hca, Seen

# -- where nothing else serves --------------------------------------------


@pytest.fixture
def eswitchd(bed):
    """A PF of which nobody here can tell anything."""
    bed.build(Hca("mlx5", vfs=4, netdev=False))
    return Eswitchd(bed)


def test_it_serves_with_no_configuration(bed, eswitchd):
    host = bed.connect(ebrctl=eswitchd)
    (pf,) = host.pfs
    mechanism, against = host.choose(pf)
    assert mechanism == "ebrctl"
    assert set(against) == {"mlx5_netlink", "mlx5_sysfs", "mlx4_sysfs"}
    result = host.plug(named(bed, 1, 2))
    assert eswitchd.held == {0: guid(1), 1: guid(2)}
    # It says OK to everything, and nobody can show that it is true.
    assert [vf.verified for vf in result.results] == [False, False]
    assert [vf.mechanism for vf in result.results] == ["ebrctl", "ebrctl"]


def test_without_it_nothing_serves(bed, eswitchd):
    with pytest.raises(NoMechanism):
        bed.connect().plug(named(bed, 1))


def test_what_nobody_could_look_for_is_not_known(bed, eswitchd):
    (vf,) = bed.connect().unplug([Vif.parse(None, mac(1))]).results
    assert not vf.verified


def test_unplug_is_by_guid_wherever_it_is(bed, eswitchd):
    host = bed.connect(ebrctl=eswitchd)
    host.plug(named(bed, 1, 2))
    # VF 1 is somebody else's: the address is stale.
    stale = Vif.parse(bed.vf(0, 1), mac(1), "default")
    (vf,) = host.unplug([stale]).results
    assert (vf.changed, vf.verified, vf.mechanism) == (True, False, "ebrctl")
    assert eswitchd.held == {0: ONES, 1: guid(2)}


@pytest.mark.parametrize("hint", [None, "0000:7f:00.1"])
def test_unplug_needs_no_address(bed, eswitchd, hint):
    host = bed.connect(ebrctl=eswitchd)
    host.plug(named(bed, 1))
    host.unplug([Vif.parse(hint, mac(1), "default")])
    assert eswitchd.held == {0: ONES}


def test_unplug_of_what_is_not_there(bed, eswitchd):
    (vf,) = bed.connect(ebrctl=eswitchd).unplug(named(bed, 7)).results
    assert (vf.changed, vf.verified, vf.error) == (False, False, None)


def test_unplug_goes_by_the_network(bed, eswitchd):
    host = bed.connect(ebrctl=eswitchd)
    with pytest.raises(BatchFailed) as caught:
        host.unplug([Vif.parse(bed.vf(0, 0), mac(1))])
    (failure,) = caught.value.result.failures
    assert isinstance(failure, InvalidInput)
    assert failure.attribute == "physical_network"


def test_a_guid_that_is_no_mac_s_is_refused(bed, eswitchd):
    host = bed.connect(ebrctl=eswitchd)
    with pytest.raises(BatchFailed, match="not made from a MAC"):
        host.plug([Vif.parse(bed.vf(0, 0), "02:00:00:01:02:03:04:05")])
    assert eswitchd.calls == []


def test_a_policy_is_refused(bed, eswitchd):
    host = bed.connect(ebrctl=eswitchd)
    with pytest.raises(BatchFailed, match="policy"):
        host.plug(named(bed, 1), policy=Policy.UP)
    assert eswitchd.calls == []


def test_a_partition_of_mlx4_is_refused(bed):
    """It would be in none, and nobody would say so."""
    bed.build(Hca("mlx4", vfs=2))
    host = bed.connect(ebrctl=Eswitchd(bed))
    (vif,) = named(bed, 1)
    with pytest.raises(
        BatchFailed, match="cannot give P_Key 0x8001"
    ) as caught:
        host.plug([vif._replace(pkey=PKey(1))], mechanism="ebrctl")
    assert caught.value.device == bed.vf(0, 0)


def test_a_guest_s_vf_is_left_alone(bed, eswitchd):
    host = bed.connect(ebrctl=eswitchd)
    host.plug(named(bed, 1))
    eswitchd.calls.clear()
    bed.bind(bed.vf(0, 0), "vfio-pci")
    with bed.hold(bed.vf(0, 0)):
        (vf,) = host.plug(named(bed, 1)).results
    assert eswitchd.calls == []
    assert not vf.verified


def test_calls_are_made_at_once_up_to_a_limit(bed, eswitchd):
    eswitchd.meeting = threading.Barrier(2, timeout=600)
    bed.connect(ebrctl=eswitchd, ebrctl_at_once=2).plug(named(bed, 1, 2, 3, 4))
    assert eswitchd.most == 2


def test_one_refusal_takes_all_back(bed, eswitchd):
    eswitchd.refuse.add(bed.vf(0, 2))
    host = bed.connect(ebrctl=eswitchd)
    with pytest.raises(BatchFailed) as caught:
        host.plug(named(bed, 1, 2, 3))
    (failure,) = caught.value.result.failures
    assert isinstance(failure, CommandFailed)
    assert failure.device == bed.vf(0, 2)
    assert "ebrctl add-port" in str(failure)
    assert set(eswitchd.held.values()) == {ONES}


def test_what_is_not_given_back_is_told(bed, eswitchd):
    eswitchd.refuse.add(bed.vf(0, 2))
    eswitchd.keeps = True
    host = bed.connect(ebrctl=eswitchd)
    with pytest.raises(BatchFailed) as caught:
        host.plug(named(bed, 1, 2, 3))
    first, second, third = caught.value.result.results
    assert isinstance(first.error, RollbackFailed)
    assert isinstance(second.error, RollbackFailed)
    assert first.after.port_guid == Vif.parse(None, mac(1)).guid
    assert isinstance(third.error, CommandFailed)


def test_a_rollback_needs_no_name_of_a_network(bed, eswitchd):
    eswitchd.refuse.add(bed.vf(0, 1))
    host = bed.connect(ebrctl=eswitchd)
    vifs = [Vif.parse(bed.vf(0, index), mac(index)) for index in range(2)]
    with pytest.raises(BatchFailed) as caught:
        host.plug(vifs)
    assert isinstance(caught.value.result.results[0].error, RolledBack)
    assert eswitchd.held == {0: ONES}


def test_a_guest_is_not_stripped(bed, eswitchd):
    host = bed.connect(ebrctl=eswitchd)
    host.plug(named(bed, 1))
    eswitchd.calls.clear()
    bed.bind(bed.vf(0, 0), "vfio-pci")
    with bed.hold(bed.vf(0, 0)), pytest.raises(BatchFailed) as caught:
        host.unplug(named(bed, 1))
    (failure,) = caught.value.result.failures
    assert isinstance(failure, DeviceInUse)
    assert failure.errno is None
    assert eswitchd.calls == []


def test_with_continue_the_others_stay(bed, eswitchd):
    eswitchd.refuse.add(bed.vf(0, 1))
    host = bed.connect(ebrctl=eswitchd)
    with pytest.raises(BatchFailed):
        host.plug(named(bed, 1, 2, 3), on_error=OnError.CONTINUE)
    assert eswitchd.held == {0: guid(1), 2: guid(3)}


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ZeroDivisionError])
def test_what_is_no_failure_of_ebrctl_is_raised(bed, eswitchd, kind):
    """Ctrl-C, or a fault of whoever runs it."""

    def run(arguments):
        if arguments[-1] == bed.vf(0, 2):
            raise kind
        return eswitchd(arguments)

    host = bed.connect(ebrctl=run, ebrctl_at_once=1)
    with pytest.raises(kind):
        host.plug(named(bed, 1, 2, 3, 4))
    assert set(eswitchd.held.values()) == {ONES}


@pytest.fixture
def two(bed):
    """Two PFs that nothing else serves."""
    bed.build(*[Hca("mlx5", vfs=2, netdev=False)] * 2)
    return Eswitchd(bed, pfs=2, vfs=2)


def on_both(bed):
    return [*named(bed, 1, 2, pf=0), *named(bed, 3, 4, pf=1)]


def test_one_that_is_stopped_between_two_pfs_takes_all_back(bed, two):
    class Enough(Exception):
        pass

    def stop(stage, done, total):
        assert (stage, done, total) == ("write", 2, 4)
        raise Enough

    host = bed.connect(ebrctl=two)
    with pytest.raises(Enough) as caught:
        host.plug(on_both(bed), progress=stop)
    assert not getattr(caught.value, "__notes__", None)
    added = {call[1] for call in two.calls if call[0] == "add-port"}
    removed = {call[2] for call in two.calls if call[0] == "del-port"}
    assert added == removed
    assert {mac(1), mac(2)} <= added


def test_one_whose_time_is_over_takes_all_back(bed, two):
    def slowly(arguments):
        time.sleep(0.3)
        return two(arguments)

    host = bed.connect(ebrctl=slowly)
    with pytest.raises(TimedOut, match="all VFs are as they were"):
        host.plug(on_both(bed), until=time.monotonic() + 0.2)
    added = {call[1] for call in two.calls if call[0] == "add-port"}
    removed = {call[2] for call in two.calls if call[0] == "del-port"}
    assert added == removed != set()
    two.calls.clear()
    host.plug(on_both(bed))
    assert len(two.calls) == 4


def test_no_call_is_begun_when_the_time_is_over(bed, two):
    """One after the other they may take longer than all have."""
    until = time.monotonic() + 1

    def slowly(arguments):
        while time.monotonic() <= until:
            time.sleep(0.1)
        return two(arguments)

    host = bed.connect(ebrctl=slowly, ebrctl_at_once=1)
    with pytest.raises(TimedOut, match="all VFs are as they were"):
        host.plug(named(bed, 1, 2), until=until)
    assert [(call[0], mac(1) in call) for call in two.calls] == [
        ("add-port", True), ("del-port", True),
    ]  # fmt: skip


def test_it_is_run_where_it_was_asked_for(bed):
    """In the caller's thread, where signals reach it, whatever is going on
    for other PFs."""
    bed.build(
        Hca("mlx5", vfs=2, netdev=False), Hca("mlx5", vfs=2),
        Hca("mlx5", vfs=2, netdev=False),
    )  # fmt: skip
    eswitchd = Eswitchd(bed, pfs=3, vfs=2)
    threads = []

    def run(arguments):
        threads.append(threading.get_ident())
        return eswitchd(arguments)

    host = bed.connect(
        ebrctl=run, ebrctl_at_once=1, physical_networks={"default": bed.pfs}
    )
    batch = [*named(bed, 1), *named(bed, 2, pf=1), *named(bed, 3, pf=2)]
    results = host.plug(batch).results
    assert [one.mechanism for one in results] == [
        "ebrctl", "mlx5_netlink", "ebrctl",
    ]  # fmt: skip
    assert threads == [threading.get_ident()] * 2


# -- forced, where the kernel can show what became of it ------------------


@pytest.fixture
def watched(bed):
    bed.build(Hca("mlx5", vfs=4))
    return Eswitchd(bed)


def forced(bed, eswitchd):
    host = bed.connect(ebrctl=eswitchd)

    def plug(*vifs):
        return host.plug(vifs, mechanism="ebrctl")

    def unplug(*vifs):
        return host.unplug(vifs, mechanism="ebrctl")

    return plug, unplug


def test_it_is_never_first_choice(bed, watched):
    bed.connect(ebrctl=watched).plug(named(bed, 1))
    assert watched.calls == []


def test_what_the_kernel_shows_is_verified(bed, watched):
    plug, unplug = forced(bed, watched)
    (vf,) = plug(*named(bed, 1)).results
    assert (vf.verified, vf.changed) == (True, True)
    assert plug(*named(bed, 1)).results[0].changed is False
    assert len(watched.calls) == 1
    (vf,) = unplug(*named(bed, 1)).results
    assert (vf.verified, vf.changed) == (True, True)
    assert bed.seen(0)[0] == Seen(ONES, ONES, "down")


def test_success_for_a_vf_that_it_does_not_know(bed, watched):
    del watched.vfs[bed.vf(0, 0)]
    plug, _ = forced(bed, watched)
    with pytest.raises(BatchFailed) as caught:
        plug(*named(bed, 1))
    (failure,) = caught.value.result.failures
    assert isinstance(failure, NotVerified)
    assert failure.errno is None


def test_a_vf_that_it_does_not_find(bed, watched):
    bed.connect().plug(named(bed, 1))
    watched.vfs.clear()
    _, unplug = forced(bed, watched)
    with pytest.raises(BatchFailed, match="does not find") as caught:
        unplug(*named(bed, 1))
    assert "started after the VFs" in caught.value.result.failures[0].cure
    assert bed.seen(0)[0].port == guid(1)


def test_a_stale_holder_is_made_idle_first(bed, watched):
    plug, _ = forced(bed, watched)
    plug(*named(bed, 1))
    plug(Vif.parse(bed.vf(0, 3), mac(1), "default"))
    assert [s.port for s in bed.seen(0)][::3] == [ONES, guid(1)]


def test_what_a_guest_has_is_not_taken(bed, watched):
    plug, unplug = forced(bed, watched)
    plug(*named(bed, 1))
    bed.bind(bed.vf(0, 0), "vfio-pci")
    with bed.hold(bed.vf(0, 0)), pytest.raises(BatchFailed) as caught:
        unplug(*named(bed, 1))
    assert isinstance(caught.value.result.failures[0], DeviceInUse)
    assert [call[0] for call in watched.calls] == ["add-port"]


# -- the program ----------------------------------------------------------


@pytest.fixture
def listening(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(vendor, "_DAEMON", server.getsockname())
        yield


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts a script of this text into PATH as ebrctl."""

    def put(text):
        path = tmp_path / "ebrctl"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return put


DELETE = ["del-port", "default", mac(1)]


def test_what_it_said_comes_back(program, listening):
    program('printf "%s " "$@"; echo oops >&2; exit 3')
    told = f"del-port default {mac(1)} "
    assert Command()(DELETE) == Answer(3, told, "oops\n")


def test_no_program(monkeypatch, tmp_path, listening):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoMechanism) as caught:
        Command()(DELETE)
    assert "networking-mlnx" in caught.value.cure


def test_the_stand_in_is_no_vendor_s(monkeypatch, tmp_path, listening):
    shutil.copy(PROGRAM, tmp_path / "ebrctl")
    monkeypatch.setenv("PATH", f"{os.path.dirname(PROGRAM)}:{tmp_path}")
    assert Command().missing()
    with pytest.raises(NoMechanism):
        Command()(DELETE)


def test_behind_the_stand_in_the_vendor_s_is_found(
    program, monkeypatch, listening
):
    program("echo vendor")
    monkeypatch.setenv(
        "PATH", f"{os.path.dirname(PROGRAM)}:{os.environ['PATH']}"
    )
    assert Command()(DELETE).output == "vendor\n"


def test_a_dead_daemon_is_told_at_once(program, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(vendor, "_DAEMON", server.getsockname())
    program("sleep 50")
    with pytest.raises(NotRunning) as caught:
        Command()(DELETE)
    assert caught.value.device == "eswitchd"
    assert "eswitchd" in caught.value.cure


def test_one_that_does_not_answer_is_ended(program, listening, tmp_path):
    program(f"sleep 60 & echo $! > {tmp_path}/pid; wait")
    with pytest.raises(TimedOut) as caught:
        Command(seconds=3)(DELETE)
    assert caught.value.attribute == "ebrctl del-port"
    pid = int((tmp_path / "pid").read_text())
    # What it had started is gone too: no such process, or not yet reaped.
    for _ in range(100):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rsplit(")", 1)[1].split()[0] == "Z":
                    break
        except FileNotFoundError:
            break
        time.sleep(0.05)
    else:
        pytest.fail("it lives on")


def test_its_own_time_out_is_told(program, listening, bed, eswitchd):
    program("echo no result received; echo Failed to plug >&2; exit 1")
    with pytest.raises(BatchFailed) as caught:
        bed.connect(ebrctl=Command()).plug(named(bed, 1))
    assert isinstance(caught.value.result.failures[0], NotRunning)


def test_a_daemon_that_was_not_heard_may_have_it_still(
    program, listening, bed, eswitchd
):
    program(
        "echo no result received; echo Failed to deallocate it >&2; exit 1"
    )
    with pytest.raises(BatchFailed) as caught:
        bed.connect(ebrctl=Command()).unplug(named(bed, 1))
    assert isinstance(caught.value.result.failures[0], NotRunning)


@pytest.mark.parametrize("folder", ["", ".", "here"])
def test_where_somebody_happens_to_be_does_not_count(
    program, listening, monkeypatch, tmp_path, folder
):
    program("echo somebody")
    (tmp_path / "here").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{folder}:/nowhere")
    with pytest.raises(NoMechanism):
        Command()(DELETE)


def test_one_that_cannot_be_run(tmp_path, monkeypatch, listening):
    path = tmp_path / "ebrctl"
    path.write_text("#!/nowhere/python\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AccessDenied) as caught:
        Command()(DELETE)
    assert str(path) in str(caught.value)


# -- what is told of it ---------------------------------------------------


def test_doctor_and_list_say_that_it_serves_and_why(bed, eswitchd, listening):
    host = bed.connect(ebrctl=eswitchd)
    found = doctor.examine(host, str(bed.folder), simulated=True)
    told = [one for one in found if one.check == "mechanism"]
    (one,) = told
    assert one.severity == "warning"
    assert "ebrctl serves" in one.message
    assert "no IPoIB network device" in one.message
    (pf,) = listing.pfs_json(views(host), {}, Partitions())["pfs"]
    assert pf["mechanism"] == "ebrctl"
    assert "no IPoIB network device" in pf["mechanism_reasons"]["mlx5_netlink"]


def test_doctor_tells_of_a_dead_daemon(bed, eswitchd, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(vendor, "_DAEMON", server.getsockname())
    host = bed.connect(ebrctl=eswitchd)
    found = doctor.examine(host, str(bed.folder), simulated=True)
    (problem,) = [one for one in found if one.severity == "problem"]
    assert "eswitchd is not running" in problem.message
    assert "eswitchd" in problem.cure
