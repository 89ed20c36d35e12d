# SPDX-License-Identifier: Apache-2.0
"""attach and detach as their users type them."""

import subprocess
import sys

import pytest

from ibhostdev.cli import main
from ibhostdev.guest import connection, read_domain
from tests.cli.conftest import Done
from tests.flavours import ONES, guid, mac


@pytest.fixture
def run(bed, host, capsys):
    """Runs a command on the simulated host."""

    def run(*words):
        capsys.readouterr()
        code = main(["--host", bed.command[-1], *words])
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture
def guests(run, conn, uri, monkeypatch):
    """Runs a command, with the tests' own libvirt."""
    connected = []

    class Lent:
        def __getattr__(self, name):
            return getattr(conn, name)

        def close(self):
            pass

    def connect(uri, read_only=False):
        connected.append(uri)
        return Lent()

    monkeypatch.setattr(connection, "connect", connect)

    def guests(command, *words):
        done = run(command, *words, "--connect", uri)
        assert set(connected) <= {uri}
        return done

    return guests


def hostdevs(conn, name):
    return set(read_domain(conn.lookupByName(name).XMLDesc()).hostdevs)


def test_attach_and_detach(bed, conn, define, guests):
    define("web1")
    first, second = bed.vf(0, 0), bed.vf(1, 0)
    done = guests("attach", "web1", f"{first}={mac(1)}", f"{second}={mac(2)}")
    assert done.code == 0, done.err
    assert "2 attached" in done.out
    assert hostdevs(conn, "web1") == {first, second}
    assert bed.seen(0)[0].port == guid(1)
    done = guests("detach", "web1", first, second)
    assert done.code == 0, done.err
    assert "2 detached" in done.out
    assert hostdevs(conn, "web1") == set()
    assert bed.seen(0)[0].port == bed.seen(1)[0].port == ONES


def test_a_gid_in_the_metadata_is_told(bed, conn, define, guests):
    define("web1")
    vf, gid = bed.vf(0, 0), "fe80::2:c903:a0:91"
    assert guests("attach", "web1", f"{vf}={gid}").code == 0
    text = conn.lookupByName("web1").XMLDesc(2)
    given = text.replace('guid="00:02:c9:03:00:a0:00:91"', f'guid="{gid}"')
    assert given != text
    conn.defineXML(given)
    told = f"warning: metadata of domain web1: {gid} is taken for"
    for words in (["attach", f"{bed.vf(0, 1)}={mac(1)}"], ["detach", vf]):
        done = guests(words[0], "web1", *words[1:], "--config")
        assert done.code == 0, done.err
        assert told in done.err
        conn.defineXML(given)


def test_a_file_names_many_domains(bed, conn, define, guests, tmp_path):
    define("web1", "web2")
    file = tmp_path / "guests.yaml"
    file.write_text(
        f"- {{domain: web1, pci: '{bed.vf(0, 0)}', mac: '{mac(1)}'}}\n"
        f"- {{pci: '{bed.vf(0, 1)}', guid: '{guid(2)}'}}\n"
    )
    done = guests("attach", "web2", "--file", str(file), "--json")
    assert done.code == 0, done.err
    assert [r["domain"] for r in done.json["results"]] == ["web1", "web2"]
    assert [r["guid"] for r in done.json["results"]] == [guid(1), guid(2)]
    assert hostdevs(conn, "web1") == {bed.vf(0, 0)}
    assert hostdevs(conn, "web2") == {bed.vf(0, 1)}
    done = guests("attach", "--file", str(file))
    assert done.code == 2
    assert "entry 2" in done.err
    # Whose they are does not matter any more.
    file.write_text(
        f"- {{domain: web1, pci: '{bed.vf(0, 0)}'}}\n"
        f"- {{pci: '{bed.vf(0, 1)}', guid: '{guid(2)}'}}\n"
    )
    done = guests("detach", "web2", "--file", str(file), "--json")
    assert all(r["ok"] and r["changed"] for r in done.json["results"])


def test_list_shows_the_domains(bed, define, guests, run):
    define("web1")
    guests("attach", "web1", f"{bed.vf(0, 1)}={mac(1)}")
    vfs = guests("list", "--json").json["pfs"][0]["vfs"]
    assert [vf["domain"] for vf in vfs] == [None, "web1", None, None]
    assert [vf["domain_runs"] for vf in vfs] == [None, False, None, None]
    lines = guests("list").out.splitlines()
    (line,) = [line for line in lines if bed.vf(0, 1) in line]
    assert "in the definition of web1" in line
    vfs = run("list", "--json").json["pfs"][0]["vfs"]
    assert {vf["domain"] for vf in vfs} == {None}


