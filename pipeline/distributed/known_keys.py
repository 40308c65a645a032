"""Which keys each shard does not ask: those of earlier shards, and those with a record already.

`known-MARK.parquet` has a row for each: `shard`, the key's two halves, and `state`: `` where the
key first stands in an earlier shard, else `ok` or the code of the failure that the main output has.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import fs
from pipeline.captioning.inputs import inspect_manifest
from pipeline.store.keys import KeyMap, column, raw_keys
from pipeline.store.parts import own_parts, read_part
from pipeline.store.publish_plan import CAPTIONS, FAILURES

if TYPE_CHECKING:
    from pipeline.config.job import JobConfig

#: Keys handed to DuckDB at once.
AT_ONCE = 200_000
#: What DuckDB takes before it writes aside.
MEMORY = "1GB"
_FIND = """
COPY (
    SELECT shard, first, second, state FROM (
        SELECT DISTINCT shard, first, second, '' AS state
        FROM rows JOIN (
            SELECT first, second, min(shard) AS earliest FROM rows
            GROUP BY ALL HAVING min(shard) <> max(shard)
        ) USING (first, second) WHERE shard <> earliest
        UNION ALL
        SELECT min(shard), first, second, any_value(state)
        FROM rows JOIN records USING (first, second) GROUP BY first, second
    ) ORDER BY shard
) TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 100000)
"""
_COLUMNS = "first UBIGINT, second UBIGINT"


def write_known(job: JobConfig, bounds: list[int], path: Path) -> None:
    """Look at all rows between the bounds, of which each pair is a shard. In a process of its own."""
    import duckdb

    tmp = path.with_name(f".{path.name}.tmp")
    with (
        tempfile.TemporaryDirectory(prefix=".keys-", dir=path.parent) as aside,
        duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": aside}) as db,
    ):
        db.execute("SET preserve_insertion_order = false")
        db.execute(f"CREATE TABLE rows (shard INTEGER, {_COLUMNS})")
        db.execute(f"CREATE TABLE records (state VARCHAR, {_COLUMNS})")
        for shard, raw in _keys(job, bounds):
            _insert(db, "rows", pa.scalar(shard, pa.int32()), raw)
        for state, raw in _records(Path(job.output.path)):
            _insert(db, "records", pa.scalar(state, pa.string()), raw)
        db.execute(_FIND.format(path=str(tmp).replace("'", "''")))
    fs.sync_file(tmp)
    fs.publish(tmp, path)


def _insert(db: Any, table: str, value: pa.Scalar, raw: bytes) -> None:
    halves = memoryview(raw).cast("Q")
    both = [column(pa.uint64(), half.tobytes()) for half in (halves[::2], halves[1::2])]
    batch = pa.table([pa.repeat(value, len(raw) // 16), *both], ["value", "first", "second"])
    db.register("batch", batch)
    db.execute(f"INSERT INTO {table} SELECT value, first, second FROM batch")  # noqa: S608 - our own names
    db.unregister("batch")


def _keys(job: JobConfig, bounds: list[int]) -> Iterator[tuple[int, bytes]]:
    """(shard, 16 bytes for each of some of its rows)."""
    manifest, naming = inspect_manifest(job)
    shard, waiting = 0, bytearray()
    for piece, rows in manifest.pieces(bounds):
        if waiting and (piece != shard or len(waiting) >= 16 * AT_ONCE):
            yield shard, bytes(waiting)
            waiting.clear()
        shard = piece
        waiting += naming.keys_of_all(rows)
    if waiting:
        yield shard, bytes(waiting)


def _records(output: Path) -> Iterator[tuple[str, bytes]]:
    """(state, 16 bytes for each of some keys) of the main output's records."""
    for path in own_parts(output, CAPTIONS):
        yield "ok", raw_keys(read_part(path, ["key"]).column(0).combine_chunks())
    for path in own_parts(output, FAILURES):
        table = read_part(path, ["key", "error_code"])
        for code in table["error_code"].unique().to_pylist():
            chosen = table.filter(pc.equal(table["error_code"], code))
            yield str(code), raw_keys(chosen["key"].combine_chunks())


def read_known(path: Path | None, shard: int) -> tuple[KeyMap, dict[str, str]]:
    """Of one shard: keys that an earlier one asks, and key -> state of those with a record."""
    elsewhere, recorded = KeyMap(), dict[str, str]()
    if path is None:
        return elsewhere, recorded
    table = pq.read_table(path, filters=[("shard", "=", shard)])
    firsts, seconds = (table[name].to_pylist() for name in ("first", "second"))
    for first, second, state in zip(firsts, seconds, table["state"].to_pylist(), strict=True):
        raw = first.to_bytes(8, sys.byteorder) + second.to_bytes(8, sys.byteorder)
        if state:
            recorded[raw.hex()] = state
        else:
            elsewhere.set(raw.hex(), "")
    return elsewhere, recorded
