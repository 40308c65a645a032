"""The files below `captions/`, `failures/` and `requests/`: made aside, verified, then named.

Every byte that ever gets a part's name has its SHA-256 in the journal first, so that after a
crash, a bad disk or a well-meant edit a part is either known or reported, never trusted. What is
damaged is never rewritten as if it were whole, and nothing is deleted but temporary files.
A part that becomes empty stays, without rows: a reader who has just listed the folder finds it.
"""

from __future__ import annotations

import hashlib
import io
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import fs, schema
from pipeline.errors import OutputError
from pipeline.store import tables
from pipeline.store.publish_plan import (
    CAPTIONS,
    FAILURES,
    FOLDERS,
    KEYS,
    PART_ROWS,
    REQUESTS,
    Place,
    Step,
)
from pipeline.store.record_shape import shape_of
from pipeline.store.shards import outputs_of, with_shards
from pipeline.store.tables import Part

#: Columns whose values repeat; the others are not worth a dictionary.
REPEATED = [
    *("recipe", "status", "error_code", "error", "prompt_id", "model", "served_model"),
    *("provider", "finish_reason", "run_id", "class"),
]
#: How often a reader begins again whose parts were put together, and the pause between.
_TRIES, _PAUSE = 100, 0.01
T = TypeVar("T")


def path_of(output: Path, place: Place) -> Path:
    """Where a part is."""
    return output / place[0] / place[1]


# --- writing -----------------------------------------------------------------------------------


def stage(output: Path, step: Step, base: Part | None) -> Part:
    """Write a step's file aside, synced and read back; what it is. The name comes later.

    base: the part that it replaces. OSError when it cannot be written, OutputError when the base
    is damaged or the disk does not give back what was written.
    """
    final = output / step.folder / step.name
    pieces = list(step.rows)
    if step.folder in (CAPTIONS, FAILURES):
        shape = shape_of(output)
        pieces = [schema.fitted(piece, shape) for piece in pieces]
    if base is not None:
        standing = _whole(final, base)
        if step.drop:
            names = pa.array(sorted(step.drop), pa.string())
            column = standing.column(KEYS[step.folder])
            standing = standing.filter(pc.invert(pc.is_in(column, value_set=names)))
        pieces.insert(0, standing)
    elif final.exists():
        raise OutputError(f"{final}: this part is not one that the journal knows; move it away")
    return _written(output, (step.folder, step.name), pa.concat_tables(pieces))


def stage_empty(output: Path, place: Place) -> Part:
    """Write aside a part without rows."""
    shape = schema.REQUESTS if place[0] == REQUESTS else shape_of(output)
    return _written(output, place, shape.empty_table())


def stage_merged(output: Path, place: Place, old: Sequence[Part]) -> Part:
    """Write aside what several parts hold, each proved to be what was published; as `stage`."""
    pieces = [_whole(path_of(output, part.place), part) for part in old]
    new = _written(output, place, pa.concat_tables(pieces))
    # The file may soon be all that holds these records, so its name has to be durable as well.
    fs.sync_dir(output / place[0])
    return new


def rewrite(output: Path, part: Part, *, without: AbstractSet[int]) -> Part:
    """The part without some of its rows, under its own name."""
    table = read_part(path_of(output, part.place))
    kept = pa.array([row not in without for row in range(table.num_rows)], pa.bool_())
    return write_part(output, part.place, table.filter(kept))


def write_part(output: Path, place: Place, table: pa.Table) -> Part:
    """A part written and named at once, where no run is at work."""
    new = _written(output, place, table)
    give_name(output, new)
    return new


def _written(output: Path, place: Place, table: pa.Table) -> Part:
    """A file aside, synced and read back."""
    table = table.replace_schema_metadata(schema.METADATA)
    data = _encoded(table)
    tmp = _tmp(path_of(output, place))
    fs.write_tmp(tmp, data)
    digest = hashlib.sha256(data).hexdigest()
    if fs.sha256_file(tmp) != digest or pq.read_metadata(tmp).num_rows != table.num_rows:
        raise OutputError(f"{tmp}: what was read back is not what was written; check the disk")
    look = tmp.stat()
    return Part(
        folder=place[0],
        name=place[1],
        rows=table.num_rows,
        sha256=digest,
        size=look.st_size,
        mtime_ns=look.st_mtime_ns,
    )


