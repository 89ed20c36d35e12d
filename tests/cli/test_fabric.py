# SPDX-License-Identifier: Apache-2.0
"""ibhostdev fabric: who is in which partition."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading

import pytest

from ibhostdev import Guid, PKey
from ibhostdev.errors import GuidConflict, InvalidInput
from ibhostdev.fabric import members, opensm
from ibhostdev.fabric.members import Member
from ibhostdev.guest.xml import NAMESPACE, hostdev, write_vifs
from ibhostdev.inventory import Family
from ibhostdev.pci import PciAddress
from tests.flavours import mac, vifs
from tests.testbed import Hca

FILE = """\
# of the fabric's operator
Default=0x7fff, ipoib : ALL=limited, SELF=full ;
"""


PF_GUIDS = {
    host: Guid(0xB8599F0300000001 + number)
    for number, host in enumerate(("a", "b", "node1", "node2"))
}


def member(number, host="a", pkey="0x8001", family=Family.MLX5):
    return Member(
        host,
        PciAddress("0000:3b:00.0"),
        PF_GUIDS[host],
        number,
        PciAddress(f"0000:3b:{number >> 3:02x}.{number & 7}"),
        Guid.from_mac(mac(number)),
        None if pkey is None else PKey.parse(pkey),
        family,
    )


@pytest.fixture
def plugged(host, tmp_path):
    """Three VFs with identities; a file that has partitions for two."""
    host.connect().plug(vifs(host, 1, 2, 3))
    file = tmp_path / "vifs.yaml"
    file.write_text(
        f"- {{pci: '{host.vf(0, 0)}', mac: '{mac(1)}', pkey: 0x8001}}\n"
        f"- {{guid: '{Guid.from_mac(mac(2))}', pkey: '2:limited'}}\n"
        f"- {{mac: '{mac(3)}'}}\n"
        f"- {{mac: '{mac(9)}', pkey: 0x8009, domain: elsewhere}}\n"
    )
    return str(file)


@pytest.fixture
def partitions(tmp_path):
    file = tmp_path / "sm" / "partitions.conf"
    file.parent.mkdir()
    file.write_text(FILE)
    file.chmod(0o640)
    return file


@pytest.fixture
def manager(tmp_path):
    """A process called opensm that says when it is to read its file."""
    told = tmp_path / "told"
    # As opensm: what it runs is another name's business.
    program = tmp_path / "opensm"
    program.symlink_to(os.path.realpath(sys.executable))
    process = subprocess.Popen(
        [
            str(program),
            "-c",
            "import signal, sys\n"
            f"out = open({str(told)!r}, 'ab', 0)\n"
            "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])\n"
            "print(flush=True)\n"
            "while True:\n"
            "    signal.sigwait([signal.SIGHUP])\n"
            "    out.write(b'x')\n",
        ],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONHOME": sys.base_prefix},
    )
    process.stdout.readline()
    pid_file = tmp_path / "opensm.pid"
    pid_file.write_text(f"{process.pid}\n")

    class Manager:
        pid = str(pid_file)

        def end(self):
            process.kill()
            process.wait()
            process.stdout.close()

        def told(self, times):
            while len(told.read_bytes()) < times:
                assert process.poll() is None
            return len(told.read_bytes()) == times

    manager = Manager()
    yield manager
    manager.end()


# -- export ---------------------------------------------------------------


def test_json_has_where_each_guid_is(plugged, host, run):
    arguments = ("--host-name", "node1", "--file", plugged)
    done = run("fabric", "export", *arguments)
    assert (done.code, done.err) == (0, "")
    assert done.json["version"] == 1
    first, second, third = done.json["members"]
    pf_guid = first.pop("pf_guid")
    assert pf_guid == str(host.connect().pfs[0].ports[0].guid)
    assert first == {
        "host": "node1",
        "pf": host.pfs[0],
        "vf": 0,
        "pci": host.vf(0, 0),
        "guid": "fa:16:3e:00:00:00:00:01",
        "pkey": "0x8001",
        "family": "mlx5",
    }
    assert (second["pkey"], third["pkey"]) == ("0x0002", None)
    again = run("fabric", "export", *arguments)
    assert again.out == done.out


def test_the_fabric_knows_a_vf_by_its_port_guid(host, run, tmp_path):
    host.seed(0, 1, str(Guid(7)), str(Guid(8)), "follow")
    file = tmp_path / "vifs.yaml"
    file.write_text(
        f"- {{node_guid: '{Guid(7)}', port_guid: '{Guid(8)}', pkey: 0x8001}}\n"
    )
    done = run("fabric", "export", "--file", str(file))
    assert done.code == 0
    (one,) = done.json["members"]
    assert (one["guid"], one["pkey"]) == (str(Guid(8)), "0x8001")


def test_csv(plugged, run):
    done = run("fabric", "export", "--file", plugged, "--format", "csv")
    head, first, *_ = done.out.splitlines()
    assert head == "host,pf,pf_guid,vf,pci,guid,pkey,family"
    assert first.endswith(",fa:16:3e:00:00:00:00:01,0x8001,mlx5")


def test_what_ufm_would_be_sent(plugged, run):
    done = run("fabric", "export", "--file", plugged, "--format", "ufm")
    assert done.json == [
        {
            "pkey": "0x0001",
            "index0": True,
            "ip_over_ib": True,
            "membership": "full",
            "guids": ["fa163e0000000001"],
        },
        {
            "pkey": "0x0002",
            "index0": True,
            "ip_over_ib": True,
            "membership": "limited",
            "guids": ["fa163e0000000002"],
        },
    ]


@pytest.mark.parametrize(
    ("pkey", "why"), [("1:both", "none that are both"), ("0xffff", "default")]
)
def test_what_ufm_has_no_words_for(host, run, tmp_path, pkey, why):
    host.connect().plug(vifs(host, 1))
    file = tmp_path / "vifs.yaml"
    file.write_text(f"- {{mac: '{mac(1)}', pkey: '{pkey}'}}\n")
    done = run("fabric", "export", "--file", str(file), "--format", "ufm")
    assert done.code == 2
    assert why in done.err
    assert host.vf(0, 0) in done.err


def test_one_question_for_each_pf(plugged, host, run):
    host.reset_counts()
    run("fabric", "export", "--file", plugged)
    counts = host.counts()
    assert (counts.getlink, counts.modify) == (2, 0)


def test_a_pf_that_cannot_be_asked_leaves_nobody_out(bed, run):
    """Else its guests would be taken off their partitions."""
    bed.build(Hca(vfs=2), Hca(vfs=2, netdev=False))
    done = run("fabric", "export")
    assert (done.code, done.out) == (1, "")
    assert bed.pfs[1] in done.err


def test_a_guest_whose_guid_is_not_told_is_warned_of(host, run):
    with host.hold(host.vf(1, 2)):
        done = run("fabric", "export")
    assert done.code == 0
    assert done.err.count("left out") == 1
    assert host.vf(1, 2) in done.err


def test_both_ports_of_an_mlx4(bed, run):
    bed.build(Hca("mlx4", vfs=1, ports=2))
    bed.connect().plug(vifs(bed, 1))
    (one,) = run("fabric", "export").json["members"]
    assert one["guid"] == "fa:16:3e:00:00:00:00:01"
    assert one["family"] == "mlx4"


def test_the_port_of_an_mlx4_whose_vf_it_is(bed, run, tmp_path):
    bed.build(Hca("mlx4", vfs=1, ports=2))
    pf = bed.connect().pfs[0]
    first, second = (netdev.name for netdev in pf.netdevs)
    host = bed.connect(physical_networks={"one": [first], "two": [second]})
    (vif,) = vifs(bed, 1)
    host.plug([vif._replace(physical_network="two")])
    file = tmp_path / "vifs.yaml"
    file.write_text(f"- {{mac: '{mac(1)}', pkey: 0x8001}}\n")
    arguments = ("fabric", "export", "--file", str(file), "--format")
    done = run(*arguments, "opensm")
    assert f"{pf.ports[1].guid:016x}=full" in done.out
    assert f"{pf.ports[0].guid:016x}" not in done.out
    assert "indx0" not in done.out
    (body,) = run(*arguments, "ufm").json
    assert body["index0"] is False
    assert body["guids"] == sorted(
        [f"{pf.ports[1].guid:016x}", "fa163e0000000001"]
    )


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("{mac: 'fa:16:3e:00:00:01', pkey: 0}", "reserved"),
        ("{mac: 'fa:16:3e:00:00:01', pkey: [1]}", "is no text"),
        ("{pkey: 0x8001}", "neither mac nor guid"),
        ("{mac: 'fa:16:3e:00:00:01', p_key: 0x8001}", "no key of a VIF"),
    ],
)
def test_a_file_with_a_bad_entry(host, run, tmp_path, entry, why):
    file = tmp_path / "vifs.yaml"
    file.write_text(f"- {entry}\n")
    done = run("fabric", "export", "--file", str(file))
    assert (done.code, done.out) == (2, "")
    assert why in done.err
    assert "entry 1" in done.err


def test_a_guid_that_is_to_be_in_two_partitions(host, run, tmp_path):
    file = tmp_path / "vifs.yaml"
    entry = f"- {{mac: '{mac(1)}', pkey: 0x800%d}}\n"
    file.write_text(entry % 1 + entry % 2)
    done = run("fabric", "export", "--file", str(file))
    assert done.code == 2
    assert "0x8002 and in 0x8001" in done.err
    assert str(Guid.from_mac(mac(1))) in done.err


def test_the_metadata_of_libvirts_domains_says_it_too(host, run, tmp_path):
    libvirt = pytest.importorskip("libvirt", exc_type=ImportError)
    host.connect().plug(vifs(host, 1, 2))
    first, second = (
        vif._replace(pkey=PKey.parse(pkey))
        for vif, pkey in zip(
            vifs(host, 1, 2), ("0x8001", "2:limited"), strict=True
        )
    )
    kept = write_vifs([first, second]).replace(
        "<vifs>", f"<vifs xmlns='{NAMESPACE}'>"
    )
    # libvirt's own stand-in, whose domains are gone with the connection.
    uri = "test:///default"
    conn = libvirt.open(uri)
    try:
        conn.defineXML(
            "<domain type='test'><name>web1</name><memory>1024</memory>"
            f"<os><type>hvm</type></os><metadata>{kept}</metadata>"
            f"<devices>{hostdev(first.pci)}</devices></domain>"
        )
        done = run("fabric", "export", "--connect", uri)
    finally:
        conn.close()
    assert (done.code, done.err) == (0, "")
    # The other VF is no longer the domain's.
    assert [one["pkey"] for one in done.json["members"]] == ["0x8001", None]


# -- merge ----------------------------------------------------------------


def test_exports_of_hosts_are_put_together(plugged, run, tmp_path):
    (tmp_path / "b.json").write_text(members.as_json([member(7, "node2")]))
    first = run(
        "fabric", "export", "--file", plugged, "--host-name", "node1"
    ).out
    (tmp_path / "a.json").write_text(first)
    files = [str(tmp_path / f"{name}.json") for name in "ab"]
    one = run("fabric", "export", "--merge", *files)
    other = run("fabric", "export", "--merge", *reversed(files))
    assert (one.code, one.out) == (0, other.out)
    assert [m["host"] for m in one.json["members"]] == [
        "node1", "node1", "node1", "node2",
    ]  # fmt: skip
    (tmp_path / "c.json").write_text(one.out)
    merged = str(tmp_path / "c.json")
    assert run("fabric", "export", "--merge", merged).out == one.out


def test_a_guid_that_two_hosts_have_is_refused_by_name():
    with pytest.raises(GuidConflict) as caught:
        members.merge([[member(1, "node1")], [member(1, "node2")]])
    assert "fa:16:3e:00:00:00:00:01" in caught.value.message
    for host in ("node1", "node2"):
        assert f"0000:3b:00.1 of host {host}" in caught.value.message


def test_all_such_guids_are_told_and_no_more_than_can_be_read():
    with pytest.raises(GuidConflict, match="and 15 more"):
        members.merge(
            [
                [member(number, host) for number in range(1, 26)]
                for host in ("a", "b")
            ]
        )


def test_a_pf_that_two_hosts_have_is_refused_by_name():
    """One of the exports is from before the host was named anew, say."""
    pf_guid = PF_GUIDS["node1"]
    with pytest.raises(GuidConflict) as caught:
        members.merge(
            [
                [member(1, "node1"), member(2, "node1")],
                [
                    member(number, "node2")._replace(pf_guid=pf_guid)
                    for number in (3, 4)
                ],
            ]
        )
    assert caught.value.message == (
        f"{pf_guid} is the GUID of PF 0000:3b:00.0 of host node2 and of PF "
        "0000:3b:00.0 of host node1"
    )
    assert "leave out the old name's export" in caught.value.cure


def test_a_vf_that_has_the_guid_of_another_host_s_pf():
    guid = PF_GUIDS["node1"]
    with pytest.raises(GuidConflict) as caught:
        members.merge(
            [[member(1, "node1")], [member(2, "node2")._replace(guid=guid)]]
        )
    assert caught.value.message == (
        f"{guid} is the GUID of PF 0000:3b:00.0 of host node1 and of VF "
        "0000:3b:00.2 of host node2"
    )


@pytest.mark.parametrize("guid", [None, Guid(0)])
def test_pfs_that_show_no_guid_are_no_twins(guid):
    some = [
        [member(n, host)._replace(pf_guid=guid)]
        for n, host in enumerate(("a", "b"), 1)
    ]
    assert len(members.merge(some)) == 2


def test_a_host_that_is_there_twice():
    with pytest.raises(InvalidInput, match="host a is in two"):
        members.merge([[member(1)], [member(2)]])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is no JSON"),
        ("[]", "is no export"),
        ('{"pfs": []}', "is no export"),
        ('{"version": 2, "members": []}', "version 2"),
        ('{"version": 1, "members": {}}', "is no export"),
        ('{"version": 1, "members": [1]}', "member 1"),
        ('{"version": 1, "members": [{}]}', "member 1"),
        ("[" * 100000, "is no JSON"),
    ],
)
def test_what_is_no_export(run, host, tmp_path, text, why):
    file = tmp_path / "a.json"
    file.write_text(text)
    done = run("fabric", "export", "--merge", str(file))
    assert (done.code, done.out) == (2, "")
    assert why in done.err


@pytest.mark.parametrize(
    "change",
    [
        {"guid": "ff:ff:ff:ff:ff:ff:ff:ff"},
        {"guid": "x"},
        {"guid": 1},
        {"pkey": "0"},
        {"pkey": 5},
        {"vf": "5"},
        {"vf": -1},
        {"vf": 1.0},
        {"vf": True},
        {"vf": float("inf")},
        {"pci": None},
        {"host": ""},
        {"host": "a\nb"},
        {"family": "mlx6"},
        {"family": []},
    ],
)
def test_a_member_that_is_none(tmp_path, change):
    document = json.loads(members.as_json([member(1)]))
    document["members"][0] |= change
    file = tmp_path / "a.json"
    file.write_text(json.dumps(document))
    with pytest.raises(InvalidInput, match="member 1"):
        members.read(str(file))


def test_an_export_that_says_nothing_of_the_driver_is_of_mlx5(tmp_path):
    document = json.loads(members.as_json([member(1)]))
    del document["members"][0]["family"]
    file = tmp_path / "a.json"
    file.write_text(json.dumps(document))
    assert members.read(str(file)) == [member(1)]


def test_an_export_that_is_not_there(run, host, tmp_path):
    done = run("fabric", "export", "--merge", str(tmp_path / "*.json"))
    assert (done.code, done.out) == (2, "")
    assert "'ibhostdev fabric export' has written" in done.err


def test_merge_goes_with_files_only(run, host, tmp_path):
    assert run("fabric", "export", "--merge").code == 2
    assert run("fabric", "export", "a.json").code == 2
    done = run("fabric", "export", "--merge", "a.json", "--file", "x")
    assert done.code == 2
    assert "do not go together" in done.err


# -- opensm's file --------------------------------------------------------


def test_a_block_has_at_most_128_guids_a_line_in_stable_order():
    some = [member(number) for number in range(1, 300)]
    some += [member(number, pkey="2:limited") for number in range(300, 430)]
    some += [member(999, pkey=None)]
    text = opensm.block(some)
    random.Random(1).shuffle(some)
    assert opensm.block(some) == text
    begin, *lines, end = text.splitlines()
    assert (begin, end) == (opensm.BEGIN, opensm.END)
    assert [line.count("=full") for line in lines] == [128, 128, 43, 0, 0]
    assert [line.count("=limited") for line in lines] == [0, 0, 0, 128, 2]
    assert all(
        re.match(r"ibhostdev-0x000([12])=0x000\1, indx0, ipoib : 0x", line)
        for line in lines
    )
    assert max(map(len, lines)) < 4094


def test_of_mlx4_it_is_the_pf_s_port_that_is_in_the_partition():
    """Not at index 0, which is the PF's own; once, whoever is behind it."""
    some = [
        member(1, family=Family.MLX4),
        member(2, family=Family.MLX4),
        member(3, pkey="2:limited", family=Family.MLX4),
        member(4, "b"),
        member(5, pkey=None, family=Family.MLX4),
    ]
    assert opensm.block(some).splitlines()[1:-1] == [
        "ibhostdev-0x0001=0x0001, indx0, ipoib : 0xfa163e0000000004=full ;",
        "ibhostdev-0x0001=0x0001, ipoib : 0xb8599f0300000001=full, "
        "0xfa163e0000000001=full, 0xfa163e0000000002=full ;",
        "ibhostdev-0x0002=0x0002, ipoib : 0xb8599f0300000001=limited, "
        "0xfa163e0000000003=limited ;",
    ]


