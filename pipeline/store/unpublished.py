"""An output as it would be if everything in its journal were in parts already.

For readers from outside: takes no lock and writes nothing below the output. A temporary folder
stands for the output: links to its parts, which are kept open, since a run that ends puts parts
together and removes the small ones; and one part more for what the journal holds.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import schema
from pipeline.errors import OutputError
from pipeline.model import DOUBTED, Derived, Record, Reply, Sent
from pipeline.store import codec, tables
from pipeline.store.backlog import Backlog, Waiting
from pipeline.store.parts import part_files, read_part, readable, relisted
from pipeline.store.publish_plan import CAPTIONS, FAILURES, latest, without_withdrawn
from pipeline.store.record_shape import shape_of
from pipeline.store.shards import FirstOnly, joined_name, outputs_of, unjoined

_AT_ONCE = 200
#: Of the 1,024 that a process usually has, some are left to what reads and writes.
_MOST_DESCRIPTORS = 700


@contextmanager
def with_unpublished(output: Path, derive: Callable[[Sent, Reply], Derived]) -> Iterator[Path]:
    """A folder with all records of an output, those of its journal included."""
    # The journal first: what is published meanwhile is then in both, and not in neither.
    journals = [folder / "_state" / "journal.db" for folder in outputs_of(output)]
    records = latest(pa.concat_tables([unpublished(path, derive) for path in journals]))
    with tempfile.TemporaryDirectory(prefix="caption-pipeline-") as name, ExitStack() as files:
        yield relisted(output, lambda: _stand_in(Path(name), output, records, files))


def unpublished(journal: Path, derive: Callable[[Sent, Reply], Derived]) -> pa.Table:
    """The records that are in the journal and in no part, one for each key."""
    backlog = Backlog()
    if journal.exists():
        try:
            with closing(tables.look(journal)) as db:
                after = 0
                while entries := tables.some_entries(db, after, _AT_ONCE):
                    for seq, kind, head, body in entries:
                        records = _records(kind, head, body, derive)
                        backlog.add(Waiting(seq, records, None))
                    after = entries[-1][0]
        except sqlite3.Error as error:
            raise OutputError(f"{journal}: cannot be read ({error}); see verify") from error
    waiting = [portion.records for portion in backlog.all()]
    return latest(pa.concat_tables(waiting)) if waiting else schema.RECORDS.empty_table()


def _records(
    kind: int, head: bytes, body: bytes | None, derive: Callable[[Sent, Reply], Derived]
) -> tuple[Record, ...]:
    if kind == tables.REPLY:
        return derive(*codec.read_reply(head, body)).records
    return codec.read_records(head) if kind == tables.RECORDS else ()


def _stand_in(parent: Path, output: Path, records: pa.Table, files: ExitStack) -> Path:
    """A folder of links to the parts; those that hold a key of `records` are copied without it."""
    folder, stand_ins = Path(tempfile.mkdtemp(dir=parent)), list[Path]()
    for name in (CAPTIONS, FAILURES):  # all of them first: meanwhile they may be put together
        (folder / name).mkdir()
        for path in part_files(output, name):
            with readable(path):
                stand_in = folder / name / _stand_in_name(output, path)
                stand_in.symlink_to(_kept_open(path, files))
                stand_ins.append(stand_in)
    if unjoined(output):
        first = FirstOnly()
        for path in stand_ins:
            mask = first.of(read_part(path, ["key"])["key"])
            if not pc.all(mask).as_py():
                _rewrite(path, read_part(path).filter(mask))
    if not records.num_rows:
        return folder
    shape = shape_of(folder)
    ok = pc.equal(records.column("status"), "ok")
    captions, failures = records.filter(ok), records.filter(pc.invert(ok))
    doubted = pc.equal(pc.fill_null(failures.column("error_code"), ""), DOUBTED)
    withdrawn, failures = failures.filter(doubted), failures.filter(pc.invert(doubted))
    for path in part_files(folder, CAPTIONS):
        failures = _without(failures, read_part(path, ["key"]))
    failures = without_withdrawn(pa.concat_tables([failures, withdrawn]))
    gone_captions = pa.concat_tables([captions, withdrawn])
    for name, gone, new in ((CAPTIONS, gone_captions, captions), (FAILURES, records, failures)):
        for path in part_files(folder, name):
            keys = read_part(path, ["key"])
            if _without(keys, gone).num_rows < keys.num_rows:
                _rewrite(path, _without(read_part(path), gone))
        pq.write_table(schema.fitted(new, shape), folder / name / "part-journal.parquet")
    return folder


def _rewrite(stand_in: Path, table: pa.Table) -> None:
    """A file in place of the link."""
    stand_in.unlink()
    pq.write_table(table, stand_in)


def _stand_in_name(output: Path, path: Path) -> str:
    """A name of its own for each part: shards name theirs alike."""
    shard = path.parent.parent
    return path.name if shard == output else joined_name(shard, path.name)


def _kept_open(path: Path, files: ExitStack) -> Path:
    """A name for a part that holds although the part is removed, where the system has such names
    and enough descriptors are left; else its own."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return path.absolute()
        raise
    name = Path(f"/proc/self/fd/{fd}")
    if fd > _MOST_DESCRIPTORS or not name.exists():
        os.close(fd)
        return path.absolute()
    files.callback(os.close, fd)
    return name


def _without(table: pa.Table, gone: pa.Table) -> pa.Table:
    """The rows whose key is in no row of the other."""
    keys = gone.column("key")
    value_set = keys.combine_chunks() if keys.num_chunks else pa.array([], keys.type)
    return table.filter(pc.invert(pc.is_in(table.column("key"), value_set=value_set)))
