# SPDX-License-Identifier: Apache-2.0
"""A write to the simulated sysfs is none that a signal can break off."""

import signal
import threading
import time

import pytest

from tests.testbed import Hca


def test_a_store_has_ended_when_a_signal_is_told(bed, monkeypatch):
    bed.build(Hca("mlx5-ofed", vfs=1, netdev=False))
    tree = bed.connect().sysfs
    store = bed.host.kernel.write

    def slow(path, value):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.2)  # for a writer that does not wait to be found out
        store(path, value)

    monkeypatch.setattr(bed.host.kernel, "write", slow)
    policy = f"bus/pci/devices/{bed.pfs[0]}/sriov/0/policy"
    with pytest.raises(KeyboardInterrupt):
        tree.write([(policy, b"Follow")])
    assert bed.seen(0)[0].policy == "follow"
