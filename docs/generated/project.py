# SPDX-License-Identifier: Apache-2.0
"""The page that says where the project is, of pyproject.toml, which is the
one place that has addresses."""

import tomllib
from pathlib import Path

FILE = Path(__file__).parents[2] / "pyproject.toml"

_TEXT = """\
# Where the project is

{addresses}

A clone of the sources has everything that is made of them, by `./dev`:

```text
git clone {source} ibhostdev
```

A fault that lets somebody have what is not his is told in private, to
{authors}; `SECURITY.md` of the sources says how. All others are issues, with
what `ibhostdev doctor --json` and `ibhostdev --version` print.
"""


def project_page() -> str:
    with open(FILE, "rb") as file:
        project = tomllib.load(file)["project"]
    urls = project["urls"]
    return _TEXT.format(
        addresses="\n".join(
            f"- {what}: <{url}>" for what, url in urls.items()
        ),
        source=urls["Source"],
        authors=", ".join(
            f"{one['name']} <{one['email']}>" for one in project["authors"]
        ),
    )
