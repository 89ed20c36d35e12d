# SPDX-License-Identifier: Apache-2.0
"""What an administrator installs for those who are not root: once in the
life of the machine, and gone with it."""

import sys
from functools import cache
from pathlib import Path

from tests.kernel.testbed import run

REPO = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
NOVA = REPO / ".venv-nova-34"


def _within_reach(python: Path) -> None:
    """A Python in somebody's home is out of others' reach."""
    for parent in python.resolve().parents:
        parent.chmod(parent.stat().st_mode | 0o111)


@cache
def rootwrap() -> None:
    """What the guide says; the paths are those of this environment."""
    etc = Path("/etc/ibhostdev")
    (etc / "rootwrap.d").mkdir(parents=True)
    for name in ("rootwrap.conf", "rootwrap.d/ibhostdev.filters"):
        (etc / name).write_text((REPO / "etc" / name).read_text())
    program = Path("/usr/local/libexec/ibhostdev/ibhostdev-privileged")
    program.parent.mkdir(parents=True)
    program.symlink_to(BIN / program.name)
    rule = Path("/etc/sudoers.d/ibhostdev")
    rule.write_text(
        (REPO / "etc/sudoers.d/ibhostdev")
        .read_text()
        .replace("/usr/local/bin", str(BIN))
    )
    rule.chmod(0o440)
    run("visudo", "--check", "--quiet")
    run("groupadd", "ibhostdev")
    _within_reach(Path(sys.executable))


@cache
def nova() -> None:
    """What a package of Nova installs, for the user nobody."""
    etc = Path("/etc/nova")
    (etc / "rootwrap.d").mkdir(parents=True)
    given = (NOVA / "etc/nova/rootwrap.conf").read_text()
    (etc / "rootwrap.conf").write_text(
        given.replace("exec_dirs=", f"exec_dirs={NOVA}/bin,")
    )
    # Where sudo finds it.
    Path("/usr/local/bin/nova-rootwrap").symlink_to(NOVA / "bin/nova-rootwrap")
    rule = Path("/etc/sudoers.d/nova")
    rule.write_text(
        "nobody ALL = (root) NOPASSWD: /usr/local/bin/nova-rootwrap "
        "/etc/nova/rootwrap.conf *\n"
    )
    rule.chmod(0o440)
    _within_reach(NOVA / "bin/python")
