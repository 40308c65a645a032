"""Where image bytes come from: one reader a kind of value, chosen by the value itself.

| value | kind |
| --- | --- |
| bytes, `{bytes, path}` | as they are |
| `http(s)://…` | `fetch.py` |
| `data:image/…;base64,…` | decoded |
| `package://NAME/PATH` | a file of an installed package that `images.packages` names |
| `file:///…`, anything without a scheme | a file, relative to `images.root` |
"""

from __future__ import annotations

import base64
import binascii
import importlib.resources
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.errors import ImageError
from pipeline.images.fetch import MAX_BYTES
from pipeline.images.settings import ImageSettings

MAX_DATA_URI = 20_000_000
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """What local sources may read."""

    settings: ImageSettings
    #: Base of relative paths.
    root: Path | None


def scheme_of(text: str) -> str:
    """The kind of a text value: a key of `SOURCES`, or an unknown scheme."""
    if text[:5].lower() == "data:":
        return "data"
    found = _SCHEME.match(text)
    return found[1].lower() if found else "path"


def from_path(text: str, places: Places) -> bytes:
    """A local file, absolute or below the root."""
    if "\0" in text or len(text) > 4096:
        raise ImageError("bad_uri", "this is not a file name")
    path = Path(text).expanduser() if text.startswith("~") else Path(text)
    if not path.is_absolute():
        if places.root is None:
            raise ImageError("bad_uri", "a relative path, and images.root is not set")
        path = places.root / path
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ImageError("too_large", f"{path.name}: more than {MAX_BYTES} bytes")
        return path.read_bytes()
    except FileNotFoundError:
        raise ImageError("missing_file", f"{path}: no such file") from None
    except OSError as error:
        raise ImageError("missing_file", f"{path}: {error.strerror}") from None


def from_file_url(text: str, places: Places) -> bytes:
    """`file:///path`; no host but localhost."""
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost"):
        raise ImageError("bad_uri", "a file URL has three slashes: file:///path")
    return from_path(unquote(parts.path), places)


def from_data_uri(text: str, _places: Places) -> bytes:
    """RFC 2397, base64 form only."""
    if len(text) > MAX_DATA_URI:
        raise ImageError("too_large", f"the data URI is longer than {MAX_DATA_URI} characters")
    head, comma, body = text.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise ImageError("bad_uri", "only data:…;base64,… is read")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise ImageError("bad_uri", "the data URI is not base64") from None


def from_package(text: str, places: Places) -> bytes:
    """`package://skimage/data/chelsea.png`, for packages that the job names."""
    name, _, inner = text[len("package://") :].partition("/")
    if name not in places.settings.packages:
        raise ImageError("blocked_address", f"package {name!r} is not in images.packages")
    parts = inner.split("/")
    if not inner or any(part in ("", ".", "..") for part in parts):
        raise ImageError("bad_uri", f"{inner!r} is not a path inside a package")
    try:
        found = importlib.resources.files(name).joinpath(*parts)
        return found.read_bytes()
    except ModuleNotFoundError:
        raise ImageError(
            "missing_file", f"package {name} is not installed (pip install it, then run again)"
        ) from None
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise ImageError("missing_file", f"package {name} has no file {inner}") from None


SOURCES: dict[str, Callable[[str, Places], bytes]] = {
    "path": from_path,
    "file": from_file_url,
    "data": from_data_uri,
    "package": from_package,
}
