# SPDX-License-Identifier: Apache-2.0
"""Running guests that are slow, stubborn or dead, and a libvirt that says no.

There is no guest here to be had without VFIO, so these are stand-ins for a
connection and its domains; tests/kernel/test_guest.py has the real ones.
"""

import errno
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ibhostdev import PciAddress, Vif
from ibhostdev.guest import (
    Attachment,
    Detachment,
    Guests,
    GuestsFailed,
    connection,
)
from ibhostdev.guest import releasing as module
from ibhostdev.guest.errors import (
    AttachedElsewhere,
    GuestError,
    IommuGroupShared,
    LibvirtDenied,
    LibvirtUnreachable,
    NoFreePort,
    NoIommu,
    NotReleased,
    ReleaseRefused,
    WrongDomainState,
)
from ibhostdev.guest.xml import NAMESPACE, hostdev, read_hostdevs
from tests.flavours import ONES, guid, mac
from tests.testbed import Seen

libvirt = pytest.importorskip(
    "libvirt", reason="libvirt-python is not installed"
)
IDLE = Seen(ONES, ONES, "down")


def plugged(number):
    return Seen(guid(number), guid(number), "follow")


@pytest.fixture(autouse=True)
def _something_was_the_matter_before():
    """A libvirtError has its text from libvirt's last error, whatever it is
    made for: only what it says when asked is of this matter."""
    connection.connect("test:///default").close()  # silences its own report
    with pytest.raises(libvirt.libvirtError):
        libvirt.open("nowhere:///")


def refusal(
    text,
    code=libvirt.VIR_ERR_INTERNAL_ERROR,
    origin=libvirt.VIR_FROM_QEMU,
    number=-1,
):
    error = libvirt.libvirtError(text)
    error.err = (code, origin, text, 2, None, None, None, number, -1)
    return error


class Domain:
    """A running domain without a definition. ``answer`` says what its guest
    does when it is asked for a device: let it go ("gone"), say nothing
    ("nothing") or refuse ("no")."""

    def __init__(self, conn, name, answer="gone"):
        self.conn, self._name, self.answer = conn, name, answer
        self.devices: dict[str, PciAddress] = {}
        self.metadata = ""
        self.active = True
        self.asked: list[str] = []  # "waits" and "returns" calls
        self.attaching: Callable[[], Any] = lambda: None

    def name(self):
        return self._name

    def isActive(self):
        return self.active

    def isPersistent(self):
        return False

    def XMLDesc(self, flags):
        devices = "".join(
            hostdev(pci).replace("</source>", f"</source><alias name='{a}'/>")
            for a, pci in self.devices.items()
        )
        return (
            f"<domain><name>{self._name}</name>"
            f"<metadata>{self.metadata}</metadata>"
            f"<devices>{devices}</devices></domain>"
        )

    def setMetadata(self, kind, text, prefix, uri, flags):
        assert uri == NAMESPACE
        self.metadata = (text or "").replace("<vifs>", f"<vifs xmlns='{uri}'>")

    def attachDeviceFlags(self, text, flags):
        self.attaching()
        (pci,) = read_hostdevs(f"<d><devices>{text}</devices></d>")
        self.devices[f"hostdev{len(self.devices)}"] = pci

    def detachDeviceFlags(self, text, flags):
        (pci,) = read_hostdevs(f"<d><devices>{text}</devices></d>")
        found = [a for a, p in self.devices.items() if p == pci]
        if not found:
            raise refusal("domain is not running")
        (alias,) = found
        self._ask("waits", alias)

    def detachDeviceAlias(self, alias, flags):
        self._ask("returns", alias)

    def _ask(self, how, alias):
        self.asked.append(how)
        if self.answer == "gone":
            del self.devices[alias]
            self.conn.tell(libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED)(
                self.conn, self, alias, None
            )
        elif self.answer == "no":
            self.conn.tell(libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED)(
                self.conn, self, alias, None
            )

    def end(self):
        self.active = False
        self.devices.clear()
        self.conn.tell(libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE)(
            self.conn, self, libvirt.VIR_DOMAIN_EVENT_STOPPED, 0, None
        )


class Connection:
    def __init__(self):
        self.domains: list[Domain] = []
        self.calls: dict[int, Any] = {}

    def add(self, name, answer="gone"):
        self.domains.append(Domain(self, name, answer))
        return self.domains[-1]

    def listAllDomains(self, flags):
        if flags == libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE:
            return self.domains
        return []

    def domainEventRegisterAny(self, domain, event, call, opaque):
        self.calls[event] = call
        return event

    def domainEventDeregisterAny(self, number):
        del self.calls[number]

    def tell(self, event):
        return self.calls.get(event, lambda *_: None)


