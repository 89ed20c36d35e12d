# SPDX-License-Identifier: Apache-2.0
"""Domains of a real libvirt in this process, VFs of a simulated host.

``qemu:///embed`` is libvirt's QEMU driver without its daemon: it needs
neither root nor VFIO, and there is no device of the host that it could touch.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ibhostdev.guest import connection
from ibhostdev.guest.errors import LibvirtMissing, LibvirtUnreachable
from ibhostdev.host import Host
from tests.testbed import Hca, Testbed

DOMAIN = """
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>32</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
    <controller type='pci' model='pcie-root'/>
    <controller type='pci' model='pcie-root-port'/>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
</domain>
"""


@pytest.fixture(scope="session")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where a libvirt of the tests' own is."""
    root = tmp_path_factory.mktemp("libvirt")
    (root / "etc").mkdir()
    (root / "etc" / "qemu.conf").write_text(
        f'stdio_handler = "file"\nuser = "+{os.getuid()}"\n'
        f'group = "+{os.getgid()}"\n'
    )
    return f"qemu:///embed?root={root}"


@pytest.fixture(scope="session")
def _conn(uri: str) -> Iterator[Any]:
    """One for all: this libvirt survives some 20 connections only."""
    try:
        conn = connection.connect(uri)
    except (LibvirtMissing, LibvirtUnreachable) as error:
        pytest.skip(f"needs libvirt and its QEMU driver: {error}")
    yield conn
    conn.close()


@pytest.fixture
def conn(_conn: Any) -> Iterator[Any]:
    """A connection to it; its domains are gone afterwards."""
    yield _conn
    for domain in _conn.listAllDomains():
        if domain.isActive():
            domain.destroy()
        if domain.isPersistent():
            domain.undefine()


@pytest.fixture
def define(conn: Any) -> Callable[..., None]:
    """Defines domains."""

    def define(*names: str) -> None:
        for name in names:
            conn.defineXML(DOMAIN.format(name=name))

    return define


@pytest.fixture
def host(bed: Testbed) -> Host:
    """A host with two HCAs with 4 fresh VFs each."""
    bed.build(Hca(vfs=4), Hca(vfs=4))
    return bed.connect()


@pytest.fixture
def folder(bed: Testbed, host: Host) -> Path:
    """Where it is."""
    return Path(bed.command[-1])