def give_name(output: Path, part: Part) -> None:
    """Let a staged file take its place."""
    final = path_of(output, part.place)
    fs.publish(_tmp(final), final)


def swap(output: Path, new: Part, old: Sequence[Part]) -> None:
    """Let a staged file take the place of several: they go first, durably, so that no key stands
    twice at any instant. The journal has the plan."""
    for part in old:
        path_of(output, part.place).unlink(missing_ok=True)
    fs.sync_dir(output / new.folder)
    give_name(output, new)


def resume_swap(output: Path, new: Part, old: Sequence[Part]) -> bool:
    """Finish a swap that was cut short; False where it has not begun and is given up.

    OutputError when records are gone: the old parts are not all there, the new one is not whole.
    """
    final = path_of(output, new.place)
    if _holds(final, new):
        return True
    if _holds(_tmp(final), new):
        swap(output, new, old)
        return True
    for part in old:
        if not path_of(output, part.place).exists():
            raise OutputError(_missing(path_of(output, part.place)))
    return False


def _holds(path: Path, part: Part) -> bool:
    try:
        return fs.sha256_file(path) == part.sha256
    except FileNotFoundError:
        return False


def _tmp(final: Path) -> Path:
    return final.with_name(f".{final.name}.tmp")


def _encoded(table: pa.Table) -> memoryview:
    sink = pa.BufferOutputStream()
    repeated = [name for name in REPEATED if name in table.schema.names]
    pq.write_table(
        table,
        sink,
        compression="zstd",
        use_dictionary=repeated,
        write_statistics=repeated,
        write_page_checksum=True,
    )
    return memoryview(sink.getvalue())


# --- reading -----------------------------------------------------------------------------------


@contextmanager
def readable(part: Path | str) -> Iterator[None]:
    """What is raised about a part that is damaged or gone becomes an OutputError that names it.

    Arrow checks pages, not all of the footer: a name there that is no UTF-8 any more is a
    ValueError, one that has changed a KeyError.
    """
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        if os.path.islink(part):  # noqa: PTH114 - it may be text; the file that a link stands for
            part = os.path.realpath(part)
        raise OutputError(f"{part}: this part cannot be read ({error}); see verify") from error


def metadata_of(path: Path) -> dict[bytes, bytes] | None:
    """The schema's metadata of a Parquet file; None where it cannot be read."""
    try:
        with readable(path):
            return pq.read_schema(path).metadata or {}
    except OutputError:
        return None


def read_part(
    source: Path | io.BytesIO,
    columns: Sequence[str] | None = None,
    *,
    name: Path | str | None = None,
) -> pa.Table:
    """Read one part, or some columns of it; OutputError names it when it cannot be.

    One column after the other: all at once take several times their own size.
    """
    with readable(name or str(source)):
        with pq.ParquetFile(source, page_checksum_verification=True) as file:
            there = set(file.schema_arrow.names) | (set(columns or ()) - schema.LATER)
            wanted = None if columns is None else [name for name in columns if name in there]
            table = file.read(columns=wanted, use_threads=False)
        return schema.completed(table, columns)


def size_of(path: Path) -> tuple[int, int]:
    """The rows of a part, and the bytes that they take in memory, about, by its footer: long texts
    may take a hundredth of that on disk. OutputError as `read_part`."""
    with readable(path):
        file = pq.read_metadata(path)
        groups = map(file.row_group, range(file.num_row_groups))
        return int(file.num_rows), sum(group.total_byte_size for group in groups)


def sizes_of(output: Path, published: Sequence[Part]) -> dict[Place, int]:
    """The bytes in memory of each part that is not full."""
    small = [part.place for part in published if part.rows < PART_ROWS]
    return {place: size_of(path_of(output, place))[1] for place in small}


def relisted(output: Path, read: Callable[[], T]) -> T:
    """What a reader of all parts comes to, who begins again from the folder's listing when a part
    went away meanwhile, or when parts are just being put together: a run at its end does that."""
    for _ in range(_TRIES):
        try:
            result = read()
        except OutputError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
        else:
            if not _put_together_now(output):
                return result
        time.sleep(_PAUSE)
    return read()


