# SPDX-License-Identifier: Apache-2.0
"""The pages of the reference that are made of the sources: commands of the
command line itself, errors of their classes and the engine's table of words,
JSON of its schemas. So none of them can be outdated.
"""

import errno
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ibhostdev import errors
from ibhostdev.cli.command import cli
from ibhostdev.cli.outcome import exit_code
from ibhostdev.guest import errors as guest_errors
from ibhostdev.host import document

ROOT = Path(__file__).parents[1]
SCHEMAS = ROOT / "docs/schema"
MADE = "generated"

Page = tuple[str, str]
"""Name of a file and text."""


def write(reference: Path) -> None:
    """Have the pages in a folder, and nothing else; those that are as they
    are to be keep their time, so that Sphinx need not read them anew."""
    folder = reference / MADE
    folder.mkdir(exist_ok=True)
    wanted = dict(pages())
    for old in folder.iterdir():
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        file = folder / name
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def pages() -> Iterator[Page]:
    for words, command in commands(cli, "ibhostdev"):
        yield "-".join(words) + ".md", command_page(words, command)
    yield "commands.md", _contents("Commands", _command_names())
    yield "configuration.md", configuration_page()
    yield "c-header.md", c_page()
    yield "errors.md", errors_page()
    yield "json.md", json_page()
    yield "changelog.rst", changelog_page()


def man_pages() -> list[tuple[str, str, str, str, int]]:
    """As Sphinx's man_pages has them."""
    found = [
        (f"reference/{MADE}/{name}", name, _brief(command), "", 1)
        for name, command in (
            ("-".join(words), command)
            for words, command in commands(cli, "ibhostdev")
        )
    ]
    return [
        *found,
        (
            "reference/host-yaml",
            "ibhostdev-host.yaml",
            "the host as it is to be",
            "",
            5,
        ),
        (
            "reference/ebrctl",
            "ebrctl",
            "give a VF its identity, as Nova asks for it",
            "",
            8,
        ),
    ]


def _contents(title: str, names: list[str]) -> str:
    listed = "\n".join(names)
    return f"# {title}\n\n```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```\n"


# -- commands -------------------------------------------------------------


