# SPDX-License-Identifier: Apache-2.0
"""A real opensm on a simulated fabric: the table of a port is the proof.

ibsim serves the fabric, and its library takes the place of the kernel's umad
devices under opensm and infiniband-diags. A VF's port is a plain adapter
there: opensm knows nothing of virtual ports, which the vendor's does.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ibhostdev import BatchFailed, Guid, PciAddress, PKey
from ibhostdev.fabric import opensm
from ibhostdev.fabric.members import Member
from tests.fabric.conftest import program, until
from tests.flavours import guid, mac, vifs
from tests.testbed import Hca

FILE = """\
# the fabric's operator
Default=0x7fff, ipoib : ALL=limited, SELF=full ;
"""
VFS = 4
ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "etc/hooks.d/opensm"


def library():
    program("ibsim")
    found = list(Path("/usr/lib").glob("*/umad2sim/libumad2sim.so"))
    if not found:
        if os.environ.get("IBHOSTDEV_WITNESSES"):
            pytest.fail("libumad2sim0 is not installed")
        pytest.skip("libumad2sim0 is not installed: see ./dev fabric-test")
    return str(found[0])


DIAGS = ("smpquery", "saquery", "sminfo")


class Fabric:
    """A switch, the subnet manager's port, and a port for each of the
    GUIDs that the VFs are going to have."""

    def __init__(self, folder, start, ports=()):
        """``ports`` are GUIDs of others that are there."""
        self.folder, self._start = folder, start
        self.file = folder / "partitions.conf"
        self.file.write_text(FILE)
        self.pid_file = folder / "opensm.pid"
        (folder / "log").mkdir()
        self._env = {
            **os.environ,
            "LD_PRELOAD": library(),
            "SIM_HOST": "SM",
            # Of this fabric only: others may be simulated at the same time.
            "IBSIM_SOCKNAME": f"ibsim-{os.getpid()}-{folder.name}",
            "OSM_TMP_DIR": str(folder / "log"),
            "OSM_CACHE_DIR": str(folder / "log"),
        }
        lines = ['Switch\t16 "S"', '[1]\t"SM"[1]']
        nodes = [(f"VF{n}", Guid.parse(guid(n))) for n in range(1, VFS + 1)]
        nodes += [(f"PF{n}", port) for n, port in enumerate(ports)]
        lines += [
            f'[{n}]\t"{name}"[1]' for n, (name, _) in enumerate(nodes, 2)
        ]
        lines += ["", "caguid=0x10000", 'Hca\t1 "SM"', '[1]\t"S"[1]']
        for n, (name, port) in enumerate(nodes, 2):
            # A port's GUID is its node's and the number of the port.
            lines += ["", f"caguid={port - 1:#x}", f'Hca\t1 "{name}"']
            lines += [f'[1]\t"S"[{n}]']
        (folder / "net").write_text("\n".join(lines) + "\n")
        env = {k: v for k, v in self._env.items() if k != "LD_PRELOAD"}
        log = (folder / "ibsim.log").open("wb")
        start(
            program("ibsim"), "-s", "-n", str(folder / "net"),
            env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=log,
            stderr=log,
        )  # fmt: skip
        log.close()
        until(lambda: "0x0000000000010001" in self.ask("ibstat", "-p"))
        self.manage()

    def manage(self):
        """Start opensm."""
        with (self.folder / "opensm.log").open("ab") as log:
            self.manager = self._start(
                program("opensm"), "-f", str(self.folder / "log/osm.log"),
                "-P", str(self.file), "-s", "0", "-g", "0x10001",
                env=self._env, cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log,
            )  # fmt: skip
        self.pid_file.write_text(f"{self.manager.pid}\n")
        until(lambda: 0x7FFF in self.table(1))

    def end(self):
        self.manager.kill()
        self.manager.wait()

    def ask(self, name, *arguments):
        done = subprocess.run(
            [program(name), *arguments], env=self._env, cwd=self.folder,
            capture_output=True, encoding="utf-8", timeout=600, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    def diags(self, directed=None):
        """An environment in which infiniband-diags are this fabric's. Asked
        for a VF that is `directed` to one, smpquery goes to the switch's port
        of that: by addresses ibsim passes nothing on to a port that is not
        active, as a fabric would, and has no GUID but at one port."""
        folder = self.folder / "bin"
        folder.mkdir(exist_ok=True)
        given = {
            key: value
            for key, value in self._env.items()
            if key.startswith(("SIM_", "IBSIM_", "OSM_", "LD_PRELOAD"))
        }
        words = " ".join(f"{key}={value}" for key, value in given.items())
        for name in DIAGS:
            file = folder / name
            lines = [f'exec env {words} {program(name)} "$@"']
            for number, to in (directed or {}).items():
                port = f"0x{guid(number).replace(':', '')}"
                lines.insert(
                    0,
                    f'case "$1 $3" in "-G {port}") set -- -D "$2" '
                    f"0,1,{to + 1};; esac",
                )
            file.write_text("\n".join(["#!/bin/sh", *lines, ""]))
            file.chmod(0o755)
        return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}

    def table(self, number):
        """The entries of the P_Key table of VF `number`'s port, by index."""
        return self.table_of(Guid.parse(guid(number)))

    def table_of(self, port):
        entries = []
        told = self.ask("smpquery", "-G", "pkeys", f"{port:#x}")
        for line in told.splitlines():
            index, colon, rest = line.partition(":")
            if colon and index.strip().isdigit():
                entries += [int(word, 16) for word in rest.split()]
        while entries and not entries[-1]:
            entries.pop()
        return entries

    def shared(self, one, other):
        """The P_Key of the path from one to another VF's port; None where
        the subnet manager has none for them."""
        gids = [
            f"fe80::{guid(n).replace(':', '')[:4]}:{guid(n)[6:8]}"
            f"{guid(n)[9:11]}:{guid(n)[12:14]}{guid(n)[15:17]}:"
            f"{guid(n)[18:20]}{guid(n)[21:23]}"
            for n in (one, other)
        ]
        told = self.ask("saquery", "--sgid-to-dgid", "-".join(gids))
        found = re.search(r"pkey\.+(0x[0-9A-Fa-f]+)", told)
        return None if found is None else int(found[1], 16)


