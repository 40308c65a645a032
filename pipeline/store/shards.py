"""An output that several runs fill, each a range of the manifest: `<output>/shards/NNNNN/`.

Each shard is an output of its own (lock, journal, parts). Until `run --join` has moved their parts
into the main output's folders, readers take all of them for one: a part of shard 3 stands for
`00003-<part>`, the name that it will have, and hides behind that name once it has it. Two of them
may hold one key (a failure that was asked again, a picture at two places): of these the first counts,
captions before failures, as the join has it.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import fs
from pipeline.errors import OutputError
from pipeline.patterns import lazy
from pipeline.store import tables
from pipeline.store.keys import KeyMap
from pipeline.store.lock import holder_of
from pipeline.store.tables import Part

SHARDS = "shards"
_NUMBER = lazy(r"\d{5,}")


def shard_name(number: int) -> str:
    """The folder of a shard, and what its parts' names begin with."""
    return f"{number:05d}"


def joined_name(shard: Path, name: str) -> str:
    """What a shard's part is called in the main output."""
    return f"{shard.name}-{name}"


def joined_names(shard: Path, part: Part) -> tuple[str, str]:
    """The same, and what it is called where another part has that name: one of a shard whose folder
    was removed after a join, so that its numbers began anew."""
    return joined_name(shard, part.name), joined_name(shard, f"{part.sha256[:16]}-{part.name}")


def shard_folders(output: Path) -> list[Path]:
    """The shards that have begun, in order; [] where an output has none."""
    folder = output / SHARDS
    if not folder.is_dir():
        return []
    names = [path for path in folder.iterdir() if _NUMBER.fullmatch(path.name)]
    return sorted(names, key=lambda path: int(path.name))


def outputs_of(output: Path) -> list[Path]:
    """The output and its shards: wherever something of it may be."""
    return [output, *shard_folders(output)]


def unjoined(output: Path) -> list[Path]:
    """The shards that hold something that is not in the main output yet, or may soon."""
    return [shard for shard in shard_folders(output) if _holds_something(shard)]


def _holds_something(shard: Path) -> bool:
    try:
        return _holds_work(shard)
    except (OSError, pa.ArrowException, sqlite3.Error):
        return True  # damaged, or not readable for this user


def _holds_work(shard: Path) -> bool:
    parts = shard.glob("*/*.parquet")
    if holder_of(shard / "_state" / "lock") or any(
        pq.read_metadata(path).num_rows for path in parts
    ):
        return True
    journal = shard / "_state" / "journal.db"
    if not journal.exists():
        return False
    with closing(tables.look(journal)) as db:
        return tables.waiting(db) > 0


def with_shards(output: Path, folder: str) -> list[Path]:
    """The main output's parts, and those of its shards that are not among them yet, each in order."""
    # The shards' first: what is linked in meanwhile is then in both, and not in neither.
    shards = {
        path: (shard.name, path.name, path.stat().st_size)
        for shard in shard_folders(output)
        for path in sorted((shard / folder).glob("*.parquet"))
    }
    own = sorted((output / folder).glob("*.parquet"))
    joined = {
        (path.name.partition("-")[0], path.name[path.name.index("part-") :], path.stat().st_size)
        for path in own
        if shards and "-part-" in path.name
    }
    return [*own, *(path for path, facts in shards.items() if facts not in joined)]


class FirstOnly:
    """The first record of each key of those that are read one after the other."""

    def __init__(self) -> None:
        self._seen = KeyMap()

    def of(self, keys: pa.ChunkedArray | pa.Array) -> pa.Array:
        """Which of these rows are it: a mask."""
        return pa.array([self._seen.set(key, "") is None for key in keys.to_pylist()], pa.bool_())


def link_in(output: Path, shard: Path, part: Part, name: str) -> Part:
    """A shard's part under another name in this output; copied where there are no hard links."""
    final = output / part.folder / name
    source = shard / part.folder / part.name
    try:
        os.link(source, final)
    except FileExistsError:
        if fs.sha256_file(final) != part.sha256:
            raise OutputError(
                f"{final}: this part is not one that the journal knows; move it away"
            ) from None
    except OSError:
        fs.write_atomic(final, source.read_bytes())
    fs.sync_dir(final.parent)
    return replace(part, name=name, mtime_ns=final.stat().st_mtime_ns)