def commands(
    group: click.Group, *words: str
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All that are no secret, the group itself first."""
    yield words, group
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if isinstance(command, click.Group):
            yield from commands(command, *words, name)
        else:
            yield (*words, name), command


def _command_names() -> list[str]:
    return ["-".join(words) for words, _ in commands(cli, "ibhostdev")]


def _brief(command: click.Command) -> str:
    text = command.get_short_help_str(200).removesuffix(".")
    return text[:1].lower() + text[1:]


def command_page(words: tuple[str, ...], command: click.Command) -> str:
    context = _context(words, command)
    usage = command.get_usage(context).removeprefix("Usage: ")
    parts = [
        f"# {' '.join(words)}",
        f"## Synopsis\n\n```text\n{_unwrapped(usage)}\n```",
        f"## Description\n\n{_prose(command.help or '')}",
    ]
    if isinstance(command, click.Group):
        parts.append("## Commands\n\n" + _subcommands(words, command))
    parts.append("## Options\n\n" + _options(command, context))
    if command.epilog:
        title, _, text = _prose(command.epilog).partition("\n\n")
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
        f": {_escaped(command.get_short_help_str(200))}"
        for name, command in group.commands.items()
        if not command.hidden
    )


def _options(command: click.Command, context: click.Context) -> str:
    records = []
    for parameter in command.get_params(context):
        names, text = parameter.get_help_record(context) or ("", "")
        if text:
            records.append(f"`{names}`\n: {_escaped(text)}")
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


def _prose(text: str) -> str:
    """click's help as Markdown: what it is not to wrap is a block of its
    own."""
    parts = []
    for part in inspect.cleandoc(text).split("\n\n"):
        if part.startswith("\b\n"):
            lines = part.removeprefix("\b\n")
            if lines.startswith("Exit codes:\n"):
                lines = lines.removeprefix("Exit codes:\n")
                parts.append("## Exit codes")
            elif ":\n" in lines and not lines.startswith("- "):
                head, _, lines = lines.partition("\n")
                parts.append(_escaped(head))
            parts.append(f"```text\n{inspect.cleandoc(lines)}\n```")
        else:
            parts.append(_escaped(part))
    return "\n\n".join(parts)


def _escaped(text: str) -> str:
    """Text in which Markdown finds nothing but the options and commands
    that are in it, told from the words around them."""
    found = re.split(
        r"((?<!\w)'[^'\n]+'(?!\w)|(?<![\w-])--?[a-z][a-z-]*)", text
    )
    return "".join(
        f"`{one.strip(chr(39))}`"
        if number % 2
        else re.sub(r"([\\`*_{}\[\]<>#|~$])", r"\\\1", one)
        for number, one in enumerate(found)
    )


# -- configuration of services --------------------------------------------

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
        f"`{part.strip('`')}`" if number % 2 else _escaped(part)
        for number, part in enumerate(parts)
    )


# -- the C API ------------------------------------------------------------

HEADERS = ROOT / "include/ibhostdev"


def c_page() -> str:
    """The headers as they are, each part under its title."""
    parts = ["# Headers"]
    for name in ("engine.h", "guid.h", "pci.h"):
        text = (HEADERS / name).read_text(encoding="utf-8")
        parts.append(f"## {name}")
        first, *others = re.split(
            r"^/\* ---- (.+?) -+ \*/$", text, flags=re.MULTILINE
        )
        parts.append(_c(first))
        for title, body in zip(others[::2], others[1::2], strict=True):
            parts.append(f"### {title[:1].upper()}{title[1:]}\n\n{_c(body)}")
    return "\n\n".join(parts) + "\n"


def _c(text: str) -> str:
    text = text.strip("\n").replace("\t", " " * 8)
    return f"```c\n{text}\n```"


# -- errors ---------------------------------------------------------------

ENGINE = ROOT / "ibhostdev/_native/engine/words.c"
_KINDS = {
    "WRONG_NETWORK": "WrongPhysicalNetwork",
    "OTHER": "IbHostdevError",
}


def error_classes() -> list[type[errors.IbHostdevError]]:
    found = []
    for module in (errors, document, guest_errors):
        for one in vars(module).values():
            if (
                inspect.isclass(one)
                and issubclass(one, errors.IbHostdevError)
                and one.__module__ == module.__name__
            ):
                found.append(one)
    return found


def engine_words() -> list[tuple[str, str, str | None]]:
    """Class, message and cure of all that the engine says; the class is
    empty where the errno decides."""
    source = ENGINE.read_text(encoding="utf-8")
    names = dict(re.findall(r'^#define (\w+) "(.*)"$', source, re.MULTILINE))
    for name in ("DEVICES", "DRIVERS"):  # of host.h
        names[name] = f"bus/pci/{name.lower()}"
    table = source[source.index("words[T_LAST] = {") :]
    table = table[: table.index("\n};")]
    found = []
    for entry in re.split(r"\n\t\[T_\w+\] = ", table)[1:]:
        kind, message, cure = _fields(entry.strip().rstrip(",")[1:-1])
        name = "" if kind == "BY_ERRNO" else _class_name(kind)
        text = _literal(message, names)
        assert text is not None
        found.append((name, text, _literal(cure, names)))
    return found


def errno_cures() -> list[tuple[str, str]]:
    source = ENGINE.read_text(encoding="utf-8")
    names = dict(re.findall(r'^#define (\w+) "(.*)"$', source, re.MULTILINE))
    body = source[source.index("*usual_cure(") :]
    body = body[: body.index("default:")]
    return [
        (name, _literal(text, names) or "")
        for name, text in re.findall(
            r"case (\w+):\s+return (.*?);\n(?=\tcase|\t$)", body, re.DOTALL
        )
    ]


def _fields(text: str) -> list[str]:
    """At the commas that are outside strings."""
    parts = re.findall(r'(?:"(?:\\.|[^"\\])*"|[^",])+', text)
    return [part.strip() for part in parts]


def _literal(text: str, names: dict[str, str]) -> str | None:
    if text.strip() == "NULL":
        return None
    return "".join(
        names[name] if name else json.loads(f'"{quoted}"')
        for quoted, name in re.findall(r'"((?:\\.|[^"\\])*)"|(\w+)', text)
    )


def _class_name(kind: str) -> str:
    name = kind.removeprefix("IBH_")
    return _KINDS.get(name) or "".join(
        part.capitalize() for part in name.split("_")
    )


_ERRORS_HEAD = """\
# Errors and cures

An error has a type, and tells what happened, on which device (a PCI address,
a network device or a file), to which attribute, what the kernel answered
(errno), and what would likely cure it. The command writes that to standard
error; `--json` has it under `error`, with the keys `type`, `message`,
`device`, `attribute`, `errno` and `cure`; in Python it is an exception of
`ibhostdev.errors` with these attributes. In the tables below, `…` stands for
what is filled in.

Where a type has no exit code of its own, what counts is given under
[Exit codes](../exit-codes.md).
"""


def errors_page() -> str:
    parts = [_ERRORS_HEAD]
    words = engine_words()
    for one in error_classes():
        code = exit_code(one("", None, None))
        parts.append(
            f"## {one.__name__}\n\n{_docstring(one)}\n\nExit code {code:d}."
        )
        table = [(m, c) for name, m, c in words if name == one.__name__]
        if table:
            parts.append(_table(("message", "cure"), table))
    parts.append(
        "## What the errno decides\n\nThese are an `AccessDenied` for EPERM, "
        "EACCES and EROFS, a `TimedOut` for ETIMEDOUT, else a "
        "`CommandFailed`. Where no cure is given it is that of the errno."
    )
    parts.append(
        _table(
            ("message", "cure"), [(m, c) for name, m, c in words if not name]
        )
    )
    parts.append(
        _table(
            ("errno", "means", "cure"),
            [
                (name, os.strerror(getattr(errno, name)), cure)
                for name, cure in errno_cures()
            ],
        )
    )
    return "\n\n".join(parts) + "\n"


def _docstring(one: type) -> str:
    text = inspect.getdoc(one) or ""
    return _escaped(text.partition("\n\n")[0])


def _table(head: tuple[str, ...], rows: list[Any]) -> str:
    lines = [head, ("---",) * len(head)]
    lines += [
        tuple("" if cell is None else _cell(cell) for cell in row)
        for row in rows
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    text = re.sub(r"'?\{\d\}'?", "…", text)
    return _escaped(" ".join(text.split()))


# -- JSON -----------------------------------------------------------------

_JSON_HEAD = """\
# JSON

What `--json` writes, what hooks get, and what files of JSON may say, each
with its [JSON Schema](https://json-schema.org/). The schemas are beside these
pages, under the names that are given here. Within a version of a form keys
may be added; none is taken away or gets another meaning.
"""


def schema(name: str) -> dict[str, Any]:
    """One of docs/schema."""
    text = (SCHEMAS / f"{name}.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def json_page() -> str:
    parts = [_JSON_HEAD]
    common = schema("common")["$defs"]
    for name in ("error", "state"):
        parts.append(f"## {name}\n\n{common[name]['description']}")
        rows = list(_keys(common[name], schema("common"), ""))
        parts.append(_table(("key", "type", "meaning"), rows))
    for file in sorted(SCHEMAS.glob("*.json")):
        one = schema(file.stem)
        if "title" not in one:
            continue
        parts.append(
            f"## {one['title']}\n\n{_escaped(one['description'])}\n\n"
            f"Schema: `{file.name}`"
        )
        rows = list(_keys(one, one, ""))
        parts.append(_table(("key", "type", "meaning"), rows))
    return "\n\n".join(parts) + "\n"


def _keys(
    one: dict[str, Any], root: dict[str, Any], path: str
) -> Iterator[tuple[str, str, str]]:
    one = _resolved(one, root)
    for name, inner in one.get("properties", {}).items():
        there = f"{path}.{name}" if path else name
        shown = _resolved(inner, root)
        meaning = inner.get("description") or shown.get("description", "")
        yield f"'{there}'", _type(inner, root), meaning
        if "$ref" not in inner:  # errors and states have a row of their own
            yield from _keys(shown, root, there)
    if "items" in one:
        yield from _keys(one["items"], root, f"{path}[]")
    for each in one.get("oneOf", ()):
        if "$ref" not in each:
            yield from _keys(each, root, path)


def _resolved(one: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in one:
        file, _, inner = one["$ref"].partition("#/$defs/")
        whole = schema(file.removesuffix(".json")) if file else root
        one = whole["$defs"][inner]
    return one


def _type(one: dict[str, Any], root: dict[str, Any]) -> str:
    if "$ref" in one:
        name = one["$ref"].rpartition("/")[2]
        if name in ("error", "state"):
            return str(name)
    one = _resolved(one, root)
    if "enum" in one:
        return " or ".join(json.dumps(value) for value in one["enum"])
    if "const" in one:
        return json.dumps(one["const"])
    if "oneOf" in one:
        kinds = [_type(each, root) for each in one["oneOf"]]
        return " or ".join(dict.fromkeys(kinds))
    kind = one.get("type", "any")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


# -- changelog ------------------------------------------------------------

_CHANGELOG_HEAD = """\
Changelog
=========

What each release brings, of the notes that every change leaves in
``releasenotes/notes/``. What has to be done before or after an upgrade is
under *Upgrade Notes*; :doc:`how to upgrade </howto/upgrade>`.

"""


_LOWER = str.maketrans("=-", "-~")


def changelog_page() -> str:
    """What reno reports, which asks git which release a note is of."""
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from reno.main import main; main()"),
            *("-q", "report", "--no-show-source"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    _, _, report = done.stdout.partition("\nRelease Notes\n=============\n")
    if not report:
        return _CHANGELOG_HEAD + "These sources are without git: see there.\n"
    # Releases are below the page's title, their sections below them.
    report = re.sub(
        r"^[=-]{3,}$",
        lambda line: line[0].translate(_LOWER),
        report,
        flags=re.MULTILINE,
    )
    # Commits since the last tag, or without any.
    first = re.compile(r"^\d+\.\d+\.\d+(-\d+)?\n-+$", re.MULTILINE)
    return _CHANGELOG_HEAD + first.sub(
        "Not yet released\n----------------", report, count=1
    )
