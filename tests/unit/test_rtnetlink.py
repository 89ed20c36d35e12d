# SPDX-License-Identifier: Apache-2.0
"""The rtnetlink floor: its bytes, its parser, and its manners towards a peer
that misbehaves. The peer is this test, over NETLINK_USERSOCK."""

import errno
import socket
import struct
import threading
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibhostdev._native.rtnetlink import (
    LINK_STATE,
    NODE_GUID,
    PORT_GUID,
    Socket,
    build_setlink,
    parse_link,
)

NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_NEWLINK, RTM_GETLINK, RTM_SETLINK = 16, 18, 19
NLM_F_MULTI, NLM_F_DUMP_INTR, NLM_F_DUMP = 2, 0x10, 0x300
IFLA_IFNAME, IFLA_NUM_VF, IFLA_VFINFO_LIST, IFLA_EXT_MASK = 3, 21, 22, 29
IFLA_VF_MAC = 1
USERSOCK = 2


def attr(kind, payload):
    data = struct.pack("=HH", 4 + len(payload), kind) + payload
    return data + bytes(-len(data) % 4)


def attrs(data):
    while data:
        length, kind = struct.unpack_from("=HH", data)
        assert length >= 4
        yield kind & 0x3FFF, data[4:length]
        data = data[length + -length % 4 :]


def message(kind, seq, payload, flags=0):
    return (
        struct.pack("=IHHII", 16 + len(payload), kind, flags, seq, 0) + payload
    )


def guid_attr(kind, vf, guid):
    return attr(kind, struct.pack("=IIQ", vf, 0, guid))


def vf_info(vf, node=None, port=None, state=0, guid_vf=None):
    nest = attr(IFLA_VF_MAC, struct.pack("=I32s", vf, b""))
    nest += attr(LINK_STATE, struct.pack("=II", vf, state))
    told = vf if guid_vf is None else guid_vf
    if node is not None:
        nest += guid_attr(NODE_GUID, told, node)
    if port is not None:
        nest += guid_attr(PORT_GUID, told, port)
    return attr(1, nest)


def link(ifindex, vfs=b"", name=b"ib0\0", num_vf=2):
    return (
        struct.pack("=BBHiII", 0, 0, 32, ifindex, 0, 0)
        + attr(IFLA_IFNAME, name)
        + attr(IFLA_NUM_VF, struct.pack("=I", num_vf))
        + attr(IFLA_VFINFO_LIST, vfs)
    )


def ack(seq, number=0):
    return message(NLMSG_ERROR, seq, struct.pack("=i", -number) + bytes(16))


# -- bytes ------------------------------------------------------------------


def test_a_set_message_byte_by_byte():
    """Against the layout of linux/if_link.h, written down by hand."""
    got = build_setlink(
        7,
        5,
        [(3, NODE_GUID, 0xFA163E0000123456), (3, LINK_STATE, 2)],
    )
    guid = struct.pack("=Q", 0xFA163E0000123456)
    assert got == (
        struct.pack("=IHHII", 76, 19, 0x05, 7, 0)
        + struct.pack("=BxHiII", 0, 0, 5, 0, 0)
        + struct.pack("=HH", 44, 22 | 0x8000)
        + struct.pack("=HH", 24, 1 | 0x8000)
        + struct.pack("=HHII", 20, 10, 3, 0) + guid
        + struct.pack("=HH", 16, 1 | 0x8000)
        + struct.pack("=HHII", 12, 5, 3, 2)
    )  # fmt: skip


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**16),
            st.sampled_from([NODE_GUID, PORT_GUID]),
            st.integers(0, 2**64 - 1),
        ),
        max_size=300,
    )
)
def test_each_attribute_has_a_nest_of_its_own(sets):
    """The kernel would drop a port GUID that shares one with a node GUID."""
    got = build_setlink(1, 1, sets)
    assert struct.unpack_from("=I", got)[0] == len(got)
    ((kind, nests),) = attrs(got[32:])
    assert kind == IFLA_VFINFO_LIST
    seen = []
    for _, nest in attrs(nests):
        ((kind, payload),) = attrs(nest)
        vf, guid = struct.unpack("=I4xQ", payload)
        seen.append((vf, kind, guid))
    assert seen == sets


def test_what_no_message_can_say_is_refused():
    with pytest.raises(ValueError, match="no attribute"):
        build_setlink(1, 1, [(0, 1, 0)])
    with pytest.raises(ValueError, match="1025"):
        build_setlink(1, 1, [(0, NODE_GUID, 1)] * 1025)
    with pytest.raises(OverflowError):
        build_setlink(1, 1, [(0, NODE_GUID, 2**64)])
    with pytest.raises(OverflowError):
        build_setlink(1, 1, [(-1, NODE_GUID, 1)])


# -- parser -----------------------------------------------------------------


