# SPDX-License-Identifier: Apache-2.0
"""Makes ``compute_driver = ibhostdev.LibvirtDriver`` loadable.

An os-vif plugin in form only: Nova does not send ports of type ib_hostdev
through os-vif (nova/network/os_vif_util.py). What counts is when it is made:
in nova-compute, before Nova looks for its driver.

os-vif is initialised by other services too and lets an exception out of a
plugin's constructor end them, so this does next to nothing and guards it.
"""

import logging
import os
import sys
from typing import Any

from os_vif.objects import host_info
from os_vif import plugin

LOG = logging.getLogger(__name__)


class IbHostdevPlugin(plugin.PluginBase):
    """Puts a folder on the path of the package nova.virt."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        # Who has not imported Nova is none of its services; importing it
        # from here could even switch eventlet on.
        if "nova" not in sys.modules:
            return
        try:
            import nova.virt

            folder = os.path.join(os.path.dirname(__file__), "virt")
            if folder not in nova.virt.__path__:
                nova.virt.__path__.append(folder)
        except Exception:
            LOG.exception("nova.virt.ibhostdev cannot be made loadable")

    def describe(self) -> host_info.HostPluginInfo:
        return host_info.HostPluginInfo(plugin_name="ibhostdev", vif_info=[])

    def plug(self, vif: Any, instance_info: Any) -> None:
        raise NotImplementedError()

    def unplug(self, vif: Any, instance_info: Any) -> None:
        raise NotImplementedError()
