# SPDX-License-Identifier: Apache-2.0
"""What crosses the boundary of privilege: whole, or not at all."""

import errno
import json
import pickle

import pytest

from ibhostdev import (
    BatchFailed,
    BatchResult,
    Guid,
    IbHostdevError,
    Link,
    OnError,
    PciAddress,
    PKey,
    Policy,
    VfResult,
    VfState,
    Vif,
    errors,
)
from ibhostdev.privilege import plain, request
from ibhostdev.privilege.request import Request, read_answer, run

VIFS = (
    Vif.parse("0000:3b:00.2", "fa:16:3e:00:00:01", "default"),
    Vif.parse(None, "fa:16:3e:00:00:02"),
    Vif.parse(
        "0000:3b:00.4", "fa:16:3e:00:00:03", None, "02:00:00:12:34:56:78:9a"
    ),
    Vif.parse(None, "fa:16:3e:00:00:04")._replace(pkey=PKey.parse("5:both")),
)
FULL = Request(
    "unplug",
    VIFS,
    Policy.UP,
    OnError.CONTINUE,
    False,
    "mlx5_sysfs",
    True,
    {"default": ("ib0", "0000:3b:00.0")},
    Link.LOWERED,
    1.5,
)


def tuples(value):
    """As msgpack gives lists back."""
    if isinstance(value, list):
        return tuple(tuples(one) for one in value)
    if isinstance(value, dict):
        return {key: tuples(one) for key, one in value.items()}
    return value


def is_plain(value):
    """Exactly of these types: a subclass may be none to a serializer."""
    if type(value) is dict:
        return all(type(k) is str and is_plain(v) for k, v in value.items())
    if type(value) is list:
        return all(is_plain(one) for one in value)
    return value is None or type(value) in (str, int, float, bool)


# -- requests -------------------------------------------------------------


ADJUST = Request(
    "adjust",
    VIFS[:1],
    states=(VfState(policy=Policy.DOWN, pkeys=("3", "none")),),
)


@pytest.mark.parametrize("asked", [FULL, ADJUST, Request("plug", ())])
@pytest.mark.parametrize("change", [lambda plain: plain, tuples])
def test_a_request_comes_through_whole(asked, change):
    sent = asked.to_plain()
    assert is_plain(sent)
    assert Request.from_plain(change(sent)) == asked
    assert Request.from_json(asked.to_json()) == asked


def test_the_shortest_request_is_complete():
    asked = Request.from_plain({"action": "plug", "vifs": []})
    assert asked == Request("plug", ())


@pytest.mark.parametrize(
    "states",
    [
        [],
        [{}, {}],
        [{"policy": "high"}],
        [{"pkey": "../../0"}],
        [{"pkey": "1234"}],
        [{"pkey": 3}],
        [{"guid": "1"}],
        None,
    ],
)
def test_what_is_no_state_is_refused(states):
    with pytest.raises(errors.InvalidInput):
        Request.from_plain(ADJUST.to_plain() | {"states": states})


def test_only_who_adjusts_has_states():
    plug = Request("plug", VIFS[:1]).to_plain()
    with pytest.raises(errors.InvalidInput):
        Request.from_plain(plug | {"states": [{}]})


def altered(**changes):
    return FULL.to_plain() | changes


def vif(**changes):
    return altered(vifs=[FULL.to_plain()["vifs"][0] | changes])


