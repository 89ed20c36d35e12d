# SPDX-License-Identifier: Apache-2.0
"""ibhostdev list."""

import os
import pty
import re
import subprocess
import sys

import pytest

from ibhostdev import PKey, Vif
from tests.testbed import Hca

GUID = "fa:16:3e:00:00:00:00:01"
MAC = "fa:16:3e:00:00:01"
ONES = "ff:ff:ff:ff:ff:ff:ff:ff"


def test_json_has_all_that_is_known_of_each_vf(host, run):
    host.seed(0, 1, GUID, GUID, "follow")
    host.seed(0, 2, "00:11:22:33:44:55:66:77", ONES, "up")
    host.bind(host.vf(0, 3), "vfio-pci")
    done = run("list", "--json")
    assert (done.code, done.err) == (0, "")
    first, second = done.json["pfs"]
    assert second["pci"] == host.pfs[1]
    vfs = first.pop("vfs")
    assert first == {
        "pci": host.pfs[0],
        "family": "mlx5",
        "mechanism": "mlx5_netlink",
        "mechanism_reasons": {},
        "ib_device": "mlx5_0",
        "netdev": "ib0",
        "ports": [
            {
                "number": 1,
                "state": "ACTIVE",
                "sm_lid": 1,
                "physical_networks": ["default"],
            }
        ],
        "numvfs": 4,
        "totalvfs": 4,
        "error": None,
    }
    assert [vf["index"] for vf in vfs] == [0, 1, 2, 3]
    assert [vf["pci"] for vf in vfs] == [host.vf(0, n) for n in range(4)]
    assert all(isinstance(vf.pop("iommu_group"), int) for vf in vfs)
    assert vfs[0] == {
        "index": 0,
        "pci": host.vf(0, 0),
        "driver": "mlx5_core",
        "node_guid": None,
        "port_guid": None,
        "mac": None,
        "policy": "down",
        "pkey": None,
        "in_use": False,
        "domain": None,
        "domain_runs": None,
    }
    assert vfs[1]["node_guid"] == vfs[1]["port_guid"] == GUID
    assert (vfs[1]["mac"], vfs[1]["policy"]) == (MAC, "follow")
    assert vfs[2]["node_guid"] == "00:11:22:33:44:55:66:77"
    assert (vfs[2]["port_guid"], vfs[2]["mac"]) == (ONES, None)
    assert vfs[3]["driver"] == "vfio-pci"


def test_the_networks_of_each_port(bed, run):
    bed.build(Hca("mlx4", vfs=1, ports=2), Hca("mlx4", vfs=1))
    mapping = f"a:ib0,b:ib1,c:{bed.pfs[0].upper()}"
    mapped = ["--physical-device-mappings", mapping]
    first, second = run(*mapped, "list", "--json").json["pfs"]
    assert [p["physical_networks"] for p in first["ports"]] == [
        ["a", "c"],
        ["b"],
    ]
    assert [p["physical_networks"] for p in second["ports"]] == [[]]
    shown = run(*mapped, "list").out
    for told in ("network a, c\n", "network b\n", "no network mapped"):
        assert told in shown
    (first, _) = run("--physical-device-mappings=", "list", "--json").json[
        "pfs"
    ]
    assert first["ports"][0]["physical_networks"] is None


def test_a_vf_without_a_driver_or_in_a_guests_hands(host, run):
    host.bind(host.vf(0, 0), None)
    with host.hold(host.vf(0, 1)):
        vfs = run("list", "--json").json["pfs"][0]["vfs"]
        people = run("list").out
    assert (vfs[0]["driver"], vfs[0]["in_use"]) == (None, False)
    assert (vfs[1]["driver"], vfs[1]["in_use"]) == ("vfio-pci", True)
    (line,) = (x for x in people.splitlines() if "guest" in x)
    assert host.vf(0, 1) in line


def test_where_nothing_serves_it_says_why(bed, run):
    bed.build(Hca(vfs=2, netdev=False))
    (pf,) = run("list", "--json").json["pfs"]
    assert pf["mechanism"] is pf["netdev"] is None
    assert "no IPoIB network device" in pf["mechanism_reasons"]["mlx5_netlink"]
    assert {vf["port_guid"] for vf in pf["vfs"]} == {None}
    done = run("list")
    assert done.code == 0
    assert "no IPoIB network device" in done.out
    assert "nothing can set identities" in done.out


