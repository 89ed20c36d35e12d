# SPDX-License-Identifier: Apache-2.0
"""The hook, run as libvirt runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ibhostdev import PciAddress, Vif
from ibhostdev.guest.xml import NAMESPACE, hostdev, write_vifs
from tests.flavours import ONES, ZERO, guid, mac
from tests.testbed import Seen

SCRIPT = Path(sys.executable).parent / "ibhostdev-libvirt-hook"
FRESH = Seen(ZERO, ZERO, "down")
IDLE = Seen(ONES, ONES, "down")


def plugged(number):
    return Seen(guid(number), guid(number), "follow")


@pytest.fixture
def hook(bed, host, tmp_path):
    """Runs the script by its link in libvirt's folder, with the environment
    that libvirt gives."""
    link = tmp_path / "qemu.d" / "ibhostdev"
    link.parent.mkdir()
    link.symlink_to(SCRIPT)

    def hook(operation, suboperation, xml):
        return subprocess.run(
            [link, "web1", operation, suboperation, "-"],
            input=xml,
            env={
                "LC_ALL": "C",
                "PATH": os.environ["PATH"],
                "IBHOSTDEV_HOST": bed.command[-1],
            },
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return hook


def xml(devices, vifs):
    noted = write_vifs(vifs) or ""
    noted = noted.replace("<vifs>", f"<vifs xmlns='{NAMESPACE}'>")
    inner = "".join(hostdev(PciAddress(pci)) for pci in devices)
    return (
        f"<domain><name>web1</name><metadata>{noted}</metadata>"
        f"<devices>{inner}</devices></domain>"
    )


@pytest.fixture
def vifs(bed, host):
    return [Vif.parse(bed.vf(0, n), mac(n + 1)) for n in range(2)]


def test_a_domain_starts_with_its_identities_and_leaves_none(bed, hook, vifs):
    text = xml([vif.pci for vif in vifs], vifs)
    done = hook("prepare", "begin", text)
    assert done.returncode == 0, done.stderr
    assert bed.seen(0) == [plugged(1), plugged(2), FRESH, FRESH]
    for operation in (
        ("start", "begin"),
        ("started", "begin"),
        ("reconnect", "begin"),
        ("stopped", "end"),
    ):
        assert hook(*operation, text).returncode == 0
    assert bed.seen(0) == [plugged(1), plugged(2), FRESH, FRESH]
    assert hook("release", "end", text).returncode == 0
    assert bed.seen(0) == [IDLE, IDLE, FRESH, FRESH]


def test_a_domain_starts_with_a_guid_of_a_group(bed, host, hook):
    """A MAC of it would be a group's; a GUID of a guest's is like any."""
    odd = "11:22:33:44:77:66:77:90"
    vif = Vif.parse(bed.vf(0, 1), odd)
    text = xml([vif.pci], [vif])
    done = hook("prepare", "begin", text)
    assert done.returncode == 0, done.stderr
    assert f"warning: GUID {odd} has the lowest bit" in done.stderr
    assert bed.seen(0)[1] == Seen(odd, odd, "follow")
    done = hook("release", "end", text)
    assert (done.returncode, done.stderr) == (0, "")
    assert bed.seen(0)[1] == IDLE


def test_a_domain_starts_with_two_guids_of_a_vf(bed, hook):
    vif = Vif.parse(bed.vf(0, 1), mac(1), node_guid=guid(2))
    text = xml([vif.pci], [vif])
    assert hook("prepare", "begin", text).returncode == 0
    assert bed.seen(0)[1] == Seen(guid(2), guid(1), "follow")
    assert hook("release", "end", text).returncode == 0
    assert bed.seen(0)[1] == IDLE


def test_a_failing_plug_keeps_the_domain_from_starting(bed, hook, vifs):
    bed.fail(bed.vf(0, 1), 5)
    done = hook("prepare", "begin", xml([vif.pci for vif in vifs], vifs))
    assert done.returncode != 0
    assert bed.vf(0, 1) in done.stderr
    assert "kernel log" in done.stderr
    assert bed.seen(0)[0].policy == "down"


def test_a_vf_that_is_not_there_keeps_the_domain_from_starting(hook, host):
    vif = Vif.parse("0000:99:00.1", mac(1))
    done = hook("prepare", "begin", xml([vif.pci], [vif]))
    assert done.returncode != 0
    assert "0000:99:00.1" in done.stderr


def test_malformed_metadata_keeps_the_domain_from_starting(bed, hook, vifs):
    text = xml([vif.pci for vif in vifs], vifs).replace("mac=", "mak=")
    done = hook("prepare", "begin", text)
    assert done.returncode != 0
    assert "metadata of domain web1" in done.stderr
    assert bed.seen(0) == [FRESH] * 4


def test_a_gid_in_place_of_a_guid_is_told(bed, hook, vifs):
    gid = "fe80::2:c903:a0:91"
    text = xml([vifs[0].pci], vifs[:1])
    text = text.replace(f'mac="{vifs[0].guid.mac}"', f'guid="{gid}"')
    for operation in (("prepare", "begin"), ("release", "end")):
        done = hook(*operation, text)
        assert done.returncode == 0
        told = f"warning: metadata of domain web1: {gid} is taken for its last"
        assert told in done.stderr
    # Also where it fails, which is when libvirt tells what the hook said.
    bed.fail(bed.vf(0, 0), 5)
    done = hook("prepare", "begin", text)
    assert done.returncode != 0
    assert told in done.stderr


def test_all_of_the_metadata_that_is_malformed_is_told(bed, hook, vifs):
    text = xml([vif.pci for vif in vifs], vifs)
    for number, vif in enumerate(vifs):
        text = text.replace(vif.guid.mac, f"odd{number}")
    done = hook("prepare", "begin", text)
    assert done.returncode != 0
    for number, vif in enumerate(vifs):
        assert f"'odd{number}' is not a MAC" in done.stderr
        assert f"(of {vif.pci})" in done.stderr


def test_a_vf_that_left_the_definition_is_not_taken(bed, hook, vifs):
    """It may be another guest's by now."""
    done = hook("prepare", "begin", xml([vifs[1].pci], vifs))
    assert done.returncode == 0, done.stderr
    assert bed.seen(0)[:2] == [FRESH, plugged(2)]


