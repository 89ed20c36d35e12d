# SPDX-License-Identifier: Apache-2.0
"""VFs handed to guests by a real libvirt and a real QEMU.

The guests have no system: they stay in their firmware. Such a guest lets go
of a device only where QEMU handles hot-plug without it; one where it is to
answer by ACPI never does.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import libvirt
import pytest

from ibhostdev import BatchFailed, Vif
from ibhostdev.cli import main
from ibhostdev.errors import DeviceInUse, GuidConflict
from ibhostdev.guest import (
    Attachment,
    Detachment,
    Guests,
    GuestsFailed,
    Use,
    connection,
    hostdev,
)
from ibhostdev.guest.errors import (
    AttachedElsewhere,
    LibvirtUnreachable,
    NoFreePort,
    NotReleased,
)
from ibhostdev.pci import PciAddress
from tests.flavours import ONES, guid, mac
from tests.kernel.testbed import run
from tests.testbed import Hca, Seen

IDLE = Seen(ONES, ONES, "down")
HOOKS = Path("/etc/libvirt/hooks/qemu.d")
SETTINGS = {
    # It would need cgroups, mount namespaces and users of a whole system.
    "qemu.conf": 'user = "root"\ngroup = "root"\nsecurity_driver = "none"\n'
    "cgroup_controllers = []\nnamespaces = []\nremember_owner = 0\n"
    'stdio_handler = "file"\n',
    "libvirtd.conf": 'auth_unix_rw = "none"\n'
    'log_outputs = "3:file:/run/libvirtd.log"\n',
}
ANSWERING = """
<qemu:commandline>
  <qemu:arg value='-global'/>
  <qemu:arg value='ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off'/>
</qemu:commandline>
"""


def domain(name, ports, answering=True):
    return f"""
    <domain type='qemu'
            xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
      <name>{name}</name>
      <memory unit='MiB'>32</memory>
      <os><type arch='x86_64' machine='q35'>hvm</type></os>
      <features><acpi/></features>
      <devices>
        <controller type='pci' model='pcie-root'/>
        {"<controller type='pci' model='pcie-root-port'/>" * ports}
        <controller type='usb' model='none'/>
        <memballoon model='none'/>
      </devices>
      {ANSWERING if answering else ""}
    </domain>
    """


class Daemon:
    """libvirtd, as a host's init system runs it."""

    def __init__(self):
        run("modprobe", "-a", "vfio-pci", "vfio_iommu_type1")
        for name, text in SETTINGS.items():
            Path("/etc/libvirt", name).write_text(text)
        HOOKS.mkdir(parents=True)
        script = Path(sys.executable).parent / "ibhostdev-libvirt-hook"
        (HOOKS / "ibhostdev").symlink_to(script)
        self.start()

    def start(self):
        self.process = subprocess.Popen(["libvirtd"])
        end = time.monotonic() + 60
        while True:
            try:
                self.conn = connection.connect()
                return
            except LibvirtUnreachable:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def stop(self):
        """Guests run on."""
        self.conn.close()
        self.process.terminate()
        self.process.wait()

    def start_paused(self, name, ports):
        found = self.conn.defineXML(domain(name, ports))
        found.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)

    def close(self):
        for one in self.conn.listAllDomains():
            if one.isActive():
                one.destroy()
            one.undefine()
        self.stop()


@pytest.fixture(scope="module")
def daemon():
    daemon = Daemon()
    # Those that answer; they serve all tests.
    daemon.start_paused("one", ports=4)
    daemon.start_paused("two", ports=2)
    yield daemon
    daemon.close()


@pytest.fixture
def host(bed):
    bed.build(Hca(vfs=6))
    return bed.connect()


@pytest.fixture
def guests(daemon, host):
    return Guests(host, daemon.conn)


def plugged(number):
    return Seen(guid(number), guid(number), "follow")


def vif(bed, index):
    return Vif.parse(bed.vf(0, index), mac(index + 1))


def attachments(bed, domain, *indices):
    return [Attachment(domain, vif(bed, index)) for index in indices]


def detachments(bed, domain, *indices):
    return [
        Detachment(domain, PciAddress(bed.vf(0, index))) for index in indices
    ]


def assert_back(bed, *indices):
    """On the host's driver, and nobody's, also in its own eyes."""
    for index in indices:
        vf = bed.vf(0, index)
        assert bed.driver(vf) == "mlx5_core"
        assert bed.seen(0)[index] == IDLE
        assert bed.identity(vf) == ONES


