"""Reading captions out of a model's text: one plain caption, or a numbered pack.

A pack's entries are matched by their number, never by position. Whatever is complete is kept,
also from a reply that is cut, wrapped in prose or not quite JSON; a number that is unknown, given
twice with different words, out of turn in a list that was cut, or part of a list that counts from
elsewhere than 1 is not guessed at: that image is asked again. Nothing here raises on any text.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterable, Iterator
from dataclasses import field

import orjson

from pipeline.captioning.answer import answer_of
from pipeline.captioning.numbered_list import numbered_list
from pipeline.captioning.prompt_format import pack_instruction, response_schema
from pipeline.values import dataclass

#: Longest reply that is read; 8,192 tokens are some 40,000 characters.
MAX_CHARS = 1_000_000
#: Places where JSON may begin that are tried in vain before the rest is given up.
MAX_FALSE_STARTS = 1_000

_FENCE = "```"
#: After an opening fence: its language, and the rest of its line where that is blank.
_LANGUAGE = re.compile(r"[\w-]*[^\S\n]*\n?")
#: C0 and C1 controls but tab, newline and carriage return; and lone surrogates, which neither
#: UTF-8, SQLite nor Arrow can hold.
_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
#: Of these, those that stand for a space.
_SPACES = str.maketrans(dict.fromkeys("\x0b\x0c\x1c\x1d\x1e\x1f\x85", " "))
_INVISIBLE = "\u00ad\u115f\u1160\u180e\u2800\u3164\ufeff\uffa0" + "".join(
    map(chr, [*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070)])
)
#: What is not seen at either end of a caption.
_EDGES = "".join(chr(code) for code in range(0x3001) if chr(code).isspace()) + _INVISIBLE
_QUOTES = {'"': '"', "“": "”", "«": "»", "'": "'", "„": "“", "‘": "’", "「": "」"}
#: Letters, digits and stops that a caption may end with as it is.
_END = frozenset(string.ascii_letters + string.digits + ".!?")
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
_LABEL = re.compile(r"\**image\s*#?(\d{1,6})\s*\**:\**\s*", re.IGNORECASE)
_LABEL_BEGINS = frozenset("*iIıİ")
_ENTRY_BEGUN = re.compile(r'"image"\s*:\s*"?(\d{1,6})')


def safe_text(text: str) -> str:
    """Text that every store can hold: no control characters, no lone surrogates."""
    if text.isprintable() or _UNSAFE.search(text) is None:
        return text
    return _UNSAFE.sub("", text.translate(_SPACES))


def clean_caption(content: str) -> str:
    """A model's text as a caption: no fence, no quotes around all of it, nothing unseen around."""
    if (
        content.isascii()
        and content.isprintable()
        and content[:1].isalnum()
        and content[-1] in _END
    ):
        return content  # most are: nothing here would change it
    text = safe_text(content).strip(_EDGES)
    if text.startswith(_FENCE) and text.endswith(_FENCE) and len(text) >= 2 * len(_FENCE):
        inside = text[len(_FENCE) : -len(_FENCE)]
        language = _LANGUAGE.match(inside)
        text = inside[language.end() if language else 0 :].strip(_EDGES)
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        text = text[1:-1].strip(_EDGES)
    return text


def caption_of(content: str) -> str:
    """The caption in a model's whole text, without thoughts and wrappers."""
    return clean_caption(answer_of(content).text)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedPack:
    """What a packed reply holds: image number -> caption, cleaned and as the model wrote it."""

    captions: dict[int, str] = field(default_factory=dict)
    raw: dict[int, str] = field(default_factory=dict)
    #: What was wrong with it, in fixed words: `broken` (not whole JSON), `cut` (at its end),
    #: `renumbered`, `repeated`, `unknown`, `missing`.
    trouble: tuple[str, ...] = ()


