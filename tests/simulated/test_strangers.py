# SPDX-License-Identifier: Apache-2.0
"""A simulated host among people who do not mean well, and files that are
not what they are to be."""

import errno
import json
import os
import socket
import struct

import pytest

from ibhostdev import IbHostdevError, Vif, simulate
from ibhostdev.cli import main
from ibhostdev.errors import AccessDenied, InvalidInput
from ibhostdev.simulate.netlink import (
    ACK,
    DUMP,
    GETLINK,
    IFINFO,
    IFLA_IFNAME,
    NEWLINK,
    PATH,
    REQUEST,
    SETLINK,
    USERSOCK,
    VALUE,
    WRITE,
    attribute,
    pack,
)
from ibhostdev.simulate.server import SimulatedHost
from tests.flavours import guid, mac
from tests.testbed import Hca

BY_NAME = IFINFO.pack(0, 0, 0, 0, 0)
ODD = [
    attribute(IFLA_IFNAME, b"\xff\xfe\0"),
    attribute(IFLA_IFNAME, b""),
    attribute(29, b""),
    attribute(29, b"\xff" * 300),
    attribute(22, b"\xff" * 64),
    attribute(22, attribute(1, attribute(10, b"\xff" * 16))),
    b"\x03\0",
]
BAD = [
    b"\0",
    b"\xff" * 4000,
    struct.pack("=IHHII", 16, NEWLINK, REQUEST, 1, 0),
    *[
        pack(kind, flags, 1, head + rest)
        for kind in (NEWLINK, GETLINK, SETLINK, WRITE)
        for flags in (REQUEST | ACK, REQUEST | DUMP)
        for head in (b"", BY_NAME, IFINFO.pack(0, 0, 2, 0, 0))
        for rest in ODD
    ],
    pack(WRITE, REQUEST, 1, attribute(PATH, b"\0") + attribute(VALUE, b"")),
    pack(WRITE, REQUEST, 1, attribute(PATH, b"a" * 5000)),
    pack(WRITE, REQUEST, 1, attribute(PATH, b"../../etc/passwd")),
]


def test_no_datagram_ends_it(bed):
    bed.build(Hca("mlx5", vfs=2))
    state = json.loads((bed.folder / "host.json").read_text())
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW, USERSOCK
    ) as stranger:
        stranger.bind((0, 0))
        for port in (state["netlink_port"], state["sysfs_port"]):
            for datagram in BAD:
                stranger.sendto(datagram, (port, 0))
    host = bed.connect()
    assert host.plug([Vif.parse(bed.vf(0, 0), mac(1))]).ok
    assert bed.seen(0)[0].port == guid(1)


@pytest.mark.parametrize("vfs", [278, 900])
def test_more_vfs_than_a_message_can_tell_of(bed, vfs):
    """The kernel's answer does not hold together then."""
    bed.build(Hca("mlx5", vfs=vfs), Hca("mlx5", vfs=2))
    host = bed.connect()
    for _ in range(2):
        with pytest.raises(IbHostdevError, match="fewer") as caught:
            host.survey(host.pfs[0])
        assert caught.value.attribute
    assert len(host.survey(host.pfs[1])) == 2


def test_as_many_as_it_can(bed):
    bed.build(Hca("mlx5", vfs=277))
    host = bed.connect()
    host.plug([Vif.parse(bed.vf(0, 276), mac(1))])
    assert bed.seen(0)[276].port == guid(1)


def test_what_fewer_vfs_send_than_it_can_tell_of(bed):
    """All else of them can be told."""
    bed.build(Hca("mlx5", vfs=196), Hca("mlx5", vfs=195))
    host = bed.connect()
    full, most = host.pfs
    with pytest.raises(IbHostdevError, match="than 195 VFs") as caught:
        host.traffic(full)
    assert caught.value.errno == errno.EBADMSG
    assert len(host.survey(full)) == 196
    assert len(host.traffic(most)) == 195


# -- the folder -----------------------------------------------------------


def test_somebody_else_s(bed, monkeypatch):
    bed.build(Hca("mlx5", vfs=1))
    me = os.geteuid()
    if me == 0:
        os.chown(bed.folder, 65534, 65534)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(AccessDenied, match="somebody else's"):
        simulate.connect(bed.folder)
    with pytest.raises(AccessDenied, match="somebody else's"):
        SimulatedHost(bed.folder).start()


def test_locks_are_not_led_elsewhere(bed, tmp_path):
    bed.build(Hca("mlx5", vfs=1))
    (bed.folder / "run").rmdir()
    (bed.folder / "run").symlink_to(tmp_path)
    vif = f"{bed.vf(0, 0)}={mac(1)}"
    assert main(["--host", str(bed.folder), "plug", vif]) == 3
    with pytest.raises(AccessDenied, match="of this simulated host's own"):
        simulate.connect(bed.folder)
    assert list(tmp_path.iterdir()) == []


STATE = {
    "simulated_host": 1,
    "pid": 1,
    "netlink_port": 1,
    "sysfs_port": 1,
    "physical_networks": {},
}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "1",
        "[" * 100_000,
        "\0" * (2 << 20),
        "\xff",
        json.dumps({"simulated_host": 1}),
        json.dumps(STATE | {"sysfs_port": "1"}),
        json.dumps(STATE | {"netlink_port": -1}),
        json.dumps(STATE | {"netlink_port": 1 << 32}),
        json.dumps(STATE | {"netlink_port": True}),
        json.dumps(STATE | {"pid": None}),
        json.dumps(STATE | {"physical_networks": []}),
        json.dumps(STATE | {"physical_networks": {"default": 1}}),
        json.dumps(STATE | {"physical_networks": {"default": [1]}}),
    ],
    ids=lambda text: text[:60],
)
def test_a_description_that_is_none(tmp_path, text):
    (tmp_path / "host.json").write_text(text, encoding="latin-1")
    refused(tmp_path)


@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        os.mkdir,
        lambda path: os.symlink("/dev/zero", path),
        lambda path: os.symlink("host.json", path),
    ],
    ids=["fifo", "folder", "endless", "itself"],
)
def test_a_description_that_is_no_file(tmp_path, make):
    make(tmp_path / "host.json")
    refused(tmp_path)


def refused(folder):
    with pytest.raises(InvalidInput, match="not a simulated host"):
        simulate.connect(folder)
    with pytest.raises(InvalidInput, match="not a simulated host"):
        SimulatedHost(folder).start()
    for command in ("list", "doctor"):
        assert main(["--host", str(folder), command]) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["doctor"],
        ["unplug", mac(1)],
        ["libvirt-hook", "a", "b", "c"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_folder_that_is_not_named(monkeypatch, capsys, arguments):
    """It is not the machine itself then, nor the current folder."""
    monkeypatch.setenv("IBHOSTDEV_HOST", "")
    code = main(arguments)
    assert code == (1 if arguments[0] == "libvirt-hook" else 2)
    assert "no folder of a simulated host is named" in capsys.readouterr().err
    monkeypatch.delenv("IBHOSTDEV_HOST")
    assert main([*arguments, "--host", ""]) == code
