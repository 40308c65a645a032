"""Reading captions out of a model's text: one plain caption, or a numbered pack.

A pack's entries are matched by their number, never by position. Whatever is complete is kept,
also from a reply that is cut, wrapped in prose or not quite JSON; a number that is unknown, given
twice with different words, out of turn in a list that was cut, or part of a list that counts from
elsewhere than 1 is not guessed at: that image is asked again. Nothing here raises on any text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import field
from types import MappingProxyType
from typing import TypeGuard

import orjson

from pipeline.captioning.answer import answer_of
from pipeline.captioning.caption_text import caption_of, clean_caption, safe_text, value_of
from pipeline.captioning.numbered_list import numbered, numbered_list
from pipeline.captioning.prompt_format import pack_instruction, response_schema
from pipeline.values import dataclass

#: Longest reply that is read; 8,192 tokens are some 40,000 characters.
MAX_CHARS = 1_000_000
#: Places where JSON may begin that are tried in vain before the rest is given up.
MAX_FALSE_STARTS = 1_000

#: The form's own example, echoed.
_PLACEHOLDERS = frozenset({"…", "..."})

_START = re.compile(r"[{\[]")
#: A JSON string (perhaps cut), or a comma before a closing bracket.
_TRAILING_COMMA = re.compile(r'("(?:[^"\\]++|\\.)*+(?:"|\\?\Z))|,(?=\s*[}\]])', re.DOTALL)
_NUMBER = re.compile(
    r"\s*(?:image|picture|photo|img|caption)?[\s_-]*#?\s*(\d{1,6})\s*[:.]?\s*", re.IGNORECASE
)
#: What the fields of an entry are called where no schema names them.
_NUMBERS = ("image", "image_number", "image_no", "number", "image_id", "index", "id")
_TEXTS = ("caption", "description", "text")
_LABEL = re.compile(r"[\s\"“*_#\[]{0,9}image\s?#?(\d{1,6})\s?[*_\]]{0,3}:\**\s?", re.IGNORECASE)
#: The caption in JSON that may be cut anywhere after its opening quote.
_CAPTION_BEGUN = re.compile(r'"caption"\s*:\s*"((?:[^"\\]++|\\.)*+)', re.DOTALL)
_ENTRY_BEGUN = re.compile(r'"image"\s*:\s*"?(\d{1,6})')


def parse_fields(content: str, fields: Collection[str]) -> ParsedPack:
    """Read the JSON of a request of one image: caption and typed fields. A caption alone is kept,
    whether its JSON was cut or it came as prose."""
    pack = parse_pack(content, 1, fields=fields)
    if pack.captions or not {"unknown", "repeated", "renumbered"}.isdisjoint(pack.trouble):
        return pack
    text = answer_of(content[:MAX_CHARS]).text
    begun = _CAPTION_BEGUN.search(text)
    prose = "" if _START.search(text) else text
    raw = prose if begun is None else _unquoted(begun[1])
    caption = clean_caption(raw) if raw else ""
    return ParsedPack(captions={1: caption}, raw={1: raw}, fields={1: {}}) if caption else pack


def _unquoted(inside: str) -> str:
    """What stands between the quotes of a JSON string, perhaps cut; empty where it is none."""
    try:
        text = json.loads(f'"{inside}"', strict=False)
    except ValueError:
        return ""
    return text if isinstance(text, str) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedPack:
    """What a packed reply holds: image number -> caption, cleaned and as the model wrote it."""

    captions: dict[int, str] = field(default_factory=dict)
    raw: dict[int, str] = field(default_factory=dict)
    #: image number -> what else its entry holds, as it came.
    fields: dict[int, Mapping[str, object]] = field(default_factory=dict)
    #: What was wrong with it, in fixed words: `broken` (not whole JSON), `cut` (at its end),
    #: `renumbered`, `repeated`, `unknown`, `missing`.
    trouble: tuple[str, ...] = ()


def parse_pack(
    content: str,
    count: int,
    *,
    cut: bool = False,
    caption: bool = True,
    fields: Collection[str] = (),
) -> ParsedPack:
    """Read a packed reply for images 1 … count, or one image's JSON, which needs no number. Never
    raises, never guesses.

    cut: its text is known to lack its end. caption: False where only typed fields were asked for.
    fields: the names of these.
    """
    text = answer_of(content[:MAX_CHARS]).text
    read = _read(text, _Wanted(alone=count == 1, caption=caption, fields=fields))
    if (
        not read.entries
        and not cut
        and caption
        and (listed := numbered_list(text, count)) is not None
    ):
        read = _Read([(n, said, _NO_FIELDS) for n, said in enumerate(listed, 1)], True, cut=False)
    entries, trouble = read.entries, ([] if read.whole else ["broken"])
    if _renumbered({number for number, _, _ in entries}, count):
        return ParsedPack(trouble=(*trouble, "renumbered"))
    kept: dict[int, str] = {}
    beside: dict[int, Mapping[str, object]] = {}
    dropped: set[int] = set()
    for number, text, more in entries:
        if caption and text.strip() in _PLACEHOLDERS:
            continue
        if not 1 <= number <= count:
            trouble.append("unknown")
        elif number in kept and (kept[number], beside[number]) != (text, more):
            trouble.append("repeated")
            dropped.add(number)
        else:
            kept[number], beside[number] = text, more
    if read.cut:
        # What would have contradicted an entry out of turn may be what was cut off.
        trouble.append("cut")
        dropped |= kept.keys() - _leading(number for number, _, _ in entries)
    captions = {n: _own(n, text) for n, text in sorted(kept.items()) if n not in dropped}
    captions = {n: text for n, text in captions.items() if text or not caption}
    if len(captions) < count:
        trouble.append("missing")
    return ParsedPack(
        captions=captions,
        raw={n: kept[n] for n in captions},
        fields={n: beside[n] for n in captions},
        trouble=tuple(dict.fromkeys(trouble)),
    )


def suspect_of(content: str, count: int) -> int | None:
    """The number of the image at which a filter cut this reply; None when the text does not tell.

    It is the entry that was begun and not finished, or else the one after those that are
    complete, provided they are the first ones without a gap.
    """
    pack = parse_pack(content, count)
    done = len(pack.captions)
    if "renumbered" in pack.trouble or sorted(pack.captions) != list(range(1, done + 1)):
        return None
    begun = [int(number) for number in _ENTRY_BEGUN.findall(answer_of(content).text)]
    if not begun or done >= count or begun[-1] not in (done, done + 1):
        return None
    return done + 1


def _renumbered(numbers: set[int], count: int) -> bool:
    """Does the list count from elsewhere than 1, so that every number may be off?"""
    if 0 in numbers:
        return True
    if len(numbers) != count or count < 2:
        return False
    return min(numbers) != 1 and max(numbers) - min(numbers) == count - 1


def _own(number: int, text: str) -> str:
    """The caption without an echoed label; empty if the label is another image's."""
    label = _LABEL.match(text)
    if label is None:
        return caption_of(text)
    return caption_of(text[label.end() :]) if int(label[1]) == number else ""


