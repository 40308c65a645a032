"""The child process of `sql.py`: reads its orders on stdin, answers in Arrow IPC on stdout.

A known error is the last line of stderr, as JSON. Nothing here is imported by the program.
"""

# ruff: noqa: S608 - every piece of SQL here is this program's own; cells never become SQL text

from __future__ import annotations

import glob
import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.ipc

from pipeline.errors import ManifestError, OutputError, PipelineError
from pipeline.manifest.open import Manifest, open_manifest
from pipeline.manifest.settings import BAD, ORDINAL, ManifestSettings

_MIRROR = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_NO_RECORDS = (
    "SELECT NULL::UHUGEINT AS k, NULL::VARCHAR AS state, NULL::BOOLEAN AS again WHERE false"
)


def main() -> int:
    """Answer one order."""
    spec = json.loads(sys.stdin.buffer.read())
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not end up in the answer
    try:
        with answer:
            _answer(spec, answer)
    except BrokenPipeError:
        return 1  # whoever asked has gone
    except (PipelineError, duckdb.Error, pa.ArrowException) as error:
        print(json.dumps(_told(error)), file=sys.stderr)  # noqa: T201 - the answer's error channel
        return 1
    return 0


def _told(error: BaseException) -> dict[str, str]:
    # An error inside the feed reaches us wrapped by DuckDB, with ours as its text.
    own = Feed.trouble or error
    if isinstance(own, PipelineError):
        return {"kind": type(own).__name__, "message": str(own)}
    words = " ".join(str(own).split())[:300]
    if isinstance(own, duckdb.OutOfMemoryException | duckdb.IOException):
        return {"kind": OutputError.__name__, "message": f"SQL over the manifest: {words}"}
    return {"kind": ManifestError.__name__, "message": f"SQL over the manifest: {words}"}


class Feed:
    """The manifest's rows as a stream that DuckDB reads once."""

    trouble: BaseException | None = None

    def __init__(self, manifest: Manifest) -> None:
        self.rows = 0
        batches = manifest.feed()
        first = next(batches, None)
        if first is None:
            self.schema = pa.schema(
                [(ORDINAL, pa.int64()), (BAD, pa.bool_())]
                + [(name, pa.string()) for name in manifest.key_columns]
            )
            self.stream = pa.RecordBatchReader.from_batches(self.schema, iter(()))
        else:
            self.schema = first.schema
            self.stream = pa.RecordBatchReader.from_batches(
                self.schema, self._counted(first, batches)
            )

    def _counted(
        self, first: pa.RecordBatch, batches: Iterator[pa.RecordBatch]
    ) -> Iterator[pa.RecordBatch]:
        try:
            self.rows += first.num_rows
            yield first
            for batch in batches:
                self.rows += batch.num_rows
                yield batch
        except PipelineError as error:
            Feed.trouble = error
            raise


def _answer(spec: Mapping[str, Any], answer: Any) -> None:
    settings = ManifestSettings(**spec["settings"])
    manifest = open_manifest(settings, columns=spec["columns"])
    connection = duckdb.connect(
        config={
            "memory_limit": f"{spec['memory_mb']}MB",
            "temp_directory": spec["scratch"],
            "threads": str(min(4, os.cpu_count() or 1)),
            "preserve_insertion_order": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
    )
    parts = sorted(file for name in spec["parts"] for file in glob.glob(name))  # noqa: PTH207 - absolute globs
    feed = Feed(manifest)
    connection.register("feed", feed.stream)
    keys = f"SELECT {ORDINAL} AS o, {_key(spec['key_sql'])} AS k FROM feed"
    _left(spec, connection, feed, keys, parts, answer)


def _key(text: str) -> str:
    """A key of 32 hex as a number: joins compare 16 bytes, and nothing is kept as text."""
    return f"CAST('0x' || {text} AS UHUGEINT)"


def _files(parts: list[str]) -> str:
    return "[" + ", ".join("'" + part.replace("'", "''") + "'" for part in parts) + "]"


def _left(
    spec: Mapping[str, Any], connection: Any, feed: Feed, keys: str, parts: list[str], answer: Any
) -> None:
    records = _NO_RECORDS
    if parts:
        again = f"coalesce(({spec['again']}), false)" if spec["again"] else "false"
        records = (
            f"SELECT {_key('key')} AS k, "
            "CASE WHEN status = 'ok' THEN 'ok' ELSE error_code END "
            f"AS state, {again} AS again FROM read_parquet({_files(parts)})"
        )
    connection.execute(
        f"CREATE TEMP TABLE found AS SELECT m.o, s.state, s.again FROM "
        f"(SELECT k, min(o) AS o FROM ({keys}) GROUP BY k) m LEFT JOIN ({records}) s USING (k)"
    )
    states = dict(connection.execute("SELECT state, count(*) FROM found GROUP BY state").fetchall())
    count = connection.execute(f"SELECT count(*) FROM found WHERE {_ASK}").fetchone()[0]
    size = (feed.rows + 7) // 8
    captioned = states.pop("ok", 0)
    facts = {
        "rows": feed.rows,
        "images": captioned + sum(states.values()),
        "captioned": captioned,
        "failed": {code: n for code, n in states.items() if code is not None},
        "asked": count,
    }
    schema = pa.schema(
        [(name, pa.uint8()) for name in _BITS], metadata={"facts": json.dumps(facts)}
    )
    with pa.ipc.new_stream(answer, schema) as stream:
        arrays = [
            pa.Array.from_buffers(pa.uint8(), size, [None, pa.py_buffer(bits)])
            for bits in (_bits(connection, size, where) for where in _BITS.values())
        ]
        stream.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


_ASK = "state IS NULL OR again"
#: The bits of `Left`, and which rows have each.
_BITS = {"ask": _ASK, "open": "state IS NULL", "lost": "state <> 'ok'"}


def _bits(connection: Any, size: int, where: str) -> bytes:
    """One bit a row, `size` bytes: is it one of these?"""
    sql = f"SELECT CAST(bitstring_agg(o, 0, {8 * size - 1}) AS BLOB) FROM found WHERE {where}"
    found = connection.execute(sql).fetchone()[0] if size else None
    # DuckDB counts bits from the left of a byte, Arrow and `Left` from the right.
    return bytes(size) if found is None else found.translate(_MIRROR)


if __name__ == "__main__":
    sys.exit(main())
