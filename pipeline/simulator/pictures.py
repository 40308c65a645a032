"""Image parts: what arrived, decoded, or what is wrong with it.

Small parts are read on the loop; decoding and large ones go to a thread. What was seen is kept
by the bytes' hash, so the same image is decoded once.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.simulator.describe import BadImage, HugeImage, Seen, magic, see
from pipeline.simulator.knobs import Knobs
from pipeline.simulator.parse_request import Part

_KEPT = 8_000
#: Base64 text above this length is decoded and hashed in a thread.
_LARGE = 400_000

#: extract: not fetchable, no data URI, a PDF. base64: doubled or broken data. mime: a type that
#: is not taken. process: cannot be decoded. mislabelled: another type than declared.
#: uri: a URL where none is taken. large: too many bytes. pixels: too many pixels.
Why = Literal["extract", "base64", "mime", "process", "mislabelled", "uri", "large", "pixels"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """An image that the service would fetch itself; the caption comes from its address."""

    url: str
    sha256: str
    caption: str

    def facts(self) -> dict[str, Any]:
        return {"url": self.url, "sha256": self.sha256, "caption": self.caption}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """An image part that the service cannot use."""

    why: Why
    part: Part
    #: The type that is not taken.
    mime: str = ""
    #: Of the bytes, where there were any.
    sha256: str | None = None

    def facts(self) -> dict[str, Any]:
        return {"sha256": self.sha256, "trouble": self.why, "mime": self.mime}


Look = Seen | Fetched | Trouble


class ImageDecoder:
    """Looks at image parts; bounded memory of what was seen."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, Seen | Why] = OrderedDict()

    async def look(self, part: Part, knobs: Knobs) -> Look:
        """What an image part holds."""
        if part.url[:5].lower() != "data:":
            return _fetched(part, knobs)
        if len(part.url) > _LARGE:
            loop = asyncio.get_running_loop()
            opened = await loop.run_in_executor(None, _opened, part, knobs)
        else:
            opened = _opened(part, knobs)
        if isinstance(opened, Trouble):
            return opened
        data, mime, digest = opened
        if digest not in self._seen:
            loop = asyncio.get_running_loop()
            self._seen[digest] = await loop.run_in_executor(None, _seen, data, mime, knobs)
            while len(self._seen) > _KEPT:
                self._seen.popitem(last=False)
        decoded = self._seen[digest]
        if isinstance(decoded, Seen):
            return decoded
        return Trouble(why=decoded, part=part, mime=mime, sha256=digest)


def _opened(part: Part, knobs: Knobs) -> tuple[bytes, str, str] | Trouble:
    """(bytes, media type, sha256) of a data URI."""
    head, comma, text = part.url.partition(",")
    declared, _, coding = head[5:].partition(";")
    if not comma or coding != "base64" or not declared:
        return Trouble(why="extract", part=part)
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return Trouble(why="base64", part=part)
    digest = hashlib.sha256(data).hexdigest()
    declared = declared.lower().replace("image/jpg", "image/jpeg")
    kind = magic(data)
    if "application/pdf" in (kind, declared):
        return Trouble(why="extract", part=part, sha256=digest)
    if len(data) > knobs.max_image_bytes:
        return Trouble(why="large", part=part, sha256=digest)
    if declared not in knobs.mimes:
        return Trouble(why="mime", part=part, mime=declared, sha256=digest)
    if kind is None:
        return Trouble(why="process", part=part, sha256=digest)
    if kind not in knobs.mimes:
        return Trouble(why="mime", part=part, mime=kind, sha256=digest)
    if kind != declared and knobs.strict_mime:
        return Trouble(why="mislabelled", part=part, mime=kind, sha256=digest)
    return data, kind, digest


def _seen(data: bytes, mime: str, knobs: Knobs) -> Seen | Why:
    try:
        return see(data, mime, max_pixels=knobs.max_pixels)
    except HugeImage:
        return "pixels"
    except BadImage:
        return "process"


def _fetched(part: Part, knobs: Knobs) -> Fetched | Trouble:
    """Nothing is ever fetched: the simulator has no business on the network."""
    if not part.url.lower().startswith(("http://", "https://")):
        return Trouble(why="extract", part=part)
    if not knobs.fetches_urls:
        return Trouble(why="uri", part=part)
    digest = hashlib.sha256(part.url.encode(errors="replace")).hexdigest()
    if share_of(digest) < knobs.url_failures:
        return Trouble(why="extract", part=part)
    caption = f"The picture at an address whose hash is {digest[:12]}."
    return Fetched(url=part.url, sha256=digest, caption=caption)


def share_of(sha256: str) -> float:
    """Where a hash falls between 0 and 1: the lot of this image, always the same."""
    return int(sha256[:8], 16) / 2**32