@pytest.fixture
def fabric(tmp_path, started):
    return Fabric(tmp_path, started)


@pytest.fixture
def tenants(host, tmp_path):
    """VIFs 1 and 2 of one tenant, 3 of another, 4 of nobody."""
    file = tmp_path / "vifs.yaml"
    file.write_text(
        "".join(
            f"- {{mac: '{mac(n)}', pkey: '{pkey}'}}\n"
            for n, pkey in ((1, "0x8001"), (2, "1:full"), (3, "0x8002"))
        )
    )
    return file


def arguments(fabric, tenants):
    return (
        *("fabric", "apply", "--opensm", str(fabric.file)),
        *("--pid-file", str(fabric.pid_file), "--file", str(tenants)),
    )


def test_who_is_plugged_is_in_its_partition(host, shell, fabric, tenants):
    there = host.connect()
    assert fabric.table(1) == [0x7FFF]
    there.plug(vifs(host, 1, 2, 3))
    done = shell(*arguments(fabric, tenants))
    assert (done.returncode, done.stderr) == (0, "")
    for number, pkey in ((1, 0x8001), (2, 0x8001), (3, 0x8002)):
        until(lambda n=number, p=pkey: fabric.table(n)[:1] == [p])
    # Nobody said so of it.
    assert fabric.table(4) == [0x7FFF]
    assert fabric.shared(1, 2) == 0x8001
    assert fabric.shared(1, 3) is None
    there.unplug(vifs(host, 1, 2))
    assert shell(*arguments(fabric, tenants)).returncode == 0
    until(lambda: 0x8001 not in fabric.table(1))
    assert fabric.table(3)[0] == 0x8002


@pytest.fixture
def hook(host, fabric, tenants):
    """The example, with the paths of this host."""
    text = EXAMPLE.read_text()
    command = f"{sys.executable} -m ibhostdev"
    for ours, theirs in (
        ("/etc/ibhostdev/vifs.yaml", str(tenants)),
        ("/etc/opensm/partitions.conf", str(fabric.file)),
        ("exec ibhostdev ", f"cd {ROOT}\nexec {command} "),
    ):
        assert text.count(ours) == 1
        text = text.replace(ours, theirs)
    # Other tests' opensm is none of its business.
    text = text.replace("--opensm", f"--pid-file {fabric.pid_file} --opensm")
    folder = host.folder / "hooks.d"
    folder.mkdir()
    file = folder / "opensm"
    file.write_text(text)
    file.chmod(0o755)
    return file


def words(host, *numbers):
    return [f"{host.vf(0, n - 1)}={mac(n)}" for n in numbers]


def test_from_a_plug_to_the_table(host, shell, fabric, hook):
    """plug, hook, fabric apply, SIGHUP, and the port has it; unplug, and it
    has it no longer."""
    done = shell("plug", *words(host, 1, 3))
    assert (done.returncode, done.stderr) == (0, "")
    until(lambda: fabric.table(1)[:1] == [0x8001])
    until(lambda: fabric.table(3)[:1] == [0x8002])
    assert fabric.shared(1, 3) is None
    done = shell("plug", *words(host, 2))
    until(lambda: fabric.table(2)[:1] == [0x8001])
    assert fabric.shared(1, 2) == 0x8001
    done = shell("unplug", *words(host, 1))
    assert (done.returncode, done.stderr) == (0, "")
    until(lambda: 0x8001 not in fabric.table(1))
    assert fabric.table(2)[:1] == [0x8001]


