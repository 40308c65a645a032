"""`verify --repair`: rebuild what can be derived of a damaged output, and say what is gone.

A new journal is made from the parts; a lost or edited part of the account book is taken out of the
journal, so that the run goes on; a key that stands twice is kept once. What holds captions is never
given up by itself: `--forget PART` does that, and those images are asked again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import fs
from pipeline.errors import OutputError
from pipeline.store import tables
from pipeline.store.parts import own_parts, path_of, read_part, resume_swap, rewrite
from pipeline.store.publish_plan import CAPTIONS, FAILURES, FOLDERS
from pipeline.store.tables import Part

#: Where parts go that were forgotten, below `_state`.
FORGOTTEN = "forgotten"


def make_state(output: Path) -> bool:
    """Make `_state` where it is gone and parts are there; False when there is nothing to mend."""
    state = output / "_state"
    if state.exists():
        return True
    if not any(own_parts(output, folder) for folder in FOLDERS):
        return False
    state.mkdir(mode=fs.PRIVATE_DIR)
    return True


def mend(output: Path, forget: Sequence[str] = ()) -> list[str]:
    """Mend the journal and its parts; what was done. OutputError for a part nobody knows."""
    path = output / "_state" / "journal.db"
    lost = tables.log_is_lost(path)
    with _opened(path, log_lost=lost) as db:
        done = []
        if (merge := tables.merging(db)) is not None:  # before what it left aside is removed
            tables.mark_merge(db, done=resume_swap(output, *merge))
        if not tables.parts(db) and any(own_parts(output, folder) for folder in FOLDERS):
            done.append(
                f"{path}: made anew from the parts; answers that were in no part are gone, those "
                "images are asked again"
            )
            tables.mark_parts(db, _as_they_are(output))
        if lost:
            done.append(
                f"{tables.log_of(path)}: is gone, with the answers that were in no part yet; those "
                "images are asked again"
            )
        try:
            done += list(_forgotten(output, db, forget))
            done += list(_account_book(output, db))
            done += list(_once(output, db))
        except sqlite3.Error as error:
            raise OutputError(f"{path}: cannot be mended ({error})") from error
    return done


@contextmanager
def _opened(path: Path, *, log_lost: bool) -> Iterator[sqlite3.Connection]:
    """The journal; whole without a log once everything was mended, else as it was."""
    db = tables.connect(path)
    try:
        yield db
    except BaseException:
        if log_lost:
            db.close()  # a log that was made here is not the one that is missing
        else:
            tables.let_go(db, path)
        raise
    tables.close(db, path)


def _as_they_are(output: Path) -> Iterator[Part]:
    """Every readable part of ours, as the journal would know it."""
    for folder in FOLDERS:
        for path in own_parts(output, folder):
            with suppress(OutputError, pa.ArrowException):
                yield part_of(path, folder)


def part_of(path: Path, folder: str) -> Part:
    """A part as it lies on the disk; OutputError when it cannot be read."""
    status = path.stat()
    return Part(
        folder=folder,
        name=path.name,
        rows=read_part(path, []).num_rows,
        sha256=fs.sha256_file(path),
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
    )


def _forgotten(output: Path, db: sqlite3.Connection, names: Sequence[str]) -> Iterator[str]:
    """Take parts out of the journal, and their files out of the way."""
    known = {f"{part.folder}/{part.name}": part for part in tables.parts(db)}
    for name in names:
        place = "/".join(Path(name).parts[-2:])
        part = known.get(place)
        if part is None:
            raise OutputError(
                f"--forget {name}: no such part; it knows {', '.join(sorted(known)[:5]) or 'none'}"
            )
        path = path_of(output, part.place)
        tables.drop_part(db, part)
        if path.exists():
            aside = output / "_state" / FORGOTTEN / part.folder
            aside.mkdir(mode=fs.PRIVATE_DIR, parents=True, exist_ok=True)
            os.replace(path, aside / part.name)
        yield f"{path}: forgotten; its {part.rows:,} images are asked again"


def _account_book(output: Path, db: sqlite3.Connection) -> Iterator[str]:
    """Attempts that are lost change no caption: the journal goes on without them."""
    for part in tables.parts(db):
        if part.folder in (CAPTIONS, FAILURES):
            continue
        path = path_of(output, part.place)
        if not path.exists():
            tables.drop_part(db, part)
            yield f"{path}: is gone, with {part.rows:,} attempts of the account book"
        elif fs.sha256_file(path) != part.sha256:
            with suppress(OutputError, pa.ArrowException):
                tables.mark_parts(db, [part_of(path, part.folder)])
                yield f"{path}: is taken as it is; it was changed after it was written"


def _once(output: Path, db: sqlite3.Connection) -> Iterator[str]:
    """A key that stands twice is kept once: a caption before a failure, then the later one."""
    tables_, places = list[pa.Table](), list[Part]()
    for part in tables.parts(db):
        path = path_of(output, part.place)
        if part.folder in (CAPTIONS, FAILURES) and path.exists():
            table = read_part(path, ["key", "finished_at"])
            count = table.num_rows
            place = pa.array([len(places)] * count, pa.int32())
            caption = pa.array([part.folder == CAPTIONS] * count, pa.bool_())
            row = pa.array(range(count), pa.int64())
            for name, column in (("part", place), ("caption", caption), ("row", row)):
                table = table.append_column(name, column)
            tables_.append(table)
            places.append(part)
    if not tables_:
        return
    whole = pa.concat_tables(tables_)
    counts = whole.group_by("key").aggregate([("key", "count")])
    twice = counts.filter(pc.greater(counts["key_count"], 1))["key"]
    if not len(twice):
        return
    rows = whole.filter(pc.is_in(whole["key"], twice.combine_chunks())).sort_by(
        [("key", "ascending"), ("caption", "descending"), ("finished_at", "descending")]
    )
    drop: dict[int, set[int]] = {}
    last = None
    for row in rows.to_pylist():
        if row["key"] == last:
            drop.setdefault(row["part"], set()).add(row["row"])
        last = row["key"]
    for number, gone in drop.items():
        part = places[number]
        tables.mark_parts(db, [rewrite(output, part, without=gone)])
        yield f"{path_of(output, part.place)}: {len(gone)} records of keys that stand twice dropped"
