# SPDX-License-Identifier: Apache-2.0
# mypy: ignore-errors
# (tests here are as Nova's are, without types)
"""Ports that nothing but ebrctl serves."""

import errno
import os
import socket
import time
from unittest import mock

# First of all: they choose threads or eventlet, in Nova 31 the one and in
# those after it the other.
import nova.monkey_patch
import nova.tests.unit

import fixtures
import nova.privsep.libvirt
from oslo_concurrency import processutils
from oslo_config import cfg

import hardware
from ibhostdev import batch
from ibhostdev import host
from ibhostdev.host import vendor
from ibhostdev.nova import fallback
from ibhostdev.nova import vif as ib_vif
from ibhostdev.privilege import request
import test_ib_driver

CONF = cfg.CONF


class Eswitchd:
    """What Nova's privileged functions come to, with the answers of
    networking-mlnx 21.0.0."""

    def __init__(self, vfs):
        self.vfs = set(vfs)
        self.held = {}
        self.takes = 0
        self.refused = set()
        self.calls = []

    def plug(self, mac, device_id, fabric, kind, slot):
        self.calls.append(("plug", mac, fabric, kind, slot))
        time.sleep(self.takes)
        if slot in self.refused:
            raise processutils.ProcessExecutionError(
                exit_code=1, stderr="Error in add-port command no such thing"
            )
        if slot in self.vfs:
            self.held[slot] = mac

    def unplug(self, fabric, mac):
        self.calls.append(("unplug", fabric, mac))
        for slot, held in self.held.items():
            if held == mac:
                del self.held[slot]
                return
        raise processutils.ProcessExecutionError(
            exit_code=1,
            stderr=f"Error in del-port command Failed to deallocate {mac}",
        )


class EbrctlTestCase(test_ib_driver.IbTestCase):
    def setUp(self):
        super().setUp()
        self.hardware.close()
        self.hardware = self.made()
        self.vfs = self.hardware.vfs
        self.driver._run = self.hardware.run
        self.eswitchd = Eswitchd(self.vfs)
        self.patch(
            nova.privsep.libvirt, "plug_infiniband_vif", self.eswitchd.plug
        )
        self.patch(
            nova.privsep.libvirt, "unplug_infiniband_vif", self.eswitchd.unplug
        )
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listening.close)
        self.patch(vendor, "_DAEMON", self.listening.getsockname())

    def host(self, name, netdev, other=False):
        made = hardware.Hardware(
            self.useFixture(fixtures.TempDir()).path,
            vfs=4,
            netdev=netdev,
            other=other,
        )
        self.addCleanup(made.close)
        self.option("simulated_host", made.folder)
        pfs = [made.pf]
        if other:
            pfs.append(made.others[0].rpartition(".")[0] + ".0")
        self.option(
            "physical_device_mappings",
            [f"{hardware.NETWORK}:{pf}" for pf in pfs],
        )
        CONF.set_override(
            "state_path", self.useFixture(fixtures.TempDir()).path
        )
        fallback._host.cache_clear()
        self.addCleanup(fallback._host.cache_clear)
        return made

    def made(self):
        """A host whose HCA has no network device in reach."""
        return self.host("only-ebrctl", netdev=False)

    def option(self, name, value):
        CONF.set_override(name, value, group="ibhostdev")
        self.addCleanup(CONF.clear_override, name, group="ibhostdev")

    def patch(self, thing, name, value):
        self.useFixture(fixtures.MockPatchObject(thing, name, value))


