# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between a VF and a libvirt domain, as types.

Besides what every error of this package tells, these tell the domain.
"""

from ibhostdev.errors import (
    AccessDenied,
    DeviceInUse,
    IbHostdevError,
    InvalidInput,
    TimedOut,
)


class GuestError(IbHostdevError):
    """Base of these errors, and what libvirt says that fits no other.

    :ivar device: PCI address of the VF, or URI of the connection
    :ivar domain: name of the domain, or None
    """

    def __init__(
        self,
        message: str,
        device: str | None = None,
        attribute: str | None = None,
        errno: int | None = None,
        cure: str | None = None,
        domain: str | None = None,
    ) -> None:
        super().__init__(message, device, attribute, errno, cure)
        self.args = (*self.args, domain)
        self.domain = domain


class LibvirtMissing(GuestError):
    """libvirt-python is not installed."""


class LibvirtUnreachable(GuestError):
    """There is no libvirt at the URI, or it went away."""


class LibvirtDenied(GuestError, AccessDenied):
    """libvirt does not let this user do it."""


class DomainNotFound(GuestError, InvalidInput):
    """libvirt has no domain of this name."""


class WrongDomainState(GuestError, InvalidInput):
    """The domain does not run, or has no definition to change."""


class NotAttached(GuestError, InvalidInput):
    """The domain does not have this VF, nor is it to have it."""


class AttachedElsewhere(GuestError, DeviceInUse):
    """Another domain has the VF."""


class NoIommu(GuestError):
    """The host cannot hand PCI devices to guests."""


class IommuGroupShared(GuestError):
    """Other devices of the VF's IOMMU group are still the host's."""


class NoFreePort(GuestError):
    """The domain has no free PCI port to plug another device into."""


class NotReleased(GuestError, TimedOut):
    """The guest did not let go of the VF in time; it still has it."""


class ReleaseRefused(GuestError):
    """The guest refuses to let go of the VF."""
