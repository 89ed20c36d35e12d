# SPDX-License-Identifier: Apache-2.0
"""Who is to be in which partition, as far as anybody has said it: mlx5's
driver knows nothing of it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ibhostdev.batch import Vif
from ibhostdev.cli import options, sources, terminal, vifs
from ibhostdev.errors import IbHostdevError
from ibhostdev.pkey import Partitions

if TYPE_CHECKING:
    from ibhostdev.host import Host


def known(
    settings: options.Settings,
    host: "Host",
    host_yaml: str | None,
    said: Iterable[Vif] = (),
    file: str | None = None,
    needed: bool = False,
) -> Partitions:
    """What VIFs say, those of a ``file`` too, and of others host.yaml. What
    is wrong with one that nobody has named is worth no more than a word,
    unless it is ``needed``.

    :raises IbHostdevError: for a GUID that VIFs want in two partitions, and
        for files that are malformed
    """
    guids = vifs.pkeys(file, said)
    try:
        wished = _wished(settings, host, host_yaml)
    except IbHostdevError as error:
        if needed or host_yaml is not None:
            raise
        terminal.warn(f"its P_Keys are not known: {error}")
        wished = Partitions()
    return Partitions({**wished.guids, **guids}, wished.pfs)


def _wished(
    settings: options.Settings, host: "Host", host_yaml: str | None
) -> Partitions:
    found = sources.found(settings, host, host_yaml)
    if not found:
        return Partitions()
    from ibhostdev.provision.found import partitions

    return partitions(found)
