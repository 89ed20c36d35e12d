# SPDX-License-Identifier: Apache-2.0
"""A service asks for years: nothing of a call is kept when it is over."""

import ctypes
import gc
import logging

import pytest

from ibhostdev import Vif
from ibhostdev.errors import IbHostdevError
from tests.flavours import mac, vifs
from tests.testbed import Hca

_TIMES = 100
_VFS = 32


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


@pytest.fixture
def allocated():
    """How many bytes are, by malloc()."""
    ask = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if ask is None:
        pytest.skip("this C library does not tell")
    ask.restype = _Mallinfo

    def allocated():
        gc.collect()
        told = ask()
        return told.uordblks + told.hblkhd

    # pytest keeps what is logged.
    logging.disable(logging.CRITICAL)
    yield allocated
    logging.disable(logging.NOTSET)


def _refused(call, *arguments, **how):
    with pytest.raises(IbHostdevError):
        call(*arguments, **how)


CALLS = {
    "refused": lambda host, bed: (
        _refused(host.plug, vifs(bed, 1, 1)),
        _refused(host.plug, [Vif.parse(bed.pfs[0], mac(1))]),
        _refused(host.plug, vifs(bed, 1), mechanism="mlx5_sysfs"),
        _refused(host.survey, host.pfs[0], mechanism="mlx4_sysfs"),
    ),
    "failed": lambda host, bed: _refused(
        host.plug,
        [*vifs(bed, 1), Vif.parse(bed.pfs[0], mac(2))],
        on_error="continue",
    ),
    "survey": lambda host, bed: host.survey(host.pfs[0]),
    "vfs": lambda host, bed: host.vfs(host.pfs[0]),
    "locate": lambda host, bed: host.vf(bed.vf(0, 1)),
    "plug": lambda host, bed: host.plug(vifs(bed, *range(1, _VFS))),
    "unplug": lambda host, bed: host.unplug(vifs(bed, *range(1, _VFS))),
    "plug and unplug": lambda host, bed: (
        host.plug(vifs(bed, *range(1, _VFS))),
        host.unplug(vifs(bed, *range(1, _VFS))),
    ),
    "connect": lambda host, bed: bed.connect().pfs,
}


@pytest.mark.parametrize("call", CALLS)
def test_nothing_is_kept(bed, allocated, call):
    bed.build(Hca("mlx5", vfs=_VFS))
    host = bed.connect()

    def times(number):
        for _ in range(number):
            CALLS[call](host, bed)
        return allocated()

    times(_TIMES // 10)
    before = times(_TIMES // 10)
    # malloc() gives no smaller piece.
    assert times(_TIMES) - before < _TIMES * 32
