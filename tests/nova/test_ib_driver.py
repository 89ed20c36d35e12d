# SPDX-License-Identifier: Apache-2.0
"""The driver's contract with Nova: what it raises, what it never raises."""

import errno
import logging
from unittest import mock

# First of all: they choose threads or eventlet, in Nova 31 the one and in
# those after it the other.
import nova.monkey_patch
import nova.tests.unit  # noqa: F401

import fixtures
from nova.compute import task_states
from nova.compute import vm_states
from nova import exception
from nova.network import model as network_model
from nova import objects
from nova import test
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.tests.unit import fake_instance
from nova.virt import fake
from nova.virt.libvirt import config as vconfig
from nova.virt.libvirt import driver as libvirt_driver
from nova.virt.libvirt import vif as libvirt_vif
from oslo_config import cfg
from oslo_utils.fixture import uuidsentinel as uuids

import hardware
from ibhostdev import errors
from ibhostdev.nova import driver as ib_driver
from ibhostdev.nova import vif as ib_vif

CONF = cfg.CONF


class IbTestCase(test.NoDBTestCase):
    """A VIF driver on a simulated host with four VFs."""

    def setUp(self):
        super().setUp()
        self.hardware = hardware.Hardware(
            self.useFixture(fixtures.TempDir()).path, vfs=4
        )
        self.addCleanup(self.hardware.close)
        self.vfs = self.hardware.vfs
        self.driver = ib_vif.LibvirtGenericVIFDriver()
        self.driver._run = self.hardware.run
        self.instance = fake_instance.fake_instance_obj(
            None, uuid=uuids.instance
        )

    def vif(self, index, **changes):
        """A port as Nova has it, bound to a VF."""
        values = {
            "id": getattr(uuids, f"port{index}"),
            "address": f"fa:16:3e:00:00:{index:02x}",
            "type": network_model.VIF_TYPE_IB_HOSTDEV,
            "vnic_type": network_model.VNIC_TYPE_DIRECT,
            "network": network_model.Network(
                id=uuids.network,
                bridge=None,
                label=None,
                subnets=[],
                physical_network=hardware.NETWORK,
            ),
            "details": {"port_filter": False},
            "profile": {
                "pci_slot": self.vfs[index],
                "physical_network": hardware.NETWORK,
            },
        }
        return network_model.VIF(**(values | changes))

    def network(self, **meta):
        return network_model.Network(
            id=uuids.network, bridge=None, label=None, subnets=[], **meta
        )

    def expect(self, *vifs):
        self.assertEqual(
            {vif["profile"]["pci_slot"]: vif["address"] for vif in vifs},
            self.hardware.seen,
        )

    def plug(self, *vifs):
        self.driver.plug_ib_hostdevs(self.instance, vifs)

    def plug_failing(self, *vifs):
        error = self.assertRaises(
            exception.VirtualInterfacePlugException, self.plug, *vifs
        )
        return str(error)


