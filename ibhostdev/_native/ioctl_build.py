# SPDX-License-Identifier: Apache-2.0
"""Builds ibhostdev._native._ioctl (cffi, API mode)."""

from cffi import FFI

ffi = FFI()
ffi.cdef(
    """
    struct ibh_driver { char driver[33]; char bus_info[33]; };
    int ibh_driver(const char *name, struct ibh_driver *out);
    int ibh_ifindex(const char *name);
    int ibh_flags(const char *name);
    int ibh_set_flags(const char *name, int flags);
    """
)
ffi.set_source(
    "ibhostdev._native._ioctl",
    '#include "ibhostdev/ioctl.h"',
    include_dirs=["include"],
    depends=["include/ibhostdev/ioctl.h"],
)
