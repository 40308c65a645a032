"""What a key of the job file may hold, in words made from the schema, and what is wrong in one line.

The words come from the JSON Schema of the settings, so they cannot drift from what is checked.
A value is shown as it was written: never as a variable filled it in, and never as pydantic
would, whose messages repeat the input.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pipeline.config.yaml import Document, Mark, Place, dotted
from pipeline.errors import PipelineError

Schema = dict[str, Any]
_LONGEST = 60
#: Errors of one file that are told at once.
SHOWN_ERRORS = 5


def node_at(root: Schema, place: Place) -> Schema | None:
    """The schema of a place, None where there is none."""
    node: Schema | None = _resolved(root, root)
    for name in place:
        if node is None:
            return None
        node = _inner(root, node, name)
    return node


def _resolved(root: Schema, node: Schema) -> Schema:
    while "$ref" in node:
        node = {**root["$defs"][node["$ref"].rsplit("/", 1)[1]], **_without_ref(node)}
    return node


def _without_ref(node: Schema) -> Schema:
    return {name: value for name, value in node.items() if name != "$ref"}


def _inner(root: Schema, node: Schema, name: str | int) -> Schema | None:
    for branch in branches(root, node):
        if isinstance(name, int) and "items" in branch:
            return _resolved(root, branch["items"])
        if isinstance(name, str) and name in branch.get("properties", {}):
            return _resolved(root, branch["properties"][name])
        if isinstance(name, str) and branch.get("additionalProperties"):
            free = branch["additionalProperties"]
            return _resolved(root, free) if isinstance(free, dict) else {}
    return None


def branches(root: Schema, node: Schema) -> list[Schema]:
    """The alternatives of a schema: itself when there is just one."""
    return [_resolved(root, branch) for branch in node.get("anyOf", [node])]


def kinds(root: Schema, node: Schema) -> set[str]:
    """The JSON types that a place accepts; empty: any."""
    names = {_kind(branch) for branch in branches(root, node)}
    return set() if "" in names else names


def _kind(node: Schema) -> str:
    if "const" in node or "enum" in node:
        return "string"
    return str(node.get("type", ""))


def wanted(root: Schema, node: Schema) -> str:
    """What to write: `an integer from 1 to 4096`, `auto, url or inline`, `a number above 0 or null`."""
    choices = [_words(branch) for branch in branches(root, node)]
    if "examples" in node:
        nothing = ["null"] if "null" in choices else []
        return f"something like {_either([*map(str, node['examples']), *nothing])}"
    return _either(choices)


def _either(choices: Sequence[str]) -> str:
    return " or ".join([", ".join(choices[:-1]), choices[-1]] if len(choices) > 1 else choices)


def _words(node: Schema) -> str:
    """The words of one alternative."""
    kind = _kind(node)
    if "const" in node or "enum" in node:
        return _either([str(value) for value in node.get("enum", [node.get("const")])])
    if kind in ("integer", "number"):
        return ("an integer" if kind == "integer" else "a number") + _range(node)
    if kind == "string":
        low, high = node.get("minLength", 0), node.get("maxLength")
        return "text" + (f" of {low} to {high:,} letters" if high else " that is not empty" * low)
    if kind == "object":
        keys = ", ".join(node.get("properties", ()))
        return f"a section with the keys {keys}" if keys else "a section of `key: value` lines"
    if kind == "array":
        return f"a list of at most {node['maxItems']}" if "maxItems" in node else "a list"
    return {"boolean": "true or false", "null": "null"}.get(kind, "a value")


def _range(node: Schema) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    if "exclusiveMinimum" in node:
        above = f" above {node['exclusiveMinimum']:g}"
        return f"{above}, up to {high:g}" if high is not None else above
    if low is None:
        return "" if high is None else f" up to {high:g}"
    return f" of at least {low:g}" if high is None else f" from {low:g} to {high:g}"


def shown(value: Any, mark: Mark) -> str:
    """What stands there, as it was written: `the text 'many'`, `no, which YAML reads as false`."""
    text = mark.text
    if text is None:
        return "a section" if isinstance(value, dict) else "a list"
    cut = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    if isinstance(value, str):
        return f"the text {cut!r}"
    if value is None:
        return "null" if text else "nothing"
    if isinstance(value, bool):
        read = str(value).lower()
        return read if text.lower() == read else f"{cut}, which YAML reads as {read}"
    return f"the number {cut}"


def refusal(document: Document, root: Schema, error: ValidationError) -> PipelineError:
    """What is wrong, in the order of the file, as one line; of many errors the first SHOWN_ERRORS."""
    problems: dict[Place, Any] = {}
    for problem in error.errors(include_url=False, include_context=False):
        problems.setdefault(_place(document, problem["loc"], problem["type"]), problem)
    order = sorted(problems, key=lambda place: document.mark(place).line or 0)
    errors = [
        document.error(place, _one(document, root, place, problems[place]))
        for place in order[:SHOWN_ERRORS]
    ]
    more = f" (errors in all: {len(order)})" if len(order) > 1 else ""
    return type(errors[0])("; ".join(map(str, errors)) + more)


def _place(document: Document, loc: tuple[str | int, ...], kind: str) -> Place:
    """pydantic's location without the names of union members that it mixes in."""
    value: Any = document.values
    place: Place = ()
    for name in loc:
        if isinstance(value, dict):
            present = name in value
        else:
            present = isinstance(value, list) and isinstance(name, int) and name < len(value)
        if not present:
            return (*place, name) if kind == "missing" and name == loc[-1] else place
        value = value[name]
        place = (*place, name)
    return place


