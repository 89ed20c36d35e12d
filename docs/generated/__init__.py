# SPDX-License-Identifier: Apache-2.0
"""The pages of the reference that are made of the sources: commands of the
command line itself, errors of their classes and the engine's table of words,
JSON of its schemas. So none of them can be outdated.
"""

from collections.abc import Iterator
from pathlib import Path

from docs.generated import (
    changelog,
    commands,
    failures,
    headers,
    project,
    schemas,
    services,
)
from ibhostdev.cli.command import cli

MADE = "generated"

Page = tuple[str, str]
"""Name of a file and text."""

WRITTEN = [
    ("host-yaml", "ibhostdev-host.yaml", "the host as it is to be", 5),
    ("ebrctl", "ebrctl", "give a VF its identity, as Nova asks for it", 8),
    *(
        (f"programs/ibhostdev-{page}", f"ibhostdev-{name}", brief, section)
        for page, name, brief, section in (
            ("ebrctl-path", "ebrctl-path", "where ebrctl's stand-in is", 1),
            ("libvirt-hook", "libvirt-hook", "libvirt's hook for VFs", 8),
            ("neutron-agent", "neutron-agent", "Neutron's agent for VFs", 8),
            ("privileged", "privileged", "plug for who may not", 8),
            ("rootwrap", "rootwrap", "let ibhostdev-privileged be run", 8),
            ("rootwrap", "rootwrap-daemon", "the same, many times", 8),
        )
    ),
]
"""Man pages that are written by hand: page below reference/, name, what it
is about, section."""


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
    for words, command in commands.walk(cli, "ibhostdev"):
        yield "-".join(words) + ".md", commands.command_page(words, command)
    yield "commands.md", _contents("Commands", commands.names())
    yield "configuration.md", services.configuration_page()
    yield "c-header.md", headers.c_page()
    yield "errors.md", failures.errors_page()
    yield "json.md", schemas.json_page()
    yield "changelog.rst", changelog.changelog_page()
    yield "project.md", project.project_page()


def man_pages() -> list[tuple[str, str, str, str, int]]:
    """As Sphinx's man_pages has them."""
    found = [
        (f"reference/{MADE}/{name}", name, commands.brief(command), "", 1)
        for name, command in (
            ("-".join(words), command)
            for words, command in commands.walk(cli, "ibhostdev")
        )
    ]
    return [
        *found,
        *(
            (f"reference/{page}", name, brief, "", section)
            for page, name, brief, section in WRITTEN
        ),
    ]


def _contents(title: str, names: list[str]) -> str:
    listed = "\n".join(names)
    return f"# {title}\n\n```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```\n"
