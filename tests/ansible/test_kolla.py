# SPDX-License-Identifier: Apache-2.0
"""The recipe for images, by Kolla's own reader of it. No image is built, for
that takes a registry and a network."""

import pytest

from tests.ansible.conftest import ROOT, tool

RECIPE = ROOT / "contrib/kolla"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """The Dockerfiles that kolla-build makes, by the names of the images."""
    folder = tmp_path_factory.mktemp("kolla")
    done = tool(
        "kolla-build",
        *("--config-file", str(RECIPE / "kolla-build.conf")),
        *("--template-override", str(RECIPE / "template-override.j2")),
        *("--template-only", "--work-dir", str(folder), "--base", "debian"),
        *("--base-arch", "x86_64"),
        *("^nova-compute$", "^neutron-mlnx-agent$"),
        cwd=folder,
    )
    assert done.code == 0, done.out
    return {
        file.parent.name: file.read_text()
        for file in folder.rglob("Dockerfile")
    }


@pytest.mark.parametrize(
    ("image", "extra", "user"),
    [
        ("nova-compute", "nova", "nova"),
        ("neutron-mlnx-agent", "neutron", "neutron"),
    ],
)
def test_the_wheel_is_installed_where_it_belongs(images, image, extra, user):
    text = images[image]
    here = text.index("ADD additions-archive /")
    assert f'ibhostdev-*_x86_64.whl)[{extra}]"' in text[here:]
    # as root
    assert text.index(f"USER {user}") > here


def test_other_images_are_as_kolla_has_them(images):
    ours = {name for name, text in images.items() if "ibhostdev" in text}
    assert ours == {"nova-compute", "neutron-mlnx-agent"}
