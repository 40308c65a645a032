"""Is a caption in one of the languages that were asked for? First by its script, then by its words.

The script decides alone where languages differ in it. Between languages of one script py3langid
is asked (extra `language`), and believed only of captions of some length and where it is sure: of
short ones no detector is (`findings/py3langid_short_captions.sh`). Its model comes with it, 4.5 MB in
all. lingua has 96 MB and takes 500 MB of memory; on the captions of the test both called none of 33
English ones foreign, and lingua was sure of 10 of 13 foreign ones, py3langid of 13.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from pipeline.patterns import lazy

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

_RANGES = {
    "latin": "A-Za-z\u00c0-\u024f\u1e00-\u1eff",
    "cyrillic": "\u0400-\u052f",
    "greek": "\u0370-\u03ff\u1f00-\u1fff",
    "arabic": "\u0600-\u06ff\u0750-\u077f\u08a0-\u08ff\ufb50-\ufdff\ufe70-\ufefe",
    "hebrew": "\u0590-\u05ff",
    "devanagari": "\u0900-\u097f",
    "bengali": "\u0980-\u09ff",
    "tamil": "\u0b80-\u0bff",
    "thai": "\u0e00-\u0e7f",
    "hangul": "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af",
    "kana": "\u3040-\u30ff",
    "han": "\u3400-\u9fff\uf900-\ufaff",
}
_LATIN = ("latin",)
#: ISO 639-1 code -> the scripts that it is written in.
SCRIPTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("en", "de", "fr", "es", "it", "pt", "nl", "pl", "sv", "da", "fi", "cs", "ro", "hu"), _LATIN
    ),
    **dict.fromkeys(("tr", "id", "vi", "no", "sk", "hr", "ca"), _LATIN),
    **dict.fromkeys(("ru", "uk", "bg", "sr"), ("cyrillic",)),
    "el": ("greek",),
    "ar": ("arabic",),
    "fa": ("arabic",),
    "ur": ("arabic",),
    "he": ("hebrew",),
    "hi": ("devanagari",),
    "bn": ("bengali",),
    "ta": ("tamil",),
    "th": ("thai",),
    "ko": ("hangul", "han"),
    "ja": ("kana", "han"),
    "zh": ("han",),
}
#: Share of the letters in another script: names and signs in a picture are foreign too.
FOREIGN = 0.3
#: Fewest words of which the detector is asked, and how sure of another language it must be.
FEWEST_WORDS, SURE = 6, 0.9
_LETTER = lazy(r"[^\W\d_]")


def wrong_language(caption: str, languages: frozenset[str]) -> bool:
    """Is a caption in none of these languages? Not if it cannot be said."""
    letters = _LETTER.findall(caption)
    if not letters:
        return False
    scripts = frozenset(script for code in languages for script in SCRIPTS[code])
    foreign = len(_outside(scripts).findall("".join(letters)))
    if foreign > FOREIGN * len(letters):
        return True
    if "ja" in languages or len(caption.split()) < FEWEST_WORDS:
        return False
    code, sure = _detector().classify(caption)
    return code not in languages and sure >= SURE


@cache
def _outside(scripts: frozenset[str]) -> re.Pattern[str]:
    return re.compile("[^" + "".join(_RANGES[name] for name in sorted(scripts)) + "]")


@cache
def _detector() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(sorted({*SCRIPTS} & {*identifier.labels}))
    return identifier
