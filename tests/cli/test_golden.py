# SPDX-License-Identifier: Apache-2.0
"""All that each command prints, kept in files: in full, on 80 columns, and as
JSON, so that a change of it is seen in review.

``pytest tests/cli/test_golden.py --golden`` makes the files anew. Help is not
among them, which is click's to lay out.
"""

import errno
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from ibhostdev import simulate
from ibhostdev.batch import Vif
from ibhostdev.cli import main
from ibhostdev.cli.bench import measuring
from ibhostdev.errors import AccessDenied
from ibhostdev.fabric import audit
from ibhostdev.fabric.audit import Finding, Verdict
from ibhostdev.guest import guests
from ibhostdev.guest.errors import NotReleased
from ibhostdev.guest.results import GuestResult, GuestsFailed, GuestsResult
from tests.testbed import Hca

GOLDEN = Path(__file__).parent / "golden"
COLUMNS = {"text": 160, "narrow": 80}

PCI, OTHER = "0000:3b:00.2", "0000:3b:00.3"
MAC, MAC2 = "fa:16:3e:12:34:56", "fa:16:3e:12:34:57"
TWO = (f"{PCI}={MAC}", f"{OTHER}={MAC2}")
FILES = {
    "vifs.yaml": f"- {{pci: '{PCI}', mac: '{MAC}', pkey: 0x8001}}\n"
    f"- {{pci: '{OTHER}', mac: '{MAC2}', pkey: '1:limited'}}\n",
    "bad.yaml": "- {pci: 0000:3b:00.2, mac: fa:16:3e:12:34}\n"
    "- {pci: 0000:3b:00.3, colour: red}\n",
    "host.yaml": f"- pf: 0000:3b:00.0\n  vfs: 2\n  driver: vfio-pci\n"
    f"  guids: [{MAC}]\n",
    "partitions.conf": "Default=0x7fff, ipoib : ALL=limited, SELF=full ;\n",
}


@dataclass(frozen=True)
class Case:
    """A command, what was run before it, and the schema of its JSON; none:
    it has no JSON."""

    words: str
    schema: str | None = None
    before: tuple[str, ...] = ()
    mlx4: bool = False


PLUG = f"plug {' '.join(TWO)}"
CASES = {
    "list": Case("list", "list"),
    "list-plugged": Case("list", "list", (PLUG,)),
    "list-one": Case(f"list {PCI}", "list", (PLUG,)),
    "list-mlx4": Case("list", "list", mlx4=True),
    "list-nobody": Case("list nobody", "batch"),
    "plug": Case(PLUG, "batch"),
    "plug-again": Case(PLUG, "batch", (PLUG,)),
    "plug-dry-run": Case(f"{PLUG} --dry-run", "batch"),
    "plug-moves": Case(f"plug 0000:3b:00.4={MAC}", "batch", (PLUG,)),
    "plug-fails": Case(PLUG, "batch", (f"!fail {OTHER}",)),
    "plug-goes-on": Case(
        f"{PLUG} --on-error continue", "batch", (f"!fail {OTHER}",)
    ),
    "plug-bad-file": Case("plug --file bad.yaml", "batch"),
    "plug-misused": Case("plug", "batch"),
    "unplug": Case(f"unplug {' '.join(TWO)}", "batch", (PLUG,)),
    "unplug-nobody": Case(f"unplug {MAC}", "batch"),
    "attach": Case(f"attach web1 {' '.join(TWO)}", "guests"),
    "attach-bad-file": Case("attach web1 --file bad.yaml", "guests"),
    "detach": Case(f"detach web1 {PCI} {OTHER}", "guests"),
    "apply": Case("apply --host-yaml host.yaml", "apply"),
    "apply-dry-run": Case("apply --host-yaml host.yaml --dry-run", "apply"),
    "apply-again": Case(
        "apply --host-yaml host.yaml",
        "apply",
        ("apply --host-yaml host.yaml",),
    ),
    "apply-bad-file": Case("apply --host-yaml bad.yaml", "apply"),
    "apply-misused": Case("apply --wait long", "apply"),
    "save": Case("save", None, (PLUG,)),
    "restore": Case(
        "restore --host-yaml host.yaml",
        "batch",
        ("apply --host-yaml host.yaml", f"unplug {MAC}"),
    ),
    "restore-nothing": Case("restore", "batch"),
    "doctor": Case("doctor", "doctor"),
    "doctor-plugged": Case("doctor", "doctor", (PLUG,)),
    "doctor-sweep": Case("doctor --sweep", "sweep", (PLUG,)),
    "doctor-sweep-fix": Case("doctor --sweep --fix", "sweep", (PLUG,)),
    "bench": Case(f"bench {PCI} {OTHER} --rounds 2 --sizes 1,2", "bench"),
    "simulate": Case("simulate elsewhere"),
    "metrics": Case("metrics", None, (PLUG,)),
    "fabric-export": Case(
        "fabric export --host-name node1 --file vifs.yaml", None, (PLUG,)
    ),
    "fabric-export-csv": Case(
        "fabric export --host-name node1 --file vifs.yaml --format csv",
        None,
        (PLUG,),
    ),
    "fabric-export-opensm": Case(
        "fabric export --host-name node1 --file vifs.yaml --format opensm",
        None,
        (PLUG,),
    ),
    "fabric-export-ufm": Case(
        "fabric export --host-name node1 --file vifs.yaml --format ufm",
        None,
        (PLUG,),
    ),
    "fabric-apply": Case(
        "fabric apply --opensm partitions.conf --file vifs.yaml --dry-run",
        None,
        (PLUG,),
    ),
    "fabric-audit": Case("fabric audit --file vifs.yaml", "audit", (PLUG,)),
}
FOR_PROGRAMS = ("fabric export", "metrics", "save")
"""Commands whose lines are as long as they have to be."""


