"""A model's text as a caption: safe to store, without fences, quotes and blanks around it. Pure."""

from __future__ import annotations

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
