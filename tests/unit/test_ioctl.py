# SPDX-License-Identifier: Apache-2.0
"""ioctls on the devices that every machine has."""

import errno

import pytest

from ibhostdev._native import ioctl


def test_the_loopback_device():
    assert ioctl.ifindex("lo") == 1
    assert ioctl.flags("lo") & 8  # IFF_LOOPBACK


@pytest.mark.parametrize(
    ("call", "name", "number", "request_name"),
    [
        (ioctl.driver_info, "lo", errno.EOPNOTSUPP, "ETHTOOL_GDRVINFO"),
        (ioctl.ifindex, "nosuch0", errno.ENODEV, "SIOCGIFINDEX"),
        (ioctl.flags, "", errno.EINVAL, "SIOCGIFFLAGS"),
        (ioctl.flags, "x" * 16, errno.EINVAL, "SIOCGIFFLAGS"),
        (ioctl.driver_info, "nosuch0", errno.ENODEV, "ETHTOOL_GDRVINFO"),
    ],
)
def test_failures_name_ioctl_and_device(call, name, number, request_name):
    with pytest.raises(OSError, match=request_name) as caught:
        call(name)
    assert caught.value.errno == number


def test_flags_are_not_set_without_the_right_or_on_nothing():
    with pytest.raises(OSError, match="SIOCSIFFLAGS of nosuch0"):
        ioctl.set_flags("nosuch0", 0)
