"""The entries of a pack in the JSON of a model's text: whole, wrapped, cut or not quite JSON. Pure.

Never raises, and never guesses: an entry has its number beside it, in one of the forms that are met.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeGuard

import orjson

from pipeline.captioning.caption_text import value_of
from pipeline.captioning.number_words import IMAGE_WORDS, number_of
from pipeline.captioning.numbered_list import numbered
from pipeline.patterns import lazy
from pipeline.values import dataclass

#: Places where JSON may begin that are tried in vain before the rest is given up.
MAX_FALSE_STARTS = 1_000

START = lazy(r"[{\[]")
#: A JSON string (perhaps cut), or a comma before a closing bracket.
_TRAILING_COMMA = lazy(r'("(?:[^"\\]++|\\.)*+(?:"|\\?\Z))|,(?=\s*[}\]])', re.DOTALL)
_NUMBER = lazy(
    rf"\s*(?:{IMAGE_WORDS}(?: ?(?:no|number|nr|num))?\.?)?[\s_-]*#?\s*(\d{{1,6}})\s*(?:(?:/|of)\s*\d{{1,4}})?\s*[:.)]?\s*",
    re.IGNORECASE,
)
#: What the fields of an entry are called where no schema names them.
_NUMBERS = (
    *("image", "image_number", "image_no", "number", "image_id", "index", "id", "no", "n"),
    *("position", "picture", "photo", "img", "image_index", "idx"),
)
_TEXTS = (
    "caption",
    "description",
    "text",
    "alt_text",
    "alt",
    "title",
    "content",
    "answer",
    "output",
)

#: Number, caption (empty where none was asked for), and the typed fields beside it.
Entry = tuple[int, str, Mapping[str, object]]
NO_FIELDS: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What an entry of a reply is."""

    #: One image was asked about: an entry without a number is its.
    alone: bool
    #: It has a caption.
    caption: bool
    #: Typed fields that may stand in it.
    fields: Collection[str]

    def others(self, names: Iterable[str]) -> list[str]:
        """The names among these that no typed field has."""
        return [name for name in names if name not in self.fields]


@dataclass(frozen=True, slots=True)
class EntriesRead:
    """What JSON a text holds."""

    #: Every complete entry, in order.
    entries: list[Entry]
    #: All of it was whole.
    whole: bool
    #: The list was not closed before the text ended.
    cut: bool


def read_entries(content: str, wanted: Wanted) -> EntriesRead:
    """The entries of a text; trailing commas are mended where that brings more to light."""
    if wanted.caption and (entries := _exact(content)) is not None:
        return EntriesRead(entries, True, cut=False)
    read = _scan(content, wanted)
    if not read.whole:
        mended = _scan(_TRAILING_COMMA.sub(lambda match: match[1] or "", content), wanted)
        if mended.whole or len(mended.entries) > len(read.entries):
            return mended
    return read if read.entries else _otherwise(content, wanted) or read


def _otherwise(content: str, wanted: Wanted) -> EntriesRead | None:
    """The entries of what Python writes instead of JSON, or of JSON inside a JSON string."""
    begun = START.search(content)
    if begun is None:
        return None
    value = value_of(content) if content[:1] == '"' else None
    if isinstance(value, str):
        return _scan(value, wanted)
    end = max(content.rfind("}"), content.rfind("]")) + 1
    # Python takes a name that is given twice.
    quoted = "'" in content[begun.start() : begun.end() + 20]
    entries = list(_of_value(value_of(content[begun.start() : end]), wanted)) if quoted else []
    return EntriesRead(entries, True, cut=False) if entries else None


def _exact(content: str) -> list[Entry] | None:
    """The entries of a reply that is to the letter what was asked for, without typed fields, else
    None."""
    try:
        value = orjson.loads(content)
        (entries,) = value.values()
        numbered = list[Entry]()
        for entry in entries:
            number, text = entry["image"], entry["caption"]
            if type(number) is not int or type(text) is not str or len(entry) != 2:
                return None
            numbered.append((number, text, NO_FIELDS))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    exact = (
        "captions" in value
        and bool(numbered)
        # No name is given twice, which orjson would not tell.
        and content.count('"image"') == content.count('"caption"') == len(numbered)
        and content.count('"captions"') == 1
    )
    return numbered if exact else None


