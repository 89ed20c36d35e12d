# SPDX-License-Identifier: Apache-2.0
"""The agent's program where what it takes is not installed."""

import sys

import pytest

from ibhostdev.neutron import program


def test_what_is_missing_is_told_with_the_extra(monkeypatch):
    monkeypatch.delitem(sys.modules, "ibhostdev.neutron.agent", raising=False)
    monkeypatch.setitem(sys.modules, "neutron", None)
    with pytest.raises(SystemExit) as caught:
        program.main()
    told = str(caught.value.code)  # on standard error, and the code is 1
    assert told.startswith("ibhostdev-neutron-agent: neutron: ")
    assert "extra 'neutron'" in told


def test_what_is_missing_of_our_own_is_a_fault(monkeypatch):
    monkeypatch.setitem(sys.modules, "ibhostdev.neutron.agent", None)
    with pytest.raises(ImportError):
        program.main()