def _one(document: Document, root: Schema, place: Place, error: ErrorDetails) -> str:
    kind = error["type"]
    if kind == "missing":
        node = node_at(root, place) or {}
        return f"missing; every job needs it ({wanted(root, node)})"
    if kind == "extra_forbidden":
        return unknown(root, place)
    node = node_at(root, place) or {}
    mark = document.mark(place)
    value = _value(document.values, place)
    own = error["msg"].removeprefix("Value error, ") if kind == "value_error" else ""
    if own and isinstance(value, dict | list):
        return own
    message = f"found {shown(value, mark)}; {own or 'write ' + wanted(root, node)}"
    if "examples" in node and kind.startswith(("greater_than", "less_than")):
        return f"{message}: {error['msg'].removeprefix('Input should be ')}"
    return message + _hint(branches(root, node), value, mark)


def unknown(root: Schema, place: Place) -> str:
    """`unknown key, did you mean max_side?`, or where such a key lives, or the keys there are."""
    name = str(place[-1])
    holder = node_at(root, place[:-1]) or {}
    known = [key for branch in branches(root, holder) for key in branch.get("properties", {})]
    if near := difflib.get_close_matches(name, known, 1):
        return f"unknown key, did you mean {near[0]}?"
    elsewhere = [branch for branch in places(root) if branch[-1] == name]
    if elsewhere:
        return f"unknown key here, did you mean {dotted(elsewhere[0])}?"
    return f"unknown key; there are {', '.join(known)}"


def places(root: Schema, place: Place = ()) -> list[tuple[str, ...]]:
    """Every key of the schema, sections and their keys alike."""
    node = node_at(root, place) or {}
    result = []
    for name, inner in node.get("properties", {}).items():
        result.append((*place, name))
        if _resolved(root, inner).get("properties"):
            result += places(root, (*place, name))
    return result


def _value(value: Any, place: Place) -> Any:
    for name in place:
        value = value[name]
    return value


def _hint(nodes: Sequence[Schema], value: Any, mark: Mark) -> str:
    """What people who wrote this most likely meant."""
    text, numeric = mark.text or "", {"integer", "number"} & {_kind(node) for node in nodes}
    if isinstance(value, str) and numeric:
        if "${" in text:
            return "; ${…} gives text: use --set for a number"
        return _meant(text, quoted=mark.quoted)
    free = any(node.get("type") == "string" and not {"const", "enum"} & set(node) for node in nodes)
    if free and not numeric and isinstance(value, bool | int | float):
        return f": '{text[:_LONGEST]}' in quotes is text"
    return ""


def _meant(text: str, *, quoted: bool) -> str:
    """The plain number that a text like `1e6` or `'8'` stands for."""
    try:
        meant = float(text)
    except ValueError:
        return ""
    if not abs(meant) < 2**53:
        return ""
    shown = str(int(meant)) if meant.is_integer() else repr(meant)
    return f": {shown}" + (" without quotes" if quoted else "")
