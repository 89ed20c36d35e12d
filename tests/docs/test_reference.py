# SPDX-License-Identifier: Apache-2.0
"""Whatever a user can write, read or be told is in the reference.

What is made of the sources cannot lack anything by itself, but for what it
was not made to look at: so both kinds of page are held.
"""

import re
import signal
import tomllib
from pathlib import Path

import pytest

from docs import generated
from docs.generated import commands, failures, schemas
from ibhostdev.cli import vifs
from ibhostdev.cli.command import cli
from ibhostdev.cli.outcome import Exit
from ibhostdev.errors import IbHostdevError
from ibhostdev.fabric import metrics
from ibhostdev.host import counters
from ibhostdev.neutron import options
from ibhostdev.privilege import conf, hooks
from ibhostdev.provision import reading
from tests.docs.pages import ROOT, read

COMMANDS = dict(commands.walk(cli, "ibhostdev"))
GENERATED = dict(generated.pages())


def subclasses(kind):
    yield kind
    for one in kind.__subclasses__():
        yield from subclasses(one)


def rows(text):
    """What is in the first column of tables, and before definitions."""
    cells = re.findall(r"^\|([^|]*)\|", text, re.MULTILINE)
    terms = re.findall(r"^(.+)\n: ", text, re.MULTILINE)
    return set(re.findall(r"`([^`]+)`", "\n".join([*cells, *terms])))


# -- commands -------------------------------------------------------------


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_each_option_of_a_command(words):
    page = GENERATED[f"{'-'.join(words)}.md"]
    said = {
        word.strip(",")
        for term in rows(page)
        for word in term.split()
        if word.startswith("-")
    }
    for parameter in COMMANDS[words].params:
        if parameter.param_type_name == "option":
            assert said >= {*parameter.opts}, parameter.name
            assert parameter.help or parameter.name in ("pfs", "family")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_each_command_has_a_man_page(words):
    found = [page for page in generated.man_pages() if page[4] == 1]
    (page,) = [page for page in found if page[1] == "-".join(words)]
    start, _, brief, _, _ = page
    assert f"{start.rpartition('/')[2]}.md" in GENERATED
    assert brief


def test_each_program_has_a_man_page():
    with open(ROOT / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)
    hook, *others = project["tool"]["setuptools"]["script-files"]
    programs = {*project["project"]["scripts"], Path(hook).name}
    assert not others
    found = {page[1]: page for page in generated.man_pages()}
    for name in programs:
        start, _, brief, _, _ = found[name]
        assert brief
        if start.rpartition("/")[2] != "ibhostdev":
            synopsis = read(f"{start}.md").partition("## Description")[0]
            assert f"\n{name}" in synopsis


def test_no_page_is_of_a_command_that_is_no_more():
    made = {name for name in GENERATED if name.startswith("ibhostdev")}
    assert made == {f"{'-'.join(words)}.md" for words in COMMANDS}


def test_exit_codes():
    page = read("reference/exit-codes.md")
    codes = re.findall(r"^\| (\d+) \|", page, re.MULTILINE)
    ends = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    assert {int(code) for code in codes} == {
        *map(int, Exit),
        *(128 + end for end in ends),
    }


def test_environment_variables():
    page = read("reference/environment.md")
    told = set(re.findall(r"`([A-Z_]+)`", page))
    read_ = {
        variable
        for command in COMMANDS.values()
        for parameter in command.params
        for variable in [getattr(parameter, "envvar", None)]
        if variable is not None
    }
    for file in (ROOT / "ibhostdev").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        read_ |= set(re.findall(r'environ(?:\.get\(|\[)"([A-Z_]+)"', text))
    stand_in = (ROOT / "ibhostdev/ebrctl/ebrctl.c").read_text()
    read_ |= set(re.findall(r'"(IBHOSTDEV_[A-Z_]+)"', stand_in))
    # Python's own, by which is found what the package starts itself; and
    # what a shell tells that has a line completed.
    shells = {"COMP_LINE", "COMP_POINT", "COMP_WORDBREAKS"}
    assert read_ - told == {"PYTHONPATH", *shells}
    assert "IBHOSTDEV_HOST" in read_
    assert "IBHOSTDEV_EVENT" in told


