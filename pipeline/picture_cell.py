"""The one picture of a manifest cell that wraps it: base64 without a head, a list of one, JSON text,
blanks before a data URI. Base64 is read as people's tools leave it: `base64_of`.

A text is base64 only when it begins like a picture and decodes to what begins like one up to its
size; else it stays the path that it may be.
"""

from __future__ import annotations

import ast
import base64
import binascii
import re
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

import orjson

from pipeline.patterns import lazy

#: First letters of a text that may wrap a picture, as a regular expression for Arrow too. Base64
#: of JPEG, PNG, WebP, GIF, HEIC and AVIF, TIFF, also as Python prints bytes; JSON.
MAY_WRAP = r"^\s*(\s(?i:data:)|(?:b['\"])?(?:/9j/|_9j_|iVBORw0KGgo|UklGR|R0lGOD|AAAA..Z0eX|SUkqA|TU0AK)|\[\s*[\]\[{\"']|[<'\"]\s*(?i:https?://)|\{\s*\"(bytes|path)\")"
_MAY_WRAP = lazy(MAY_WRAP)
_BASE64 = lazy(r"[A-Za-z0-9+/]+={0,2}")
#: `str(base64.b64encode(…))`.
_PRINTED = lazy(r"\s*b['\"]([^'\"]*)['\"]\s*")
#: A URL as mails and Markdown mark it, or in quotes.
_AROUND = lazy(r"\s*[<'\"]\s*((?i:https?)://[^\s<>'\"]+)\s*[>'\"]\s*")
_BASE64_HEAD = lazy(r";\s*base64\s*\Z", re.IGNORECASE)
_PYTHON_LIST = lazy(r"\s*\[\s*'")
_URL_SAFE = str.maketrans("-_", "+/")
#: How pictures begin, up to where their size is told.
_PICTURE = lazy(
    rb"\xff\xd8\xff[\xc0-\xfe].*?\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]\0[\x0b\x0e\x11\x14][\x08\x0c]"
    rb"|\x89PNG\r\n\x1a\n\0\0\0\rIHDR.{13}"
    rb"|GIF8[79]a.{16}|RIFF.{4}WEBPVP8.{14}"
    rb"|\0\0\0.ftyp(avi[fs]|hei[cmsx]|hev[cmx]|mi[fa][1f]|msf1).{16}"
    rb"|(II\*\0|MM\0\*).{60}",
    re.DOTALL,
)


class NotOnePicture(ValueError):
    """A list of none or of several pictures; says which."""


def picture_of(cell: object) -> object:
    """Text, bytes or `{bytes, path}`: what the cell wraps, or the cell itself where it wraps nothing.

    NotOnePicture for a list of none or of several.
    """
    if isinstance(cell, str):
        if _MAY_WRAP.match(cell) is None:
            return cell
        if cell.lstrip()[:5].lower() == "data:":
            return cell.strip()
        if (around := _AROUND.fullmatch(cell)) is not None:
            return around[1]
        content = bare_base64(cell)
        return content if content is not None else _of_json(cell)
    if isinstance(cell, list):
        if len(cell) != 1:
            raise NotOnePicture(
                f"a list of {len(cell)} pictures; a row holds one" if cell else "an empty list"
            )
        return cell[0] if isinstance(cell[0], list) else picture_of(cell[0])
    if isinstance(cell, Mapping) and isinstance(cell.get("bytes"), str):
        return {**cell, "bytes": bare_base64(cell["bytes"])}
    return cell


def bare_base64(text: str) -> bytes | None:
    """The picture that a text spells out; None where it is none. A cut text is a cut picture."""
    if (printed := _PRINTED.fullmatch(text)) is not None:
        text = printed[1]
    content = base64_of(text)
    return content if content is not None and _PICTURE.match(content) else None


def bytes_of_data_uri(text: str) -> bytes | None:
    """What a data URI holds; None where it is none of base64."""
    head, comma, body = text.partition(",")
    if not comma or _BASE64_HEAD.search(head) is None:
        return None
    # URL encoding of `+`, `/` and `=` is allowed in a URI.
    plain = unquote_to_bytes(body)
    try:
        return base64.b64decode(plain, validate=True)
    except ValueError:  # not as the standard has it
        return base64_of(plain.decode("latin-1"))


def base64_of(text: str) -> bytes | None:
    """The bytes that base64 stands for, in lines or not, in the alphabet of URLs, with or without
    its `=` at the end; None where it is none."""
    parts = text.strip().split(" ")
    # A form makes blanks of `+`; lines that were joined by blanks are of whole groups of four.
    text = ("+" if any(len(part) % 4 for part in parts[:-1]) else "").join(parts)
    text = "".join(text.split()).translate(_URL_SAFE)
    if _BASE64.fullmatch(text) is None:
        return None
    text = text.rstrip("=")
    text = text[: len(text) - (len(text) % 4 == 1)]
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        return None


def _of_json(text: str) -> object:
    """A JSON list of pictures, or Python's, or a `{bytes, path}` as text; what is anything else stays text."""
    try:
        value = ast.literal_eval(text) if _PYTHON_LIST.match(text) else orjson.loads(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    pictures = value if isinstance(value, list) else [value]
    if not all(isinstance(p, str | None) or _is_struct(p) for p in pictures):
        return text
    return picture_of(value)


def _is_struct(value: object) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and value.keys() <= {"bytes", "path"}
        and all(isinstance(inner, str | None) for inner in value.values())
    )