def test_four_vfs_on_a_running_domain(bed, daemon, host, guests, capsys):
    vfs = [bed.vf(0, index) for index in range(4)]
    guests.attach(attachments(bed, "one", 0, 1, 2, 3), live=True)
    assert {bed.driver(vf) for vf in vfs} == {"vfio-pci"}
    assert bed.seen(0)[:4] == [plugged(n) for n in (1, 2, 3, 4)]
    assert guests.uses() == {vf: Use("one", running=True) for vf in vfs}

    # list asks libvirt by itself, now that a guest has a VF.
    assert main(["list", bed.pfs[0], "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["pfs"][0]["vfs"]
    assert [vf["domain"] for vf in shown] == ["one"] * 4 + [None] * 2
    assert [vf["in_use"] for vf in shown] == [True] * 4 + [False] * 2

    # Not behind the guest's back.
    for call, kind in (
        (lambda: host.plug([Vif.parse(vfs[0], mac(9))]), DeviceInUse),
        (lambda: host.plug([Vif.parse(bed.vf(0, 4), mac(1))]), GuidConflict),
        (lambda: host.unplug([vif(bed, 0)]), DeviceInUse),
    ):
        with pytest.raises(BatchFailed) as caught:
            call()
        (error,) = caught.value.result.failures
        assert isinstance(error, kind)
    with pytest.raises(AttachedElsewhere, match="one"):
        guests.attach(attachments(bed, "two", 0), live=True)
    assert bed.seen(0)[:4] == [plugged(n) for n in (1, 2, 3, 4)]

    guests.detach(detachments(bed, "one", 0, 1, 2, 3), live=True)
    assert_back(bed, 0, 1, 2, 3)
    assert guests.uses() == {}


def test_two_domains_at_once(bed, guests):
    one, two = attachments(bed, "one", 0, 1), attachments(bed, "two", 2, 3)
    guests.attach([*one, *two], live=True)
    assert guests.uses() == {
        one.vif.pci: Use(one.domain, running=True) for one in [*one, *two]
    }
    assert {bed.driver(bed.vf(0, n)) for n in range(4)} == {"vfio-pci"}
    guests.detach(
        [*detachments(bed, "one", 0, 1), *detachments(bed, "two", 2, 3)]
    )
    assert_back(bed, 0, 1, 2, 3)


def test_what_libvirt_refuses_is_idle_again(bed, guests):
    with pytest.raises(GuestsFailed) as caught:
        guests.attach(attachments(bed, "two", 0, 1, 2), live=True)
    (error,) = caught.value.result.failures
    assert isinstance(error, NoFreePort)
    assert error.domain == "two"
    assert error.device == bed.vf(0, 2)
    assert "pcie-root-port" in error.cure
    assert_back(bed, 2)
    assert bed.seen(0)[:2] == [plugged(1), plugged(2)]
    guests.detach(detachments(bed, "two", 0, 1))
    assert_back(bed, 0, 1)


def test_a_hook_plugs_at_start_and_autostart(bed, daemon, guests):
    guests_domain = daemon.conn.defineXML(
        domain("boot", ports=2, answering=False)
    )
    guests.attach(attachments(bed, "boot", 0), config=True)
    # The host boots: what the kernel knew of identities is gone.
    bed.seed(0, 0, ONES, ONES, "down")

    bed.fail(bed.vf(0, 0), 5)
    with pytest.raises(libvirt.libvirtError) as caught:
        guests_domain.create()
    assert bed.vf(0, 0) in str(caught.value)
    assert "kernel log" in str(caught.value)
    assert bed.driver(bed.vf(0, 0)) == "mlx5_core"
    bed.heal()

    guests_domain.setAutostart(1)
    daemon.stop()
    os.remove("/run/libvirt/qemu/autostarted")
    daemon.start()
    guests = Guests(bed.connect(), daemon.conn)
    guests_domain = daemon.conn.lookupByName("boot")
    assert guests_domain.isActive()
    assert bed.seen(0)[0] == plugged(1)
    assert bed.driver(bed.vf(0, 0)) == "vfio-pci"

    # It does not answer.
    with pytest.raises(GuestsFailed) as caught:
        guests.detach(detachments(bed, "boot", 0), live=True, timeout=1)
    (error,) = caught.value.result.failures
    assert isinstance(error, NotReleased)
    assert error.domain == "boot"
    assert error.device == bed.vf(0, 0)
    assert bed.seen(0)[0] == plugged(1)
    assert bed.driver(bed.vf(0, 0)) == "vfio-pci"

    # One without identity in the metadata stays for its owner to unplug.
    bed.connect().plug([vif(bed, 1)])
    guests_domain.attachDeviceFlags(
        hostdev(PciAddress(bed.vf(0, 1))), libvirt.VIR_DOMAIN_AFFECT_LIVE
    )
    guests_domain.destroy()
    assert_back(bed, 0)
    assert bed.seen(0)[1] == plugged(2)
    bed.connect().unplug([vif(bed, 1)])
    assert_back(bed, 1)
