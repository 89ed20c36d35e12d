# SPDX-License-Identifier: Apache-2.0
"""A kernel that expects the answer about a PF to be 40 bytes a VF smaller
than it is, as Linux 5.5 to 6.14 do: it refuses with EMSGSIZE, and warns."""

import json
import re
import subprocess

import pytest
from pyroute2 import IPRoute

from ibhostdev.cli import main
from tests.flavours import ONES, guid, mac, vifs
from tests.kernel.testbed import DEVICES, knob, run
from tests.testbed import Hca, Seen

VFS = 64
PLUGGED = [Seen(guid(n), guid(n), "follow") for n in range(1, VFS + 1)]
IDLE = Seen(ONES, ONES, "down")


@pytest.fixture(autouse=True)
def kernel(bed):
    bed.build(Hca("mlx5", vfs=2), Hca("mlx5", vfs=VFS))
    knob("estimate_lacks", 40)
    yield
    knob("estimate_lacks", 0)


def refusals():
    return len(re.findall(r"WARNING: .* rtnl_getlink\+", run("dmesg")))


def test_ip_is_refused_and_a_dump_is_not(bed):
    few, many = (next((DEVICES / pf / "net").iterdir()).name for pf in bed.pfs)
    # ip asks for statistics, too: without the GUIDs of so few VFs all the
    # rest would have room in what the kernel rounds its estimate up to.
    knob("estimate_lacks", 200)
    assert len(json.loads(run("ip", "-j", "link", "show", "dev", few))) == 1
    before = refusals()
    done = subprocess.run(
        ["ip", "link", "show", "dev", many],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Message too long" in done.stderr
    refused = refusals()
    assert refused > before
    # Not by ip, which looks at the length of a datagram before it gives room
    # for it: that is all the room that the next one gets.
    with IPRoute() as netlink:
        (told,) = (
            link.get_attr("IFLA_VFINFO_LIST").get_attrs("IFLA_VF_INFO")
            for link in netlink.get_links(ext_mask=1)
            if link.get_attr("IFLA_IFNAME") == many
        )
    assert len(told) == VFS
    assert refusals() == refused


def test_it_is_not_asked_again_what_it_refused(bed):
    before = refusals()
    host = bed.connect()
    batch = vifs(bed, *range(1, VFS + 1), pf=1)
    assert all(one.verified for one in host.plug(batch).results)
    assert bed.seen(1) == PLUGGED
    bed.reset_counts()
    assert not any(one.changed for one in host.plug(batch).results)
    assert bed.counts().modify == 0
    host.unplug(batch[1:])
    assert bed.seen(1) == [PLUGGED[0], *[IDLE] * (VFS - 1)]
    assert refusals() == before + 1


def test_list_and_doctor(bed, capsys):
    bed.connect().plug(vifs(bed, *range(1, VFS + 1), pf=1))
    assert main(["list", "--json", bed.pfs[1]]) == 0
    told = json.loads(capsys.readouterr().out)["pfs"][0]["vfs"]
    assert [vf["mac"] for vf in told] == [mac(n) for n in range(1, VFS + 1)]
    main(["doctor", "--json"])
    warned = [
        one["device"]
        for one in json.loads(capsys.readouterr().out)["findings"]
        if (one["check"], one["severity"]) == ("large answers", "warning")
    ]
    assert warned == [bed.pfs[1]]