def test_connectx_3_has_it_out_of_the_table_of_its_pf(
    bed, shell, started, tmp_path
):
    """A plug that finds no P_Key leaves the GUID; told of that, opensm puts
    the PF's port into the partition, not at its index 0; plugged again, the
    VF has it. The simulated host's table is opensm's, by this test's hand."""
    bed.build(Hca("mlx4", vfs=2))
    port = bed.connect().pfs[0].ports[0].guid
    fabric = Fabric(tmp_path, started, [port])
    bed.pkeys(*fabric.table_of(port))
    file = tmp_path / "vifs.yaml"
    file.write_text(
        "".join(
            f"- {{pci: '{bed.vf(0, n - 1)}', mac: '{mac(n)}', pkey: {pkey}}}\n"
            for n, pkey in ((1, "0x8001"), (2, "2:limited"))
        )
    )
    host = bed.connect(settle_seconds=0)
    some = [
        vif._replace(pkey=PKey.parse(pkey))
        for vif, pkey in zip(
            vifs(bed, 1, 2), ("0x8001", "2:limited"), strict=True
        )
    ]
    with pytest.raises(BatchFailed, match="has not given P_Key"):
        host.plug(some, on_error="continue")
    done = shell(*arguments(fabric, file))
    assert (done.returncode, done.stderr) == (0, "")
    until(lambda: {0x8001, 0x0002} <= set(fabric.table_of(port)))
    assert fabric.table_of(port)[0] == 0x7FFF
    bed.pkeys(*fabric.table_of(port))
    result = bed.connect().plug(some)
    assert [str(one.after.pkey) for one in result.results] == [
        "0x8001",
        "0x0002",
    ]
    bed.connect().unplug(some)
    assert shell(*arguments(fabric, file)).returncode == 0
    until(lambda: fabric.table_of(port) == [0x7FFF])


def test_an_opensm_that_is_dead_stops_no_plug(host, shell, fabric, hook):
    fabric.end()
    done = shell("plug", *words(host, 1))
    assert done.returncode == 0
    assert "no opensm runs" in done.stderr
    fabric.manage()
    until(lambda: fabric.table(1)[:1] == [0x8001])


def test_memberships(host, shell, fabric, tmp_path):
    file = tmp_path / "limited.yaml"
    file.write_text(
        "".join(
            f"- {{mac: '{mac(n)}', pkey: '5:{how}'}}\n"
            for n, how in ((1, "full"), (2, "limited"), (3, "limited"))
        )
    )
    host.connect().plug(vifs(host, 1, 2, 3))
    assert shell(*arguments(fabric, file)).returncode == 0
    until(lambda: fabric.table(3)[:1] == [0x0005])
    until(lambda: fabric.table(1)[:1] == [0x8005])
    until(lambda: fabric.shared(1, 2) is not None)
    assert fabric.shared(2, 3) is None


def test_an_opensm_that_was_dead_has_it_when_it_starts(
    host, shell, fabric, tenants
):
    host.connect().plug(vifs(host, 1))
    fabric.end()
    done = shell(*arguments(fabric, tenants))
    assert done.returncode == 1
    assert "no opensm runs" in done.stderr
    fabric.manage()
    until(lambda: fabric.table(1)[:1] == [0x8001])
    # Started again, it knows it still.
    fabric.end()
    fabric.manage()
    until(lambda: fabric.table(1)[:1] == [0x8001])


def test_a_file_that_was_broken_by_hand(host, shell, fabric, tenants):
    host.connect().plug(vifs(host, 1))
    broken = FILE.replace("SELF=full ;", "SELF=full")
    fabric.file.write_text(broken)
    done = shell(*arguments(fabric, tenants))
    assert done.returncode == 2
    assert "no ; at its end" in done.stderr
    assert fabric.file.read_text() == broken
    fabric.file.write_text(FILE)
    assert shell(*arguments(fabric, tenants)).returncode == 0
    until(lambda: fabric.table(1)[:1] == [0x8001])


