"""Captions in a numbered list, as models write it where nothing makes them write JSON. Pure.

    1. A dog.        **Image 1:** A dog.        ### Image 1          | 1 | A dog. |
    2. A cat.        **Image 2:** A cat.        A dog.               | 2 | A cat. |

A list is taken only as a whole: its numbers are 1 to N, each once and in order, one for each image
that was sent. With one missing, nothing tells whether the model left an image out and counted on.
"""

from __future__ import annotations

import re
from itertools import pairwise

_NAME = r"(?:(?:image|picture|photo|caption|img)[ \t]{0,3}(?:no\.?|number)?[ \t]{0,3})?"
#: A number at the start of a line, with what sets it off from its caption.
_MARK = re.compile(
    rf"^[ \t]{{0,12}}(?:[-*•>#|]{{1,6}}[ \t]{{0,3}})?(?:\*\*|__)?[(\[]?{_NAME}#?(?P<number>\d{{1,4}})"
    r"[)\]]?[ \t]{0,3}(?:[.:)|–—-][ \t]*(?:\*\*|__)?|(?:\*\*|__)[ \t]*[.:)–—-]?|$)[ \t:]*",
    re.IGNORECASE | re.MULTILINE,
)
_PARAGRAPH = re.compile(r"\n[ \t]*\n")
#: What stands around a table's cell or a rule between entries.
_AROUND = " \t\n|"
_RULE = re.compile(r"\n[ \t]*[-*_]{3,}[ \t]*\Z")


def numbered_list(text: str, count: int) -> list[str] | None:
    """The captions of images 1 … count; None when this is not a whole list of them."""
    marks = [mark for mark in _MARK.finditer(text) if len(mark["number"]) < 4]
    if count < 2 or [int(mark["number"]) for mark in marks] != list(range(1, count + 1)):
        return None
    bodies = [text[this.end() : following.start()] for this, following in pairwise(marks)]
    bodies = [_bare(body) for body in bodies]
    last = _bare(text[marks[-1].end() :])
    if not any(_PARAGRAPH.search(body) for body in bodies):
        # One paragraph each: what follows the last one is said to the reader.
        last = _bare(_PARAGRAPH.split(last, maxsplit=1)[0])
    captions = [*bodies, last]
    return captions if all(captions) else None


def _bare(body: str) -> str:
    return _RULE.sub("", body.rstrip()).strip(_AROUND)
