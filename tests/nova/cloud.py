# SPDX-License-Identifier: Apache-2.0
# mypy: ignore-errors
# (what it is made of, Nova's tests, has no types)
"""A cloud for tests: Nova's own services, on simulated InfiniBand hosts.

Compute manager, conductor, scheduler, placement and the libvirt driver are
Nova's, from its functional tests; libvirt and Neutron are its fakes. Each
compute service works on a simulated host of its own. What libvirt does with
a managed hostdev is done here: while a guest runs, its VFs are on vfio-pci
and open; afterwards the host's driver has them again.
"""

from functools import partial
import json

# First of all: they choose threads or eventlet, in Nova 31 the one and in
# those after it the other.
import nova.monkey_patch
import nova.tests.unit  # noqa: F401

import fixtures
from nova.tests import fixtures as nova_fixtures
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.tests.functional.libvirt import base
from nova.tests.functional.libvirt import test_pci_sriov_servers
from oslo_utils import uuidutils

import hardware
from hardware import NETWORK
from ibhostdev.nova import driver as ib_driver


class Guests(fixtures.Fixture):
    """Gives guests of the fake libvirt the VFs of the simulated hosts."""

    def __init__(self, hardware):
        self.hardware = hardware

    def _setUp(self):
        for name in (
            "createWithFlags",
            "destroy",
            "shutdown",
            "managedSave",
            "attachDevice",
            "detachDevice",
        ):
            self._after(
                fakelibvirt.Domain, name, lambda domain: domain._connection
            )
        self._after(fakelibvirt.Connection, "createXML", lambda conn: conn)

    def _after(self, cls, name, connection):
        real = getattr(cls, name)

        def wrapped(thing, *args, **kwargs):
            result = real(thing, *args, **kwargs)
            if name == "managedSave":
                thing._state = fakelibvirt.VIR_DOMAIN_SHUTOFF
            self.sync(connection(thing))
            return result

        self.useFixture(
            fixtures.MonkeyPatch(
                f"{cls.__module__}.{cls.__name__}.{name}", wrapped
            )
        )

    def sync(self, connection):
        host = self.hardware.get(connection.hostname)
        if host is not None:
            host.hold(addresses(connection))


def addresses(connection):
    """The VFs of the guests that run."""
    return {
        "{:04x}:{:02x}:{:02x}.{:x}".format(
            *(
                int(device[key], 16)
                for key in ("domain", "bus", "slot", "function")
            )
        )
        for domain in list(connection._running_vms.values())
        for device in domain._def["devices"]["hostdevs"]
    }


