# SPDX-License-Identifier: Apache-2.0
"""How Nova finds the driver, and that nothing in it can stop a service.

Each in a process of its own, for imports are what it is about.
"""

import os
import subprocess
import sys
import textwrap
import unittest

COMPUTE = """
    import sys
    sys.argv[1:] = ['--config-file', '/dev/null']
    from nova.cmd import compute
    from nova import service
    from nova.tests.fixtures import libvirt as fakelibvirt
    from nova.virt import driver
    sys.modules['libvirt'] = fakelibvirt
    compute.CONF.set_override('compute_driver', 'ibhostdev.LibvirtDriver')
    real = compute.config.parse_args
    compute.objects.Service.enable_min_version_cache = lambda: None

    def create(**kwargs):
        loaded = driver.load_compute_driver(None)
        print(type(loaded).__module__, type(loaded.vif_driver).__module__)
        sys.exit(0)

    service.Service.create = create
    compute.main()
"""


class LoadingTest(unittest.TestCase):
    def run_python(self, source):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(source)],
            env=os.environ | {"OS_NOVA_DISABLE_EVENTLET_PATCHING": "True"},
            capture_output=True,
            text=True,
        )
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)
        # What is before is Nova's log.
        return done.stdout.splitlines()[-1].split()

    def test_nova_compute_loads_the_driver(self):
        self.assertEqual(
            ["ibhostdev.nova.driver", "ibhostdev.nova.vif"],
            self.run_python(COMPUTE),
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
