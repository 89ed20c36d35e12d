# SPDX-License-Identifier: Apache-2.0
"""What libvirt's domains want of the host: restore, apply and the sweep go by
it. By libvirt's own driver for tests, which keeps domains in memory."""

import pytest

from ibhostdev.guest import connection
from ibhostdev.guest.errors import LibvirtMissing, LibvirtUnreachable
from tests.flavours import ONES, guid, mac

URI = "test:///default"
DOMAIN = """
<domain type='test'>
  <name>{name}</name>
  <metadata>
    <i:vifs xmlns:i="urn:ibhostdev:vifs:1">{vifs}</i:vifs>
  </metadata>
  <memory unit='MiB'>32</memory>
  <os><type>hvm</type></os>
  <devices>{devices}</devices>
</domain>
"""
HOSTDEV = """
<hostdev mode='subsystem' type='pci' managed='yes'><source>
  <address domain='0x{0}' bus='0x{1}' slot='0x{2}' function='0x{3}'/>
</source></hostdev>
"""


@pytest.fixture
def conn():
    """As long as it is open, all connections in this process see the same
    domains."""
    try:
        conn = connection.connect(URI)
    except (LibvirtMissing, LibvirtUnreachable) as error:
        pytest.skip(f"needs libvirt's driver for tests: {error}")
    yield conn
    for domain in conn.listAllDomains():
        if domain.name() != "test":
            if domain.isActive():
                domain.destroy()
            domain.undefine()
    conn.close()


@pytest.fixture
def define(bed, host, conn):
    """A domain with VFs of the first PF, by their identities' numbers."""

    def define(name, **numbers):
        vifs = devices = ""
        for word, number in numbers.items():
            vf = bed.vf(0, int(word.removeprefix("vf")))
            devices += HOSTDEV.format(*vf.replace(".", ":").split(":"))
            if number is not None:
                vifs += f'<i:vif pci="{vf}" mac="{mac(number)}"/>'
        return conn.defineXML(
            DOMAIN.format(name=name, vifs=vifs, devices=devices)
        )

    return define


@pytest.fixture
def run(bed, capsys):
    from ibhostdev.cli import main

    def run(*words):
        capsys.readouterr()
        code = main(["--host", bed.command[-1], *words, "--connect", URI])
        return code, *capsys.readouterr()

    return run


def test_who_runs_and_who_starts_is_restored(bed, define, run):
    define("runs", vf0=1).create()
    define("starts", vf1=2).setAutostart(1)
    define("stopped", vf2=3)
    code, out, err = run("restore")
    assert (code, err) == (0, "")
    assert out.endswith("2 VIFs: 2 restored\n")
    assert [one.port for one in bed.seen(0)][:2] == [guid(1), guid(2)]
    assert bed.seen(0)[2].policy == "down"


def test_a_domain_comes_before_the_file(bed, define, run, tmp_path):
    define("runs", vf0=1).create()
    file = tmp_path / "host.yaml"
    file.write_text(
        f"- {{pf: {bed.pfs[0]}, guids: ['{guid(7)}', '{guid(1)}', "
        f"'{guid(8)}']}}"
    )
    code, _, err = run("restore", "--host-yaml", str(file))
    assert code == 0, err
    seen = bed.seen(0)
    assert (seen[0].port, seen[2].port) == (guid(1), guid(8))


GID = "fe80:0000:0000:0000:0002:c903:00a0:0091"


@pytest.mark.parametrize(
    "words",
    [["restore"], ["doctor"], ["doctor", "--sweep"], ["fabric", "export"]],
)
def test_a_gid_in_place_of_a_guid_is_told(bed, define, conn, run, words):
    text = define("web1", vf0=1).XMLDesc(2)
    given = text.replace(f'mac="{mac(1)}"', f'guid="{GID}"')
    assert given != text
    conn.defineXML(given).create()
    _, out, err = run(*words)
    told = f"metadata of domain web1: {GID} is taken for its last half"
    assert told in " ".join((out + err).split())


def test_malformed_metadata_is_told(bed, define, conn, run):
    """It claims no identity, and the domain has its VF all the same."""
    text = define("web1", vf0=1).XMLDesc(2)
    conn.defineXML(text.replace(mac(1), "odd")).create()
    bed.seed(0, 0, guid(1), guid(1), "follow")
    code, out, _ = run("doctor")
    assert code == 1
    assert "metadata of domain web1: 'odd' is not a MAC" in " ".join(
        out.split()
    )
    code, out, err = run("restore")
    assert "'odd' is not a MAC" in err
    code, out, err = run("doctor", "--sweep", "--fix")
    assert (code, "'odd' is not a MAC" in err) == (0, True)
    assert bed.seen(0)[0].port == guid(1)


def test_what_is_claimed_stays_on_new_vfs(bed, define, run, tmp_path):
    define("web1", vf0=1)
    bed.seed(0, 0, guid(1), guid(1), "follow")
    bed.seed(0, 1, guid(9), guid(9), "follow")
    bed.numvfs(0, 0)
    file = tmp_path / "host.yaml"
    file.write_text(f"- {{pf: {bed.pfs[0]}, vfs: 4}}")
    code, out, err = run("apply", "--file", str(file))
    assert code == 0, err
    assert [one.port for one in bed.seen(0)][:2] == [guid(1), ONES]
    assert "domain web1 claims it" in out


def test_a_running_domain_keeps_the_driver_of_its_vf(
    bed, define, run, tmp_path
):
    """libvirt may be about to hand it on: it is not in use yet."""
    define("web1", vf0=1).create()
    bed.bind(bed.vf(0, 0), "vfio-pci")
    bed.bind(bed.vf(0, 1), "vfio-pci")
    file = tmp_path / "host.yaml"
    file.write_text(f"- {{pf: {bed.pfs[0]}, vfs: 4, driver: mlx5_core}}")
    code, _, err = run("apply", "--file", str(file))
    assert code == 0, err
    assert bed.driver(bed.vf(0, 0)) == "vfio-pci"
    assert bed.driver(bed.vf(0, 1)) == "mlx5_core"


def test_the_sweep_knows_who_had_it(bed, define, run):
    define("web1", vf0=1)
    define("nova", vf3=None)
    for index, number in enumerate((1, 2, 1, 4)):
        bed.seed(0, index, guid(number), guid(number), "follow")
    code, out, _ = run("doctor", "--sweep")
    assert code == 1
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == [
        bed.vf(0, 1), bed.vf(0, 2),
    ]  # fmt: skip
    assert "claimed by domain web1 for another VF" in lines[2]
    assert "2 VFs with an identity" in lines[3]
    assert run("doctor", "--sweep", "--fix")[0] == 0
    assert [one.port for one in bed.seen(0)] == [guid(1), ONES, ONES, guid(4)]
