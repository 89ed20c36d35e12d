# SPDX-License-Identifier: Apache-2.0
"""Everything that Nova does with a guest, and what the VFs are after it.

Each test has a guest with two InfiniBand ports, and other tenants' guests on
the same hosts, whose VFs must not be touched by any of it.
"""

import errno
import os
import shutil
import threading

# First of all: they choose threads or eventlet, in Nova 31 the one and in
# those after it the other.
import nova.monkey_patch
import nova.tests.unit  # noqa: F401

import fixtures
from nova import conf
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.tests.functional import integrated_helpers
from nova.virt.libvirt import driver as libvirt_driver
from nova.virt.libvirt import vif as libvirt_vif

import cloud
import hardware
from ibhostdev.privilege import privsep

CONF = conf.CONF
DOWN = 0  # as the model of the simulated host counts


class LifecycleTest(cloud.CloudTestCase):
    """One host: everything that happens to a guest in its place."""

    def setUp(self):
        super().setUp()
        self.start_host("a", vfs=6)
        self.other = self.boot(host="a")
        self.forget()

    def tearDown(self):
        self.assert_untouched(self.other)
        super().tearDown()

    def check_running(self, *servers):
        servers = [self.other, *servers]
        self.check([("a", one) for one in servers], a=servers)

    def check_off(self, *plugged):
        self.check([("a", self.other)], a=[self.other, *plugged])

    @property
    def calls(self):
        calls = list(self.hardware["a"].calls)
        self.hardware["a"].calls.clear()
        return calls

    def test_boot_and_delete(self):
        server = self.boot()
        self.check_running(server)
        self.assertEqual([("plug", 2)], self.calls)
        self._delete_server(server)
        self.check_off()
        self.assertIn(("unplug", 2), self.calls)

    def test_guest_xml_is_what_nova_makes(self):
        real = libvirt_driver.LibvirtDriver._get_guest_xml
        made = []

        def get_guest_xml(driver, *args, **kwargs):
            ours, driver.vif_driver = driver.vif_driver, novas
            made.append(real(driver, *args, **kwargs))
            driver.vif_driver = ours
            made.append(real(driver, *args, **kwargs))
            return made[-1]

        novas = libvirt_vif.LibvirtGenericVIFDriver()
        self.useFixture(
            fixtures.MonkeyPatch(
                "nova.virt.libvirt.driver.LibvirtDriver._get_guest_xml",
                get_guest_xml,
            )
        )
        self.check_running(self.boot())
        # Before that it has the time of its making.
        theirs, ours = (xml.partition("</metadata>")[2] for xml in made)
        self.assertEqual(2, ours.count("<hostdev "))
        self.assertEqual(theirs, ours)

    def test_hard_reboot(self):
        server = self.boot()
        self.forget()
        self._reboot_server(server, hard=True)
        self.check_running(server)
        self.assertEqual([("unplug", 2), ("plug", 2)], self.calls)

    def test_soft_reboot(self):
        server = self.boot()
        self.forget()
        self._reboot_server(server)
        self.check_running(server)

    def test_stop_and_start(self):
        server = self.boot()
        self.forget()
        self._stop_server(server)
        self.check_off(server)
        self.assertEqual([], self.calls)
        self._start_server(server)
        self.check_running(server)
        self.assertEqual([("unplug", 2), ("plug", 2)], self.calls)

    def test_suspend_and_resume(self):
        server = self.boot()
        self.forget()
        self._suspend_server(server)
        self.check_off(server)
        self.assertEqual([], self.calls)
        self.hardware["a"].forget()
        self._resume_server(server)
        self.check_running(server)
        self.assertEqual([("plug", 2)], self.calls)
        # It was right already.
        self.assertEqual(set(), self.hardware["a"].touched)

    def test_rebuild(self):
        server = self.boot()
        self.forget()
        self._rebuild_server(server, "155d900f-4e14-4e4c-a73d-069cbf4541e6")
        self.check_running(server)
        self.assertEqual([("unplug", 2), ("plug", 2)], self.calls)

    def test_rescue_and_unrescue(self):
        server = self.boot()
        self.forget()
        os.makedirs(os.path.join(CONF.instances_path, server["id"]))
        self._rescue_server(server)
        self.check_running(server)
        self._unrescue_server(server)
        self.check_running(server)
        self.assertEqual([], self.calls)
        self.assertEqual(set(), self.hardware["a"].touched)

    def test_attach_and_detach_interface(self):
        server = self.boot()
        self.forget()
        port = self.create_port()
        self._attach_interface(server, port)
        server["ports"].append(port)
        self.check_running(server)
        self.assertEqual([("plug", 1)], self.calls)
        self._detach_interface(server, port)
        server["ports"].remove(port)
        self.check_running(server)
        self.assertEqual([("unplug", 1)], self.calls)

    def test_attach_that_fails(self):
        """The port is not attached, its VF stays as it was, and the guest
        keeps what it has."""
        server = self.boot()
        port = self.create_port()
        host = self.hardware["a"]
        for vf in host.vfs:
            host.fail(vf, errno.EIO)
        self.assertRaises(
            integrated_helpers.api_client.OpenStackApiException,
            self.api.attach_interface,
            server["id"],
            {"interfaceAttachment": {"port_id": port}},
        )
        host.heal()
        self.check_running(server)

    def test_attach_that_libvirt_refuses(self):
        """The VF is idle again."""
        server = self.boot()
        port = self.create_port()
        self.forget()

        def refuse(domain, xml):
            raise fakelibvirt.make_libvirtError(
                fakelibvirt.libvirtError,
                "no",
                error_code=fakelibvirt.VIR_ERR_OPERATION_FAILED,
            )

        with fixtures.MonkeyPatch(
            "nova.tests.fixtures.libvirt.Domain.attachDevice", refuse
        ):
            self.assertRaises(
                integrated_helpers.api_client.OpenStackApiException,
                self.api.attach_interface,
                server["id"],
                {"interfaceAttachment": {"port_id": port}},
            )
        self.assertEqual(("plug", 1), self.hardware["a"].calls[0])
        self.check_running(server)

    def test_detach_that_the_guest_refuses(self):
        """Nova unplugs all the same; the guest keeps what it has."""
        self.flags(device_detach_attempts=1, group="libvirt")
        server = self.boot()
        self.forget()
        with fixtures.MonkeyPatch(
            "nova.tests.fixtures.libvirt.Domain.detachDevice",
            lambda domain, xml: None,
        ):
            self.assertRaises(
                integrated_helpers.api_client.OpenStackApiException,
                self.api.detach_interface,
                server["id"],
                server["ports"][0],
            )
        self.assertEqual([("unplug", 1)], self.calls)
        self.check_running(server)
        self.assertEqual(set(), self.hardware["a"].touched)

    def test_shelve_and_unshelve(self):
        server = self.boot()
        self._shelve_server(server)
        self.check_off()
        self._unshelve_server(server)
        self.check_running(server)

    def test_restart_with_running_guests(self):
        """Nova plugs everything anew: nothing is written, and no guest loses
        its VF."""
        server = self.boot()
        self.forget()
        self.restart_compute_service("a")
        self.check_running(server)
        self.assertEqual([("plug", 2), ("plug", 2)], self.calls)
        self.assertEqual(set(), self.hardware["a"].touched)

    def test_restart_leaves_links_alone(self):
        """The Neutron agent has put down those of ports that are to be so."""
        stopped = self.boot()
        self._stop_server(stopped)
        for vf in self.bound(stopped):
            self.hardware["a"].link(vf, DOWN)
        self.forget()
        self.restart_compute_service("a")
        seen = self.hardware["a"].seen
        for vf, mac in self.bound(stopped).items():
            self.assertEqual(f"{mac} down", seen[vf])
        self.assertEqual(set(), self.hardware["a"].touched)
        self._start_server(stopped)
        self.check_running(stopped)

    def test_restart_that_cannot_plug(self):
        """Guests that run stay ACTIVE, and nova-compute starts."""
        server = self.boot()
        self.forget()
        self.hardware["a"].lost = True
        self.restart_compute_service("a")
        for one in (server, self.other):
            self.assertEqual(
                "ACTIVE", self.api.get_server(one["id"])["status"]
            )
        self.hardware["a"].lost = False
        self.check_running(server)

    def test_restart_while_the_daemon_hangs(self):
        """It costs the time limit once and a small part of it for each guest:
        50 are up in two limits."""
        servers = [self.boot(ports=1) for _ in range(4)]
        self.forget()
        self.flags(privileged_call_timeout=1, group="ibhostdev")
        host = self.hardware["a"]
        answers = threading.Event()
        self.addCleanup(answers.set)
        waited = []
        join = privsep._Call.join

        def ask(plain):
            answers.wait()
            return hardware.crossed(host._ask("run", hardware.crossed(plain)))

        def joined(call, seconds=None):
            if seconds is not None:
                waited.append(seconds)
            join(call, seconds)

        daemon = "ibhostdev.privilege.privsep"
        with (
            fixtures.MonkeyPatch(f"{daemon}._ask", ask),
            fixtures.MonkeyPatch(f"{daemon}._Call.join", joined),
            fixtures.MockPatchObject(
                self, "_run", lambda _, asked: privsep.call(asked)
            ),
        ):
            self.restart_compute_service("a")
            for one in (self.other, *servers):
                self.assertEqual(
                    "ACTIVE", self.api.get_server(one["id"])["status"]
                )
            answers.set()
            privsep.join()
        # Its start, and each of the guests.
        self.assertEqual([1, *[1 / 50] * 5], waited)
        # What came too late was not done.
        self.assertEqual(set(), host.touched)
        self.check_running(*servers)

    def test_restart_that_cannot_plug_guests_that_are_off(self):
        """They stay as they are, and once it is mended they start."""
        stopped, suspended = self.boot(), self.boot()
        self._stop_server(stopped)
        self._suspend_server(suspended)
        self.hardware["a"].lost = True
        self.restart_compute_service("a")
        for one, status in ((stopped, "SHUTOFF"), (suspended, "SUSPENDED")):
            self.assertEqual(status, self.api.get_server(one["id"])["status"])
        self.hardware["a"].lost = False
        self._start_server(stopped)
        self._resume_server(suspended)
        self.check_running(stopped, suspended)

    def test_start_that_cannot_plug(self):
        server = self.boot()
        self._stop_server(server)
        self.hardware["a"].lost = True
        self.assertRaises(
            integrated_helpers.api_client.OpenStackApiException,
            self._start_server,
            server,
        )
        self.hardware["a"].lost = False
        self._start_server(server)
        self.check_running(server)

    def test_restart_with_a_vf_that_fails(self):
        server = self.boot()
        host = self.hardware["a"]
        vf = sorted(self.bound(server))[0]
        host.seed(vf, "02:00:00:00:00:01")
        self.forget()
        self.restart_compute_service("a")
        for one in (server, self.other):
            self.assertEqual(
                "ACTIVE", self.api.get_server(one["id"])["status"]
            )
        # A guest has it, so it is left alone.
        self.assertEqual(set(), host.touched)

    def test_host_boot_resumes_guests(self):
        """All VFs are fresh, nova-compute starts the guests again."""
        self.flags(resume_guests_state_on_host_boot=True)
        server = self.boot()
        folder = self.hardware["a"].folder
        self.hardware["a"].close()
        shutil.rmtree(folder)
        self.hardware["a"] = hardware.Hardware(folder, vfs=6)
        self.restart_compute_service(
            "a", pci_info=self.pci_info("a"), keep_hypervisor_state=False
        )
        for one in (server, self.other):
            self._wait_for_state_change(one, "ACTIVE")
        self.check_running(server)
        # At its start, then as for a hard reboot; both guests one by one.
        hard = [("plug", 2), ("unplug", 2), ("plug", 2)]
        self.assertEqual([*hard, *hard], self.calls)
        self.hardware["a"].forget()