def _leading(numbers: Iterable[int]) -> set[int]:
    """The numbers of a list for as long as it counts 1, 2, 3 …"""
    leading: set[int] = set()
    for number in numbers:
        if number != len(leading) + 1:
            break
        leading.add(number)
    return leading


#: Number, caption (empty where none was asked for), and the typed fields beside it.
_Entry = tuple[int, str, Mapping[str, object]]
_NO_FIELDS: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
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
class _Read:
    """What JSON a text holds."""

    #: Every complete entry, in order.
    entries: list[_Entry]
    #: All of it was whole.
    whole: bool
    #: The list was not closed before the text ended.
    cut: bool


def _read(content: str, wanted: _Wanted) -> _Read:
    """The entries of a text; trailing commas are mended where that brings more to light."""
    if wanted.caption and (entries := _exact(content)) is not None:
        return _Read(entries, True, cut=False)
    read = _scan(content, wanted)
    if not read.whole:
        mended = _scan(_TRAILING_COMMA.sub(lambda match: match[1] or "", content), wanted)
        if mended.whole or len(mended.entries) > len(read.entries):
            return mended
    return read if read.entries else _otherwise(content, wanted) or read


def _otherwise(content: str, wanted: _Wanted) -> _Read | None:
    """The entries of what Python writes instead of JSON, or of JSON inside a JSON string."""
    begun = _START.search(content)
    if begun is None:
        return None
    value = value_of(content) if content[:1] == '"' else None
    if isinstance(value, str):
        return _scan(value, wanted)
    end = max(content.rfind("}"), content.rfind("]")) + 1
    # Python takes a name that is given twice.
    quoted = "'" in content[begun.start() : begun.end() + 20]
    entries = list(_of_value(value_of(content[begun.start() : end]), wanted)) if quoted else []
    return _Read(entries, True, cut=False) if entries else None


