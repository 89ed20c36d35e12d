# SPDX-License-Identifier: Apache-2.0
"""ibhostdev metrics."""

import os
import stat
import sys
import threading

import pytest

from ibhostdev import BatchFailed
from ibhostdev.host import counters
from tests.flavours import guid, vifs
from tests.testbed import Hca

GUID = "fa:16:3e:00:00:00:00:01"


def samples(text):
    """Metric and labels, as they stand there, and the value."""
    return {
        key: float(value)
        for line in text.splitlines()
        if not line.startswith("#")
        for key, _, value in [line.rpartition(" ")]
    }


def test_what_an_operator_watches(host, run):
    host.seed(0, 1, GUID, GUID, "follow")
    host.bind(host.vf(0, 3), "vfio-pci")
    with host.hold(host.vf(0, 2)):
        done = run("metrics")
    assert (done.code, done.err) == (0, "")
    told = samples(done.out)
    first = host.pfs[0]
    assert (
        told[
            f'ibhostdev_pf_info{{pf="ib0",pciAddr="{first}",numa_node="",'
            'ib_device="mlx5_0",family="mlx5",mechanism="mlx5_netlink"}'
        ]
        == 1
    )
    assert told['ibhostdev_pf_readable{pf="ib0"}'] == 1
    assert told['ibhostdev_pf_vfs{pf="ib0"}'] == 4
    assert told['ibhostdev_pf_vfs_limit{pf="ib0"}'] == 4
    assert told['ibhostdev_port_active{pf="ib1",port="1"}'] == 1
    assert told['ibhostdev_port_sm_lid{pf="ib1",port="1"}'] == 1
    # The kernel shows no GUID of a fresh VF: nobody has said whose it is.
    assert told['ibhostdev_vfs{pf="ib0",state="plugged"}'] == 1
    assert told['ibhostdev_vfs{pf="ib0",state="unknown"}'] == 3
    assert told['ibhostdev_vfs{pf="ib0",state="idle"}'] == 0
    assert told['ibhostdev_vfs_in_use{pf="ib0"}'] == 1
    assert told['ibhostdev_vfs_in_use{pf="ib1"}'] == 0
    assert (
        told[
            f'ibhostdev_vf_info{{pf="ib0",vf="1",pciAddr="{host.vf(0, 1)}",'
            f'numa_node="",guid="{GUID}",policy="follow",'
            'driver="mlx5_core"}'
        ]
        == 1
    )
    assert sum(key.startswith("ibhostdev_vf_info") for key in told) == 8


def test_the_node_of_a_pf_is_that_of_its_vfs(host, run):
    """As sriov-network-metrics-exporter has it."""
    devices = host.folder / "sys/bus/pci/devices"
    for pf, node in zip(host.pfs, ("1", "-1"), strict=True):
        (devices / pf / "numa_node").write_text(f"{node}\n")
    out = run("metrics").out
    assert out.count('numa_node="1"') == 5
    assert out.count('numa_node=""') == 5


def test_idle_and_stale_vfs(host, run):
    there = host.connect()
    there.plug(vifs(host, 1, 2))
    # The host's driver takes it over as a guest's would.
    for vf in (host.vf(0, 0), host.vf(0, 1)):
        host.bind(vf, None)
        host.bind(vf, "mlx5_core")
    there.unplug(vifs(host, 1, 2), rebind=False)
    told = samples(run("metrics").out)
    assert told['ibhostdev_vfs{pf="ib0",state="idle"}'] == 2
    assert told['ibhostdev_vfs_stale{pf="ib0"}'] == 2
    assert told['ibhostdev_vfs_stale{pf="ib1"}'] == 0


def test_one_question_for_each_pf(host, run):
    host.reset_counts()
    run("metrics")
    counts = host.counts()
    assert (counts.getlink, counts.modify) == (2, 0)


COUNTED = {
    "rx_packets": 0,
    "tx_packets": 1,
    "rx_bytes": 2,
    "tx_bytes": 3,
    "rx_broadcast": 4,
    "rx_multicast": 5,
    "rx_dropped": 7,
    "tx_dropped": 8,
}


