"""Local files: a path as it is written, or a file URL."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from pipeline.errors import ImageError, SourceUnavailable
from pipeline.images.limits import MAX_BYTES
from pipeline.images.outage import place_of_errno
from pipeline.images.sources.base import Places, brief, check_size
from pipeline.local_files import is_file_url, of_file_url, respelled

#: Folders that are remembered as having delivered.
MOST_FOLDERS = 10_000
#: errno of a path that leads nowhere, and of one that may not be followed or read.
_NOWHERE = frozenset({errno.ENOENT, errno.ENOTDIR})
_NO_RIGHT = frozenset({errno.EACCES, errno.EPERM})
_EFFECTIVE = os.access in os.supports_effective_ids
_EMPTY = "its folder is empty"


def located(text: str, places: Places) -> Path:
    """Where a path or a file URL leads, absolute or below the root; ImageError `bad_uri`."""
    if is_file_url(text):
        text = _path_of_url(text)
    if "\0" in text or len(text) > 4096:
        raise ImageError("bad_uri", "this is not a file name")
    # Path.expanduser fails for `~x.jpg` where no user is called so; it is a file's name then.
    path = Path(os.path.expanduser(text))  # noqa: PTH111
    if path.is_absolute():
        return path
    if places.root is None and not places.boundary.remote:
        raise ImageError("bad_uri", "a relative path, and images.root is not set")
    return (places.root or Path()) / path


def _path_of_url(text: str) -> str:
    """`file:///path`; no host but localhost. Escapes are bytes, as file names are."""
    try:
        host, path = urlsplit(text).netloc, of_file_url(text)
    except ValueError:
        raise ImageError("bad_uri", "this is not a file URL") from None
    if host not in ("", "localhost"):
        raise ImageError("bad_uri", "a file URL has three slashes: file:///path")
    return path


def from_path(text: str, places: Places) -> bytes:
    """A file's bytes."""
    try:
        path = located(text, places)
        check_boundary(path, text, places)
        try:
            data = read_file(path)
        except (FileNotFoundError, NotADirectoryError):
            if (other := respelled(Path("/"), str(path))) is None:
                raise
            check_boundary(other, text, places)
            path, data = other, read_file(other)
    except OSError as error:
        raise not_read(error, path, text, places) from None
    except UnicodeError:  # a lone surrogate
        raise ImageError("missing_file", f"{brief(text)}: not a file name here") from None
    remember(path, places)
    return data


def check_boundary(path: Path, text: str, places: Places) -> None:
    """ImageError `blocked_path` for a file that this manifest may not name."""
    if (refusal := places.boundary.refusal(path)) is not None:
        raise ImageError("blocked_path", f"{brief(text)}: {refusal}")


def remember(path: Path, places: Places) -> None:
    """The folder of this file is there: should it go away, that is no fault of its pictures."""
    folder = str(path.parent)
    if folder not in places.delivered and len(places.delivered) < MOST_FOLDERS:
        with suppress(OSError):
            status = os.stat(folder)
            places.delivered[folder] = status.st_dev, status.st_ino


def not_read(error: OSError, path: Path, text: str, places: Places) -> ImageError:
    """What a failed read means: the picture's own fault, its folder's or this machine's."""
    root, message = places.root, f"{brief(text)}: {error.strerror}"
    folder = str(root if root in path.parents else path.parent)
    place = place_of_errno(error.errno, folder)
    if place is not None:
        return SourceUnavailable("connect", message, place=place, certain=True)
    if error.errno in _NOWHERE | _NO_RIGHT:
        out = _folder_out(path, places)
        if out is None and error.errno in _NOWHERE and os.access(path, os.F_OK):
            out = path.parent, "it was away for a moment"
        out = out or _folder_out(path, places)  # it may have gone again meanwhile
        if out is not None:
            where, message = out[0], f"{brief(text)}: {out[1]}"
            return SourceUnavailable(
                "missing_file", message, place=str(where), certain=_known(where, places)
            )
        if error.errno in _NO_RIGHT:  # this file, or all of a mount
            place = str(path.parent)
            return SourceUnavailable("missing_file", message, place=place, certain=False)
    return ImageError("missing_file", message)


def _folder_out(path: Path, places: Places) -> tuple[Path, str] | None:
    """The folder above a file that keeps it away, and how; None: they are all there."""
    for folder in reversed(path.parents):
        try:
            status = os.stat(folder)
        except OSError as error:
            if folder != places.root and _empty(folder.parent):
                return folder.parent, _EMPTY
            return folder, f"its folder: {error.strerror}"
        before = places.delivered.get(str(folder))
        if before not in (None, (status.st_dev, status.st_ino)):
            return folder, "its folder is another one than before"
    if not stat.S_ISDIR(status.st_mode):
        return None
    if not os.access(path.parent, os.X_OK, effective_ids=_EFFECTIVE):
        return path.parent, f"its folder: {os.strerror(errno.EACCES)}"
    return (path.parent, _EMPTY) if _empty(path.parent) else None


def _empty(folder: Path) -> bool:
    """A mount point without its disk; not so where that cannot be told."""
    with suppress(OSError), os.scandir(folder) as entries:
        return next(entries, None) is None
    return False


def _known(folder: Path, places: Places) -> bool:
    """Must pictures be in or below this folder? So says the job, or what was read in this run."""
    root, inside = places.root, f"{folder}{os.sep}"
    if root is not None and (folder == root or folder in root.parents):
        return True
    return any(known == str(folder) or known.startswith(inside) for known in list(places.delivered))


def read_file(path: Path) -> bytes:
    """A plain file's bytes; raises OSError."""
    with open_plain(path) as file:
        check_size(path.name, os.fstat(file.fileno()).st_size)
        data = file.read(MAX_BYTES + 1)
    check_size(path.name, len(data))
    return data


def open_plain(path: Path) -> BinaryIO:
    """A plain file, opened; OSError, ImageError `missing_file` for a pipe, device or folder."""
    _check_plain(path, os.stat(path))  # opening a device may do more than that
    # Not to wait for a writer, should it have become a pipe: that would block already here.
    file = open(path, "rb", opener=_open)  # noqa: SIM115 - the caller's
    try:
        _check_plain(path, os.fstat(file.fileno()))
    except ImageError:
        file.close()
        raise
    return file


def _check_plain(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("missing_file", f"{brief(str(path))}: not a plain file")


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
