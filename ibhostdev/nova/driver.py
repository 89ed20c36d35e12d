# SPDX-License-Identifier: Apache-2.0
"""Nova's libvirt driver, with all InfiniBand ports of an instance at once."""

from collections.abc import Iterable
import inspect
from typing import Any

from nova import exception
from nova.virt.libvirt import driver as libvirt_driver
from oslo_log import log as logging

from ibhostdev import batch
from ibhostdev.nova import vif as ib_vif

LOG = logging.getLogger(__name__)


class LibvirtDriver(libvirt_driver.LibvirtDriver):
    """``compute_driver = ibhostdev.LibvirtDriver``."""

    def __init__(self, virtapi: Any, read_only: bool = False) -> None:
        super().__init__(virtapi, read_only)
        self.vif_driver = ib_vif.LibvirtGenericVIFDriver(self._host)
        self._resumed: set[str] = set()
        self._arriving: set[str] = set()

    def init_host(self, host: str) -> None:
        super().init_host(host)
        self.vif_driver.start()

    def resume_state_on_host_boot(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        share_info: Any,
        block_device_info: Any = None,
    ) -> None:
        self._resumed.add(instance.uuid)
        try:
            super().resume_state_on_host_boot(
                context, instance, network_info, share_info, block_device_info
            )
        finally:
            self._resumed.discard(instance.uuid)

    def pre_live_migration(
        self,
        context: Any,
        instance: Any,
        block_device_info: Any,
        network_info: Any,
        disk_info: Any,
        migrate_data: Any,
    ) -> Any:
        self._arriving.add(instance.uuid)
        try:
            return super().pre_live_migration(
                context,
                instance,
                block_device_info,
                network_info,
                disk_info,
                migrate_data,
            )
        finally:
            self._arriving.discard(instance.uuid)

    def plug_vifs(self, instance: Any, network_info: Iterable[Any]) -> None:
        """InfiniBand ports first.

        If they fail, all of them are as they were, and there is nothing else
        to undo.
        """
        ours, others = _sorted(network_info)
        if ours:
            self._plug_ib_hostdevs(instance, ours)
        super().plug_vifs(instance, others)

    def _plug_ib_hostdevs(self, instance: Any, vifs: list[Any]) -> None:
        try:
            self.vif_driver.plug_ib_hostdevs(
                instance, vifs, self._link(instance)
            )
        except exception.VirtualInterfacePlugException:
            # Nova plugs the ports of every guest again when it starts. One
            # that is running keeps what it has, one that is off (stopped,
            # shelved, down with its host, …) is plugged again before it is
            # started; ERROR would take either from its user.
            if self._is_started(instance) and not self._is_running(instance):
                raise
            LOG.warning(
                "The guest needs nothing of it for now and is left as it is",
                instance=instance,
            )

    def _unplug_vifs(
        self, instance: Any, network_info: Iterable[Any], ignore_errors: bool
    ) -> None:
        ours, others = _sorted(network_info)
        if ours:
            self.vif_driver.unplug_ib_hostdevs(instance, ours)
        super()._unplug_vifs(instance, others, ignore_errors)

    def _link(self, instance: Any) -> batch.Link:
        """What is to become of the ports' links.

        They are down while the guest still has the same GUIDs on another
        host: they are raised when the ports are attached after the migration,
        and stay down if that fails. When nova-compute starts, nobody is about
        to get a link, and one that is down may be so by the Neutron agent.
        """
        if instance.uuid in self._arriving:
            return batch.Link.LOWERED
        if self._is_started(instance):
            return batch.Link.RAISED
        return batch.Link.KEPT

    def _is_running(self, instance: Any) -> bool:
        try:
            return bool(self._host.get_guest(instance).is_active())
        except exception.InstanceNotFound:
            return False
        except Exception as error:
            LOG.warning("Taken for not running: %s", error, instance=instance)
            return False

    def _is_started(self, instance: Any) -> bool:
        """Whether somebody is about to start the guest.

        That is a task, but for the resumption of guests with their host.
        """
        return (
            instance.task_state is not None or instance.uuid in self._resumed
        )


def _sorted(network_info: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """The InfiniBand ports, and the others."""
    ours: list[Any] = []
    others: list[Any] = []
    for vif in network_info:
        (ours if ib_vif.is_ib_hostdev(vif) else others).append(vif)
    return ours, others


def _takes(driver: Any, name: str) -> tuple[str, ...]:
    """The parameters of a driver's method."""
    method = getattr(driver, name, lambda: None)
    return tuple(inspect.signature(method).parameters)


# They may change with Nova. Without them ports are unplugged one at a time,
# a failure to plug those of a guest that starts with its host is logged, and
# links are up before a live migration: worse, but better than a driver that
# cannot be called.
for _name in (
    "_unplug_vifs",
    "pre_live_migration",
    "resume_state_on_host_boot",
):
    if _takes(libvirt_driver.LibvirtDriver, _name) != _takes(
        LibvirtDriver, _name
    ):
        LOG.warning("This Nova is not known: %s is left to it", _name)
        delattr(LibvirtDriver, _name)
