# SPDX-License-Identifier: Apache-2.0
"""How Nova finds the driver, and that nothing in it can stop a service.

Each in a process of its own, for imports are what it is about.
"""

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap
import unittest

HELPER = os.path.join(os.path.dirname(sys.executable), "privsep-helper")

# nova-compute up to where it has loaded its driver, which is ``loaded``.
COMPUTE = """
    import sys
    sys.argv[1:] = ['--config-file', {config!r}]
    from nova.cmd import compute
    from nova import service
    compute.objects.Service.enable_min_version_cache = lambda: None

    def create(**kwargs):
        # Here, for it imports modules that look at the configuration.
        from nova.tests.fixtures import libvirt as fakelibvirt
        from nova.virt import driver
        sys.modules['libvirt'] = fakelibvirt
        body(driver.load_compute_driver(None))
        sys.exit(0)

    service.Service.create = create
    compute.main()
"""
WHICH = """
    def body(loaded):
        import nova
        print(type(loaded).__module__, type(loaded.vif_driver).__module__,
              nova.__file__)
"""
# Each method that the profiler is told of, in the order of their starts.
TRACED = """
    def body(loaded):
        from unittest import mock
        from nova import objects
        from nova.network import model
        from nova.virt.libvirt import vif as libvirt_vif
        from osprofiler import notifier
        from osprofiler import profiler
        import hardware
        host = hardware.Hardware({folder!r}, vfs=1)
        instance = mock.Mock(uuid='u')
        port = model.VIF(
            id='p', type='ib_hostdev', address='fa:16:3e:00:00:01',
            network=model.Network(), profile=dict(pci_slot=host.vfs[0]))
        seen = []

        def tell(info, context=None):
            if info['name'].endswith('-start'):
                seen.append(info['info']['function']['name'])

        def use(driver):
            driver.get_config(instance, port, objects.ImageMeta(),
                              objects.Flavor(), 'kvm')
            told, seen[:] = list(seen), []
            return told

        notifier.set(tell)
        profiler.init('key')
        loaded.vif_driver._run = host.run
        loaded.vif_driver.plug(instance, port)
        loaded.unplug_vifs(instance, [port])
        print(*(name.rpartition('.')[2] for name in seen))
        seen.clear()
        novas = use(libvirt_vif.LibvirtGenericVIFDriver())
        print(len(novas) > 1 and novas == use(loaded.vif_driver))
        host.close()
"""

# Ports through a real privileged daemon, and whether from eventlet's threads.
PLUG = """
    def body(loaded):
        from unittest import mock
        from nova.network import model
        import hardware
        host = hardware.Hardware({folder!r}, vfs=2)
        instance = mock.Mock(uuid='u')
        ports = [
            model.VIF(id=mac, type='ib_hostdev', address=mac,
                      network=model.Network(), profile=dict(pci_slot=vf))
            for vf, mac in zip(host.vfs,
                               ['fa:16:3e:00:00:01', 'fa:16:3e:00:00:02'])]
        loaded.vif_driver.start()
        loaded.plug_vifs(instance, ports)
        print(*sorted(host.seen.values()))
        loaded.unplug_vifs(instance, ports)
        eventlet = sys.modules.get('eventlet')
        print(len(host.seen), bool(
            eventlet and eventlet.patcher.is_monkey_patched('thread')))
        host.close()
"""


