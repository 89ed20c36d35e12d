# SPDX-License-Identifier: Apache-2.0
"""What is told to whoever watches the folder of the locks."""

import os
from pathlib import Path

import pytest

from ibhostdev import BatchFailed
from tests.flavours import vifs
from tests.testbed import Hca


def unmark(host):
    for lock in Path(host.run_dir).glob("*.lock"):
        os.utime(lock, (0, 0))


def marked(host):
    """The PFs that have been changed since."""
    return {
        lock.stem
        for lock in Path(host.run_dir).glob("*.lock")
        if lock.stat().st_mtime
    }


def test_what_changed_a_pf_is_told(bed, flavour):
    bed.build(flavour.hca, flavour.hca)
    host = bed.connect()
    host.plug(vifs(bed, 1, pf=0) + vifs(bed, 2, pf=1))
    unmark(host)
    host.plug(vifs(bed, 1, 3))
    assert marked(host) == {bed.pfs[0]}
    unmark(host)
    host.unplug(vifs(bed, 2, pf=1))
    assert marked(host) == {bed.pfs[1]}


def test_what_changed_nothing_is_not(bed, flavour):
    bed.build(flavour.hca)
    host = bed.connect()
    host.plug(vifs(bed, 1))
    unmark(host)
    host.plug(vifs(bed, 1))
    host.unplug(vifs(bed, 2))
    host.plug(vifs(bed, 1, 2), dry_run=True)
    assert marked(host) == set()


def test_what_was_put_back_is_told(bed):
    bed.build(Hca())
    host = bed.connect()
    host.plug(vifs(bed, 1))
    unmark(host)
    bed.fail(bed.vf(0, 1), 5)
    with pytest.raises(BatchFailed):
        host.plug(vifs(bed, 1, 2))
    assert marked(host) == {bed.pfs[0]}