def _exact(content: str) -> list[_Entry] | None:
    """The entries of a reply that is to the letter what was asked for, without typed fields, else
    None."""
    try:
        value = orjson.loads(content)
        (entries,) = value.values()
        numbered = list[_Entry]()
        for entry in entries:
            number, text = entry["image"], entry["caption"]
            if type(number) is not int or type(text) is not str or len(entry) != 2:
                return None
            numbered.append((number, text, _NO_FIELDS))
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


def _scan(content: str, wanted: _Wanted) -> _Read:
    """Entries of every JSON value in a text. Where one does not decode, those inside may."""
    entries: list[_Entry] = []
    at = end = false_starts = 0
    bare = False
    while start := _START.search(content, at):
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
    return _Read(entries, whole, cut=not whole and "]" not in content[end:])


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


def _of_value(value: object, wanted: _Wanted) -> Iterator[_Entry]:
    """Entries anywhere in a JSON value: {image, caption, …} objects, or a map of number to caption
    or to such an object."""
    waiting = [value]
    while waiting:
        value_here = waiting.pop()
        if isinstance(value_here, list):
            for text in filter(_is_text, value_here):
                if wanted.caption and (entry_here := numbered(text)) is not None:
                    yield (*entry_here, _NO_FIELDS)
            waiting += reversed(value_here)
        elif not isinstance(value_here, dict) or not value_here:
            continue
        elif (entry := _entry(value_here, wanted)) is not None:
            yield entry
        elif "image" in value_here or "caption" in value_here:
            continue
        elif all(_number(name) is not None for name in value_here):
            for name, inner in value_here.items():
                number = _number(name) or 0
                if isinstance(inner, str) and wanted.caption:
                    yield number, inner, _NO_FIELDS
                elif isinstance(inner, dict):
                    yield from _of_value({"image": number, **inner}, wanted)
                else:
                    waiting.append(inner)
        else:
            waiting += reversed(value_here.values())


def _entry(value: dict[str, object], wanted: _Wanted) -> _Entry | None:
    """The entry that a JSON object is, if it is one."""
    numbered = _first(value, wanted.others(_NUMBERS))
    said = _first(value, wanted.others(_TEXTS)) if wanted.caption else None
    number = _number(value[numbered]) if numbered else 1 if wanted.alone else None
    text = value[said] if said else None
    fits = isinstance(text, str) if wanted.caption else numbered or "captions" not in value
    if number is None or not fits:
        return None
    more = {name: inner for name, inner in value.items() if name not in (numbered, said)}
    return number, text if isinstance(text, str) else "", more


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
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value)
        return int(match[1]) if match else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value == value // 1 else None


def share(total: int | None, count: int) -> list[int | None]:
    """Split a whole number over `count` images by largest remainder: the shares add up again."""
    if total is None or count < 2:
        return [total] * count
    low, more = divmod(total, count)
    return [low + (index < more) for index in range(count)]


__all__ = [
    "ParsedPack",
    "caption_of",
    "clean_caption",
    "pack_instruction",
    "parse_fields",
    "parse_pack",
    "response_schema",
    "safe_text",
    "share",
    "suspect_of",
]
