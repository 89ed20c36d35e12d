# SPDX-License-Identifier: Apache-2.0
"""The VIF driver: InfiniBand ports to ibhostdev, all others to Nova."""

from collections.abc import Sequence
from typing import Any

from nova import exception
from nova.i18n import _
from nova.network import model as network_model
from nova import profiler
from nova.virt.libvirt import vif as libvirt_vif
from oslo_config import cfg
from oslo_log import log as logging

from ibhostdev import batch
from ibhostdev import errors
from ibhostdev.nova import fallback
from ibhostdev.privilege import hooks
import ibhostdev.privilege.privsep
from ibhostdev.privilege import request

LOG = logging.getLogger(__name__)
CONF = cfg.CONF


def is_ib_hostdev(vif: Any) -> bool:
    """Whether a port is ours. Nova's tests have ports that are no dicts."""
    return (
        isinstance(vif, dict)
        and vif.get("type") == network_model.VIF_TYPE_IB_HOSTDEV
    )


@profiler.trace_cls("vif_driver")
class IbHostdevs:
    """Plugs ports of type ib_hostdev without ebrctl, many in one call.

    Not in the driver's own class: the profiler wraps what a class inherits
    too, and would tell of each of Nova's methods twice.
    """

    def start(self) -> None:
        """Have everything ready for the first port.

        What is in the way may have passed by then: it is told and no more.
        """
        ibhostdev.privilege.privsep.mend()
        try:
            result = fallback.run(
                self._run,
                request.Request(
                    "plug", (), mechanism=CONF.ibhostdev.mechanism
                ),
            )
            for doubt in result.warnings:
                LOG.warning("%s", doubt)
        except Exception as error:
            LOG.error(
                "InfiniBand ports cannot be plugged for now: %s", _told(error)
            )

    def plug_ib_hostdev(self, instance: Any, vif: Any) -> None:
        self.plug_ib_hostdevs(instance, [vif])

    def unplug_ib_hostdev(self, instance: Any, vif: Any) -> None:
        self.unplug_ib_hostdevs(instance, [vif])

    def plug_ib_hostdevs(
        self,
        instance: Any,
        vifs: Sequence[Any],
        link: batch.Link = batch.Link.RAISED,
    ) -> None:
        """Plug all of them, or leave all as they were.

        VirtualInterfacePlugException is what Nova can deal with: a guest to
        be is tried on another host, while some others would keep
        nova-compute from starting.
        """
        concerned: Sequence[Any] = ()
        try:
            ports = []
            for vif in vifs:
                concerned = [vif]
                ports.append(_port(vif))
            concerned = vifs
            result = fallback.run(
                self._run,
                request.Request(
                    "plug",
                    tuple(ports),
                    mechanism=CONF.ibhostdev.mechanism,
                    link=link,
                ),
            )
        except Exception as error:
            if not isinstance(error, errors.IbHostdevError):
                LOG.exception(
                    "Unexpected failure of a plug", instance=instance
                )
            elif isinstance(error, batch.BatchFailed):
                _warn(error.result, instance)
            why = _why(error, concerned)
            LOG.error(
                "Failed to plug InfiniBand ports: %s", why, instance=instance
            )
            raise exception.VirtualInterfacePlugException(
                _("Failed to plug InfiniBand ports: %s") % why
            ) from error
        _warn(result, instance)
        for vif, vf in zip(vifs, result.results, strict=False):
            if vf.changed:
                LOG.info(
                    "Plugged port %(port)s: %(pci)s is %(guid)s by "
                    "%(mechanism)s%(doubt)s",
                    {
                        "port": vif.get("id"),
                        "pci": vf.pci,
                        "guid": vf.wanted.owner,
                        "mechanism": vf.mechanism,
                        "doubt": "" if vf.verified else ", not verified",
                    },
                    instance=instance,
                )
        _tell("plugged", ports, result, instance)

    def unplug_ib_hostdevs(self, instance: Any, vifs: Sequence[Any]) -> None:
        """Unplug as many of them as can be.

        Nothing is raised. Where Nova unplugs (behind a live migration, to
        confirm a resize) an exception would put a guest into ERROR that is
        well on another host; an identity that is left behind may disturb it
        at worst, until the device is plugged again.
        """
        # Identities are unique in a batch, MACs in a network only.
        batches: list[dict[int, tuple[Any, batch.Vif]]] = []
        for vif in vifs:
            try:
                port = _port(vif, hint=True)
            except Exception as error:
                LOG.error(
                    "Failed to unplug an InfiniBand port: %s",
                    _why(error, [vif]),
                    instance=instance,
                )
                continue
            for one in batches:
                if port.guid not in one:
                    break
            else:
                batches.append(one := {})
            one[port.guid] = vif, port
        for one in batches:
            self._unplug(
                instance,
                [vif for vif, _ in one.values()],
                tuple(port for _, port in one.values()),
            )

    def _unplug(
        self,
        instance: Any,
        ours: Sequence[Any],
        ports: tuple[batch.Vif, ...],
    ) -> None:
        try:
            result = fallback.run(
                self._run,
                request.Request(
                    "unplug",
                    ports,
                    on_error=batch.OnError.CONTINUE,
                    rebind=CONF.ibhostdev.rebind,
                    mechanism=CONF.ibhostdev.mechanism,
                ),
            )
            _warn(result, instance)
            _tell("unplugged", ports, result, instance)
        except errors.IbHostdevError as error:
            if isinstance(error, batch.BatchFailed):
                _warn(error.result, instance)
                _tell("unplugged", ports, error.result, instance)
            if isinstance(error, errors.InvalidInput) and len(ports) > 1:
                # One port is enough to have all of them refused.
                for vif, port in zip(ours, ports, strict=True):
                    self._unplug(instance, [vif], (port,))
                return
            LOG.error(
                "Failed to unplug InfiniBand ports: %s",
                _why(error, ours),
                instance=instance,
            )
        except Exception:
            LOG.exception(
                "Failed to unplug InfiniBand ports", instance=instance
            )

    def _run(self, asked: request.Request) -> batch.BatchResult:
        return ibhostdev.privilege.privsep.call(asked)


