# SPDX-License-Identifier: Apache-2.0
"""What host.yaml and libvirt's domains want of this host."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ibhostdev.cli import options, terminal
from ibhostdev.guid import Guid
from ibhostdev.pci import PciAddress

if TYPE_CHECKING:
    from ibhostdev.guest.claims import Wanted
    from ibhostdev.host import Host
    from ibhostdev.provision.found import Found
    from ibhostdev.provision.report import Claims

NO_LIBVIRT = "none"
NO_FILE = "no host.yaml was read (--host-yaml names one)"


def found(
    settings: options.Settings, host: "Host", file: str | None
) -> "list[Found]":
    """What a file wants; without one, host.yaml if it is there."""
    from ibhostdev.provision.found import find
    from ibhostdev.provision.reading import from_file

    file = host_yaml(settings, file)
    return [] if file is None else find(host, from_file(file, terminal.warn))


def host_yaml(settings: options.Settings, file: str | None) -> str | None:
    """The file that is read; without one, host.yaml if it is there. That is
    about this machine."""
    there = options.HOST_YAML
    if file is None and settings.host is None and os.path.exists(there):
        return there
    return file


def domains(settings: options.Settings, uri: str | None) -> "Sequence[Wanted]":
    """What libvirt's domains want, and warnings of what cannot be read."""
    found = ask_domains(settings, uri)
    for one in found:
        terminal.warn(*one.notes)
        if one.error is not None:
            terminal.warn(str(one.error))
    return found


def ask_domains(
    settings: options.Settings, uri: str | None
) -> "Sequence[Wanted]":
    """What libvirt's domains want. Where nobody has asked for it, nothing
    that is wrong with libvirt is worth more than a word."""
    from ibhostdev.guest import connection

    if uri == NO_LIBVIRT or (uri is None and settings.host is not None):
        return ()
    from ibhostdev.guest.claims import wanted

    return connection.ask(uri, wanted) or ()


def claims(settings: options.Settings, uri: str | None) -> "Claims":
    """Which domain an identity is for, whether it runs or not, and which
    running one has a VF."""
    from ibhostdev.provision.report import Claims

    guids: dict[Guid, str] = {}
    vfs: dict[PciAddress, str] = {}
    for one in domains(settings, uri):
        name = f"domain {one.domain}"
        guids |= {vif.guid: name for vif in one.vifs}
        if one.runs:
            vfs |= dict.fromkeys(one.devices, name)
    return Claims(guids, vfs)
