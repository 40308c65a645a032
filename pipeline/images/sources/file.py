"""Local files: a path as it is written, or a file URL."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from pipeline.errors import ImageError, SourceUnavailable
from pipeline.images.limits import MAX_BYTES
from pipeline.images.outage import place_of_errno
from pipeline.images.sources.base import Places, brief, check_size

#: Folders that are remembered as having delivered.
MOST_FOLDERS = 10_000


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
        data = read_file(path)
    except OSError as error:
        raise not_read(error, path, text, places) from None
    except (RuntimeError, UnicodeError):
        # RuntimeError: `~nobody`, a home that does not exist. UnicodeError: a lone surrogate.
        raise ImageError("missing_file", f"{brief(text)}: not a file name here") from None
    remember(path, places)
    return data


def remember(path: Path, places: Places) -> None:
    """The folder of this file is there: should it go away, that is no fault of its pictures."""
    folder = str(path.parent)
    if folder not in places.delivered and len(places.delivered) < MOST_FOLDERS:
        with suppress(OSError):
            status = os.stat(folder)
            places.delivered[folder] = status.st_dev, status.st_ino


def not_read(error: OSError, path: Path, text: str, places: Places) -> ImageError:
    """What a failed read means: the picture's own fault, its folder's or this machine's."""
    message = f"{brief(text)}: {error.strerror}"
    at = place_of_errno(error.errno, str(places.root or path.parent))
    if at is None and error.errno in (errno.ENOENT, errno.ENOTDIR):
        at = _gone(path, places)
    if at is None:
        return ImageError("missing_file", message)
    return SourceUnavailable("missing_file", message, place=at, certain=True)


def _gone(path: Path, places: Places) -> str | None:
    """The folder above this file that has delivered files and is not there any more."""
    for folder in path.parents:
        if (before := places.delivered.get(str(folder))) is not None:
            try:
                status = os.stat(folder)
            except OSError:
                return str(folder)
            if (status.st_dev, status.st_ino) != before:
                return str(folder)
    return None


def read_file(path: Path) -> bytes:
    """A plain file's bytes; raises OSError."""
    with open_plain(path) as file:
        check_size(path.name, os.fstat(file.fileno()).st_size)
        data = file.read(MAX_BYTES + 1)
    check_size(path.name, len(data))
    return data


def open_plain(path: Path) -> BinaryIO:
    """A plain file, opened; OSError, ImageError `missing_file` for a pipe, device or folder."""
    # Not to wait for a writer: a pipe would block already here.
    file = open(path, "rb", opener=_open)  # noqa: SIM115 - the caller's
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ImageError("missing_file", f"{brief(str(path))}: not a plain file")
    return file


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def from_file_url(text: str, places: Places) -> bytes:
    """`file:///path`; no host but localhost."""
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost"):
        raise ImageError("bad_uri", "a file URL has three slashes: file:///path")
    return from_path(unquote(parts.path), places)
