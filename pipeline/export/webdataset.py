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
#: Pictures up to this size are read into one buffer, which stays in the processor's cache.
_BUFFER = 1 << 20
Member = tuple[str, bytes | memoryview]
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
            for members in _members(rows):
                room = sum(map(_room, members))
                if not shards or shards[-1].full(room, size, most):
                    shards = _next(shards, dest, single)
                shards[-1].add(members, room)
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


def _members(rows: Rows) -> Iterator[list[Member]]:
    """The members of each row; the picture's bytes are there until the next row is asked for."""
    buffer = bytearray(_BUFFER)
    for row in captioned(rows, columns=True):
        picture = rows.pictures.view(row.cell, buffer)
        name = f"{row.ordinal:09d}"
        columns, caption = row.columns.encode(), row.caption.encode()
        yield [
            (name + ending(picture), picture),
            (name + ".txt", caption),
            (name + ".json", columns),
        ]


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

    def add(self, members: list[Member], room: int) -> None:
        pieces = list[bytes | memoryview]()
        for name, content in members:
            pieces += (_header(name, len(content)), content, _VOID[: -len(content) % _BLOCK])
        # In one call, past any buffer: a picture is copied once, while it is in the processor's cache.
        done = os.writev(self.file.fileno(), pieces)
        if done < room:
            write_all(self.file.fileno(), b"".join(pieces)[done:])
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


def _room(member: Member) -> int:
    return _BLOCK + len(member[1]) + -len(member[1]) % _BLOCK


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
