"""Tar shards as WebDataset reads them: picture, caption (`.txt`) and columns (`.json`) a row.

Members of a row follow each other and share a key, which is the row's position and has no dot.
Times and owners are fixed, so that the same rows give the same bytes. A folder gets shards
`000000.tar` … of `--shard-size` and `--shard-rows`, `sizes.json` (rows of each, as open_clip reads
it) and `index.json` (rows and bytes, as webdataset's own `wids` reads it); DEST that ends in `.tar`
is one shard. Rows without a caption are left out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.export.base import Rows, Written
from pipeline.export.captioned import captioned
from pipeline.export.pictures import ending
from pipeline.fs import read_object, write_all

_MARK = "Written by caption-pipeline."
SHARD_BYTES = 10**9
_BLOCK = 512
_VOID = bytes(_BLOCK)
#: Two void blocks end a tar, which tools fill up to 20 blocks.
_RECORD = 20 * _BLOCK


@dataclass(frozen=True, slots=True)
class WebdatasetExporter:
    """One `.tar` file, or a folder of them."""

    endings: tuple[str, ...] = (".tar",)
    pictures: bool = True

    def folder(self, dest: Path) -> bool:
        return not dest.name.lower().endswith(".tar")

    def write(self, rows: Rows, dest: Path) -> Written:
        size, most = rows.options.shard_size or SHARD_BYTES, rows.options.shard_rows
        single = not dest.is_dir()
        if single and (rows.options.shard_size or most):
            raise UsageError("--shard-size and --shard-rows make several files: name a folder")
        if single:
            size = 1 << 62
        written, shards = Written(), list[_Shard]()
        try:
            for sample in _samples(rows):
                room = sum(map(len, sample))
                if not shards or shards[-1].full(room, size, most):
                    shards = _next(shards, dest, single)
                shards[-1].add(sample, room)
                written.rows += 1
            if not shards:
                shards = _next(shards, dest, single)
        finally:
            if shards:
                shards[-1].close()
        if not single:
            _indexes(dest, shards)
            written.notes.append(f"shards {{000000..{len(shards) - 1:06d}}}.tar")
        return written


def _samples(rows: Rows) -> Iterator[tuple[bytes, ...]]:
    """What each row adds to a shard: the picture's header, the picture, all that follows it."""
    for row in captioned(rows, columns=True):
        name, picture = f"{row.ordinal:09d}", rows.pictures.read(row.cell)
        size = len(picture)
        rest = _member(name + ".txt", row.caption) + _member(name + ".json", row.columns)
        yield _header(name + ending(picture), size), picture, _fill(size) + rest


@dataclass(slots=True)
class _Shard:
    """One tar file while it is written."""

    path: Path
    file: FileIO = field(init=False)
    rows: int = 0
    size: int = 0

    def __post_init__(self) -> None:
        self.file = self.path.open("wb", buffering=0)

    def full(self, more: int, size: int, most: int | None) -> bool:
        return self.rows > 0 and (_whole(self.size + more) > size or self.rows == most)

    def add(self, sample: tuple[bytes, ...], room: int) -> None:
        """One call for all of it takes two thirds of the CPU of `sendfile` between two other writes."""
        done = os.writev(self.file.fileno(), sample)
        if done < room:
            write_all(self.file.fileno(), memoryview(b"".join(sample))[done:])
        self.rows += 1
        self.size += room

    def close(self) -> None:
        if not self.file.closed:
            end = _whole(self.size) - self.size
            write_all(self.file.fileno(), bytes(end))
            self.size += end
            self.file.close()


def _next(shards: list[_Shard], dest: Path, single: bool) -> list[_Shard]:
    if shards:
        shards[-1].close()
    return [*shards, _Shard(dest if single else dest / f"{len(shards):06d}.tar")]


def _member(name: str, text: str) -> bytes:
    content = text.encode()
    return b"".join((_header(name, len(content)), content, _fill(len(content))))


def _fill(size: int) -> bytes:
    """What fills up a member's last block."""
    return _VOID[: -size % _BLOCK]


def _whole(size: int) -> int:
    """The size of a tar file whose members take so many bytes."""
    return -(-(size + 2 * _BLOCK) // _RECORD) * _RECORD


def _header(name: str, size: int) -> bytes:
    """A USTAR header of a plain file (POSIX.1-1988): names here are short, sizes below 8 GiB."""
    field, length = name.encode(), b"%011o" % size
    total = _CHECKSUM + sum(field) + sum(length)
    return _HEADER % (field, bytes(100 - len(field)), length, total)


#: Name and what fills it up, mode, owner and group, size, time, checksum, kind, rest.
_HEADER = b"%b%b0000644\x000000000\x000000000\x00%b\x0000000000000\x00%06o\x00 0" + bytes(100)
_HEADER += b"ustar\x0000" + bytes(247)
#: Of a header without name and size; the checksum itself counts as blanks.
_CHECKSUM = sum(_HEADER % (b"", b"", b"", 0)) - sum(b"000000\0 ") + 8 * 32


def _indexes(dest: Path, shards: list[_Shard]) -> None:
    sizes = {shard.path.name: shard.rows for shard in shards}
    (dest / "sizes.json").write_text(json.dumps(sizes, indent=1) + "\n")
    listed = [
        {"url": shard.path.name, "nsamples": shard.rows, "filesize": shard.size} for shard in shards
    ]
    index = {"wids_version": 1, "description": _MARK, "shardlist": listed}
    (dest / "index.json").write_text(json.dumps(index, indent=1) + "\n")


def tar_shards(folder: Path) -> list[Path]:
    """The shards of an earlier export, by the index that it left."""
    index = read_object(folder / "index.json")
    if index.get("description") != _MARK:
        return []
    return [folder / Path(shard["url"]).name for shard in index["shardlist"]]


WEBDATASET = WebdatasetExporter()