class MoveTest(cloud.CloudTestCase):
    """Two hosts whose VFs differ, and are all taken: the addresses of one
    are other tenants' on the other."""

    def setUp(self):
        super().setUp()
        self.start_host("a", vfs=4)
        self.start_host("b", vfs=4)
        self.other_b = self.boot(host="b")
        self.server = self.boot(host="a")
        self.other_a = self.boot(host="a")
        self.forget()

    def tearDown(self):
        self.assert_untouched(self.other_a, self.other_b)
        super().tearDown()

    def check_on(self, host, *left):
        """The server runs there, and its ports are nowhere else."""
        on = {"a": [self.other_a], "b": [self.other_b]}
        on[host].append(self.server)
        running = [(name, one) for name in on for one in on[name]]
        self.check(running, **on)

    def test_cold_migrate_and_confirm(self):
        self.stub_disks()
        self._migrate_server(self.server)
        self.check_on("b")
        self._confirm_resize(self.server)
        self.check_on("b")

    def test_cold_migrate_and_revert(self):
        self.stub_disks()
        self._migrate_server(self.server)
        self.check_on("b")
        self._revert_resize(self.server)
        self.check_on("a")

    def test_live_migrate(self):
        moving = self.watch_migration(self._migrate_stub)
        self._live_migrate(self.server)
        self.check_on("b")
        self.assertEqual(self.arriving(), sorted(moving["b"].values()))
        # All before it moves; then one by one as they are attached again.
        self.assertEqual(
            [("plug", 2), ("plug", 1), ("plug", 1)], self.hardware["b"].calls
        )
        # One by one as they are detached, and all once more behind it.
        self.assertEqual(
            [("unplug", 1), ("unplug", 1), ("unplug", 2)],
            self.hardware["a"].calls,
        )

    def test_live_migrate_that_fails(self):
        """The guest goes on where it is. Nova sends the other host nothing to
        clean up by: identities are left there, but no link."""

        def fail(domain, destination, params, flags):
            uuid = self.server["id"]
            domain._connection.lookupByUUIDString(uuid).fail_job()

        moving = self.watch_migration(fail)
        self.useFixture(
            fixtures.MonkeyPatch(
                "nova.compute.manager.ComputeManager"
                "._live_migration_cleanup_flags",
                lambda *args, **kwargs: (False, False),
            )
        )
        self.api.post_server_action(
            self.server["id"],
            {"os-migrateLive": {"host": None, "block_migration": "auto"}},
        )
        self._wait_for_migration_status(self.server, ["failed", "error"])
        self._wait_for_state_change(self.server, "ACTIVE")
        self.check(
            [("a", self.server), ("a", self.other_a)],
            a=[self.server, self.other_a],
        )
        self.assertEqual(self.arriving(), sorted(moving["b"].values()))
        self.assertEqual(moving["b"], self.hardware["b"].seen)

    def watch_migration(self, migrate):
        """What is on the hosts when libvirt is to migrate, by host."""
        seen = {}

        def migrating(domain, destination, params, flags):
            for name, host in self.hardware.items():
                seen[name] = host.seen
            return migrate(domain, destination, params, flags)

        self.useFixture(
            fixtures.MonkeyPatch(
                "nova.tests.fixtures.libvirt.Domain.migrateToURI3", migrating
            )
        )
        return seen

    def arriving(self):
        """What is on host b then: its own guest, and the other without link,
        which the guest may still have on host a."""
        return sorted(
            [
                *self.bound(self.other_b).values(),
                *(f"{mac} down" for mac in self.bound(self.server).values()),
            ]
        )

    def test_live_migrate_that_cannot_plug(self):
        """The guest goes on where it is."""
        host = self.hardware["b"]
        for vf in host.vfs:
            host.fail(vf, errno.EIO)
        self.api.post_server_action(
            self.server["id"],
            {"os-migrateLive": {"host": None, "block_migration": "auto"}},
        )
        self._wait_for_migration_status(self.server, ["failed", "error"])
        self._wait_for_state_change(self.server, "ACTIVE")
        host.heal()
        self.assertEqual(("plug", 2), host.calls[0])
        self.check_on("a")
        self.assert_untouched(self.server)

    def test_evacuate_and_old_host_returns(self):
        """Then Nova unplugs on the old host with the new host's addresses,
        which there are another tenant's."""
        self.api.put_service(
            self.computes["a"].service_ref.uuid, {"forced_down": True}
        )
        self.computes["a"].stop()
        theirs = self.bound(self.other_a)
        self._evacuate_server(self.server)
        self.assertEqual(set(theirs), set(self.bound(self.server)))
        self._start_server(self.server)
        self.check([("b", self.server)], b=[self.other_b, self.server])

        self.forget()
        self.restart_compute_service("a")
        self.api.put_service(
            self.computes["a"].service_ref.uuid, {"forced_down": False}
        )
        self.assertIn(("unplug", 2), self.hardware["a"].calls)
        self.check_on("b")


class RescheduleTest(cloud.CloudTestCase):
    def test_failed_boot_goes_to_another_host(self):
        """The host on which it failed is as it was."""
        self.start_host("a", vfs=4)
        self.start_host("b", vfs=4)
        others = [self.boot(host="a"), self.boot(host="b")]
        self.forget()
        host = self.hardware["a"]
        for vf in host.vfs[:2]:
            host.fail(vf, errno.EIO)
        server = self.boot()
        self.assertEqual([("plug", 2), *[("unplug", 2)] * 3], host.calls)
        self.check(
            [("a", others[0]), ("b", others[1]), ("b", server)],
            a=[others[0]],
            b=[others[1], server],
        )
        self.assert_untouched(*others)

    def test_failed_boot_everywhere(self):
        """The host is as it was, and the log says what to do."""
        self.start_host("a", vfs=2)
        host = self.hardware["a"]
        for vf in host.vfs:
            host.fail(vf, errno.EIO)
        self.boot(expected_state="ERROR")
        self.check(a=[])
        for part in (host.vfs[0], "EIO", "kernel log"):
            self.assertIn(part, self.stdlog.logger.output)
