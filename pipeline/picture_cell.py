"""The one picture of a manifest cell that wraps it: base64 without a head, a list of one, JSON text.

A text is base64 only when it begins like a picture and decodes to what begins like one up to its
size; else it stays the path that it may be.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

import orjson

#: First letters of a text that may wrap a picture, as a regular expression for Arrow too. Base64
#: of JPEG, PNG, WebP, GIF, HEIC and AVIF, TIFF; JSON.
MAY_WRAP = r"^\s*(/9j/|_9j_|iVBORw0KGgo|UklGR|R0lGOD|AAAA..Z0eX|SUkqA|TU0AK|\[\s*[\]\[{\"]|\{\s*\"(bytes|path)\")"
_MAY_WRAP = re.compile(MAY_WRAP)
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_URL_SAFE = str.maketrans("-_", "+/")
#: How pictures begin, up to where their size is told.
_PICTURE = re.compile(
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
    text = "".join(text.split()).translate(_URL_SAFE)
    if _BASE64.fullmatch(text) is None:
        return None
    text = text.rstrip("=")
    text = text[: len(text) - (len(text) % 4 == 1)]
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        return None
    return content if _PICTURE.match(content) else None


def _of_json(text: str) -> object:
    """A JSON list of pictures or a `{bytes, path}` as text; what is anything else stays text."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
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
