"""The job file as text -> plain values, and where each stands. Strict where YAML is loose.

PyYAML's scanner and parser, and beyond them: no anchors and aliases (256 bytes of them can mean
58 MB), no tags, no duplicate keys (the last would win silently), at most 1 MB and 32 levels.
YAML 1.1 reads `010` as 8, `1:30` as 90 and `2024-01-01` as a date: refused, with what to write.
A scalar's own text is kept beside its value, so that an error can show what was written and
never what an environment variable put there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import JobError, PipelineError, UsageError
from pipeline.redact import looks_like_key, one_line

MAX_BYTES, MAX_DEPTH = 1_000_000, 32
#: Position of a value: the keys that lead to it.
Place = tuple[str | int, ...]

STRAY_KEY = (
    "this looks like an API key; put it into the environment or .env and name its variable in "
    "endpoint.api_key_env"
)
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_ODD = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a value stands and how it was written."""

    #: Line of the job file; None for a value of `--set`.
    line: int | None
    #: A scalar's own text; None for sections and lists.
    text: str | None = None
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """A job file's values, and how to speak of one of them."""

    path: Path
    values: dict[str, Any]
    marks: dict[Place, Mark] = field(default_factory=dict)

    def mark(self, place: Place) -> Mark:
        """The mark of a place, or of what holds it."""
        marks = (
            self.marks[place[:n]] for n in range(len(place), -1, -1) if place[:n] in self.marks
        )
        return next(marks, Mark(1))

    def error(self, place: Place, message: str) -> PipelineError:
        """One line: `configs/job.yaml:12: images.max_side: …`, or `--set images.max_side: …`."""
        line, key = self.mark(place).line, dotted(place)
        if line is None:
            return UsageError(f"--set {key}: {message}")
        return JobError(f"{self.path}:{line}: {key + ': ' if key else ''}{message}")

    def where(self, key: str) -> str:
        """`configs/job.yaml:12: ` for a key that stands in the file, `--set ` for one of `--set`."""
        mark = self.marks.get(tuple(key.split(".")))
        if mark is None:
            return ""
        return "--set " if mark.line is None else f"{self.path}:{mark.line}: "


def dotted(place: Place) -> str:
    """`images.max_side`."""
    return ".".join(one_line(str(part), 80) for part in place)


class _Refused(Exception):
    """Something at a line that a job file must not hold."""

    def __init__(self, line: int, message: str, place: Place = ()) -> None:
        super().__init__(message)
        self.line, self.words, self.place = line, message, place


