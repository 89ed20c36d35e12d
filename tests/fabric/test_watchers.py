# SPDX-License-Identifier: Apache-2.0
"""Metrics, by Prometheus' own tools."""

import json
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.fabric.conftest import free_port, program, until
from tests.flavours import vifs

ETC = Path(__file__).parents[2] / "etc"


def test_what_promtool_says_of_the_metrics(host, shell):
    promtool = program("promtool")
    host.connect().plug(vifs(host, 1, 2))
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=shell("metrics").stdout,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    # pciAddr is another exporter's name for it, which ours are to be joined
    # with; promtool has a style of its own and nothing else to say.
    said = (done.stdout + done.stderr).splitlines()
    assert all("snake_case" in line for line in said)
    assert {line.split()[0] for line in said} == {
        "ibhostdev_pf_info",
        "ibhostdev_vf_info",
    }


def test_what_promtool_says_of_the_rules():
    rules = ETC / "prometheus/ibhostdev.rules.yml"
    subprocess.run([program("promtool"), "check", "rules", rules], check=True)


FAILURES = 'ibhostdev_batch_failures_total{instance="a",action="plug"}'
PORT = 'ibhostdev_port_active{instance="a",pf="ib0",port="1"}'
VFS = 'ibhostdev_pf_vfs{instance="a",pf="ib0"}'
UP = 'up{instance="a"}'


@pytest.mark.parametrize(
    ("alert", "series", "minutes", "fires"),
    [
        # The first failure ever is told, and not for ever.
        ("PlugsFail", {FAILURES: "_x24 1x40", UP: "1x64"}, 25, 1),
        ("PlugsFail", {FAILURES: "_x24 1x40", UP: "1x64"}, 55, 0),
        # Nobody knows when it was.
        ("PlugsFail", {FAILURES: "_x24 1x40", UP: "_x24 1x40"}, 25, 0),
        ("PlugsFail", {FAILURES: "1x30 2x20"}, 29, 0),
        ("PlugsFail", {FAILURES: "1x30 2x20"}, 32, 1),
        ("PortDown", {PORT: "0x20", VFS: "4x20"}, 10, 1),
        ("PortDown", {PORT: "1x20", VFS: "4x20"}, 10, 0),
        # It may have no cable.
        ("PortDown", {PORT: "0x20", VFS: "0x20"}, 10, 0),
    ],
)
def test_when_an_alert_fires(alert, series, minutes, fires, tmp_path):
    file = tmp_path / "test.yml"
    expression = f'count(ALERTS{{alertname="Infiniband{alert}"}}) or vector(0)'
    case = {
        "interval": "1m",
        "input_series": [
            {"series": name, "values": values}
            for name, values in series.items()
        ],
        "promql_expr_test": [
            {
                "expr": expression,
                "eval_time": f"{minutes}m",
                "exp_samples": [{"labels": "{}", "value": fires}],
            }
        ],
    }
    rules = str(ETC / "prometheus/ibhostdev.rules.yml")
    file.write_text(json.dumps({"rule_files": [rules], "tests": [case]}))
    done = subprocess.run(
        [program("promtool"), "test", "rules", file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_node_exporter_passes_it_on(host, shell, started, tmp_path):
    exporter = program("prometheus-node-exporter")
    host.connect().plug(vifs(host, 1))
    file = tmp_path / "ibhostdev.prom"
    shell("metrics", "--textfile", str(file))
    address = f"127.0.0.1:{free_port()}"
    started(
        exporter,
        "--collector.disable-defaults",
        "--collector.textfile",
        f"--collector.textfile.directory={tmp_path}",
        f"--web.listen-address={address}",
        stderr=subprocess.DEVNULL,
    )

    def scraped():
        try:
            with urllib.request.urlopen(f"http://{address}/metrics") as page:
                return page.read().decode()
        except OSError:
            return ""

    until(scraped)
    page = scraped()
    assert "node_textfile_scrape_error 0" in page
    assert 'ibhostdev_vfs{pf="ib0",state="plugged"} 1' in page
    assert 'guid="fa:16:3e:00:00:00:00:01"' in page
    assert f'node_textfile_mtime_seconds{{file="{file}"}}' in page
    # Both have their own order and spelling of it.
    told = [x for x in page.splitlines() if x.startswith("ibhostdev_")]
    assert len(told) == len(
        [x for x in file.read_text().splitlines() if not x.startswith("#")]
    )