# -- files ----------------------------------------------------------------


def test_keys_of_files_of_vifs():
    keys = {*vifs._KEYS, "domain"}
    assert rows(read("reference/vif-files.md")) >= keys
    schema = schemas.schema("vifs")
    assert set(schema["items"]["properties"]) == keys


def test_keys_of_host_yaml():
    page = read("reference/host-yaml.md")
    entry = {"guid", "mac", "node_guid", "port_guid", "policy", "pkey"}
    assert rows(page) >= {*reading.KEYS}
    for key in {*reading._SPELLINGS, *entry, "from", "to", "map"}:
        assert f"`{key}`" in page or f"{{{key}: " in page, key
    for driver in reading.DRIVERS:
        assert f"`{driver}`" in page
    schema = schemas.schema("host")["items"]["properties"]
    assert set(schema) == {*reading.KEYS}
    assert set(schema["driver"]["enum"]) == {*reading.DRIVERS}
    told = schemas.schema("guid-map")["items"]["properties"]
    assert set(told) == {"guids", *reading._SPELLINGS, "pf", "from", "to"}


def test_options_of_services():
    page = GENERATED["configuration.md"]
    for group, listed in (*conf.list_opts(), *options.list_opts()):
        assert f"[{group.name}\\]" in page
        for option in listed:
            assert f"### {option.name}\n" in page


def test_addresses_are_in_one_place():
    with open(ROOT / "pyproject.toml", "rb") as file:
        urls = tomllib.load(file)["project"]["urls"].values()
    assert all(f"<{url}>" in GENERATED["project.md"] for url in urls)
    places = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for place in places:
        if place.parent.name != "generated":
            text = place.read_text(encoding="utf-8")
            assert not any(url in text for url in urls), place


# -- what is told ---------------------------------------------------------


def test_each_type_of_error():
    page = GENERATED["errors.md"]
    titles = set(re.findall(r"^## (\w+)$", page, re.MULTILINE))
    # A batch's is the errors of its VIFs.
    own = {
        one.__name__
        for one in subclasses(IbHostdevError)
        if one.__module__.startswith("ibhostdev.")
        and not one.__name__.startswith("_")
    }
    assert own - titles <= {"BatchFailed", "GuestsFailed"}


def test_each_error_of_the_engine():
    source = failures.ENGINE.read_text(encoding="utf-8")
    words = failures.engine_words()
    assert len(words) == source.count("\n\t[T_")
    assert len(failures.errno_cures()) == source.count('\t\treturn "') + (
        source.count("\t\treturn HCA")
    )
    classes = {one.__name__ for one in failures.error_classes()}
    assert {name for name, _, _ in words} - {""} <= classes
    one = "a guest has the VF, with GUID {1}"
    cure = "detach it from that guest and unplug it first"
    assert ("DeviceInUse", one, cure) in words


def test_each_metric():
    told = rows(read("reference/metrics.md"))
    ours = ("ibhostdev_", "sriov_vf_")
    assert {name for name in told if name.startswith(ours)} == {*metrics._HELP}


def test_each_label_of_a_metric(host_page):
    page = read("reference/metrics.md")
    for name, labels in re.findall(r"^(\w+)\{(.*)\} ", host_page, re.M):
        (row,) = re.findall(rf"^\|.*`{name}`.*$", page, re.MULTILINE)
        for label in re.findall(r"(\w+)=", labels):
            assert label in row.split("|")[2], f"{name} {label}"


@pytest.fixture
def host_page(bed):
    from tests.flavours import vifs as some
    from tests.testbed import Hca

    bed.build(Hca(vfs=1))
    host = bed.connect(counted=True)
    host.plug(some(bed, 1))
    text, errors = metrics.of_host(host)
    assert not errors
    assert counters.read(host.run_dir)
    return text


def test_hooks():
    page = read("reference/hooks.md")
    schema = schemas.schema("hook")
    assert schema["properties"]["version"]["const"] == hooks.VERSION
    variables = read("reference/environment.md")
    for event in schema["properties"]["event"]["enum"]:
        assert f"`{event}`" in page
        assert f"`{event}`" in variables
    assert f"**How long.** {hooks.SECONDS:g} s" in page