class _Loader(yaml.SafeLoader):
    """Composes nodes; refuses what a job file does not need before it can do harm."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call] # untyped in PyYAML
        line = event.start_mark.line + 1
        if isinstance(event, yaml.events.AliasEvent) or event.anchor is not None:
            raise _Refused(line, "anchors and aliases are not allowed; write the value out")
        if event.tag is not None:
            raise _Refused(line, "tags (!…) are not allowed; write the plain value")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _Refused(line, f"nested deeper than {MAX_DEPTH} levels")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def read_job(path: Path) -> Document:
    """Read a job file; JobError, one line, for whatever is wrong with it."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise JobError(f"{path}: no such job file; `init {path}` writes one") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a file name"
        raise JobError(f"{path}: cannot be read ({reason})") from None
    if len(data) > MAX_BYTES:
        raise JobError(f"{path}: larger than 1 MB; this is not a job file")
    try:
        values, marks = _parse(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise JobError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from None
    except _Refused as refused:
        key = f"{dotted(refused.place)}: " if refused.place else ""
        raise JobError(f"{path}:{refused.line}: {key}{refused.words}") from None
    if values is None and set(marks) <= {()}:
        raise JobError(f"{path}: empty; `init` writes a commented job file")
    if not isinstance(values, dict):
        raise JobError(f"{path}:1: a job file is `key: value` lines")
    return Document(path, values, marks)


def read_value(text: str) -> tuple[Any, dict[Place, Mark]]:
    """A value of `--set`, as strict as in a file; ValueError says what is wrong with it."""
    try:
        value, marks = _parse(text)
    except _Refused as refused:
        raise ValueError(refused.words) from None
    marks = marks or {(): Mark(1, "")}
    return value, {place: Mark(None, m.text, m.quoted) for place, m in marks.items()}


def _parse(text: str) -> tuple[Any, dict[Place, Mark]]:
    """One YAML document -> (value, marks); _Refused for everything else."""
    marks: dict[Place, Mark] = {}
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _Refused(mark.line + 1 if mark else 1, f"not YAML: {_problem(error)}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _Refused(line, f"character U+{error.character:04X} is not allowed") from None
    except (ValueError, OverflowError):  # PyYAML on odd escapes, as \UFFFFFFFF
        raise _Refused(1, "not YAML") from None
    return (None if node is None else _built(node, (), marks)), marks


#: What PyYAML says -> what it means to somebody who writes a job file.
_PLAIN = {
    "'\\t'": "a tab; indent with spaces",
    "mapping values are not allowed": (
        "a second `: ` in a line; put the value in quotes, or check the indentation"
    ),
    "expected <block end>": "this line does not fit the ones above; check the indentation",
    "could not find expected ':'": "a line without `: `; write key: value",
    "<stream end>": "the file ends inside a bracket or a quote; close it",
    "unexpected end of stream": "the file ends inside a quote; close it",
    "expected ',' or '": "inside of { } or [ ] text with a `?`, a comma or a bracket needs quotes",
    "but found another document": "a second document; a job file has one, without `---`",
}


def _problem(error: yaml.MarkedYAMLError) -> str:
    """PyYAML's words, with a remedy for what people really meet."""
    problem = error.problem or "it cannot be read"
    return next((plain for wording, plain in _PLAIN.items() if wording in problem), problem)


def _built(node: yaml.Node, place: Place, marks: dict[Place, Mark]) -> Any:
    """The plain value of a node; notes where it and all below stand."""
    line = node.start_mark.line + 1
    marks.setdefault(place, Mark(line))
    if isinstance(node, yaml.MappingNode):
        built: dict[str, Any] = {}
        for key, inner, at in _pairs(node, place):
            if key in built:
                raise _Refused(at, "given twice; delete one of them", (*place, key))
            marks[(*place, key)] = Mark(at)
            built[key] = _built(inner, (*place, key), marks)
        return built
    if isinstance(node, yaml.SequenceNode):
        return [_built(child, (*place, index), marks) for index, child in enumerate(node.value)]
    assert isinstance(node, yaml.ScalarNode)
    value = _scalar(node, line, place)
    marks[place] = Mark(marks[place].line, node.value, quoted=node.style is not None)
    return value


def _pairs(node: yaml.MappingNode, place: Place) -> Iterator[tuple[str, yaml.Node, int]]:
    """(key, value node, line) of a mapping; keys are plain words."""
    for key, inner in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise _Refused(line, "a key must be a plain word", place)
        try:
            yield fit(key.value), inner, line
        except ValueError as error:
            raise _Refused(line, str(error), place) from None


def _scalar(node: yaml.ScalarNode, line: int, place: Place) -> Any:
    """Text, number, true, false or null; what only looks like one of them is refused."""
    kind, text = node.tag.removeprefix(_TAG), node.value
    read = _READ.get(kind) if node.style is None else None
    try:
        return read(text) if read is not None else fit(text)
    except ValueError as error:
        raise _Refused(line, str(error), place) from None


def fit(text: str) -> str:
    """The text itself; ValueError for a key and for what no path, prompt or record can hold."""
    if looks_like_key(text):
        raise ValueError(STRAY_KEY)
    if odd := _ODD.search(text):
        raise ValueError(f"character U+{ord(odd[0]):04X} is not allowed")
    return text


def _integer(text: str) -> int:
    """Decimal only, and small enough for every file that it may end up in."""
    if not _INTEGER.fullmatch(text):
        raise ValueError(
            f"YAML reads {text[:40]} in another base; write a decimal number, or quotes"
        )
    plain = text.replace("_", "")
    if len(plain) > 20 or abs(int(plain)) >= 2**63:
        raise ValueError("this number is too large")
    return int(plain)


def _float(text: str) -> float:
    if ":" in text:
        raise ValueError(f"YAML reads {text[:40]} in base 60; write a decimal number, or quotes")
    if "n" in text.lower() or not math.isfinite(value := float(text.replace("_", ""))):
        raise ValueError("infinity and nan are not allowed; write a number")
    return value


def _date(text: str) -> str:
    raise ValueError(f"YAML reads {text[:40]} as a date; put it in quotes")


#: What YAML 1.1 takes a plain scalar for -> how it is read. Everything else is text.
_READ: dict[str, Callable[[str], Any]] = {
    "null": lambda _: None,
    "bool": lambda text: text.lower() in ("yes", "true", "on"),
    "int": _integer,
    "float": _float,
    "timestamp": _date,
}
