# SPDX-License-Identifier: Apache-2.0
"""How Sphinx builds the site and the man pages; see ./dev docs --help."""

import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from docutils import nodes

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from docs import generated  # noqa: E402

project = "ibhostdev"
author = copyright = "ibhostdev contributors"
version = release = metadata.version("ibhostdev")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
# In a text about commands two hyphens are two hyphens.
smartquotes = False

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autoclass_content = "both"

html_theme = "furo"
html_title = f"ibhostdev {release}"
html_extra_path = ["schema"]
html_show_sourcelink = False
exclude_patterns = ["schema"]

generated.write(HERE / "reference")
man_pages = generated.man_pages()
man_make_section_directory = False
man_show_urls = False


def _unlinked(app: Any, tree: nodes.document, _: str) -> None:
    """Links lead nowhere in a man page."""
    if app.builder.name == "man":
        for link in list(tree.findall(nodes.reference)):
            link.replace_self(link.children)


def setup(app: Any) -> None:
    app.connect("doctree-resolved", _unlinked)
