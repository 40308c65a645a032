"""A model's text as a caption: safe to store, without fences, quotes and blanks around it. Pure."""

from __future__ import annotations

import ast
import json
import re
import string
from contextlib import suppress
from functools import partial

from pipeline.captioning.answer import answer_of
from pipeline.patterns import lazy

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
#: A letter that is none of the small ones: what a caption begins with, and the words of a label
#: or a mark of a picture mostly do not.
_CAPITAL = r"(?-i:[^\W\da-zß-öø-ÿ])"

#: What models write before the only thing that was asked for, and what shows that there is more.
_LABEL = lazy(
    r"(?:[*_]{1,3}|#{1,6} )?(?:"
    r"(?:(?:image|photo|final|short|detailed) )?(?:caption|description|alt[ -]text|answer)"
    r"|bildunterschrift|beschreibung|l[ée]gende|description de l'image|descripci[oó]n|descri[çc][aã]o|didascalia"
    r"|(?:图片|图像)?(?:描述|说明|标题)|キャプション|说明文"
    r")(?:[*_]{1,3})?(?:[ \t]*[:：][ \t]*(?:[*_]{1,3})?[ \t]*(?:[|>][-+]?[ \t]*(?=\n))?\n?|(?<=[*_])[ \t]*\n\s*)(?=[ \t]*\S)"
    # A heading of its own line.
    r"|#{1,6} [*_]{0,3}(?:image |photo |final )?(?:caption|description|answer)[*_]{0,3}[ \t]*\n\s*(?=\S)"
    # A role, a language, a kind: only before what begins like a caption.
    r"|(?:[*_#]{1,4} ?)?(?:assistant|(?:image|picture|photo)(?: #?\d{1,3})?|(?:output|response|result)|english|en)"
    rf"(?:[*_]{{1,3}})?[:：](?:[*_]{{1,3}})?\s{{1,3}}(?=[\"“*_]{{0,3}}{_CAPITAL})"
    rf"|assistant\n+(?=[\"“*_]{{0,3}}{_CAPITAL})|[\[(](?:english|en)[\])]:?\s(?=[\"“]?{_CAPITAL})"
    # A bullet of one entry.
    r"|(?:[-*•>]\s{1,3})(?=[^\W\d_][^\n]*\Z)",
    re.IGNORECASE,
)
_LABELLED = lazy(
    r"^(?:\*\*|[-*#]+ )?(?!note:|option )\w[\w ]{0,30}(?:\*\*)?:", re.MULTILINE | re.IGNORECASE
)
_BOXED = lazy(
    r"(?:[^\n\\]{0,40}answer(?: is)?:?\s*)?(?:\$+|\\[\[(])?\s*\\(?:boxed|text|textbf)\{(?:\\text\{)?([^{}]+)\}{1,2}\s*(?:\$+|\\[\])])?\.?",
    re.IGNORECASE,
)
#: A picture in Markdown, of which the text is the caption.
_MARKDOWN_PICTURE = lazy(r"!\[([^\[\]]{2,2000})\]\([^()\s]{0,300}\)")
#: All of the text is emphasized.
_EMPHASIS = re.compile(r"(\*{1,3}|_{1,3}|`|\"{3})(?=\S)(.+)(?<=\S)\1", re.DOTALL)
#: The one fenced block of a text that says something around it.
_FENCED = lazy(r"(?:\A|\n)```[\w-]*[^\S\n]*\n(.*?)\n[^\S\n]*```", re.DOTALL)
#: Several captions to choose from: the first one is taken.
_OPTIONS = lazy(
    r"(?:[-*•] )?(?:[*#]{1,4} ?)?(?:option|version|caption) #?(?:1|one|a)\b[^:\n]{0,40}:(?:\*\*)?\s*(?P<first>.+?)"
    r"\n\s{0,20}(?:[-*•] )?(?:[*#]{1,4} ?)?(?:option|version|caption) #?(?:2|two|b)\b.*"
    r"|(?:[\w ]{1,20}[!,.] ?)?(?:here|below|these)\b[^\n:]{0,80}\b(?:options|captions|versions|suggestions|alternatives|descriptions)\b[^\n:]{0,60}:\s*\n\s*"
    r"1[.)] +(?P<one>.+?)\n\s{0,20}2[.)] .*",
    re.IGNORECASE | re.DOTALL,
)
#: What is said to the reader behind a caption: at its end, and looked for in so many characters.
_OFFERS = lazy(
    r"(?:\n\s*|(?<=[.!?\"”)]) )(?:(?:please )?let me know (?:if|whether|what)\b|(?:would|do) you (?:like|want)\b|feel free to\b"
    r"|i hope (?:this|that|it)\b|hope (?:this|that) helps|is there anything\b|if you(?:'d| would| need| have| want)\b)"
    r"[^\n.!?]{0,200}[.!?]?[^\w\n]{0,6}\Z"
    r"|\n\s*(?:[-*_]{3,}\s*\n\s*)?[(*_\[]{0,3}note:[^\n]{0,300}\Z",
    re.IGNORECASE,
)
_OFFER_CHARS = 320
#: The key of an object that holds nothing but the caption.
_CAPTION_KEYS = frozenset(
    {"caption", "description", "text", "answer", "response", "alt_text", "image_description"}
    | {"captions", "image_caption"}
)