class LoadingTest(unittest.TestCase):
    def run_python(self, source, lines=1, path=(), eventlet=False):
        path = os.pathsep.join([*path, os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(source)],
            env=os.environ
            | {
                "OS_NOVA_DISABLE_EVENTLET_PATCHING": str(not eventlet),
                "PYTHONPATH": path,
            },
            capture_output=True,
            text=True,
        )
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)
        # What is before is Nova's log.
        return " ".join(done.stdout.splitlines()[-lines:]).split()

    def run_compute(self, body, *config, **kwargs):
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "nova.conf")
            with open(file, "w") as nova_conf:
                print("[DEFAULT]", file=nova_conf)
                print("compute_driver=ibhostdev.LibvirtDriver", file=nova_conf)
                print(*config, sep="\n", file=nova_conf)
                print("[ibhostdev]", file=nova_conf)
                print(f"simulated_host={folder}/host", file=nova_conf)
                print("[ibhostdev_privileged]", file=nova_conf)
                print(
                    "helper_command=" + shlex.quote(HELPER),
                    "--config-file",
                    file,
                    file=nova_conf,
                )
                if os.geteuid() != 0:
                    # There are none to be kept.
                    print("capabilities=", file=nova_conf)
            source = (body + COMPUTE).format(
                config=file, folder=f"{folder}/host"
            )
            return self.run_python(source, **kwargs)

    def test_nova_compute_loads_the_driver(self):
        self.assertEqual(
            ["ibhostdev.nova.driver", "ibhostdev.nova.vif"],
            self.run_compute(WHICH)[:2],
        )

    def test_nova_from_a_source_tree_loads_the_driver(self):
        """Not from where the package is: a checkout is somewhere else."""
        with tempfile.TemporaryDirectory() as tree:
            installed = importlib.util.find_spec("nova").origin
            checkout = os.path.join(tree, "nova")
            shutil.copytree(os.path.dirname(installed), checkout)
            self.assertEqual(
                [
                    "ibhostdev.nova.driver",
                    "ibhostdev.nova.vif",
                    os.path.join(checkout, "__init__.py"),
                ],
                self.run_compute(WHICH, path=[tree]),
            )

    def test_plugs_through_its_daemon(self):
        for eventlet in (False, True):
            self.assertEqual(
                ["fa:16:3e:00:00:01", "fa:16:3e:00:00:02", "0", str(eventlet)],
                self.run_compute(PLUG, lines=2, eventlet=eventlet),
            )

    def test_methods_are_traced_as_novas_are(self):
        """Each once, ours as well as those of Nova's."""
        self.assertEqual(
            [
                *("plug", "plug_ib_hostdev", "plug_ib_hostdevs"),
                "unplug_ib_hostdevs",
                "True",
            ],
            self.run_compute(
                TRACED,
                *("[profiler]", "enabled = True", "hmac_keys = key"),
                lines=2,
            ),
        )

    def test_other_services_are_not_made_to_import_nova(self):
        self.assertEqual(
            ["loaded", "False"],
            self.run_python("""
            import sys
            import os_vif
            os_vif.initialize()
            assert 'ibhostdev' in os_vif._EXT_MANAGER.names()
            print('loaded', 'nova' in sys.modules)
        """),
        )

    def test_plugin_survives_a_nova_that_is_not_known(self):
        self.assertEqual(
            ["survived"],
            self.run_python("""
            import sys, types
            sys.modules['nova'] = types.ModuleType('nova')
            import os_vif
            os_vif.initialize()
            assert 'ibhostdev' in os_vif._EXT_MANAGER.names()
            print('survived')
        """),
        )

    def test_plugin_tells_of_no_port_types(self):
        self.assertEqual(
            ["[]"],
            self.run_python("""
            import os_vif
            os_vif.initialize()
            info, = [plugin for plugin in os_vif.host_info().plugin_info
                     if plugin.plugin_name == 'ibhostdev']
            print(info.vif_info)
        """),
        )

    def test_privileged_side_imports_no_nova(self):
        self.assertEqual(
            ["[]"],
            self.run_python("""
            import sys
            import ibhostdev.privilege.privsep
            print([name for name in sys.modules
                   if name.split('.')[0] == 'nova'
                   or name.startswith('ibhostdev.nova')])
        """),
        )

    def test_unknown_nova_unplugs_one_by_one(self):
        self.assertEqual(
            ["False"],
            self.run_python("""
            import nova.cmd
            from nova.virt.libvirt import driver
            driver.LibvirtDriver._unplug_vifs = lambda self, context: None
            from ibhostdev.nova import driver
            print('_unplug_vifs' in vars(driver.LibvirtDriver))
        """),
        )