def test_what_vfs_send_and_receive_if_it_is_asked_for(host, run):
    assert "sriov_vf" not in run("metrics").out
    host.reset_counts()
    done = run("metrics", "--statistics")
    assert (done.code, done.err) == (0, "")
    counts = host.counts()
    assert (counts.getlink, counts.modify) == (4, 0)
    told = samples(done.out)
    for pf in (0, 1):
        for index in range(4):
            labels = (
                f'pf="ib{pf}",vf="{index}",pciAddr="{host.vf(pf, index)}",'
                'numa_node=""'
            )
            assert {
                name: told[f"sriov_vf_{name}{{{labels}}}"] for name in COUNTED
            } == {
                name: 1000 * (index + 1) + number
                for name, number in COUNTED.items()
            }
    kinds = {
        line.split()[3]
        for line in done.out.splitlines()
        if line.startswith("# TYPE sriov_vf")
    }
    assert kinds == {"counter"}


def test_who_does_not_tell_statistics_tells_the_rest(bed, run):
    bed.build(
        Hca(vfs=2, netdev=False), Hca("mlx4", vfs=2), Hca(vfs=1), Hca(vfs=0)
    )
    done = run("metrics", "--statistics")
    assert (done.code, done.err) == (0, "")
    traffic = [key for key in samples(done.out) if key.startswith("sriov_vf")]
    assert len(traffic) == len(COUNTED)
    assert all(bed.vf(2, 0) in key for key in traffic)


def test_statistics_of_a_vf_that_is_not_told_about(host, run):
    host.fail_queries(host.vf(0, 1), 5)
    told = samples(run("metrics", "--statistics").out)
    shown = {key for key in told if key.startswith("sriov_vf_rx_bytes")}
    assert len(shown) == 7
    assert not any(host.vf(0, 1) in key for key in shown)


def test_a_pf_that_nothing_serves_and_one_that_is_well(bed, run):
    bed.build(Hca(vfs=2, netdev=False), Hca("mlx4", vfs=2, ports=2))
    done = run("metrics")
    assert done.code == 0
    told = samples(done.out)
    assert told['ibhostdev_pf_readable{pf="mlx5_0"}'] == 0
    assert told['ibhostdev_vfs{pf="mlx5_0",state="unknown"}'] == 2
    (name,) = (
        key.partition('pf="')[2].partition('"')[0]
        for key in told
        if key.startswith("ibhostdev_pf_info") and 'family="mlx4"' in key
    )
    assert told[f'ibhostdev_pf_readable{{pf="{name}"}}'] == 1
    assert told[f'ibhostdev_port_active{{pf="{name}",port="2"}}'] == 1


def test_a_pf_that_cannot_be_read_leaves_the_others_there(bed, run, tmp_path):
    bed.build(Hca("mlx4", vfs=1), Hca("mlx5", vfs=1))
    folder = f"sys/bus/pci/devices/{bed.pfs[0]}/infiniband/mlx4_0/iov"
    garbage = bed.folder / "garbage"
    garbage.write_text("garbage\n")
    garbage.replace(bed.folder / folder / "ports/1/admin_guids/1")
    file = tmp_path / "ibhostdev.prom"
    done = run("metrics", "--textfile", str(file))
    assert done.code == 1
    assert "admin_guids/1" in done.err
    told = samples(file.read_text())
    assert sorted(
        value
        for key, value in told.items()
        if key.startswith("ibhostdev_pf_readable")
    ) == [0, 1]


def test_a_name_with_quotes_stays_one(host, run):
    host.bind(host.vf(0, 0), "vfio-pci")
    # Names of network devices may have quotes (net/core/dev.c).
    from ibhostdev.fabric.metrics import _escaped

    assert _escaped('a"b\\c\nd') == 'a\\"b\\\\c\\nd'


