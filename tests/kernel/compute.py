# SPDX-License-Identifier: Apache-2.0
# mypy: ignore-errors
# (as the tests of Nova, without types)
"""As much of nova-compute as plugs ports, in Nova's environment and without
rights: ``compute.py CONFIGURATION``, then calls as lines of JSON."""

import json
import shlex
import sys
from unittest import mock

import nova.conf
import os_vif
from nova import objects, utils
from nova.compute import task_states, vm_states
from nova.network import model
from nova.virt import driver, fake
from nova.virt.libvirt import vif
from oslo_privsep import priv_context

CONF = nova.conf.CONF


def port(mac, slot):
    return model.VIF(
        id=mac,
        type=model.VIF_TYPE_IB_HOSTDEV,
        vnic_type=model.VNIC_TYPE_DIRECT,
        address=mac,
        network=model.Network(physical_network="default"),
        details={},
        profile={"pci_slot": slot},
    )


def main():
    CONF([], project="nova", default_config_files=[sys.argv[1]])
    # As nova.cmd.compute does.
    priv_context.init(root_helper=shlex.split(utils.get_root_helper()))
    os_vif.initialize()
    # Nothing here asks libvirt for anything.
    sys.modules["libvirt"] = mock.MagicMock()
    loaded = driver.load_compute_driver(fake.FakeVirtAPI())
    loaded.vif_driver.start()
    own = vif.LibvirtGenericVIFDriver()
    objects.register_all()
    # What any instance has that comes from the database, while it starts.
    instance = objects.Instance(
        uuid="e0ad4f4c-2f8b-4a5e-9a3a-6f6d3a1f0b52",
        vm_state=vm_states.BUILDING,
        task_state=task_states.SPAWNING,
    )
    calls = {
        "plug": lambda ports: loaded.plug_vifs(instance, ports),
        "unplug": lambda ports: loaded.unplug_vifs(instance, ports),
        "Nova plugs": lambda ports: [own.plug(instance, p) for p in ports],
        "Nova unplugs": lambda ports: [own.unplug(instance, p) for p in ports],
    }
    print(json.dumps(type(loaded).__module__), flush=True)
    for line in sys.stdin:
        name, *ports = json.loads(line)
        try:
            calls[name]([port(*one) for one in ports])
            answer = None
        except Exception as error:
            answer = [type(error).__name__, str(error)]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