class FallbackTest(EbrctlTestCase):
    def test_by_ebrctl_where_nothing_else_serves(self):
        vifs = [self.vif(0), self.vif(1)]
        self.plug(*vifs)
        self.assertEqual(
            {vif["profile"]["pci_slot"]: vif["address"] for vif in vifs},
            self.eswitchd.held,
        )
        self.assertIn(
            (
                "plug",
                vifs[0]["address"],
                hardware.NETWORK,
                "ib_hostdev",
                self.vfs[0],
            ),
            self.eswitchd.calls,
        )
        self.driver.unplug_ib_hostdevs(self.instance, vifs)
        self.assertEqual({}, self.eswitchd.held)

    def test_unplug_with_another_host_s_address(self):
        self.plug(self.vif(0), self.vif(1))
        self.driver.unplug(
            self.instance, self.vif(0, profile={"pci_slot": "0000:7f:00.1"})
        )
        self.assertEqual(
            {self.vfs[1]: self.vif(1)["address"]}, self.eswitchd.held
        )

    def test_a_refusal_fails_the_plug(self):
        self.eswitchd.refused.add(self.vfs[1])
        told = self.plug_failing(self.vif(0), self.vif(1))
        self.assertIn(self.vfs[1], told)
        self.assertIn("no such thing", told)
        self.assertEqual({}, self.eswitchd.held)

    def test_no_program_fails_the_plug(self):
        self.patch(
            nova.privsep.libvirt,
            "plug_infiniband_vif",
            mock.Mock(side_effect=FileNotFoundError("ebrctl")),
        )
        self.assertIn("networking-mlnx", self.plug_failing(self.vif(0)))

    def test_a_dead_daemon_fails_the_plug_at_once(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.patch(vendor, "_DAEMON", server.getsockname())
        told = self.plug_failing(self.vif(0))
        # What is really wrong with this host, and the way around it.
        self.assertIn("ib_ipoib", told)
        self.assertEqual([], self.eswitchd.calls)

    def test_it_is_not_waited_for_for_ever(self):
        self.option("ebrctl_timeout", 1)
        self.eswitchd.takes = 3
        self.assertIn("within 1 s", self.plug_failing(self.vif(0)))

    def test_all_ports_of_an_instance_have_one_time_limit(self):
        """A call that is not begun within it is not made."""
        self.option("privileged_call_timeout", 1)
        self.option("ebrctl_concurrency", 1)
        self.eswitchd.takes = 2
        told = self.plug_failing(*map(self.vif, range(4)))
        # The first call may come too late already, where much else goes on.
        self.assertRegex(told, "ebrctl: .*too l(ong|ate)")
        self.assertIn("eswitchd", told)
        self.assertLessEqual(
            len([call for call in self.eswitchd.calls if call[0] == "plug"]), 1
        )
        self.assertEqual({}, self.eswitchd.held)

    def test_others_are_not_waited_for_for_ever(self):
        self.option("privileged_call_timeout", 1)
        with fallback._one_at_a_time:
            told = self.plug_failing(self.vif(0))
        self.assertIn("busy with other instances' ports for 1 s", told)
        self.assertEqual([], self.eswitchd.calls)
        self.plug(self.vif(0))

    def test_a_warning_is_told_once(self):
        self.plug(self.vif(0, address="11:16:3e:00:00:00"))
        self.assertEqual(
            1, self.stdlog.logger.output.count("has the lowest bit")
        )

    def test_a_warning_of_an_unplug_is_told_once(self):
        self.plug(self.vif(0))
        unplug = fallback._run

        def run(asked):
            done = unplug(asked)
            return batch.BatchResult(done.results, ["a slip of the pen"])

        self.patch(fallback, "_run", run)
        self.driver.unplug(self.instance, self.vif(0))
        self.assertEqual({}, self.eswitchd.held)
        self.assertEqual(
            1, self.stdlog.logger.output.count("a slip of the pen")
        )

    def test_who_is_served_is_seen_without_asking_ports(self):
        """Firmware is asked for their states."""
        asked = mock.PropertyMock(side_effect=AssertionError)
        self.patch(host.Host, "pfs", asked)
        self.assertTrue(fallback._serves_any())

    def test_unplug_raises_nothing(self):
        self.patch(
            nova.privsep.libvirt,
            "unplug_infiniband_vif",
            mock.Mock(side_effect=RuntimeError("gone")),
        )
        self.driver.unplug(self.instance, self.vif(0))
        self.assertIn("gone", self.stdlog.logger.output)

    def test_unplug_tells_of_each_port_what_it_can(self):
        """Where its own locks cannot be made, too."""
        file = os.path.join(CONF.state_path, "ibhostdev")
        with open(file, "w"):
            pass
        with self.assertRaises(batch.BatchFailed) as caught:
            fallback.run(
                self.hardware.run,
                request.Request(
                    "unplug",
                    (ib_vif._port(self.vif(0)), ib_vif._port(self.vif(1))),
                    on_error=batch.OnError.CONTINUE,
                ),
            )
        one, other = caught.exception.result.results
        self.assertIn(file, str(one.error))
        self.assertEqual(one.error, other.error)

    def test_not_where_something_better_serves(self):
        self.hardware = self.host("native", netdev=True)
        self.driver._run = self.hardware.run
        self.vfs = self.hardware.vfs
        self.plug(self.vif(0))
        self.driver.unplug(self.instance, self.vif(0))
        self.driver.unplug(self.instance, self.vif(0))
        self.assertEqual([], self.eswitchd.calls)

    def test_forced_it_is_verified(self):
        self.hardware = self.host("native", netdev=True)
        self.driver._run = self.hardware.run
        self.vfs = self.hardware.vfs
        self.option("mechanism", "ebrctl")
        # The daemon says OK, and the kernel knows better.
        told = self.plug_failing(self.vif(0))
        self.assertIn("no GUID was set", told)
        self.assertEqual("plug", self.eswitchd.calls[0][0])


class TwoWaysTest(EbrctlTestCase):
    """An instance with a port that ebrctl has to plug, and others."""

    def setUp(self):
        super().setUp()
        by_ebrctl = {"pci_slot": self.hardware.others[0]}
        self.other = self.vif(3, profile=by_ebrctl)
        self.eswitchd.vfs = set(self.hardware.others)

    def made(self):
        return self.host("both", netdev=True, other=True)

    def test_each_its_way(self):
        self.plug(self.other, self.vif(0))
        self.expect(self.vif(0))
        self.assertEqual(
            {self.hardware.others[0]: self.other["address"]},
            self.eswitchd.held,
        )
        self.driver.unplug_ib_hostdevs(
            self.instance, [self.vif(0), self.other]
        )
        self.expect()
        self.assertEqual({}, self.eswitchd.held)

    def test_a_refusal_takes_the_others_back(self):
        self.eswitchd.refused.add(self.hardware.others[0])
        self.plug_failing(self.vif(0), self.other)
        self.expect()

    def test_what_was_right_before_a_failure_is_so_after_it(self):
        """As when a guest is resumed, or plugged again at a restart."""
        mine, new = self.vif(0), self.vif(1)
        self.plug(mine)
        self.hardware.link(self.vfs[0], 0)
        self.eswitchd.refused.add(self.hardware.others[0])
        self.plug_failing(mine, new, self.other)
        self.assertEqual(
            {self.vfs[0]: mine["address"] + " down"}, self.hardware.seen
        )

    def test_one_that_cannot_be_taken_back_keeps_no_other(self):
        """A guest has come by its VF meanwhile."""
        self.eswitchd.refused.add(self.hardware.others[0])
        ran = self.hardware.run

        def run(asked):
            if asked.action == "unplug":
                self.hardware.hold([self.vfs[0]])
            return ran(asked)

        self.driver._run = run
        self.plug_failing(self.vif(0), self.vif(1), self.other)
        self.expect(self.vif(0))
        self.assertIn("could not be put back", self.stdlog.logger.output)

    def test_the_port_that_failed_is_named(self):
        self.eswitchd.refused.add(self.hardware.others[0])
        told = self.plug_failing(self.vif(0), self.vif(1), self.other)
        self.assertIn(self.other["id"], told)
        self.assertNotIn(self.vif(0)["id"], told)
        self.eswitchd.refused.clear()
        self.hardware.fail(self.vfs[1], errno.EIO)
        told = self.plug_failing(self.other, self.vif(0), self.vif(1))
        self.assertIn(self.vif(1)["id"], told)
        self.assertNotIn(self.other["id"], told)
        self.assertEqual({}, self.eswitchd.held)

    def test_a_warning_of_who_was_taken_back_is_told_once(self):
        self.hardware.seed(self.vfs[2], self.vif(0)["address"])
        self.eswitchd.refused.add(self.hardware.others[0])
        self.plug_failing(self.vif(0), self.other)
        self.expect()
        self.assertEqual(
            1,
            self.stdlog.logger.output.count(f"was still on {self.vfs[2]}"),
        )

    def test_what_was_moved_is_told(self):
        """To hooks."""
        self.hardware.seed(self.vfs[2], self.vif(0)["address"])
        ports = [ib_vif._port(vif) for vif in (self.other, self.vif(0))]
        result = fallback.run(
            self.hardware.run, request.Request("plug", tuple(ports))
        )
        (move,) = batch.moves(ports, result)
        self.assertEqual(
            (self.vfs[2], self.vfs[0]), (move.source, move.target)
        )

    def test_one_way_and_no_other(self):
        self.option("mechanism", "mlx5_netlink")
        self.hardware.forget()
        self.plug_failing(self.vif(0), self.other)
        self.assertEqual(set(), self.hardware.touched)
        self.assertEqual([], self.eswitchd.calls)
