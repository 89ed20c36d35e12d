# SPDX-License-Identifier: Apache-2.0
"""The Debian package: a wheel, laid out as Debian has it.

One package serves Debian 12 and 13, as the wheel does. What Debian 12 lacks,
or has too old, is in a folder of the package's own that only its programs look
into. Needs dpkg-deb, and no other of Debian's tools.
"""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Iterator
from configparser import ConfigParser
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
OWN = REPO / "release/deb"

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
#: Debian 12 has rich 13.3, and no inotify_simple.
BUNDLED = ["rich", "inotify_simple"]
BUNDLE = "usr/share/ibhostdev/python"

MODULES = "usr/lib/python3/dist-packages"
DOC = "usr/share/doc/ibhostdev"
EXAMPLES = f"{DOC}/examples"
UNITS = "usr/lib/systemd/system"
#: Where the files of a wheel's data go: one of them, or all of a folder.
DATA = {
    "etc/ibhostdev/ibhostdev-agent.conf.sample": (
        f"{EXAMPLES}/ibhostdev-agent.conf.sample"
    ),
    "etc/ibhostdev/ibhostdev.conf.sample": "etc/ibhostdev/ibhostdev.conf",
    "etc/ibhostdev/ibhostdev-neutron-agent.service": (
        f"{UNITS}/ibhostdev-neutron-agent.service"
    ),
    "etc/ibhostdev/nova-compute.conf.example": (
        f"{EXAMPLES}/nova-compute.conf.example"
    ),
    "etc/ibhostdev/rootwrap.conf": "etc/ibhostdev/rootwrap.conf",
    "etc/ibhostdev/rootwrap.d/": "etc/ibhostdev/rootwrap.d/",
    "etc/ibhostdev/sudoers.d/ibhostdev": f"{EXAMPLES}/sudoers",
    "etc/ibhostdev/examples/": f"{EXAMPLES}/",
    "etc/ibhostdev/grafana/": f"{EXAMPLES}/grafana/",
    "etc/ibhostdev/prometheus/": f"{EXAMPLES}/prometheus/",
    "etc/ibhostdev/systemd/": f"{UNITS}/",
    "etc/ibhostdev/udev/": "usr/lib/udev/rules.d/",
}
COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/ibhostdev",
    "zsh": "usr/share/zsh/vendor-completions/_ibhostdev",
    "fish": "usr/share/fish/vendor_completions.d/ibhostdev.fish",
}
#: What pip's paths are here.
PATHS = {
    "/usr/local/bin/": "/usr/bin/",
    "/usr/local/libexec/ibhostdev": "/usr/libexec/ibhostdev",
}


class Unknown(Exception):
    """The wheel has something that has no place in the package."""


@dataclass
class Package:
    """What is in the package, below ``tree``."""

    tree: Path
    project: dict[str, Any]

    @property
    def version(self) -> str:
        return f"{self.project['version']}-1"

    @property
    def maintainer(self) -> str:
        (author,) = self.project["authors"]
        return f"{author['name']} <{author['email']}>"

    def put(self, name: str, text: str | bytes, mode: int = 0o644) -> None:
        path = self.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(mode)

    def put_packed(self, name: str, text: str | bytes) -> None:
        data = text.encode() if isinstance(text, str) else text
        self.put(f"{name}.gz", gzip.compress(data, mtime=0))

    def link(self, name: str, target: str) -> None:
        path = self.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)

    def files(self) -> Iterator[Path]:
        for path in sorted(self.tree.rglob("*")):
            if path.is_file() and not path.is_symlink():
                name = path.relative_to(self.tree)
                if name.parts[0] != "DEBIAN":
                    yield name


def build(
    wheel: Path,
    project: dict[str, Any],
    notes: str,
    completions: dict[str, str],
    folder: Path,
) -> Path:
    """The package, in the folder. ``notes`` are the release notes,
    ``completions`` what shells are told of the command.

    :raises Unknown: for a wheel with something that has no place yet
    :raises subprocess.CalledProcessError: if a program fails
    """
    tag = wheel.stem.rpartition("-")[2]
    (architecture,) = [
        name for end, name in ARCHITECTURES.items() if tag.endswith(end)
    ]
    package = Package(folder / f"debian-{architecture}", project)
    shutil.rmtree(package.tree, ignore_errors=True)
    package.tree.mkdir(parents=True)
    _unpack(package, wheel)
    licences = _bundle(package)
    _document(package, notes, completions, licences)
    _describe(package, architecture, glibc=_glibc(tag))
    # Whatever the umask was.
    for path in package.tree.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    package.tree.chmod(0o755)
    made = folder / f"ibhostdev_{package.version}_{architecture}.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", package.tree, made],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return made


def _glibc(tag: str) -> str:
    """manylinux_2_28_x86_64 is for 2.28."""
    major, minor = tag.removeprefix("manylinux_").split("_")[:2]
    return f"{major}.{minor}"


# -- what is in it ----------------------------------------------------------