def test_vfs_are_known_by_their_number_not_their_place():
    """The kernel leaves out a VF that its driver could not be asked about."""
    got = parse_link(link(5, vf_info(0, 1, 2, 0) + vf_info(2, 3, 4, 1)))
    assert got == (5, "ib0", "", 2, [(0, 1, 2, 0), (2, 3, 4, 1)])


def test_linux_5_5_gave_every_guid_to_vf_0():
    got = parse_link(link(5, vf_info(6, 1, 2, 0, guid_vf=0)))
    assert got[4] == [(6, 1, 2, 0)]


def test_a_kernel_that_tells_no_guids():
    assert parse_link(link(5, vf_info(0)))[4] == [(0, None, None, 0)]


def test_a_list_of_two_hundred_vfs():
    vfs = [(n, n + 1, n + 2, n % 3) for n in range(200)]
    got = parse_link(link(5, b"".join(vf_info(*vf) for vf in vfs)))
    assert got[4] == vfs


def refusal(data):
    """The errno with which a reply is refused; 0 if it can be read."""
    try:
        parse_link(data)
    except OSError as error:
        return error.errno
    return 0


@given(st.binary(max_size=400))
def test_garbage_is_refused_or_read_but_never_past_its_end(data):
    assert refusal(data) in (0, errno.EBADMSG)


@given(st.data())
def test_a_reply_with_flipped_bytes(data):
    reply = bytearray(link(5, vf_info(0, 1, 2) + vf_info(1, 3, 4)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(reply) - 1))
        reply[at] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(reply)))
    assert refusal(bytes(reply[:end])) in (0, errno.EBADMSG)


# -- a peer -----------------------------------------------------------------


@contextmanager
def peer(answer, timeout=60):
    """Serves ``answer(seq, type, flags, payload) -> [datagram, …]`` for each
    message; gives a Socket to it, and the requests that it saw."""
    server = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, USERSOCK)
    server.bind((0, 0))
    seen = []

    def serve():
        while True:
            data, sender = server.recvfrom(1 << 18)
            while data:
                length, kind, flags, seq, _ = struct.unpack_from(
                    "=IHHII", data
                )
                if kind == 0x7FFF:
                    return
                seen.append((kind, flags, data[16:length]))
                for reply in answer(seq, kind, flags, data[16:length]):
                    server.sendto(reply, sender)
                data = data[length + -length % 4 :]

    thread = threading.Thread(target=serve)
    thread.start()
    port = server.getsockname()[0]
    try:
        with Socket(USERSOCK, port, timeout=timeout) as client:
            yield client, seen
    finally:
        with socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW, USERSOCK
        ) as stop:
            stop.sendto(message(0x7FFF, 0, b""), (port, 0))
        thread.join()
        server.close()


def one(vf):
    return [(vf, NODE_GUID, vf + 1)]


def test_each_message_has_its_own_answer_whatever_the_order():
    held = []

    def answer(seq, kind, flags, payload):
        held.append(ack(seq, errno.EIO if len(held) == 2 else 0))
        return reversed(held) if len(held) == 5 else []

    with peer(answer) as (client, seen):
        assert client.set_vfs(5, [one(n) for n in range(5)]) == [
            0, 0, errno.EIO, 0, 0,
        ]  # fmt: skip
    assert len(seen) == 5


def test_more_messages_than_fit_into_one_send():
    with peer(lambda seq, *_: [ack(seq)]) as (client, seen):
        big = [(n, NODE_GUID, 1) for n in range(1000)]
        assert client.set_vfs(5, [big] * 8) == [0] * 8
        assert client.set_vfs(5, [one(n) for n in range(500)]) == [0] * 500
    assert len(seen) == 508


def test_an_answer_that_does_not_come_is_a_time_out():
    def answer(seq, kind, flags, payload):
        return [] if payload == seen_last else [ack(seq)]

    seen_last = build_setlink(0, 5, one(1))[16:]
    with peer(answer, timeout=3) as (client, _):
        assert client.set_vfs(5, [one(0), one(1), one(2)]) == [
            0, errno.ETIMEDOUT, 0,
        ]  # fmt: skip


def test_answers_to_other_questions_are_not_ours():
    def answer(seq, kind, flags, payload):
        return [ack(seq + 100, errno.EIO), ack(seq - 1, errno.EIO), b"\0" * 8,
                ack(seq)]  # fmt: skip

    with peer(answer) as (client, _):
        assert client.set_vfs(5, [one(0)]) == [0]


def test_a_positive_error_is_no_success():
    with peer(lambda seq, *_: [ack(seq, -5)]) as (client, _):
        assert client.set_vfs(5, [one(0)]) == [errno.EBADMSG]