def test_a_pf_s_port_is_both_for_vfs_that_are_each():
    some = [
        member(n, pkey=pkey, family=Family.MLX4)
        for n, pkey in enumerate(("1:limited", "1:full", "1:limited"), 1)
    ]
    assert "0xb8599f0300000001=both," in opensm.block(some)


def test_a_pf_whose_guid_is_not_shown():
    some = [member(1, family=Family.MLX4)._replace(pf_guid=None)]
    assert ": 0xfa163e0000000001=full ;" in opensm.block(some)


def test_only_the_block_is_replaced():
    ours = opensm.block([member(1)])
    behind = "# theirs, too\nX=5:0x1;\n"
    text = opensm.with_block(FILE, ours, "f")
    assert text == FILE + ours
    both = text + behind
    other = opensm.block([member(2)])
    assert opensm.with_block(both, other, "f") == FILE + other + behind
    assert opensm.with_block(both, ours, "f") == both
    assert opensm.with_block(FILE.rstrip("\n"), ours, "f") == FILE + ours


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"{opensm.BEGIN}\n", "markers"),
        (f"{opensm.END}\n", "markers"),
        (f"{opensm.END}\n{opensm.BEGIN}\n", "markers"),
        (f"{opensm.BEGIN}\n{opensm.END}\n" * 2, "markers"),
        ("A=0x1 : 0x12=full\n", "no ; at its end"),
        ("A=0x1\n", "line 3.*no :"),
        ("A=zz : ALL ;\n", "P_Key"),
        ("\nA=1 : ALL, 0xzz=full ;\n", "line 4.*port's GUID"),
        ("A=1 : 0xfa:16:3e ;\n", "port's GUID"),
        ("A=1 : 0 ;\n", "port's GUID"),
        (f"A=1 : {'0x12, ' * 1000};\n", "characters"),
    ],
)
def test_a_file_that_was_broken_by_hand_is_not_touched(
    run, host, partitions, text, why
):
    partitions.write_text(FILE + text)
    done = run("fabric", "apply", "--opensm", str(partitions))
    assert done.code == 2
    assert re.search(why, done.err.replace("\n", " "))
    assert partitions.read_text() == FILE + text