class CloudTestCase(test_pci_sriov_servers._PCIServersWithMigrationTestBase):
    """Hosts ``a`` and ``b``; whoever may choose boots on ``a``."""

    ADMIN_API = True
    microversion = "latest"
    PCI_ALIAS = []
    PCI_DEVICE_SPEC = [
        json.dumps(
            {
                "vendor_id": fakelibvirt.PCI_VEND_ID,
                "product_id": fakelibvirt.VF_PROD_ID,
                "physical_network": NETWORK,
            }
        )
    ]

    def setUp(self):
        self.useFixture(
            nova_fixtures.HostNameWeigherFixture(weights={"a": 100, "b": 50})
        )
        super().setUp()
        self.neutron = self.useFixture(base.LibvirtNeutronFixture(self))
        self.hardware = {}
        self.guests = self.useFixture(Guests(self.hardware))
        init_host = ib_driver.LibvirtDriver.init_host

        def connected(driver, host):
            driver.vif_driver._run = partial(self._run, host)
            init_host(driver, host)

        self.useFixture(
            fixtures.MonkeyPatch(
                "ibhostdev.nova.driver.LibvirtDriver.init_host", connected
            )
        )
        self.flags(device_detach_timeout="1", group="libvirt")
        self._macs = 0

    def _run(self, host, asked):
        return self.hardware[host].run(asked)

    def _setup_compute_service(self):
        self.flags(compute_driver="ibhostdev.LibvirtDriver")

    # -- hosts

    def start_host(self, name, vfs):
        folder = self.useFixture(fixtures.TempDir()).path
        self.hardware[name] = hardware.Hardware(folder, vfs)
        self.addCleanup(lambda: self.hardware[name].close())
        self.start_compute(hostname=name, pci_info=self.pci_info(name))

    def pci_info(self, name):
        """The same devices for Nova to find."""
        pf, vfs = self.hardware[name].pf, self.hardware[name].vfs
        self.libvirt.update_sriov_mac_address_mapping(
            {pf: "52:54:00:1e:59:c6"}
        )
        return fakelibvirt.HostPCIDevicesInfo(
            num_pfs=1, num_vfs=len(vfs), bus=int(pf.split(":")[1], 16)
        )

    def connection(self, host):
        return self.computes[host].driver._host.get_connection()

    # -- ports and servers

    def create_port(self):
        self._macs += 1
        port = {
            "id": uuidutils.generate_uuid(),
            "network_id": base.LibvirtNeutronFixture.network_4["id"],
            "admin_state_up": True,
            "status": "ACTIVE",
            "mac_address": f"fa:16:3e:00:00:{self._macs:02x}",
            "fixed_ips": [
                {
                    "ip_address": f"192.168.4.{100 + self._macs}",
                    "subnet_id": base.LibvirtNeutronFixture.subnet_4["id"],
                }
            ],
            "binding:vif_details": {
                "port_filter": False,
                "physical_network": NETWORK,
            },
            "binding:vif_type": "ib_hostdev",
            "binding:vnic_type": "direct",
            "tenant_id": nova_fixtures.NeutronFixture.tenant_id,
        }
        self.neutron._ports[port["id"]] = port
        return port["id"]

    def boot(self, ports=2, **kwargs):
        """A server with InfiniBand ports, which are in server['ports']."""
        ids = [self.create_port() for _ in range(ports)]
        server = self._create_server(
            networks=[{"port": port} for port in ids], **kwargs
        )
        server["ports"] = ids
        return server

    def bound(self, server):
        """Where its ports are bound now: PCI address to MAC."""
        ports = [
            self.neutron.show_port(port)["port"] for port in server["ports"]
        ]
        return {
            port["binding:profile"]["pci_slot"]: port["mac_address"]
            for port in ports
        }

    def stub_disks(self):
        """Nova's tests have no disks to move; the rest of the method that
        moves them is what it does to the guest and its ports."""

        def power_off(
            driver,
            context,
            instance,
            dest,
            flavor,
            network_info,
            *args,
            **kwargs,
        ):
            driver.power_off(instance)
            driver.unplug_vifs(instance, network_info)
            return "{}"

        self.useFixture(
            fixtures.MonkeyPatch(
                "nova.virt.libvirt.driver.LibvirtDriver"
                ".migrate_disk_and_power_off",
                power_off,
            )
        )

    # -- what must hold after each step

    def check(self, running=(), **hosts):
        """The VFs of each host have the identities of exactly these servers'
        ports, at the addresses that they are bound to, with links that follow
        the fabric; all others are down. Those of the servers that run were so
        when the guest got them."""
        for name, servers in hosts.items():
            expected = {}
            for one in servers:
                expected |= self.bound(one)
            self.assertEqual(
                expected, self.hardware[name].seen, f"identities on {name}"
            )
        for name, one in running:
            bound, saw = self.bound(one), self.hardware[name].saw
            self.assertLessEqual(
                set(bound),
                addresses(self.connection(name)),
                f"devices of guests on {name}",
            )
            self.assertEqual(
                bound,
                {vf: saw[vf] for vf in bound},
                f"what the guest found on {name}",
            )

    def forget(self):
        for host in self.hardware.values():
            host.forget()

    def assert_untouched(self, *servers):
        """Nothing was written to these servers' VFs."""
        for one in servers:
            host = self.admin_api.get_server(one["id"])["OS-EXT-SRV-ATTR:host"]
            self.assertEqual(
                set(), set(self.bound(one)) & self.hardware[host].touched
            )
