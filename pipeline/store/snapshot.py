"""Looking at an output from outside: any process, while a run is going on or after a crash.

Takes no lock, writes nothing, and never folds the journal's log in: that is the run's own work.
Captions are read before failures: a failure that becomes a caption leaves `failures/` first, so
in this order no key is met twice, however long the look takes.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.model import WITHDRAWN, Derived, Record, Reply, Sent
from pipeline.store import codec, tables
from pipeline.store.parts import part_files, read_part, readable, relisted, size_of
from pipeline.store.publish_plan import CAPTIONS, FAILURES, REQUESTS
from pipeline.store.shards import FirstOnly, outputs_of, unjoined

_BATCH_ROWS = 10_000
#: Entries of the journal read at once from outside.
_ENTRIES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What an output holds."""

    captions: int = 0
    failures: int = 0
    requests: int = 0
    #: US dollars that the published requests cost.
    cost_usd: float = 0.0
    #: Entries in the journal that are in no part yet; None when that cannot be told from here.
    unpublished: int | None = 0
    by_code: dict[str, int] = field(default_factory=dict)
    #: code -> the text of its latest error.
    last_errors: dict[str, str] = field(default_factory=dict)


def read_state(output: Path) -> State:
    """Count what is published and what waits; also while a run puts parts together."""
    return relisted(output, lambda: _read_state(output))


def _read_state(output: Path) -> State:
    by_code: dict[str, int] = {}
    last: dict[str, str] = {}
    for table in failures_of(output, ["error_code", "error"]):
        counts = table.group_by("error_code", use_threads=False).aggregate(
            [("error", "count", pc.CountOptions(mode="all")), ("error", "last")]
        )
        for pair in counts.to_pylist():
            code = str(pair["error_code"])
            by_code[code] = by_code.get(code, 0) + pair["error_count"]
            last[code] = pair["error_last"] or ""
    failures = sum(by_code.values())
    if unjoined(output):
        captions = sum(map(len, record_batches(output, ["key"]))) - failures
    else:
        captions = _rows(output, CAPTIONS)
    return State(
        captions=captions,
        failures=failures,
        requests=_rows(output, REQUESTS),
        cost_usd=spent(output),
        unpublished=_unpublished(output),
        by_code=by_code,
        last_errors=last,
    )


def failures_of(output: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The published failures, some of their columns at a time."""
    if not unjoined(output):
        for path in part_files(output, FAILURES):
            yield read_part(path, columns)
        return
    for batch in record_batches(output, [*columns, "status"]):
        failed = batch.filter(pc.equal(batch["status"], "failed"))
        yield pa.Table.from_batches([failed]).select(columns)


def counts_by_recipe(output: Path) -> Counter[tuple[str, str]]:
    """Published records by recipe and status; also while a run puts parts together."""

    def counted() -> Counter[tuple[str, str]]:
        counts: Counter[tuple[str, str]] = Counter()
        for batch in record_batches(output, ["recipe", "status"]):
            groups = (
                pa.Table.from_batches([batch])
                .group_by(["recipe", "status"])
                .aggregate([([], "count_all")])
            )
            counts.update({(g["recipe"], g["status"]): g["count_all"] for g in groups.to_pylist()})
        return counts

    return relisted(output, counted)


def spent(output: Path) -> float:
    """US dollars that the requests cost, by the account book: over all runs of the output."""
    return sum(
        pc.sum(read_part(path, ["cost_usd"])["cost_usd"]).as_py() or 0.0
        for path in part_files(output, REQUESTS)
    )


def record_batches(output: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """All published records, captions first, in the schema's order of columns or the one given."""
    wanted = None if columns is None else list(columns)
    first = FirstOnly() if unjoined(output) else None
    read = wanted and [*dict.fromkeys([*wanted, *(["key"] if first else [])])]
    for folder in (CAPTIONS, FAILURES):
        for path in part_files(output, folder):
            with (
                readable(path),
                pq.ParquetFile(path, page_checksum_verification=True) as file,
            ):
                for batch in file.iter_batches(_BATCH_ROWS, columns=read):
                    once = batch.filter(first.of(batch["key"])) if first else batch
                    yield once.select(wanted) if wanted else once


def journaled_records(
    output: Path, after: int, derive: Callable[[Sent, Reply], Derived]
) -> tuple[int, list[Record]]:
    """Records of the journal's entries above a number that are in no part yet, and the number of
    the last of these; nothing where the journal cannot be read from here."""
    path, records = output / "_state" / "journal.db", list[Record]()
    if not path.exists():
        return after, records
    try:
        db = tables.look(path)
        try:
            entries = tables.some_entries(db, after, _ENTRIES)
        finally:
            db.close()
    except sqlite3.Error:
        return after, records
    for seq, kind, head, body in entries:
        after = seq
        if kind == tables.REPLY:
            records += derive(*codec.read_reply(head, body)).records
        elif kind == tables.RECORDS:
            kept = codec.read_records(head)
            records += [record for record in kept if record.error_code != WITHDRAWN]
    return after, records


def _rows(output: Path, folder: str) -> int:
    return sum(size_of(path)[0] for path in part_files(output, folder))


def _unpublished(output: Path) -> int | None:
    waiting = 0
    for folder in outputs_of(output):
        path = folder / "_state" / "journal.db"
        if not path.exists():
            continue
        try:
            with closing(tables.look(path)) as db:
                waiting += tables.waiting(db)
        except sqlite3.Error:
            return None  # being made just now, or not readable for this user
    return waiting