def _unpack(package: Package, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for item in archive.infolist():
            name = item.filename
            content = archive.read(item)
            top, _, rest = name.partition("/")
            if top.endswith(".data"):
                _unpack_data(package, rest, content)
            elif not top.endswith(".dist-info"):
                program = item.external_attr >> 16 & 0o111
                if name.endswith(".so"):
                    program = 0  # a wheel has it so all the same
                mode = 0o755 if program else 0o644
                package.put(f"{MODULES}/{name}", content, mode)
            elif rest in ("METADATA", "entry_points.txt"):
                package.put(f"{MODULES}/{name}", content)
                if rest == "entry_points.txt":
                    _launchers(package, content.decode())
    # rootwrap.conf is to name no folder that has another program in it.
    package.link(
        "usr/libexec/ibhostdev/ibhostdev-privileged",
        "../../bin/ibhostdev-privileged",
    )


def _unpack_data(package: Package, name: str, content: bytes) -> None:
    kind, _, name = name.partition("/")
    if kind == "scripts":
        package.put(f"usr/bin/{name}", content, 0o755)
        return
    text = content.decode()
    for old, new in PATHS.items():
        text = text.replace(old, new)
    package.put(place(name), text, 0o755 if text.startswith("#!") else 0o644)


def place(name: str) -> str:
    """Where a file of a wheel's data goes.

    :raises Unknown: if nobody has said so, lest it be forgotten
    """
    folder, last = name.rsplit("/", 1)
    if name in DATA:
        return DATA[name]
    if f"{folder}/" in DATA:
        return DATA[f"{folder}/"] + last
    raise Unknown(f"{name} has no place in the Debian package")


def _launchers(package: Package, entry_points: str) -> None:
    parser = ConfigParser(delimiters=["="])
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(entry_points)
    launcher = (OWN / "launcher.in").read_text()
    for name, where in parser["console_scripts"].items():
        module, _, function = where.partition(":")
        package.put(
            f"usr/bin/{name}",
            launcher.format(module=module, function=function),
            0o755,
        )


def _bundle(package: Package) -> str:
    """Puts in what Debian has not; gives their licences, for copyright."""
    bundle = package.tree / BUNDLE
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    constraints = os.environ.get("IBHOSTDEV_CONSTRAINTS")
    subprocess.run(
        [
            *(*pip, "install", "-q", "--no-deps", "--no-compile"),
            *("--target", bundle),
            *(("-c", constraints) if constraints else ()),
            *BUNDLED,
        ],
        check=True,
    )
    told = []
    for info in sorted(bundle.glob("*.dist-info")):
        name = info.name.partition("-")[0]
        (text,) = [
            path.read_text()
            for path in info.rglob("*")
            if path.is_file() and path.name.upper().startswith("LICENSE")
        ]
        told.append(
            f"Files: {BUNDLE}/{name}*\n"
            f"Copyright: see below\n"
            f"License: {name}\n{_folded(text)}\n"
        )
        shutil.rmtree(info)
    for path in bundle.rglob("*"):
        if path.is_file():
            path.chmod(0o644)
    shutil.rmtree(bundle / "bin", ignore_errors=True)
    return "\n".join(told)


def _folded(text: str) -> str:
    """As a field of several lines has it."""
    lines = [line.rstrip() or "." for line in text.strip().splitlines()]
    return textwrap.indent("\n".join(lines), " ")


# -- what is told of it -----------------------------------------------------


def _document(
    package: Package, notes: str, completions: dict[str, str], licences: str
) -> None:
    urls = package.project["urls"]
    package.put(
        f"{DOC}/copyright",
        "Format: https://www.debian.org/doc/packaging-manuals/"
        "copyright-format/1.0/\n"
        "Upstream-Name: ibhostdev\n"
        f"Source: {urls['Source']}\n\n"
        "Files: *\n"
        f"Copyright: {package.project['authors'][0]['name']}\n"
        "License: Apache-2.0\n"
        " On Debian systems, the full text of it is in\n"
        " /usr/share/common-licenses/Apache-2.0.\n\n" + licences,
    )
    date = formatdate(int(os.environ["SOURCE_DATE_EPOCH"]))
    package.put_packed(
        f"{DOC}/changelog.Debian",
        f"ibhostdev ({package.version}) unstable; urgency=medium\n\n"
        "  * As released; what is new is in changelog.gz.\n\n"
        f" -- {package.maintainer}  {date}\n",
    )
    package.put_packed(f"{DOC}/changelog", notes)
    package.put(
        f"{DOC}/README.Debian", (OWN / "README.Debian.md").read_bytes()
    )
    package.put(f"{DOC}/README.md", (REPO / "README.md").read_bytes())
    for page in sorted(REPO.glob("docs/**/*.md")):
        name = page.relative_to(REPO)
        package.put(f"{DOC}/{name}", page.read_bytes())
    _pages(package)
    for shell, text in completions.items():
        package.put(COMPLETIONS[shell], text)
    package.put(
        "usr/share/lintian/overrides/ibhostdev",
        (OWN / "lintian-overrides").read_bytes(),
    )
    package.put("etc/default/ibhostdev", (OWN / "default").read_bytes())
    (package.tree / "etc/ibhostdev/hooks.d").mkdir()


def _pages(package: Package) -> None:
    """What ./dev docs man has made."""
    for page in sorted((REPO / "build/docs/man").glob("*.[1-8]")):
        section = page.suffix[1:]
        package.put_packed(
            f"usr/share/man/man{section}/{page.name}", page.read_bytes()
        )


def _describe(package: Package, architecture: str, glibc: str) -> None:
    size = sum(
        (package.tree / name).stat().st_size for name in package.files()
    )
    control = (OWN / "control.in").read_text().partition("\n")[2]
    control = control.format(
        version=package.version,
        architecture=architecture,
        maintainer=package.maintainer,
        size=size // 1024,
        glibc=glibc,
        homepage=package.project["urls"]["Homepage"],
    )
    sums = [
        f"{hashlib.md5((package.tree / name).read_bytes()).hexdigest()}"
        f"  {name}\n"
        for name in package.files()
        if name.parts[0] != "etc"
    ]
    configuration = [
        f"/{name}\n" for name in package.files() if name.parts[0] == "etc"
    ]
    package.put("DEBIAN/control", control)
    package.put("DEBIAN/md5sums", "".join(sums))
    package.put("DEBIAN/conffiles", "".join(configuration))
    for script in ("postinst", "prerm", "postrm"):
        package.put(f"DEBIAN/{script}", (OWN / script).read_bytes(), 0o755)