@pytest.fixture
def conn():
    return Connection()


@pytest.fixture
def guests(host, conn):
    return Guests(host, conn)


def attach(bed, guests, domain, *indices):
    return guests.attach(
        [
            Attachment(domain, Vif.parse(bed.vf(0, n), mac(n + 1)))
            for n in indices
        ]
    )


def detach(bed, guests, domain, *indices, timeout=0.2):
    return guests.detach(
        [Detachment(domain, PciAddress(bed.vf(0, n))) for n in indices],
        timeout=timeout,
    )


def test_a_guest_that_answers(bed, conn, guests):
    domain = conn.add("web1")
    attach(bed, guests, "web1", 0, 1, 2)
    result = detach(bed, guests, "web1", 0, 1, 2, timeout=600)
    assert all(one.changed for one in result.results)
    assert bed.seen(0)[:3] == [IDLE] * 3
    assert domain.asked == ["waits"] * 3
    assert conn.calls == {}


def test_a_dead_guest_is_not_waited_for_vf_by_vf(
    bed, conn, guests, monkeypatch
):
    monkeypatch.setattr(module, "_LIBVIRT_WAITS", 0.1)
    monkeypatch.setattr(module, "_EVENT_LAG", 0.01)
    domain = conn.add("web1", "nothing")
    attach(bed, guests, "web1", 0, 1, 2)
    with pytest.raises(GuestsFailed) as caught:
        detach(bed, guests, "web1", 0, 1, 2, timeout=2)
    assert domain.asked == ["waits", "returns", "returns"]
    for index, error in enumerate(caught.value.result.failures):
        assert isinstance(error, NotReleased)
        assert (error.domain, error.device) == ("web1", bed.vf(0, index))
    # It still has them, with their identities, and the hook knows.
    assert bed.seen(0)[:3] == [plugged(1), plugged(2), plugged(3)]
    assert domain.metadata.count("mac=") == 3


def test_one_that_wakes_up_is_detached_by_the_next_call(bed, conn, guests):
    domain = conn.add("web1", "nothing")
    attach(bed, guests, "web1", 0)
    with pytest.raises(GuestsFailed):
        detach(bed, guests, "web1", 0)
    domain.answer = "gone"
    detach(bed, guests, "web1", 0)
    assert bed.seen(0)[0] == IDLE
    assert domain.metadata == ""


def test_a_pending_request_is_waited_for(bed, conn, guests, monkeypatch):
    domain = conn.add("web1")
    attach(bed, guests, "web1", 0)

    def pending(how, alias):
        threading.Timer(0.1, Domain._ask, (domain, how, alias)).start()
        raise refusal(
            "unable to execute QEMU command 'device_del': Device hostdev0 is "
            "already in the process of unplug"
        )

    monkeypatch.setattr(domain, "_ask", pending)
    detach(bed, guests, "web1", 0, timeout=600)
    assert bed.seen(0)[0] == IDLE


def test_a_guest_that_refuses_is_not_waited_for(bed, conn, guests):
    conn.add("web1", "no")
    attach(bed, guests, "web1", 0)
    with pytest.raises(GuestsFailed) as caught:
        detach(bed, guests, "web1", 0, timeout=600)
    (error,) = caught.value.result.failures
    assert isinstance(error, ReleaseRefused)
    assert bed.seen(0)[0] == plugged(1)


def test_a_guest_that_ends_has_let_go(bed, conn, guests):
    domain = conn.add("web1", "nothing")
    attach(bed, guests, "web1", 0, 1)
    threading.Timer(0.1, domain.end).start()
    detach(bed, guests, "web1", 0, 1, timeout=600)
    assert bed.seen(0)[:2] == [IDLE] * 2


def test_a_dead_guest_does_not_hold_up_the_others(bed, conn, guests):
    conn.add("dead", "nothing")
    conn.add("well")
    attach(bed, guests, "dead", 0)
    attach(bed, guests, "well", 1)
    with pytest.raises(GuestsFailed) as caught:
        guests.detach(
            [
                Detachment("dead", PciAddress(bed.vf(0, 0))),
                Detachment("well", PciAddress(bed.vf(0, 1))),
            ],
            timeout=0.2,
        )
    assert [one.error is None for one in caught.value.result.results] == [
        False,
        True,
    ]
    assert bed.seen(0)[:2] == [plugged(1), IDLE]


def test_domains_are_served_at_once(bed, conn, guests):
    """Each waits for all others to be attached to."""
    meeting = threading.Barrier(4, timeout=600)
    for number in range(4):
        conn.add(f"web{number}").attaching = meeting.wait
    guests.attach(
        [
            Attachment(f"web{n}", Vif.parse(bed.vf(0, n), mac(n + 1)))
            for n in range(4)
        ]
    )
    assert bed.seen(0) == [plugged(n + 1) for n in range(4)]


