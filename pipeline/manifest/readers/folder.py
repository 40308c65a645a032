"""A folder of image files, or the pictures of a glob: in sorted order, one row a file.

Columns: `image`, the path from the folder down, with slashes, and `file_name`, its last part.
Hidden files and folders of thumbnails are left out, links to folders are not followed (a loop would never end).
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from pipeline.errors import ManifestError
from pipeline.local_files import is_file_url
from pipeline.manifest.file_names import is_image, left_out
from pipeline.manifest.places import ManifestFile, unreadable
from pipeline.manifest.readers.base import FileInfo, Want, skip
from pipeline.media import ENDINGS

SCHEMA = pa.schema([pa.field("image", pa.string()), pa.field("file_name", pa.string())])
_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class FolderReader:
    """Image files under a folder."""

    def look(self, place: ManifestFile) -> FileInfo:
        if place.path is None:
            raise ManifestError(
                f"manifest {place.shown}: a folder of images must be local; "
                "list its URLs in a .txt file"
            )
        if not place.folder:
            raise ManifestError(
                f"manifest {place.shown}: not a folder; remove manifest.format: folder"
            )
        digest, rows = hashlib.sha256(), 0
        for name, path in pictures(place):
            stat = os.stat(path, follow_symlinks=False)
            digest.update(os.fsencode(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n"))
            rows += 1
        if not rows:
            raise ManifestError(
                f"manifest {place.shown}: no image file in this folder "
                f"(looked for {' '.join(ENDINGS)})"
            )
        return FileInfo(schema=SCHEMA, rows=rows, mark=digest.hexdigest())

    def read(self, place: ManifestFile, want: Want) -> Iterator[pa.RecordBatch]:
        return skip(self._read(place), want.start)

    def _read(self, place: ManifestFile) -> Iterator[pa.RecordBatch]:
        assert place.path is not None
        names: list[str] = []
        for name, _ in pictures(place):
            names.append(name)
            if len(names) >= _ROWS:
                yield _batch(place.path, names)
                names = []
        if names:
            yield _batch(place.path, names)


def _batch(folder: Path, names: list[str]) -> pa.RecordBatch:
    last = [_shown(name.rpartition("/")[2]) for name in names]
    cells = [_cell(folder, name) for name in names]
    return pa.RecordBatch.from_arrays(
        [pa.array(cells, pa.string()), pa.array(last, pa.string())], schema=SCHEMA
    )


def pictures(place: ManifestFile) -> Iterator[tuple[str, str]]:
    """Names from the folder down, and paths, in order."""
    assert place.path is not None
    try:
        if place.pattern is None:
            yield from _walk(place.path, "")
        else:
            yield from _matches(place.path, place.pattern)
    except OSError as error:
        raise unreadable(place.name, error) from error


def _shown(name: str) -> str:
    """A file name as text; U+FFFD stands for what is not UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")


def _walk(folder: str | Path, prefix: str) -> Iterator[tuple[str, str]]:
    with os.scandir(folder) as entries:
        inside = sorted(entries, key=lambda entry: entry.name)
    for entry in inside:
        if left_out(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, f"{prefix}{entry.name}/")
        elif is_image(entry.name) and entry.is_file():
            yield prefix + entry.name, entry.path


def _matches(folder: Path, pattern: str) -> Iterator[tuple[str, str]]:
    """The pictures of a glob, or the one that is named, whatever it is called."""
    for name in sorted(glob.glob(pattern, root_dir=folder, recursive=True)):  # noqa: PTH207 - names below a folder
        if glob.escape(name) == pattern or (is_image(name) and not left_out(name)):
            path = folder / name
            if path.is_file():
                yield name, str(path)


def _cell(folder: Path, name: str) -> str:
    """A path that is read as one, whatever it begins with. A name that is not UTF-8 cannot be a
    cell: it is a file URL, whose escapes are bytes."""
    try:
        text = os.fsencode(name).decode()
    except UnicodeDecodeError:
        return (folder.absolute() / name).as_uri()
    is_other = text.startswith("~") or text.lstrip()[:5].lower() == "data:" or is_file_url(text)
    return f"./{text}" if is_other else text


FOLDER = FolderReader()
