# SPDX-License-Identifier: Apache-2.0
"""Neutron's face: the agent that tells it which ports are up on this host.

To Neutron it is networking-mlnx's "Mellanox plugin agent", which mechanism
driver mlnx_infiniband binds ports by. That agent asks eswitchd for
everything; this one looks for itself, when it is told that something changed.

``vnics`` sees, ``ports`` decides, ``watch`` wakes; none of them knows Neutron,
which is ``agent``'s. ``program`` says what is missing where there is none.
"""
