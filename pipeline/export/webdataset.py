"""Tar shards as WebDataset reads them: picture, caption (`.txt`) and columns (`.json`) a row.

Members of a row follow each other and share a key, which is the row's position and has no dot.
Times and owners are fixed, so that the same rows give the same bytes. A folder gets shards
`000000.tar` … of `--shard-size` and `--shard-rows`, `sizes.json` (rows of each, as open_clip reads
it) and `index.json` (rows and bytes, as webdataset's own `wids` reads it); DEST that ends in `.tar`
is one shard. Rows without a caption are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import IO

from pipeline.errors import UsageError
from pipeline.export.ahead import ahead
from pipeline.export.base import Rows, Written
from pipeline.export.captioned import captioned
from pipeline.export.pictures import ending
from pipeline.fs import read_object

_MARK = "Written by caption-pipeline."
SHARD_BYTES = 10**9
#: Rows that are read together.
_TOGETHER = 16
_BLOCK = 512
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
            for members in chain.from_iterable(ahead(_members(rows))):
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


def _members(rows: Rows) -> Iterator[list[list[tuple[str, bytes]]]]:
    """The members of some rows at a time: pictures are read while others are written."""
    members = list[list[tuple[str, bytes]]]()
    for row in captioned(rows, columns=True):
        picture = rows.pictures.read(row.cell)
        name = f"{row.ordinal:09d}"
        columns, caption = row.columns.encode(), row.caption.encode()
        members.append(
            [(name + ending(picture), picture), (name + ".txt", caption), (name + ".json", columns)]
        )
        if len(members) == _TOGETHER:
            yield members
            members = []
    if members:
        yield members


@dataclass(slots=True)
class _Shard:
    """One tar file while it is written."""

    path: Path
    file: IO[bytes] = field(init=False)
    rows: int = 0
    size: int = 0

    def __post_init__(self) -> None:
        self.file = self.path.open("wb", buffering=1 << 20)

    def full(self, more: int, size: int, most: int | None) -> bool:
        return self.rows > 0 and (_whole(self.size + more) > size or self.rows == most)

    def add(self, members: list[tuple[str, bytes]], room: int) -> None:
        for name, content in members:
            self.file.write(_header(name, len(content)))
            self.file.write(content)
            self.file.write(bytes(-len(content) % _BLOCK))
        self.rows += 1
        self.size += room

    def close(self) -> None:
        if not self.file.closed:
            end = _whole(self.size) - self.size
            self.file.write(bytes(end))
            self.size += end
            self.file.close()


def _next(shards: list[_Shard], dest: Path, single: bool) -> list[_Shard]:
    if shards:
        shards[-1].close()
    return [*shards, _Shard(dest if single else dest / f"{len(shards):06d}.tar")]


def _room(member: tuple[str, bytes]) -> int:
    return _BLOCK + len(member[1]) + -len(member[1]) % _BLOCK


def _whole(size: int) -> int:
    """The size of a tar file whose members take so many bytes."""
    return -(-(size + 2 * _BLOCK) // _RECORD) * _RECORD


def _header(name: str, size: int) -> bytes:
    """A USTAR header of a plain file (POSIX.1-1988): names here are short, sizes below 8 GiB."""
    head = b"%b%b0000644\0000000000\0000000000\0%011o\00000000000000\0" % (
        name.encode(), bytes(100 - len(name)), size,
    )  # fmt: skip
    tail = b"0" + bytes(100) + b"ustar\00000" + bytes(247)
    total = sum(head) + 8 * 32 + sum(tail)
    return head + b"%06o\0 " % total + tail


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