def _put_together_now(output: Path) -> bool:
    for folder in outputs_of(output):
        try:
            with closing(tables.look(folder / "_state" / "journal.db")) as db:
                if tables.merging(db) is not None:
                    return True
        except sqlite3.Error:
            pass  # there is none, or this user may not read it
    return False


def _whole(path: Path, part: Part) -> pa.Table:
    """A part, proved to be the bytes that were published."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise OutputError(_missing(path)) from None
    if hashlib.sha256(data).hexdigest() != part.sha256:
        raise OutputError(_changed(path, part))
    return read_part(io.BytesIO(data), name=path)


def _missing(path: Path) -> str:
    return f"{path}: a published part is missing; bring it back, or use another output.path"


def _changed(path: Path, part: Part) -> str:
    return (
        f"{path}: this part is not what was published (SHA-256 {part.sha256}, {part.rows:,} rows); "
        "bring the original back, or use another output.path"
    )


def locate(
    output: Path, published: Sequence[Part], wanted: Mapping[Place, AbstractSet[str]]
) -> dict[Place, set[str]]:
    """Which of the wanted keys (request ids) stand in which parts: place -> keys."""
    places: dict[Place, set[str]] = {}
    for part in published:
        names = wanted.get(part.place)
        if names and part.rows:
            column = KEYS[part.folder]
            keys_here = read_part(path_of(output, part.place), [column]).column(column)
            here = keys_here.filter(
                pc.is_in(keys_here, value_set=pa.array(sorted(names), pa.string()))
            )
            if len(here):
                places[part.place] = set(here.to_pylist())
    return places


def own_parts(output: Path, folder: str) -> list[Path]:
    """The published parts of one folder, in order; [] when there is none."""
    return sorted((output / folder).glob("*.parquet"))


def part_files(output: Path, folder: str) -> list[Path]:
    """The same for who only reads: those of shards that are not joined yet as well."""
    return with_shards(output, folder)


# --- opening -----------------------------------------------------------------------------------


def resolve(output: Path, published: Sequence[Part], planned: Sequence[Part]) -> list[Part]:
    """Planned parts that did get their name, although nobody lived to say so.

    OutputError when a file is neither what it was nor what it was to be.
    """
    known = {part.place: part for part in published}
    named = []
    for part in planned:
        path, base = path_of(output, part.place), known.get(part.place)
        try:
            digest = fs.sha256_file(path)
        except FileNotFoundError:
            if base is not None:
                raise OutputError(_missing(path)) from None
            continue
        if digest == part.sha256:
            named.append(part)
        elif base is None or digest != base.sha256:
            raise OutputError(_changed(path, base or part))
    return named


def tidy(output: Path, published: Sequence[Part]) -> None:
    """Look at every part and remove left-over temporary files.

    OutputError names a part that is missing, changed or unknown. Bytes are only compared where
    size or time of change differ from what was published; `verify` compares them all.
    """
    for part in published:
        path = path_of(output, part.place)
        try:
            look = path.stat()
        except FileNotFoundError:
            raise OutputError(_missing(path)) from None
        same = (look.st_size, look.st_mtime_ns) == (part.size, part.mtime_ns)
        if not same and fs.sha256_file(path) != part.sha256:
            raise OutputError(_changed(path, part))
    known = {part.place for part in published}
    for path in leftovers(output):
        path.unlink()
    for path in strangers(output, known):
        raise OutputError(
            f"{path}: this part is not one that the journal knows; "
            "move it away, or use another output.path"
        )


def leftovers(output: Path) -> list[Path]:
    """Temporary files of a publication that a crash cut short."""
    paths = [path for folder in FOLDERS for path in (output / folder).glob(".*part-*.parquet.tmp")]
    return sorted(path for path in paths if stat.S_ISREG(path.lstat().st_mode))


def strangers(output: Path, known: AbstractSet[Place]) -> list[Path]:
    """Parquet files in our folders that are none of our parts."""
    names = []
    for folder in FOLDERS:
        with suppress(FileNotFoundError):
            names += [
                path
                for path in sorted((output / folder).iterdir())
                if path.suffix == ".parquet" and (folder, path.name) not in known
            ]
    return names
