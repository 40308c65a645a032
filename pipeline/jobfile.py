"""The job file as text -> plain values, with the line of every key. Strict where YAML is loose.

PyYAML's safe loader, and beyond it: no anchors and aliases (256 bytes of them can mean 58 MB),
no duplicate keys (the last would win silently), at most 1 MB and 32 levels. `no`, `010`, `1e5`
and `1:30` are not what they look like in YAML 1.1; the typed schema refuses them by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import JobError

MAX_BYTES, MAX_DEPTH = 1_000_000, 32
#: Position of a value: the keys that lead to it.
Place = tuple[str | int, ...]
Lines = dict[Place, int]

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}")
#: What keys of the known services look like.
_KEY = re.compile(r"\b(sk-[A-Za-z0-9_-]{8,}|AIza[0-9A-Za-z_-]{20,}|hf_[A-Za-z0-9]{20,})")


class _Loader(yaml.SafeLoader):
    """Safe, and without aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call] # untyped in PyYAML
            raise yaml.MarkedYAMLError(
                problem="aliases are not allowed: write the value out",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)


def read_job(path: Path) -> tuple[dict[str, Any], Lines]:
    """The file's values and lines; JobError, one line, for whatever is wrong with it."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise JobError(
            f"{path}: no such job file (caption-pipeline init {path} writes one)"
        ) from None
    except OSError as error:
        raise JobError(f"{path}: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise JobError(f"{path}: larger than 1 MB; this is not a job file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise JobError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    lines: Lines = {}
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                raise JobError(f"{path}: empty; caption-pipeline init writes a commented one")
            value = _build(loader, node, (), lines, path)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        raise JobError(f"{path}:{line}: {error.problem or 'not YAML'}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise JobError(f"{path}: not YAML ({words})") from None
    if not isinstance(value, dict):
        raise JobError(f"{path}:1: a job file is a list of `key: value` lines")
    return value, lines


def _build(loader: _Loader, node: yaml.Node, place: Place, lines: Lines, path: Path) -> Any:
    lines[place] = node.start_mark.line + 1
    if len(place) > MAX_DEPTH:
        raise JobError(f"{path}:{lines[place]}: nested deeper than {MAX_DEPTH} levels")
    if node.anchor if hasattr(node, "anchor") else None:
        raise JobError(f"{path}:{lines[place]}: anchors are not allowed")
    if isinstance(node, yaml.MappingNode):
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise JobError(f"{path}:{line}: a key must be a plain word")
            key = str(key_node.value)
            if key in built:
                raise JobError(f"{path}:{line}: {_dotted((*place, key))}: given twice")
            built[key] = _build(loader, value_node, (*place, key), lines, path)
            lines[(*place, key)] = line
        return built
    if isinstance(node, yaml.SequenceNode):
        return [
            _build(loader, one, (*place, index), lines, path)
            for index, one in enumerate(node.value)
        ]
    return loader.construct_object(node, deep=True)


def _dotted(place: Place) -> str:
    return ".".join(str(one) for one in place)


def expand(value: Any, environ: Mapping[str, str], place: Place = ()) -> Any:
    """`${NAME}` and `${NAME:-default}` in string values, once, never inside what came out.

    Refuses a value that looks like a key, without showing it. JobError carries `place`.
    """
    if isinstance(value, dict):
        return {key: expand(one, environ, (*place, key)) for key, one in value.items()}
    if isinstance(value, list):
        return [expand(one, environ, (*place, index)) for index, one in enumerate(value)]
    if not isinstance(value, str):
        return value
    if _KEY.search(value):
        raise Misplaced(
            place,
            "this looks like a key; put it into the environment and name its variable in "
            "endpoint.api_key_env",
        )
    if place[-1:] == ("api_key_env",):
        return value

    def found(match: re.Match[str]) -> str:
        held = environ.get(match[1], match[2])
        if held is None:
            raise Misplaced(
                place, f"the environment has no {match[1]} (${{{match[1]}:-…}} gives a default)"
            )
        return held

    return _VARIABLE.sub(found, value)


class Misplaced(Exception):
    """A value that cannot stand where it stands."""

    def __init__(self, place: Place, words: str) -> None:
        super().__init__(words)
        self.place, self.words = place, words


def read_env_file(path: Path) -> dict[str, str]:
    """A `.env` file: KEY=VALUE lines, quotes and `export ` seen through; missing is empty."""
    try:
        text = path.read_text("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(f"{path}: cannot be read ({type(error).__name__})") from None
    found = {}
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if not equals or name.lstrip().startswith("#"):
            continue
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        else:
            value = value.split(" #", 1)[0].rstrip()
        found[name.strip()] = value
    return found