# -- what stands in for what is not here ----------------------------------


class Guests:
    """One VF goes well and one does not."""

    def __init__(self, host, uri):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def _of(self, domain, vfs, error):
        results = [GuestResult(domain, pci, guid, True) for pci, guid in vfs]
        last = results[-1]
        results[-1] = GuestResult(domain, last.pci, last.guid, False, error)
        raise GuestsFailed.of(GuestsResult(tuple(results)))

    def attach(self, wanted, **_):
        error = AccessDenied(
            "refused", OTHER, "libvirt", errno.EPERM, "run as root"
        )
        vfs = [(one.vif.pci, one.vif.guid) for one in wanted]
        self._of(wanted[0].domain, vfs, error)

    def detach(self, wanted, **_):
        vifs = [
            Vif.parse(pci, mac)
            for pci, mac in zip((PCI, OTHER), (MAC, MAC2), strict=True)
        ]
        error = NotReleased(
            "did not let go of the VF within 30 s",
            OTHER,
            cure="see that the guest runs, then detach again",
            domain="web1",
        )
        vfs = [(one.pci, one.guid) for one in vifs]
        self._of(wanted[0].domain, vfs, error)


def asked(members, diags):
    return [
        Finding(members[0], Verdict.WELL, "behind port 1", (0x8001, 0x7FFF)),
        Finding(members[1], Verdict.UNSEEN, "no path to it"),
    ]


def _bench(real):
    def on_vfs(*arguments, **options):
        """With times that are always the same."""
        report = real(*arguments, **options)
        for subject, ways in report.seconds.items():
            for way, samples in ways.items():
                each = 0.0001 if way == "bulk" else 0.001
                samples[:] = [each * subject.vfs] * len(samples)
        return report

    return on_vfs


@pytest.fixture
def stage(bed, tmp_path, monkeypatch):
    """A host, files, and a folder that is the working directory."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(guests, "Guests", Guests)
    monkeypatch.setattr(audit, "audit", asked)
    monkeypatch.setattr(measuring, "on_vfs", _bench(measuring.on_vfs))
    monkeypatch.setattr(simulate, "serve", lambda *_, ready, **__: ready(None))


# -- the files ------------------------------------------------------------


def run(bed, capsys, case, words):
    hcas = (
        [Hca("mlx4", vfs=4, ports=2)]
        if case.mlx4
        else [Hca(vfs=4, total=8), Hca(vfs=4, total=8)]
    )
    bed.build(*hcas)
    folder = bed.command[-1]
    alone = words[0] == "simulate"
    for earlier in case.before:
        if earlier.startswith("!fail "):
            bed.fail(earlier.split()[1], errno.EIO)
        else:
            assert main(["--host", folder, *shlex.split(earlier)]) == 0
    capsys.readouterr()
    code = main([*([] if alone else ["--host", folder]), *words])
    out, err = capsys.readouterr()
    return code, steady(out, folder), steady(err, folder)


def steady(text, folder):
    """Without what differs from run to run."""
    text = text.replace(folder, "FOLDER")
    return re.sub(r"(batch_seconds_total\{\S*) \S+", r"\1 SECONDS", text)


def compare(pytestconfig, name, said):
    file = GOLDEN / name
    if pytestconfig.getoption("golden"):
        file.write_text(said, encoding="utf-8")
    assert said == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", COLUMNS)
@pytest.mark.parametrize("name", CASES)
def test_for_people(
    name, width, stage, bed, capsys, monkeypatch, pytestconfig
):
    case = CASES[name]
    monkeypatch.setenv("COLUMNS", str(COLUMNS[width]))
    code, out, err = run(bed, capsys, case, shlex.split(case.words))
    if width == "narrow" and not case.words.startswith(FOR_PROGRAMS):
        assert [line for line in out.splitlines() if len(line) > 80] == []
    said = f"$ ibhostdev {case.words}\n{out}"
    if err:
        said += f"--- on standard error\n{err}"
    said += f"--- exit code {code}\n"
    compare(pytestconfig, f"{name}.{width}", said)


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if case.schema]
)
def test_for_programs(name, stage, bed, capsys, pytestconfig):
    case = CASES[name]
    words = [*shlex.split(case.words), "--json"]
    _, out, _ = run(bed, capsys, case, words)
    compare(pytestconfig, f"{name}.json", out)


def test_no_file_is_left_over():
    wanted = {f"{name}.{width}" for name in CASES for width in COLUMNS}
    wanted |= {f"{name}.json" for name, case in CASES.items() if case.schema}
    assert {file.name for file in GOLDEN.iterdir()} == wanted
