# SPDX-License-Identifier: Apache-2.0
"""A simulated host served by a process of its own."""

import pytest

from ibhostdev.errors import NotRunning
from ibhostdev.simulate.apart import served


def test_it_finds_modules_where_this_process_does(monkeypatch, tmp_path):
    """A package may have what serving takes in a folder that Python does not
    look into by itself."""
    marker = tmp_path / "imported"
    (tmp_path / "inotify_simple.py").write_text(
        f"open({str(marker)!r}, 'w').close()\nraise SystemExit\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(NotRunning), served(tmp_path / "host", 2):
        pass
    assert marker.exists()