BAD = {
    "none": None,
    "list": [],
    "text": "plug",
    "nothing": {},
    "unknown key": altered(path="/etc/shadow"),
    "number as key": {1: 2},
    "action": altered(action="reboot"),
    "action list": altered(action=["plug"]),
    "no vifs": {"action": "plug"},
    "vifs mapping": altered(vifs={}),
    "vifs text": altered(vifs="0000:3b:00.2"),
    "vif text": altered(vifs=["0000:3b:00.2"]),
    "vif key": vif(path="/etc/shadow"),
    "path for pci": vif(pci="../../../etc/shadow"),
    "newline after pci": vif(pci="0000:3b:00.2\n/x"),
    "bytes for pci": vif(pci=b"0000:3b:00.2"),
    "no guid": vif(guid=None),
    "number for guid": vif(guid=1),
    "mac for guid": vif(guid="fa:16:3e:00:00:01"),
    "long guid": vif(guid="0" * 65),
    "number for node guid": vif(node_guid=1),
    "mac for node guid": vif(node_guid="fa:16:3e:00:00:01"),
    "empty node guid": vif(node_guid=""),
    "number for pkey": vif(pkey=0x8001),
    "reserved pkey": vif(pkey="0x8000"),
    "empty pkey": vif(pkey=""),
    "empty network": vif(physical_network=""),
    "long network": vif(physical_network="n" * 65),
    "control character": vif(physical_network="a\x1b[2J"),
    "list for network": vif(physical_network=["default"]),
    "policy": altered(policy="sideways"),
    "until": altered(until="soon"),
    "boolean for until": altered(until=True),
    "link": altered(link="sideways"),
    "boolean for link": altered(link=True),
    "boolean for policy": altered(policy=True),
    "on_error": altered(on_error="panic"),
    "no on_error": altered(on_error=None),
    "number for rebind": altered(rebind=1),
    "text for rebind": altered(rebind="false"),
    "number for mechanism": altered(mechanism=1),
    "long mechanism": altered(mechanism="m" * 65),
    "networks list": altered(physical_networks=["default:ib0"]),
    "networks text": altered(physical_networks={"default": "ib0"}),
    "network number": altered(physical_networks={"default": [0]}),
    "network empty": altered(physical_networks={"": ["ib0"]}),
    "networks number": altered(physical_networks={1: ["ib0"]}),
    "many networks": altered(
        physical_networks={str(n): [] for n in range(257)}
    ),
    "many devices": altered(physical_networks={"default": ["ib0"] * 257}),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_what_is_no_request_is_refused(bad):
    with pytest.raises(errors.InvalidInput):
        Request.from_plain(bad)
    # Before there is a host that it could be done on.
    answer = run(bad, lambda _: pytest.fail("connected"))
    assert answer["error"]["type"] == "InvalidInput"


def test_a_bad_vif_is_told_by_its_place():
    asked = altered(vifs=[*FULL.to_plain()["vifs"], {"guid": "x"}])
    with pytest.raises(errors.InvalidInput, match=r"vifs\[4\]"):
        Request.from_plain(asked)


def test_the_number_of_vifs_is_limited():
    guids = [str(Guid(n)) for n in range(request.MAX_VIFS + 1)]
    many = [{"guid": guid} for guid in guids]
    Request.from_plain({"action": "plug", "vifs": many[:-1]})
    with pytest.raises(errors.InvalidInput, match="4096"):
        Request.from_plain({"action": "plug", "vifs": many})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"plug",
        b"[" * 100_000,
        b'{"action": "plug", "vifs": []} {}',
        b'{"action": "plug", "action": "unplug", "vifs": []}',
        b'{"action": "plug", "vifs": [], "policy": "up", "policy": null}',
        b" " * request.MAX_BYTES + b'{"action": "plug", "vifs": []}',
    ],
    ids=["nothing", "bytes", "word", "deep", "two", "twice", "twin", "long"],
)
def test_what_is_no_json_of_a_request_is_refused(data):
    with pytest.raises(errors.InvalidInput):
        Request.from_json(data)


def test_a_full_batch_fits_into_a_pipe():
    vifs = [
        Vif(PciAddress("0000:3b:00.2"), Guid(n), "physnet" * 5)
        for n in range(request.MAX_VIFS)
    ]
    data = Request("plug", tuple(vifs)).to_json()
    assert len(Request.from_json(data).vifs) == request.MAX_VIFS


# -- answers --------------------------------------------------------------

PLUGGED = VfState(
    Guid.from_mac("fa:16:3e:00:00:01"),
    Guid.from_mac("fa:16:3e:00:00:01"),
    Policy.FOLLOW,
    ("none", "1"),
)
DONE = VfResult(
    PciAddress("0000:3b:00.2"),
    PLUGGED,
    VfState(),
    PLUGGED,
    "mlx5_netlink",
    changed=True,
    verified=False,
)


def failed(error):
    return VfResult(PciAddress("0000:3b:00.3"), PLUGGED, error=error)


def crossing(outcome, change=tuples):
    sent = plain.outcome_to_plain(outcome)
    assert is_plain(sent)
    json.dumps(sent)
    return read_answer(change(sent))


def test_a_result_comes_back_whole():
    result = BatchResult((DONE, VfResult(None, VfState())), ("mind the gap",))
    assert crossing(result) == result
    assert crossing(result, lambda sent: sent) == result