def test_what_opensm_reads_is_no_fault():
    for good in (
        "",
        "#\n",
        "Default=0x7fff:ALL;",
        "0x5:ALL=full;",
        "A=1:\n ALL=full,\n SELF ;",
        "A=1 , ipoib , sl=0 : ALL_SWITCHES=full , 017=both; B=2: 18446 ;",
        "A=1: mgid=ff12:401b::707,sl=1\n mgid=ff12::1;\n",
        "A=0x1 : # nobody yet\n ;",
    ):
        assert opensm.with_block(good, "", "f").startswith(good)


def test_apply_tells_opensm_and_only_of_what_is_new(
    plugged, run, partitions, manager
):
    arguments = (
        *("fabric", "apply", "--opensm", str(partitions)),
        *("--pid-file", manager.pid, "--file", plugged),
    )
    mode = partitions.stat().st_mode
    done = run(*arguments, "--dry-run")
    assert (done.code, partitions.read_text()) == (0, FILE)
    assert "would be changed" in done.out
    done = run(*arguments)
    assert (done.code, done.err) == (0, "")
    assert "2 GUIDs" in done.out
    assert manager.told(1)
    text = partitions.read_text()
    assert text.startswith(FILE)
    assert "0xfa163e0000000001=full ;" in text
    assert partitions.stat().st_mode == mode
    done = run(*arguments)
    assert "is right already" in done.out
    run(*arguments, "--tell")
    assert manager.told(2)
    assert partitions.read_text() == text
    assert [p.name for p in partitions.parent.iterdir()] == [partitions.name]


