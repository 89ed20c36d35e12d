# SPDX-License-Identifier: Apache-2.0
"""ioctls on a network device, by its name.

They answer for the network namespace of the calling thread, so they tell
whether a device that sysfs lists can be reached by a netlink socket, and is
the one that it is taken for. cffi releases the GIL around each call. All of
them raise OSError naming the ioctl and the device.
"""

import os

from ibhostdev._native import _ioctl

_lib, _ffi = _ioctl.lib, _ioctl.ffi


def _check(result: int, request: str, name: str) -> int:
    if result < 0:
        raise OSError(
            -result, os.strerror(-result), f"ioctl {request} of {name}"
        )
    return result


def driver_info(name: str) -> tuple[str, str]:
    """Driver and bus address, by ETHTOOL_GDRVINFO.

    For an IPoIB device the address is the PCI address of its PF; P_Key
    children show the same one (ipoib/ipoib_ethtool.c).
    """
    out = _ffi.new("struct if_driver *")
    _check(_lib.if_driver(os.fsencode(name), out), "ETHTOOL_GDRVINFO", name)
    return (
        os.fsdecode(_ffi.string(out.driver)),
        os.fsdecode(_ffi.string(out.bus_info)),
    )


def ifindex(name: str) -> int:
    """Interface index, by SIOCGIFINDEX: no VF data is gathered for it."""
    return _check(_lib.if_index(os.fsencode(name)), "SIOCGIFINDEX", name)


def flags(name: str) -> int:
    """Interface flags (IFF_UP is 1), by SIOCGIFFLAGS."""
    return _check(_lib.if_flags(os.fsencode(name)), "SIOCGIFFLAGS", name)


def set_flags(name: str, value: int) -> None:
    """Set the interface flags, by SIOCSIFFLAGS (needs CAP_NET_ADMIN)."""
    _check(_lib.if_set_flags(os.fsencode(name), value), "SIOCSIFFLAGS", name)
