"""Data URIs (RFC 2397), base64 form only."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import unquote_to_bytes

from pipeline.errors import ImageError
from pipeline.images.sources.base import Places
from pipeline.media import MAX_DATA_URI


def from_data_uri(text: str, _places: Places) -> bytes:
    """The bytes after the comma."""
    if len(text) > MAX_DATA_URI:
        raise ImageError("too_large", f"the data URI is longer than {MAX_DATA_URI} characters")
    head, comma, body = text.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise ImageError("bad_uri", "only data:…;base64,… is read")
    try:
        # URL encoding of `+`, `/` and `=` is allowed in a URI.
        return base64.b64decode(unquote_to_bytes(body), validate=True)
    except (binascii.Error, ValueError):
        raise ImageError("bad_uri", "the data URI is not base64") from None