def _scan(content: str, wanted: Wanted) -> EntriesRead:
    """Entries of every JSON value in a text. Where one does not decode, those inside may."""
    entries: list[Entry] = []
    at = end = false_starts = 0
    bare = False
    while start := START.search(content, at):
        at = start.end()
        try:
            value, at = _DECODER.raw_decode(content, start.start())
        except (ValueError, RecursionError):
            false_starts += 1
            if false_starts > MAX_FALSE_STARTS:
                break
            continue
        if new := list(_of_value(value, wanted)):
            entries += new
            end = at
            bare = bare or (isinstance(value, dict) and "image" in value)
    # Entries that stand in a whole list are whole, whatever braces there are around it.
    whole = bool(entries) and not (false_starts and bare)
    return EntriesRead(entries, whole, cut=not whole and "]" not in content[end:])


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object; a name given twice with different values has none."""
    values = dict(pairs)
    if len(values) < len(pairs):
        for name, value in pairs:
            if name in values and values[name] != value:
                del values[name]
    return values


#: Not strict: a newline inside a string is no reason to lose a caption.
_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_once)


def _of_value(value: object, wanted: Wanted) -> Iterator[Entry]:
    """Entries anywhere in a JSON value: {image, caption, …} objects, or a map of number to caption
    or to such an object."""
    waiting = [value]
    while waiting:
        value_here = waiting.pop()
        if isinstance(value_here, list):
            if wanted.caption and (pair := _pair(value_here)) is not None:
                yield pair
                continue
            for text in filter(_is_text, value_here):
                if wanted.caption and (entry_here := numbered(text)) is not None:
                    yield (*entry_here, NO_FIELDS)
            waiting += reversed(value_here)
        elif not isinstance(value_here, dict) or not value_here:
            continue
        elif (entry := _entry(value_here, wanted)) is not None:
            yield entry
        elif "image" in value_here or "caption" in value_here:
            if wanted.caption and not wanted.fields:
                yield from _columns(value_here)
        elif all(_number(name) is not None for name in value_here):
            for name, inner in value_here.items():
                number = _number(name) or 0
                if isinstance(inner, str) and wanted.caption:
                    yield number, inner, NO_FIELDS
                elif isinstance(inner, dict):
                    yield from _of_value({"image": number, **inner}, wanted)
                else:
                    waiting.append(inner)
        else:
            waiting += reversed([_inside(inner) for inner in value_here.values()])


def _inside(value: object) -> object:
    """JSON that stands in a string of JSON."""
    is_json = isinstance(value, str) and value.lstrip()[:1] in ("{", "[")
    return value_of(str(value)) if is_json else value


def _pair(value: list[object]) -> Entry | None:
    """`[1, "A caption."]`."""
    if len(value) == 2 and isinstance(value[1], str) and type(value[0]) is int:
        return value[0], value[1], NO_FIELDS
    return None


def _columns(value: dict[str, object]) -> Iterator[Entry]:
    """`{"image": [1, 2], "caption": ["…", "…"]}`."""
    numbers, texts = value.get("image"), value.get("caption")
    if isinstance(numbers, list) and isinstance(texts, list) and len(numbers) == len(texts):
        for number, text in zip(map(_number, numbers), texts, strict=True):
            if number is not None and isinstance(text, str):
                yield number, text, NO_FIELDS


def _entry(value: dict[str, object], wanted: Wanted) -> Entry | None:
    """The entry that a JSON object is, if it is one."""
    numbered = _first(value, wanted.others(_NUMBERS))
    said = _first(value, wanted.others(_TEXTS)) if wanted.caption else None
    number = _number(value[numbered]) if numbered else 1 if wanted.alone else None
    text = _alone(value[said]) if said else None
    fits = isinstance(text, str) if wanted.caption else numbered or "captions" not in value
    if number is None or not fits:
        return None
    more = {name: inner for name, inner in value.items() if name not in (numbered, said)}
    return number, text if isinstance(text, str) else "", more


def _alone(value: object) -> object:
    """The text of a list of one, or of an object with nothing else in it."""
    if isinstance(value, list | dict) and len(value) == 1:
        return next(iter(value.values() if isinstance(value, dict) else value))
    return value


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str)


def _first(entry: dict[str, object], names: Iterable[str]) -> str | None:
    """The first of these names that an entry has, in whatever letters."""
    names = tuple(names)
    if (exact := next((name for name in names if name in entry), None)) is not None:
        return exact
    spelled = {str(name).lower(): name for name in entry}
    return next((spelled[name] for name in names if name in spelled), None)


def _number(value: object) -> int | None:
    """An image's number: 3, 3.0, "3" or "Image 3"."""
    if isinstance(value, dict) and len(value) == 1:
        value = next(iter(value.values()))
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value)
        return int(match[1]) if match else number_of(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value == value // 1 else None