def test_two_ports_of_an_mlx4(bed, run):
    bed.build(Hca("mlx4", vfs=2, ports=2))
    (pf,) = run("list", "--json").json["pfs"]
    assert pf["mechanism"] == "mlx4_sysfs"
    assert [port["number"] for port in pf["ports"]] == [1, 2]
    for vf in pf["vfs"]:
        assert (vf["node_guid"], vf["policy"]) == (None, None)
        assert len(vf["port_guids"]) == 2
    text = run("list").out
    assert "on port 2" in text
    assert "not mlx5" not in text  # that an mlx4 is none is no news


def test_the_partitions_of_an_mlx4(bed, run):
    bed.build(Hca("mlx4", vfs=4), Hca("mlx5", vfs=1))
    bed.pkeys(0x7FFF, 0x8001, 0x0005)
    host = bed.connect()
    for index, pkey in enumerate((PKey(1), PKey.parse("5:limited"), None)):
        vif = Vif.parse(bed.vf(0, index), f"{MAC[:-1]}{index}")
        host.plug([vif._replace(pkey=pkey)])
    told = ["0x8001", "0x0005", None, "0x7fff"]
    first, second = run("list", "--json").json["pfs"]
    assert [vf["pkey"] for vf in first["vfs"]] == told
    assert [vf["pkey"] for vf in second["vfs"]] == [None]
    (pf,) = run("list", "--json", bed.vf(0, 1)).json["pfs"]
    assert [vf["pkey"] for vf in pf["vfs"]] == ["0x0005"]
    head, *lines = run("list").out.split("\n\n")[0].splitlines()[2:]
    column = head.index("P_Key")
    assert [line[column:].split()[0] for line in lines] == [
        "0x8001",
        "0x0005",
        "none",
        "0x7fff",
    ]
    assert "P_Key" not in run("list", bed.pfs[1]).out
    # A table that cannot be read tells nothing.
    for table in bed.sys.glob(
        "bus/pci/devices/*/infiniband/*/iov/ports/*/pkeys"
    ):
        (table / "1").unlink()
    first, _ = run("list", "--json").json["pfs"]
    assert [vf["pkey"] for vf in first["vfs"]] == [None, *told[1:]]
    lines = run("list").out.splitlines()
    assert lines[3][column:].split()[0] == "-"


def test_the_partitions_of_two_ports(bed, run):
    bed.build(Hca("mlx4", vfs=1, ports=2))
    (pf,) = run("list", "--json").json["pfs"]
    assert [vf["pkeys"] for vf in pf["vfs"]] == [["0xffff", "0xffff"]]
    assert run("list").out.count("P_Key") == 2


def test_two_guids_are_both_shown(host, run):
    node, port = "00:11:22:33:44:55:66:77", GUID
    host.seed(0, 2, node, port, "follow")
    (line,) = (x for x in run("list").out.splitlines() if node in x)
    assert f"node {node} port {port}" in line
    vf = run("list", "--json").json["pfs"][0]["vfs"][2]
    assert (vf["node_guid"], vf["port_guid"]) == (node, port)


def test_a_table_for_people(host, run):
    host.seed(0, 1, GUID, GUID, "follow")
    host.seed(0, 2, GUID, ONES, "up")
    lines = run("list").out.splitlines()
    assert lines[0].split() == [
        *(host.pfs[0], "mlx5", "mlx5_0", "ib0"),
        *("4", "of", "4", "VFs", "by", "mlx5_netlink"),
    ]
    assert lines[1] == "  port 1 ACTIVE, SM lid 1, network default"
    assert MAC in lines[4]
    assert "follow" in lines[4]
    assert lines[6].strip() == f"node {GUID} port {ONES}"
    assert lines[8] == ""
    assert lines[9].startswith(host.pfs[1])
    assert not any(line != line.rstrip() for line in lines)


def test_its_help_explains_the_words(host, run):
    shown = run("list", "--help").out
    for word in ("PF", "VIF", "GUID", "MAC", "identity", "idle", "not known",
                 "its own", "half its own", "policy", "group", "in …",
                 "by …", "network"):  # fmt: skip
        assert re.search(rf"\n +{word}:? +\w", shown), word
    assert "'ibhostdev list --help' explains the words" in run("--help").out


@pytest.mark.parametrize(
    "form", ["pci", "short", "upper", "libvirt", "ib", "netdev", "altname"]
)
def test_a_pf_by_any_of_its_names(host, run, form):
    pci = host.pfs[1]
    name = {
        "pci": pci,
        "short": pci.removeprefix("0000:"),
        "upper": pci.upper(),
        "ib": "mlx5_1",
        "libvirt": "pci_" + pci.replace(":", "_").replace(".", "_"),
        "netdev": "ib1",
        "altname": "ibp94s0",
    }[form]
    (pf,) = run("list", name, "--json").json["pfs"]
    assert pf["pci"] == pci
    assert len(pf["vfs"]) == 4


