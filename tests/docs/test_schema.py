# SPDX-License-Identifier: Apache-2.0
"""The schemas of docs/schema are of what is really written and read. They
take no keys but those that they name, so each one is described."""

import json
from collections.abc import Callable

import fastjsonschema
import pytest
import yaml

from docs.generated import schemas
from ibhostdev.cli import main
from ibhostdev.errors import IbHostdevError
from ibhostdev.provision import reading
from tests.cli.test_golden import CASES, GOLDEN
from tests.docs.pages import DOCS, blocks
from tests.flavours import mac
from tests.testbed import Hca

GUID, OTHER = "fa:16:3e:00:00:12:34:56", "fa:16:3e:00:00:12:34:57"


def validator(name: str) -> Callable[[object], object]:
    return fastjsonschema.compile(
        schemas.schema(name),
        handlers={"": lambda uri: schemas.schema(uri.partition(".")[0])},
    )


def accepts(name: str, value: object) -> bool:
    try:
        validator(name)(value)
    except fastjsonschema.JsonSchemaValueException:
        return False
    return True


# -- what is written ------------------------------------------------------


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if case.schema]
)
def test_what_commands_write(name):
    text = (GOLDEN / f"{name}.json").read_text(encoding="utf-8")
    validator(CASES[name].schema)(json.loads(text))


@pytest.mark.parametrize(
    ("name", "schema"),
    [("fabric-export", "export"), ("fabric-export-ufm", "ufm")],
)
def test_what_exports_are(name, schema):
    text = (GOLDEN / f"{name}.text").read_text(encoding="utf-8")
    _, _, rest = text.partition("\n")
    validator(schema)(json.loads(rest.partition("--- exit code")[0]))


def test_each_schema_is_of_something():
    named = {case.schema for case in CASES.values()} - {None}
    named |= {"common", "export", "ufm", "ufm-requests", "hook"}
    named |= {"vifs", "host", "guid-map"}
    assert {file.stem for file in schemas.SCHEMAS.glob("*.json")} == named


def test_a_key_more_would_be_told():
    listed = json.loads((GOLDEN / "list.json").read_text())
    assert accepts("list", listed)
    listed["pfs"][0]["vfs"][0]["colour"] = "red"
    assert not accepts("list", listed)


@pytest.mark.parametrize("event", ["plugged", "unplugged", "applied"])
def test_what_hooks_get(event, bed, tmp_path, capsys):
    bed.build(Hca(vfs=2))
    folder = bed.folder / "hooks.d"
    folder.mkdir(mode=0o755)
    hook = folder / "tell"
    hook.write_text(f"#!/bin/sh\ncat > {tmp_path}/$IBHOSTDEV_EVENT\n")
    hook.chmod(0o755)
    vif = f"{bed.vf(0, 0)}={mac(1)}"
    file = tmp_path / "host.yaml"
    file.write_text(f"- {{pf: '{bed.pfs[0]}', guids: derived}}\n")
    for words in (
        ("plug", vif),
        ("unplug", vif),
        ("apply", "--file", str(file)),
    ):
        assert main(["--host", bed.command[-1], *words]) == 0
    told = json.loads((tmp_path / event).read_text())
    validator("hook")(told)
    assert told["event"] == event
    # The rest is as the command has it.
    for key in ("version", "event", "host"):
        del told[key]
    validator("apply" if event == "applied" else "batch")(told)


# -- what is read ---------------------------------------------------------

HOST_YAML = [
    [{"pf": "0000:3b:00.0"}],
    [{"pf": "ib0", "vfs": 16, "driver": "none", "autoprobe": False}],
    [{"pf": "ib0", "policy": "up", "guids": "idle"}],
    [{"pf": "ib0", "guids": [GUID, "idle", None, {"guid": OTHER}]}],
    [{"pf": "ib0", "guids": {"from": GUID, "to": OTHER}}],
]
NO_HOST_YAML = [
    {},
    [{"vfs": 16}],
    [{"pf": "ib0", "vfs": -1}],
    [{"pf": "ib0", "driver": "e1000"}],
    [{"pf": "ib0", "policy": "sideways"}],
    [{"pf": "ib0", "guids": {"from": GUID}}],
    [{"pf": "ib0", "guids": "none"}],
    [{"pf": "ib0", "colour": "red"}],
]


def is_read(value: object, tmp_path) -> bool:
    file = tmp_path / "host.yaml"
    file.write_text(json.dumps(value))
    try:
        reading.from_file(str(file))
    except IbHostdevError:
        return False
    return True


@pytest.mark.parametrize("value", HOST_YAML + NO_HOST_YAML, ids=json.dumps)
def test_the_schema_takes_what_the_reader_takes(value, tmp_path):
    good = value in HOST_YAML
    assert accepts("host", value) is good
    assert is_read(value, tmp_path) is good


def examples(key):
    """Of the documentation, those whose entries have this key first."""
    for page in sorted(DOCS.glob("**/*.md")):
        if "generated" in page.parts:
            continue
        for block in blocks(page, "yaml"):
            value = yaml.safe_load(block)
            if isinstance(value, list) and next(iter(value[0])) in key:
                yield pytest.param(value, id=f"{page.stem}-{value[0]}")


@pytest.mark.parametrize("value", [*examples(("pf",))])
def test_examples_of_host_yaml(value):
    validator("host")(value)


@pytest.mark.parametrize("value", [*examples(("pci", "mac", "domain"))])
def test_examples_of_files_of_vifs(value):
    validator("vifs")(value)
