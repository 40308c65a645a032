"""The metadata of a GGUF file, read without its weights.

Format: github.com/ggml-org/ggml/blob/master/docs/gguf.md. Only what sizes a model or names its kind
is kept; the tokenizer's long lists are passed over.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

_MAGIC = b"GGUF"
#: Type number of a value -> its struct code; 8 is a string, 9 a list.
_NUMBERS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _LIST = 8, 9
#: Longest list that is kept: one value a layer.
_KEPT = 4096
#: More of anything is damage.
_MOST = 10_000_000
#: A model in several files: the first one is named.
_PART = re.compile(r"-00001-of-(\d{5})\.gguf$")


class NotGguf(ValueError):
    """The file is none, or is damaged; says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Metadata of a GGUF file."""

    facts: Mapping[str, Any]
    #: Bytes of all its files.
    size: int

    @property
    def architecture(self) -> str:
        """`llama`, `qwen2vl`, …; `clip` for a projector."""
        return str(self.facts.get("general.architecture", ""))

    def number(self, name: str) -> int:
        """A fact of the architecture, the largest of a list; 0 when it is not told."""
        value = self.facts.get(f"{self.architecture}.{name}", 0)
        numbers = value if isinstance(value, list) else [value]
        return max((int(each) for each in numbers if isinstance(each, int | float)), default=0)


def read_header(path: Path) -> Header:
    """NotGguf for what is no GGUF file; OSError as it comes."""
    with path.open("rb") as file:
        try:
            if file.read(4) != _MAGIC:
                raise NotGguf("it is no GGUF file")
            version, _, count = struct.unpack("<IQQ", file.read(20))
            if version not in (2, 3) or count > _MOST:
                raise NotGguf(f"its GGUF version {version} is not known")
            facts = dict(_fact(file) for _ in range(count))
        except (struct.error, OverflowError, MemoryError):
            raise NotGguf("it ends within its head: copy or download it again") from None
    return Header(facts=facts, size=sum(part.stat().st_size for part in _parts(path)))


def _parts(path: Path) -> list[Path]:
    """The files of a model that are there."""
    match = _PART.search(path.name)
    if match is None:
        return [path]
    names = [
        f"{path.name[: match.start()]}-{n:05}-of-{match[1]}.gguf"
        for n in range(1, int(match[1]) + 1)
    ]
    return [part for name in names if (part := path.with_name(name)).exists()]


def _fact(file: BinaryIO) -> tuple[str, Any]:
    name = _text(file)
    (kind,) = struct.unpack("<I", file.read(4))
    return name, _value(file, kind)


def _value(file: BinaryIO, kind: int) -> Any:
    """A value; None for a list that is passed over."""
    if kind == _STRING:
        return _text(file)
    if kind in _NUMBERS:
        code = "<" + _NUMBERS[kind]
        return struct.unpack(code, file.read(struct.calcsize(code)))[0]
    if kind != _LIST:
        raise NotGguf(f"it holds a value of the unknown type {kind}")
    inner, count = struct.unpack("<IQ", file.read(12))
    if count > _MOST:
        raise NotGguf("it holds a list that is too long")
    if inner in _NUMBERS and count > _KEPT:
        file.seek(count * struct.calcsize("<" + _NUMBERS[inner]), 1)
        return None
    values = [_value(file, inner) for _ in range(count)]
    return values if len(values) <= _KEPT else None


def _text(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > _MOST:
        raise NotGguf("it holds a text that is too long")
    data = file.read(length)
    if len(data) < length:
        raise NotGguf("it ends within its head: copy or download it again")
    return data.decode("utf-8", "replace")