@pytest.mark.parametrize(
    ("error", "kind", "cure"),
    [
        (
            refusal(
                "internal error: No more available PCI slots",
                origin=libvirt.VIR_FROM_DOMAIN,
            ),
            NoFreePort,
            "pcie-root-port",
        ),
        (
            refusal(
                "Requested operation is not valid: PCI device 0000:3b:00.1 "
                "is in use by driver QEMU, domain web2",
                libvirt.VIR_ERR_OPERATION_INVALID,
                libvirt.VIR_FROM_NONE,
            ),
            AttachedElsewhere,
            "ibhostdev detach web2",
        ),
        (
            refusal(
                "unsupported configuration: host doesn't support "
                "passthrough of host PCI devices",
                libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
            ),
            NoIommu,
            "modprobe vfio-pci",
        ),
        (
            # On a machine that speaks German.
            refusal(
                "Nicht unterstützte Konfiguration: Host unterstützt keine "
                "Durchleitung von Host-PCI-Geräten",
                libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
            ),
            NoIommu,
            "modprobe vfio-pci",
        ),
        (
            refusal(
                "Angeforderte Operation ist ungültig: Domäne läuft nicht",
                libvirt.VIR_ERR_OPERATION_INVALID,
                libvirt.VIR_FROM_DOMAIN,
            ),
            WrongDomainState,
            "--config",
        ),
        (
            refusal(
                "internal error: unable to execute QEMU command "
                "'device_add': vfio 0000:3b:00.1: group 7 is not viable"
            ),
            IommuGroupShared,
            "ACS",
        ),
        (
            refusal("access denied", libvirt.VIR_ERR_ACCESS_DENIED),
            LibvirtDenied,
            "group libvirt",
        ),
        (
            refusal(
                "client socket is closed",
                libvirt.VIR_ERR_INTERNAL_ERROR,
                libvirt.VIR_FROM_RPC,
            ),
            LibvirtUnreachable,
            "daemon",
        ),
        (refusal("something new"), GuestError, "log"),
    ],
)
def test_what_libvirt_says_is_told_with_its_cure(
    bed, conn, guests, error, kind, cure
):
    domain = conn.add("web1")

    def refuse():
        raise error

    domain.attaching = refuse
    with pytest.raises(GuestsFailed) as caught:
        attach(bed, guests, "web1", 0)
    (told,) = caught.value.result.failures
    assert type(told) is kind
    assert (told.domain, told.device) == ("web1", bed.vf(0, 0))
    assert cure in told.cure
    assert bed.seen(0)[0] == IDLE
    assert domain.metadata == ""


@pytest.mark.parametrize(
    ("error", "kind", "cure"),
    [
        (
            refusal(
                "Verbindung zu Socket fehlgeschlagen: Keine Berechtigung",
                libvirt.VIR_ERR_SYSTEM_ERROR,
                libvirt.VIR_FROM_RPC,
                errno.EACCES,
            ),
            LibvirtDenied,
            "group libvirt",
        ),
        (
            refusal(
                "authentication failed: access denied by policy",
                libvirt.VIR_ERR_AUTH_FAILED,
                libvirt.VIR_FROM_RPC,
            ),
            LibvirtDenied,
            "group libvirt",
        ),
        (
            refusal(
                "Failed to connect socket: No such file or directory",
                libvirt.VIR_ERR_SYSTEM_ERROR,
                libvirt.VIR_FROM_RPC,
                errno.ENOENT,
            ),
            LibvirtUnreachable,
            "start its daemon",
        ),
    ],
)
def test_why_libvirt_cannot_be_reached_is_told_with_its_cure(
    monkeypatch, error, kind, cure
):
    def refuse(uri):
        raise error

    monkeypatch.setattr(libvirt, "open", refuse)
    with pytest.raises(GuestError) as caught:
        connection.connect("qemu:///system")
    assert type(caught.value) is kind
    assert caught.value.device == "qemu:///system"
    assert error.get_error_message() in str(caught.value)
    assert cure in caught.value.cure


def test_an_interruption_leaves_no_vf_of_nobody(bed, conn, guests):
    domain = conn.add("web1")

    def interrupt():
        if domain.devices:
            raise KeyboardInterrupt

    domain.attaching = interrupt
    with pytest.raises(KeyboardInterrupt):
        attach(bed, guests, "web1", 0, 1, 2)
    assert bed.seen(0)[:3] == [plugged(1), IDLE, IDLE]
    assert domain.metadata.count("mac=") == 1
