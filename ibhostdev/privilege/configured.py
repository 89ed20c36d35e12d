# SPDX-License-Identifier: Apache-2.0
"""The host as a service's configuration tells, whatever a request says."""

from typing import Any

from ibhostdev.host import Host
from ibhostdev.host.journal import SOCKET
from ibhostdev.host.networks import parse_mappings
from ibhostdev.host.vendor import Command


def host(options: Any, **parameters: Any) -> Host:
    """``options`` are those of group ``[ibhostdev]``, ``parameters`` Host's
    own and go before them.

    :raises InvalidInput: for a mapping that is none
    """
    if networks := parse_mappings(options.physical_device_mappings):
        parameters["physical_networks"] = networks
    parameters.setdefault("counted", True)
    if options.simulated_host is not None:
        from ibhostdev import simulate

        return simulate.connect(options.simulated_host, **parameters)
    # What is not used must not be in the way either.
    if "ebrctl" not in parameters:
        parameters["ebrctl"] = Command(options.ebrctl_timeout)
        parameters.setdefault("ebrctl_at_once", options.ebrctl_concurrency)
    parameters.setdefault("run_dir", options.run_dir)
    parameters.setdefault("journal", SOCKET)
    return Host(**parameters)