def test_one_vf_by_its_address(host, run):
    (pf,) = run("list", host.vf(1, 2), "--json").json["pfs"]
    assert [vf["index"] for vf in pf["vfs"]] == [2]
    pfs = run("list", host.vf(1, 2), "mlx5_1", "ib0", "--json").json["pfs"]
    assert [len(pf["vfs"]) for pf in pfs] == [4, 4]


@pytest.mark.parametrize("name", ["mlx5_9", "0000:ff:00.0", "../../etc", ""])
def test_a_name_that_means_nothing(host, run, name):
    done = run("list", name)
    assert done.code == 2
    assert done.out == ""
    assert "cure" in done.err
    done = run("list", name, "--json")
    assert done.code == 2
    assert done.json["error"]["type"] == "DeviceNotFound"


def test_garbage_in_sysfs_is_told_with_all_the_rest(bed, run):
    bed.build(Hca("mlx4", vfs=2), Hca("mlx5", vfs=2))
    folder = f"sys/bus/pci/devices/{bed.pfs[0]}/infiniband/mlx4_0/iov"
    file = bed.folder / folder / "ports/1/admin_guids/1"
    # moved there: what is written there is taken for a request
    garbage = bed.folder / "garbage"
    garbage.write_text("garbage\n")
    garbage.replace(file)
    done = run("list", "--json")
    assert done.code == 1
    assert "admin_guids/1" in done.err
    bad, good = done.json["pfs"]
    assert bad["error"]["device"] == bed.vf(0, 0)
    assert len(bad["vfs"]) == len(good["vfs"]) == 2
    assert good["vfs"][0]["policy"] == "down"
    assert bed.vf(0, 0) in run("list").out
    assert run("doctor").code == 1


def test_a_vf_that_firmware_does_not_tell_about(bed, run):
    bed.build(Hca(vfs=2))
    bed.fail_queries(bed.vf(0, 0), 5)
    done = run("list", "--json")
    (pf,) = done.json["pfs"]
    assert [vf["policy"] for vf in pf["vfs"]] == [None, "down"]
    assert "not known" in run("list").out


def test_no_colours_in_a_pipe(host, shell):
    host.seed(0, 1, GUID, GUID, "follow")
    for env in ({}, {"FORCE_COLOR": "1", "TERM": "xterm-256color"}):
        done = shell("list", env=env)
        assert done.code == 0
        assert "\x1b" not in done.out + done.err


def test_colours_and_the_same_words_on_a_terminal(host, shell):
    def on_terminal(**env: str) -> str:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [*host.command, "list"],
            stdout=theirs,
            env={"PATH": os.environ["PATH"], **env},
        )
        os.close(theirs)
        told = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            told += part
        os.close(ours)
        assert process.wait() == 0
        return told.decode().replace("\r\n", "\n")

    plain = shell("list").out
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    assert "\x1b[" in on_terminal(**path, TERM="xterm")
    assert on_terminal(**path, TERM="dumb", COLUMNS="20") == plain


def test_a_reader_that_has_gone_is_no_error(host):
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [*host.command, "list"],
        stdout=theirs,
        stderr=subprocess.PIPE,
        timeout=600,
        check=False,
    )
    os.close(theirs)
    assert (done.returncode, done.stderr) == (0, b"")


def test_neither_rich_nor_yaml_is_imported_for_a_pipe(host, shell):
    done = shell("list", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert " ibhostdev.host" in done.err
    for slow in (" rich", " yaml", " importlib.metadata"):
        assert f"{slow}\n" not in done.err


def test_a_name_that_is_empty(run):
    done = run("list", "")
    assert done.code == 2
    assert done.err.startswith("ibhostdev: '': is the name of no InfiniBand")


def test_a_pf_that_cannot_be_looked_at_is_told(host, run):
    folder = host.sys / "bus/pci/devices" / host.pfs[0] / "infiniband"
    folder.rename(folder.with_name("other"))
    folder.touch()
    done = run("list")
    assert (done.code, host.pfs[0] in done.out) == (0, False)
    assert "warning: not shown: " in done.err
    assert host.pfs[0] in done.err
    assert "ENOTDIR" in done.err
    done = run("doctor", "--json")
    assert done.code == 1
    (one,) = [
        one
        for one in done.json["findings"]
        if one["message"].startswith("cannot be looked at")
    ]
    assert (one["check"], one["severity"]) == ("adapters", "problem")
    assert host.pfs[0] in one["device"]
