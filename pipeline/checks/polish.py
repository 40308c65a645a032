"""Polish: what a caption looks like where it is shown or exported. Pure; the raw text stays stored."""

from __future__ import annotations

import re

from pydantic import Field

from pipeline.patterns import lazy
from pipeline.settings import Settings

_THING = r"(?:image|picture|photo(?:graph)?|scene|illustration|screenshot|painting|drawing|artwork)"
_SHOWS = (
    r"(?:shows|depicts|features|displays|captures|presents|portrays|illustrates|contains|showcases"
    r"|is of|is showing)"
)
#: Openings after which the rest is a caption of its own.
_OPENING = lazy(
    r"(?:(?:\*\*)?(?:caption|description|alt[- ]text)(?:\*\*)?\s*:(?:\*\*)?\s*"
    rf"|(?:the|this) (?:[\w-]+ ){{0,2}}?{_THING} (?:\w+ly )?{_SHOWS} "
    rf"|(?:this|here|it) is (?:an?|the) (?:[\w-]+ ){{0,2}}?{_THING} (?:of|showing|depicting|featuring) "
    rf"|(?:an?|the) {_THING} (?:of|showing|depicting|featuring) "
    rf"|in (?:the|this) {_THING},? (?:we (?:can )?see|you (?:can )?see|there (?:is|are)) "
    r"|(?:we|you) can see )",
    re.IGNORECASE,
)
_QUOTES = str.maketrans({"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‘": "'", "’": "'"})
_BLANKS = lazy(r"[^\S\n]+")
_LINES = lazy(r"\s*\n\s*")
#: The end of a sentence: a stop, with what closes after it; not the point of "Mr." or "3.5".
_END = lazy(
    r"(?<!\b[A-Z])(?<!\b(?:Mr|Dr|St|vs))(?<!\bMrs)[.!?…。！？।][)\"'”’»」]*(?=\s|\Z|[\u3400-\u9fff\u3040-\u30ff])"
)


class PolishSettings(Settings):
    opening: bool = False
    """Take off an opening such as "The image shows"."""
    blanks: bool = False
    """Make runs of blanks one blank, and typographic quotes plain."""
    sentences: bool = False
    """Leave out what follows the last whole sentence, where there is one."""
    one_line: bool = Field(default=False)
    """Put everything on one line."""


def polished(caption: str, settings: PolishSettings) -> str:
    """The caption as it is shown; never empty where it was not."""
    text = caption
    if settings.blanks:
        text = _BLANKS.sub(" ", text.translate(_QUOTES)).strip()
    if settings.opening and (opening := _OPENING.match(text)):
        rest = text[opening.end() :].lstrip()
        text = rest[:1].upper() + rest[1:] if rest else text
    if settings.sentences and (ends := list(_END.finditer(text))):
        text = text[: ends[-1].end()]
    if settings.one_line:
        text = _LINES.sub(" ", text).strip()
    return text or caption
