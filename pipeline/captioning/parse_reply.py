"""Reading captions out of a model's text: one plain caption, or a numbered pack.

A pack's entries are matched by their number, never by position. Whatever is complete is kept,
also from a reply that is cut, wrapped in prose or not quite JSON; a number that is unknown, given
twice with different words, out of turn in a list that was cut, or part of a list that counts from
elsewhere than 1 or ends early is not guessed at: that image is asked again. Nothing here raises on
any text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import field

from pipeline.captioning.answer import answer_of
from pipeline.captioning.caption_text import caption_of, clean_caption, safe_text
from pipeline.captioning.number_words import with_digits
from pipeline.captioning.numbered_list import numbered_list
from pipeline.captioning.pack_entries import NO_FIELDS, START, EntriesRead, Wanted, read_entries
from pipeline.captioning.prompt_format import pack_instruction, response_schema
from pipeline.patterns import lazy
from pipeline.values import dataclass

#: Longest reply that is read; 8,192 tokens are some 40,000 characters.
MAX_CHARS = 1_000_000
#: The form's own example, echoed.
_PLACEHOLDERS = frozenset({"…", "..."})

_LABEL = lazy(
    r"[\s\"“*_#(\[]{0,9}(?:image|picture|photo)\s?#?(\d{1,6})\s?[*_\])]{0,3}\s?(?:(?<=[\])])|[:：–—-])\**\s?",
    re.IGNORECASE,
)
#: No label is longer.
_LABEL_CHARS = 40
#: A number alone before a caption, which may be another image's; and the label of another one inside.
_COUNTED = lazy(r"[\s\"“*_]{0,5}[(\[#]?(\d{1,3})[)\].:]{1,2}\s(?=[\"“*_]{0,3}[^\W\da-z])")
_LABEL_INSIDE = lazy(r"(?<=[.!?\"”])\s{1,4}\**image #?(\d{1,6})\**:", re.IGNORECASE)
#: The caption in JSON that may be cut anywhere after its opening quote.
_CAPTION_BEGUN = lazy(r'"caption"\s*:\s*"((?:[^"\\]++|\\.)*+)', re.DOTALL)
_ENTRY_BEGUN = lazy(r'"image"\s*:\s*"?(\d{1,6})')


def parse_fields(content: str, fields: Collection[str]) -> ParsedPack:
    """Read the JSON of a request of one image: caption and typed fields. A caption alone is kept,
    whether its JSON was cut or it came as prose."""
    pack = parse_pack(content, 1, fields=fields)
    if pack.captions or not {"unknown", "repeated", "renumbered"}.isdisjoint(pack.trouble):
        return pack
    text = answer_of(content[:MAX_CHARS]).text
    begun = _CAPTION_BEGUN.search(text)
    prose = "" if START.search(text) else text
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
    read = read_entries(text, Wanted(alone=count == 1, caption=caption, fields=fields))
    if (
        not read.entries
        and not cut
        and caption
        and (listed := numbered_list(text, count)) is not None
    ):
        read = EntriesRead(
            [(n, said, NO_FIELDS) for n, said in enumerate(listed, 1)], True, cut=False
        )
    entries, trouble = read.entries, ([] if read.whole else ["broken"])
    finished = read.whole and not cut and text.count('"image"') <= len(entries)
    if _renumbered({number for number, _, _ in entries}, count, finished=finished):
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
    if count > 1 and any(_holds_another(number, text) for number, text in kept.items()):
        # Two captions became one: whose the others are is not known.
        trouble.append("repeated")
        kept.clear()
    captions = {n: _own(n, text, count) for n, text in sorted(kept.items()) if n not in dropped}
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
    pack = parse_pack(content, count, cut=True)
    done = len(pack.captions)
    if "renumbered" in pack.trouble or sorted(pack.captions) != list(range(1, done + 1)):
        return None
    begun = [int(number) for number in _ENTRY_BEGUN.findall(answer_of(content).text)]
    if not begun or done >= count or begun[-1] not in (done, done + 1):
        return None
    return done + 1


def _renumbered(numbers: set[int], count: int, *, finished: bool) -> bool:
    """May every number be off? The list counts from elsewhere than 1, or it is finished and lacks its
    last numbers: then it may have passed over an image and counted on."""
    if 0 in numbers:
        return True
    if len(numbers) < count:
        return finished and bool(numbers) and numbers == set(range(1, len(numbers) + 1))
    return (
        1 < count == len(numbers) and min(numbers) != 1 and max(numbers) - min(numbers) == count - 1
    )


def _own(number: int, text: str, count: int) -> str:
    """The caption without an echoed label; empty if the label is another image's."""
    head = text[:_LABEL_CHARS]
    if head[:1].isalpha() and head.isascii() and not (":" in head or "-" in head or "]" in head):
        return caption_of(text)  # most are
    labelled = with_digits(text) if count > 1 else text
    label = _LABEL.match(labelled)
    if label is None:
        counted = _COUNTED.match(labelled) if count > 1 else None
        other = counted is not None and int(counted[1]) != number and int(counted[1]) <= count
        return "" if other else caption_of(text)
    return caption_of(labelled[label.end() :]) if int(label[1]) == number else ""


def _holds_another(number: int, text: str) -> bool:
    """Does the label of another image stand in the midst of a caption?"""
    if _LABEL_INSIDE.search(text) is None:
        return False  # most
    return any(int(label[1]) != number for label in _LABEL_INSIDE.finditer(text))


def _leading(numbers: Iterable[int]) -> set[int]:
    """The numbers of a list for as long as it counts 1, 2, 3 …"""
    leading: set[int] = set()
    for number in numbers:
        if number != len(leading) + 1:
            break
        leading.add(number)
    return leading


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
