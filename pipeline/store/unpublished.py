"""An output as it would be if everything in its journal were in parts already.

For readers from outside: takes no lock and writes nothing below the output. Where the journal
holds records, a temporary folder stands for the output: links to the parts, and one part more.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import schema
from pipeline.errors import OutputError
from pipeline.model import DOUBTED, Derived, Record, Reply, Sent
from pipeline.store import codec, tables
from pipeline.store.backlog import Backlog, Waiting
from pipeline.store.parts import part_files, read_part
from pipeline.store.publish_plan import CAPTIONS, FAILURES, latest

_AT_ONCE = 200


@contextmanager
def with_unpublished(output: Path, derive: Callable[[Sent, Reply], Derived]) -> Iterator[Path]:
    """A folder with all records of an output, those of its journal included."""
    # The journal first: what is published meanwhile is then in both, and not in neither.
    records = unpublished(output / "_state" / "journal.db", derive)
    if not records.num_rows:
        yield output
        return
    with tempfile.TemporaryDirectory(prefix="caption-pipeline-") as name:
        _stand_in(Path(name), output, records)
        yield Path(name)


def unpublished(journal: Path, derive: Callable[[Sent, Reply], Derived]) -> pa.Table:
    """The records that are in the journal and in no part, one for each key."""
    backlog = Backlog()
    if journal.exists():
        try:
            with closing(tables.look(journal)) as db:
                after = 0
                while some := tables.some_entries(db, after, _AT_ONCE):
                    for seq, kind, head, body in some:
                        records = _records(kind, head, body, derive)
                        backlog.add(Waiting(seq, records, None))
                    after = some[-1][0]
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


def _stand_in(folder: Path, output: Path, records: pa.Table) -> None:
    """Links to the parts; those that hold a key of `records` are copied without it."""
    ok = pc.equal(records.column("status"), "ok")
    captions, failures = records.filter(ok), records.filter(pc.invert(ok))
    doubted = pc.equal(pc.fill_null(failures.column("error_code"), ""), DOUBTED)
    withdrawn, failures = failures.filter(doubted), failures.filter(pc.invert(doubted))
    for path in part_files(output, CAPTIONS):
        failures = _without(failures, read_part(path, ["key"]))
    failures = pa.concat_tables([failures, withdrawn])
    gone_captions = pa.concat_tables([captions, withdrawn])
    for name, gone, new in ((CAPTIONS, gone_captions, captions), (FAILURES, records, failures)):
        (folder / name).mkdir()
        for path in part_files(output, name):
            keys = read_part(path, ["key"])
            if _without(keys, gone).num_rows == keys.num_rows:
                (folder / name / path.name).symlink_to(path.absolute())
            else:
                pq.write_table(_without(read_part(path), gone), folder / name / path.name)
        pq.write_table(new, folder / name / "part-journal.parquet")


def _without(table: pa.Table, gone: pa.Table) -> pa.Table:
    """The rows whose key is in no row of the other."""
    keys = gone.column("key")
    value_set = keys.combine_chunks() if keys.num_chunks else pa.array([], keys.type)
    return table.filter(pc.invert(pc.is_in(table.column("key"), value_set=value_set)))
