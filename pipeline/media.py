"""Facts about pictures that several rooms share."""

from __future__ import annotations

from pipeline.patterns import lazy

#: How the names of pictures end, in small letters.
ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif")  # fmt: skip

#: Characters of a data URI: 20 MB of picture in base64, and its head.
MAX_DATA_URI = 28_000_000

#: A URL without its scheme, as pages write it. A host has a dot or a port: `//data/1.jpg` is a path.
_NETWORK_PATH = lazy(r"//[^/?#\s]*[.:][^/?#\s]*[/?]")


def web_url(text: str) -> str | None:
    """The http(s) URL that a cell holds, without blanks around it and with its scheme; else None."""
    if text[:8].lower().startswith(("https://", "http://")):
        return text.strip()
    text = text.strip()
    if text[:8].lower().startswith(("https://", "http://")):
        return text
    return "https:" + text if _NETWORK_PATH.match(text) else None