class VifDriverTest(IbTestCase):
    def test_plug_and_unplug(self):
        vif = self.vif(0)
        self.driver.plug(self.instance, vif)
        self.expect(vif)
        self.driver.unplug(self.instance, vif)
        self.expect()

    def test_many_cross_once(self):
        vifs = [self.vif(index) for index in range(4)]
        self.plug(*vifs)
        self.expect(*vifs)
        self.driver.unplug_ib_hostdevs(self.instance, vifs)
        self.expect()
        self.assertEqual([("plug", 4), ("unplug", 4)], self.hardware.calls)

    def test_again_writes_nothing(self):
        vif = self.vif(0)
        self.plug(vif)
        self.hardware.forget()
        self.hardware.hold([self.vfs[0]])
        self.plug(vif)
        self.assertEqual(set(), self.hardware.touched)

    def test_mac_in_capitals(self):
        self.plug(self.vif(0, address="FA:16:3E:00:00:00"))
        self.expect(self.vif(0))

    def config(self, driver, vif):
        return driver.get_config(
            self.instance, vif, objects.ImageMeta(), objects.Flavor(), "kvm"
        )

    def test_config_is_a_managed_hostdev(self):
        config = self.config(self.driver, self.vif(2))
        self.assertIsInstance(config, vconfig.LibvirtConfigGuestHostdevPCI)
        xml = config.to_xml()
        self.assertIn('managed="yes"', xml)
        slot, function = self.vfs[2].split(":")[2].split(".")
        self.assertIn(f'slot="0x{slot}" function="0x{function}"', xml)

    def test_config_is_novas(self):
        novas = libvirt_vif.LibvirtGenericVIFDriver()
        for vif in (self.vif(0), self.vif(3)):
            self.assertEqual(
                self.config(novas, vif).to_xml(),
                self.config(self.driver, vif).to_xml(),
            )

    def test_other_ports_go_to_nova(self):
        vif = self.vif(0, type=network_model.VIF_TYPE_TAP)
        with mock.patch.object(
            libvirt_vif.LibvirtGenericVIFDriver,
            "plug_tap",
        ) as plug:
            self.driver.plug(self.instance, vif)
        plug.assert_called_once_with(self.instance, vif)
        self.expect()

    # -- physical network

    def test_network_of_the_meta_comes_first(self):
        self.plug_failing(
            self.vif(
                0,
                network=self.network(physical_network="elsewhere"),
                details={"physical_network": hardware.NETWORK},
            )
        )

    def test_network_of_the_details_comes_next(self):
        self.plug(
            self.vif(
                0,
                network=self.network(),
                details={"physical_network": hardware.NETWORK},
            )
        )
        self.plug_failing(
            self.vif(
                1,
                network=self.network(),
                details={"physical_network": "elsewhere"},
            )
        )

    def test_no_network_is_any(self):
        self.plug(
            self.vif(
                0,
                network=self.network(),
                profile={
                    "pci_slot": self.vfs[0],
                    "physical_network": "elsewhere",
                },
            )
        )
        self.expect(self.vif(0))

    # -- plug tells

    def test_failure_tells_everything(self):
        self.hardware.fail(self.vfs[1], errno.EIO)
        told = self.plug_failing(self.vif(0), self.vif(1))
        for part in (self.vfs[1], "EIO", "kernel log", uuids.port1):
            self.assertIn(part, told)
        # What it was rolled back for is no cause.
        self.assertNotIn(uuids.port0, told)
        self.expect()

    def test_no_device(self):
        told = self.plug_failing(self.vif(0, profile={}))
        self.assertIn("bound to no PCI device", told)
        self.assertIn(uuids.port0, told)

    def test_malformed(self):
        for changes in (
            {"address": None},
            {"address": "fa:16:3e"},
            {"profile": {"pci_slot": "../../etc"}},
            {"profile": None},
            {"profile": {"pci_slot": 7}},
            {"profile": "0000:3b:00.2"},
            {"network": None, "details": None, "address": 7},
        ):
            self.plug_failing(self.vif(0, **changes))

    def test_input_of_one_port_names_that_port_once(self):
        for changes, port in (
            ({"network": self.network(physical_network="x" * 65)}, "port1"),
            ({"address": "nonsense"}, "port1"),
            ({"address": "00:00:00:00:00:00"}, "port1"),
            ({"profile": {"pci_slot": "0000:3b:1f.7"}}, "port1"),
        ):
            told = self.plug_failing(
                self.vif(0), self.vif(1, **changes), self.vif(2)
            )
            self.assertEqual(1, told.count(getattr(uuids, port)), told)
            for other in ("port0", "port2"):
                self.assertNotIn(getattr(uuids, other), told)
            for thing in ("physical_network", "0000:3b:1f.7"):
                self.assertLessEqual(told.count(thing), 1, told)
        self.expect()

    def test_absent_device(self):
        self.assertIn(
            "0000:3b:1f.7",
            self.plug_failing(
                self.vif(0, profile={"pci_slot": "0000:3b:1f.7"})
            ),
        )

    def test_another_guest_has_it(self):
        self.plug(self.vif(0))
        self.hardware.hold([self.vfs[0]])
        self.hardware.forget()
        self.assertIn(
            "guest",
            self.plug_failing(self.vif(1, profile={"pci_slot": self.vfs[0]})),
        )
        self.assertEqual(set(), self.hardware.touched)

    def test_any_exception_is_converted(self):
        for error in (
            OSError(errno.EPERM, "no"),
            RuntimeError("so"),
            errors.TimedOut("took too long"),
            ValueError("config"),
        ):
            self.driver._run = mock.Mock(side_effect=error)
            self.plug_failing(self.vif(0))

    def test_bad_configuration_is_converted(self):
        with mock.patch.object(
            cfg.ConfigOpts.GroupAttr,
            "__getattr__",
            side_effect=ValueError("mechanism"),
        ):
            self.plug_failing(self.vif(0))

    def test_bad_configuration_does_not_end_nova_compute(self):
        """When it is up, oslo.service reads all options to log them."""
        group = CONF.ibhostdev
        file = self.useFixture(fixtures.TempDir()).join("nova.conf")
        with open(file, "w") as out:
            out.write(
                "[ibhostdev]\nprivileged_call_timeout = soon\n"
                "ebrctl_timeout = 0\nphysical_device_mappings = default\n"
                "[ibhostdev_privileged]\nthread_pool_size = many\n"
                "capabilities = CAP_OF_MINE\nlog_daemon_traceback = maybe\n"
            )
        CONF([], default_config_files=[file], project="nova", version="0")
        self.driver.start()
        CONF.log_opt_values(logging.getLogger(__name__), logging.DEBUG)
        self.assertEqual(120, group.privileged_call_timeout)
        self.assertEqual(30, group.ebrctl_timeout)
        for bad in ("soon", "many", "CAP_OF_MINE", "maybe"):
            self.assertIn(bad, self.stdlog.logger.output)

    # -- unplug does not

    def test_unplug_goes_by_identity(self):
        """The address is another tenant's."""
        mine, theirs = self.vif(0), self.vif(1)
        self.plug(mine, theirs)
        self.driver.unplug(
            self.instance, self.vif(0, profile={"pci_slot": self.vfs[1]})
        )
        self.expect(theirs)

    def test_unplug_of_the_same_mac_on_two_networks(self):
        """Or of a port that Nova's cache has twice."""
        self.plug(self.vif(0), self.vif(1))
        twin = self.vif(2, address=self.vif(0)["address"])
        self.driver.unplug_ib_hostdevs(
            self.instance, [self.vif(0), twin, self.vif(1)]
        )
        self.expect()

    def test_unplug_needs_no_address(self):
        slots = ("nowhere", None, 7, "0000:3b:1f.7")
        for profile in (*({"pci_slot": slot} for slot in slots), None, "x"):
            self.plug(self.vif(0))
            self.driver.unplug(self.instance, self.vif(0, profile=profile))
            self.expect()

    def test_unplug_twice(self):
        self.plug(self.vif(0))
        for _ in range(3):
            self.driver.unplug(self.instance, self.vif(0))
        self.expect()

    def test_unplug_does_what_it_can(self):
        vifs = [self.vif(index) for index in range(3)]
        self.plug(*vifs)
        self.hardware.fail(self.vfs[1], errno.EIO)
        vifs.append(self.vif(3, address="nonsense"))
        self.driver.unplug_ib_hostdevs(self.instance, vifs)
        self.hardware.heal()
        self.expect(vifs[1])
        for part in (self.vfs[1], "EIO", uuids.port1, uuids.port3):
            self.assertIn(part, self.stdlog.logger.output)

    def test_unplug_of_a_port_that_is_refused(self):
        """The others are unplugged all the same."""
        vifs = [self.vif(index) for index in range(3)]
        self.plug(*vifs)
        bad = self.vif(3, network=self.network(physical_network="x" * 65))
        self.driver.unplug_ib_hostdevs(
            self.instance, [*vifs[:2], bad, vifs[2]]
        )
        self.expect()
        errors = [
            line
            for line in self.stdlog.logger.output.splitlines()
            if "Failed to unplug" in line
        ]
        self.assertEqual(1, len(errors), errors)
        self.assertIn(uuids.port3, errors[0])
        self.assertNotIn(uuids.port0, errors[0])

    def test_unplug_raises_nothing(self):
        for error in (
            OSError(errno.EPERM, "no"),
            RuntimeError("so"),
            errors.TimedOut("took too long"),
        ):
            self.driver._run = mock.Mock(side_effect=error)
            self.driver.unplug(self.instance, self.vif(0))

    def test_unplug_leaves_a_running_guest_alone(self):
        self.plug(self.vif(0))
        self.hardware.hold([self.vfs[0]])
        self.driver.unplug(self.instance, self.vif(0))
        self.expect(self.vif(0))

    # -- start

    def test_start_raises_nothing(self):
        for error in (OSError("no"), errors.AccessDenied("no rights")):
            self.driver._run = mock.Mock(side_effect=error)
            self.driver.start()
            self.assertIn(str(error), self.stdlog.logger.output)

    def test_start_tells_of_a_mechanism_that_is_none(self):
        self.flags(mechanism="magic", group="ibhostdev")
        self.driver.start()
        self.assertIn("cannot be plugged", self.stdlog.logger.output)
        self.assertIn("'magic' is no mechanism", self.stdlog.logger.output)

    def test_start_touches_nothing(self):
        self.driver._run = mock.Mock(side_effect=self.hardware.run)
        self.driver.start()
        self.driver._run.assert_called_once()
        self.assertEqual(set(), self.hardware.touched)