def test_a_textfile_is_there_at_once_and_for_all_to_read(host, run, tmp_path):
    file = tmp_path / "ibhostdev.prom"
    file.write_text("old\n")
    file.chmod(0o640)
    ended = threading.Event()
    seen = set()

    def scrape():
        while not ended.is_set():
            text = file.read_text()
            seen.add((text == "old\n", text.endswith("\n"), len(text) > 0))
            assert len(list(tmp_path.glob("*.prom"))) == 1

    scraper = threading.Thread(target=scrape)
    scraper.start()
    for _ in range(5):
        done = run("metrics", "--textfile", str(file))
        assert (done.code, done.out, done.err) == (0, "", "")
    ended.set()
    scraper.join()
    assert seen <= {(True, True, True), (False, True, True)}
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    new = tmp_path / "new.prom"
    old_mask = os.umask(0o077)
    run("metrics", "--textfile", str(new))
    os.umask(old_mask)
    assert stat.S_IMODE(new.stat().st_mode) == 0o644
    assert {path.name for path in tmp_path.iterdir()} == {
        "ibhostdev.prom",
        "new.prom",
    }


def test_a_link_in_the_folder_leads_nowhere(host, run, tmp_path):
    """The folder is the collector's, who is an ordinary user."""
    other = tmp_path / "other"
    other.write_text("of root\n")
    folder = tmp_path / "textfile"
    folder.mkdir()
    file = folder / "ibhostdev.prom"
    file.symlink_to(other)
    assert run("metrics", "--textfile", str(file)).code == 0
    assert other.read_text() == "of root\n"
    assert not file.is_symlink()
    assert "ibhostdev_vfs" in file.read_text()


def test_a_folder_that_is_not_there(host, run, tmp_path):
    done = run("metrics", "--textfile", str(tmp_path / "none" / "x.prom"))
    assert done.code == 1
    assert "ENOENT" in done.err
    assert "textfile.directory" in done.err


def test_what_was_done_since_boot(host, run):
    there = host.connect(counted=True)
    assert "ibhostdev_batches_total" not in run("metrics").out
    there.plug(vifs(host, 1, 2, 3))
    there.plug(vifs(host, 1, 2, 3))
    there.plug(vifs(host, 1, 2, 3), dry_run=True)
    there.unplug(vifs(host, 1, 2))
    host.fail(host.vf(0, 0), 5)
    with pytest.raises(BatchFailed):
        there.plug(vifs(host, 4))
    told = samples(run("metrics").out)
    plug = 'action="plug"'
    assert told[f"ibhostdev_batches_total{{{plug}}}"] == 3
    assert told[f"ibhostdev_batch_vifs_total{{{plug}}}"] == 7
    assert told[f"ibhostdev_batch_seconds_total{{{plug}}}"] > 0
    assert told['ibhostdev_batches_total{action="unplug"}'] == 1
    failures = {k: v for k, v in told.items() if "batch_failures" in k}
    assert failures == {
        f'ibhostdev_batch_failures_total{{{plug},reason="CommandFailed"}}': 1
    }


def test_nothing_of_it_stops_a_plug(host, run):
    there = host.connect(counted=True)
    there.plug(vifs(host, 1))
    file = host.folder / "run" / counters.NAME
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_bytes(b"\xff garbage\n1 a b=c=d\nnan\n")
    there.plug(vifs(host, 2))
    told = samples(run("metrics").out)
    assert told['ibhostdev_batches_total{action="plug"}'] == 1
    file.unlink()
    file.mkdir()
    there.plug(vifs(host, 3))
    assert host.seen(0)[0].node == str(guid(3))
    assert run("metrics").code == 0


def test_many_at_once_are_all_counted(tmp_path):
    series = ("ibhostdev_batches_total", (("action", "plug"),))

    def work():
        for _ in range(20):
            counters.add(str(tmp_path), {series: 1})

    threads = [threading.Thread(target=work) for _ in range(4)]
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(0.005)
    assert counters.read(str(tmp_path)) == {series: 80}
