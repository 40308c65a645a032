"""What the files of an export are called: as the manifest has it, where that stays in the folder."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from pipeline.local_files import is_file_url, of_file_url

_RESERVED = re.compile(r"(?i)^(con|prn|aux|nul|com\d|lpt\d)(\..*)?$")
_DRIVE = re.compile(r"^[A-Za-z]:\\")
#: Bytes that a file system allows in a name.
LONGEST = 255


class Refused(Exception):
    """This name is none for a file below DEST; the words say why."""


def text_of(cell: object) -> str:
    """Path or URL of an image cell; empty where it has none."""
    if isinstance(cell, Mapping):
        cell = cell.get("path")
    return cell if isinstance(cell, str) and cell[:5].lower() != "data:" else ""


def relative_path(cell: object, root: Path | None) -> PurePosixPath | None:
    """The picture's path below DEST: the manifest's relative folders and the exact name.

    An absolute path counts from `root` where it lies below it; of a URL only the name is taken.
    None where the cell has no name (bytes, a data URI) or one that no file can have. Refused where
    it would leave DEST.
    """
    text = text_of(cell)
    if text.startswith("tar://"):
        text = text.removeprefix("tar://").partition("::")[0]
    elif is_file_url(text):
        text = of_file_url(text)
    elif "://" in text:
        text = posixpath.basename(unquote(urlsplit(text).path))
        if text in ("", ".", ".."):
            return None
    elif "\\" in text and (_DRIVE.match(text) or not _exists(root, text)):
        text = text.partition(":\\")[2] if _DRIVE.match(text) else text
        text = text.replace("\\", "/")
    if not text:
        return None
    if "\0" in text:
        raise Refused("a NUL byte in the name")
    if root is not None and text.startswith("/"):
        whole = posixpath.normpath(text)
        text = whole.removeprefix(posixpath.normpath(str(root)).rstrip("/") + "/")
    path = PurePosixPath(posixpath.normpath(text.lstrip("/")))
    if path.parts[:1] == ("..",):
        raise Refused("leaves the folder (--beside writes next to the picture)")
    for part in path.parts:
        if _RESERVED.match(part):
            raise Refused(f"{part!r} is a reserved name")
    short = all(len(os.fsencode(part)) <= LONGEST for part in path.parts)
    return path if path.parts and short else None


def _exists(root: Path | None, text: str) -> bool:
    """A backslash is a letter like others in the names of this system's files."""
    try:
        return root is not None and (root / text).exists()
    except (OSError, ValueError):
        return False