class DriverTest(IbTestCase):
    """LibvirtDriver, as far as it is ours."""

    def setUp(self):
        super().setUp()
        self.useFixture(fakelibvirt.LibvirtFixture())
        self.libvirt = ib_driver.LibvirtDriver(fake.FakeVirtAPI())
        self.assertIsInstance(
            self.libvirt.vif_driver, ib_vif.LibvirtGenericVIFDriver
        )
        self.libvirt.vif_driver = self.driver
        self.guest = mock.Mock()
        self.guest.is_active.return_value = False
        self.useFixture(
            fixtures.MockPatchObject(
                self.libvirt._host, "get_guest", return_value=self.guest
            )
        )

    def patch(self, name, **kwargs):
        return self.useFixture(
            fixtures.MockPatchObject(self.driver, name, **kwargs)
        ).mock

    def test_ports_of_an_instance_cross_once(self):
        vifs = network_model.NetworkInfo(
            [self.vif(index) for index in range(3)]
        )
        self.libvirt.plug_vifs(self.instance, vifs)
        self.expect(*vifs)
        self.libvirt.unplug_vifs(self.instance, vifs)
        self.expect()
        self.assertEqual([("plug", 3), ("unplug", 3)], self.hardware.calls)

    def test_other_ports_go_to_nova_one_by_one(self):
        plug, unplug = self.patch("plug"), self.patch("unplug")
        tap = self.vif(1, type=network_model.VIF_TYPE_TAP)
        # Nova's tests have ports that are no dicts.
        ports = [self.vif(0), tap, 7]
        self.libvirt.plug_vifs(self.instance, ports)
        self.expect(self.vif(0))
        self.libvirt.unplug_vifs(self.instance, ports)
        self.expect()
        others = [mock.call(self.instance, one) for one in (tap, 7)]
        self.assertEqual(others, plug.mock_calls)
        self.assertEqual(others, unplug.mock_calls)

    def test_no_port_of_ours_is_nova_alone(self):
        plug, unplug = self.patch("plug"), self.patch("unplug")
        self.libvirt.plug_vifs(self.instance, iter([7]))
        self.libvirt.unplug_vifs(self.instance, iter([7]))
        self.libvirt.unplug_vifs(self.instance, [])
        plug.assert_called_once_with(self.instance, 7)
        unplug.assert_called_once_with(self.instance, 7)
        self.assertEqual([], self.hardware.calls)

    def test_failure_of_others_is_novas(self):
        self.patch("unplug", side_effect=exception.InternalError("no"))
        self.libvirt.plug_vifs(self.instance, [self.vif(0)])
        ports = [7, self.vif(0)]
        self.assertRaises(
            exception.InternalError,
            self.libvirt.unplug_vifs,
            self.instance,
            ports,
        )
        self.expect()
        self.libvirt._unplug_vifs(self.instance, ports, ignore_errors=True)

    def test_failure_is_raised_before_other_ports(self):
        plug = self.patch("plug")
        self.hardware.lost = True
        self.instance.task_state = task_states.SPAWNING
        self.assertRaises(
            exception.VirtualInterfacePlugException,
            self.libvirt.plug_vifs,
            self.instance,
            [7, self.vif(0)],
        )
        plug.assert_not_called()

    def test_failure_is_no_matter_for_a_running_guest(self):
        plug = self.patch("plug")
        self.hardware.lost = True
        self.instance.task_state = task_states.REBOOTING
        self.guest.is_active.return_value = True
        self.libvirt.plug_vifs(self.instance, [7, self.vif(0)])
        plug.assert_called_once_with(self.instance, 7)
        self.assertIn("could not be started", self.stdlog.logger.output)

    def test_failure_is_no_matter_for_a_guest_that_stays_off(self):
        self.hardware.lost = True
        for vm_state in (
            vm_states.ACTIVE,  # as it was before its host went down
            vm_states.RESIZED,
            vm_states.SHELVED,
            vm_states.STOPPED,
            vm_states.SUSPENDED,
        ):
            self.instance.vm_state = vm_state
            self.instance.task_state = None
            self.libvirt.plug_vifs(self.instance, [self.vif(0)])
            # Unless it is being started.
            self.instance.task_state = task_states.POWERING_ON
            self.assertRaises(
                exception.VirtualInterfacePlugException,
                self.libvirt.plug_vifs,
                self.instance,
                [self.vif(0)],
            )

    def test_links_of_a_guest_that_stays_off_are_kept(self):
        vif, host = self.vif(0), self.hardware
        self.instance.task_state = None
        self.libvirt.plug_vifs(self.instance, [vif])
        self.expect(vif)
        host.link(self.vfs[0], 0)
        self.libvirt.plug_vifs(self.instance, [vif])
        self.assertEqual({self.vfs[0]: vif["address"] + " down"}, host.seen)
        self.instance.task_state = task_states.POWERING_ON
        self.libvirt.plug_vifs(self.instance, [vif])
        self.expect(vif)

    def test_links_are_down_before_a_live_migration(self):
        vif, host = self.vif(0), self.hardware
        self.instance.task_state = task_states.MIGRATING
        with mock.patch.object(
            libvirt_driver.LibvirtDriver, "pre_live_migration"
        ) as parent:
            parent.side_effect = lambda *_: self.libvirt.plug_vifs(
                self.instance, [vif]
            )
            self.libvirt.pre_live_migration(
                None, self.instance, None, [vif], None, None
            )
        self.assertEqual({self.vfs[0]: vif["address"] + " down"}, host.seen)
        # As it is attached after it.
        self.driver.plug(self.instance, vif)
        self.expect(vif)

    def test_failure_is_raised_for_a_guest_that_starts_with_its_host(self):
        self.hardware.lost = True
        with mock.patch.object(
            libvirt_driver.LibvirtDriver, "_hard_reboot"
        ) as reboot:
            reboot.side_effect = lambda *_, **__: self.libvirt.plug_vifs(
                self.instance, [self.vif(0)]
            )
            self.assertRaises(
                exception.VirtualInterfacePlugException,
                self.libvirt.resume_state_on_host_boot,
                None,
                self.instance,
                [self.vif(0)],
                [],
            )
        self.libvirt.plug_vifs(self.instance, [self.vif(0)])

    def test_failure_without_a_guest_is_raised(self):
        self.hardware.lost = True
        self.instance.task_state = task_states.SPAWNING
        for error in (exception.InstanceNotFound(instance_id="x"), OSError()):
            self.libvirt._host.get_guest.side_effect = error
            self.assertRaises(
                exception.VirtualInterfacePlugException,
                self.libvirt.plug_vifs,
                self.instance,
                [self.vif(0)],
            )

    def test_init_host_has_the_daemon_started(self):
        start = self.patch("start")
        with mock.patch.object(
            libvirt_driver.LibvirtDriver,
            "init_host",
        ) as init_host:
            self.libvirt.init_host("host")
        init_host.assert_called_once_with("host")
        start.assert_called_once_with()

    def test_attach_fails_as_nova_expects(self):
        self.hardware.lost = True
        self.guest.is_active.return_value = True
        self.assertRaises(
            exception.VirtualInterfacePlugException,
            self.libvirt.attach_interface,
            None,
            self.instance,
            objects.ImageMeta(),
            self.vif(0),
        )
        self.guest.attach_device.assert_not_called()