def test_the_partition_goes_with_the_vf(
    bed, conn, define, guests, run, tmp_path
):
    """From a file into the metadata, and from there to all who ask."""
    define("web1")
    file = tmp_path / "guests.yaml"
    file.write_text(
        f"- {{domain: web1, pci: '{bed.vf(0, 0)}', mac: '{mac(1)}', "
        "pkey: '5:both'}\n"
        f"- {{domain: web1, pci: '{bed.vf(0, 1)}', mac: '{mac(2)}'}}\n"
    )
    both = ["0x0005:both", None]
    done = guests("attach", "--file", str(file), "--json")
    assert [one["pkey"] for one in done.json["results"]] == both
    vfs = guests("list", "--json").json["pfs"][0]["vfs"]
    assert [vf["pkey"] for vf in vfs] == [*both, None, None]
    assert "pkey: '0x0005:both'" in guests("save").out
    bed.seed(0, 0, ONES, ONES, "down")
    conn.lookupByName("web1").setAutostart(True)
    done = guests("restore", "--json")
    assert [one["pkey"] for one in done.json["results"]] == both
    assert bed.seen(0)[0].port == guid(1)
    done = guests("fabric", "export")
    assert [one["pkey"] for one in done.json["members"]] == both
    # What the domain wants comes before what host.yaml says.
    wished = tmp_path / "host.yaml"
    wished.write_text(f"- {{pf: '{bed.pfs[0]}', pkey: 0x8007}}\n")
    done = guests("fabric", "export", "--host-yaml", str(wished))
    assert [one["pkey"] for one in done.json["members"]] == [
        "0x0005:both", "0x8007",
    ]  # fmt: skip
    done = guests("detach", "--file", str(file), "--json")
    assert [one["pkey"] for one in done.json["results"]] == both
    assert "pkey" not in guests("save").out


def test_errors_tell_domain_vf_and_cure(bed, define, guests):
    define("web1")
    done = guests("attach", "web2", f"{bed.vf(0, 0)}={mac(1)}", "--json")
    assert done.code == 2
    assert done.json["error"]["type"] == "DomainNotFound"
    assert "web2" in done.json["error"]["message"]
    assert "virsh list" in done.json["error"]["cure"]
    done = guests("attach", "web1", f"{bed.vf(0, 0)}={mac(1)}", "--live")
    assert done.code == 2
    assert "does not run" in done.err
    done = guests("detach", "web1", bed.vf(0, 0))
    assert done.code == 2
    assert bed.vf(0, 0) in done.err


@pytest.mark.parametrize(
    "words",
    [
        ["attach"],
        ["attach", "web1"],
        ["attach", "web1", "0000:3b:00.2"],
        ["attach", "web1", f"0000:3b:00.2={mac(1)}", "--file", "x"],
        ["detach", "web1"],
        ["detach", "web1", "nonsense"],
        ["detach", "web1", "0000:3b:00.2", "--timeout", "-1"],
    ],
)
def test_bad_words(run, words):
    assert run(*words).code == 2


def test_without_libvirt_python_it_says_so(bed, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "libvirt", None)
    vf = bed.vf(0, 0)
    done = run("attach", "web1", f"{vf}={mac(1)}")
    assert done.code == 1
    assert "install the package's extra 'libvirt'" in done.err
    assert bed.seen(0)[0].policy == "down"
    assert run("plug", f"{vf}={mac(1)}").code == 0
    assert run("list").code == 0
    assert run("list", "--connect", "qemu:///system").code == 1


def test_without_a_libvirt_it_says_so(bed, run, tmp_path):
    pytest.importorskip("libvirt", reason="libvirt-python is not installed")
    uri = f"qemu+unix:///system?socket={tmp_path}/none"
    done = run("attach", "web1", f"{bed.vf(0, 0)}={mac(1)}", "--connect", uri)
    assert done.code == 1
    assert "systemctl start libvirtd" in done.err
    assert bed.seen(0)[0].policy == "down"


def test_list_does_not_import_libvirt(bed, host):
    """Where nobody asked for it: it takes as long as all the rest."""
    code = (
        "import sys; from ibhostdev.cli import main; "
        f"main(['--host', {bed.command[-1]!r}, 'list']); "
        "sys.exit('libvirt' in sys.modules)"
    )
    with bed.hold(bed.vf(0, 0)):
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True
        )
