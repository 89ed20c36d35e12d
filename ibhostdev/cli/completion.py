# SPDX-License-Identifier: Apache-2.0
"""What Tab finds: click's completion, and the names of this host.

Loaded only when a shell asks. What cannot be found out is not offered, and
nothing is said: the line that is being typed is not to be torn.
"""

import os
from collections.abc import Callable, Iterable, Iterator

import click
from click import shell_completion
from click.shell_completion import BashComplete, CompletionItem

from ibhostdev.cli.options import Settings
from ibhostdev.host import Host
from ibhostdev.inventory import EBRCTL

VARIABLE = "_IBHOSTDEV_COMPLETE"
"""Set by a shell that asks; the name is click's."""
MECHANISMS = ("mlx5_netlink", "mlx5_sysfs", "mlx4_sysfs", EBRCTL)

Find = Callable[[click.Context, str], Iterable[str | CompletionItem]]


# -- what there is to be found --------------------------------------------


def _files(_: click.Context, typed: str) -> list[CompletionItem]:
    return [CompletionItem(typed, type="file")]


def _folders(_: click.Context, typed: str) -> list[CompletionItem]:
    return [CompletionItem(typed, type="dir")]


def _pfs(context: click.Context, _: str) -> Iterator[str]:
    for pf in _host(context).pfs:
        yield pf.pci
        yield pf.ib_device
        yield from (netdev.name for netdev in pf.netdevs)


def _listed(context: click.Context, typed: str) -> Iterator[str]:
    """PFs, and VFs as soon as it is an address."""
    yield from _pfs(context, typed)
    if typed[:1].isdigit():
        yield from _vfs(context, typed)


def _vfs(context: click.Context, _: str) -> Iterator[str]:
    host = _host(context)
    for pf in host.pfs:
        yield from (vf.pci for vf in host.vfs(pf))


def _identities(context: click.Context, _: str) -> Iterator[str]:
    """MACs, or GUIDs that are made of none, alone and behind their VF."""
    host = _host(context)
    for pf in host.pfs:
        states = host.survey(pf, range(pf.numvfs)) if pf.numvfs else {}
        for vf in host.vfs(pf):
            state = states.get(vf.index)
            owner = None if state is None else state.owner
            if owner is not None:
                whose = owner.mac or str(owner)
                yield whose
                yield f"{vf.pci}={whose}"


def _guests(context: click.Context, typed: str) -> Iterator[str]:
    """A domain, and VFs behind it."""
    if context.params.get("words"):
        yield from _vfs(context, typed)
        return
    from ibhostdev.guest import connection

    uri = context.params.get("uri")
    if uri is None and not connection.at_hand():
        return
    conn = connection.connect(uri or connection.URI, read_only=True)
    try:
        yield from (domain.name() for domain in conn.listAllDomains())
    finally:
        conn.close()


def _networks(context: click.Context, _: str) -> Iterable[str]:
    host = _host(context)
    ports = [host.networks(pf) or {} for pf in host.pfs]
    named = {
        name for port in ports for names in port.values() for name in names
    }
    return sorted(named)


def _ib_devices(context: click.Context, _: str) -> Iterator[str]:
    return (pf.ib_device for pf in _host(context).pfs)


def _host(context: click.Context) -> Host:
    return context.ensure_object(Settings).connect()


BY_METAVAR: dict[str, Find] = {
    "FILE": _files,
    "[EXPORT]…": _files,
    "DIR": _folders,
    "PF": _pfs,
    "[PF]…": _listed,
    "[PCI]…": _vfs,
    "[PCI=MAC]…": _vfs,
    "[[PCI=]MAC]…": _identities,
    "DOMAIN PCI=MAC…": _guests,
    "DOMAIN PCI…": _guests,
}
BY_OPTION: dict[str, Find] = {
    "--mechanism": lambda *_: MECHANISMS,
    "--physical-network": _networks,
    "--ca": _ib_devices,
}


# -- how a shell is told --------------------------------------------------


class _Word(click.types.StringParamType):
    """A text, as it would be without this, and what it may be."""

    def __init__(self, find: Find) -> None:
        self._find = find

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        try:
            found = [
                one if isinstance(one, CompletionItem) else CompletionItem(one)
                for one in self._find(ctx, incomplete)
            ]
        # Nobody waits for what is wrong, and a traceback would end up in
        # the line.
        except Exception:
            return []
        return [one for one in found if one.value.startswith(incomplete)]


def prepare(group: click.Group) -> None:
    """Have the commands know what their words may be."""
    for command in group.commands.values():
        if isinstance(command, click.Group):
            prepare(command)
        _prepare(command)
    _prepare(group)
    shell_completion.add_completion_class(Bash)


def _prepare(command: click.Command) -> None:
    for parameter in command.params:
        find = BY_METAVAR.get(parameter.metavar or "")
        for option in parameter.opts:
            find = BY_OPTION.get(option, find)
        if find is not None:
            parameter.type = _Word(find)


def source(group: click.Group, shell: str) -> str:
    """The script that a shell reads."""
    found = shell_completion.get_completion_class(shell)
    assert found is not None
    return found(group, {}, "ibhostdev", VARIABLE).source()


class Bash(BashComplete):
    """For bash a colon or an equals sign ends a word, as they do not for us:
    so it gives the whole line, and gets what is behind the last of them."""

    source_template = """\
%(complete_func)s() {
    local type value
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(COMP_LINE=$COMP_LINE COMP_POINT=$COMP_POINT \\
        COMP_WORDBREAKS=$COMP_WORDBREAKS \\
        %(complete_var)s=bash_complete "$1" 2>/dev/null)
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    @staticmethod
    def _check_version() -> None:
        """It may be read by another bash than the one that is here now."""

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
        words = shell_completion.split_arg_string(line)
        typed = "" if line[-1:].isspace() else words.pop()
        breaks = [
            typed.rfind(sign)
            for sign in ":="
            if sign in os.environ["COMP_WORDBREAKS"]
        ]
        self._known = typed[: max(breaks, default=-1) + 1]
        return words[1:], typed

    def format_completion(self, item: CompletionItem) -> str:
        return f"{item.type},{item.value.removeprefix(self._known)}"
