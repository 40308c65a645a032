"""Data URIs (RFC 2397), base64 form only."""

from __future__ import annotations

from pipeline.errors import ImageError
from pipeline.images.sources.base import Places
from pipeline.media import MAX_DATA_URI
from pipeline.picture_cell import bytes_of_data_uri


def from_data_uri(text: str, _places: Places) -> bytes:
    """The bytes after the comma."""
    if len(text) > MAX_DATA_URI:
        raise ImageError("too_large", f"the data URI is longer than {MAX_DATA_URI} characters")
    content = bytes_of_data_uri(text)
    if content is None:
        raise ImageError("bad_uri", "only data:…;base64,… is read, and this is none")
    return content
