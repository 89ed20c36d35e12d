# SPDX-License-Identifier: Apache-2.0
"""The prolog and epilog for Slurm do what their page says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, blocks
from tests.flavours import ONES, guid
from tests.testbed import Hca

PROLOG, EPILOG = blocks(DOCS / "howto/slurm.md", "sh")


@pytest.fixture
def job(bed, tmp_path):
    """Runs a script as slurmd does, but for the rights; gives what it has
    given to whom."""
    bed.build(Hca(vfs=4))
    owners = tmp_path / "owners"
    folder = tmp_path / "bin"
    folder.mkdir()
    chown = folder / "chown"
    chown.write_text(f'#!/bin/sh\necho "$@" >> {owners}\n')
    chown.chmod(0o755)
    programs = f"{folder}:{Path(sys.executable).parent}"

    def run(script):
        for there, here in (
            ("PATH=", f"PATH={programs}:"),
            ("/run/slurm-vfs", str(tmp_path)),
            ("/sys/", f"{bed.sys}/"),
        ):
            assert there in script
            script = script.replace(there, here)
        owners.write_text("")
        subprocess.run(
            ["sh", "-e", "-c", script],
            check=True,
            env={
                "IBHOSTDEV_HOST": bed.command[-1],
                "SLURM_JOB_ID": "7",
                "SLURM_JOB_UID": "1000",
            },
        )
        return owners.read_text().splitlines()

    return run


def group(bed, index):
    link = bed.sys / "bus/pci/devices" / bed.vf(0, index) / "iommu_group"
    return os.path.basename(os.readlink(link))


def test_a_job_gets_its_vfs_and_gives_them_back(bed, job, tmp_path):
    file = tmp_path / "7.yaml"
    file.write_text(
        f"- {{pci: {bed.vf(0, 1)}, guid: '{guid(1)}'}}\n"
        f"- {{pci: '{bed.vf(0, 2)}', guid: '{guid(2)}'}}\n"
    )
    nodes = [f"/dev/vfio/{group(bed, index)}" for index in (1, 2)]
    assert job(PROLOG) == [f"1000 {node}" for node in nodes]
    ports = [one.port for one in bed.seen(0)]
    assert ports[1:3] == [guid(1), guid(2)]
    assert job(EPILOG) == [f"root {node}" for node in nodes]
    assert [one.port for one in bed.seen(0)][1:3] == [ONES, ONES]
    assert not file.exists()


def test_a_job_without_vfs(job):
    assert job(PROLOG) == job(EPILOG) == []
