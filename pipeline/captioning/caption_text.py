"""A model's text as a caption: safe to store, without fences, quotes and blanks around it. Pure."""

from __future__ import annotations

import json
import re
import string

from pipeline.captioning.answer import answer_of

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


#: What models write before the only thing that was asked for, and what shows that there is more.
_LABEL = re.compile(
    r"(?:\*\*|#+ )?(?:(?:image|photo|final|short|detailed) )?(?:caption|description|alt[ -]text|answer)"
    r"(?:\*\*)?[ \t]*:[ \t]*(?:\*\*)?[ \t]*\n?(?=[ \t]*\S)",
    re.IGNORECASE,
)
_LABELLED = re.compile(r"^(?:\*\*|[-*#]+ )?\w[\w ]{0,30}(?:\*\*)?:", re.MULTILINE)
_BOXED = re.compile(r"\$*\\boxed\{(?:\\text\{)?([^{}]+)\}{1,2}\$*")
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
    """A model's text as a caption: no fence, no quotes around all of it, nothing unseen around."""
    if (
        content.isascii()
        and content.isprintable()
        and content[:1].isalnum()
        and content[-1] in _END
        and _LABEL.match(content) is None
    ):
        return content  # most are: nothing here would change it
    text = safe_text(content).strip(_EDGES)
    if text.startswith(_FENCE) and text.endswith(_FENCE) and len(text) >= 2 * len(_FENCE):
        inside = text[len(_FENCE) : -len(_FENCE)]
        language = _LANGUAGE.match(inside)
        text = inside[language.end() if language else 0 :].strip(_EDGES)
    if text.startswith(("{", "[")) and (inside_json := _only_text(text)) is not None:
        text = safe_text(inside_json).strip(_EDGES)
    elif (boxed := _BOXED.fullmatch(text)) is not None:
        text = boxed[1].strip(_EDGES)
    elif (label := _LABEL.match(text)) is not None and not _LABELLED.search(text, label.end()):
        text = text[label.end() :].strip(_EDGES)
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        text = text[1:-1].strip(_EDGES)
    return text


def _only_text(text: str) -> str | None:
    """The text of JSON that holds one caption and nothing else; None for any other."""
    try:
        value: object = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
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
    return clean_caption(answer_of(content).text)
