"""One text file a captioned image, in its folder and with its name: `10_cat/1.jpg` gives
`10_cat/1.txt`.

Trainers that read `NAME.jpg` + `NAME.txt` take them so. Rows without a caption have no file. A
caption is one line, as trainers read the first line only, unless its line breaks are to be kept.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.errors import UsageError
from pipeline.export.base import Notes, Rows, Written
from pipeline.export.captioned import Captioned, captioned, one_line
from pipeline.export.names import Refused, relative_path, text_of
from pipeline.export.ownership import Owned


@dataclass(frozen=True, slots=True)
class SidecarExporter:
    """A folder of `.txt` files."""

    endings: tuple[str, ...] = ()
    pictures: bool = False

    def folder(self, dest: Path) -> bool:
        return True

    def write(self, rows: Rows, dest: Path) -> Written:
        names = Names(rows)
        written = Written(unit="files")
        for row, name in names.of_all(captioned(rows)):
            path = dest / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text(rows, row), encoding="utf-8", newline="")
            written.rows += 1
        names.tell(written)
        return written


def write_beside(rows: Rows, owned: Owned) -> Written:
    """The text files next to the pictures themselves; what is not ours is kept."""
    names, kept = Names(rows), Notes("files of others kept")
    written = Written(unit="files beside the pictures")
    for row, name in names.of_all(captioned(rows)):
        cell = text_of(row.cell)
        if not cell or ("://" in cell and not cell.startswith("file://")):
            raise UsageError(
                f"--beside: {cell.partition('?')[0][:100] or 'a picture in the manifest itself'} is "
                "no file of this machine; name a folder instead of --beside"
            )
        path = rows.pictures.path(cell).parent / name.name
        content = text(rows, row).encode()
        if rows.options.overwrite or owned.may_write(path, content):
            owned.write(path, content)
            written.rows += 1
        else:
            kept.add(f"{path}: kept, this job did not write it; --overwrite replaces it")
    names.tell(written)
    written.notes += kept.lines()
    return written


def text(rows: Rows, row: Captioned) -> str:
    """What stands in the file."""
    caption = row.caption if rows.options.keep_lines else one_line(row.caption)
    return caption + "\n"


class Names:
    """The text file of each row, each used once; remembers what could not be named.

    Of two pictures with one stem the later one keeps its ending: `twin.png.txt`.
    """

    def __init__(self, rows: Rows) -> None:
        self._root = rows.pictures.root
        #: Hash of each name in use -> ending and key of its picture, a few bytes a row.
        self._used: dict[int, str] = {}
        self._refused = Notes("captions without a file")
        self._clashes = Notes("pictures that share a stem with another")

    def of_all(self, rows: Iterator[Captioned]) -> Iterator[tuple[Captioned, PurePosixPath]]:
        """Rows and their files; a row that is there already or has no name is left out."""
        for row in rows:
            try:
                path = relative_path(row.cell, self._root)
            except Refused as why:
                self._refused.add(f"{text_of(row.cell)!r}: no file is written for it: {why}")
                continue
            name = self._free(row, path) if path is not None else PurePosixPath(row.key + ".txt")
            if name is not None:
                yield row, name

    def _free(self, row: Captioned, path: PurePosixPath) -> PurePosixPath | None:
        stem, ending = posixpath.splitext(path.name)
        picture = f"{ending}\n{row.key}"
        for name in (stem, path.name, f"{path.name}-{row.key[:8]}"):
            file = path.with_name(name + ".txt")
            other = self._used.setdefault(hash(file), picture)
            if other is picture:
                return file
            if other == picture:
                return None  # the same row once more
            if name == stem:
                first = path.with_name(stem + other.partition("\n")[0])
                self._clashes.add(
                    f"{first} and {path} share a stem; the caption of the second is in {path}.txt"
                )
        return None

    def tell(self, written: Written) -> None:
        """Say what was renamed and what was left out."""
        written.notes += self._clashes.lines() + self._refused.lines()
        written.refused += self._refused.count


SIDECAR = SidecarExporter()
