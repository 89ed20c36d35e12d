# SPDX-License-Identifier: Apache-2.0
"""The program ``ibhostdev-neutron-agent``, as far as it gets where Neutron or
what the agent takes besides is not installed: the script is always there."""

import sys

from ibhostdev.errors import CommandFailed

BINARY = "ibhostdev-neutron-agent"


def main() -> None:
    """Run the agent. Ends with 1 if it does not start."""
    try:
        from ibhostdev.neutron import agent
    except ImportError as error:
        missing = (error.name or "ibhostdev").partition(".")[0]
        if missing == "ibhostdev":  # a fault of ours
            raise
        told = CommandFailed(
            f"the agent cannot run without it ({error})",
            missing,
            cure="install the package with its extra 'neutron' into the "
            "Python environment of Neutron's agents, and run it from there",
        )
        sys.exit(f"{BINARY}: {told}")
    agent.main()