def test_the_end_of_a_clone_leaves_the_original_alone(bed, hook, vifs):
    """virt-clone copies the metadata; the VFs are the original's, or the clone
    has others."""
    original = xml([vif.pci for vif in vifs], vifs)
    assert hook("prepare", "begin", original).returncode == 0
    for devices in ([], [bed.vf(0, 2)]):
        clone = xml(devices, vifs)
        for operation in (("prepare", "begin"), ("release", "end")):
            done = hook(*operation, clone)
            assert done.returncode == 0, done.stderr
        assert bed.seen(0) == [plugged(1), plugged(2), FRESH, FRESH]


def test_release_leaves_what_is_another_ones(bed, hook, vifs):
    bed.seed(0, 0, guid(7), guid(7), "follow")
    text = xml([vif.pci for vif in vifs], vifs)
    assert hook("release", "end", text).returncode == 0
    assert bed.seen(0)[0] == plugged(7)


def test_domains_of_others_are_none_of_its_business(bed, hook):
    text = xml([bed.vf(0, 0)], [])
    for operation in (("prepare", "begin"), ("release", "end")):
        done = hook(*operation, text)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert bed.seen(0) == [FRESH] * 4


def test_the_operators_hooks_are_told(bed, hook, vifs, tmp_path):
    """libvirt reads what the script says only if it fails."""
    told = tmp_path / "told"
    folder = bed.folder / "hooks.d"
    folder.mkdir(mode=0o755)
    site = folder / "site"
    site.write_text(f"#!/bin/sh\ncat > {told}.$IBHOSTDEV_EVENT\nexit 1\n")
    site.chmod(0o755)
    domain = xml([vifs[0].pci], vifs[:1])
    done = hook("prepare", "begin", domain)
    assert done.returncode == 0
    assert "ended with 1" in done.stderr
    event = json.loads((tmp_path / "told.plugged").read_text())
    assert event["results"][0]["guid"] == guid(1)
    assert hook("release", "end", domain).returncode == 0
    event = json.loads((tmp_path / "told.unplugged").read_text())
    assert event["results"][0]["pci"] == vifs[0].pci
