"""Limits of a request's form, read out of the text of a refusal. Pure.

A service may take fewer images in a request than a pack holds, and no `response_format` at all.
It says so in words of its own, mostly with status 400; without these words it is found by asking.
"""

from __future__ import annotations

import re

from pipeline.patterns import lazy

_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_COUNTS = {"single": 1} | {word: count for count, word in enumerate(_WORDS, 1)}
_COUNT = rf"(?P<count>\d{{1,4}}|{'|'.join(_COUNTS)})"
#: A number behind a word of limits, which is no size: "at most 5", "exceeds limit 4", "16 > 10".
_LIMIT = lazy(
    r"(?:\b(?P<below>(?:fewer|less) than(?! or equal))|\b(?:fewer|less) than or equal to|(?<=\d)/|\bat most|\bup to|\bmore than|\bmax(?:imum)?(?:\b|_)|\blimit"
    r"|\bonly\b|\bexceed\w*|\bsupports?|\baccepts?|\ballow\w*|>|≤|<=)"
    rf"[^\d.;>]{{0,40}}?\b{_COUNT}\b(?!\s*(?:[kmg]i?b\b|bytes|px|pixel|token|%|[x×]\s*\d))",
    re.IGNORECASE,
)
_THING = r"(?:image|picture|photo|media|multimodal|attachment)"
#: The words are about how many images there are.
_MANY = lazy(
    rf"too (?:many|much) (?:\w+ ){{0,2}}?{_THING}"
    rf"|(?:number|count) of (?:\w+ ){{0,2}}?{_THING}|(?:num|{_THING}(?:_url)?s?) (?:count|limit|\d)|(?:num|max)[_ ]{_THING}s?"
    rf"|{_THING}s?\b[^.;\d]{{0,30}}\bat most \d"
    rf"|\b(?:\d+|multiple|{'|'.join(_COUNTS)}) (?:\w+ ){{0,2}}?{_THING}s?\b",
    re.IGNORECASE,
)
_NO_PACKS = lazy(
    rf"multi[ -]{_THING}\b[^.;]{{0,20}}\bnot\b|multiple {_THING}s?\b[^.;]{{0,20}}\bnot\b|\bnot\b[^.;]{{0,20}} (?:multiple|several) {_THING}",
    re.IGNORECASE,
)
#: A pack asks for room for all its captions, and the model gives less.
_OUTPUT = lazy(
    r"max_(?:completion_|new_|output_)?tokens\b[^.;]{0,60}(?:too large|at most|above|cannot be|greater|must be|exceed|less than|range|maximum)"
    r"|(?:maximum|max|too many|exceed\w*|at most)[^.;]{0,30}(?:completion|output|new) tokens",
    re.IGNORECASE,
)
_SCHEMA = lazy(
    r"response_format|json_schema|json_object|structured[ _-]?outputs?|guided[ _]|grammar|samplers?\b"
    r"|\bschema",
    re.IGNORECASE,
)


def images_allowed(message: str, count: int) -> int | None:
    """The most images a request may hold, by the words that refused one of `count`; None: not said."""
    if _NO_PACKS.search(message):
        return 1
    if _OUTPUT.search(message):
        return max(1, count // 2)
    if not _MANY.search(message):
        return None
    for match in _LIMIT.finditer(message):
        word = match["count"].lower()
        allowed = _COUNTS.get(word) or int(word)
        allowed -= match["below"] is not None
        if 1 <= allowed < count:
            return allowed
    return None


def blames_schema(message: str) -> bool:
    """Do these words name the form that was asked for the answer?"""
    return _SCHEMA.search(message) is not None
