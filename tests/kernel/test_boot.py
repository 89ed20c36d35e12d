# SPDX-License-Identifier: Apache-2.0
"""A host that systemd has booted, as ``vm/boot`` has set it up: two PFs with
64 VFs each by host.yaml, and a domain of libvirt's that starts by itself, with
a VF of the first. Each test leaves the host as the boot has left it.

Witnesses are systemd and its journal, udev, sysfs, ``ip``: nothing of ours.
"""

import json
import os
import re
import subprocess
from collections import Counter
from pathlib import Path

import libvirt
import pytest

from ibhostdev.host.journal import GIVEN
from tests.kernel.testbed import (
    DEVICES,
    MODULE,
    PCI,
    driver,
    identity,
    knob,
    read,
    run,
    sriov_functions,
    unbind,
    until,
    write,
)

pytestmark = pytest.mark.boot

UNITS = ("ibhostdev-apply.service", "ibhostdev-apply@.service")
FILE = Path("/etc/ibhostdev/host.yaml")
DRIVERS = ("vfio-pci", "mlx5_core")
PFS = sriov_functions()
# Of systemd: sd-messages.h, SD_MESSAGE_UNIT_STARTED_STR.
STARTED = "39f53479d3a045ac8e11786248231fbf"
VFS = range(64)
GUESTS = 3  # of the first PF


def guid(pf, index):
    return f"fa:16:3e:00:00:00:{pf + 1:02x}:{index:02x}"


def vf(pf, index):
    return (DEVICES / PFS[pf] / f"virtfn{index}").readlink().name


def netdev(pf):
    (name,) = os.listdir(DEVICES / PFS[pf] / "net")
    return name


def identities(pf):
    """Of its VFs, node and port and the link's state, as ``ip`` shows it."""
    (link,) = json.loads(run("ip", "-d", "-json", "link", "show", netdev(pf)))
    return [
        (one["node guid"], one["port guid"], one["link_state"])
        for one in link["vfinfo_list"]
    ]


def met(pf):
    """Of its VFs, the drivers that each was bound to since it is there, by
    what udev was told."""
    paths = [str(DEVICES / vf(pf, index)) for index in VFS]
    told = run("udevadm", "info", "-q", "property", *paths)
    return re.findall(r"^RIG_BOUND=(.*)", told, re.MULTILINE)


def shown(unit, name):
    return run("systemctl", "show", "--value", "-p", name, unit).strip()


def journal(*matches):
    run("journalctl", "--sync")
    lines = run("journalctl", "-b", "-q", "-o", "json", *matches)
    return [json.loads(line) for line in lines.splitlines()]


def given():
    return journal(f"MESSAGE_ID={GIVEN}")


def runs(pf):
    """How often udev has had the PF's unit run to its end."""
    unit = f"ibhostdev-apply@{PFS[pf]}.service"
    return len(journal(f"MESSAGE_ID={STARTED}", f"UNIT={unit}"))


def settle():
    """All is over that udev has been told of, and what it starts."""
    run("udevadm", "settle", "--timeout=600")
    until(lambda: "No jobs" in run("systemctl", "list-jobs"), 600)


def rebind(pf):
    unbind(pf)
    write(PCI / "drivers/mlx5_core/bind", pf)


def boot_again():
    """What systemd does at the end of a boot; the guest stays."""
    run("systemctl", "stop", "multi-user.target", "libvirtd", UNITS[0])
    run("systemctl", "start", "multi-user.target")


@pytest.fixture(autouse=True)
def guest():
    settle()
    conn = libvirt.open("qemu:///system")
    guest = conn.lookupByName("guest")
    until(lambda: guest.state()[0] == libvirt.VIR_DOMAIN_RUNNING, 120)
    yield guest
    conn.close()


def assert_as_it_is_to_be():
    for pf in (0, 1):
        assert identities(pf) == [
            (guid(pf, index), guid(pf, index), "auto") for index in VFS
        ]
        assert [driver(vf(pf, index)) for index in VFS] == [DRIVERS[pf]] * 64
    # What it took when its driver was bound.
    assert [identity(vf(1, index)) for index in VFS] == [
        guid(1, index) for index in VFS
    ]
    assert [
        index
        for index in VFS
        if read(DEVICES / vf(0, index) / "enable") != "0"
    ] == [GUESTS]
    assert (
        run("systemctl", "list-units", "--failed", "--no-legend", "ibhostdev*")
        == ""
    )