def parse_pack(content: str, count: int, *, cut: bool = False) -> ParsedPack:
    """Read a packed reply for images 1 … count. Never raises, never guesses.

    cut: its text is known to lack its end.
    """
    text = answer_of(content[:MAX_CHARS]).text
    read = _read(text)
    if not read.entries and not cut and (listed := numbered_list(text, count)) is not None:
        read = _Read(list(enumerate(listed, 1)), True, cut=False)
    entries, trouble = read.entries, ([] if read.whole else ["broken"])
    if _renumbered({number for number, _ in entries}, count):
        return ParsedPack(trouble=(*trouble, "renumbered"))
    kept: dict[int, str] = {}
    dropped: set[int] = set()
    for number, text in entries:
        if text.strip() in _PLACEHOLDERS:
            continue
        if not 1 <= number <= count:
            trouble.append("unknown")
        elif number in kept and kept[number] != text:
            trouble.append("repeated")
            dropped.add(number)
        else:
            kept[number] = text
    if read.cut:
        # What would have contradicted an entry out of turn may be what was cut off.
        trouble.append("cut")
        dropped |= kept.keys() - _leading(number for number, _ in entries)
    captions = {n: _own(n, text) for n, text in sorted(kept.items()) if n not in dropped}
    captions = {n: caption for n, caption in captions.items() if caption}
    if len(captions) < count:
        trouble.append("missing")
    return ParsedPack(
        captions=captions,
        raw={n: kept[n] for n in captions},
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
    caption = clean_caption(text)
    if caption[:1] not in _LABEL_BEGINS:
        return caption
    label = _LABEL.match(caption)
    if label is None:
        return caption
    return clean_caption(caption[label.end() :]) if int(label[1]) == number else ""


def _leading(numbers: Iterable[int]) -> set[int]:
    """The numbers of a list for as long as it counts 1, 2, 3 …"""
    leading: set[int] = set()
    for number in numbers:
        if number != len(leading) + 1:
            break
        leading.add(number)
    return leading


@dataclass(frozen=True, slots=True)
class _Read:
    """What JSON a text holds."""

    #: (number, text) of every complete entry, in order.
    entries: list[tuple[int, str]]
    #: All of it was whole.
    whole: bool
    #: The list was not closed before the text ended.
    cut: bool


def _read(content: str) -> _Read:
    """The entries of a text; trailing commas are mended where that brings more to light."""
    if (entries := _exact(content)) is not None:
        return _Read(entries, True, cut=False)
    read = _scan(content)
    if not read.whole:
        mended = _scan(_TRAILING_COMMA.sub(lambda match: match[1] or "", content))
        if mended.whole or len(mended.entries) > len(read.entries):
            return mended
    return read


def _exact(content: str) -> list[tuple[int, str]] | None:
    """The entries of a reply that is to the letter what was asked for, else None."""
    try:
        value = orjson.loads(content)
        (entries,) = value.values()
        numbered = []
        for entry in entries:
            number, text = entry["image"], entry["caption"]
            if type(number) is not int or type(text) is not str or len(entry) != 2:
                return None
            numbered.append((number, text))
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


def _scan(content: str) -> _Read:
    """Entries of every JSON value in a text. Where one does not decode, those inside may."""
    entries: list[tuple[int, str]] = []
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
        if new := list(_of_value(value)):
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


def _of_value(value: object) -> Iterator[tuple[int, str]]:
    """Entries anywhere in a JSON value: {image, caption} objects, or a map of number to caption."""
    waiting = [value]
    while waiting:
        value_here = waiting.pop()
        if isinstance(value_here, list):
            waiting += reversed(value_here)
        elif isinstance(value_here, dict):
            if (name := _first(value_here, _NUMBERS)) and (said := _first(value_here, _TEXTS)):
                number, text = _number(value_here[name]), value_here[said]
                if number is not None and isinstance(text, str):
                    yield number, text
            elif "image" in value_here or "caption" in value_here:
                continue
            elif value_here and all(
                isinstance(text, str) and _number(name) is not None
                for name, text in value_here.items()
            ):
                yield from ((_number(name) or 0, text) for name, text in value_here.items())
            else:
                waiting += reversed(value_here.values())


def _first(entry: dict[str, object], names: Iterable[str]) -> str | None:
    return next((name for name in names if name in entry), None)


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
    "parse_pack",
    "response_schema",
    "safe_text",
    "share",
    "suspect_of",
]
