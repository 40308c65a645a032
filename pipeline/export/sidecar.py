"""One text file a captioned image, in its folder and with its name: `10_cat/1.jpg` gives
`10_cat/1.txt`.

Trainers that read `NAME.jpg` + `NAME.txt` take them so. Rows without a caption have no file. A
caption is one line, as trainers read the first line only, unless its line breaks are to be kept.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Generic, TypeVar

from pipeline.errors import OutputError, UsageError
from pipeline.export.base import Notes, Rows, Written
from pipeline.export.captioned import Captioned, captioned, one_line
from pipeline.export.names import LONGEST, Refused, relative_path, text_of
from pipeline.export.ownership import Owned

P = TypeVar("P", bound=PurePath)


@dataclass(frozen=True, slots=True)
class SidecarExporter:
    """A folder of `.txt` files."""

    endings: tuple[str, ...] = ()
    pictures: bool = False

    def folder(self, dest: Path) -> bool:
        return True

    def write(self, rows: Rows, dest: Path) -> Written:
        written = Written(unit="files")

        def place(row: Captioned) -> PurePosixPath:
            return relative_path(row.cell, rows.pictures.root) or PurePosixPath(row.key)

        names = TextFiles(place)
        for row, name in names.of_all(captioned(rows)):
            path = dest / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text(rows, row), encoding="utf-8", newline="")
            except (FileExistsError, IsADirectoryError, NotADirectoryError):
                names.refuse(row, f"{name} is a file and a folder")
                continue
            written.rows += 1
        names.tell(written)
        return written


def write_beside(rows: Rows, owned: Owned) -> Written:
    """The text files next to the pictures themselves; what is not ours is kept. UsageError where a
    picture is no file, OutputError where a text cannot be written."""

    def place(row: Captioned) -> Path:
        path, cell = rows.pictures.file(row.cell), text_of(row.cell)
        if path is None:
            where = cell.partition("?")[0][:100] or "a picture in the manifest itself"
            if "\0" in cell:
                raise Refused("a NUL byte in the name")
            raise UsageError(
                f"--beside: {where} is no file of this machine; name a folder instead of --beside"
            )
        if not path.exists():
            raise Refused("the picture is gone")
        return path

    names, kept = TextFiles(place), Notes("files of others kept")
    written = Written(unit="files beside the pictures")
    for row, path in names.of_all(captioned(rows)):
        content = text(rows, row).encode()
        try:
            done = owned.write(path, content, overwrite=rows.options.overwrite)
        except OSError as error:
            raise OutputError(f"export --beside: {path}: {error.strerror or error}") from error
        if done:
            written.rows += 1
        else:
            kept.add(f"{path}: kept, {_whose(owned, path)}; --overwrite replaces it")
    names.tell(written)
    written.notes += kept.lines()
    return written


def _whose(owned: Owned, path: Path) -> str:
    """Why a file is not ours to replace."""
    if owned.knows(path):
        return "edited since this job wrote it (`review JOB` takes such words into every export)"
    return "this job did not write it"


def text(rows: Rows, row: Captioned) -> str:
    """What stands in the file."""
    caption = row.caption if rows.options.keep_lines else one_line(row.caption)
    return caption + "\n"


class TextFiles(Generic[P]):
    """The text file of each row, each used once; remembers what could not be named.

    A picture's own stem comes first: where two pictures share one, the later's text keeps its
    ending (`twin.png.txt`), and gets its name last of all, as a `twin.png.jpg` may be to come.
    """

    def __init__(self, place: Callable[[Captioned], P]) -> None:
        #: Where a row's picture is, or is thought to be; raises Refused.
        self._place = place
        #: Hash of each name in use -> ending and key of its picture, a few bytes a row.
        self._used: dict[int, str] = {}
        self._refused = Notes("captions without a file")
        self._clashes = Notes("pictures that share a stem with another")

    def of_all(self, rows: Iterator[Captioned]) -> Iterator[tuple[Captioned, P]]:
        """Rows and their files; a row that is there already or has no name is left out."""
        later = list[tuple[Captioned, P]]()
        for row in rows:
            try:
                path = self._place(row)
            except Refused as why:
                self.refuse(row, str(why))
                continue
            stem, ending = posixpath.splitext(path.name)
            file = path.with_name(_fitting(f"{stem}.txt", row))
            picture = f"{ending}\n{row.key}"
            first = self._used.setdefault(hash(file), picture)
            if first is picture:
                yield row, file
            elif first != picture:  # else the same row once more
                later.append((row, path))
        for row, path in later:
            if (other := self._other(row, path)) is not None:
                yield row, other

    def _other(self, row: Captioned, path: P) -> P | None:
        stem, ending = posixpath.splitext(path.name)
        picture = f"{ending}\n{row.key}"
        first, _, _ = self._used[hash(path.with_name(_fitting(f"{stem}.txt", row)))].partition("\n")
        for name in (path.name, f"{path.name}-{row.key[:8]}"):
            file = path.with_name(_fitting(f"{name}.txt", row))
            other = self._used.setdefault(hash(file), picture)
            if other == picture and other is not picture:
                return None
            if other is picture:
                cell = text_of(row.cell)
                picture_path = PurePosixPath(cell) if cell and "://" not in cell else path
                twins = f"{picture_path.with_name(stem + first)} and {picture_path} share a stem"
                if first == ending:
                    twins = f"{picture_path} has two captions"
                self._clashes.add(f"{twins}; the caption of the second is in {file.name}")
                return file
        return None

    def refuse(self, row: Captioned, why: str) -> None:
        """No file is written for this row."""
        self._refused.add(f"{text_of(row.cell)!r}: no file is written for it: {why}")

    def tell(self, written: Written) -> None:
        """Say what was renamed and what was left out."""
        written.notes += self._clashes.lines() + self._refused.lines()
        written.refused += self._refused.count


def _fitting(name: str, row: Captioned) -> str:
    """The name, or the row's key where no file can have one so long."""
    return name if len(os.fsencode(name)) <= LONGEST else f"{row.key}.txt"


SIDECAR = SidecarExporter()
