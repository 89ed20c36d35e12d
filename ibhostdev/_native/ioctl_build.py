# SPDX-License-Identifier: Apache-2.0
"""Builds ibhostdev._native._ioctl (cffi, API mode)."""

from cffi import FFI

ffi = FFI()
ffi.cdef(
    """
    struct if_driver { char driver[33]; char bus_info[33]; };
    int if_driver(const char *name, struct if_driver *out);
    int if_index(const char *name);
    int if_flags(const char *name);
    int if_set_flags(const char *name, int flags);
    """
)
ffi.set_source(
    "ibhostdev._native._ioctl",
    '#include "ioctl.h"',
    include_dirs=["ibhostdev/_native/engine"],
    depends=["ibhostdev/_native/engine/ioctl.h"],
)