def test_vfs_are_who_they_are_to_be_before_libvirt_starts():
    assert_as_it_is_to_be()
    entries = given()
    assert Counter(
        (one["IBHOSTDEV_PF"], one["IBHOSTDEV_PCI"], one["IBHOSTDEV_GUID"])
        for one in entries
    ) == Counter(
        (PFS[pf], vf(pf, index), guid(pf, index))
        for pf in (0, 1)
        for index in VFS
    )
    # All by one process, that had ended when libvirt began.
    assert {one["_PID"] for one in entries} == {shown(UNITS[0], "ExecMainPID")}
    assert int(shown(UNITS[0], "ExecMainExitTimestampMonotonic")) < int(
        shown("libvirtd", "ExecMainStartTimestampMonotonic")
    )


def test_no_vf_is_bound_twice():
    for pf in (0, 1):
        assert met(pf) == [DRIVERS[pf]] * 64


def test_udev_has_the_units_run_at_boot():
    assert [runs(pf) for pf in (0, 1)] == [1, 1]


def test_a_driver_is_bound_anew_while_a_guest_has_a_vf(guest):
    """The VFs stay, as mlx5_core left them before Linux 5.8, and lose who
    they were, and their link. The guest's gets both back, and nothing else is
    done to it."""
    before = [runs(pf) for pf in (0, 1)]
    knob("keep_vfs", 1)
    for pf in PFS:
        rebind(pf)
    knob("keep_vfs", 0)
    settle()
    assert [runs(pf) for pf in (0, 1)] == [n + 1 for n in before]
    assert_as_it_is_to_be()
    assert guest.isActive()
    assert met(0) == ["vfio-pci"] * 64


def test_a_module_that_is_loaded_anew_waits_for_the_guest(guest):
    """The VFs go with their PF's driver, and the kernel asks guests for
    theirs. A guest without a system does not answer."""
    asked = "Relaying device request to user"
    removal = subprocess.Popen(["rmmod", MODULE])
    until(lambda: asked in run("dmesg"), 600)
    assert removal.poll() is None
    guest.destroy()
    assert removal.wait() == 0
    before = len(given())
    run("modprobe", MODULE)
    settle()
    guest.create()
    assert_as_it_is_to_be()
    assert len(given()) == before + 128


def test_a_failure_keeps_nothing_from_starting():
    wanted = FILE.read_text()
    FILE.write_text(wanted.replace("vfs: 64", "vfz: 64"))
    boot_again()
    assert shown(UNITS[0], "ActiveState") == "failed"
    assert shown("libvirtd", "ActiveState") == "active"
    assert shown("multi-user.target", "ActiveState") == "active"
    assert int(shown(UNITS[0], "ExecMainExitTimestampMonotonic")) < int(
        shown("libvirtd", "ExecMainStartTimestampMonotonic")
    )
    log = run("journalctl", "-b", "-o", "cat", "-u", UNITS[0])
    assert f"{FILE}, line 2, column 3: 'vfz' is no key here" in log
    assert "the keys are pf, vfs, driver" in log
    FILE.write_text(wanted)
    boot_again()
    assert_as_it_is_to_be()


def test_without_a_file_nothing_happens():
    away = FILE.rename(FILE.with_name("away"))
    boot_again()
    before = runs(1)
    rebind(PFS[1])
    settle()
    assert shown(UNITS[0], "ActiveState") == "inactive"
    assert shown(UNITS[0], "ConditionResult") == "no"
    assert runs(1) == before
    assert read(DEVICES / PFS[1] / "sriov_numvfs") == "0"
    away.rename(FILE)
    boot_again()
    assert_as_it_is_to_be()


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_nothing_wrong_with_a_unit(unit):
    done = subprocess.run(
        [
            "systemd-analyze",
            "verify",
            "--man=no",
            f"/etc/systemd/system/{unit}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    name = unit.replace("@", f"@{PFS[0]}")
    told = run("systemd-analyze", "security", "--no-pager", name)
    (level,) = re.findall(r"exposure level for .*: [\d.]+ (\w+)", told)
    assert level in ("OK", "SAFE", "PERFECT")


def test_udev_finds_nothing_wrong_with_the_rule():
    done = subprocess.run(
        ["udevadm", "verify", "/etc/udev/rules.d/60-ibhostdev.rules"],
        capture_output=True,
        text=True,
        check=False,
    )
    if "nknown command" in done.stderr:
        pytest.skip("needs systemd 254")
    assert done.returncode == 0, done.stdout + done.stderr