def safe_text(text: str) -> str:
    """Text that every store can hold: no control characters, no lone surrogates."""
    if text.isprintable() or _UNSAFE.search(text) is None:
        return text
    return _UNSAFE.sub("", text.translate(_SPACES))


def clean_caption(content: str) -> str:
    """A model's text as a caption: no fence, no label, no quotes around all of it, nothing said to
    the reader behind it, nothing unseen around."""
    if (
        content.isascii()
        and content.isprintable()
        and content[:1].isalnum()
        and content[-1] in _END
        and (":" not in content[:_LABEL_CHARS] or _LABEL.match(content) is None)
        and not _offers(content)
    ):
        return content  # most are: nothing here would change it
    text = safe_text(content).strip(_EDGES)
    for _ in range(_WRAPPERS):
        before, text = text, _unwrapped(text)
        if text == before:
            break
    return text


#: No label is longer.
_LABEL_CHARS = 60
#: So many wrappers may stand around each other.
_WRAPPERS = 4


def _offers(text: str) -> re.Match[str] | None:
    """What is said to the reader at the end of a text."""
    tail = text[-_OFFER_CHARS:].lower()
    if "you" not in tail and "hope" not in tail and "note:" not in tail and "anything" not in tail:
        return None
    return _OFFERS.search(text, max(1, len(text) - _OFFER_CHARS))


def _unwrapped(text: str) -> str:
    """The text without the outermost of what stands around it."""
    if (offer := _offers(text)) is not None:
        text = text[: offer.start()].strip(_EDGES)
    if text.startswith(_FENCE) and text.endswith(_FENCE) and len(text) >= 2 * len(_FENCE):
        inside = text[len(_FENCE) : -len(_FENCE)]
        language = _LANGUAGE.match(inside)
        text = inside[language.end() if language else 0 :].strip(_EDGES)
    elif _FENCE in text:
        text = _fenced(text) or text
    if text.startswith(("{", "[")) and (inside_json := _only_text(text)) is not None:
        text = safe_text(inside_json).strip(_EDGES)
    elif (boxed := _BOXED.fullmatch(text)) or (boxed := _MARKDOWN_PICTURE.fullmatch(text)):
        text = boxed[1].strip(_EDGES)
    elif (options := _OPTIONS.fullmatch(text)) is not None:
        text = str(options["first"] or options["one"]).strip(_EDGES)
    elif (label := _LABEL.match(text)) is not None and not _LABELLED.search(text, label.end()):
        text = text[label.end() :].strip(_EDGES)
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        text = text[1:-1].strip(_EDGES)
    elif (all_of_it := _EMPHASIS.fullmatch(text)) and all_of_it[1] not in all_of_it[2]:
        text = all_of_it[2].strip(_EDGES)
    return text


def _fenced(text: str) -> str | None:
    """The caption in the only fenced block of a text, where it is JSON; None for any other."""
    blocks = _FENCED.findall(text)
    return _only_text(blocks[0].strip(_EDGES)) if len(blocks) == 1 else None


def value_of(text: str) -> object:
    """JSON, or the same as Python writes it, which some models take for it; None for neither."""
    for read in (partial(json.loads, strict=False), ast.literal_eval):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            return read(text)
    return None


def _only_text(text: str) -> str | None:
    """The text of JSON that holds one caption and nothing else; None for any other."""
    value = value_of(text)
    while not isinstance(value, str):
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        elif isinstance(value, dict) and {*map(str.lower, value)} - {"image"} <= _CAPTION_KEYS:
            texts = [inner for name, inner in value.items() if name.lower() != "image"]
            if len(texts) != 1:
                return None
            value = texts[0]
        else:
            return None
    return value if value.strip() else None


def caption_of(content: str) -> str:
    """The caption in a model's whole text, without thoughts and wrappers."""
    caption = clean_caption(answer_of(content).text)
    if caption == content:
        return caption
    # A wrapper may have held another one.
    return clean_caption(answer_of(caption).text)
