"""Captions in a numbered list, as models write it where nothing makes them write JSON. Pure.

    1. A dog.        **Image 1:** A dog.        ### Image 1          | 1 | A dog. |
    2. A cat.        **Image 2:** A cat.        A dog.               | 2 | A cat. |

A list is taken only as a whole: its numbers are 1 to N, each once, one for each image that was sent;
in order, unless each is called an image's. With one missing, nothing tells whether the model left an
image out and counted on. Names of files are no numbers: what they count is not known here.
"""

from __future__ import annotations

import re
import string
from itertools import pairwise

from pipeline.captioning.number_words import IMAGE_WORDS, with_digits
from pipeline.patterns import lazy

#: Words before the number: "Image", "Caption for image", "Bild", "图片".
_NAME = r"(?P<name>(?:[^\W\d_]{1,14}+[ \t]{0,2}+){1,3}+[.:#_-]?[ \t]?)?"
#: A number at the start of a line, with what sets it off from its caption.
_MARK = lazy(
    rf"^[ \t]{{0,12}}(?:[-*•>#|]{{1,6}}[ \t]{{0,3}})?(?P<bold>\*\*|__)?[(\[]?{_NAME}#?(?P<number>\d{{1,4}})(?!\.[a-z]{{3,4}}\b)"
    r"(?:[ \t]?(?:/|of)[ \t]?\d{1,4})?(?:[ \t](?:caption|description))?\ufe0f?\u20e3?"
    r"(?(bold)(?P<shut>\*\*|__)?)[\])]?[ \t]{0,3}"
    r"(?:(?:[.:)\]|–—：、．）\t→=-]|[=-]>)[ \t]*(?(bold)(?:\*\*|__)?)|$|(?<=\u20e3)|,(?=[^\s\d])|(?(bold)(?(shut)|(?!))|(?!)))[ \t:]*"
    # An element: <caption image="1">, <image1>.
    r"|^[ \t]{0,12}<[a-z_]{1,20}[^<>\d\n]{0,20}(?P<element>\d{1,4})[^<>\d\n]{0,3}>",
    re.IGNORECASE | re.MULTILINE,
)
_PARAGRAPH = lazy(r"\n[ \t]*\n")
#: What stands around a table's cell or a rule between entries.
_AROUND = " \t\n|"
_RULE = lazy(r"\n[ \t]*[-*_]{3,}[ \t]*\Z")


def numbered(text: str) -> tuple[int, str] | None:
    """The number that a text begins with, and what stands behind it."""
    mark = _MARK.match(text)
    return (int(mark["number"]), text[mark.end() :]) if mark and mark["number"] else None


#: All in one line.
_INLINE = lazy(
    rf"(?:\A|(?<=[.!?;\"”)] ))(?:{IMAGE_WORDS} ?)?#?(?P<number>\d{{1,3}})[.:)] (?=[\"“]?(?-i:[^\W\da-z]))",
    re.IGNORECASE,
)
_IMAGES = lazy(IMAGE_WORDS, re.IGNORECASE)
#: Letters and Roman numbers, which count as well.
_LETTERED = lazy(
    r"^[ \t]{0,12}[-*•#(\[]{0,3}[ \t]?(?:(?:image|picture|photo|caption) )?(?P<letters>[A-Z]|[IVX]{1,5})[*_]{0,2}[.:)\]]+[*_]{0,2}[ \t]+",
    re.IGNORECASE | re.MULTILINE,
)
_ROMAN = "i ii iii iv v vi vii viii ix x xi xii xiii xiv xv xvi xvii xviii xix xx".split()  # noqa: SIM905 - a list
#: Elements around a caption.
_TAGS = lazy(r"\A(?:\s*<[a-z_]{1,20}>)+|(?:</[a-z_]{1,20}\d{0,4}>\s*)+\Z", re.IGNORECASE)


def numbered_list(text: str, count: int) -> list[str] | None:
    """The captions of images 1 … count; None when this is not a whole list of them."""
    if count < 2:
        return None
    text = with_digits(text)
    marks = list(_MARK.finditer(text))
    # Under "Image 1" there may be lists of other things, and what begins with another name.
    named = dict[str, list[re.Match[str]]]()
    for mark in marks:
        if mark["name"]:
            named.setdefault(mark["name"].strip().lower(), []).append(mark)
    for several in (*named.values(), marks):
        numbers = [int(mark["number"] or mark["element"]) for mark in several]
        if numbers == list(range(1, count + 1)):
            return _captions(text, several)
        if sorted(numbers) == list(range(1, count + 1)) and _IMAGES.search(
            several[0]["name"] or ""
        ):
            captions = _captions(text, several)
            return captions and [captions[numbers.index(n)] for n in range(1, count + 1)]
    lettered = list(_LETTERED.finditer(text))
    if [m["letters"].lower() for m in lettered] in (
        list(string.ascii_lowercase[:count]),
        _ROMAN[:count],
    ):
        return _captions(text, lettered)
    inline = list(_INLINE.finditer(text)) if "\n" not in text.strip() else []
    if [int(mark["number"]) for mark in inline] == list(range(1, count + 1)):
        return _captions(text, inline)
    return None


def _captions(text: str, marks: list[re.Match[str]]) -> list[str] | None:
    """What stands behind each mark; None when it is nothing."""
    bodies = [text[this.end() : following.start()] for this, following in pairwise(marks)]
    bodies = [_bare(body) for body in bodies]
    last = _bare(text[marks[-1].end() :])
    if not any(_PARAGRAPH.search(body) for body in bodies):
        # One paragraph each: what follows the last one is said to the reader.
        last = _bare(_PARAGRAPH.split(last, maxsplit=1)[0])
    captions = [*bodies, last]
    return captions if all(captions) else None


def _bare(body: str) -> str:
    body = _RULE.sub("", body.rstrip().removesuffix("```").rstrip()).strip(_AROUND)
    body = _TAGS.sub("", body)
    return body.replace("**", "", 1) if body.count("**") % 2 else body