class LibvirtGenericVIFDriver(IbHostdevs, libvirt_vif.LibvirtGenericVIFDriver):
    """Nova's VIF driver, with InfiniBand ports plugged by us.

    The device of such a port stays the plain managed hostdev that Nova makes
    of it: what libvirt hands over, the guest's driver finds configured.
    """


def _warn(result: batch.BatchResult, instance: Any) -> None:
    """Who did the batch leaves that to us, who know the instance."""
    for warning in result.warnings:
        LOG.warning("%s", warning, instance=instance)


def _tell(
    event: str,
    ports: Sequence[batch.Vif],
    result: batch.BatchResult,
    instance: Any,
) -> None:
    """Have the operator's hooks run; whatever comes of it, Nova goes on."""
    options = CONF.ibhostdev
    try:
        told = hooks.of(options.simulated_host, options.run_dir)
        for warning in told.batch(event, ports, result):
            LOG.warning("%s", warning, instance=instance)
    except Exception:
        LOG.exception("Hooks could not be run", instance=instance)


def _port(vif: Any, hint: bool = False) -> batch.Vif:
    """A port of Nova's, for a batch.

    With ``hint`` its PCI address is no more than that: what is no address
    is none.
    """
    try:
        network = vif.get_physical_network() or None
    except (AttributeError, KeyError, TypeError):
        network = None
    slot = _slot(vif)
    mac = vif.get("address") or ""
    if hint:
        try:
            return batch.Vif.parse(slot, mac, network)
        except errors.InvalidInput:
            return batch.Vif.parse(None, mac, network)
    if not slot:
        raise errors.InvalidInput(
            "the port is bound to no PCI device",
            attribute="pci_slot",
            cure="bind it with vnic_type direct; [pci] device_spec must "
            "have the Virtual Functions of its physical network",
        )
    return batch.Vif.parse(slot, mac, network)


def _why(error: Exception, vifs: Sequence[Any]) -> str:
    """Why, and which ports; in this order, for Nova keeps 255 characters."""
    if isinstance(error, batch.BatchFailed):
        causes = error.result.failures
        return "; ".join(
            f"{_told(vf.error)} (port {vif.get('id')})"
            for vif, vf in zip(vifs, error.result.results, strict=False)
            if vf.error is not None and vf.error in causes
        )
    told = _told(error)
    named = []
    for vif in _concerned(error, vifs):
        slot = _slot(vif) or "no device"
        on = "" if slot in told else f" on {slot}"
        named.append(f"port {vif.get('id')}{on}")
    return f"{told} ({', '.join(named)})"


def _concerned(error: Exception, vifs: Sequence[Any]) -> Sequence[Any]:
    """Those that an error is about, all if it does not say."""
    if not isinstance(error, errors.IbHostdevError):
        return vifs
    number = request.culprit(error)
    if number is not None:
        return vifs[number : number + 1]
    return [vif for vif in vifs if _slot(vif) == error.device] or vifs


def _told(error: Exception) -> str:
    if isinstance(error, errors.IbHostdevError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _slot(vif: Any) -> str | None:
    profile = vif.get("profile")
    slot = profile.get("pci_slot") if isinstance(profile, dict) else None
    return slot if isinstance(slot, str) else None