def test_emsgsize_is_answered_by_a_dump():
    """Linux 5.5 to 6.14 from some 16 to 64 VFs on."""

    def answer(seq, kind, flags, payload):
        if not flags & NLM_F_DUMP:
            return [ack(seq, errno.EMSGSIZE)]
        multi = NLM_F_MULTI
        return [
            message(RTM_NEWLINK, seq, link(4, vf_info(0, 7, 7)), multi)
            + message(RTM_NEWLINK, seq, link(5, vf_info(1, 8, 9)), multi),
            message(RTM_NEWLINK, seq, link(6), multi),
            message(NLMSG_DONE, seq, struct.pack("=i", 0), multi),
        ]

    with peer(answer) as (client, seen):
        assert client.link(5) == ("ib0", "", 2, [(1, 8, 9, 0)], True)
    assert len(seen) == 2
    for _, _, payload in seen:
        # VF data, without the statistics that would cost a query each
        assert dict(attrs(payload[16:])) == {
            IFLA_EXT_MASK: struct.pack("=I", 1 | 8)
        }


def test_a_dump_that_was_interrupted_is_asked_for_again():
    rounds = []

    def answer(seq, kind, flags, payload):
        if not flags & NLM_F_DUMP:
            return [ack(seq, errno.EMSGSIZE)]
        rounds.append(seq)
        late = len(rounds) < 3
        flag = NLM_F_MULTI | (NLM_F_DUMP_INTR if late else 0)
        return [
            message(
                RTM_NEWLINK,
                seq,
                link(4 if late else 5, vf_info(0, 1, 1)),
                flag,
            ),
            message(NLMSG_DONE, seq, struct.pack("=i", 0), flag),
        ]

    with peer(answer) as (client, _):
        assert client.link(5)[3] == [(0, 1, 1, 0)]
    assert len(rounds) == 3


@pytest.mark.parametrize(
    ("replies", "number"),
    [
        (lambda seq: [ack(seq, errno.ENODEV)], errno.ENODEV),
        (lambda seq: [message(RTM_NEWLINK, seq, b"short")], errno.EBADMSG),
        (lambda seq: [message(RTM_NEWLINK, seq, link(5))[:40]],
         errno.EBADMSG),
        (lambda seq: [struct.pack("=IHHII", 4, RTM_NEWLINK, 0, seq, 0)],
         errno.EBADMSG),
        (lambda seq: [message(RTM_NEWLINK, seq, link(6))], errno.ENODEV),
        (lambda seq: [message(NLMSG_ERROR, seq, b"")], errno.EBADMSG),
        (lambda seq: [], errno.ETIMEDOUT),
    ],
)  # fmt: skip
def test_bad_answers_are_errors_that_say_what_was_asked(replies, number):
    timeout = 1 if number == errno.ETIMEDOUT else 60
    with peer(lambda seq, *_: replies(seq), timeout) as (client, _):
        with pytest.raises(OSError, match="RTM_GETLINK of ifindex 5") as got:
            client.link(5)
        assert got.value.errno == number


def test_a_reply_of_any_size_is_received_whole():
    vfs = b"".join(vf_info(n, n, n) for n in range(250))
    padding = attr(99, bytes(60000)) * 2

    def answer(seq, *_):
        return [message(RTM_NEWLINK, seq, link(5, vfs) + padding)]

    with peer(answer) as (client, _):
        assert len(client.link(5)[3]) == 250


def test_threads_share_a_socket():
    with peer(lambda seq, *_: [ack(seq)]) as (client, seen):
        answers = []

        def work():
            answers.extend(
                client.set_vfs(5, [one(n) for n in range(20)])[0]
                for _ in range(20)
            )

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [0] * 80
    assert len(seen) == 4 * 20 * 20


# -- the kernel -------------------------------------------------------------


@pytest.mark.usefixtures("nothing_left_open")
def test_the_kernel_answers():
    for _ in range(20):
        with Socket() as client:
            assert client.link(1)[0] == "lo"
            (answer,) = client.set_vfs(1, [one(0)])
            # lo has no such operation; without the right to try, EPERM
            assert answer in (errno.EOPNOTSUPP, errno.EPERM)
            with pytest.raises(OSError, match="ifindex") as caught:
                client.link(0x7FFFFFF0)
            assert caught.value.errno == errno.ENODEV
        client.close()


def test_the_kernels_answers_are_never_more_than_the_socket_holds():
    """It answers during the send, and drops what has no room (ENOBUFS)."""
    with Socket() as client:
        answers = client.set_vfs(1, [one(n) for n in range(3000)])
    assert len(answers) == 3000
    assert len(set(answers)) == 1
    assert answers[0] in (errno.EOPNOTSUPP, errno.EPERM)


def test_a_closed_socket_says_so():
    client = Socket()
    client.close()
    with pytest.raises(OSError, match="ifindex 1") as caught:
        client.link(1)
    assert caught.value.errno == errno.EBADF
    assert client.set_vfs(1, [one(0)]) == [errno.EBADF]
