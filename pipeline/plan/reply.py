"""Reading captions out of a model's text: one plain caption, or a numbered pack.

A pack's entries are matched by their number, never by position. Whatever is complete is kept;
a number that is unknown, given twice with different words, or part of a list numbered from 0 is
not guessed at: that image is asked again.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

_FENCE = re.compile(r"^\s*```[A-Za-z0-9_-]*\s*\n?(.*?)\n?\s*```\s*$", re.DOTALL)
#: C0 and C1 controls but tab, newline and carriage return; and lone surrogates, which neither
#: UTF-8, SQLite nor Arrow can hold.
_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_QUOTES = {'"': '"', "“": "”", "«": "»", "'": "'"}
_COMMA = re.compile(r",\s*([}\]])")


def safe_text(text: str) -> str:
    """Text that every store can hold: no control characters, no lone surrogates."""
    return _UNSAFE.sub("", text)


def clean_caption(content: str) -> str:
    """A model's text as a caption: no fence, no quotes around all of it, no outer space."""
    text = safe_text(content).strip()
    if fenced := _FENCE.match(text):
        text = fenced[1].strip()
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text


def pack_instruction(prompt: str, count: int) -> str:
    """What a packed request asks for, before its images."""
    return (
        f"{prompt}\n\n"
        f"There are {count} images, each after a line that gives its number. Treat every image "
        "on its own. Answer with JSON alone, one entry for each image, in this form: "
        '{"captions": [{"image": 1, "caption": "…"}, {"image": 2, "caption": "…"}]}'
    )


def response_schema(count: int) -> dict[str, object]:
    """JSON Schema of a packed reply. No bounds on the list: not every service knows them."""
    entry = {
        "type": "object",
        "properties": {"image": {"type": "integer"}, "caption": {"type": "string"}},
        "required": ["image", "caption"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"captions": {"type": "array", "items": entry}},
        "required": ["captions"],
        "additionalProperties": False,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedPack:
    """What a packed reply holds: image number -> caption, cleaned and as the model wrote it."""

    captions: dict[int, str] = field(default_factory=dict)
    raw: dict[int, str] = field(default_factory=dict)
    #: What was wrong with it, in fixed words: `cut`, `zero_based`, `repeated`, `unknown`, `missing`.
    trouble: tuple[str, ...] = ()


def parse_pack(content: str, count: int) -> ParsedPack:
    """Read a packed reply for images 1 … count. Never raises, never guesses."""
    entries, whole = _entries(content)
    trouble = [] if whole else ["cut"]
    numbers = [number for number, _ in entries]
    if 0 in numbers:
        return ParsedPack(trouble=(*trouble, "zero_based"))
    kept: dict[int, str] = {}
    dropped: set[int] = set()
    for number, text in entries:
        if not 1 <= number <= count:
            trouble.append("unknown")
        elif number in kept and kept[number] != text:
            trouble.append("repeated")
            dropped.add(number)
        else:
            kept[number] = text
    raw = {n: t for n, t in kept.items() if n not in dropped and clean_caption(t)}
    if len(raw) < count:
        trouble.append("missing")
    return ParsedPack(
        captions={n: clean_caption(t) for n, t in raw.items()},
        raw=raw,
        trouble=tuple(dict.fromkeys(trouble)),
    )


def _entries(content: str) -> tuple[list[tuple[int, str]], bool]:
    """(number, text) of every complete entry, and whether the JSON was whole."""
    start = content.find("{")
    bracket = content.find("[")
    if bracket >= 0 and (start < 0 or bracket < start):
        start = bracket
    if start < 0:
        return [], False
    decoder = json.JSONDecoder()
    for text in (content[start:], _COMMA.sub(r"\1", content[start:])):
        try:
            value, _ = decoder.raw_decode(text)
        except (ValueError, RecursionError):
            continue
        found = _of_value(value)
        if found or value in ({"captions": []}, []):
            return found, True
    return _scan(content, decoder), False


def _of_value(value: object) -> list[tuple[int, str]]:
    """Entries of a whole JSON value: {captions: […]}, a bare list, or one single object."""
    if isinstance(value, dict):
        inner = value.get("captions")
        if isinstance(inner, list):
            value = inner
        elif isinstance(inner, dict):
            value = [inner]
        else:
            value = [value]
    if not isinstance(value, list):
        return []
    return [entry for one in value if (entry := _entry(one)) is not None]


def _entry(value: object) -> tuple[int, str] | None:
    if not isinstance(value, dict):
        return None
    number, text = value.get("image"), value.get("caption")
    if isinstance(number, str) and number.strip().isdecimal():
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int) or not isinstance(text, str):
        return None
    return number, text


def _scan(content: str, decoder: json.JSONDecoder) -> list[tuple[int, str]]:
    """Complete entries of a reply that is cut or broken: every object that decodes by itself."""
    found: list[tuple[int, str]] = []
    at = content.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(content, at)
        except (ValueError, RecursionError):
            at = content.find("{", at + 1)
            continue
        found += _of_value(value)
        at = content.find("{", end)
    return found


def share(total: int | None, count: int) -> list[int | None]:
    """Split a whole number over `count` images so that the shares add up to it again."""
    if total is None or count < 1:
        return [None] * count
    low, more = divmod(total, count)
    return [low + (index < more) for index in range(count)]
