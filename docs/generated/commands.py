# SPDX-License-Identifier: Apache-2.0
"""Pages about commands, of the command line itself."""

import re
from collections.abc import Iterator

import click

from docs.generated.markdown import escaped, prose
from ibhostdev.cli.command import cli


def walk(
    group: click.Group, *words: str
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All that are no secret, the group itself first."""
    yield words, group
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if isinstance(command, click.Group):
            yield from walk(command, *words, name)
        else:
            yield (*words, name), command


def names() -> list[str]:
    return ["-".join(words) for words, _ in walk(cli, "ibhostdev")]


def brief(command: click.Command) -> str:
    text = command.get_short_help_str(200).removesuffix(".")
    return text[:1].lower() + text[1:]


def command_page(words: tuple[str, ...], command: click.Command) -> str:
    context = _context(words, command)
    usage = command.get_usage(context).removeprefix("Usage: ")
    parts = [
        f"# {' '.join(words)}",
        f"## Synopsis\n\n```text\n{_unwrapped(usage)}\n```",
        f"## Description\n\n{prose(command.help or '')}",
    ]
    if isinstance(command, click.Group):
        parts.append("## Commands\n\n" + _subcommands(words, command))
    parts.append("## Options\n\n" + _options(command, context))
    if command.epilog:
        title, _, text = prose(command.epilog).partition("\n\n")
        parts.append(f"{title}\n\n{text}" if text else title)
    parts.append("## See also\n\n" + _see_also(words, command))
    return "\n\n".join(parts) + "\n"


def _context(words: tuple[str, ...], command: click.Command) -> click.Context:
    context = None
    for at in range(1, len(words)):
        context = click.Context(
            cli, parent=context, info_name=words[at - 1]
        )  # only for its name
    settings = {"help_option_names": ["-h", "--help"]}
    return click.Context(
        command,
        parent=context,
        info_name=words[-1],
        terminal_width=1000,
        max_content_width=1000,
        **settings,  # type: ignore[arg-type]
    )


def _unwrapped(text: str) -> str:
    return re.sub(r"\s*\n\s+", " ", text.strip())


def _subcommands(words: tuple[str, ...], group: click.Group) -> str:
    return "\n\n".join(
        f"[`{name}`]({'-'.join((*words, name))}.md)\n"
        f": {escaped(command.get_short_help_str(200))}"
        for name, command in group.commands.items()
        if not command.hidden
    )


def _options(command: click.Command, context: click.Context) -> str:
    records = []
    for parameter in command.get_params(context):
        names, text = parameter.get_help_record(context) or ("", "")
        if text:
            records.append(f"`{names}`\n: {escaped(text)}")
    return "\n\n".join(records)


def _see_also(words: tuple[str, ...], command: click.Command) -> str:
    names = ["-".join(words[:-1])] if len(words) > 1 else []
    links = [f"[{name}(1)]({name}.md)" for name in names]
    if words[1:] in (("apply",), ("save",), ("restore",)) or not names:
        links.append("[ibhostdev-host.yaml(5)](../host-yaml.md)")
    return f"""{", ".join(links)}

```{{only}} html
[Exit codes](../exit-codes.md), [JSON](json.md), [errors](errors.md),
[environment variables](../environment.md)
```"""
