# SPDX-License-Identifier: Apache-2.0
"""A whole PF of 127 VFs, by one command and one file."""

import json
import subprocess
from dataclasses import replace

import pytest

from tests.flavours import FLAVOURS, guid, mac

pytestmark = pytest.mark.large

VFS = 127


def run(bed, *arguments):
    done = subprocess.run(
        [*bed.command, *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", list(FLAVOURS))
def test_127_vfs_by_one_file(bed, name, tmp_path):
    chosen = FLAVOURS[name]
    bed.build(replace(chosen.hca, vfs=VFS))
    fresh = bed.seen(0)
    file = tmp_path / "vifs.json"
    file.write_text(
        json.dumps(
            [{"pci": bed.vf(0, n), "mac": mac(n + 1)} for n in range(VFS)]
        )
    )
    plugged = [chosen.seen(guid(n + 1)) for n in range(VFS)]

    bed.reset_counts()
    told = run(bed, "plug", "--json", "--file", str(file), "--dry-run")
    assert [one["changed"] for one in told["results"]] == [True] * VFS
    assert bed.counts().modify == 0
    assert bed.seen(0) == fresh

    bed.reset_counts()
    told = run(bed, "plug", "--json", "--file", str(file))
    counts = bed.counts()
    assert bed.seen(0) == plugged
    assert [one["mechanism"] for one in told["results"]] == [
        chosen.mechanism
    ] * VFS
    assert counts.modify == VFS * chosen.commands
    assert counts.getlink <= chosen.getlinks(2)

    bed.reset_counts()
    told = run(bed, "plug", "--json", "--file", str(file))
    counts = bed.counts()
    assert not any(one["changed"] for one in told["results"])
    assert counts.modify == 0
    assert counts.getlink <= chosen.getlinks(1)

    listed = run(bed, "list", "--json", bed.pfs[0])["pfs"][0]["vfs"]
    assert [vf["mac"] for vf in listed] == [mac(n + 1) for n in range(VFS)]

    bed.reset_counts()
    run(bed, "unplug", "--json", "--file", str(file))
    counts = bed.counts()
    assert bed.seen(0) == [chosen.idle] * VFS
    assert counts.modify == VFS * chosen.commands
    assert counts.getlink <= chosen.getlinks(2)