def test_an_audit_finds_what_is_not_as_it_is_to_be(
    host, shell, fabric, tenants
):
    """Of five: three that nobody has put into their partitions, one that
    belongs to none, one that is nowhere; then all is well; then one is in
    another."""
    there = host.connect()
    there.plug(vifs(host, 1, 2, 3, 4) + vifs(host, 9, pf=1))
    env = fabric.diags()
    audit = ("fabric", "audit", "--json", "--file", str(tenants))
    # Not told yet.
    done = shell(*audit, env=env)
    assert done.returncode == 1
    told = {one["guid"]: one for one in json.loads(done.stdout)["findings"]}
    assert [told[guid(n)]["verdict"] for n in (1, 2, 3, 4, 9)] == [
        *["not in its partition"] * 3,
        "well",
        "not seen",
    ]
    assert told[guid(1)]["pkeys"] == ["0x7fff"]
    shell(*arguments(fabric, tenants))
    until(lambda: fabric.table(3)[:1] == [0x8002])
    until(lambda: fabric.table(2)[:1] == [0x8001])
    there.unplug(vifs(host, 9, pf=1))
    done = shell(*audit, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    told = {one["guid"]: one for one in json.loads(done.stdout)["findings"]}
    assert told[guid(1)]["pkeys"][0] == "0x8001"
    # Somebody has put it into another.
    fabric.file.write_text(
        fabric.file.read_text().replace("0x0002=0x0002", "0x0003=0x0003")
    )
    os.kill(fabric.manager.pid, signal.SIGHUP)
    until(lambda: fabric.table(3)[:1] == [0x8003])
    done = shell("fabric", "audit", "--file", str(tenants), env=env)
    assert done.returncode == 1
    assert done.stdout.count("not in its partition") == 1
    assert "its port has 0x8003, 0x7fff" in done.stdout


def verdicts(done):
    return {
        one["guid"]: (one["verdict"], one["detail"])
        for one in json.loads(done.stdout)["findings"]
    }


def test_an_audit_of_a_port_that_is_not_active(host, shell, fabric):
    host.connect().plug(vifs(host, 1, 2))
    env = fabric.diags(directed={2: 2})
    audit = ("fabric", "audit", "--json")
    done = shell(*audit, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    # The link is trained anew, and nobody brings it up.
    fabric.ask("ibportstate", "-D", "0,1", "3", "down")
    done = shell(*audit, env=env)
    assert done.returncode == 1
    told = verdicts(done)
    assert told[guid(1)][0] == "well"
    assert told[guid(2)] == ("not active", "its port is Initialize")


def test_an_audit_of_a_guid_that_another_port_answers_for(host, shell, fabric):
    host.connect().plug(vifs(host, 1, 2))
    env = fabric.diags(directed={2: 3})
    done = shell("fabric", "audit", "--json", env=env)
    assert done.returncode == 1
    told = verdicts(done)
    assert told[guid(1)][0] == "well"
    assert told[guid(2)] == (
        "on another host",
        f"it is behind port {guid(3)}",
    )


def test_an_audit_where_no_subnet_manager_answers(host, shell, fabric):
    host.connect().plug(vifs(host, 1))
    env = fabric.diags()
    fabric.end()
    done = shell("fabric", "audit", env=env)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "sminfo" in done.stderr


def test_an_audit_without_a_fabric(host, shell):
    program("smpquery")
    host.connect().plug(vifs(host, 1))
    done = shell("fabric", "audit")
    assert done.returncode == 1
    assert "no way to the fabric" in done.stderr


BAD = [
    "A=0x3 : 0x12=full",
    "A=0x3",
    "A=zz : ALL ;",
    "A=0x3 : 0xzz=full ;",
]


@pytest.mark.parametrize("line", BAD)
def test_what_we_refuse_is_what_opensm_stumbles_over(
    host, shell, fabric, tenants, line
):
    """Behind such a line opensm takes nothing of ours in."""
    host.connect().plug(vifs(host, 1))
    shell(*arguments(fabric, tenants))
    until(lambda: fabric.table(1)[:1] == [0x8001])
    text = fabric.file.read_text()
    assert text.startswith(FILE)
    fabric.file.write_text(f"{FILE}{line}\n{text.removeprefix(FILE)}")
    done = shell(*arguments(fabric, tenants))
    assert done.returncode == 2
    os.kill(fabric.manager.pid, signal.SIGHUP)
    until(lambda: fabric.table(1)[:1] != [0x8001])


def test_a_long_partition_is_taken_whole(host, fabric):
    """In as many lines as it takes, the port in question in the last."""
    numbers = [*range(1, 300), Guid.parse(guid(1))]
    some = [
        Member(
            *("node", PciAddress("0000:3b:00.0"), None, 0),
            *(PciAddress("0000:3b:00.1"), Guid(number), PKey(7)),
        )
        for number in numbers
    ]
    opensm.apply(str(fabric.file), some, str(fabric.pid_file))
    assert fabric.file.read_text().count("ibhostdev-0x0007") == 3
    until(lambda: fabric.table(1)[:1] == [0x8007])


def test_how_long_it_takes(host, shell, fabric, hook, record_property):
    """From the plug to the port's table; a figure for who reads it, and not a
    limit."""
    begin = time.monotonic()
    shell("plug", *words(host, 1))
    until(lambda: fabric.table(1)[:1] == [0x8001])
    record_property("seconds", time.monotonic() - begin)
    print(f"from plug to table: {time.monotonic() - begin:.2f} s")