def test_a_link_to_the_file_stays_one(
    plugged, run, partitions, manager, tmp_path
):
    link = tmp_path / "link"
    link.symlink_to(partitions)
    done = run(
        *("fabric", "apply", "--opensm", str(link)),
        *("--pid-file", manager.pid, "--file", plugged),
    )
    assert done.code == 0
    assert link.is_symlink()
    assert "0xfa163e0000000001=full" in partitions.read_text()


def test_an_opensm_that_is_dead_reads_it_when_it_starts(
    plugged, run, partitions, manager
):
    manager.end()
    arguments = ("--pid-file", manager.pid, "--file", plugged)
    done = run("fabric", "apply", "--opensm", str(partitions), *arguments)
    assert done.code == 1
    assert "no opensm runs" in done.err
    assert "0xfa163e0000000001=full" in partitions.read_text()


def test_a_process_that_is_no_opensm_is_not_told(
    plugged, run, partitions, tmp_path
):
    pid_file = tmp_path / "pid"
    pid_file.write_text(f"{os.getpid()}\n")
    heard = []
    before = signal.signal(signal.SIGHUP, lambda *_: heard.append(1))
    try:
        done = run(
            *("fabric", "apply", "--opensm", str(partitions)),
            *("--pid-file", str(pid_file), "--file", plugged),
        )
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (done.code, heard) == (1, [])


def test_a_file_that_is_not_there_is_not_made(run, host, tmp_path):
    """opensm would make all members of the default partition limited."""
    done = run("fabric", "apply", "--opensm", str(tmp_path / "p.conf"))
    assert done.code == 2
    assert "default partition" in done.err.replace("\n", " ")
    # Who copies the line has not let tenants talk to one another.
    assert "ALL=limited, SELF=full" in done.err
    assert not list(tmp_path.iterdir())


def test_who_looks_first_does_not_write_last(partitions):
    """Two at once: what the second has seen, the first has not."""
    order = []
    first_in = threading.Event()

    def first():
        with opensm.locked(str(partitions)):
            first_in.set()
            order.append("first looks")
            order.append("first writes")

    def second():
        first_in.wait()
        with opensm.locked(str(partitions)):
            order.append("second looks")

    threads = [threading.Thread(target=one) for one in (second, first)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order == ["first looks", "first writes", "second looks"]


def test_apply_says_what_it_needs(run, host):
    for words in ([], ["--opensm", "/x", "--ufm", "https://x"]):
        done = run("fabric", "apply", *words)
        assert done.code == 2
        assert "either by --opensm or by --ufm" in done.err