def test_who_a_guid_was_taken_from_comes_back():
    """But for who failed: its VIF has the error."""
    bad = failed(IbHostdevError("refused"))
    result = BatchResult((DONE,), moved=(DONE, bad))
    assert list(crossing(result).moved) == [DONE]
    whole = pickle.loads(pickle.dumps(result))
    assert [one.pci for one in whole.moved] == [DONE.pci, bad.pci]


ALL_FIELDS = ("refused", "0000:3b:00.3", "policy", errno.EIO, "try again")


def kinds():
    found, todo = [], [IbHostdevError]
    while todo:
        kind = todo.pop()
        todo.extend(kind.__subclasses__())
        if kind.__module__ == errors.__name__:
            found.append(kind)
    return found


@pytest.mark.parametrize("kind", kinds())
def test_an_error_comes_back_as_what_it_was(kind):
    with pytest.raises(IbHostdevError) as caught:
        crossing(kind(*ALL_FIELDS))
    assert type(caught.value) is kind
    assert caught.value.args == ALL_FIELDS


@pytest.mark.parametrize("kind", kinds())
def test_a_failed_batch_comes_back_with_each_of_its_vfs(kind):
    result = BatchResult((DONE, failed(kind(*ALL_FIELDS))), ("warned",))
    sent = BatchFailed.of(result)
    with pytest.raises(BatchFailed) as caught:
        crossing(sent)
    assert str(caught.value) == str(sent)
    one, two = caught.value.result.results
    assert one == DONE
    assert type(two.error) is kind
    assert two.error.args == ALL_FIELDS
    assert caught.value.result.warnings == ("warned",)


@pytest.mark.parametrize("name", ["os", "_errno", "Boom", "_x"])
def test_only_our_own_errors_are_rebuilt(name):
    sent = plain.outcome_to_plain(IbHostdevError("refused"))
    sent["error"]["type"] = name
    with pytest.raises(IbHostdevError) as caught:
        read_answer(sent)
    assert type(caught.value) is IbHostdevError


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        {"results": [{}], "warnings": [], "error": None},
        {"results": [], "warnings": [], "error": {"type": "BatchFailed"}},
        {"results": [], "warnings": [], "error": {"type": "TimedOut"}},
    ],
)
def test_a_malformed_answer_is_an_error_of_ours(answer):
    with pytest.raises(IbHostdevError, match="malformed"):
        read_answer(answer)


# -- the privileged side --------------------------------------------------


def test_a_batch_runs_on_the_other_side(bed):
    from tests.testbed import Hca

    bed.build(Hca(vfs=2))
    vifs = tuple(
        Vif.parse(bed.vf(0, index), f"fa:16:3e:00:00:0{index}")
        for index in (0, 1)
    )
    host = bed.connect()
    plug = Request("plug", vifs).to_plain()
    result = read_answer(tuples(run(tuples(plug), lambda _: host)))
    assert [one.changed for one in result.results] == [True, True]
    assert {seen.node for seen in bed.seen(0)} == {
        str(vif.guid) for vif in vifs
    }

    dry = Request("unplug", vifs, dry_run=True).to_plain()
    result = read_answer(run(dry, lambda _: host))
    assert [one.changed for one in result.results] == [True, True]
    assert not any(one.verified for one in result.results)
    assert {seen.node for seen in bed.seen(0)} == {
        str(vif.guid) for vif in vifs
    }

    bed.fail(bed.vf(0, 1), errno.EIO)
    unplug = Request("unplug", vifs, on_error=OnError.CONTINUE).to_plain()
    with pytest.raises(BatchFailed) as caught:
        read_answer(tuples(run(unplug, lambda _: host)))
    good, bad = caught.value.result.results
    assert good.error is None
    assert (bad.error.errno, bad.error.device) == (errno.EIO, bed.vf(0, 1))


def test_an_empty_batch_touches_nothing(bed):
    from tests.testbed import Hca

    bed.build(Hca(vfs=2))
    host = bed.connect()
    bed.reset_counts()
    answer = run(Request("plug", ()).to_plain(), lambda _: host)
    assert read_answer(answer) == BatchResult(())
    assert (bed.counts().modify, bed.counts().getlink) == (0, 0)


def test_a_fault_of_our_own_is_told_and_not_raised():
    def connect(_):
        raise ZeroDivisionError("nought")

    with pytest.raises(IbHostdevError, match=r"ZeroDivisionError: nought"):
        read_answer(run(Request("plug", VIFS).to_plain(), connect))
