# SPDX-License-Identifier: Apache-2.0
"""The options of a service that plugs through ibhostdev: ``[ibhostdev]``.

Both sides read them, nova-compute and its privileged daemon; what is about
devices is taken from the daemon's only.
"""

import logging
from collections.abc import Iterable

from oslo_config import cfg

LOG = logging.getLogger(__name__)

GROUP = cfg.OptGroup(
    "ibhostdev",
    title="Virtual InfiniBand adapters",
    help="""
How InfiniBand Virtual Functions are given the identities of their ports.

The privileged daemon that does it is configured in
``[ibhostdev_privileged]``, with oslo.privsep's options.
""",
)

OPTS = [
    cfg.ListOpt(
        "physical_device_mappings",
        default=[],
        sample_default="default:ib0,default:ib1,storage:mlx5_2",
        help="""
Which Physical Functions are behind which physical network.

A list of ``<physical network>:<device>``, as eswitchd takes it. A device is
the IPoIB network device of a Physical Function (by its name or an altname),
its IB device or its PCI address; a network with several is there several
times.

Optional. With it, a port is refused on a Virtual Function that is not
behind its physical network, and identities have to be unique for each
physical network only. Without it, any Virtual Function will do, and
identities are unique on the host.
""",
    ),
    cfg.StrOpt(
        "mechanism",
        sample_default="<the first that serves the device>",
        help="""
The way to set identities, by name.

By default each Physical Function is served by the first that can: through
its IPoIB network device (``mlx5_netlink``), then through the files of
MLNX_OFED (``mlx5_sysfs``), on ConnectX-3 through those of its driver
(``mlx4_sysfs``), and where there is none of these by the vendor's program
(``ebrctl``). ``ibhostdev doctor`` tells which one and why. Only
needed to rule out one that does not work as it should.
""",
    ),
    cfg.BoolOpt(
        "rebind",
        default=True,
        help="""
Bind unplugged Virtual Functions to their driver anew.

Only those that the host's own driver holds and that would go on showing the
identity of the port they were of. It takes about half a second for 32 of
them. Nothing but what tools on the host show depends on it.
""",
    ),
    cfg.IntOpt(
        "privileged_call_timeout",
        default=120,
        min=1,
        max=3600,
        help="""
Seconds that the privileged daemon may take for the ports of an instance.

A plug that takes longer fails, and Nova tries another host. The daemon
undoes what it has done of it, as soon as firmware answers, before it does
anything else on the same device. To wait for others that are changing a
device is a part of the time. An unplug that takes longer is logged as
failed and done nevertheless, as soon as it can be.
""",
    ),
    cfg.IntOpt(
        "ebrctl_timeout",
        default=30,
        min=1,
        max=600,
        help="""
Seconds that a call of ``ebrctl`` may take.

``ebrctl`` is run for devices that nothing else serves. Its daemon does one
thing after the other and looks at all Virtual Functions for each. The ports
of an instance have ``privileged_call_timeout`` together.
""",
    ),
    cfg.IntOpt(
        "ebrctl_concurrency",
        default=4,
        min=1,
        max=64,
        help="""
How many calls of ``ebrctl`` may be under way at a time.
""",
    ),
    cfg.StrOpt(
        "run_dir",
        default="/run/ibhostdev",
        help="""
Directory of the locks that keep processes from changing a device at once.

All that plug on this host must have the same; ``ibhostdev --run-dir``.
""",
    ),
    cfg.StrOpt(
        "simulated_host",
        advanced=True,
        help="""
Work on the simulated host in this directory, not on this machine.

For trying Nova with InfiniBand ports where there is no adapter; see
``ibhostdev simulate``.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def mend(
    conf: cfg.ConfigOpts,
    group: str = GROUP.name,
    options: Iterable[cfg.Opt] = OPTS,
) -> None:
    """Have the default instead of a value that is none, and say so.

    oslo.service reads all options to log them when a service is up, and a
    bad one would end it there (oslo_service.service.ServiceLauncher).
    """
    for option in options:
        try:
            conf[group][option.dest]
        except (cfg.Error, ValueError) as error:
            LOG.error("%s: has its default instead", error)
            conf.set_override(option.dest, option.default, group)


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """For oslo-config-generator; entry point oslo.config.opts."""
    return [(GROUP, OPTS)]
