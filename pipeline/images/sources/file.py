"""Local files: a path as it is written, or a file URL."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.errors import ImageError
from pipeline.images.limits import MAX_BYTES
from pipeline.images.sources.base import Places, brief, check_size


def from_path(text: str, places: Places) -> bytes:
    """A file, absolute or below the root."""
    if "\0" in text or len(text) > 4096:
        raise ImageError("bad_uri", "this is not a file name")
    try:
        path = Path(text).expanduser() if text.startswith("~") else Path(text)
        if not path.is_absolute():
            if places.root is None:
                raise ImageError("bad_uri", "a relative path, and images.root is not set")
            path = places.root / path
        return read_file(path)
    except (OSError, RuntimeError, UnicodeError) as error:
        # RuntimeError: `~nobody`, a home that does not exist. UnicodeError: a lone surrogate.
        words = error.strerror if isinstance(error, OSError) else "not a file name here"
        raise ImageError("missing_file", f"{brief(text)}: {words}") from None


def read_file(path: Path) -> bytes:
    """A plain file's bytes; raises OSError."""
    # Not to wait for a writer: a pipe would block already here.
    with open(path, "rb", opener=_open) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("missing_file", f"{path}: not a plain file")
        check_size(path.name, status.st_size)
        data = file.read(MAX_BYTES + 1)
    check_size(path.name, len(data))
    return data


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def from_file_url(text: str, places: Places) -> bytes:
    """`file:///path`; no host but localhost."""
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost"):
        raise ImageError("bad_uri", "a file URL has three slashes: file:///path")
    return from_path(unquote(parts.path), places)
