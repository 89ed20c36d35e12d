# SPDX-License-Identifier: Apache-2.0
"""The options of the agent: ``[ibhostdev_agent]``.

Which devices are behind which physical network, and how they are served, is
in ``[ibhostdev]``, as for nova-compute.
"""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "ibhostdev_agent",
    title="Agent for ports of InfiniBand Virtual Functions",
    help="""
When ``ibhostdev-neutron-agent`` looks at the Virtual Functions of its host.

Their devices are named in ``[ibhostdev] physical_device_mappings``; the
privileged daemon is configured in ``[ibhostdev_privileged]``, and how often
the agent reports to be alive by ``[AGENT] report_interval``.
""",
)

OPTS = [
    cfg.FloatOpt(
        "polling_interval",
        default=10.0,
        min=0,
        max=3600,
        help="""
Seconds after which all devices are looked at, whatever happens.

What ibhostdev changes is seen at once, without it. It is for what other
programs change, and for one that is killed while it changes something. 0
turns it off.
""",
    ),
    cfg.BoolOpt(
        "beside_eswitchd",
        default=False,
        help="""
Start though eswitchd runs on this host.

Where eswitchd runs, networking-mlnx's agent may, too, and both would tell
Neutron what they see. Only needed where eswitchd serves ``ebrctl`` alone.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """For oslo-config-generator; entry point oslo.config.opts."""
    return [(GROUP, OPTS)]
