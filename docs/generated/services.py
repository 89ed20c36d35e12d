# SPDX-License-Identifier: Apache-2.0
"""The page about the configuration of services, of their options."""

import inspect
import re
from typing import Any

from docs.generated.markdown import escaped

_CONFIGURATION_HEAD = """\
# Configuration of services

What nova-compute, its privileged daemon, `ibhostdev-neutron-agent` and
`ibhostdev-privileged` (`/etc/ibhostdev/ibhostdev.conf`) read. The command
reads none of it. [Samples](../../howto/install.md#units-rules-and-examples)
with all options come with the package. The
privileged daemons themselves are configured in `[ibhostdev_privileged]`, with
oslo.privsep's options.
"""


def configuration_page() -> str:
    from ibhostdev.neutron import options
    from ibhostdev.privilege import conf

    parts = [_CONFIGURATION_HEAD]
    for group, listed in (*conf.list_opts(), *options.list_opts()):
        parts.append(f"## \\[{group.name}\\]\n\n{_restructured(group.help)}")
        for option in listed:
            default = option.default
            if default in (None, []):
                default = "none"
            parts.append(
                f"### {option.name}\n\n{_restructured(option.help)}\n\n"
                f"Default: `{str(default).lower()}`." + _bounds(option.type)
            )
    return "\n\n".join(parts) + "\n"


def _bounds(kind: Any) -> str:
    least, most = getattr(kind, "min", None), getattr(kind, "max", None)
    if least is None or most is None:
        return ""
    return f" From {least:g} to {most:g}."


def _restructured(text: str) -> str:
    """Of OpenStack's options: what is code has two backticks there, too."""
    parts = re.split(r"(``[^`]+``)", inspect.cleandoc(text))
    return "".join(
        f"`{part.strip('`')}`" if number % 2 else escaped(part)
        for number, part in enumerate(parts)
    )
