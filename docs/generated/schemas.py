# SPDX-License-Identifier: Apache-2.0
"""The page about JSON, of its schemas."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docs.generated.markdown import escaped, table

SCHEMAS = Path(__file__).parents[1] / "schema"

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
        parts.append(table(("key", "type", "meaning"), rows))
    for file in sorted(SCHEMAS.glob("*.json")):
        one = schema(file.stem)
        if "title" not in one:
            continue
        parts.append(
            f"## {one['title']}\n\n{escaped(one['description'])}\n\n"
            f"Schema: `{file.name}`"
        )
        rows = list(_keys(one, one, ""))
        parts.append(table(("key", "type", "meaning"), rows))
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
